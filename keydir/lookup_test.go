package keydir

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/telemetry"
)

func TestOneLookupForAll(t *testing.T) {
	f := newDirectory(t)
	c := key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", c)
	f.wkd.block = make(chan struct{})
	var all sync.WaitGroup
	answers := make([]Answer, 20)
	for i := range answers {
		all.Go(func() { answers[i] = f.Lookup(t.Context(), bob) })
	}
	for f.wkd.count() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(f.wkd.block)
	all.Wait()
	for _, a := range answers {
		f.want(a, mail.Found, c)
	}
	if n := f.wkd.count(); n != 1 {
		t.Errorf("the source was asked %d times", n)
	}
}

// A caller that saw no answer, and has its turn when another has brought one, does not
// ask again. A refresh does.
func TestLateCallerAsksNobody(t *testing.T) {
	f := newDirectory(t)
	c := key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", c)
	f.want(f.Lookup(t.Context(), bob), mail.Found, c)
	late := f.join(bob, bob.Key(), f.look)
	<-late.done
	f.want(late.answer, mail.Found, c)
	if n := f.wkd.count(); n != 1 {
		t.Errorf("the source was asked %d times", n)
	}
	<-f.join(bob, bob.Key(), f.ask).done
	if n := f.wkd.count(); n != 2 {
		t.Errorf("a refresh asked nobody: %d", n)
	}
}

func TestImpatientCaller(t *testing.T) {
	f := newDirectory(t)
	c := key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", c)
	f.wkd.block = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.want(f.Lookup(ctx, bob), mail.Unknown, nil)
	// The look-up goes on, and the next caller has its answer.
	close(f.wkd.block)
	f.want(f.Lookup(t.Context(), bob), mail.Found, c)
	if n := f.wkd.count(); n != 1 {
		t.Errorf("the source was asked %d times", n)
	}
}

func TestStaleWhileItIsAskedAgain(t *testing.T) {
	f := newDirectory(t)
	c := key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", c)
	f.Lookup(t.Context(), bob)
	f.clock.Advance(2 * foundFor)
	f.wkd.mu.Lock()
	f.wkd.block = make(chan struct{})
	f.wkd.mu.Unlock()
	f.want(f.Lookup(t.Context(), bob), mail.Found, c) // without waiting
	close(f.wkd.block)
}

func TestLifetimes(t *testing.T) {
	f := newDirectory(t)
	count := func(advance time.Duration) int {
		f.clock.Advance(advance)
		before := f.wkd.count()
		f.Lookup(t.Context(), bob)
		return f.wkd.count() - before
	}
	if n := count(0); n != 1 {
		t.Errorf("asked %d times at first", n)
	}
	if n := count(noneFor - time.Second); n != 0 {
		t.Errorf("None was not remembered")
	}
	f.wkd.fails(errDown)
	if n := count(2 * time.Second); n != 1 {
		t.Errorf("None was remembered too long")
	}
	if n := count(unknownFor - time.Second); n != 0 {
		t.Errorf("Unknown was not remembered")
	}
	if n := count(2 * time.Second); n != 1 {
		t.Errorf("Unknown was remembered too long")
	}
}

// TestNobodyWasAsked: that there was no room to ask is remembered, and not written down.
func TestNobodyWasAsked(t *testing.T) {
	for _, cause := range []Cause{CauseBusy, CauseBackoff, CauseCancelled, CauseTimeout} {
		f := newDirectory(t)
		f.wkd.fails(unknown(cause, nil, "it failed"))
		f.want(f.Lookup(t.Context(), bob), mail.Unknown, nil)
		f.want(f.Lookup(t.Context(), bob), mail.Unknown, nil)
		if n := f.wkd.count(); n != 1 {
			t.Errorf("%s: asked %d times", cause, n)
		}
		_, err := f.store.Known(t.Context(), bob.Key())
		if written := err == nil; written != (cause == CauseTimeout) {
			t.Errorf("%s: %v", cause, err)
		}
	}
	// What is known goes on, and is not forgotten either.
	f := newDirectory(t)
	c := key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", c)
	f.want(f.Lookup(t.Context(), bob), mail.Found, c)
	f.wkd.fails(unknown(CauseBusy, nil, "too many"))
	f.want(f.again(), mail.Found, c)
	f.Forget()
	f.want(f.Lookup(t.Context(), bob), mail.Found, c)
}

