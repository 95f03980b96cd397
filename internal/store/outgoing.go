package store

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"postern/internal/mail"
)

// never is the due time of what waits for a person.
const never = math.MaxInt64

// MaxGroup is the most recipients of one copy that are claimed together, RFC 5321
// 4.5.3.1.8.
const MaxGroup = 100

// Lane is what waits for one domain; what is Held there waits apart from the rest, as
// it does not need the domain to be reached.
type Lane struct {
	Domain string
	Held   bool
}

// Reply is what the last attempt met with.
type Reply struct {
	Code     int    // 0: there was no reply
	Enhanced string // RFC 3463
	Text     string
	Host     string // who said so
}

// QueuedRcpt is a recipient as it waits.
type QueuedRcpt struct {
	OutgoingRcpt
	Copy  ID
	Since time.Time // from when its age is counted
	Due   time.Time // of the next attempt; zero: none by itself
	// Delayed says that the sender was told that it is late.
	Delayed  bool
	OnHold   bool // left alone until the operator releases it
	Verdict  Verdict
	Owner    string    // who has it in hand, "": nobody
	Lease    time.Time // until when
	Attempts int
	Tried    time.Time // when it was tried last
	Reply    Reply
}

// Verdict is what was decided of a recipient whose sender has yet to hear of it. It is
// not tried again.
type Verdict uint8

// The verdicts.
const (
	Undecided Verdict = iota
	Cancelled         // by the operator
	Failed            // by the next hop, for good
	Relayed           // the next hop has it
)

// checkOutgoing is the gate of P3 to the queue.
func checkOutgoing(o *Outgoing) error {
	level := o.Protection.Level()
	if !o.Protection.MayLeave() || o.Level != level || !o.Locked && level < mail.Sealed {
		return ErrUnprotected
	}
	switch {
	case o.ID <= 0 || o.Account <= 0 || len(o.Rcpts) == 0:
		return fmt.Errorf("%w: copy without id, account or recipient", ErrInvalid)
	case o.Blob.Size < 0 || o.Size != int64(len(o.Head))+o.Blob.Size+int64(len(o.Tail)):
		return fmt.Errorf("%w: size is not that of head, blob and tail", ErrInvalid)
	case !slices.Contains([]string{"", "7BIT", "8BITMIME"}, o.Body) || !slices.Contains([]string{"", "FULL", "HDRS"}, o.Return):
		return fmt.Errorf("%w: body or return", ErrInvalid)
	}
	for _, r := range o.Rcpts {
		if r.ID <= 0 || r.Address == "" || r.Domain == "" || r.Domain != strings.ToLower(r.Domain) {
			return fmt.Errorf("%w: recipient without id, address, or domain in lower case", ErrInvalid)
		}
	}
	return nil
}

const (
	insertCopy = `INSERT INTO outgoing (id, account, source, sender, level, size, locked, body, utf8,
		require_tls, env_id, ret, created, rcpts, blob)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`
	insertCopyOctets = `INSERT INTO outgoing_octets (copy, head, tail, facts) VALUES ($1, $2, $3, $4)`
	insertRcpt       = `INSERT INTO outgoing_rcpts (id, copy, address, domain, held, notify, original, since, due, claim, owner, lease)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`
)

// insertOutgoing writes a copy with its recipients, due at once but for those that are
// taken in hand.
func (t *tx) insertOutgoing(o *Outgoing, blob ID, e *express) error {
	created := t.internalDate(o.Created)
	_, err := t.exec(insertCopy, o.ID, o.Account, o.Source, o.From, uint8(o.Level), o.Size, bit(o.Locked), o.Body,
		bit(o.UTF8), bit(o.RequireTLS), o.EnvID, o.Return, created, len(o.Rcpts), blob)
	if err == nil {
		_, err = t.exec(insertCopyOctets, o.ID, octets(o.Head), octets(o.Tail), octets(o.Facts))
	}
	first := len(e.groups)
	for i := 0; err == nil && i < len(o.Rcpts); i++ {
		err = t.insertRcpt(o, &o.Rcpts[i], created, e, first)
	}
	if errors.Is(err, errConflict) {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("insert outgoing copy %v: %w", o.ID, err)
	}
	return nil
}

func (t *tx) insertRcpt(o *Outgoing, r *OutgoingRcpt, created int64, e *express, first int) error {
	claim, err := e.take(t, o, r, first)
	if err != nil {
		return err
	}
	held, due, owner, lease := o.Level == mail.Held, micros(t.now), "", int64(0)
	if claim != 0 {
		owner, lease = e.Owner, micros(e.Until)
		due = lease
	}
	_, err = t.exec(insertRcpt, r.ID, o.ID, r.Address, r.Domain, bit(held), uint8(r.Notify), r.Original, created, due, claim, owner, lease)
	if err != nil {
		return err
	}
	return t.changeLane(Lane{r.Domain, held}, 1, 0)
}

// findReplaced makes sure that each is a recipient of a Held copy. ErrNotFound: one is
// gone, most likely because somebody else has decided it already.
func (t *tx) findReplaced(ids []ID) error {
	for _, id := range ids {
		var held bool
		err := t.get([]any{&held}, `SELECT held FROM outgoing_rcpts WHERE id = $1`, id)
		if err == nil && !held {
			err = fmt.Errorf("%w: its copy is not held", ErrInvalid)
		}
		if err != nil {
			return fmt.Errorf("replaced recipient %v: %w", id, err)
		}
	}
	return nil
}

// dropRcpts takes recipients out of the queue, whoever has them in hand, and copies
// that have none left. It returns how many there were.
func (t *tx) dropRcpts(ids []ID) (found int, err error) {
	gone := map[ID]int{}
	for _, id := range ids {
		var copyID ID
		var lane Lane
		var onHold int
		t.wrote = true
		err := t.get([]any{&copyID, &lane.Domain, &lane.Held, &onHold},
			`DELETE FROM outgoing_rcpts WHERE id = $1 RETURNING copy, domain, held, on_hold`, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err == nil {
			err = t.changeLane(lane, -1, -onHold)
		}
		if err != nil {
			return 0, fmt.Errorf("delete recipient %v: %w", id, err)
		}
		gone[copyID]++
		found++
	}
	for id, n := range gone {
		if err := t.dropOutgoing(id, n); err != nil {
			return 0, fmt.Errorf("drop outgoing copy %v: %w", id, err)
		}
	}
	return found, nil
}

// dropOutgoing takes n recipients off a copy, and the copy away if there are no others.
func (t *tx) dropOutgoing(id ID, n int) error {
	var blob ID
	err := t.get([]any{&blob}, `DELETE FROM outgoing WHERE id = $1 AND rcpts = $2 RETURNING blob`, id, n) // octets go with it
	if errors.Is(err, ErrNotFound) {
		return t.must(`UPDATE outgoing SET rcpts = rcpts - $1 WHERE id = $2`, n, id)
	}
	if err != nil {
		return err
	}
	return t.dropBlob(blob)
}

// bit is how truth values are stored.
func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// dueTime is how a due time is shown: the zero time for never.
func dueTime(us int64) time.Time {
	if us == never {
		return time.Time{}
	}
	return fromMicros(us)
}

// checkSenders makes sure that the accounts whose copies leave exist.
func (t *tx) checkSenders(copies []Outgoing) error {
	for i := range copies {
		if _, err := t.account(copies[i].Account); err != nil {
			return &AccountError{copies[i].Account, err}
		}
	}
	return nil
}
