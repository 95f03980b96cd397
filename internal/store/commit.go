package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/internal/mail"
)

// AccountError says whose copy made a batch fail.
type AccountError struct {
	Account ID
	Err     error
}

func (e *AccountError) Error() string { return fmt.Sprintf("account %v: %v", e.Account, e.Err) }

// Unwrap returns the reason, such as ErrOverQuota.
func (e *AccountError) Unwrap() error { return e.Err }

// Commit stores a batch, all of it or nothing, and returns the place of each
// delivery after it is durable. Batches that wait at the same time share one
// transaction, but one that fails never harms the others.
//
// Several deliveries may place the same message (by ID) in several mailboxes of
// its account; it is stored, and counted against the quota, once.
//
// Errors: ErrUnprotected, for a copy that nobody decided may rest here or whose
// class claims another protection than it has, or may not leave, or waits to leave
// unlocked; ErrOverQuota, within an
// *AccountError (copies that replace held ones are always let in: their mail was
// accepted; with Overshoot, one batch may cross the quota); ErrNotFound for an account,
// a mailbox (or one of somebody else), a held copy to be released or a recipient to be
// replaced; ErrKeyword; ErrInvalid for a message that contradicts
// itself; ErrDiskFull.
func (s *Store) Commit(ctx context.Context, b Batch) ([]Placed, error) {
	placed, _, err := s.CommitExpress(ctx, b, Express{})
	return placed, err
}

// commitPlan is a batch that was found good before any row is read.
type commitPlan struct {
	Batch
	keywords []string // of each delivery, then of each held copy, as stored
	messages []*newMessage
	blobs    []*newBlob
	outgoing []*newBlob // of each outgoing copy; nil: none
}

// newMessage is a row of messages with the number of places that share it.
type newMessage struct {
	*Message
	copies int
	blob   *newBlob // nil: none
}

// newBlob is a blob with the number of the batch's copies that need it.
type newBlob struct {
	Blob
	id   ID
	refs int
}

// row is the blob's id, once it has a row; 0 for none.
func (b *newBlob) row() ID {
	if b == nil {
		return 0
	}
	return b.id
}

// planCommit is the gate of P3, and gathers the rows that copies share.
func planCommit(b Batch) (*commitPlan, error) {
	p := &commitPlan{Batch: b, keywords: make([]string, 0, len(b.Deliveries)+len(b.Hold))}
	index := planIndex{messages: map[ID]*newMessage{}, blobs: map[string]*newBlob{}}
	for i := range b.Deliveries {
		d := &b.Deliveries[i]
		if d.Message == nil || !mayRest(d.Protection, d.Message.Class) {
			return nil, ErrUnprotected
		}
		if err := p.add(&index, d.Message, d.Keywords); err != nil {
			return nil, err
		}
	}
	for i := range b.Hold {
		h := &b.Hold[i]
		if h.Message == nil || !h.Protection.MayRest() || h.Protection.Level() != mail.Held {
			return nil, ErrUnprotected
		}
		if h.Account != h.Message.Account || h.ID == 0 {
			return nil, fmt.Errorf("%w: held copy without id, or of two accounts", ErrInvalid)
		}
		if index.messages[h.Message.ID] != nil {
			return nil, fmt.Errorf("%w: held message is placed twice", ErrInvalid)
		}
		if err := p.add(&index, h.Message, h.Keywords); err != nil {
			return nil, err
		}
	}
	for i := range b.Outgoing {
		o := &b.Outgoing[i]
		if err := checkOutgoing(o); err != nil {
			return nil, err
		}
		blob, err := p.addBlob(&index, o.Blob)
		if err != nil {
			return nil, err
		}
		p.outgoing = append(p.outgoing, blob)
	}
	return p, nil
}

