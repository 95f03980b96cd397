package store

import (
	"context"
	"fmt"
	"slices"
)

// RenameMailbox gives a mailbox another name (RFC 9051 6.3.6). Its children move
// along, missing parents of the new name are made, ids, UIDVALIDITY and UIDs stay. Renaming
// INBOX moves its messages to a new mailbox and leaves INBOX, empty, and its
// children in place. ErrNotFound, ErrExists, ErrName.
func (s *Store) RenameMailbox(ctx context.Context, account ID, from, to string) error {
	from, err := CanonicalName(from)
	if err != nil {
		return fmt.Errorf("rename mailbox: %w", ErrNotFound)
	}
	if to, err = CanonicalName(to); err != nil {
		return fmt.Errorf("rename mailbox: %w", err)
	}
	err = s.write(ctx, func(t *tx) error {
		if from == inboxName {
			return t.renameInbox(account, to)
		}
		return t.rename(account, from, to)
	})
	if err != nil {
		return fmt.Errorf("rename mailbox: %w", err)
	}
	return nil
}

// rename moves from and what is below it.
func (t *tx) rename(account ID, from, to string) error {
	tree, err := t.tree(account)
	if err != nil {
		return err
	}
	moves, err := planRename(tree, from, to)
	if err != nil {
		return err
	}
	if err := t.settle(); err != nil {
		return err
	}
	for _, above := range parents(to) {
		if _, ok := tree[above]; ok {
			continue
		}
		if _, err := t.insertMailbox(Mailbox{Account: account, Name: above}); err != nil {
			return err
		}
	}
	for _, m := range moves {
		if err := t.must(`UPDATE mailboxes SET name = $1 WHERE id = $2`, m.name, m.id); err != nil {
			return err
		}
	}
	return nil
}

type renaming struct {
	id   ID
	name string
}

// planRename returns the new names of from and its children, or why they cannot
// have them.
func planRename(tree map[string]ID, from, to string) ([]renaming, error) {
	if _, ok := tree[from]; !ok {
		return nil, ErrNotFound
	}
	if _, ok := tree[to]; ok {
		return nil, ErrExists
	}
	if under(to, from) {
		return nil, fmt.Errorf("%w: below itself", ErrName)
	}
	var moves []renaming
	for name, id := range tree {
		if name != from && !under(name, from) {
			continue
		}
		renamed, err := CanonicalName(to + name[len(from):])
		if err != nil {
			return nil, err
		}
		// A name that moves away itself cannot be in the way: to is not below from.
		if _, ok := tree[renamed]; ok && renamed != from && !under(renamed, from) {
			return nil, ErrExists
		}
		moves = append(moves, renaming{id, renamed})
	}
	slices.SortFunc(moves, func(a, b renaming) int { return len(a.name) - len(b.name) })
	return moves, nil
}

func (t *tx) renameInbox(account ID, to string) error {
	from, err := t.inbox(account)
	if err != nil {
		return err
	}
	made, err := t.createMailbox(account, NewMailbox{Name: to}, false)
	if err != nil {
		return err
	}
	dest, err := t.box(made.ID)
	if err != nil {
		return err
	}
	_, err = t.transfer(from, []Range{{1, maxUID}}, dest, true)
	return err
}
