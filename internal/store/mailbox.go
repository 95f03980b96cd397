package store

import (
	"context"
	"errors"
	"fmt"
)

// Mailboxes returns an account's mailboxes by name.
func (s *Store) Mailboxes(ctx context.Context, account ID) ([]Mailbox, error) {
	all, err := s.listMailboxes(ctx, `WHERE m.account = $1 AND m.removed = 0 ORDER BY m.name`, account)
	if err != nil {
		return nil, fmt.Errorf("list mailboxes: %w", err)
	}
	return all, nil
}

// MailboxByName returns a mailbox by its name, or ErrNotFound.
func (s *Store) MailboxByName(ctx context.Context, account ID, name string) (Mailbox, error) {
	name, err := CanonicalName(name)
	if err != nil {
		return Mailbox{}, fmt.Errorf("read mailbox: %w", ErrNotFound)
	}
	return s.oneMailbox(ctx, `WHERE m.account = $1 AND m.name = $2 AND m.removed = 0`, account, name)
}

// Mailbox returns a mailbox by its id, or ErrNotFound.
func (s *Store) Mailbox(ctx context.Context, id ID) (Mailbox, error) {
	return s.oneMailbox(ctx, whereMailbox, id)
}

const whereMailbox = `WHERE m.id = $1 AND m.removed = 0`

func (s *Store) oneMailbox(ctx context.Context, where string, args ...any) (Mailbox, error) {
	var m Mailbox
	err := s.read(ctx, func(c *session) error {
		return c.get(m.fields(), `SELECT `+boxColumns+` FROM mailboxes m `+where, args...)
	})
	if err != nil {
		return Mailbox{}, fmt.Errorf("read mailbox: %w", err)
	}
	return m, nil
}

func (s *Store) listMailboxes(ctx context.Context, where string, args ...any) (all []Mailbox, err error) {
	err = s.read(ctx, func(c *session) error {
		return c.each(func(r scanner) error {
			var m Mailbox
			err := r.Scan(m.fields()...)
			all = append(all, m)
			return err
		}, `SELECT `+boxColumns+` FROM mailboxes m `+where, args...)
	})
	return all, err
}

// CreateMailbox makes a mailbox, and those above it that are missing
// (RFC 9051 6.3.4). ErrExists, ErrName, or ErrNotFound for the account.
func (s *Store) CreateMailbox(ctx context.Context, account ID, n NewMailbox) (Mailbox, error) {
	var made Mailbox
	err := s.write(ctx, func(t *tx) error {
		_, err := t.account(account)
		if err == nil {
			made, err = t.createMailbox(account, n, false)
		}
		return err
	})
	if err != nil {
		return Mailbox{}, fmt.Errorf("create mailbox: %w", err)
	}
	return made, nil
}

// createMailbox makes one mailbox with its parents.
func (t *tx) createMailbox(account ID, n NewMailbox, subscribed bool) (Mailbox, error) {
	name, err := CanonicalName(n.Name)
	if err != nil {
		return Mailbox{}, err
	}
	if found, err := t.hasMailbox(account, name); err != nil {
		return Mailbox{}, err
	} else if found {
		return Mailbox{}, ErrExists
	}
	for _, above := range parents(name) {
		_, err := t.insertMailbox(Mailbox{Account: account, Name: above, Subscribed: subscribed})
		if err != nil && !errors.Is(err, ErrExists) {
			return Mailbox{}, err
		}
	}
	return t.insertMailbox(Mailbox{Account: account, Name: name, SpecialUse: n.SpecialUse, Subscribed: subscribed})
}

