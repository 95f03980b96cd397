package queue

import (
	"time"

	"postern/internal/store"
)

// A delivery that takes longer than slowAfter gives up its place among the Workers: a next
// hop can hang for an hour, and a few that do must not keep everybody's mail waiting. With
// those there are at most mostInHand times Workers.
const (
	slowAfter  = 10 * time.Second
	mostInHand = 5
)

// giveWay lets somebody else have the worker's place after a while. The function returned
// is called at the end, with the lock held.
func (q *Queue) giveWay(l store.Lane) (end func()) {
	if l.Domain == "" { // overdue ones are of no lane, and have no place
		return func() {}
	}
	ended, slow := false, 0
	timer := time.AfterFunc(q.slowAfter, func() {
		q.mu.Lock()
		if !ended {
			slow = 1
			q.slow++
		}
		q.mu.Unlock()
		q.free()
	})
	return func() {
		timer.Stop()
		ended = true
		q.slow -= slow
	}
}

// places is how many more groups may be in hand. It is called with the lock held.
func (q *Queue) places() int {
	return max(min(q.Workers-q.total+q.slow, mostInHand*q.Workers-q.total), 0)
}
