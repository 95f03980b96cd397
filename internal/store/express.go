package store

import (
	"context"
	"fmt"
	"time"

	"postern/internal/mail"
)

// Express says who takes recipients in hand in the moment in which they come into the
// queue, so that nobody has to claim them.
type Express struct {
	Owner string    // as of a Claim
	Until time.Time // when the lease ends, should it not be renewed
	// Lanes are those of which one group each is wanted; one may be there several times.
	Lanes []Lane
}

// CommitExpress is Commit, and claims at once what of the batch's Outgoing is wanted: what
// is left is due, and waits for a claim. Of a domain that was not reached the last time it
// takes nothing.
func (s *Store) CommitExpress(ctx context.Context, b Batch, x Express) ([]Placed, []Group, error) {
	p, err := planCommit(b)
	if err != nil {
		return nil, nil, fmt.Errorf("commit: %w", err)
	}
	var placed []Placed
	var groups []Group
	err = s.write(ctx, func(t *tx) error {
		e := express{Express: x, left: map[Lane]int{}}
		for _, l := range x.Lanes {
			e.left[l]++
		}
		var err error
		placed, err = t.commit(p, &e)
		groups = e.groups
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("commit: %w", err)
	}
	return placed, groups, nil
}

// express is an Express within a transaction.
type express struct {
	Express
	left   map[Lane]int // groups that are still wanted
	groups []Group
}

// take adds a recipient that comes into the queue to a group, if it is wanted, and
// returns the group's claim; 0 if it waits. The groups of the copy begin at index first.
func (e *express) take(t *tx, o *Outgoing, r *OutgoingRcpt, first int) (ID, error) {
	l := Lane{Domain: r.Domain}
	if o.Level == mail.Held {
		return 0, nil
	}
	g := e.group(l, first)
	if g == nil {
		lane, err := t.lane(l)
		if err != nil || e.left[l] == 0 || lane.failures > 0 {
			return 0, err
		}
		e.left[l]--
		e.groups = append(e.groups, Group{ID: t.store.NewID(), Lane: l, Copy: t.claimed(o)})
		g = &e.groups[len(e.groups)-1]
		if len(e.groups)-1 > first {
			g.Copy = e.groups[first].Copy
		}
	}
	if len(g.Rcpts) == MaxGroup {
		return 0, nil
	}
	g.Rcpts = append(g.Rcpts, QueuedRcpt{
		OutgoingRcpt: *r, Copy: o.ID, Since: g.Copy.Created, Due: e.Until, Owner: e.Owner, Lease: e.Until,
	})
	return g.ID, nil
}

// group finds the group of a lane among those of the copy in hand.
func (e *express) group(l Lane, first int) *Group {
	for i := first; i < len(e.groups); i++ {
		if e.groups[i].Lane == l {
			return &e.groups[i]
		}
	}
	return nil
}

// claimed is a copy as a claim gives it.
func (t *tx) claimed(o *Outgoing) *Outgoing {
	c := *o
	c.Rcpts, c.Protection = nil, mail.Protection{}
	c.Created = fromMicros(t.internalDate(o.Created))
	return &c
}
