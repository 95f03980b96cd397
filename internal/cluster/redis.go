package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"postern/internal/telemetry"
)

// Redis is the Cluster of the nodes that use the same Redis. What of it concerns this
// node only is a Memory's, so that it works without Redis too.
type Redis struct {
	o         Options
	limits    limits
	client    redis.UniversalClient
	sentinels *sentinels // nil without
	scripts   scripts
	names     names
	node      [nodeSize]byte

	local     *Memory // watchers, counters and leases of this node; no values
	held      *holdOff
	listeners listeners
	waits     topics // who waits for leases of other nodes, by the leases' names
	breaker   breaker
	era       era
	outbox    *outbox

	subscribed atomic.Bool  // notices arrive
	starting   atomic.Bool  // openRedis has not returned
	lastBeat   atomic.Int64 // when this node heard itself, in Unix nanoseconds

	look   chan struct{} // makes watch look now; capacity one
	stop   context.CancelFunc
	ended  sync.WaitGroup
	closed sync.Once
}

var _ Cluster = (*Redis)(nil)

// leaseLook is how often those who wait look whether a lease is still held.
const leaseLook = 200 * time.Millisecond

var (
	// errDown is the outcome of calls while the breaker is open.
	errDown = errors.New("redis is down")
	// errEra is that of an invalidation in an era that ends.
	errEra = errors.New("redis has become another")
)

func openRedis(ctx context.Context, o Options, l limits) (*Redis, error) {
	if o.Redis.Prefix == "" {
		o.Redis.Prefix = "postern"
	}
	a, err := newAccess(o.Redis, l)
	if err != nil {
		return nil, err
	}
	r := &Redis{
		o: o, limits: l, scripts: newScripts(), names: names{o.Redis.Prefix, o.Secret},
		local: NewMemory(o.Now), held: newHoldOff(o.Now, l.hold), waits: newTopics(),
		outbox: newOutbox(), look: make(chan struct{}, 1),
	}
	rand.Read(r.node[:]) // never fails: it would end the process
	r.client, r.sentinels = a.connect(r.connected)
	r.starting.Store(true)
	defer r.starting.Store(false)
	r.breaker.trip()
	r.check(ctx)

	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	subscribed := make(chan struct{})
	r.ended.Go(func() { r.watch(running) })
	r.ended.Go(func() { r.listen(running, sync.OnceFunc(func() { close(subscribed) })) })
	r.ended.Go(func() { r.send(running) })
	if !r.breaker.open.Load() {
		r.await(ctx, subscribed)
	}
	return r, nil
}

// await waits for the first subscription, so that a Redis that is up is of use from
// the first call on.
func (r *Redis) await(ctx context.Context, subscribed <-chan struct{}) {
	enough := time.NewTimer(r.limits.dial)
	defer enough.Stop()
	select {
	case <-subscribed:
	case <-enough.C:
	case <-ctx.Done():
	}
}

// Close implements Cluster. What others are still to be told is tried once more.
func (r *Redis) Close() error {
	var err error
	r.closed.Do(func() {
		r.stop()
		r.ended.Wait()
		err = r.client.Close()
		if r.sentinels != nil {
			r.sentinels.close()
		}
	})
	return err
}

// call does one operation within its time, unless Redis is down, and counts how it
// went.
func (r *Redis) call(ctx context.Context, op string, do func(ctx context.Context) error) error {
	if r.breaker.open.Load() {
		return errDown
	}
	bounded, cancel := context.WithTimeout(ctx, r.limits.call)
	defer cancel()
	err := do(bounded)
	if err == nil {
		r.breaker.success()
		return nil
	}
	if ctx.Err() != nil { // the caller gave up, which says nothing of Redis
		return err
	}
	r.o.Metrics.ClusterError(op)
	if !saysDown(err) {
		r.breaker.success()
		return err
	}
	if r.breaker.failure() {
		r.down(err)
	}
	return err
}

