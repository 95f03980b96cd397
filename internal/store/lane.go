package store

import (
	"errors"
	"fmt"
)

// laneState is a lane within a transaction. Like the counters of mailboxes it is read
// once and written by flush, once for the whole group.
type laneState struct {
	Lane
	known         bool // it has a row
	dirty         bool
	rcpts, onHold int
	failures      int
	backoff       int64
	reason        string
}

// lane returns a lane of the transaction; one that has no row is empty.
func (t *tx) lane(l Lane) (*laneState, error) {
	if s, ok := t.lanes[l]; ok {
		return s, nil
	}
	s := &laneState{Lane: l, known: true}
	err := t.get([]any{&s.rcpts, &s.onHold, &s.failures, &s.backoff, &s.reason},
		`SELECT rcpts, on_hold, failures, backoff, reason FROM outgoing_lanes WHERE domain = $1 AND held = $2`,
		l.Domain, bit(l.Held))
	if errors.Is(err, ErrNotFound) {
		s.known, err = false, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read lane: %w", err)
	}
	t.lanes[l] = s
	return s, nil
}

// changeLane counts recipients that came (or went), of which some are on hold, and has
// the due time computed anew.
func (t *tx) changeLane(l Lane, rcpts, onHold int) error {
	s, err := t.lane(l)
	if err != nil {
		return err
	}
	s.rcpts += rcpts
	s.onHold += onHold
	s.dirty, t.wrote = true, true
	return nil
}

// flushLanes writes the lanes that changed.
func (t *tx) flushLanes() error {
	for _, s := range t.lanes {
		if !s.dirty {
			continue
		}
		if err := t.flushLane(s); err != nil {
			return fmt.Errorf("update lane: %w", err)
		}
		s.dirty = false
	}
	return nil
}

func (t *tx) flushLane(s *laneState) error {
	if s.rcpts == 0 {
		// With the last recipient the memory of the domain goes, too.
		known := s.known
		*s = laneState{Lane: s.Lane}
		if !known {
			return nil
		}
		return t.must(`DELETE FROM outgoing_lanes WHERE domain = $1 AND held = $2`, s.Domain, bit(s.Held))
	}
	var due int64
	err := t.get([]any{&due}, `SELECT MIN(due) FROM outgoing_rcpts WHERE domain = $1 AND held = $2`, s.Domain, bit(s.Held))
	if err != nil {
		return err
	}
	query := `UPDATE outgoing_lanes SET due = $3, rcpts = $4, on_hold = $5, failures = $6, backoff = $7, reason = $8
		WHERE domain = $1 AND held = $2`
	if !s.known {
		query = `INSERT INTO outgoing_lanes (domain, held, due, rcpts, on_hold, failures, backoff, reason)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
	}
	s.known = true
	return t.must(query, s.Domain, bit(s.Held), max(due, s.backoff), s.rcpts, s.onHold, s.failures, s.backoff, s.reason)
}