// mayRest reports whether a copy with this protection may lie in a mailbox, and
// its class claims exactly that protection (P5).
func mayRest(p mail.Protection, c Class) bool {
	if !p.MayRest() {
		return false
	}
	switch c {
	case ClassSealed:
		return p.Level() == mail.Sealed
	case ClassEncrypted:
		return p.Level() == mail.EndToEnd
	case ClassNotice:
		return p.Level() == mail.Notice
	}
	return false
}

type planIndex struct {
	messages map[ID]*newMessage
	blobs    map[string]*newBlob
}

func (p *commitPlan) add(index *planIndex, m *Message, keywords []string) error {
	if err := checkKeywords(keywords); err != nil {
		return err
	}
	p.keywords = append(p.keywords, joinKeywords(keywords))
	if known := index.messages[m.ID]; known != nil {
		if known.Message != m {
			return fmt.Errorf("%w: two messages with one id", ErrInvalid)
		}
		known.copies++
		return nil
	}
	if m.ID <= 0 || m.Account <= 0 {
		return fmt.Errorf("%w: message without id or account", ErrInvalid)
	}
	if m.Blob.Size < 0 || m.Size != int64(len(m.Head))+m.Blob.Size+int64(len(m.Tail)) {
		return fmt.Errorf("%w: size is not that of head, blob and tail", ErrInvalid)
	}
	blob, err := p.addBlob(index, m.Blob)
	if err != nil {
		return err
	}
	n := &newMessage{Message: m, copies: 1, blob: blob}
	index.messages[m.ID] = n
	p.messages = append(p.messages, n)
	return nil
}

// addBlob counts one more copy that needs a blob, if there is one.
func (p *commitPlan) addBlob(index *planIndex, b Blob) (*newBlob, error) {
	if b.Ref == "" {
		if b.Size != 0 {
			return nil, fmt.Errorf("%w: blob without a ref", ErrInvalid)
		}
		return nil, nil
	}
	n := index.blobs[b.Ref]
	if n == nil {
		n = &newBlob{Blob: b}
		index.blobs[b.Ref] = n
		p.blobs = append(p.blobs, n)
	}
	if n.Blob != b {
		return nil, fmt.Errorf("%w: two blobs with one ref", ErrInvalid)
	}
	n.refs++
	return n, nil
}

// commit first reads and decides, then writes: until then a failure concerns
// this batch alone.
func (t *tx) commit(p *commitPlan, e *express) ([]Placed, error) {
	boxes, err := t.destinations(p)
	if err != nil {
		return nil, err
	}
	released, err := t.findHeld(p.Release)
	if err != nil {
		return nil, err
	}
	if err := t.findReplaced(p.Replaced); err != nil {
		return nil, err
	}
	if err := t.checkSenders(p.Outgoing); err != nil {
		return nil, err
	}
	if err := t.checkQuota(p, released); err != nil {
		return nil, err
	}
	if err := t.insertMessages(p); err != nil {
		return nil, err
	}
	placed := make([]Placed, len(p.Deliveries))
	for i := range p.Deliveries {
		if placed[i], err = t.place(&p.Deliveries[i], p.keywords[i], boxes[i]); err != nil {
			return nil, err
		}
	}
	for i := range p.Hold {
		if err := t.insertHeld(&p.Hold[i], p.keywords[len(p.Deliveries)+i]); err != nil {
			return nil, err
		}
	}
	if err := t.release(released); err != nil {
		return nil, err
	}
	for i := range p.Outgoing {
		if err := t.insertOutgoing(&p.Outgoing[i], p.outgoing[i].row(), e); err != nil {
			return nil, err
		}
	}
	if _, err := t.dropRcpts(p.Replaced); err != nil {
		return nil, err
	}
	for i := range p.Exchanges {
		if err := t.insertExchange(&p.Exchanges[i]); err != nil {
			return nil, err
		}
	}
	return placed, t.insertAudit(p.Audit)
}