// saysDown reports whether an error is one of Redis as a whole. Others are about what
// was asked: no memory to write it, rubbish in its place, not permitted.
func saysDown(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true // no reply
	}
	word, _, _ := strings.Cut(reply.Error(), " ")
	switch word {
	case "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK",
		"MISCONF", "NOREPLICAS", "BUSY", "NOAUTH", "WRONGPASS":
		return true
	}
	return false
}

// run runs a script of one key and returns its number.
func (r *Redis) run(ctx context.Context, s *redis.Script, key string, args ...any) (int64, error) {
	return s.Run(ctx, r.client, []string{key}, args...).Int64()
}

// Wake implements Cluster.
func (r *Redis) Wake(topic string) {
	r.local.Wake(topic)
	r.outbox.wake(topic)
}

// WakeAll implements Cluster.
func (r *Redis) WakeAll() {
	r.local.WakeAll()
	r.outbox.wakeAll()
}

// Watch implements Cluster.
func (r *Redis) Watch(topic string) (<-chan struct{}, func()) { return r.local.Watch(topic) }

// Take implements Cluster: by the counter of this node, and then by that of all.
func (r *Redis) Take(key string, limit int, window time.Duration) bool {
	if limit <= 0 || window <= 0 {
		return true
	}
	if !r.local.Take(key, limit, window) {
		return false
	}
	var granted int64
	err := r.call(context.Background(), telemetry.ClusterTake, func(ctx context.Context) (err error) {
		granted, err = r.run(ctx, r.scripts.take, r.names.rate(key), limit, max(window.Milliseconds(), 1))
		return err
	})
	if err != nil || granted > 0 {
		return true
	}
	r.local.counters.giveBack(key)
	return false
}

// Get implements Cluster. A value that was invalidated while it was on its way is
// none, and so is one of a Redis that is another by now.
func (r *Redis) Get(ctx context.Context, key string) ([]byte, bool) {
	era, ok := r.cacheable(key)
	if !ok || ctx.Err() != nil {
		return nil, false
	}
	name := r.names.value(era, key)
	var frame []byte
	err := r.call(ctx, telemetry.ClusterGet, func(ctx context.Context) (err error) {
		// Not GET: nobody knows how much lies there.
		frame, err = r.client.GetRange(ctx, name, 0, int64(frameSize+MaxValue)).Bytes()
		return err
	})
	if err != nil {
		return nil, false
	}
	if now, ok := r.cacheable(key); !ok || now != era {
		return nil, false
	}
	return r.names.open(name, frame)
}

// Set implements Cluster.
func (r *Redis) Set(ctx context.Context, key string, value []byte, ttl time.Duration) {
	era, ok := r.cacheable(key)
	if !ok || ttl <= 0 || ctx.Err() != nil {
		return
	}
	name := r.names.value(era, key)
	// What goes wrong was counted, and there is nothing else to do about it.
	_ = r.call(ctx, telemetry.ClusterSet, func(ctx context.Context) error {
		if len(value) > MaxValue {
			return r.client.Del(ctx, name).Err()
		}
		life := max(min(ttl, MaxTTL).Milliseconds(), 1)
		_, err := r.run(ctx, r.scripts.set, name, r.names.seal(name, value), life, heldMark)
		return err
	})
}

// cacheable reports whether the cache can be used for key now, and in which era. It
// cannot while this node does not hear of invalidations, or has not told of its own.
func (r *Redis) cacheable(key string) (era string, ok bool) {
	era = r.era.current()
	if era == "" || !r.Connected() || len(key) > maxName || r.held.holds(key) || r.outbox.owes(key) {
		return "", false
	}
	return era, true
}

// Invalidate implements Cluster. The values of another era than the present one can
// be read by nobody, so they need not be looked for.
func (r *Redis) Invalidate(ctx context.Context, key string) {
	r.held.add(key)
	r.listeners.tell(key)
	if ctx.Err() != nil || r.invalidate(ctx, key) != nil {
		r.outbox.forget(key)
	}
}

