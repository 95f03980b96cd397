package cluster

import (
	"sync"
	"time"
)

// maxHeld bounds the keys that are held off at once. More than that within HoldOff,
// and everything is.
const maxHeld = 1 << 13

// holdOff knows the keys that were invalidated within the last HoldOff.
type holdOff struct {
	now  func() time.Time
	hold time.Duration
	max  int

	mu    sync.RWMutex
	until map[string]time.Time
	all   time.Time // until when every key is held off
}

func newHoldOff(now func() time.Time, hold time.Duration) *holdOff {
	return &holdOff{now: now, hold: hold, max: maxHeld, until: make(map[string]time.Time)}
}

func (h *holdOff) add(key string) {
	now := h.now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.until) >= h.max {
		for k, t := range h.until {
			if !now.Before(t) {
				delete(h.until, k)
			}
		}
	}
	if len(h.until) >= h.max {
		h.all = now.Add(h.hold)
		clear(h.until)
		return
	}
	h.until[key] = now.Add(h.hold)
}

func (h *holdOff) addAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = h.now().Add(h.hold)
	clear(h.until)
}

func (h *holdOff) holds(key string) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if len(h.until) == 0 && h.all.IsZero() {
		return false
	}
	now := h.now()
	return now.Before(h.all) || now.Before(h.until[key])
}
