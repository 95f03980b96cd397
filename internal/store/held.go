package store

import (
	"context"
	"fmt"
	"strings"
)

// heldRow is what releasing a held copy needs.
type heldRow struct {
	id, message, account ID
}

// findHeld returns the held copies with these ids. ErrNotFound: one is gone,
// most likely because somebody else has released it already.
func (t *tx) findHeld(ids []ID) ([]heldRow, error) {
	var rows []heldRow
	for _, id := range ids {
		h := heldRow{id: id}
		err := t.get([]any{&h.message, &h.account}, `SELECT message, account FROM held WHERE id = $1`, id)
		if err != nil {
			return nil, fmt.Errorf("held copy %v: %w", id, err)
		}
		rows = append(rows, h)
	}
	return rows, nil
}

func (t *tx) insertHeld(h *Held, keywords string) error {
	_, err := t.exec(`INSERT INTO held (id, account, message, reason, facts, mailbox, flags, keywords,
		internal_date) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		h.ID, h.Account, h.Message.ID, h.Reason, octets(h.Facts), h.Mailbox, uint32(h.Flags), keywords,
		t.internalDate(h.InternalDate))
	if err != nil {
		return fmt.Errorf("insert held copy %v: %w", h.ID, err)
	}
	return nil
}

// release takes held copies away with their messages.
func (t *tx) release(rows []heldRow) error {
	gone := map[ID]int{}
	for _, h := range rows {
		if err := t.must(`DELETE FROM held WHERE id = $1`, h.id); err != nil {
			return fmt.Errorf("delete held copy %v: %w", h.id, err)
		}
		gone[h.message]++
	}
	return t.dropCopies(gone)
}

// HeldCopies returns the held copies of an account (0: of all), the oldest
// first, with their messages. Their Protection is zero: whatever is done with
// one next needs a decision of its own.
func (s *Store) HeldCopies(ctx context.Context, account ID) ([]Held, error) {
	var all []Held
	err := s.read(ctx, func(c *session) error {
		return c.each(func(r scanner) error {
			h := Held{Message: new(Message)}
			var at int64
			var keywords string
			dest := append([]any{&h.ID, &h.Account, &h.Reason, &h.Facts, &h.Mailbox, &h.Flags, &keywords, &at},
				h.Message.fields()...)
			err := r.Scan(dest...)
			h.Keywords, h.InternalDate = strings.Fields(keywords), fromMicros(at)
			all = append(all, h)
			return err
		}, `SELECT h.id, h.account, h.reason, h.facts, h.mailbox, h.flags, h.keywords, h.internal_date, `+
			messageColumns+` FROM held h JOIN messages m ON m.id = h.message `+messageJoins+`
			WHERE h.account = $1 OR $1 = 0 ORDER BY h.id`, account)
	})
	if err != nil {
		return nil, fmt.Errorf("list held copies: %w", err)
	}
	return all, nil
}

// HeldCount returns how many held copies an account has (0: all accounts together).
func (s *Store) HeldCount(ctx context.Context, account ID) (int, error) {
	n := 0
	err := s.read(ctx, func(c *session) error {
		return c.get([]any{&n}, `SELECT COUNT(*) FROM held WHERE account = $1 OR $1 = 0`, account)
	})
	if err != nil {
		return 0, fmt.Errorf("count held copies: %w", err)
	}
	return n, nil
}