func (t *tx) hasMailbox(account ID, name string) (bool, error) {
	var id ID
	err := t.get([]any{&id}, `SELECT id FROM mailboxes WHERE account = $1 AND name = $2`, account, name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// insertMailbox makes an empty mailbox of m, with an id and a UIDVALIDITY.
func (t *tx) insertMailbox(m Mailbox) (Mailbox, error) {
	m.ID, m.UIDNext, m.ModSeq = t.store.NewID(), 1, 1
	var err error
	if m.UIDValidity, err = t.uidValidity(); err != nil {
		return Mailbox{}, err
	}
	n, err := t.exec(`INSERT INTO mailboxes (id, account, name, special_use, subscribed, uidvalidity,
		uidnext, modseq, messages, unseen, deleted, size)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 0, 0) ON CONFLICT (account, name) DO NOTHING`,
		m.ID, m.Account, m.Name, m.SpecialUse, truth(m.Subscribed), m.UIDValidity, m.UIDNext, m.ModSeq)
	if err != nil {
		return Mailbox{}, err
	}
	if n == 0 {
		return Mailbox{}, ErrExists
	}
	return m, nil
}

// uidValidity returns a UIDVALIDITY that no mailbox ever had: the time in
// seconds, or one more than the last one. So it also grows when an account or a
// mailbox is removed and made again under its old name, RFC 9051 2.3.1.1.
func (t *tx) uidValidity() (uint32, error) {
	var last int64
	if err := t.get([]any{&last}, `SELECT value FROM counters WHERE name = 'uidvalidity'`); err != nil {
		return 0, err
	}
	next := max(last+1, t.now.Unix())
	if next <= 0 || next > 1<<32-1 {
		return 0, fmt.Errorf("%w: no UIDVALIDITY left", ErrInvalid)
	}
	return uint32(next), t.must(`UPDATE counters SET value = $1 WHERE name = 'uidvalidity'`, next)
}

// Subscribe sets whether LIST (SUBSCRIBED) shows a mailbox. ErrNotFound: there
// is none of this name.
func (s *Store) Subscribe(ctx context.Context, account ID, name string, on bool) error {
	name, err := CanonicalName(name)
	if err != nil {
		return fmt.Errorf("subscribe: %w", ErrNotFound)
	}
	err = s.write(ctx, func(t *tx) error {
		if err := t.settle(); err != nil {
			return err
		}
		return t.must(`UPDATE mailboxes SET subscribed = $1
			WHERE account = $2 AND name = $3 AND removed = 0`, truth(on), account, name)
	})
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// DeleteMailbox takes a mailbox away with its messages. ErrNotEmpty: it has
// children, or is the INBOX. The mailbox is gone at once; its messages go in
// steps, which the next Open finishes should this one not.
func (s *Store) DeleteMailbox(ctx context.Context, account ID, name string) error {
	name, err := CanonicalName(name)
	if err != nil {
		return fmt.Errorf("delete mailbox: %w", ErrNotFound)
	}
	var id ID
	err = s.write(ctx, func(t *tx) error {
		var err error
		id, err = t.hideMailbox(account, name)
		return err
	})
	if err == nil {
		err = s.purgeMailbox(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("delete mailbox: %w", err)
	}
	return nil
}

// hideMailbox takes a mailbox out of its account's sight.
func (t *tx) hideMailbox(account ID, name string) (ID, error) {
	if name == inboxName {
		return 0, ErrNotEmpty
	}
	tree, err := t.tree(account)
	if err != nil {
		return 0, err
	}
	id, ok := tree[name]
	if !ok {
		return 0, ErrNotFound
	}
	for other := range tree {
		if under(other, name) {
			return 0, ErrNotEmpty
		}
	}
	if err := t.settle(); err != nil {
		return 0, err
	}
	// No name begins with "/".
	hidden := fmt.Sprintf("/removed %d", id)
	return id, t.must(`UPDATE mailboxes SET removed = 1, name = $1 WHERE id = $2`, hidden, id)
}

// tree returns the names of an account's mailboxes with their ids.
func (t *tx) tree(account ID) (map[string]ID, error) {
	tree := map[string]ID{}
	err := t.each(func(r scanner) error {
		var id ID
		var name string
		err := r.Scan(&id, &name)
		tree[name] = id
		return err
	}, `SELECT id, name FROM mailboxes WHERE account = $1 AND removed = 0`, account)
	return tree, err
}
