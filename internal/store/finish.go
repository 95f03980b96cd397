package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Outcome is what became of a recipient that was claimed.
type Outcome struct {
	Rcpt, Claim ID
	// Done takes the recipient out of the queue: delivered, or its sender knows.
	Done bool
	// Otherwise it waits until Due, unless the operator holds it or there is a verdict:
	// then it waits for its Deadline.
	Due     time.Time
	Verdict Verdict
	// Attempted counts an attempt, and Reply is what it met with.
	Attempted bool
	Reply     Reply
	// Delayed says that the sender was told that it is late.
	Delayed bool
	// Deadline is when the sender is to hear of it next; zero leaves it as it is.
	Deadline time.Time
}

// LaneOutcome is whether a domain was reached.
type LaneOutcome struct {
	Lane
	Failures int       // in a row; 0: it was reached
	Until    time.Time // before which nothing of it is due
	Reason   string
}

// Finish is what became of claims.
type Finish struct {
	Outcomes []Outcome
	Lanes    []LaneOutcome
	Audit    []Audit
}

// FinishOutgoing records what became of recipients, all of it or nothing. What is done
// is done, whoever has the recipient in hand now; everything else is only recorded by
// the claim that still has it. It returns how many were lost to another claim, or are
// gone.
func (s *Store) FinishOutgoing(ctx context.Context, f Finish) (lost int, err error) {
	err = s.write(ctx, func(t *tx) error {
		var err error
		lost, err = t.finish(f)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("finish outgoing: %w", err)
	}
	return lost, nil
}

func (t *tx) finish(f Finish) (lost int, err error) {
	var done []ID
	for i := range f.Outcomes {
		o := &f.Outcomes[i]
		if o.Done {
			done = append(done, o.Rcpt)
			continue
		}
		kept, err := t.giveBack(o)
		if err != nil {
			return 0, fmt.Errorf("recipient %v: %w", o.Rcpt, err)
		}
		if !kept {
			lost++
		}
	}
	found, err := t.dropRcpts(done)
	if err != nil {
		return 0, err
	}
	for _, l := range f.Lanes {
		lane, err := t.lane(l.Lane)
		if err != nil {
			return 0, err
		}
		if lane.rcpts > 0 && (lane.failures > 0 || l.Failures > 0) {
			lane.failures, lane.backoff, lane.reason = l.Failures, micros(l.Until), l.Reason
			lane.dirty, t.wrote = true, true
		}
	}
	return lost + len(done) - found, t.insertAudit(f.Audit)
}

const giveBack = `UPDATE outgoing_rcpts SET claim = 0, owner = '', lease = 0,
	due = CASE WHEN on_hold + verdict > 0 THEN due ELSE $3 END, delayed = CASE WHEN $4 = 1 THEN 1 ELSE delayed END,
	deadline = CASE WHEN $5 > 0 THEN $5 ELSE deadline END, verdict = CASE WHEN $6 > 0 THEN $6 ELSE verdict END
	WHERE id = $1 AND claim = $2 RETURNING domain, held`

const recordAttempt = `UPDATE outgoing_rcpts SET attempts = attempts + 1, tried = $2, reply_code = $3, enhanced = $4,
	reply = $5, host = $6 WHERE id = $1`

// giveBack ends a claim; false: somebody else has the recipient by now.
func (t *tx) giveBack(o *Outcome) (bool, error) {
	var lane Lane
	before := t.wrote
	t.wrote = true
	due := micros(o.Due)
	if o.Verdict != Undecided {
		due = never
	}
	err := t.get([]any{&lane.Domain, &lane.Held}, giveBack, o.Rcpt, o.Claim, due, bit(o.Delayed), micros(o.Deadline), uint8(o.Verdict))
	if errors.Is(err, ErrNotFound) {
		t.wrote = before
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if o.Attempted {
		r := o.Reply
		if _, err := t.exec(recordAttempt, o.Rcpt, micros(t.now), r.Code, r.Enhanced, r.Text, r.Host); err != nil {
			return false, err
		}
	}
	return true, t.changeLane(lane, 0, 0)
}

// RenewOutgoing lets claims go on until a time, and returns the recipients that were
// lost: another has claimed them, or they are gone.
func (s *Store) RenewOutgoing(ctx context.Context, groups []Group, until time.Time) (lost []ID, err error) {
	err = s.write(ctx, func(t *tx) error {
		lost = nil
		for _, g := range groups {
			for _, q := range g.Rcpts {
				ok, err := t.renew(g.ID, q.ID, until)
				if err != nil {
					return fmt.Errorf("recipient %v: %w", q.ID, err)
				}
				if !ok {
					lost = append(lost, q.ID)
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("renew claims: %w", err)
	}
	return lost, nil
}

func (t *tx) renew(claim, rcpt ID, until time.Time) (bool, error) {
	var lane Lane
	before := t.wrote
	t.wrote = true
	err := t.get([]any{&lane.Domain, &lane.Held}, `UPDATE outgoing_rcpts SET lease = $3,
		due = CASE WHEN on_hold + verdict > 0 THEN due ELSE $3 END WHERE id = $1 AND claim = $2
		RETURNING domain, held`, rcpt, claim, micros(until))
	if errors.Is(err, ErrNotFound) {
		t.wrote = before
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, t.changeLane(lane, 0, 0)
}

// TakeBackOutgoing ends the claims of an owner that is no more, such as this process
// before it was started again, and makes them due now. It returns how many there were.
func (s *Store) TakeBackOutgoing(ctx context.Context, owner string, now time.Time) (int, error) {
	total := 0
	for {
		n := 0
		err := s.write(ctx, func(t *tx) error {
			var err error
			n, err = t.takeBack(owner, now)
			return err
		})
		if err != nil {
			return total, fmt.Errorf("take back claims: %w", err)
		}
		if total += n; n < changeStep {
			return total, nil
		}
	}
}

func (t *tx) takeBack(owner string, now time.Time) (int, error) {
	var rows []Outcome
	err := t.each(func(r scanner) error {
		o := Outcome{Due: now}
		err := r.Scan(&o.Rcpt, &o.Claim)
		rows = append(rows, o)
		return err
	}, `SELECT id, claim FROM outgoing_rcpts WHERE lease > 0 AND owner = $1 LIMIT $2`, owner, changeStep)
	for i := 0; err == nil && i < len(rows); i++ {
		_, err = t.giveBack(&rows[i])
	}
	return len(rows), err
}
