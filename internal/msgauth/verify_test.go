package msgauth

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/internal/dns"
	"postern/internal/dns/dnstest"
	"postern/internal/mail"
	"postern/internal/testkit"
)

// long is more than any answer on loopback takes, short is how long a test waits
// for a server that stays silent.
const (
	long  = 20 * time.Second
	short = 50 * time.Millisecond
)

// newTestResolver asks the given server; its clock stands.
func newTestResolver(t testing.TB, try time.Duration, s *dnstest.Server) (*dns.Resolver, *testkit.Clock) {
	t.Helper()
	clock := testkit.NewClock()
	r, err := dns.New(dns.Options{Servers: []string{s.Addr}, Timeout: try, Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, clock
}

// trip lets r find out that nobody answers.
func trip(t testing.TB, r *dns.Resolver) {
	t.Helper()
	for i := 0; !r.Tripped(); i++ {
		if _, err := r.LookupTXT(t.Context(), fmt.Sprintf("trip%d.example", i)); err == nil || isNotFound(err) || i == 100 {
			t.Fatalf("a dead server gave %v", err)
		}
	}
}

// typical is a message of sender.example with one signature.
func typical(domain string) Request {
	header := wire(strings.Replace(rfc6376Signature, "d=example.com;", "d="+domain+";", 1) + rfc6376Received +
		strings.ReplaceAll(joesHeader, "football.example.com", domain) + "\n")
	header = strings.Replace(header, "i=joe@football.example.com;", "", 1)
	return Request{
		IP:         netip.MustParseAddr("192.0.2.7"),
		Helo:       "mail." + domain,
		From:       mail.Address{Local: "joe", Domain: domain},
		HeaderFrom: []mail.Address{{Local: "joe", Domain: domain}},
		Header:     []byte(header),
		Body:       func() io.Reader { return strings.NewReader(wire(joesBody)) },
	}
}

func words(r Results) string {
	spf, dkim, dmarc := r.Summary()
	return spf + " " + dkim + " " + dmarc
}

// TestVerify goes the whole way over a real name server, and then once more
// from memory: the same results, and nothing is asked.
func TestVerify(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t,
		`football.example.com. 300 IN TXT "v=spf1 include:spf.example.com -all"`,
		`spf.example.com. 300 IN TXT "v=spf1 a:out.example.com -all"`,
		`out.example.com. 300 IN A 192.0.2.7`,
		`_dmarc.example.com. 300 IN TXT "v=DMARC1; p=reject; sp=quarantine; np=reject"`,
		`brisbane._domainkey.example.com. 300 IN TXT "`+rfc6376Key[:200]+`" "`+rfc6376Key[200:]+`"`,
	)
	r, _ := newTestResolver(t, long, s)
	v := NewVerifier(Options{Resolver: r, Deadline: long})
	req := joe(rfc6376Signature + rfc6376Received)
	req.IP, req.From = netip.MustParseAddr("192.0.2.7"), mail.Address{Local: "joe", Domain: "football.example.com"}
	first := v.Verify(t.Context(), req)
	if got := words(first); got != "pass pass pass" || !first.Aligned {
		t.Fatalf("%s: %s", got, first.Field("mx.example"))
	}
	want := DMARCPolicy{Domain: "example.com", Request: "quarantine", SPFAligned: true, DKIMAligned: true}
	if first.Published != want {
		t.Errorf("policy %+v", first.Published)
	}
	if n := s.Count("AAAA out.example.com"); n != 0 {
		t.Errorf("asked for AAAA %d times for an IPv4 client", n)
	}
	sent := s.Total()
	for range 100 {
		if again := v.Verify(t.Context(), req); again.Field("") != first.Field("") {
			t.Fatalf("from memory: %s", again.Field(""))
		}
	}
	if s.Total() != sent {
		t.Errorf("%d more questions", s.Total()-sent)
	}
}

// TestVerifyManners has servers that are of no use: mail goes on, with results
// that say that nobody knows, and after the breaker has tripped nothing is sent
// and nobody waits.
func TestVerifyManners(t *testing.T) {
	t.Parallel()
	for name, behave := range map[string]dnstest.Manner{
		"silence": dnstest.Silence, "REFUSED": dnstest.Rcode(miekg.RcodeRefused), "SERVFAIL": dnstest.Rcode(miekg.RcodeServerFailure), "garbage": dnstest.Garbage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := dnstest.Start(t)
			s.Set(behave)
			r, _ := newTestResolver(t, short, s)
			v := NewVerifier(Options{Resolver: r, Deadline: long})
			var all sync.WaitGroup
			for i := range 40 {
				all.Go(func() {
					req := typical(fmt.Sprintf("d%d.example", i))
					req.Body = func() io.Reader { t.Error("the body was read"); return nil }
					if got := words(v.Verify(t.Context(), req)); got != "temperror temperror temperror" {
						t.Errorf("message %d: %s", i, got)
					}
				})
			}
			all.Wait()
			if !r.Tripped() {
				t.Fatal("not tripped")
			}
			for i := range 1000 {
				req := typical(fmt.Sprintf("e%d.later.example", i))
				if got := words(v.Verify(t.Context(), req)); got != "temperror temperror temperror" {
					t.Fatal(got)
				}
			}
			if n := s.Below("later.example"); n != 0 {
				t.Errorf("%d questions after it tripped", n)
			}
		})
	}
}

