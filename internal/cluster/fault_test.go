package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hasty are limits under which faults are noticed soon, and a test sees much in little
// time.
func hasty() limits {
	l := defaultLimits()
	l.check, l.again, l.rarely = 50*time.Millisecond, 10*time.Millisecond, 100*time.Millisecond
	l.silent, l.hold = time.Second, 250*time.Millisecond
	return l
}

// truth is what the cache is about: a version of each key, as a store would have it.
type truth struct {
	t     *testing.T
	nodes []Cluster

	mu      sync.Mutex
	version map[string]int
	settled map[string]settled
	hits    int
}

// settled is a change that was told of.
type settled struct {
	version int
	by      Cluster
	at      time.Time
}

func newTruth(t *testing.T, nodes ...Cluster) *truth {
	return &truth{t: t, nodes: nodes, version: make(map[string]int), settled: make(map[string]settled)}
}

// change makes a new version of a key and tells the cluster.
func (w *truth) change(ctx context.Context, c Cluster, key string) {
	w.mu.Lock()
	w.version[key]++
	v := w.version[key]
	w.mu.Unlock()
	c.Invalidate(ctx, key)
	w.mu.Lock()
	defer w.mu.Unlock()
	if v > w.settled[key].version {
		w.settled[key] = settled{v, c, time.Now()}
	}
}

// use looks a key up as everybody should: in the cache, and if it is not there in the
// truth, of which it then tells the cache. An answer must not be older than what this
// node itself told of, or another more than a second ago.
func (w *truth) use(ctx context.Context, c Cluster, key string) {
	w.mu.Lock()
	least := w.settled[key]
	w.mu.Unlock()
	if least.by != c && time.Since(least.at) < time.Second {
		least.version = 0
	}
	if b, ok := c.Get(ctx, key); ok {
		w.check(key, string(b), least.version)
		return
	}
	read := time.Now()
	w.mu.Lock()
	v := w.version[key]
	w.mu.Unlock()
	time.Sleep(rand.N(3 * time.Millisecond))
	if time.Since(read) < hasty().hold/2 {
		c.Set(ctx, key, []byte(key+"/"+strconv.Itoa(v)), time.Hour)
	}
}

func (w *truth) check(key, value string, least int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hits++
	k, number, _ := strings.Cut(value, "/")
	v, err := strconv.Atoi(number)
	if err != nil || k != key || v < least || v > w.version[key] {
		w.t.Errorf("wrong answer: %q for %s, which is at %d; %d was told of", value, key, w.version[key], least)
	}
}

// work uses and changes keys on all nodes while disturb does what it does, sees that
// all comes back into use afterwards, and that nothing old came back with it.
func (w *truth) work(disturb func()) {
	w.t.Helper()
	ctx, stop := context.WithCancel(patient(w.t))
	defer stop()
	var workers sync.WaitGroup
	for i := range 4 {
		c := w.nodes[i%len(w.nodes)]
		workers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				k := key(rand.IntN(20))
				if n%50 == 0 {
					w.change(ctx, c, k)
				} else {
					w.use(ctx, c, k)
				}
				// A refused use, a lease or none, a wake-up: all are right.
				c.Take(k, 100, time.Second)
				release, _ := c.Lease(ctx, k, 50*time.Millisecond)
				c.Wake(k)
				release()
				time.Sleep(rand.N(2 * time.Millisecond)) // others work here too
			}
		})
	}
	disturb()
	stop()
	workers.Wait()
	ctx = patient(w.t)
	for i := range 20 {
		w.change(ctx, w.nodes[i%len(w.nodes)], key(i))
	}
	w.settle()
	w.inUse()
	for i := range 20 {
		for _, c := range w.nodes {
			if b, ok := c.Get(ctx, key(i)); ok {
				w.check(key(i), string(b), w.version[key(i)])
			}
		}
	}
}

// settle waits until every node has told and heard all there was.
func (w *truth) settle() {
	w.t.Helper()
	for i, c := range w.nodes {
		eventually(w.t, "a node has told all", func() bool {
			debts, all := c.(*Redis).outbox.debts()
			return len(debts) == 0 && all == 0
		})
		for _, other := range w.nodes {
			heard, end := listenTo(other)
			defer end()
			eventually(w.t, "a node hears the others", func() bool {
				last := fmt.Sprint("last of ", i)
				c.Invalidate(context.Background(), last)
				return heard.of(last) > 0
			})
		}
	}
}

