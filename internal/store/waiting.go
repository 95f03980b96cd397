package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Queued is a recipient with what there is to know about why it waits.
type Queued struct {
	QueuedRcpt
	Outgoing Outgoing // without octets and recipients
	// Failures is how often in a row its domain was not reached, Backoff until when the
	// domain is left alone (zero: it is not), and Reason why.
	Failures int
	Backoff  time.Time
	Reason   string
}

// Selection names recipients of the queue: by their id or their copy's, by domain, or
// all. The zero value selects nothing.
type Selection struct {
	ID     ID
	Domain string
	All    bool
}

// where returns a condition on outgoing_rcpts, whose arguments begin with $1.
func (s Selection) where() (string, []any, error) {
	switch {
	case s.ID != 0:
		return `(outgoing_rcpts.id = $1 OR copy = $1)`, []any{s.ID}, nil
	case s.Domain != "":
		return `outgoing_rcpts.domain = $1`, []any{s.Domain}, nil
	case s.All:
		return `outgoing_rcpts.id > $1`, []any{0}, nil
	}
	return "", nil, fmt.Errorf("%w: nothing is selected", ErrInvalid)
}

// changeStep is how many recipients one transaction changes, so that deliveries need
// not wait long.
const changeStep = 500

// ListOutgoing calls each for the selected recipients, by id. each may use the store;
// what comes and goes meanwhile may be left out.
func (s *Store) ListOutgoing(ctx context.Context, sel Selection, each func(Queued) error) error {
	where, args, err := sel.where()
	if err != nil {
		return err
	}
	for last := ID(0); ; {
		var page []Queued
		err := s.read(ctx, func(c *session) error {
			return c.each(func(r scanner) error {
				q, err := scanQueued(r)
				page = append(page, q)
				last = q.ID
				return err
			}, selectQueued+where+` AND outgoing_rcpts.id > $2 ORDER BY outgoing_rcpts.id LIMIT $3`, append(args, last, changeStep)...)
		})
		if err != nil {
			return fmt.Errorf("list outgoing: %w", err)
		}
		for _, q := range page {
			if err := each(q); err != nil {
				return err
			}
		}
		if len(page) < changeStep {
			return nil
		}
	}
}

const selectQueued = `SELECT ` + rcptColumns + `, l.failures, l.backoff, l.reason, ` + copyColumns + `
	FROM outgoing_rcpts JOIN outgoing o ON o.id = copy
	JOIN outgoing_lanes l ON l.domain = outgoing_rcpts.domain AND l.held = outgoing_rcpts.held WHERE `

func scanQueued(r scanner) (Queued, error) {
	var q Queued
	var backoff int64
	err := scanCopy(func(dest ...any) error {
		return scanRcpt(r, &q.QueuedRcpt, append([]any{&q.Failures, &backoff, &q.Reason}, dest...)...)
	}, &q.Outgoing)
	q.Backoff = fromMicros(backoff)
	return q, err
}

