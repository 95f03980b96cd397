package store

import (
	"context"
	"fmt"
	"strings"
)

// Copy copies messages to another mailbox of the same account, or the same
// mailbox, all of them or none (RFC 9051 6.4.7). Flags, keywords and internal
// dates stay, and so does the message itself (EMAILID): the quota is not
// concerned. Src and Dst of the result are in ascending order. ErrNotFound,
// ErrExhausted.
func (s *Store) Copy(ctx context.Context, from ID, uids []Range, to ID) (Copied, error) {
	c, err := s.transfer(ctx, from, uids, to, false)
	if err != nil {
		return Copied{}, fmt.Errorf("copy: %w", err)
	}
	return c, nil
}

// Move is Copy that also takes the messages out of the first mailbox
// (RFC 9051 6.4.8).
func (s *Store) Move(ctx context.Context, from ID, uids []Range, to ID) (Copied, error) {
	c, err := s.transfer(ctx, from, uids, to, true)
	if err != nil {
		return Copied{}, fmt.Errorf("move: %w", err)
	}
	return c, nil
}

func (s *Store) transfer(ctx context.Context, from ID, uids []Range, to ID, move bool) (Copied, error) {
	uids = normalRanges(uids)
	var copied Copied
	err := s.write(ctx, func(t *tx) error {
		src, err := t.box(from)
		if err != nil {
			return err
		}
		dst, err := t.box(to)
		if err != nil {
			return err
		}
		if src.Account != dst.Account {
			return ErrNotFound
		}
		copied, err = t.transfer(src, uids, dst, move)
		return err
	})
	return copied, err
}

// copyRow is an entry on its way to another mailbox.
type copyRow struct {
	goneRow
	keywords     string
	internalDate int64
}

// transfer copies or moves entries.
func (t *tx) transfer(src *boxState, uids []Range, dst *boxState, move bool) (Copied, error) {
	copied := Copied{UIDValidity: dst.UIDValidity}
	var rows []copyRow
	for _, r := range uids {
		found, err := t.copyRows(src.ID, r)
		if err != nil {
			return Copied{}, err
		}
		rows = append(rows, found...)
	}
	if len(rows) == 0 {
		return copied, nil
	}
	if err := dst.room(len(rows)); err != nil {
		return Copied{}, err
	}
	first := dst.UIDNext
	if err := t.insertCopies(dst, rows); err != nil {
		return Copied{}, fmt.Errorf("insert entries of mailbox %v: %w", dst.ID, err)
	}
	for i, r := range rows {
		copied.Src = append(copied.Src, r.uid)
		copied.Dst = append(copied.Dst, first+uint32(i))
	}
	if !move {
		return copied, t.addCopies(rows)
	}
	gone := make([]goneRow, len(rows))
	for i, r := range rows {
		gone[i] = r.goneRow
	}
	_, err := t.removeEntries(src, gone)
	return copied, err
}

func (t *tx) copyRows(mailbox ID, uids Range) ([]copyRow, error) {
	var rows []copyRow
	err := t.each(func(r scanner) error {
		var c copyRow
		err := r.Scan(&c.uid, &c.flags, &c.size, &c.message, &c.keywords, &c.internalDate)
		rows = append(rows, c)
		return err
	}, `SELECT uid, flags, size, message, keywords, internal_date FROM entries
		WHERE mailbox = $1 AND uid BETWEEN $2 AND $3 ORDER BY uid`, mailbox, uids.Lo, uids.Hi)
	return rows, err
}

// copyStep is how many entries one statement inserts.
const copyStep = 32

// insertCopies gives the rows UIDs in dst and makes their entries there.
func (t *tx) insertCopies(dst *boxState, rows []copyRow) error {
	modseq := t.change(dst)
	args := make([]any, 0, copyStep*entryColumns)
	for len(rows) > 0 {
		n := copyStep
		if len(rows) < n {
			n = 1 // the statement of one row is prepared anyway
		}
		args = args[:0]
		for _, r := range rows[:n] {
			args = append(args, dst.ID, dst.UIDNext, r.message, uint32(r.flags), r.keywords, modseq,
				r.size, r.internalDate)
			dst.UIDNext++
			dst.count(1, r.flags, r.size)
		}
		if _, err := t.exec(insertEntries(n), args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// addCopies counts one more place for the message of each row.
func (t *tx) addCopies(rows []copyRow) error {
	for _, r := range rows {
		err := t.must(`UPDATE messages SET copies = copies + 1 WHERE id = $1`, r.message)
		if err != nil {
			return fmt.Errorf("share message %v: %w", r.message, err)
		}
	}
	return nil
}

// entryColumns is the number of columns of entries.
const entryColumns = 8

// insertEntries returns insertEntry for n rows.
func insertEntries(n int) string {
	if n == 1 {
		return insertEntry
	}
	var b strings.Builder
	b.WriteString(insertEntry)
	for i := 1; i < n; i++ {
		for c := range entryColumns {
			sep := ", ("
			if c > 0 {
				sep = ", "
			}
			fmt.Fprintf(&b, "%s$%d", sep, i*entryColumns+c+1)
		}
		b.WriteString(")")
	}
	return b.String()
}