// invalidate takes a value out of Redis and tells the others.
func (r *Redis) invalidate(ctx context.Context, key string) error {
	told := notice{from: r.node, kind: noticeForget, names: []string{key}}
	if len(key) > maxName {
		told.kind, told.names = noticeForgetAll, nil
	}
	era := r.era.current()
	if era == "" {
		// Nobody knows now under which name the value lies, or will lie. If Redis
		// tells no era then nobody caches.
		err := r.publish(ctx, telemetry.ClusterInvalidate, told)
		if err == nil && !r.era.mute.Load() {
			return errEra
		}
		return err
	}
	err := r.call(ctx, telemetry.ClusterInvalidate, func(ctx context.Context) error {
		_, err := r.run(ctx, r.scripts.invalidate, r.names.value(era, key), heldMark, r.limits.hold.Milliseconds(), r.names.channel(), told.encode())
		return err
	})
	if err == nil && r.era.current() != era {
		return errEra
	}
	return err
}

// OnInvalidate implements Cluster.
func (r *Redis) OnInvalidate(told func(key string)) (end func()) { return r.listeners.add(told) }

// Connected implements Cluster.
func (r *Redis) Connected() bool { return r.subscribed.Load() && !r.breaker.open.Load() }

// Lease implements Cluster: by the leases of this node, and then by those of all.
func (r *Redis) Lease(ctx context.Context, key string, ttl time.Duration) (release func(), ok bool) {
	ttl = leaseTTL(ttl)
	giveBack, ok := r.local.Lease(ctx, key, ttl)
	if !ok {
		return giveBack, false
	}
	name, token := r.names.lease(key), newToken()
	granted := int64(1)
	err := r.call(ctx, telemetry.ClusterLease, func(ctx context.Context) (err error) {
		granted, err = r.run(ctx, r.scripts.lease, name, token, max(ttl.Milliseconds(), 1), MaxLease.Milliseconds())
		return err
	})
	if errors.Is(err, errDown) {
		return giveBack, true
	}
	if err == nil && granted == 0 {
		giveBack()
		return func() {}, false
	}
	// After an error it is given back too: Redis may have done what it did not say.
	return sync.OnceFunc(func() {
		r.release(name, token)
		giveBack()
	}), true
}

func (r *Redis) release(name, token string) {
	told := notice{from: r.node, kind: noticeReleased, names: []string{name}}
	// If it cannot be given back it expires.
	_ = r.call(context.Background(), telemetry.ClusterLease, func(ctx context.Context) error {
		_, err := r.run(ctx, r.scripts.release, name, token, r.names.channel(), told.encode())
		return err
	})
}

// Wait implements Cluster.
func (r *Redis) Wait(ctx context.Context, key string) bool {
	if !r.local.Wait(ctx, key) {
		return false
	}
	name := r.names.lease(key)
	released, end := r.waits.watch(name)
	defer end()
	for before := MaxLease; ; {
		left, err := r.leaseLeft(ctx, name)
		if err != nil {
			return false
		}
		if left <= 0 || left > before { // or somebody else has taken it since
			return true
		}
		before = left
		// The notice of its end can get lost.
		look := time.NewTimer(min(left+time.Millisecond, leaseLook))
		select {
		case <-released:
			look.Stop()
			return true
		case <-look.C:
		case <-ctx.Done():
			look.Stop()
			return false
		}
	}
}

// leaseLeft returns for how long a lease is still held; zero or less for not at all.
// One that never ends is none of ours.
func (r *Redis) leaseLeft(ctx context.Context, name string) (left time.Duration, err error) {
	err = r.call(ctx, telemetry.ClusterWait, func(ctx context.Context) (err error) {
		left, err = r.client.PTTL(ctx, name).Result()
		return err
	})
	return min(left, MaxLease), err
}

func newToken() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: it would end the process
	return hex.EncodeToString(b[:])
}
