package cluster

import (
	"bytes"
	"sync"
	"time"
)

const (
	// maxValues bounds all values together. What this driver caches is small and
	// lies in the store of the same machine too.
	maxValues = 8 << 20
	// valueOverhead is what an entry takes besides its key and value, about.
	valueOverhead = 128
)

// values are the cached values of one process.
type values struct {
	now  func() time.Time
	max  int // octets, with keys and overhead
	held *holdOff

	mu    sync.Mutex
	size  int
	byKey map[string]value
}

type value struct {
	data  []byte
	until time.Time
}

func (v *values) get(key string) ([]byte, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, ok := v.byKey[key]
	if !ok {
		return nil, false
	}
	if !v.now().Before(e.until) {
		v.drop(key)
		return nil, false
	}
	return bytes.Clone(e.data), true
}

func (v *values) set(key string, data []byte, ttl time.Duration) {
	if ttl <= 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.held.holds(key) { // under the lock, or an invalidation could come between
		return
	}
	v.drop(key)
	if len(data) > MaxValue {
		return
	}
	v.size += entrySize(key, data)
	// Never nil, so that an empty value is told from none.
	v.byKey[key] = value{data: append([]byte{}, data...), until: v.now().Add(min(ttl, MaxTTL))}
	v.makeRoom()
}

func (v *values) invalidate(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.held.add(key)
	v.drop(key)
}

func (v *values) drop(key string) {
	if e, ok := v.byKey[key]; ok {
		v.size -= entrySize(key, e.data)
		delete(v.byKey, key)
	}
}

// makeRoom keeps the sum below its bound: first by dropping what has expired, then by
// dropping an eighth as the map yields it.
func (v *values) makeRoom() {
	if v.size <= v.max {
		return
	}
	now := v.now()
	for key, e := range v.byKey {
		if !now.Before(e.until) {
			v.drop(key)
		}
	}
	for key := range v.byKey {
		if v.size <= v.max-v.max/8 {
			return
		}
		v.drop(key)
	}
}

func entrySize(key string, data []byte) int { return len(key) + len(data) + valueOverhead }