// inUse waits until what one node caches the others get.
func (w *truth) inUse() {
	w.t.Helper()
	ctx := patient(w.t)
	n := 0
	eventually(w.t, "the cache is in use again", func() bool {
		n++
		k := fmt.Sprint("again ", n/10)
		w.nodes[0].Set(ctx, k, []byte(k), time.Hour)
		for _, c := range w.nodes {
			if b, ok := c.Get(ctx, k); !ok {
				return false
			} else if string(b) != k {
				w.t.Errorf("got %q, want %q", b, k)
			}
		}
		return true
	})
}

func TestFaults(t *testing.T) {
	t.Parallel()
	hits := countHits(t)
	const while = 200 * time.Millisecond
	lose := func(s *server) { s.kill(); time.Sleep(while); s.start() }
	for name, tt := range map[string]struct {
		args    []string
		disturb func(s *server)
	}{
		"killed":            {nil, lose},
		"killed twice":      {nil, func(s *server) { lose(s); time.Sleep(while); lose(s) }},
		"killed with a log": {[]string{"--appendonly", "yes"}, lose},
		"restarted from an old snapshot": {nil, func(s *server) {
			s.do("SAVE")
			time.Sleep(while)
			lose(s)
		}},
		"wiped":           {nil, func(s *server) { repeatedly(while, func() { s.do("FLUSHALL") }) }},
		"scripts flushed": {nil, func(s *server) { repeatedly(while, func() { s.do("SCRIPT", "FLUSH") }) }},
		"read-only": {nil, func(s *server) {
			s.do("REPLICAOF", "127.0.0.1", 1)
			time.Sleep(while)
			s.do("REPLICAOF", "NO", "ONE")
		}},
		"too few replicas": {nil, func(s *server) {
			s.do("CONFIG", "SET", "min-replicas-to-write", 1)
			time.Sleep(while)
			s.do("CONFIG", "SET", "min-replicas-to-write", 0)
		}},
		"out of memory": {nil, func(s *server) {
			s.do("CONFIG", "SET", "maxmemory", 1)
			time.Sleep(while)
			s.do("CONFIG", "SET", "maxmemory", 0)
		}},
		"evicting": {nil, func(s *server) {
			s.do("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
			s.do("CONFIG", "SET", "maxmemory", 1)
			time.Sleep(while)
			s.do("CONFIG", "SET", "maxmemory", 0)
		}},
		"paused":           {nil, func(s *server) { s.do("CLIENT", "PAUSE", while.Milliseconds(), "ALL"); time.Sleep(while) }},
		"writes paused":    {nil, func(s *server) { s.do("CLIENT", "PAUSE", while.Milliseconds(), "WRITE"); time.Sleep(while) }},
		"clients killed":   {nil, func(s *server) { repeatedly(while, func() { s.do("CLIENT", "KILL", "TYPE", "normal") }) }},
		"listeners killed": {nil, func(s *server) { repeatedly(while, func() { s.do("CLIENT", "KILL", "TYPE", "pubsub") }) }},
		"password set": {nil, func(s *server) {
			s.do("CONFIG", "SET", "requirepass", "x")
			s.do("CLIENT", "KILL", "TYPE", "pubsub")
			s.do("CLIENT", "KILL", "TYPE", "normal")
			time.Sleep(while)
			s.do("AUTH", "x")
			s.do("CONFIG", "SET", "requirepass", "")
		}},
		"rubbish": {nil, func(s *server) { repeatedly(while, func() { fillWithRubbish(s) }) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t, tt.args...)
			w := newTruth(t, node(t, s.addr(), hasty()), node(t, s.addr(), hasty()))
			w.work(func() {
				time.Sleep(50 * time.Millisecond)
				tt.disturb(s)
				time.Sleep(50 * time.Millisecond)
			})
			hits.Add(int64(w.hits))
		})
	}
}

// countHits sees at the end of a test, with all its parts, that answers were judged.
func countHits(t *testing.T) *atomic.Int64 {
	var hits atomic.Int64
	t.Cleanup(func() {
		if hits.Load() < 10 {
			t.Errorf("only %d answers came from the cache", hits.Load())
		}
	})
	return &hits
}