// TestVerifyDeadline: all look-ups of a message together take no longer.
func TestVerifyDeadline(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t)
	s.Set(dnstest.Silence)
	r, _ := newTestResolver(t, long, s)
	v := NewVerifier(Options{Resolver: r, Deadline: short})
	start := time.Now()
	if got := words(v.Verify(t.Context(), typical("a.example"))); got != "temperror temperror temperror" {
		t.Error(got)
	}
	if d := time.Since(start); d > long/2 {
		t.Errorf("took %v", d)
	}
	if n := s.Total(); n != 3 { // SPF, the key and the policy at the same time
		t.Errorf("%d questions, want 3", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := words(v.Verify(ctx, typical("b.example"))); got != "temperror temperror temperror" {
		t.Errorf("cancelled: %s", got)
	}
}

// TestVerifyOtherResolver: anything that has the methods will do.
func TestVerifyOtherResolver(t *testing.T) {
	t.Parallel()
	var _, _ Resolver = (*net.Resolver)(nil), (*dns.Resolver)(nil)
	v := NewVerifier(Options{Resolver: joesZone()})
	if got := words(v.Verify(t.Context(), joe(rfc8463Signatures))); got != "none pass none" {
		t.Error(got)
	}
}

// TestVerifyEmpty: a message of nothing at all.
func TestVerifyEmpty(t *testing.T) {
	t.Parallel()
	z := &zone{}
	for _, header := range []string{"", "\r\n", "\n", "x", ":", "\r", " ", "DKIM-Signature:", "DKIM-Signature:\r\n\r\n"} {
		r := NewVerifier(Options{Resolver: z}).Verify(t.Context(), Request{Header: []byte(header)})
		if r.SPF != None || r.DMARC != None || r.Aligned {
			t.Errorf("%q: %+v", header, r)
		}
	}
	z.wantAsked(t)
}

// TestVerifyNoBodyNoSignature: the body of unsigned mail stays unread.
func TestVerifyNoBodyNoSignature(t *testing.T) {
	t.Parallel()
	req := joe("X-Note: see DKIM-Signature: v=1\n")
	req.Body = func() io.Reader { t.Error("the body was read"); return nil }
	if r := NewVerifier(Options{Resolver: joesZone()}).Verify(t.Context(), req); len(r.DKIM) != 0 {
		t.Errorf("%+v", r.DKIM)
	}
}

// TestVerifyStartsNoGoroutine watches the scheduler while every answer is in
// memory or the breaker is open.
func TestVerifyStartsNoGoroutine(t *testing.T) {
	s := dnstest.Start(t)
	s.Set(dnstest.Rcode(miekg.RcodeRefused))
	r, _ := newTestResolver(t, long, s)
	trip(t, r)
	v := NewVerifier(Options{Resolver: r})
	req := typical("sender.example")
	created := goroutinesCreated()
	for range 1000 {
		v.Verify(t.Context(), req)
	}
	if n := goroutinesCreated() - created; n > 100 { // those of the server and of other tests
		t.Errorf("%d goroutines were started", n)
	}
}

func goroutinesCreated() uint64 {
	sample := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func BenchmarkVerifyTripped(b *testing.B) {
	s := dnstest.Start(b)
	s.Set(dnstest.Rcode(miekg.RcodeRefused))
	r, _ := newTestResolver(b, long, s)
	trip(b, r)
	v := NewVerifier(Options{Resolver: r})
	for _, c := range []struct {
		name string
		req  Request
	}{{"signed", typical("sender.example")}, {"unsigned", unsigned("sender.example")}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if v.Verify(b.Context(), c.req).SPF != TempError {
					b.Fatal("not a dead resolver")
				}
			}
		})
	}
}

// unsigned is typical without its signature.
func unsigned(domain string) Request {
	req := typical(domain)
	at := strings.Index(string(req.Header), "Received:")
	req.Header = req.Header[at:]
	return req
}

func BenchmarkVerifyRemembered(b *testing.B) {
	s := dnstest.Start(b,
		`sender.example. 300 IN TXT "v=spf1 ip4:192.0.2.0/24 -all"`,
		`_dmarc.sender.example. 300 IN TXT "v=DMARC1; p=reject"`,
	)
	r, _ := newTestResolver(b, long, s)
	v := NewVerifier(Options{Resolver: r})
	req := unsigned("sender.example")
	v.Verify(b.Context(), req)
	b.ReportAllocs()
	for b.Loop() {
		if !v.Verify(b.Context(), req).Aligned {
			b.Fatal("not aligned")
		}
	}
}
