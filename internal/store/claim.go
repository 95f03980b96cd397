package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"postern/internal/mail"
)

// Claim says who wants how much of what is due.
type Claim struct {
	Owner string    // shown to the operator; see TakeBackOutgoing
	Now   time.Time // what is due by then
	Until time.Time // when the lease ends, should it not be renewed
	Limit int       // groups
	// PerLane is how many groups of one lane the claimer may have in hand, and Busy how
	// many it has. Of a lane that was not reached the last time it gets one to try.
	PerLane int
	Busy    map[Lane]int
}

// Group is what was claimed together: recipients of one copy at one domain, at most
// MaxGroup; or of overdue ones, at any.
type Group struct {
	ID ID // of the claim
	Lane
	// Copy is shared by the groups of a claim; its Rcpts are left out, and so is its
	// Protection: what is done with it was decided.
	Copy  *Outgoing
	Rcpts []QueuedRcpt
	// Failures is how often in a row the domain was not reached, and Reason why.
	Failures int
	Reason   string
}

// Claimed is the result of a claim.
type Claimed struct {
	Groups []Group
	// Next is when something is due next, in lanes that the claimer has room for; zero
	// for never. It may have passed, if the claim was limited.
	Next time.Time
}

// ClaimOutgoing gives out what is due, to each lane its turn, to one owner until the lease ends:
// no one else gets it before, and whoever asks after. Nothing but what it gives out is
// looked at, however much waits.
func (s *Store) ClaimOutgoing(ctx context.Context, c Claim) (Claimed, error) {
	var out Claimed
	err := s.write(ctx, func(t *tx) error {
		var err error
		out, err = t.claim(c)
		return err
	})
	if err != nil {
		return Claimed{}, fmt.Errorf("claim outgoing: %w", err)
	}
	return out, nil
}

func (t *tx) claim(c Claim) (out Claimed, err error) {
	if err := t.flushLanes(); err != nil { // what others of this transaction did counts
		return out, err
	}
	due, err := t.dueLanes(c.Now, c.Limit+len(c.Busy))
	if err != nil {
		return out, err
	}
	copies := map[ID]*Outgoing{}
	c.Busy = maps.Clone(c.Busy) // this may run again
	if c.Busy == nil {
		c.Busy = map[Lane]int{}
	}
	full := map[Lane]bool{}
	for lane, n := range c.Busy {
		full[lane] = n >= c.PerLane
	}
	for len(due) > 0 && len(out.Groups) < c.Limit {
		var more []Group
		for i, n := range shares(due, c, c.Limit-len(out.Groups)) {
			lane := due[i]
			groups, err := t.claimLane(c, lane, n, copies)
			if err != nil {
				return out, err
			}
			out.Groups = append(out.Groups, groups...)
			c.Busy[lane.Lane] += len(groups)
			full[lane.Lane] = c.Busy[lane.Lane] >= c.allowed(lane)
			if len(groups) == n && !full[lane.Lane] {
				more = append(more, lane)
			}
		}
		due = more
	}
	if err := t.flushLanes(); err != nil {
		return out, err
	}
	out.Next, err = t.nextDue(full)
	return out, err
}

// allowed is how many groups of a lane may be in hand.
func (c *Claim) allowed(lane Group) int {
	if lane.Failures > 0 {
		return min(c.PerLane, 1)
	}
	return c.PerLane
}

// shares says how many groups each lane may give out of so many: one from that of which
// the least is in hand, again and again. A few domains with much to do must not take all
// the room for as long as they have.
func shares(due []Group, c Claim, groups int) []int {
	n, have := make([]int, len(due)), make([]int, len(due))
	for i, lane := range due {
		have[i] = c.Busy[lane.Lane]
	}
	for ; groups > 0; groups-- {
		least := -1
		for i := range due {
			if have[i] < c.allowed(due[i]) && (least < 0 || have[i] < have[least]) {
				least = i
			}
		}
		if least < 0 {
			break
		}
		have[least]++
		n[least]++
	}
	return n
}

// dueLanes returns lanes with something due, the first to be due first. A Group that
// stands for a lane has neither copy nor recipients.
func (t *tx) dueLanes(now time.Time, limit int) (all []Group, err error) {
	err = t.each(func(r scanner) error {
		var g Group
		err := r.Scan(&g.Domain, &g.Held, &g.Failures, &g.Reason)
		all = append(all, g)
		return err
	}, `SELECT domain, held, failures, reason FROM outgoing_lanes WHERE due <= $1 ORDER BY due LIMIT $2`, micros(now), limit)
	if err != nil {
		return nil, fmt.Errorf("find lanes: %w", err)
	}
	return all, nil
}

