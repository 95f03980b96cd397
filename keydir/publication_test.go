package keydir

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"postern/internal/cluster"
	"postern/internal/mail"
	"postern/internal/store"
)

// gone is a context that has ended.
func gone(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// As long as nobody knows who publishes, nothing is "not found".
func TestNotReadyIsNotAbsent(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.shelf.put(t, "alice@here.test", false, newCertificate(t, "alice@here.test"))
	targets := []string{
		advanced("here.test", "alice"), direct("here.test", "nobody"), "keys.here.test/vks/v1/by-email/nobody@here.test",
		"keys.here.test/pks/lookup?op=get&search=0x0123456789ABCDEF",
	}
	for _, target := range targets {
		r := d.get(target)
		if d.body(r, http.StatusServiceUnavailable, textType); r.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %v", target, r.Header)
		}
	}
	d.read()
	d.certificates(d.get(targets[0]), octetType)
	d.body(d.get(targets[1]), http.StatusNotFound, textType)
	// The store breaks: what was found may have been revoked, what was not may be new.
	d.shelf.fail(errBroken)
	d.pub.Forget()
	if err := d.pub.read(t.Context()); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	for _, target := range targets {
		d.body(d.get(target), http.StatusServiceUnavailable, textType)
	}
	d.shelf.fail(nil)
	d.read()
	d.certificates(d.get(targets[0]), octetType)
	d.body(d.get(targets[1]), http.StatusNotFound, textType)
}

// After Forget nothing old is given out, even before the list has been read again.
func TestForgetPublication(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	first, second := newCertificate(t, "alice@here.test"), newCertificate(t, "alice@here.test")
	d.shelf.put(t, "alice@here.test", false, first)
	d.read()
	target := advanced("here.test", "alice")
	tag := d.get(target).Header.Get("ETag")
	asked := d.shelf.count()
	for range 3 {
		d.certificates(d.get(target), octetType)
	}
	if n := d.shelf.count() - asked; n != 0 {
		t.Errorf("what was ready was read %d times", n)
	}
	// What did not change is still what it was.
	d.pub.Forget()
	page := d.pub.ready(1)
	if got := d.get(target).Header.Get("ETag"); got != tag || d.shelf.count() != asked+1 || d.pub.ready(1).binary != page.binary {
		t.Errorf("made anew: %s %s, %d", got, tag, d.shelf.count())
	}
	d.shelf.put(t, "alice@here.test", false, second)
	if got := d.certificates(d.get(target), octetType); !slices.Equal(got, []string{first.Fingerprint()}) {
		t.Errorf("before Forget: %v", got)
	}
	d.pub.Forget()
	if got := d.certificates(d.get(target), octetType); !slices.Equal(got, []string{second.Fingerprint()}) {
		t.Errorf("after Forget: %v", got)
	}
	d.shelf.put(t, "alice@here.test", true, second)
	d.pub.Forget()
	for range 2 {
		d.body(d.get(target), http.StatusNotFound, textType)
	}
}

// Run reads at the start, after each Forget, again after a failure, and not all the
// time.
func TestRunPublication(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.shelf.put(t, "alice@here.test", false, newCertificate(t, "alice@here.test"))
		ctx, stop := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { d.pub.Run(ctx) })
		synctest.Wait()
		d.certificates(d.get(advanced("here.test", "alice")), octetType)
		d.shelf.put(t, "bob@here.test", false, newCertificate(t, "bob@here.test"))
		d.pub.Forget()
		time.Sleep(2 * listEvery)
		synctest.Wait()
		d.certificates(d.get(advanced("here.test", "bob")), octetType)
		list := d.pub.listing.Load()
		time.Sleep(time.Hour)
		synctest.Wait()
		if d.pub.listing.Load() != list {
			t.Error("it was read again though nothing changed")
		}
		d.shelf.fail(errBroken)
		d.pub.Forget()
		time.Sleep(2 * listEvery)
		synctest.Wait()
		d.body(d.get(advanced("here.test", "carol")), http.StatusServiceUnavailable, textType)
		d.shelf.fail(nil)
		time.Sleep(2 * listRetry)
		synctest.Wait()
		d.body(d.get(advanced("here.test", "carol")), http.StatusNotFound, textType)
		stop()
		ended.Wait()
	})
}

// A certificate that expires is made a page of again, though nobody changed it.
func TestPagesAge(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	now := time.Date(2020, 6, 1, 0, 0, 0, 0, time.UTC)
	d.pub.now = func() time.Time { return now }
	old, other := fileCertificate(t, "expired.asc"), fileCertificate(t, "version6.asc")
	d.shelf.put(t, "alice@here.test", false, old, other)
	d.read()
	if got := d.certificates(d.get(advanced("here.test", "alice")), octetType); !slices.Equal(got, []string{old.Fingerprint()}) {
		t.Errorf("in 2020: %v", got)
	}
	now = time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	if got := d.certificates(d.get(advanced("here.test", "alice")), octetType); !slices.Equal(got, []string{old.Fingerprint()}) || d.pub.ready(1).certs[0].Fingerprint() != other.Fingerprint() {
		t.Errorf("in 2025: %v", got)
	}
}

