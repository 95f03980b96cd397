package store

import (
	"context"
	"errors"
	"fmt"
)

// purgeRemoved finishes what a crash has left of removed mailboxes and accounts.
func (s *Store) purgeRemoved(ctx context.Context) {
	var boxes, accounts []ID
	err := s.read(ctx, func(c *session) error {
		var err error
		if boxes, err = ids(c, `SELECT id FROM mailboxes WHERE removed = 1`); err != nil {
			return err
		}
		accounts, err = ids(c, `SELECT id FROM accounts WHERE removed = 1`)
		return err
	})
	for _, id := range boxes {
		if err == nil {
			err = s.purgeMailbox(ctx, id)
		}
	}
	for _, id := range accounts {
		if err == nil {
			err = s.purgeAccount(ctx, id)
		}
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		s.log.Error("purge", "error", err)
	}
}

func ids(c *session, query string, args ...any) (all []ID, err error) {
	err = c.each(func(r scanner) error {
		var id ID
		err := r.Scan(&id)
		all = append(all, id)
		return err
	}, query, args...)
	return all, err
}

// purgeMailbox deletes the messages of a removed mailbox, in steps so that
// deliveries need not wait, and then its row. Two may do it at once.
func (s *Store) purgeMailbox(ctx context.Context, id ID) error {
	for done := false; !done; {
		err := s.write(ctx, func(t *tx) error {
			var err error
			done, err = t.purgeStep(id)
			return err
		})
		if err != nil {
			return fmt.Errorf("purge mailbox %v: %w", id, err)
		}
	}
	s.views.drop(id)
	return nil
}

func (t *tx) purgeStep(mailbox ID) (done bool, err error) {
	rows, err := t.goneRows(`WHERE mailbox = $1 ORDER BY uid LIMIT $2`, mailbox, expungeStep)
	if err != nil {
		return false, err
	}
	if len(rows) == 0 {
		_, err := t.exec(`DELETE FROM mailboxes WHERE id = $1 AND removed = 1`, mailbox) // and tombstones
		return true, err
	}
	gone := map[ID]int{}
	for _, r := range rows {
		gone[r.message]++
	}
	_, err = t.exec(`DELETE FROM entries WHERE mailbox = $1 AND uid BETWEEN $2 AND $3`,
		mailbox, rows[0].uid, rows[len(rows)-1].uid)
	if err != nil {
		return false, err
	}
	return false, t.dropCopies(gone)
}

// purgeAccount deletes the mailboxes and held copies of a removed account, and
// then its row. Two may do it at once.
func (s *Store) purgeAccount(ctx context.Context, id ID) error {
	var boxes []ID
	err := s.read(ctx, func(c *session) error {
		var err error
		boxes, err = ids(c, `SELECT id FROM mailboxes WHERE account = $1`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("purge account %v: %w", id, err)
	}
	for _, box := range boxes {
		if err := s.purgeMailbox(ctx, box); err != nil {
			return err
		}
	}
	for done := false; !done; {
		err := s.write(ctx, func(t *tx) error {
			var err error
			done, err = t.purgeHeld(id)
			return err
		})
		if err != nil {
			return fmt.Errorf("purge account %v: %w", id, err)
		}
	}
	return nil
}

// purgeHeld deletes some of an account's held copies, or the account if there
// are none.
func (t *tx) purgeHeld(account ID) (done bool, err error) {
	held, err := ids(t.session, `SELECT id FROM held WHERE account = $1 LIMIT $2`, account, expungeStep)
	if err != nil {
		return false, err
	}
	if len(held) == 0 {
		_, err := t.exec(`DELETE FROM accounts WHERE id = $1 AND removed = 1`, account)
		return true, err
	}
	rows, err := t.findHeld(held)
	if err != nil {
		return false, err
	}
	return false, t.release(rows)
}