// destinations finds the mailbox of each delivery.
func (t *tx) destinations(p *commitPlan) ([]*boxState, error) {
	boxes := make([]*boxState, len(p.Deliveries))
	need := map[*boxState]int{}
	for i := range p.Deliveries {
		d := &p.Deliveries[i]
		var err error
		if d.Mailbox == 0 {
			boxes[i], err = t.inbox(d.Message.Account)
		} else {
			boxes[i], err = t.box(d.Mailbox)
		}
		if err == nil && boxes[i].Account != d.Message.Account {
			err = ErrNotFound
		}
		if err != nil {
			return nil, &AccountError{d.Message.Account, fmt.Errorf("mailbox %v: %w", d.Mailbox, err)}
		}
		need[boxes[i]]++
		if err := boxes[i].room(need[boxes[i]]); err != nil {
			return nil, err
		}
	}
	return boxes, nil
}

// checkQuota refuses what would take an account over its quota.
func (t *tx) checkQuota(p *commitPlan, released []heldRow) error {
	if len(p.Replaced) > 0 { // their mail was accepted
		return nil
	}
	added := map[ID]int64{}
	for _, m := range p.messages {
		added[m.Account] += m.Size
	}
	for _, h := range released {
		delete(added, h.account)
	}
	for id, octets := range added {
		a, err := t.account(id)
		if err != nil {
			return &AccountError{id, err}
		}
		room := a.quota - a.used // written so that no sum can overflow
		if p.Overshoot && room > 0 {
			continue
		}
		if a.quota > 0 && octets > 0 && octets > room {
			return &AccountError{id, ErrOverQuota}
		}
	}
	return nil
}

const (
	insertMessage = `INSERT INTO messages (id, account, class, size, copies, blob, envelope, structure)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
	insertOctets = `INSERT INTO octets (message, head, tail) VALUES ($1, $2, $3)`
	insertEntry  = `INSERT INTO entries (mailbox, uid, message, flags, keywords, modseq, size, internal_date)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
)

// insertMessages writes the rows of the batch's blobs and messages.
func (t *tx) insertMessages(p *commitPlan) error {
	for _, b := range p.blobs {
		if err := t.useBlob(b); err != nil {
			return err
		}
	}
	for _, m := range p.messages {
		a, err := t.account(m.Account)
		if err != nil {
			return &AccountError{m.Account, err}
		}
		_, err = t.exec(insertMessage, m.ID, m.Account, string(m.Class), m.Size, m.copies, m.blob.row(),
			octets(m.Envelope), octets(m.Structure))
		if errors.Is(err, errConflict) {
			return fmt.Errorf("message %v: %w", m.ID, ErrExists)
		}
		if err != nil {
			return fmt.Errorf("insert message %v: %w", m.ID, err)
		}
		if _, err := t.exec(insertOctets, m.ID, octets(m.Head), octets(m.Tail)); err != nil {
			return fmt.Errorf("insert octets of message %v: %w", m.ID, err)
		}
		t.charge(a, m.Size)
	}
	return nil
}

// place gives a delivery its UID and makes its entry.
func (t *tx) place(d *Delivery, keywords string, b *boxState) (Placed, error) {
	uid, modseq := b.UIDNext, t.change(b)
	b.UIDNext++
	b.count(1, d.Flags, d.Message.Size)
	_, err := t.exec(insertEntry, b.ID, uid, d.Message.ID, uint32(d.Flags), keywords, modseq,
		d.Message.Size, t.internalDate(d.InternalDate))
	if err != nil {
		return Placed{}, fmt.Errorf("insert entry %d of mailbox %v: %w", uid, b.ID, err)
	}
	return Placed{Mailbox: b.ID, Name: b.Name, UIDValidity: b.UIDValidity, UID: uid}, nil
}

// internalDate is the time at which a message counts as arrived: now, if none
// was given.
func (t *tx) internalDate(at time.Time) int64 {
	if at.IsZero() {
		return micros(t.now)
	}
	return micros(at)
}
