package cluster

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/testkit"
)

// fixture is two nodes of one cluster, and a clock that both go by as far as they do
// not go by that of Redis.
type fixture struct {
	a, b  Cluster
	clock *testkit.Clock
}

// pass lets time pass, on all clocks.
func (f *fixture) pass(d time.Duration) {
	time.Sleep(d)
	f.clock.Advance(d)
}

// implementations are all there are, each with what opens two nodes of it. The nodes
// of a cluster in memory are in one process, and so one.
func implementations(t *testing.T) map[string]func(t *testing.T) *fixture {
	t.Helper()
	single := startServer(t)
	cluster := startServer(t, "--cluster-enabled", "yes").sharded()
	var n atomic.Int32
	with := func(s *server, topology Topology) func(t *testing.T) *fixture {
		return func(t *testing.T) *fixture {
			t.Helper()
			clock, prefix := testkit.NewClock(), fmt.Sprint("test", n.Add(1))
			set := func(o *Options) {
				o.Now = clock.Now
				o.Redis.Topology, o.Redis.Prefix = topology, prefix
			}
			return &fixture{node(t, s.addr(), unhurried(), set), node(t, s.addr(), unhurried(), set), clock}
		}
	}
	return map[string]func(t *testing.T) *fixture{
		"memory": func(*testing.T) *fixture {
			clock := testkit.NewClock()
			m := NewMemory(clock.Now)
			return &fixture{m, m, clock}
		},
		"redis":         with(single, Single),
		"redis cluster": with(cluster, Sharded),
	}
}

// One suite for all implementations.
func TestCluster(t *testing.T) {
	t.Parallel()
	for name, open := range implementations(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, test := range map[string]func(*testing.T, *fixture){
				"wake": testWake, "wake all": testWakeAll,
				"cache": testCache, "values": testValues, "expiry": testExpiry, "model": testModel,
				"invalidate": testInvalidate, "hold off": testHoldOff,
				"lease": testLease, "lease expires": testLeaseExpires, "wait": testWait, "one look-up": testOneLookUp,
				"take": testTakeTogether, "take slides": testTakeSlides, "take at once": testTakeAtOnce, "ended context": testEndedContext,
			} {
				t.Run(what, func(t *testing.T) {
					t.Parallel()
					test(t, open(t))
				})
			}
		})
	}
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("not woken")
	}
}

func testWake(t *testing.T, f *fixture) {
	here, end := f.a.Watch("topic")
	defer end()
	there, end := f.b.Watch("topic")
	defer end()
	other, end := f.b.Watch("other")
	defer end()
	f.a.Wake("topic")
	if !woken(here) {
		t.Error("a watcher of the same node was not woken at once")
	}
	await(t, there)
	f.b.Wake("topic")
	if f.a != f.b {
		await(t, here)
	}
	// Many at once, also such as do not fit into one notice.
	long := strings.Repeat("x", 2*maxName)
	all := []string{"other", long}
	for i := range 3000 {
		all = append(all, fmt.Sprint("a topic of some length ", i))
	}
	var watches []<-chan struct{}
	for _, topic := range all {
		c, end := f.b.Watch(topic)
		defer end()
		watches = append(watches, c)
	}
	if woken(other) {
		t.Error("a watcher of another topic was woken")
	}
	for _, topic := range all {
		f.a.Wake(topic)
	}
	for _, c := range watches {
		await(t, c)
	}
}

func testWakeAll(t *testing.T, f *fixture) {
	one, end := f.a.Watch("one")
	defer end()
	two, end := f.b.Watch("two")
	defer end()
	f.a.WakeAll()
	if !woken(one) {
		t.Error("a watcher of the same node was not woken at once")
	}
	await(t, two)
}

