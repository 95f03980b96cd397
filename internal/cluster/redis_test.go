package cluster

import (
	"context"
	"strings"
	"testing"
	"time"
)

// A node that has not yet heard of an invalidation cannot undo it.
func TestMarkStopsASet(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	n := node(t, startServer(t).addr(), unhurried())
	n.Set(ctx, "k", []byte("old"), time.Hour)
	n.Invalidate(ctx, "k")
	name := n.names.value(n.era.current(), "k")
	if set, err := n.run(ctx, n.scripts.set, name, n.names.seal(name, []byte("old")), 1000, heldMark); set != 0 || err != nil {
		t.Errorf("set %d, %v", set, err)
	}
	if v := n.client.Get(ctx, name).Val(); v != heldMark {
		t.Errorf("got %q", v)
	}
	if left := n.client.PTTL(ctx, name).Val(); left <= 0 || left > HoldOff {
		t.Errorf("for %v", left)
	}
}

// Without memory for the mark, at least the value goes, and the others are told.
func TestInvalidateWithoutMemory(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	s := startServer(t)
	a, b := node(t, s.addr(), unhurried()), node(t, s.addr(), unhurried())
	told, end := listenTo(b)
	defer end()
	a.Set(ctx, "k", []byte("old"), time.Hour)
	s.do("CONFIG", "SET", "maxmemory", 1)
	a.Invalidate(ctx, "k")
	eventually(t, "told", func() bool { return told.of("k") > 0 })
	if n := s.do("EXISTS", a.names.value(a.era.current(), "k")); n != int64(0) || a.outbox.owes("k") {
		t.Error("it is still there")
	}
	if !a.Connected() {
		t.Error("a Redis without memory to spare is not down")
	}
}

// What the cluster refuses is not counted on the node that asked.
func TestRefusedUseIsNotCounted(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := node(t, s.addr(), unhurried()), node(t, s.addr(), unhurried())
	for range 5 {
		if !a.Take("k", 5, time.Hour) {
			t.Fatal("refused")
		}
	}
	for range 20 {
		if b.Take("k", 5, time.Hour) {
			t.Fatal("granted")
		}
	}
	if n := b.local.counters.byKey["k"].count; n != 0 {
		t.Errorf("%d uses are counted", n)
	}
}

// After a time in which a node did not hear, anything may have changed.
func TestMissedNotices(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	n := node(t, s.addr(), hasty(), func(o *Options) { o.Now = func() time.Time { return time.Unix(1, 0) } })
	told, end := listenTo(n)
	defer end()
	woken, end := n.Watch("topic")
	defer end()
	if n.held.holds("k") || told.of("") > 0 {
		t.Error("something was missed from the beginning")
	}
	s.do("CLIENT", "KILL", "TYPE", "pubsub")
	eventually(t, "told", func() bool { return told.of("") > 0 })
	await(t, woken)
	if !n.held.holds("k") {
		t.Error("what was read before can be set")
	}
}

// When Redis comes back, another node may still owe an invalidation.
func TestUpAgain(t *testing.T) {
	t.Parallel()
	l := hasty()
	l.silent = time.Hour
	n := node(t, startServer(t).addr(), l, func(o *Options) { o.Now = func() time.Time { return time.Unix(1, 0) } })
	told, end := listenTo(n)
	defer end()
	n.breaker.trip()
	if n.Connected() {
		t.Error("connected while down")
	}
	eventually(t, "up", func() bool { return !n.breaker.open.Load() })
	if told.of("") != 1 || !n.held.holds("k") {
		t.Errorf("told %d times", told.of(""))
	}
}

// A node that does not hear what it says itself listens elsewhere.
func TestSilentSubscription(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := hasty()
	l.silent, l.check = 200*time.Millisecond, time.Hour // nothing is said
	n := node(t, s.addr(), l)
	told, end := listenTo(n)
	defer end()
	// The others are heard all the time.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for ctx.Err() == nil {
			s.admin.Publish(ctx, n.names.channel(), string(notice{kind: noticeBeat}.encode()))
			time.Sleep(10 * time.Millisecond)
		}
	}()
	eventually(t, "subscribed again", func() bool { return told.of("") > 0 })
}

// That Redis cannot be written is found out although nobody writes, because a value
// there could not be invalidated.
func TestReadOnlyIsDown(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	n := node(t, s.addr(), hasty())
	eventually(t, "connected", n.Connected)
	s.do("REPLICAOF", "127.0.0.1", 1)
	eventually(t, "not connected", func() bool { return !n.Connected() })
	s.do("REPLICAOF", "NO", "ONE")
	eventually(t, "connected", n.Connected)
}

// Of what lies in Redis no more is fetched than a value can have.
func TestHugeRubbish(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	s := startServer(t)
	n := node(t, s.addr(), unhurried())
	s.do("SET", n.names.value(n.era.current(), "k"), valueMark+strings.Repeat("x", 20<<20))
	n.client.Ping(ctx)
	before := n.client.PoolStats().Misses
	if v, ok := n.Get(ctx, "k"); ok {
		t.Errorf("got %d octets", len(v))
	}
	n.client.Ping(ctx)
	if after := n.client.PoolStats().Misses; after != before {
		t.Error("the connection had to be ended")
	}
}

// One who may not ask for the id of Redis caches nothing, and the rest works.
func TestNoRunID(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	s := startServer(t)
	s.do("ACL", "SETUSER", "default", "-info")
	a, b := node(t, s.addr(), unhurried()), node(t, s.addr(), unhurried())
	a.Set(ctx, "k", []byte("v"), time.Hour)
	if v, ok := a.Get(ctx, "k"); ok {
		t.Errorf("got %q", v)
	}
	told, end := listenTo(b)
	defer end()
	eventually(t, "told", func() bool { a.Invalidate(ctx, "k"); return told.of("k") > 0 })
	release, ok := a.Lease(ctx, "k", time.Minute)
	if !ok {
		t.Error("no lease")
	}
	if _, ok := b.Lease(ctx, "k", time.Minute); ok {
		t.Error("the same lease twice")
	}
	release()
}

// Nodes with different secrets, and with different prefixes, share nothing.
func TestSecretsAndPrefixes(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	s := startServer(t)
	a := node(t, s.addr(), unhurried())
	a.Set(ctx, "k", []byte("v"), time.Hour)
	for name, change := range map[string]func(*Options){
		"secret": func(o *Options) { o.Secret = []byte("another") }, "no secret": func(o *Options) { o.Secret = nil },
		"prefix": func(o *Options) { o.Redis.Prefix = "another" },
	} {
		b := node(t, s.addr(), unhurried(), change)
		if v, ok := b.Get(ctx, "k"); ok {
			t.Errorf("%s: got %q", name, v)
		}
		b.Set(ctx, "k", []byte("w"), time.Hour)
		if v, ok := b.Get(ctx, "k"); !ok || string(v) != "w" {
			t.Errorf("%s: got %q, %v", name, v, ok)
		}
	}
	if v, _ := a.Get(ctx, "k"); string(v) != "v" {
		t.Errorf("got %q", v)
	}
}