// Two hashes that collide in the list are told apart.
func TestListCollides(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.shelf.put(t, "alice@here.test", false, newCertificate(t, "alice@here.test"))
	d.read()
	d.pub.listing.Store(&listing{hashes: []listed{{d.pub.hashKey("here.test", WKDHash("bob")), 1}}})
	d.body(d.get(advanced("here.test", "bob")), http.StatusNotFound, textType)
	d.pub.listing.Store(&listing{hashes: []listed{{d.pub.hashKey("there.test", WKDHash("alice")), 1}}})
	d.body(d.get(advanced("there.test", "alice")), http.StatusNotFound, textType)
}

// The ready answers have a bound.
func TestPagesAreBounded(t *testing.T) {
	t.Parallel()
	p := NewPublication(&shelf{}, nil, nil)
	for i := range store.ID(100) {
		p.keep(i, &page{size: maxPageOctets / 10})
		if p.octets > maxPageOctets || p.pages[i] == nil {
			t.Fatalf("%d octets in %d pages after %d", p.octets, len(p.pages), i)
		}
	}
	p.keep(99, &page{size: 1})
	sum := 0
	for _, page := range p.pages {
		sum += page.size
	}
	if p.octets != sum || len(p.pages) < 9 {
		t.Errorf("%d octets counted, %d there in %d pages", p.octets, sum, len(p.pages))
	}
	for i := range store.ID(maxPages + 50) {
		p.keep(i, &page{size: 1})
	}
	if len(p.pages) > maxPages {
		t.Errorf("%d pages", len(p.pages))
	}
}

// Many ask while accounts change. It is for the race detector.
func TestPublicationRace(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	for i := range 5 {
		a := fmt.Sprintf("a%d@here.test", i)
		d.shelf.put(t, a, false, newCertificate(t, a))
	}
	d.read()
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			for k := range 200 {
				if r := d.get(advanced("here.test", fmt.Sprintf("a%d", (i+k)%5))); r.StatusCode != http.StatusOK {
					t.Errorf("status %d", r.StatusCode)
				}
			}
		})
	}
	all.Go(func() {
		for range 50 {
			d.pub.Forget()
			_ = d.pub.read(t.Context())
		}
	})
	all.Wait()
}

// The limit is per IPv4 address and per IPv6 /64, and says when to come back.
func TestPublishRate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	rates := cluster.NewMemory(func() time.Time { return now })
	d := newDesk(t, func(o *PublishOptions) { o.Rate, o.Rates = 3, rates })
	d.shelf.put(t, "alice@here.test", false, newCertificate(t, "alice@here.test"))
	d.read()
	from := func(addr string) int {
		r := d.do(http.MethodGet, direct("here.test", "alice"), func(r *http.Request) { r.RemoteAddr = addr })
		if r.StatusCode == http.StatusTooManyRequests {
			d.body(r, http.StatusTooManyRequests, textType)
			if r.Header.Get("Retry-After") != "60" {
				t.Errorf("Retry-After: %q", r.Header.Get("Retry-After"))
			}
		}
		return r.StatusCode
	}
	for i, c := range []struct {
		addr string
		want int
	}{
		{"192.0.2.1:1", 200}, {"192.0.2.1:2", 200}, {"[::ffff:192.0.2.1]:3", 200}, {"192.0.2.1:4", 429}, {"192.0.2.2:1", 200},
		{"[2001:db8:0:1::1]:1", 200}, {"[2001:db8:0:1::2]:1", 200}, {"[2001:db8:0:1:ffff::]:1", 200}, {"[2001:db8:0:1::3]:1", 429}, {"[2001:db8:0:2::1]:1", 200},
	} {
		if got := from(c.addr); got != c.want {
			t.Errorf("request %d from %s: %d, want %d", i, c.addr, got, c.want)
		}
	}
	now = now.Add(2 * rateWindow)
	if got := from("192.0.2.1:5"); got != 200 {
		t.Errorf("after the window: %d", got)
	}
}

func TestPublishNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t, func(o *PublishOptions) { o.Publication = nil })
	for _, target := range []string{
		advanced("here.test", "alice"), direct("here.test", "alice"), "keys.here.test/vks/v1/by-email/alice@here.test",
		"keys.here.test/vks/v1/by-keyid/0123456789ABCDEF", "keys.here.test/pks/lookup?op=index&search=alice@here.test",
	} {
		d.body(d.get(target), http.StatusNotFound, textType)
	}
}

func TestKeyIDOf(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"revoked.asc", "version6.asc"} {
		c := fileCertificate(t, name)
		if id, ok := keyIDOf(c.Fingerprint()); !ok || fmt.Sprintf("%016X", id) != c.KeyID() {
			t.Errorf("%s: %X, want %s", name, id, c.KeyID())
		}
	}
	for _, bad := range []string{"", "0123456789ABCDEF", "ZZ39F6DEC05F638F479938FF330691A130D1E9DZ"} {
		if id, ok := keyIDOf(bad); ok {
			t.Errorf("%q: %x", bad, id)
		}
	}
}

// million lists a million accounts with one certificate each.
type million struct{ shelf }

func (m *million) Listed(_ context.Context, each func(store.Listed) error) error {
	for i := range 1_000_000 {
		a := mail.Address{Local: fmt.Sprintf("person.%d", i), Domain: "here.test"}
		if err := each(store.Listed{Account: store.ID(i + 1), Address: a, Fingerprint: fmt.Sprintf("%040X", i*7919)}); err != nil {
			return err
		}
	}
	return nil
}