// Outgoing returns a copy of the queue by its id, without its recipients, or
// ErrNotFound.
func (s *Store) Outgoing(ctx context.Context, id ID) (*Outgoing, error) {
	var o *Outgoing
	err := s.read(ctx, func(c *session) error {
		var err error
		o, err = (&tx{session: c}).outgoing(id, map[ID]*Outgoing{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read outgoing copy %v: %w", id, err)
	}
	return o, nil
}

// HoldOutgoing has recipients left alone until they are released. What is in hand at
// that moment is finished. It returns how many there were.
func (s *Store) HoldOutgoing(ctx context.Context, sel Selection) (int, error) {
	return s.changeRcpts(ctx, "hold", sel, func(t *tx, q *QueuedRcpt, l *laneState) error {
		if !q.OnHold {
			l.onHold++
		}
		_, err := t.exec(`UPDATE outgoing_rcpts SET on_hold = 1, due = $2 WHERE id = $1`, q.ID, int64(never))
		return err
	})
}

// ReleaseOutgoing lets recipients go on that the operator holds, and has Held copies
// decided anew at once. Their age is counted from now on.
func (s *Store) ReleaseOutgoing(ctx context.Context, sel Selection) (int, error) {
	return s.changeRcpts(ctx, "release", sel, func(t *tx, q *QueuedRcpt, l *laneState) error {
		if !q.OnHold {
			if l.Held && q.Verdict == Undecided {
				return t.makeDue(q, l)
			}
			return errUnchanged
		}
		l.onHold--
		_, err := t.exec(`UPDATE outgoing_rcpts SET on_hold = 0, since = $2,
			deadline = CASE WHEN verdict > 0 THEN 1 ELSE 0 END,
			due = CASE WHEN verdict > 0 THEN due WHEN lease > $2 THEN lease ELSE $2 END WHERE id = $1`, q.ID, micros(t.now))
		return err
	})
}

// RetryOutgoing makes recipients due now, and has their domains and reports tried again; those on
// hold stay there.
func (s *Store) RetryOutgoing(ctx context.Context, sel Selection) (int, error) {
	return s.changeRcpts(ctx, "retry", sel, func(t *tx, q *QueuedRcpt, l *laneState) error {
		if q.OnHold {
			return errUnchanged
		}
		if q.Verdict != Undecided {
			return t.cancel(q, q.Verdict)
		}
		return t.makeDue(q, l)
	})
}

func (t *tx) makeDue(q *QueuedRcpt, l *laneState) error {
	l.backoff = 0
	_, err := t.exec(`UPDATE outgoing_rcpts SET due = CASE WHEN lease > $2 THEN lease ELSE $2 END WHERE id = $1`,
		q.ID, micros(t.now))
	return err
}

// CancelOutgoing has recipients given back to their senders at the next chance.
func (s *Store) CancelOutgoing(ctx context.Context, sel Selection) (int, error) {
	return s.changeRcpts(ctx, "cancel", sel, func(t *tx, q *QueuedRcpt, l *laneState) error {
		if q.OnHold {
			l.onHold--
		}
		if q.Verdict != Undecided {
			return t.cancel(q, q.Verdict)
		}
		return t.cancel(q, Cancelled)
	})
}

func (t *tx) cancel(q *QueuedRcpt, v Verdict) error {
	// A deadline that has passed since long.
	_, err := t.exec(`UPDATE outgoing_rcpts SET on_hold = 0, verdict = $3, due = $2, deadline = 1 WHERE id = $1`,
		q.ID, int64(never), uint8(v))
	return err
}

// RemoveOutgoing takes recipients out of the queue. Nobody is told.
func (s *Store) RemoveOutgoing(ctx context.Context, sel Selection) (int, error) {
	return s.changeRcpts(ctx, "remove", sel, func(t *tx, q *QueuedRcpt, _ *laneState) error {
		_, err := t.dropRcpts([]ID{q.ID})
		return err
	})
}

// errUnchanged says that a change does not concern a recipient.
var errUnchanged = errors.New("unchanged")

// changeRcpts changes the selected recipients in steps.
func (s *Store) changeRcpts(ctx context.Context, what string, sel Selection,
	change func(*tx, *QueuedRcpt, *laneState) error) (int, error) {
	where, args, err := sel.where()
	if err != nil {
		return 0, err
	}
	query := `SELECT ` + rcptColumns + `, held FROM outgoing_rcpts WHERE ` + where + ` AND outgoing_rcpts.id > $2 ORDER BY outgoing_rcpts.id LIMIT $3`
	total := 0
	for last := ID(0); ; {
		var seen []QueuedRcpt
		changed := 0
		err := s.write(ctx, func(t *tx) error {
			seen, changed = nil, 0
			var held []bool
			err := t.each(func(r scanner) error {
				var q QueuedRcpt
				var h bool
				err := scanRcpt(r, &q, &h)
				seen, held = append(seen, q), append(held, h)
				return err
			}, query, append(args, last, changeStep)...)
			for i := 0; err == nil && i < len(seen); i++ {
				err = t.changeRcpt(&seen[i], held[i], change)
				if err == nil {
					changed++
				} else if err == errUnchanged {
					err = nil
				}
			}
			return err
		})
		if err != nil {
			return total, fmt.Errorf("%s outgoing: %w", what, err)
		}
		total += changed
		if len(seen) < changeStep {
			return total, nil
		}
		last = seen[len(seen)-1].ID
	}
}

func (t *tx) changeRcpt(q *QueuedRcpt, held bool, change func(*tx, *QueuedRcpt, *laneState) error) error {
	lane, err := t.lane(Lane{q.Domain, held})
	if err == nil {
		err = change(t, q, lane)
	}
	if err == nil {
		err = t.changeLane(lane.Lane, 0, 0)
	}
	if err != nil && err != errUnchanged {
		return fmt.Errorf("recipient %v: %w", q.ID, err)
	}
	return err
}

// OutgoingCounts is how much waits.
type OutgoingCounts struct {
	Waiting int // to be delivered
	Held    int // for a certificate
	OnHold  int // for the operator
	Domains int
	// Unreached is how many of the domains were not reached the last time.
	Unreached int
	Oldest    time.Time // when the oldest came; zero: there is none
}

// CountOutgoing returns how much waits; it reads one row for each domain.
func (s *Store) CountOutgoing(ctx context.Context) (OutgoingCounts, error) {
	var n OutgoingCounts
	err := s.read(ctx, func(c *session) error {
		err := c.get([]any{&n.Waiting, &n.Held, &n.OnHold, &n.Domains, &n.Unreached}, `SELECT
			COALESCE(SUM(CASE WHEN held = 0 THEN rcpts - on_hold ELSE 0 END), 0),
			COALESCE(SUM(CASE WHEN held = 1 THEN rcpts - on_hold ELSE 0 END), 0),
			COALESCE(SUM(on_hold), 0), COUNT(*), COALESCE(SUM(CASE WHEN failures > 0 THEN 1 ELSE 0 END), 0)
			FROM outgoing_lanes`)
		if err != nil {
			return err
		}
		var created int64
		err = c.get([]any{&created}, `SELECT created FROM outgoing ORDER BY id LIMIT 1`)
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		n.Oldest = fromMicros(created)
		return err
	})
	if err != nil {
		return n, fmt.Errorf("count outgoing: %w", err)
	}
	return n, nil
}
