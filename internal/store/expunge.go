package store

import (
	"context"
	"fmt"
	"slices"
)

// expungeStep is how many messages one transaction removes.
const expungeStep = 500

// Expunge removes the messages with \Deleted within uids (nil: all of them) and
// returns their UIDs in ascending order (RFC 9051 6.4.3, 6.4.9). Many are
// removed in steps; on an error those that were are returned with it.
func (s *Store) Expunge(ctx context.Context, mailbox ID, uids []Range) ([]uint32, error) {
	if uids == nil {
		uids = []Range{{1, maxUID}}
	}
	found, err := s.findDeleted(ctx, mailbox, normalRanges(uids))
	var expunged []uint32
	for err == nil && len(found) > 0 {
		n := min(expungeStep, len(found))
		var gone []uint32
		err = s.write(ctx, func(t *tx) error {
			b, err := t.box(mailbox)
			if err != nil {
				return err
			}
			gone, err = t.expunge(b, runs(found[:n]))
			return err
		})
		if err == nil {
			expunged, found = append(expunged, gone...), found[n:]
		}
	}
	if err != nil {
		return expunged, fmt.Errorf("expunge: %w", err)
	}
	return expunged, nil
}

// findDeleted looks for messages with \Deleted without holding up the writer,
// which looks at them again.
func (s *Store) findDeleted(ctx context.Context, mailbox ID, uids []Range) (found []uint32, err error) {
	err = s.read(ctx, func(c *session) error {
		var deleted int
		err := c.get([]any{&deleted}, `SELECT deleted FROM mailboxes WHERE id = $1 AND removed = 0`, mailbox)
		if err != nil || deleted == 0 {
			return err
		}
		for _, r := range uids {
			err := c.each(func(r scanner) error {
				var uid uint32
				err := r.Scan(&uid)
				found = append(found, uid)
				return err
			}, `SELECT uid FROM entries WHERE mailbox = $1 AND uid BETWEEN $2 AND $3 AND (flags & 8) <> 0
				ORDER BY uid`, mailbox, r.Lo, r.Hi)
			if err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

// goneRow is an entry that leaves its mailbox.
type goneRow struct {
	uid     uint32
	flags   Flags
	size    int64
	message ID
}

func (t *tx) expunge(b *boxState, uids []Range) ([]uint32, error) {
	var rows []goneRow
	for _, r := range uids {
		found, err := t.goneRows(`WHERE mailbox = $1 AND uid BETWEEN $2 AND $3 AND (flags & 8) <> 0 ORDER BY uid`,
			b.ID, r.Lo, r.Hi)
		if err != nil {
			return nil, err
		}
		rows = append(rows, found...)
	}
	gone := map[ID]int{}
	for _, r := range rows {
		gone[r.message]++
	}
	uidsGone, err := t.removeEntries(b, rows)
	if err != nil {
		return nil, err
	}
	return uidsGone, t.dropCopies(gone)
}

func (t *tx) goneRows(where string, args ...any) ([]goneRow, error) {
	var rows []goneRow
	err := t.each(func(r scanner) error {
		var row goneRow
		err := r.Scan(&row.uid, &row.flags, &row.size, &row.message)
		rows = append(rows, row)
		return err
	}, `SELECT uid, flags, size, message FROM entries `+where, args...)
	return rows, err
}

// removeEntries takes entries, in ascending order, out of their mailbox and
// leaves tombstones. What becomes of their messages is the caller's part.
func (t *tx) removeEntries(b *boxState, rows []goneRow) ([]uint32, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	modseq := t.change(b)
	uids := make([]uint32, len(rows))
	for i, r := range rows {
		uids[i] = r.uid
		b.count(-1, r.flags, r.size)
	}
	for _, r := range runs(uids) {
		_, err := t.exec(`DELETE FROM entries WHERE mailbox = $1 AND uid BETWEEN $2 AND $3`, b.ID, r.Lo, r.Hi)
		if err == nil {
			_, err = t.exec(`INSERT INTO tombstones (mailbox, modseq, lo, hi) VALUES ($1, $2, $3, $4)`,
				b.ID, modseq, r.Lo, r.Hi)
		}
		if err != nil {
			return nil, fmt.Errorf("remove entries of mailbox %v: %w", b.ID, err)
		}
	}
	return uids, nil
}

// ExpungedSince returns the UIDs that left the mailbox after the change modseq,
// for VANISHED (EARLIER) of RFC 7162 3.2.10. ErrNotFound.
func (s *Store) ExpungedSince(ctx context.Context, mailbox ID, modseq uint64) ([]Range, error) {
	var gone []Range
	err := s.readers.snapshot(ctx, s.dialect.beginRead, func(c *session) error {
		var id ID
		err := c.get([]any{&id}, `SELECT id FROM mailboxes WHERE id = $1 AND removed = 0`, mailbox)
		if err == nil {
			gone, err = tombstones(c, mailbox, modseq)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list expunged: %w", err)
	}
	return gone, nil
}

// tombstones returns normal ranges.
func tombstones(c *session, mailbox ID, since uint64) ([]Range, error) {
	var gone []Range
	// No mailbox comes near such a number of changes; it would not fit a BIGINT.
	since = min(since, 1<<62)
	err := c.each(func(r scanner) error {
		var x Range
		err := r.Scan(&x.Lo, &x.Hi)
		gone = append(gone, x)
		return err
	}, `SELECT lo, hi FROM tombstones WHERE mailbox = $1 AND modseq > $2`, mailbox, since)
	return slices.Clip(normalRanges(gone)), err
}