func repeatedly(d time.Duration, do func()) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(3 * time.Millisecond) {
		do()
	}
}

// fillWithRubbish puts something else in the place of everything in Redis, and
// exchanges what lies there.
func fillWithRubbish(s *server) {
	ctx := context.Background()
	keys, err := s.admin.Keys(ctx, "*").Result()
	if err != nil {
		return
	}
	for i, k := range keys {
		switch rand.IntN(8) {
		case 0:
			s.admin.Set(ctx, k, make([]byte, rand.IntN(100)), 0)
		case 1:
			s.admin.Set(ctx, k, valueMark+strings.Repeat("x", rand.IntN(40)), 0)
		case 2:
			s.admin.Del(ctx, k)
			s.admin.RPush(ctx, k, "a", "b")
		case 3:
			s.admin.Del(ctx, k)
			s.admin.HSet(ctx, k, "s", "nan", "w", "inf", "c", "1e999", "b", "-1")
		case 4:
			s.admin.SetRange(ctx, k, int64(rand.IntN(30)), "\xff")
		case 5:
			s.admin.Copy(ctx, keys[rand.IntN(i+1)], k, 0, true)
		case 6:
			s.admin.Persist(ctx, k)
		case 7:
			s.admin.Set(ctx, k, "9999999999999", 1000*time.Hour)
		}
	}
}

// The same between one node and a Redis that is well.
func TestWireFaults(t *testing.T) {
	t.Parallel()
	hits := countHits(t)
	const while = 300 * time.Millisecond
	for name, disturb := range map[string]func(p *proxy){
		"cut off": func(p *proxy) {
			p.set(func() { p.cut = true })
			p.hangUp()
			time.Sleep(while)
			p.set(func() { p.cut = false })
		},
		"slow": func(p *proxy) {
			p.set(func() { p.delay = 60 * time.Millisecond })
			time.Sleep(while)
			p.set(func() { p.delay = 0 })
		},
		"hung up": func(p *proxy) { repeatedly(while, p.hangUp) },
		"corrupt": func(p *proxy) {
			p.set(func() {
				p.corrupt = func(b []byte) {
					if rand.IntN(4) == 0 && len(b) > 0 {
						b[rand.IntN(len(b))] = byte(rand.IntN(256))
					}
				}
			})
			time.Sleep(while)
			p.set(func() { p.corrupt = nil })
			p.hangUp() // what waits for the rest of a reply
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			p := startProxy(t, s.addr())
			w := newTruth(t, node(t, p.addr(), hasty()), node(t, s.addr(), hasty()))
			// A node that is cut off from the others cannot be told.
			w.nodes = w.nodes[:1]
			w.work(func() {
				time.Sleep(100 * time.Millisecond)
				disturb(p)
				time.Sleep(100 * time.Millisecond)
			})
			hits.Add(int64(w.hits))
		})
	}
}

// What Redis brings back when it starts again may have been invalidated since.
func TestSnapshotIsNotTrusted(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	s := startServer(t)
	a, b := node(t, s.addr(), hasty()), node(t, s.addr(), hasty())
	w := newTruth(t, a, b)
	w.inUse()
	a.Set(ctx, "k", []byte("old"), time.Hour)
	if v, ok := b.Get(ctx, "k"); !ok || string(v) != "old" {
		t.Fatalf("got %q, %v", v, ok)
	}
	name := a.names.value(a.era.current(), "k")
	s.do("SAVE")
	a.Invalidate(ctx, "k")
	s.kill()
	s.start()
	if n := s.do("EXISTS", name); n != int64(1) {
		t.Fatal("the snapshot does not hold it: the test is for nothing")
	}
	w.inUse()
	for _, c := range []Cluster{a, b} {
		if v, ok := c.Get(ctx, "k"); ok {
			t.Errorf("got %q", v)
		}
	}
	// A node that comes only now belongs to the same era as the others.
	a.Set(ctx, "new", []byte("new"), time.Hour)
	if v, ok := node(t, s.addr(), unhurried()).Get(ctx, "new"); !ok || string(v) != "new" {
		t.Errorf("got %q, %v", v, ok)
	}
}

