package store

import (
	"fmt"
	"math"
)

// boxState is a mailbox within a transaction.
type boxState struct {
	Mailbox
	dirty bool
}

// accountState is an account's quota within a transaction.
type accountState struct {
	id          ID
	quota, used int64
	dirty       bool
}

const boxColumns = `m.id, m.account, m.name, m.special_use, m.subscribed, m.uidvalidity,
	m.uidnext, m.modseq, m.messages, m.unseen, m.deleted, m.size`

// fields returns where the columns of boxColumns are scanned to.
func (m *Mailbox) fields() []any {
	return []any{&m.ID, &m.Account, &m.Name, &m.SpecialUse, &m.Subscribed, &m.UIDValidity,
		&m.UIDNext, &m.ModSeq, &m.Messages, &m.Unseen, &m.Deleted, &m.Size}
}

const (
	selectBox = `SELECT ` + boxColumns + `, a.quota, a.used
		FROM mailboxes m JOIN accounts a ON a.id = m.account
		WHERE m.id = $1 AND m.removed = 0`
	selectInbox = `SELECT ` + boxColumns + `, a.quota, a.used
		FROM mailboxes m JOIN accounts a ON a.id = m.account
		WHERE m.account = $1 AND m.name = 'INBOX' AND m.removed = 0`
	updateBox = `UPDATE mailboxes SET uidnext = $1, modseq = $2, messages = $3, unseen = $4,
		deleted = $5, size = $6 WHERE id = $7`
	updateUsed = `UPDATE accounts SET used = $1 WHERE id = $2`
)

// box returns a mailbox of the transaction, or ErrNotFound.
func (t *tx) box(id ID) (*boxState, error) {
	if b, ok := t.boxes[id]; ok {
		return b, nil
	}
	return t.loadBox(selectBox, id)
}

// inbox returns an account's INBOX.
func (t *tx) inbox(account ID) (*boxState, error) {
	if b, ok := t.inboxes[account]; ok {
		return b, nil
	}
	b, err := t.loadBox(selectInbox, account)
	if err == nil {
		t.inboxes[account] = b
	}
	return b, err
}

func (t *tx) loadBox(query string, key ID) (*boxState, error) {
	b := new(boxState)
	var quota, used int64
	if err := t.get(append(b.fields(), &quota, &used), query, key); err != nil {
		return nil, err
	}
	// The row may have been loaded by its other key, and changed since.
	if known, ok := t.boxes[b.ID]; ok {
		return known, nil
	}
	t.boxes[b.ID] = b
	if _, ok := t.accounts[b.Account]; !ok {
		t.accounts[b.Account] = &accountState{id: b.Account, quota: quota, used: used}
	}
	return b, nil
}

// account returns an account's quota, or ErrNotFound.
func (t *tx) account(id ID) (*accountState, error) {
	if a, ok := t.accounts[id]; ok {
		return a, nil
	}
	a := &accountState{id: id}
	err := t.get([]any{&a.quota, &a.used}, `SELECT quota, used FROM accounts WHERE id = $1 AND removed = 0`, id)
	if err != nil {
		return nil, err
	}
	t.accounts[id] = a
	return a, nil
}

// charge adds octets, or takes them away, from what the account uses.
func (t *tx) charge(a *accountState, octets int64) {
	a.used += octets
	a.dirty = true
	t.wrote = true
}

// change gives out the MODSEQ of a change of the mailbox, RFC 7162 3.1.
func (t *tx) change(b *boxState) uint64 {
	b.ModSeq++
	b.dirty = true
	t.wrote = true
	return b.ModSeq
}

// room reports an error if the mailbox has fewer than n UIDs left.
func (b *boxState) room(n int) error {
	if uint64(b.UIDNext)+uint64(n) > math.MaxUint32 {
		return fmt.Errorf("mailbox %v: %w", b.ID, ErrExhausted)
	}
	return nil
}

// count adds n messages with these flags, together of size octets, to the
// counters; n is -1 for one that leaves.
func (b *boxState) count(n int32, f Flags, size int64) {
	b.Messages += uint32(n)
	b.Size += int64(n) * size
	if f&Seen == 0 {
		b.Unseen += uint32(n)
	}
	if f&Deleted != 0 {
		b.Deleted += uint32(n)
	}
	b.dirty = true
}

// flush writes the counters that changed.
func (t *tx) flush() error {
	for _, b := range t.boxes {
		if !b.dirty {
			continue
		}
		err := t.must(updateBox, b.UIDNext, int64(b.ModSeq), b.Messages, b.Unseen, b.Deleted, b.Size, b.ID)
		if err != nil {
			return fmt.Errorf("update mailbox %v: %w", b.ID, err)
		}
		b.dirty = false
	}
	for _, a := range t.accounts {
		if !a.dirty {
			continue
		}
		if err := t.must(updateUsed, a.used, a.id); err != nil {
			return fmt.Errorf("update account %v: %w", a.id, err)
		}
		a.dirty = false
	}
	return t.flushLanes()
}

// settle writes the counters and forgets them: what follows reads or changes the
// rows of mailboxes and accounts by statements of its own.
func (t *tx) settle() error {
	if err := t.flush(); err != nil {
		return err
	}
	t.forget()
	return nil
}

func (t *tx) forget() {
	clear(t.boxes)
	clear(t.inboxes)
	clear(t.accounts)
	clear(t.lanes)
}
