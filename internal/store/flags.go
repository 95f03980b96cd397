package store

import (
	"context"
	"fmt"
	"strings"
)

// flagStep is how many entries one transaction looks at when flags change.
const flagStep = 1000

// allFlags are the flags that exist.
const allFlags = Seen | Answered | Flagged | Deleted | Draft

// SetFlags changes the flags and keywords of the messages within uids
// (RFC 9051 6.4.6). With unchangedSince, messages whose MODSEQ is greater are
// left as they are and returned (RFC 7162 3.1.3); 0 means unconditional. A
// message whose flags do not change keeps its MODSEQ. UIDs without a message are
// passed over. Large ranges are changed in steps; on an error some may be done.
// ErrNotFound, ErrKeyword.
func (s *Store) SetFlags(ctx context.Context, mailbox ID, uids []Range, op FlagOp, f Flags,
	keywords []string, unchangedSince uint64) (failed []uint32, err error) {
	if err := checkKeywords(keywords); err != nil {
		return nil, fmt.Errorf("set flags: %w", err)
	}
	c := flagChange{op: op, flags: f & allFlags, keywords: keywords, unchangedSince: unchangedSince}
	todo := normalRanges(uids)
	for first := true; first || len(todo) > 0; first = false {
		var step flagStepResult
		err := s.write(ctx, func(t *tx) error {
			b, err := t.box(mailbox)
			if err == nil {
				step, err = t.setFlags(b, todo, &c)
			}
			return err
		})
		if err != nil {
			return failed, fmt.Errorf("set flags: %w", err)
		}
		failed = append(failed, step.failed...)
		todo = step.rest
	}
	return failed, nil
}

type flagChange struct {
	op             FlagOp
	flags          Flags
	keywords       []string
	unchangedSince uint64

	// The last keywords and what became of them: neighbours mostly have the same.
	before, after string
	known         bool
}

type flagStepResult struct {
	failed []uint32
	rest   []Range
}

// flagRow is an entry that may change.
type flagRow struct {
	uid      uint32
	flags    Flags
	keywords string
	modseq   uint64
}

func (c *flagChange) apply(r flagRow) (Flags, string) {
	if !c.known || r.keywords != c.before {
		c.before, c.after, c.known = r.keywords, changeKeywords(r.keywords, c.op, c.keywords), true
	}
	switch c.op {
	case FlagsAdd:
		return r.flags | c.flags, c.after
	case FlagsRemove:
		return r.flags &^ c.flags, c.after
	}
	return c.flags, c.after
}

// setFlags changes at most flagStep entries and returns what is left to do.
func (t *tx) setFlags(b *boxState, todo []Range, c *flagChange) (flagStepResult, error) {
	var result flagStepResult
	left := flagStep
	for len(todo) > 0 && left > 0 {
		rows, err := t.flagRows(b.ID, todo[0], left)
		if err != nil {
			return result, err
		}
		failed, err := t.setRowFlags(b, rows, c)
		if err != nil {
			return result, err
		}
		result.failed = append(result.failed, failed...)
		if len(rows) < left {
			todo = todo[1:]
		} else {
			todo = after(todo, rows[len(rows)-1].uid)
		}
		// A range costs a query even if it holds nothing.
		left -= max(len(rows), 4)
	}
	result.rest = todo
	return result, nil
}

func (t *tx) flagRows(mailbox ID, uids Range, limit int) ([]flagRow, error) {
	var rows []flagRow
	err := t.each(func(r scanner) error {
		var row flagRow
		err := r.Scan(&row.uid, &row.flags, &row.keywords, &row.modseq)
		rows = append(rows, row)
		return err
	}, `SELECT uid, flags, keywords, modseq FROM entries
		WHERE mailbox = $1 AND uid BETWEEN $2 AND $3 ORDER BY uid LIMIT $4`, mailbox, uids.Lo, uids.Hi, limit)
	return rows, err
}

// setRowFlags changes rows that follow one another in the mailbox. Neighbours
// that come to the same flags are changed by one statement.
func (t *tx) setRowFlags(b *boxState, rows []flagRow, c *flagChange) (failed []uint32, err error) {
	var modseq uint64
	var run Range
	var flags Flags
	var keywords string
	write := func() error {
		if run.Lo == 0 {
			return nil
		}
		_, err := t.exec(`UPDATE entries SET flags = $1, keywords = $2, modseq = $3
			WHERE mailbox = $4 AND uid BETWEEN $5 AND $6`, uint32(flags), keywords, modseq, b.ID, run.Lo, run.Hi)
		run = Range{}
		return err
	}
	for _, row := range rows {
		if c.unchangedSince > 0 && row.modseq > c.unchangedSince {
			failed = append(failed, row.uid)
			if err := write(); err != nil {
				return nil, err
			}
			continue
		}
		newFlags, newKeywords := c.apply(row)
		if run.Lo != 0 && (newFlags != flags || newKeywords != keywords || !row.differs(newFlags, newKeywords)) {
			if err := write(); err != nil {
				return nil, err
			}
		}
		if !row.differs(newFlags, newKeywords) {
			continue
		}
		if strings.Count(newKeywords, " ") >= maxKeywords {
			return nil, fmt.Errorf("%w: more than %d", ErrKeyword, maxKeywords)
		}
		if modseq == 0 {
			modseq = t.change(b)
		}
		if run.Lo == 0 {
			run.Lo, flags, keywords = row.uid, newFlags, newKeywords
		}
		run.Hi = row.uid
		b.recount(row.flags, newFlags)
	}
	return failed, write()
}

func (r flagRow) differs(f Flags, keywords string) bool {
	return r.flags != f || r.keywords != keywords
}

// recount moves a message of the mailbox from one set of flags to another.
func (b *boxState) recount(from, to Flags) {
	if from&Seen != 0 && to&Seen == 0 {
		b.Unseen++
	} else if from&Seen == 0 && to&Seen != 0 {
		b.Unseen--
	}
	if from&Deleted == 0 && to&Deleted != 0 {
		b.Deleted++
	} else if from&Deleted != 0 && to&Deleted == 0 {
		b.Deleted--
	}
}