// Redis is wiped before every call, and then before one of them only.
func TestWipedBetweenAnyTwoCalls(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	story := func(t *testing.T, prefix string, before func()) {
		ctx := patient(t)
		set := func(o *Options) { o.Redis.Prefix = prefix }
		a, b := node(t, s.addr(), unhurried(), set), node(t, s.addr(), unhurried(), set)
		nodes := []Cluster{a, b}
		get := func(c Cluster, k, want string) {
			before()
			if v, ok := c.Get(ctx, k); ok && string(v) != want {
				t.Errorf("%s: got %q, want %q", k, v, want)
			}
		}
		for i, c := range nodes {
			k := key(i)
			before()
			c.Set(ctx, k, []byte("one"), time.Hour)
			get(a, k, "one")
			get(b, k, "one")
			before()
			c.Invalidate(ctx, k)
			get(c, k, "")
			before()
			c.Set(ctx, k, []byte("two"), time.Hour)
			get(a, k, "")
		}
		for _, c := range nodes {
			granted := 0
			for range 9 {
				before()
				if c.Take("rate", 5, time.Hour) {
					granted++
				}
			}
			if granted > 5 {
				t.Errorf("%d uses were granted on one node, over its limit of 5", granted)
			}
			before()
			release, ok := c.Lease(ctx, "lease", time.Minute)
			before()
			if _, again := c.Lease(ctx, "lease", time.Minute); ok && again {
				t.Error("two leases on one node")
			}
			before()
			release()
			before()
			if !c.Wait(ctx, "lease") {
				t.Error("waited in vain")
			}
		}
	}
	t.Run("every", func(t *testing.T) { story(t, "every", func() { s.do("FLUSHALL") }) })
	calls := 0
	t.Run("none", func(t *testing.T) { story(t, "none", func() { calls++ }) })
	for n := range calls {
		call := 0
		story(t, fmt.Sprint("call", n), func() {
			if call == n {
				s.do("FLUSHALL")
			}
			call++
		})
	}
}

// A wake-up or invalidation on a node that is cut off reaches the others later.
func TestOwed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		count int
		key   string // what the other node is told
	}{"some": {5, key(3)}, "more than can be kept": {maxOwed + 1, ""}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := patient(t)
			s := startServer(t)
			p := startProxy(t, s.addr())
			l := hasty()
			l.call, l.io = time.Second, time.Second
			a, b := node(t, p.addr(), l), node(t, s.addr(), l)
			newTruth(t, a, b).inUse()
			heard, end := listenTo(b)
			defer end()
			woken, end := b.Watch("topic")
			defer end()
			b.Set(ctx, key(3), []byte("old"), time.Hour)

			p.set(func() { p.cut = true })
			p.hangUp()
			eventually(t, "the node is cut off", func() bool { return !a.Connected() })
			for i := range tt.count {
				a.Invalidate(ctx, key(i))
			}
			a.Wake("topic")
			if _, ok := a.Get(ctx, key(3)); ok {
				t.Error("the node that is cut off goes on using what it invalidated")
			}
			if heard.of(tt.key) > 0 {
				t.Fatal("the other node was told: nothing was cut off")
			}
			p.set(func() { p.cut = false })
			eventually(t, "the other node is told", func() bool { return heard.of(tt.key) > 0 })
			await(t, woken)
			eventually(t, "nothing is owed", func() bool { return !a.outbox.owes(key(3)) })
			time.Sleep(l.hold)
			for _, c := range []Cluster{a, b} {
				if v, ok := c.Get(ctx, key(3)); ok {
					t.Errorf("got %q", v)
				}
			}
			newTruth(t, a, b).inUse()
		})
	}
}

// What was asked last before a node ends still reaches the others.
func TestCloseTells(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a, b := node(t, s.addr(), unhurried()), node(t, s.addr(), unhurried())
	told, end := listenTo(b)
	defer end()
	woken, end := b.Watch("topic")
	defer end()
	a.Invalidate(t.Context(), "k")
	a.Wake("topic")
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	await(t, woken)
	eventually(t, "told", func() bool { return told.of("k") > 0 })
	if err := a.Close(); err != nil {
		t.Error("closed twice: ", err)
	}
	if _, ok := a.Get(t.Context(), "k"); ok {
		t.Error("got something after the end")
	}
	b.Close()
}

