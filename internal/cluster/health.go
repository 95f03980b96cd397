package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"postern/internal/telemetry"
)

// era tells one run of Redis from another. Each process of Redis has a random id; an
// era is those of all masters. When a connection leads to a process that does not
// belong to it, the era has ended, and there is none until watch has looked.
type era struct {
	ids  atomic.Pointer[string] // sorted, a blank between them; nil for none
	mute atomic.Bool            // there is none because Redis does not tell

	mu        sync.Mutex
	strangers []string // ids that were met since the last begin and did not belong
}

// maxStrangers is how many are kept; one is enough to know that much is going on.
const maxStrangers = 64

func (e *era) current() string {
	if ids := e.ids.Load(); ids != nil {
		return *ids
	}
	return ""
}

// met takes note that a process was met, and reports whether that ended the era.
func (e *era) met(id string) (ended bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ids := e.current()
	if slices.Contains(strings.Fields(ids), id) {
		return false
	}
	e.ids.Store(nil)
	if len(e.strangers) < maxStrangers {
		e.strangers = append(e.strangers, id)
	}
	return ids != ""
}

// begin sets the ids of the era. It fails if one was met that is not among them: they
// were asked for before the process behind it began.
func (e *era) begin(ids []string) bool {
	slices.Sort(ids)
	e.mu.Lock()
	defer e.mu.Unlock()
	strange := slices.ContainsFunc(e.strangers, func(id string) bool { return id != "" && !slices.Contains(ids, id) })
	e.strangers = e.strangers[:0]
	all := strings.Join(ids, " ")
	e.mute.Store(all == "")
	switch {
	case strange || all == "":
		e.ids.Store(nil)
	case all != e.current():
		e.ids.Store(&all)
	}
	return !strange
}

// runID returns the id of a server's process, or "" if it does not tell.
func runID(ctx context.Context, server redis.Cmdable) (string, error) {
	info, err := server.Info(ctx, "server").Result()
	var reply redis.Error
	if errors.As(err, &reply) && !saysDown(err) {
		return "", nil // not permitted
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(info) {
		if id, ok := strings.CutPrefix(line, "run_id:"); ok {
			return strings.TrimSpace(id), nil
		}
	}
	return "", nil
}

// connected sees every new connection before its first command does. A replica, which
// a client of a Redis Cluster asks for the others, belongs to no era: it holds nothing
// that is read. Once it is a master, the next look at all of them tells.
func (r *Redis) connected(ctx context.Context, conn *redis.Conn) error {
	id, err := runID(ctx, conn)
	if err != nil {
		return err
	}
	if r.o.Redis.Topology == Sharded {
		role, err := conn.Info(ctx, "replication").Result()
		if err != nil || strings.Contains(role, "role:slave") {
			return err
		}
	}
	if r.era.met(id) {
		r.lookNow()
	}
	return nil
}

func (r *Redis) lookNow() {
	select {
	case r.look <- struct{}{}:
	default:
	}
}

// watch looks after Redis until ctx ends: now and then while it is up, more and more
// rarely while it is down.
func (r *Redis) watch(ctx context.Context) {
	again := r.limits.again
	for {
		delay := r.limits.check
		if r.breaker.open.Load() {
			delay = again
		}
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.look:
			timer.Stop()
			if r.breaker.open.Load() && again == r.limits.again {
				continue // it has just gone down: give it the time
			}
		case <-timer.C:
		}
		r.check(ctx)
		if r.breaker.open.Load() {
			again = min(2*again, r.limits.rarely)
		} else {
			again = r.limits.again
		}
	}
}

// check looks at Redis once. It is up if it can be written and answers in the time
// that a call has.
func (r *Redis) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.limits.dial+r.limits.io)
	defer cancel()
	if r.sentinels != nil {
		_ = r.sentinels.check(ctx) // the master can be up while they are down
	}
	took, err := r.probe(ctx)
	switch {
	case err != nil:
		if errors.Is(ctx.Err(), context.Canceled) {
			return // it is we who end
		}
		r.o.Metrics.ClusterError(telemetry.ClusterCheck)
		if r.breaker.trip() {
			r.down(err)
		}
	case took <= r.limits.call && r.breaker.open.Load():
		r.up()
	}
	r.o.Metrics.ClusterUp(!r.breaker.open.Load())
}

// probe asks for the ids of all masters, tries whether Redis can be written, and lets
// this node hear itself. It returns how long the write took.
func (r *Redis) probe(ctx context.Context) (took time.Duration, err error) {
	var mu sync.Mutex
	var ids []string
	err = masters(ctx, r.client, func(ctx context.Context, server redis.Cmdable) error {
		id, err := runID(ctx, server)
		mu.Lock()
		defer mu.Unlock()
		if id != "" {
			ids = append(ids, id)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	if !r.era.begin(ids) {
		r.lookNow()
	}
	start := time.Now()
	// Deleting needs no memory, so it is refused only where all writes are.
	if err := r.client.Del(ctx, r.names.probe()).Err(); err != nil {
		return 0, err
	}
	took = time.Since(start)
	return took, r.client.Publish(ctx, r.names.channel(), notice{from: r.node, kind: noticeBeat}.encode()).Err()
}

// down is told that the breaker has opened.
func (r *Redis) down(err error) {
	r.o.Metrics.ClusterUp(false)
	r.o.Log.Warn("redis is down", telemetry.KeyPart, "cluster", telemetry.KeyError, err.Error())
	r.lookNow()
}

// up closes the breaker. Another node may not have been able to tell of an invalidation
// while Redis was down, and may learn later than this one that it is up.
func (r *Redis) up() {
	if !r.starting.Load() {
		r.held.addAll()
		r.listeners.tell("")
	}
	r.breaker.reset()
	if r.era.mute.Load() {
		r.o.Log.Warn("redis does not tell its run_id, so nothing is cached", telemetry.KeyPart, "cluster")
	}
	r.o.Log.Info("redis is up", telemetry.KeyPart, "cluster")
	r.outbox.poke()
}