func TestRememberedInTheStore(t *testing.T) {
	f := newDirectory(t)
	c := key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", c)
	f.Lookup(t.Context(), bob)
	f.Forget()
	f.want(f.Lookup(t.Context(), bob), mail.Found, c)
	if n := f.wkd.count(); n != 1 {
		t.Errorf("the source was asked %d times", n)
	}
}

// TestLookupsAreCounted by who answered them, and with no address.
func TestLookupsAreCounted(t *testing.T) {
	m := telemetry.NewMetrics()
	f := newDirectory(t, func(o *Options) { o.Metrics = m })
	f.wkd.has("bob@there.test", key(t, "bob@there.test").Certificate())
	f.Lookup(t.Context(), bob)
	f.Lookup(t.Context(), bob)
	f.Lookup(t.Context(), bob)
	f.Forget()
	f.Lookup(t.Context(), bob)
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, s := range family.Metric {
			name := family.GetName()
			for _, l := range s.Label {
				name += " " + l.GetValue()
			}
			if strings.Contains(name, "there") {
				t.Errorf("an address in %s", name)
			}
			if n := s.GetCounter().GetValue(); n > 0 && family.GetName() == "postern_keydir_lookups_total" {
				got[name] = n
			}
		}
	}
	want := map[string]float64{"postern_keydir_lookups_total found wkd": 1, "postern_keydir_lookups_total found memory": 2, "postern_keydir_lookups_total found store": 1}
	if !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

func TestOwnDomainIsAskedOfNobody(t *testing.T) {
	f := newDirectory(t)
	alice := mail.Address{Local: "alice", Domain: "here.test"}
	a := f.Lookup(t.Context(), alice)
	f.want(a, mail.None, nil)
	c := key(t, "alice@here.test").Certificate()
	if _, err := f.store.AddCertificate(t.Context(), store.Certificate{Address: "alice@here.test", Fingerprint: c.Fingerprint(), Data: c.Data(), Source: "operator"}); err != nil {
		t.Fatal(err)
	}
	f.Forget()
	f.want(f.Lookup(t.Context(), alice), mail.Found, c)
	f.want(f.Own(t.Context(), alice), mail.Found, c)
	if f.wkd.count() != 0 {
		t.Error("a source was asked about our own address")
	}
}

// TestTwoNodes: what one node learns serves the other, and a decision on one reaches
// the other.
func TestTwoNodes(t *testing.T) {
	shared := newFakeShared()
	one := newDirectory(t, func(o *Options) { o.Shared = shared })
	two := New(Options{Store: one.store, Sources: []Source{one.wkd}, Shared: shared, Now: one.clock.Now})
	shared.onInvalidate = func(key string) { two.Drop(key) }
	c := key(t, "bob@there.test").Certificate()
	one.wkd.has("bob@there.test", c)
	one.want(one.Lookup(t.Context(), bob), mail.Found, c)
	one.want(two.Lookup(t.Context(), bob), mail.Found, c)
	if n := one.wkd.count(); n != 1 {
		t.Errorf("the source was asked %d times", n)
	}
	other := key(t, "bob@there.test").Certificate()
	if err := one.Pin(t.Context(), bob, other); err != nil {
		t.Fatal(err)
	}
	one.want(two.Lookup(t.Context(), bob), mail.Found, other)

	// The cache may be wiped between any two calls, or hold rubbish.
	shared.wipe([]byte("rubbish"))
	one.Forget()
	two.Forget()
	one.want(two.Lookup(t.Context(), bob), mail.Found, other)
}