// A lease that a dead node held is free when it expires, and who waits learns of it.
func TestLeaseOfTheDead(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	s := startServer(t)
	p := startProxy(t, s.addr())
	a, b := node(t, p.addr(), hasty()), node(t, s.addr(), hasty())
	newTruth(t, a, b).inUse()
	eventually(t, "a lease of one node alone", func() bool {
		_, ok := a.Lease(ctx, "k", 700*time.Millisecond)
		return ok && s.do("EXISTS", a.names.lease("k")) == int64(1)
	})
	p.set(func() { p.cut = true })
	p.hangUp()
	if !b.Wait(ctx, "k") {
		t.Error("gave up")
	}
	if _, ok := b.Lease(ctx, "k", time.Minute); !ok {
		t.Error("not free")
	}
}

// Rubbish in the place of leases and counters is thrown away.
func TestRubbishInPlace(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	s := startServer(t)
	n := node(t, s.addr(), unhurried())
	for i, put := range [][]any{
		{"SET", "K", "x"}, {"RPUSH", "K", "x"}, {"HSET", "K", "s", "x", "w", 60000, "c", 1, "b", 1}, {"HSET", "K", "s", "9e15", "w", "60000", "c", "99", "b", "0"},
		{"HSET", "K", "s", "nan", "w", "60000", "c", "nan", "b", "nan"}, {"HSET", "K", "s", "inf", "w", "60000", "c", "-5", "b", "0"},
		{"HSET", "K", "s", "0", "w", "60000", "c", "99", "b", "99"}, {"SET", "K", "x", "PX", 1 << 40},
	} {
		k := key(i)
		for _, name := range []string{n.names.lease(k), n.names.rate(k), n.names.value(n.era.current(), k)} {
			args := append([]any{}, put...)
			args[1] = name
			s.do(args...)
			if i%2 == 0 && put[0] == "HSET" {
				s.do("PEXPIRE", name, 1_000_000)
			}
		}
		if v, ok := n.Get(ctx, k); ok {
			t.Errorf("%v: got %q", put, v)
		}
		n.Set(ctx, k, []byte("v"), time.Hour)
		if v, ok := n.Get(ctx, k); !ok || string(v) != "v" {
			t.Errorf("%v: got %q, %v", put, v, ok)
		}
		if !n.Take(k, 1, time.Minute) {
			t.Errorf("%v: refused", put)
		}
		if n.local.Take(k, 1, time.Minute) || n.Take(k, 1, time.Minute) {
			t.Errorf("%v: not counted", put)
		}
		if put[0] == "SET" && len(put) > 3 || put[0] != "SET" && i%2 == 0 {
			// It could be a lease of ours with what is left of its life, or ends.
			s.do("DEL", n.names.lease(k))
		}
		release, ok := n.Lease(ctx, k, time.Minute)
		if !ok {
			t.Errorf("%v: no lease", put)
		}
		release()
		if !n.Wait(ctx, k) {
			t.Errorf("%v: somebody is said to hold a lease", put)
		}
	}
	// Others may use the channel.
	told, end := listenTo(n)
	defer end()
	for _, x := range []string{"", "hello", noticeVersion + "12345678", noticeVersion + "12345678i\xff\xff", strings.Repeat("x", 1<<20)} {
		s.do("PUBLISH", n.names.channel(), x)
	}
	s.do("PUBLISH", n.names.channel(), string(notice{kind: noticeForget, names: []string{"last"}}.encode()))
	eventually(t, "told", func() bool { return told.of("last") > 0 })
}

// Nothing of what is remembered by name can be read in Redis' own files.
func TestNoAddressInRedis(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	s := startServer(t)
	n := node(t, s.addr(), unhurried())
	const address = "alice.canary@example.org"
	n.Set(ctx, address, []byte("a certificate"), time.Hour)
	n.Take(address, 5, time.Hour)
	if _, ok := n.Lease(ctx, address, time.Hour); !ok {
		t.Error("no lease")
	}
	n.Set(ctx, "other", []byte("x"), time.Hour)
	n.Invalidate(ctx, address)
	s.do("CONFIG", "SET", "rdbcompression", "no")
	s.do("SAVE")
	dump, err := os.ReadFile(filepath.Join(s.dir, "dump.rdb"))
	if err != nil || len(dump) < 100 {
		t.Fatal(len(dump), err)
	}
	if strings.Contains(string(dump), "canary") {
		t.Error("the address is in the snapshot")
	}
}
