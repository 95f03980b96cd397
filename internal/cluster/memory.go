package cluster

import (
	"sync"
	"time"
)

// Memory is the Cluster of a single process.
type Memory struct {
	topics   topics
	counters counters
}

var _ Cluster = (*Memory)(nil)

// NewMemory returns an empty one. A nil now means time.Now.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{
		topics:   topics{byName: make(map[string]map[*watch]struct{})},
		counters: counters{now: now, byKey: make(map[string]*counter), max: maxCounters},
	}
}

// Wake implements Cluster. Its cost grows with the watchers of this topic only.
func (m *Memory) Wake(topic string) { m.topics.wake(topic) }

// WakeAll implements Cluster.
func (m *Memory) WakeAll() { m.topics.wakeAll() }

// Watch implements Cluster.
func (m *Memory) Watch(topic string) (<-chan struct{}, func()) { return m.topics.watch(topic) }

// Take implements Cluster by a sliding window: the count of the last fixed window
// is weighed by the part of it that the sliding one still covers.
func (m *Memory) Take(key string, limit int, window time.Duration) bool {
	return m.counters.take(key, limit, window)
}

// topics is who watches what. Readers of the map do not exclude each other, so
// that many deliveries wake many sessions at once.
type topics struct {
	mu     sync.RWMutex
	byName map[string]map[*watch]struct{}
}

type watch struct{ c chan struct{} }

// poke leaves a wake-up, or lets the one that is already there stand for both.
func (w *watch) poke() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}

func (t *topics) wake(topic string) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for w := range t.byName[topic] {
		w.poke()
	}
}

func (t *topics) wakeAll() {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, watches := range t.byName {
		for w := range watches {
			w.poke()
		}
	}
}

func (t *topics) watch(topic string) (<-chan struct{}, func()) {
	w := &watch{c: make(chan struct{}, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byName[topic] == nil {
		t.byName[topic] = make(map[*watch]struct{})
	}
	t.byName[topic][w] = struct{}{}
	return w.c, func() { t.end(topic, w) }
}

func (t *topics) end(topic string, w *watch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byName[topic], w)
	if len(t.byName[topic]) == 0 {
		delete(t.byName, topic)
	}
}