func testCache(t *testing.T, f *fixture) {
	ctx := patient(t)
	if v, ok := f.a.Get(ctx, "k"); ok {
		t.Errorf("got %q from nothing", v)
	}
	f.a.Set(ctx, "k", []byte("one"), time.Minute)
	for _, c := range []Cluster{f.a, f.b} {
		if v, ok := c.Get(ctx, "k"); !ok || string(v) != "one" {
			t.Errorf("got %q, %v", v, ok)
		}
	}
	f.b.Set(ctx, "k", []byte("two"), time.Minute)
	v, ok := f.a.Get(ctx, "k")
	if !ok || string(v) != "two" {
		t.Fatalf("got %q, %v", v, ok)
	}
	v[0] = 'X' // it is the caller's own
	if v, _ := f.a.Get(ctx, "k"); string(v) != "two" {
		t.Errorf("got %q", v)
	}
	mine := []byte("three")
	f.a.Set(ctx, "k", mine, time.Minute)
	mine[0] = 'X'
	if v, _ := f.a.Get(ctx, "k"); string(v) != "three" {
		t.Errorf("got %q", v)
	}
	if v, ok := f.a.Get(ctx, "K"); ok {
		t.Errorf("got %q of another key", v)
	}
	if !f.a.Connected() {
		t.Error("not connected")
	}
}

func testValues(t *testing.T, f *fixture) {
	ctx := patient(t)
	for _, v := range [][]byte{nil, {}, {0}, []byte("\r\n$5\r\n"), []byte(heldMark), bytes.Repeat([]byte{0xff}, MaxValue)} {
		f.a.Set(ctx, "k", v, time.Minute)
		if got, ok := f.b.Get(ctx, "k"); !ok || !bytes.Equal(got, v) {
			t.Errorf("%d octets: got %d, %v", len(v), len(got), ok)
		}
	}
	// One that is too large takes the older one away.
	f.a.Set(ctx, "k", make([]byte, MaxValue+1), time.Minute)
	if v, ok := f.b.Get(ctx, "k"); ok {
		t.Errorf("got %d octets", len(v))
	}
	for _, k := range []string{"", "\x00", "a b\r\n{c}*", "é", strings.Repeat("k", maxName)} {
		f.a.Set(ctx, k, []byte("of "+k), time.Minute)
		if v, ok := f.b.Get(ctx, k); !ok || string(v) != "of "+k {
			t.Errorf("%q: got %q, %v", k, v, ok)
		}
	}
}

func testExpiry(t *testing.T, f *fixture) {
	ctx := patient(t)
	f.a.Set(ctx, "never", []byte("x"), 0)
	f.a.Set(ctx, "never", []byte("x"), -time.Second)
	if _, ok := f.a.Get(ctx, "never"); ok {
		t.Error("cached without a ttl")
	}
	f.a.Set(ctx, "short", []byte("x"), 50*time.Millisecond)
	f.a.Set(ctx, "shortest", []byte("x"), time.Nanosecond)
	f.a.Set(ctx, "long", []byte("x"), 1000*time.Hour)
	f.pass(100 * time.Millisecond)
	for _, k := range []string{"short", "shortest"} {
		if _, ok := f.b.Get(ctx, k); ok {
			t.Errorf("%s: still there after its ttl", k)
		}
	}
	if _, ok := f.b.Get(ctx, "long"); !ok {
		t.Error("gone before its ttl")
	}
}

