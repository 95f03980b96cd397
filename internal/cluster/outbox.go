package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"postern/internal/telemetry"
)

const (
	// maxOwed bounds the invalidations that wait for Redis. With more, all that is
	// cached is thrown away.
	maxOwed = 1 << 13
	// maxTopics bounds the topics that wait. With more, all are meant.
	maxTopics = 1 << 12
	// scanBatch is how many keys a pass over all of them sees at a time.
	scanBatch = 1000
)

// outbox is what the other nodes are still to be told.
type outbox struct {
	wakes chan struct{} // capacity one: there is something

	mu       sync.Mutex
	all      bool // all topics
	topics   map[string]struct{}
	owedAll  uint64            // when it was asked to invalidate every value; 0 for never
	owed     map[string]uint64 // keys to be invalidated, and when that was last asked
	sequence uint64
}

func newOutbox() *outbox {
	return &outbox{wakes: make(chan struct{}, 1), topics: make(map[string]struct{}), owed: make(map[string]uint64)}
}

func (b *outbox) poke() {
	select {
	case b.wakes <- struct{}{}:
	default:
	}
}

func (b *outbox) wake(topic string) {
	b.mu.Lock()
	switch {
	case b.all:
	case len(topic) > maxName || len(b.topics) >= maxTopics:
		b.all = true
		clear(b.topics)
	default:
		b.topics[topic] = struct{}{}
	}
	b.mu.Unlock()
	b.poke()
}

func (b *outbox) wakeAll() {
	b.mu.Lock()
	b.all = true
	clear(b.topics)
	b.mu.Unlock()
	b.poke()
}

// takeTopics returns what fits into one notice, and whether there is anything.
func (b *outbox) takeTopics() (topics []string, all, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.all {
		b.all = false
		return nil, true, true
	}
	room := maxNotice - noticeHead
	for topic := range b.topics {
		if room -= nameSize(topic); room < 0 {
			break
		}
		topics = append(topics, topic)
		delete(b.topics, topic)
	}
	return topics, false, len(topics) > 0
}

// forget owes an invalidation.
func (b *outbox) forget(key string) {
	b.mu.Lock()
	b.sequence++
	if len(b.owed) >= maxOwed {
		b.owedAll = b.sequence
		clear(b.owed)
	}
	b.owed[key] = b.sequence
	b.mu.Unlock()
	b.poke()
}

// owes reports whether an invalidation of key waits.
func (b *outbox) owes(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.owed[key]
	return ok || b.owedAll > 0
}

type debt struct {
	key      string
	sequence uint64
}

// debts returns what is owed; all is not 0 if that is everything.
func (b *outbox) debts() (debts []debt, all uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, sequence := range b.owed {
		debts = append(debts, debt{key, sequence})
	}
	return debts, b.owedAll
}

// paid crosses a debt out, unless it was made again since.
func (b *outbox) paid(d debt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.owed[d.key] == d.sequence {
		delete(b.owed, d.key)
	}
}

func (b *outbox) paidAll(sequence uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.owedAll == sequence {
		b.owedAll = 0
	}
}

// send empties the outbox until ctx ends, and once more then. What gathers while one
// notice is on its way goes with the next, so that many wake-ups cost few.
func (r *Redis) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.limits.dial)
			defer cancel()
			_ = r.flush(last)
			return
		case <-r.outbox.wakes:
		}
		if r.flush(ctx) == nil {
			continue
		}
		// up pokes too; this is for what fails while Redis is up.
		select {
		case <-ctx.Done():
		case <-time.After(r.limits.again):
			if !r.breaker.open.Load() {
				r.outbox.poke()
			}
		}
	}
}

// flush says all that there is to say. Invalidations go first.
func (r *Redis) flush(ctx context.Context) error {
	if r.breaker.open.Load() {
		return errDown
	}
	debts, all := r.outbox.debts()
	if all > 0 {
		if err := r.forgetAll(ctx); err != nil {
			return err
		}
		r.outbox.paidAll(all)
	}
	for _, d := range debts {
		if err := r.invalidate(ctx, d.key); err != nil {
			return err
		}
		r.outbox.paid(d)
	}
	for {
		topics, all, ok := r.outbox.takeTopics()
		if !ok {
			return nil
		}
		n := notice{from: r.node, kind: noticeWake, names: topics}
		if all {
			n.kind = noticeWakeAll
		}
		if err := r.publish(ctx, telemetry.ClusterWake, n); err != nil {
			r.unsent(n)
			return err
		}
	}
}

// unsent puts back what could not be said.
func (r *Redis) unsent(n notice) {
	if n.kind == noticeWakeAll {
		r.outbox.wakeAll()
	}
	for _, topic := range n.names {
		r.outbox.wake(topic)
	}
}

func (r *Redis) publish(ctx context.Context, op string, n notice) error {
	return r.call(ctx, op, func(ctx context.Context) error {
		return r.client.Publish(ctx, r.names.channel(), n.encode()).Err()
	})
}

// forgetAll tells the others to set nothing for a while, and then, when what they were
// about to set was set, takes every value out of Redis.
func (r *Redis) forgetAll(ctx context.Context) error {
	if err := r.publish(ctx, telemetry.ClusterInvalidate, notice{from: r.node, kind: noticeForgetAll}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(r.limits.call + r.limits.again):
	}
	if err := masters(ctx, r.client, r.deleteValues); err != nil {
		r.o.Metrics.ClusterError(telemetry.ClusterInvalidate)
		return fmt.Errorf("delete all values: %w", err)
	}
	return nil
}

func (r *Redis) deleteValues(ctx context.Context, server redis.Cmdable) error {
	keys := server.Scan(ctx, 0, r.names.prefix+":v:*", scanBatch).Iterator()
	for keys.Next(ctx) {
		if err := server.Del(ctx, keys.Val()).Err(); err != nil {
			return err
		}
	}
	return keys.Err()
}
