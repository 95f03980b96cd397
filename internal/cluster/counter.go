package cluster

import (
	"sync"
	"time"
)

// maxCounters bounds the keys that are counted at once, so that somebody with many
// addresses cannot fill the memory: about 200 octets each, 13 MB in all.
const maxCounters = 1 << 16

// counters are the rate counters by key.
type counters struct {
	now func() time.Time
	max int

	mu    sync.Mutex
	byKey map[string]*counter
}

// counter is one key's count in the fixed window that runs now and in the one
// before it.
type counter struct {
	start  time.Time // of the window that runs
	window time.Duration
	count  int
	before int
}

func (c *counters) take(key string, limit int, window time.Duration) bool {
	if limit <= 0 || window <= 0 {
		return true
	}
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.byKey[key]
	if k == nil {
		c.makeRoom(now)
		k = &counter{start: now, window: window}
		c.byKey[key] = k
	}
	k.advance(now, window)
	if k.used(now) >= float64(limit) {
		return false
	}
	k.count++
	return true
}

// giveBack takes a use back that was counted a moment ago.
func (c *counters) giveBack(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.byKey[key]; k != nil && k.count > 0 {
		k.count--
	}
}

// makeRoom keeps the map below its bound: first by dropping what counts nothing any
// more, and if that frees nothing then by dropping an eighth of the keys as the map
// yields them. Whoever is dropped is counted from nothing, which the package allows.
func (c *counters) makeRoom(now time.Time) {
	if len(c.byKey) < c.max {
		return
	}
	for key, k := range c.byKey {
		if k.stale(now) {
			delete(c.byKey, key)
		}
	}
	drop := len(c.byKey) - c.max + c.max/8 + 1
	for key := range c.byKey {
		if drop <= 0 {
			return
		}
		delete(c.byKey, key)
		drop--
	}
}

// advance moves the fixed window to the one that holds now. A window of another
// length, or a clock that went back, starts the count again.
func (k *counter) advance(now time.Time, window time.Duration) {
	passed := now.Sub(k.start)
	switch {
	case k.window != window || passed < 0 || passed >= 2*window:
		*k = counter{start: now, window: window}
	case passed >= window:
		k.before, k.count = k.count, 0
		k.start = k.start.Add(window)
	}
}

// used estimates the uses within the last window's length.
func (k *counter) used(now time.Time) float64 {
	rest := 1 - float64(now.Sub(k.start))/float64(k.window)
	return float64(k.count) + float64(k.before)*rest
}

func (k *counter) stale(now time.Time) bool {
	passed := now.Sub(k.start)
	return passed < 0 || passed >= 2*k.window
}