// nextDue is when the first lane that is not full is due.
func (t *tx) nextDue(full map[Lane]bool) (next time.Time, err error) {
	err = t.each(func(r scanner) error {
		var l Lane
		var due int64
		if err := r.Scan(&due, &l.Domain, &l.Held); err != nil {
			return err
		}
		if full[l] {
			return nil
		}
		next = dueTime(due)
		return errStop
	}, `SELECT due, domain, held FROM outgoing_lanes ORDER BY due LIMIT $1`, len(full)+1)
	if err != nil {
		return next, fmt.Errorf("find the next lane: %w", err)
	}
	return next, nil
}

const (
	rcptColumns = `outgoing_rcpts.id, copy, address, outgoing_rcpts.domain, notify, original, since, outgoing_rcpts.due,
		delayed, outgoing_rcpts.on_hold, verdict, owner, lease, attempts, tried, reply_code, enhanced, reply, host`
	firstDue = `SELECT copy FROM outgoing_rcpts WHERE domain = $1 AND held = $2 AND due <= $3 ORDER BY due LIMIT $4`
	// The outer conditions hold where another node has claimed the same meanwhile.
	claimDue = `UPDATE outgoing_rcpts SET claim = $1, owner = $2, lease = $3, due = $3
		WHERE id IN (SELECT id FROM outgoing_rcpts WHERE copy = $4 AND domain = $5 AND due <= $6 ORDER BY id LIMIT $7)
		AND due <= $6 RETURNING ` + rcptColumns
)

// scanRcpt reads a row of rcptColumns.
func scanRcpt(r scanner, q *QueuedRcpt, more ...any) error {
	var since, due, lease, tried int64
	err := r.Scan(append([]any{&q.ID, &q.Copy, &q.Address, &q.Domain, &q.Notify, &q.Original, &since, &due, &q.Delayed,
		&q.OnHold, &q.Verdict, &q.Owner, &lease, &q.Attempts, &tried, &q.Reply.Code, &q.Reply.Enhanced,
		&q.Reply.Text, &q.Reply.Host}, more...)...)
	q.Since, q.Due, q.Lease, q.Tried = fromMicros(since), dueTime(due), fromMicros(lease), fromMicros(tried)
	return err
}

// claimLane claims at most n groups of a lane.
func (t *tx) claimLane(c Claim, lane Group, n int, copies map[ID]*Outgoing) (groups []Group, err error) {
	for more := true; more && len(groups) < n; {
		var ids []ID
		if ids, more, err = t.dueCopies(c, lane.Lane, n-len(groups)); err != nil {
			return nil, err
		}
		for _, id := range ids {
			g, err := t.claimGroup(c, lane, id, copies)
			if err != nil {
				return nil, err
			}
			groups = append(groups, g)
		}
	}
	return groups, nil
}

// dueCopies returns the copies of the n recipients that are due first in a lane, and
// whether there may be more.
func (t *tx) dueCopies(c Claim, l Lane, n int) (ids []ID, more bool, err error) {
	seen := 0
	err = t.each(func(r scanner) error {
		var id ID
		err := r.Scan(&id)
		if seen++; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		return err
	}, firstDue, l.Domain, bit(l.Held), micros(c.Now), n)
	if err != nil {
		return nil, false, fmt.Errorf("find due recipients: %w", err)
	}
	return ids, seen == n, nil
}

// claimGroup claims the recipients of a copy that are due in a lane.
func (t *tx) claimGroup(c Claim, lane Group, id ID, copies map[ID]*Outgoing) (Group, error) {
	g := lane
	g.ID = t.store.NewID()
	t.wrote = true
	err := t.each(func(r scanner) error {
		var q QueuedRcpt
		err := scanRcpt(r, &q)
		g.Rcpts = append(g.Rcpts, q)
		return err
	}, claimDue, g.ID, c.Owner, micros(c.Until), id, lane.Domain, micros(c.Now), MaxGroup)
	if err == nil {
		err = t.changeLane(lane.Lane, 0, 0)
	}
	if err == nil {
		g.Copy, err = t.outgoing(id, copies)
	}
	if err != nil {
		return lane, fmt.Errorf("claim recipients of copy %v: %w", id, err)
	}
	return g, nil
}

const (
	copyColumns = `o.id, o.account, o.source, o.sender, o.level, o.size, o.locked, o.body, o.utf8,
		o.require_tls, o.env_id, o.ret, o.created`
	selectCopy = `SELECT ` + copyColumns + `, x.head, x.tail, x.facts, COALESCE(b.ref, ''), COALESCE(b.size, 0), b.digest
		FROM outgoing o JOIN outgoing_octets x ON x.copy = o.id LEFT JOIN blobs b ON b.id = o.blob WHERE o.id = $1`
)

