package cluster

import (
	"context"
	"sync"
	"time"
)

// maxLeases bounds the leases of one process. One more is granted and not kept:
// somebody then does what another does too.
const maxLeases = 1 << 16

// leases are the leases of one process by key.
type leases struct {
	now func() time.Time
	max int

	mu    sync.Mutex
	byKey map[string]*lease
}

type lease struct {
	until time.Time
	ended chan struct{} // closed when it was given back or taken over
}

func leaseTTL(ttl time.Duration) time.Duration {
	if ttl <= 0 || ttl > MaxLease {
		return MaxLease
	}
	return ttl
}

func (l *leases) take(key string, ttl time.Duration) (release func(), ok bool) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if held := l.byKey[key]; held != nil {
		if now.Before(held.until) {
			return func() {}, false
		}
		l.end(key, held)
	}
	l.makeRoom(now)
	if len(l.byKey) >= l.max {
		return func() {}, true
	}
	mine := &lease{until: now.Add(leaseTTL(ttl)), ended: make(chan struct{})}
	l.byKey[key] = mine
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.end(key, mine)
	}, true
}

// end ends a lease unless it has ended: another may hold the key by now.
func (l *leases) end(key string, which *lease) {
	if l.byKey[key] == which {
		delete(l.byKey, key)
		close(which.ended)
	}
}

func (l *leases) makeRoom(now time.Time) {
	if len(l.byKey) < l.max {
		return
	}
	for key, held := range l.byKey {
		if !now.Before(held.until) {
			l.end(key, held)
		}
	}
}

func (l *leases) wait(ctx context.Context, key string) bool {
	l.mu.Lock()
	held := l.byKey[key]
	l.mu.Unlock()
	if held == nil {
		return true
	}
	expires := time.NewTimer(held.until.Sub(l.now()))
	defer expires.Stop()
	select {
	case <-held.ended:
		return true
	case <-expires.C:
		return true
	case <-ctx.Done():
		return false
	}
}
