package cluster

import (
	"context"
	"time"
)

// Memory is the Cluster of a single process.
type Memory struct {
	topics    topics
	counters  counters
	values    values
	leases    leases
	listeners listeners
}

var _ Cluster = (*Memory)(nil)

// NewMemory returns an empty one. A nil now means time.Now.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{
		topics:   newTopics(),
		counters: counters{now: now, byKey: make(map[string]*counter), max: maxCounters},
		values:   values{now: now, byKey: make(map[string]value), max: maxValues, held: newHoldOff(now, HoldOff)},
		leases:   leases{now: now, byKey: make(map[string]*lease), max: maxLeases},
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

// Get implements Cluster.
func (m *Memory) Get(ctx context.Context, key string) ([]byte, bool) {
	if ctx.Err() != nil {
		return nil, false
	}
	return m.values.get(key)
}

// Set implements Cluster. All values together have a bound of 8 MiB, above which
// some are dropped.
func (m *Memory) Set(_ context.Context, key string, value []byte, ttl time.Duration) {
	m.values.set(key, value, ttl)
}

// Invalidate implements Cluster.
func (m *Memory) Invalidate(_ context.Context, key string) {
	m.values.invalidate(key)
	m.listeners.tell(key)
}

// OnInvalidate implements Cluster.
func (m *Memory) OnInvalidate(told func(key string)) (end func()) { return m.listeners.add(told) }

// Connected implements Cluster: there is nobody who could not be heard.
func (m *Memory) Connected() bool { return true }

// Lease implements Cluster.
func (m *Memory) Lease(_ context.Context, key string, ttl time.Duration) (release func(), ok bool) {
	return m.leases.take(key, ttl)
}

// Wait implements Cluster.
func (m *Memory) Wait(ctx context.Context, key string) bool { return m.leases.wait(ctx, key) }

// Close implements Cluster. It does nothing.
func (m *Memory) Close() error { return nil }
