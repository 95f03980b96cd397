package queue

import (
	"context"

	"postern/internal/store"
)

// Express has what a message puts into the queue taken in hand while it is committed, so
// that it is carried without being claimed: commit is called once, with who takes one
// group of each lane that there is room for, and returns what was taken. Everything else
// waits for a claim, and so does all of it while the queue does not run, and behind what
// waits for room already.
func (q *Queue) Express(lanes []store.Lane, commit func(store.Express) ([]store.Group, error)) error {
	x, work, end := q.reserve(lanes)
	defer end()
	groups, err := commit(x)
	for _, g := range groups {
		q.start(work, g, x.Until, q.attempt)
	}
	return err
}

// reserve keeps room for groups of lanes, and the queue from ending, until end is called.
func (q *Queue) reserve(lanes []store.Lane) (x store.Express, work context.Context, end func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.work == nil {
		return x, nil, func() {}
	}
	x.Owner, x.Until = q.Owner, q.Now().Add(leaseTime)
	for _, l := range lanes {
		switch {
		case q.crowded || q.behind[l]:
		case q.places() == 0:
			q.short, q.crowded = true, true
		case q.busy[l] >= q.PerDomain:
			q.short, q.behind[l] = true, true
		default:
			q.hold(l, 1)
			x.Lanes = append(x.Lanes, l)
		}
	}
	q.workers.Add(1)
	return x, q.work, func() {
		q.mu.Lock()
		for _, l := range x.Lanes {
			q.hold(l, -1)
		}
		short := q.short
		q.mu.Unlock()
		if short {
			q.free()
		}
		q.workers.Done()
	}
}