// TestTwoNodesWithStoresOfTheirOwn: what one node finds serves the other, and each
// decides for itself what becomes of it.
func TestTwoNodesWithStoresOfTheirOwn(t *testing.T) {
	setUp := func(t *testing.T) (one, two *fixture, c *pgp.Certificate) {
		cache := newFakeShared()
		share := func(o *Options) { o.Shared = cache }
		one, two, c = newDirectory(t, share), newDirectory(t, share), key(t, "bob@there.test").Certificate()
		one.wkd.has("bob@there.test", c)
		two.wkd.fails(errDown)
		return one, two, c
	}
	t.Run("one look-up", func(t *testing.T) {
		one, two, c := setUp(t)
		one.want(one.Lookup(t.Context(), bob), mail.Found, c)
		a := two.Lookup(t.Context(), bob)
		two.want(a, mail.Found, c)
		if n := two.wkd.count(); n != 0 || a.Source != "wkd" || a.Trust != Published {
			t.Errorf("asked %d times, %s, %s", n, a.Source, a.Trust)
		}
		two.Forget()
		two.want(two.Lookup(t.Context(), bob), mail.Found, c) // it is in its own store
		two.wantRules(RuleFirst)
	})
	t.Run("pinned here", func(t *testing.T) {
		one, two, c := setUp(t)
		pinned := key(t, "bob@there.test").Certificate()
		if err := two.Pin(t.Context(), bob, pinned); err != nil {
			t.Fatal(err)
		}
		two.clock.Advance(foundFor + time.Minute)
		one.clock.Advance(foundFor + time.Minute)
		one.want(one.Lookup(t.Context(), bob), mail.Found, c)
		f := two.join(bob, bob.Key(), two.ask)
		<-f.done
		two.want(two.Lookup(t.Context(), bob), mail.Unknown, nil) // held
		two.wantRules(RuleAccepted, RulePinned)
	})
	t.Run("pinned there", func(t *testing.T) {
		one, two, c := setUp(t)
		if err := one.Pin(t.Context(), bob, c); err != nil {
			t.Fatal(err)
		}
		two.want(two.Lookup(t.Context(), bob), mail.Unknown, nil) // a person decided, for the other node
	})
	t.Run("nothing there", func(t *testing.T) {
		one, two, c := setUp(t)
		one.wkd.has("bob@there.test")
		two.peers.has("bob@there.test", c) // seen in mail to this node
		one.want(one.Lookup(t.Context(), bob), mail.None, nil)
		two.want(two.Lookup(t.Context(), bob), mail.Found, c)
	})
	t.Run("rubbish", func(t *testing.T) {
		one, two, c := setUp(t)
		one.want(one.Lookup(t.Context(), bob), mail.Found, c)
		one.Shared.(*fakeShared).wipe([]byte(`{"Known":{"Address":"bob@there.test","Kind":2}}`))
		two.want(two.Lookup(t.Context(), bob), mail.Unknown, nil)
	})
}

// fakeShared is a shared cache whose content the test decides.
type fakeShared struct {
	mu           sync.Mutex
	values       map[string][]byte
	leased       map[string]bool
	rubbish      []byte
	onInvalidate func(string)
}

func newFakeShared() *fakeShared {
	return &fakeShared{values: map[string][]byte{}, leased: map[string]bool{}}
}

func (s *fakeShared) wipe(rubbish []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.values)
	s.rubbish = rubbish
}

func (s *fakeShared) Get(_ context.Context, key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rubbish != nil {
		return s.rubbish, true
	}
	v, ok := s.values[key]
	return v, ok
}

func (s *fakeShared) Set(_ context.Context, key string, value []byte, _ time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value
}

func (s *fakeShared) Invalidate(_ context.Context, key string) {
	s.mu.Lock()
	delete(s.values, key)
	tell := s.onInvalidate
	s.mu.Unlock()
	if tell != nil {
		tell(key[len("answer:"):])
	}
}

func (s *fakeShared) Lease(_ context.Context, key string, _ time.Duration) (func(), bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leased[key] {
		return nil, false
	}
	s.leased[key] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.leased, key)
	}, true
}

func (s *fakeShared) Wait(context.Context, string) bool { return true }

func BenchmarkLookup(b *testing.B) {
	f := newDirectory(b)
	f.wkd.has("bob@there.test", key(b, "bob@there.test").Certificate())
	f.Lookup(b.Context(), bob)
	b.Run("memory", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if f.Lookup(b.Context(), bob).Kind != mail.Found {
				b.Fatal("not found")
			}
		}
	})
	b.Run("store", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			f.Forget()
			if f.Lookup(b.Context(), bob).Kind != mail.Found {
				b.Fatal("not found")
			}
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	f := newDirectory(t)
	for i := range maxMemory + 100 {
		f.remember(fmt.Sprint(i), Answer{}, 0)
	}
	if n := len(f.known); n > maxMemory {
		t.Errorf("%d answers are in memory", n)
	}
}
