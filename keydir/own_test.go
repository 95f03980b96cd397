package keydir

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/testkit"
)

// rows is a store in memory that counts what it is asked. hook runs in the middle
// of a look-up.
type rows struct {
	Store // the rest is not asked
	mu    sync.Mutex
	byKey map[string][]store.Certificate
	asked int
	err   error
	hook  func()
}

// Certificates implements Store.
func (r *rows) Certificates(_ context.Context, key string) ([]store.Certificate, error) {
	r.mu.Lock()
	found, err, hook := r.byKey[key], r.err, r.hook
	r.asked++
	r.mu.Unlock()
	if hook != nil {
		hook()
	}
	return found, err
}

// AccountByAddress implements Store.
func (r *rows) AccountByAddress(context.Context, string) (store.Account, error) {
	return store.Account{}, nil
}

func (r *rows) set(key string, certs ...store.Certificate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byKey == nil {
		r.byKey = make(map[string][]store.Certificate)
	}
	r.byKey[key] = certs
}

func (r *rows) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func ownAlice() mail.Address { return mail.Address{Local: "Alice", Domain: "here.test"} }

func certificate(t *testing.T, made time.Time) store.Certificate {
	t.Helper()
	k, err := pgp.GenerateKey("alice@here.test", made)
	if err != nil {
		t.Fatal(err)
	}
	c := k.Certificate()
	return store.Certificate{Fingerprint: c.Fingerprint(), Data: c.Data()}
}

func TestOwn(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	first, second := certificate(t, clock.Now()), certificate(t, clock.Now())
	future := certificate(t, clock.Now().Add(time.Hour))
	rubbish := store.Certificate{Fingerprint: "DEADBEEF", Data: []byte("rubbish")}
	for name, row := range map[string]struct {
		rows   []store.Certificate
		err    error
		kind   mail.Answer
		count  int
		reason string
	}{
		"nothing":             {kind: mail.None, reason: "no certificate"},
		"one":                 {rows: []store.Certificate{first}, kind: mail.Found, count: 1},
		"several":             {rows: []store.Certificate{first, second}, kind: mail.Found, count: 2},
		"one of two usable":   {rows: []store.Certificate{future, second}, kind: mail.Found, count: 1},
		"none usable":         {rows: []store.Certificate{future}, kind: mail.None, reason: future.Fingerprint},
		"unreadable":          {rows: []store.Certificate{rubbish}, kind: mail.None, reason: "DEADBEEF"},
		"one of two readable": {rows: []store.Certificate{rubbish, first}, kind: mail.Found, count: 1},
		"the store fails":     {err: errors.New("disk on fire"), kind: mail.Unknown, reason: "disk on fire"},
		"fails with rows":     {rows: []store.Certificate{first}, err: errors.New("half read"), kind: mail.Unknown, reason: "half read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &rows{err: row.err}
			s.set("alice@here.test", row.rows...)
			a := New(Options{Store: s, Now: clock.Now}).Own(t.Context(), ownAlice())
			certs, _ := a.Certificates(clock.Now())
			if a.Kind != row.kind || len(certs) != row.count || !strings.Contains(a.Reason, row.reason) {
				t.Errorf("%+v", a)
			}
			if (a.Kind == mail.Found) != (a.Reason == "") {
				t.Errorf("kind %v with the reason %q", a.Kind, a.Reason)
			}
		})
	}
}

// The time is asked at each use, not when the certificate was read.
func TestUsableByTheTimeOfUse(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	s := &rows{}
	s.set("alice@here.test", certificate(t, clock.Now().Add(time.Hour)))
	d := New(Options{Store: s, Now: clock.Now})
	if a := d.Own(t.Context(), ownAlice()); a.Kind != mail.None {
		t.Fatalf("before it is valid: %+v", a)
	}
	clock.Advance(2 * time.Hour)
	if a := d.Own(t.Context(), ownAlice()); a.Kind != mail.Found {
		t.Fatalf("after: %+v", a)
	}
	clock.Advance(-2 * time.Hour)
	if a := d.Own(t.Context(), ownAlice()); a.Kind != mail.None {
		t.Fatalf("before it is valid again: %+v", a)
	}
	if s.count() != 1 {
		t.Errorf("read %d times", s.count())
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	s := &rows{}
	d := New(Options{Store: s, Now: clock.Now})
	for range 3 {
		if a := d.Own(t.Context(), ownAlice()); a.Kind != mail.None {
			t.Fatalf("%+v", a)
		}
	}
	if s.count() != 1 {
		t.Errorf("that there is nothing is not remembered: asked %d times", s.count())
	}
	s.set("alice@here.test", certificate(t, clock.Now()))
	d.Forget()
	if a := d.Own(t.Context(), ownAlice()); a.Kind != mail.Found {
		t.Errorf("%+v", a)
	}
	// A failure is never remembered.
	s.mu.Lock()
	s.err = errors.New("away")
	s.mu.Unlock()
	d.Forget()
	if a := d.Own(t.Context(), ownAlice()); a.Kind != mail.Unknown {
		t.Errorf("%+v", a)
	}
	s.mu.Lock()
	s.err = nil
	s.mu.Unlock()
	if a := d.Own(t.Context(), ownAlice()); a.Kind != mail.Found {
		t.Errorf("after the failure: %+v", a)
	}
}

// A look-up that read the rows before Forget must not be remembered after it.
func TestForgetDuringALookUp(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	s := &rows{}
	d := New(Options{Store: s, Now: clock.Now})
	cert := certificate(t, clock.Now())
	s.hook = func() {
		s.mu.Lock()
		s.hook = nil
		s.mu.Unlock()
		s.set("alice@here.test", cert)
		d.Forget()
	}
	if a := d.Own(t.Context(), ownAlice()); a.Kind != mail.None {
		t.Fatalf("the rows as they were read: %+v", a)
	}
	if a := d.Own(t.Context(), ownAlice()); a.Kind != mail.Found {
		t.Errorf("what was read before Forget is remembered: %+v", a)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	s := &rows{}
	s.set("alice@here.test", certificate(t, clock.Now()))
	d := New(Options{Store: s, Now: clock.Now})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if a := d.Own(t.Context(), ownAlice()); a.Kind != mail.Found {
					t.Errorf("%+v", a)
					return
				}
			}
		})
		wg.Go(func() {
			for range 20 {
				d.Forget()
			}
		})
	}
	wg.Wait()
}

func BenchmarkOwn(b *testing.B) {
	clock := testkit.NewClock()
	k, err := pgp.GenerateKey("alice@here.test", clock.Now())
	if err != nil {
		b.Fatal(err)
	}
	s := &rows{}
	s.set("alice@here.test", store.Certificate{Fingerprint: k.Certificate().Fingerprint(), Data: k.Certificate().Data()})
	d := New(Options{Store: s, Now: clock.Now})
	a := ownAlice()
	b.ReportAllocs()
	for b.Loop() {
		if d.Own(b.Context(), a).Kind != mail.Found {
			b.Fatal("not found")
		}
	}
}
