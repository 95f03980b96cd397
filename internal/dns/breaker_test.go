package dns

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postern/internal/dns/dnstest"
)

// trip lets the breaker of r trip by asking for names of different domains.
func trip(t testing.TB, r *Resolver) {
	t.Helper()
	for i := range tripStrikes {
		if r.Tripped() {
			return
		}
		if _, err := r.LookupTXT(t.Context(), fmt.Sprintf("trip%d.example", i)); !isTemporary(err) {
			t.Fatalf("a dead server gave %v", err)
		}
	}
	if !r.Tripped() {
		t.Fatal("the breaker did not trip")
	}
}

func TestBreakerTripsAndCloses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		behave func(dns.ResponseWriter, *dns.Msg, string)
		sent   int // until it trips
	}{
		{"silence", dnstest.Silence, 2 * tripStrikes / silentStrikes},
		{"REFUSED", dnstest.Rcode(dns.RcodeRefused), 2 * tripStrikes / silentStrikes},
		{"garbage", dnstest.Garbage, 2 * tripStrikes / silentStrikes},
		{"SERVFAIL", dnstest.Rcode(dns.RcodeServerFailure), tripStrikes / servfailStrikes},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := dnstest.Start(t, `good.example. 300 IN TXT "x"`, `kept.example. 3600 IN TXT "x"`)
			r, clock := newTestResolver(t, long, s)
			if _, err := r.LookupTXT(t.Context(), "kept.example"); err != nil {
				t.Fatal(err)
			}
			s.Set(c.behave)
			if c.name == "silence" {
				r.timeout = short // no look-up is on its way
			}
			trip(t, r)
			r.timeout = long
			sent := s.Total()
			if sent-1 != c.sent {
				t.Errorf("%d questions until it tripped, want %d", sent-1, c.sent)
			}
			for i := range 100 {
				if _, err := r.LookupTXT(t.Context(), fmt.Sprintf("n%d.d%d.example", i, i)); !isTemporary(err) {
					t.Fatalf("tripped: %v", err)
				}
			}
			if _, err := r.LookupTXT(t.Context(), "kept.example"); err != nil {
				t.Errorf("what is remembered must not be lost: %v", err)
			}
			if s.Total() != sent {
				t.Errorf("%d questions went out while tripped", s.Total()-sent)
			}
			clock.Advance(openFor)
			s.Set(s.Answer)
			if _, err := r.LookupTXT(t.Context(), "good.example"); err != nil || r.Tripped() {
				t.Errorf("the probe: %v, still tripped: %v", err, r.Tripped())
			}
			if _, err := r.LookupTXT(t.Context(), "none.example"); !isNotFound(err) {
				t.Errorf("after the probe: %v", err)
			}
		})
	}
}

// TestBreakerProbes has a probe that fails, and one that others do not wait for.
func TestBreakerProbes(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t)
	s.Set(dnstest.Silence)
	r, clock := newTestResolver(t, short, s)
	trip(t, r)
	clock.Advance(openFor)
	sent := s.Total()
	if _, err := r.LookupTXT(t.Context(), "probe.example"); !isTemporary(err) {
		t.Fatal(err)
	}
	if n := s.Total() - sent; n != tries {
		t.Errorf("a probe sent %d questions, want %d", n, tries)
	}
	if _, err := r.LookupTXT(t.Context(), "second.example"); !isTemporary(err) || s.Total() != sent+tries {
		t.Error("a probe that failed did not open the breaker again")
	}

	clock.Advance(openFor)
	gate, asked := make(chan struct{}), make(chan struct{})
	s.Set(func(w dns.ResponseWriter, m *dns.Msg, network string) {
		close(asked)
		<-gate
		s.Answer(w, m, network)
	})
	r.timeout = long // nobody looks up at this moment
	var probe sync.WaitGroup
	probe.Go(func() {
		if _, err := r.LookupTXT(t.Context(), "slow.example"); !isNotFound(err) {
			t.Errorf("the probe: %v", err)
		}
	})
	<-asked
	for _, name := range []string{"other.example", "slow.example"} {
		if _, err := r.LookupTXT(t.Context(), name); !isTemporary(err) {
			t.Errorf("%s during a probe: %v", name, err)
		}
	}
	close(gate)
	probe.Wait()
	if r.Tripped() {
		t.Error("the probe was answered and the breaker is still open")
	}
}

// TestBreakerFreesWaiters: whoever waits when the breaker trips waits no longer.
func TestBreakerFreesWaiters(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t)
	r, _ := newTestResolver(t, long, s) // no look-up of this test times out by itself
	s.Set(func(w dns.ResponseWriter, m *dns.Msg, network string) {
		if m.Question[0].Name != "waits.example." {
			dnstest.Rcode(dns.RcodeServerFailure)(w, m, network)
		}
	})
	freed := make(chan error)
	go func() {
		_, err := r.LookupTXT(t.Context(), "waits.example")
		freed <- err
	}()
	for s.Total() == 0 {
		time.Sleep(time.Millisecond)
	}
	for i := range tripStrikes {
		_, _ = r.LookupTXT(t.Context(), fmt.Sprintf("x.d%d.example", i))
	}
	if err := <-freed; !isTemporary(err) {
		t.Errorf("freed with %v", err)
	}
	if n := s.Count("TXT waits.example"); n != 1 {
		t.Errorf("it waited for %d tries to time out", n-1)
	}
}

func TestBreakerStrikes(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	fail := func(b *breaker, n int, name string, silent bool) (tripped bool) {
		for i := range n {
			tripped = tripped || b.failure(fmt.Sprintf(name, i), silent, false, now)
		}
		return tripped
	}
	for _, c := range []struct {
		name  string
		fails func(b *breaker) bool
		want  bool
	}{
		{"one domain, many names", func(b *breaker) bool { return fail(b, 100, "n%d.broken.example", true) }, false},
		{"different domains, silent", func(b *breaker) bool { return fail(b, 5, "d%d.example", true) }, true},
		{"fewer", func(b *breaker) bool { return fail(b, 4, "d%d.example", true) }, false},
		{"different domains, SERVFAIL", func(b *breaker) bool { return fail(b, 15, "d%d.example", false) }, true},
		{"fewer", func(b *breaker) bool { return fail(b, 14, "d%d.example", false) }, false},
		{"a success between", func(b *breaker) bool {
			first := fail(b, 4, "d%d.example", true)
			b.success()
			return first || fail(b, 4, "e%d.example", true)
		}, false},
	} {
		var b breaker
		if got := c.fails(&b); got != c.want || b.blocked(now) != c.want {
			t.Errorf("%s: tripped %v, blocked %v, want %v", c.name, got, b.blocked(now), c.want)
		}
	}
	for name, want := range map[string]string{
		"com": "com", "example.com": "example.com", "a.b.example.com": "example.com", "": "",
	} {
		if got := lastLabels(name, 2); got != want {
			t.Errorf("lastLabels(%q) = %q, want %q", name, got, want)
		}
	}
}