// What is got is the last that was set and not invalidated, or nothing.
func testModel(t *testing.T, f *fixture) {
	ctx := patient(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	nodes := []Cluster{f.a, f.b}
	want := make(map[string]string)
	hits := 0
	for i := range 600 {
		n, k := nodes[rnd.IntN(2)], key(rnd.IntN(50))
		switch rnd.IntN(10) {
		case 0:
			n.Invalidate(ctx, k)
			delete(want, k)
		case 1, 2, 3:
			v := fmt.Sprint(i)
			n.Set(ctx, k, []byte(v), time.Minute)
			want[k] = v
		default:
			v, ok := n.Get(ctx, k)
			if !ok {
				// Held off, and so is what is set until then.
				delete(want, k)
				break
			}
			hits++
			if string(v) != want[k] {
				t.Fatalf("%s: got %q, want %q", k, v, want[k])
			}
		}
	}
	if hits < 50 {
		t.Errorf("only %d hits", hits)
	}
}

// told collects what a node is told of invalidations.
type told struct {
	mu   sync.Mutex
	keys map[string]int
}

func listenTo(c Cluster) (*told, func()) {
	l := &told{keys: make(map[string]int)}
	return l, c.OnInvalidate(func(key string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.keys[key]++
	})
}

func (l *told) of(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keys[key]
}

func testInvalidate(t *testing.T, f *fixture) {
	ctx := patient(t)
	here, end := listenTo(f.a)
	defer end()
	there, endThere := listenTo(f.b)
	f.a.Set(ctx, "k", []byte("v"), time.Minute)
	f.a.Invalidate(ctx, "k")
	for _, c := range []Cluster{f.a, f.b} {
		if _, ok := c.Get(ctx, "k"); ok {
			t.Error("still there")
		}
	}
	if here.of("k") != 1 {
		t.Errorf("this node was told %d times", here.of("k"))
	}
	eventually(t, "the other node is told", func() bool { return there.of("k") == 1 })

	// A key too long to be named stands for all.
	f.a.Invalidate(ctx, strings.Repeat("x", maxName+1))
	if f.a != f.b {
		eventually(t, "the other node is told", func() bool { return there.of("") == 1 })
	}
	endThere()
	endThere()
	f.a.Invalidate(ctx, "k2")
	eventually(t, "this node is told", func() bool { return here.of("k2") == 1 })
	if there.of("k2") != 0 {
		t.Error("told after the end")
	}
}

// What was read before an invalidation does not come back after it.
func testHoldOff(t *testing.T, f *fixture) {
	ctx := patient(t)
	told, end := listenTo(f.b)
	defer end()
	f.a.Invalidate(ctx, "k")
	f.a.Set(ctx, "k", []byte("old"), time.Minute)
	f.b.Set(ctx, "k", []byte("old"), time.Minute)
	for _, c := range []Cluster{f.a, f.b} {
		if v, ok := c.Get(ctx, "k"); ok {
			t.Errorf("got %q", v)
		}
	}
	// Not even when Redis has lost the mark, on a node that knows.
	eventually(t, "the other node is told", func() bool { return told.of("k") > 0 })
	if r, ok := f.a.(*Redis); ok {
		r.client.Del(ctx, r.names.value(r.era.current(), "k"))
	}
	f.b.Set(ctx, "k", []byte("old"), time.Minute)
	if v, ok := f.b.Get(ctx, "k"); ok {
		t.Errorf("got %q", v)
	}
	// Afterwards it is cached again. The clock of Redis is not ours.
	f.clock.Advance(HoldOff)
	f.b.Set(ctx, "k", []byte("new"), time.Minute)
	if v, ok := f.b.Get(ctx, "k"); !ok || string(v) != "new" {
		t.Errorf("got %q, %v", v, ok)
	}
}

func testLease(t *testing.T, f *fixture) {
	ctx := patient(t)
	release, ok := f.a.Lease(ctx, "k", time.Minute)
	if !ok {
		t.Fatal("no lease")
	}
	for _, c := range []Cluster{f.a, f.b} {
		notMine, ok := c.Lease(ctx, "k", time.Minute)
		if ok {
			t.Error("the same lease twice")
		}
		notMine()
	}
	if _, ok := f.b.Lease(ctx, "k", time.Minute); ok {
		t.Error("given back by who did not have it")
	}
	other, ok := f.b.Lease(ctx, "other", -1)
	if !ok {
		t.Error("no lease on another key")
	}
	other()
	release()
	again, ok := f.b.Lease(ctx, "k", time.Minute)
	if !ok {
		t.Fatal("no lease after it was given back")
	}
	release()
	if _, ok := f.a.Lease(ctx, "k", time.Minute); ok {
		t.Error("given back twice, the second time by who no longer had it")
	}
	again()
}

func testLeaseExpires(t *testing.T, f *fixture) {
	ctx := patient(t)
	late, ok := f.a.Lease(ctx, "k", 50*time.Millisecond)
	if !ok {
		t.Fatal("no lease")
	}
	f.pass(100 * time.Millisecond)
	if _, ok := f.b.Lease(ctx, "k", time.Minute); !ok {
		t.Fatal("no lease after the last one expired")
	}
	late()
	if _, ok := f.a.Lease(ctx, "k", time.Minute); ok {
		t.Error("given back by who no longer had it")
	}
}

func testWait(t *testing.T, f *fixture) {
	ctx := patient(t)
	if !f.b.Wait(ctx, "k") {
		t.Error("waited for nobody")
	}
	release, _ := f.a.Lease(ctx, "k", time.Minute)
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if f.b.Wait(short, "k") {
		t.Error("the lease has ended, it says")
	}
	var all sync.WaitGroup
	for _, c := range []Cluster{f.a, f.b, f.b} {
		all.Go(func() {
			if !c.Wait(ctx, "k") {
				t.Error("gave up")
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // so that most do wait, which is not needed for the test to pass
	release()
	all.Wait()

	if _, ok := f.a.Lease(ctx, "expires", 50*time.Millisecond); !ok {
		t.Error("no lease")
	}
	if !f.b.Wait(ctx, "expires") {
		t.Error("gave up waiting for what expires")
	}
}

// lookUp is how a value is had that is costly to find.
func lookUp(ctx context.Context, c Cluster, key string, find func() string) string {
	for range 2 {
		if v, ok := c.Get(ctx, key); ok {
			return string(v)
		}
		release, ok := c.Lease(ctx, key, time.Minute)
		if ok {
			defer release()
			break
		}
		if !c.Wait(ctx, key) {
			break
		}
	}
	// Who had it before may have finished between the first Get and the Lease.
	if v, ok := c.Get(ctx, key); ok {
		return string(v)
	}
	v := find()
	c.Set(ctx, key, []byte(v), time.Minute)
	return v
}

// One look-up serves all that ask at the same time on all nodes.
func testOneLookUp(t *testing.T, f *fixture) {
	ctx := patient(t)
	var found atomic.Int32
	var all sync.WaitGroup
	for i := range 20 {
		c := []Cluster{f.a, f.b}[i%2]
		all.Go(func() {
			v := lookUp(ctx, c, "k", func() string {
				found.Add(1)
				time.Sleep(20 * time.Millisecond)
				return "v"
			})
			if v != "v" {
				t.Errorf("got %q", v)
			}
		})
	}
	all.Wait()
	if n := found.Load(); n != 1 {
		t.Errorf("looked up %d times", n)
	}
}

func testTakeTogether(t *testing.T, f *fixture) {
	granted := 0
	for i := range 20 {
		if []Cluster{f.a, f.b}[i%2].Take("k", 7, time.Minute) {
			granted++
		}
	}
	if granted != 7 {
		t.Errorf("%d uses were granted, want 7", granted)
	}
	if !f.a.Take("other", 7, time.Minute) {
		t.Error("one key used up the other's limit")
	}
	for range 50 {
		if !f.a.Take("k", 0, time.Minute) || !f.a.Take("k", 5, 0) {
			t.Fatal("refused without a limit")
		}
	}
	// A window of another length starts again.
	if !f.b.Take("k", 7, time.Hour) {
		t.Error("refused in a new window")
	}
}

func testTakeSlides(t *testing.T, f *fixture) {
	const window = 300 * time.Millisecond
	count := func(c Cluster) (n int) {
		for c.Take("k", 10, window) {
			n++
		}
		return n
	}
	if n := count(f.a); n < 10 || n > 11 { // 11 if the machine takes its time
		t.Errorf("%d uses were granted, want 10", n)
	}
	f.pass(2*window + 50*time.Millisecond)
	if n := count(f.b); n < 10 || n > 11 {
		t.Errorf("%d uses were granted after two windows, want 10", n)
	}
	f.pass(window)
	// Now the fixed window has passed, but half of it or so is still in the sliding one.
	if n := count(f.a); n > 9 {
		t.Errorf("%d uses were granted after one window", n)
	}
}

func testTakeAtOnce(t *testing.T, f *fixture) {
	var granted atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		c := []Cluster{f.a, f.b}[i%2]
		all.Go(func() {
			for range 50 {
				if c.Take("k", 100, time.Hour) {
					granted.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := granted.Load(); n != 100 {
		t.Errorf("%d uses were granted, want 100", n)
	}
}

// Whoever has given up gets nothing, and what he asked for comes true nevertheless.
func testEndedContext(t *testing.T, f *fixture) {
	ctx := patient(t)
	f.a.Set(ctx, "k", []byte("v"), time.Minute)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, ok := f.a.Get(ended, "k"); ok {
		t.Error("got it")
	}
	f.a.Invalidate(ended, "k")
	if _, ok := f.a.Get(ctx, "k"); ok {
		t.Error("still there on this node")
	}
	eventually(t, "gone on the other", func() bool {
		_, ok := f.b.Get(ctx, "k")
		return !ok
	})
	release, _ := f.a.Lease(ended, "k", time.Minute)
	release()
}
