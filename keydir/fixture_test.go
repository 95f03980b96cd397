package keydir

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/testkit"
)

// fakeSource is a source that says what a test wants.
type fakeSource struct {
	name  string
	trust Trust

	mu    sync.Mutex
	certs map[string][]*pgp.Certificate
	err   error
	block chan struct{} // closed to let answers go; nil: at once
	asked int
}

func (s *fakeSource) Name() string { return s.name }
func (s *fakeSource) Trust() Trust { return s.trust }

func (s *fakeSource) Lookup(ctx context.Context, a mail.Address) (Finding, error) {
	s.mu.Lock()
	s.asked++
	block := s.block
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return Finding{}, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return Finding{Certificates: s.certs[a.Key()]}, s.err
}

func (s *fakeSource) has(address string, certs ...*pgp.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certs[address], s.err = certs, nil
}

func (s *fakeSource) fails(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *fakeSource) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// fixture is a directory over a real store, with two sources and a clock.
type fixture struct {
	*Directory
	t     testing.TB
	clock *testkit.Clock
	wkd   *fakeSource
	peers *fakeSource // a weaker source
	store *store.Store
	mu    sync.Mutex
	told  []Change
}

func newDirectory(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{
		t: t, clock: testkit.NewClock(),
		wkd:   &fakeSource{name: "wkd", trust: Published, certs: map[string][]*pgp.Certificate{}},
		peers: &fakeSource{name: "autocrypt", trust: Observed, certs: map[string][]*pgp.Certificate{}},
	}
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "postern.db"), Now: f.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	f.store = s
	o := Options{
		Store: s, Hosted: func(d string) bool { return d == "here.test" }, Sources: []Source{f.wkd, f.peers}, Now: f.clock.Now,
		Notify: func(c Change) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.told = append(f.told, c)
		},
	}
	for _, c := range change {
		c(&o)
	}
	f.Directory = New(o)
	return f
}

var bob = mail.Address{Local: "bob", Domain: "there.test"}

func key(t testing.TB, address string) *pgp.SecretKey {
	t.Helper()
	k, err := pgp.GenerateKey(address, testkit.NewClock().Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// again lets the remembered answer become stale, and looks up until the sources were
// asked.
func (f *fixture) again() Answer {
	f.t.Helper()
	before := f.wkd.count()
	f.clock.Advance(foundFor + time.Hour)
	f.Lookup(f.t.Context(), bob)
	for deadline := time.Now().Add(10 * time.Second); ; {
		f.Directory.mu.Lock()
		flying := len(f.flights)
		f.Directory.mu.Unlock()
		if f.wkd.count() > before && flying == 0 {
			break
		}
		if time.Now().After(deadline) {
			f.t.Fatal("the sources were not asked")
		}
		time.Sleep(time.Millisecond)
	}
	return f.Lookup(f.t.Context(), bob)
}

// want checks an answer's kind and certificate.
func (f *fixture) want(a Answer, kind mail.Answer, c *pgp.Certificate) {
	f.t.Helper()
	if a.Kind != kind {
		f.t.Fatalf("%v (%s), want %v", a.Kind, a.Reason, kind)
	}
	certs, err := a.Certificates(f.clock.Now())
	if c == nil {
		if err == nil {
			f.t.Errorf("there is a certificate: %s", certs[0].Fingerprint())
		}
		return
	}
	if err != nil || len(certs) != 1 || certs[0].Fingerprint() != c.Fingerprint() {
		f.t.Errorf("certificates %v, %v; want %s", certs, err, c.Fingerprint())
	}
}

// rules are those of bob's history, the oldest first.
func (f *fixture) rules() []Rule {
	f.t.Helper()
	history, err := f.History(f.t.Context(), bob)
	if err != nil {
		f.t.Fatal(err)
	}
	var all []Rule
	for i := len(history) - 1; i >= 0; i-- {
		all = append(all, history[i].Rule)
	}
	return all
}

var errDown = errors.New("the source is down")

// found is an answer with certificates that were read already.
func found(certs ...*pgp.Certificate) Answer {
	a := Answer{Kind: mail.Found, Source: "wkd", Trust: Published, parsed: &parsed{certs: certs}}
	if len(certs) > 0 {
		a.Fingerprint = certs[0].Fingerprint()
	}
	return a
}