// scanCopy reads a row of copyColumns, and what follows.
func scanCopy(scan func(...any) error, o *Outgoing, more ...any) error {
	var created int64
	var level uint8
	err := scan(append([]any{&o.ID, &o.Account, &o.Source, &o.From, &level, &o.Size, &o.Locked, &o.Body, &o.UTF8,
		&o.RequireTLS, &o.EnvID, &o.Return, &created}, more...)...)
	o.Level, o.Created = mail.Level(level), fromMicros(created)
	return err
}

// outgoing reads a copy once for all groups of a claim.
func (t *tx) outgoing(id ID, copies map[ID]*Outgoing) (*Outgoing, error) {
	if o := copies[id]; o != nil {
		return o, nil
	}
	o := new(Outgoing)
	err := scanCopy(func(dest ...any) error { return t.get(dest, selectCopy, id) }, o,
		&o.Head, &o.Tail, &o.Facts, &o.Blob.Ref, &o.Blob.Size, (*digestColumn)(&o.Blob.Digest))
	if err != nil {
		return nil, err
	}
	copies[id] = o
	return o, nil
}

// Overdue says what ClaimOverdue looks for.
type Overdue struct {
	Owner      string
	Now, Until time.Time
	Limit      int           // recipients
	Age        time.Duration // from which a recipient is overdue for the first time
}

// ClaimOverdue gives out recipients about whom their senders are to hear: those older
// than the age and those whose deadline has passed (see Outcome.Deadline); whether or not an attempt is due. It groups them by copy.
func (s *Store) ClaimOverdue(ctx context.Context, o Overdue) ([]Group, error) {
	var groups []Group
	err := s.write(ctx, func(t *tx) error {
		var err error
		groups, err = t.claimOverdue(o)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim overdue: %w", err)
	}
	return groups, nil
}

func (t *tx) claimOverdue(o Overdue) ([]Group, error) {
	var rcpts []QueuedRcpt
	find := func(where string, by time.Time) error {
		return t.each(func(r scanner) error {
			var q QueuedRcpt
			err := scanRcpt(r, &q)
			rcpts = append(rcpts, q)
			return err
		}, `SELECT `+rcptColumns+` FROM outgoing_rcpts WHERE on_hold = 0 AND `+where+
			` AND lease <= $2 ORDER BY deadline, since LIMIT $3`, micros(by), micros(o.Now), o.Limit-len(rcpts))
	}
	if err := find(`deadline > 0 AND deadline <= $1`, o.Now); err != nil {
		return nil, fmt.Errorf("find by deadline: %w", err)
	}
	if err := find(`deadline = 0 AND since <= $1`, o.Now.Add(-o.Age)); err != nil {
		return nil, fmt.Errorf("find by age: %w", err)
	}
	copies := map[ID]*Outgoing{}
	byCopy := map[ID]int{}
	var groups []Group
	for _, q := range rcpts {
		i, ok := byCopy[q.Copy]
		if !ok {
			copied, err := t.outgoing(q.Copy, copies)
			if err != nil {
				return nil, fmt.Errorf("read copy %v: %w", q.Copy, err)
			}
			i = len(groups)
			byCopy[q.Copy] = i
			groups = append(groups, Group{ID: t.store.NewID(), Copy: copied})
		}
		ok, err := t.claimRcpt(o, groups[i].ID, &q, copies[q.Copy].Level == mail.Held)
		if err != nil {
			return nil, fmt.Errorf("claim recipient %v: %w", q.ID, err)
		}
		if ok {
			groups[i].Rcpts = append(groups[i].Rcpts, q)
		}
	}
	return groups, nil
}

// claimRcpt claims one recipient, and adds why its domain is left alone, should it have
// had no attempt of its own.
func (t *tx) claimRcpt(o Overdue, claim ID, q *QueuedRcpt, held bool) (bool, error) {
	lane, err := t.lane(Lane{q.Domain, held})
	if err != nil {
		return false, err
	}
	if lane.failures > 0 && q.Reply == (Reply{}) {
		q.Reply.Text = lane.reason
	}
	n, err := t.exec(`UPDATE outgoing_rcpts SET claim = $1, owner = $2, lease = $3,
		due = CASE WHEN verdict > 0 THEN due ELSE $3 END
		WHERE id = $4 AND lease <= $5`, claim, o.Owner, micros(o.Until), q.ID, micros(o.Now))
	if err != nil || n == 0 {
		return false, err
	}
	return true, t.changeLane(lane.Lane, 0, 0)
}
