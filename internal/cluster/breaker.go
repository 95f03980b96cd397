package cluster

import (
	"sync"
	"sync/atomic"
)

const (
	// breakAt opens the breaker: after so many failures on end, or when about every
	// fourth call fails.
	breakAt = 3
	// successKeeps is the part of the score that a success leaves.
	successKeeps = 0.9
)

// breaker says whether Redis is worth a try. It opens by failures, and is closed from
// outside only: by what found that Redis answers again.
type breaker struct {
	open atomic.Bool

	mu    sync.Mutex
	score float64
}

func (b *breaker) success() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.score *= successKeeps
}

// failure counts one and reports whether it opened the breaker.
func (b *breaker) failure() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.score++
	if b.score < breakAt {
		return false
	}
	return b.open.CompareAndSwap(false, true)
}

// trip opens the breaker and reports whether it was closed.
func (b *breaker) trip() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open.CompareAndSwap(false, true)
}

// reset closes the breaker. It takes fewer failures to open again, for a while.
func (b *breaker) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.score = breakAt - 2
	b.open.Store(false)
}
