package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postern/internal/dns/dnstest"
)

// long is more than any answer on loopback takes, short is how long a test waits
// for a server that stays silent.
const (
	long  = 20 * time.Second
	short = 50 * time.Millisecond
)

func isTemporary(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.Temporary() && !e.IsNotFound
}

func TestResolverAnswers(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t,
		`txt.example. 300 IN TXT "one " "two \"quoted\" \\ \200"`,
		`txt.example. 300 IN TXT "second"`,
		`alias.example. 300 IN CNAME Txt.Example.`,
		`mx.example. 300 IN MX 10 mail.example.`,
		`host.example. 300 IN A 192.0.2.1`,
		`host.example. 300 IN AAAA 2001:db8::1`,
		`host4.example. 300 IN A 192.0.2.4`,
		`host6.example. 300 IN AAAA 2001:db8::6`,
		`1.2.0.192.in-addr.arpa. 300 IN PTR host.example.`,
	)
	r, _ := newTestResolver(t, long, s)
	ctx := t.Context()
	texts := func(name string) string {
		txt, err := r.LookupTXT(ctx, name)
		return fmt.Sprintf("%q %v", txt, err)
	}
	addrs := func(name string) string {
		ips, err := r.LookupIPAddr(ctx, name)
		return fmt.Sprint(ips, err)
	}
	mx, err := r.LookupMX(ctx, "mx.example")
	if err != nil || len(mx) != 1 || mx[0].Host != "mail.example." || mx[0].Pref != 10 {
		t.Errorf("LookupMX: %v, %v", mx, err)
	}
	ptr, err := r.LookupAddr(ctx, "192.0.2.1")
	if err != nil || !slices.Equal(ptr, []string{"host.example."}) {
		t.Errorf("LookupAddr: %v, %v", ptr, err)
	}
	for _, c := range []struct{ name, got, want string }{
		{"TXT", texts("TXT.example."), `["one two \"quoted\" \\ \xc8" "second"] <nil>`},
		{"alias", texts("alias.example"), `["one two \"quoted\" \\ \xc8" "second"] <nil>`},
		{"both families", addrs("host.example"), `[{192.0.2.1 } {2001:db8::1 }] <nil>`},
		{"only A", addrs("host4.example"), `[{192.0.2.4 }] <nil>`},
		{"only AAAA", addrs("host6.example"), `[{2001:db8::6 }] <nil>`},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, c.got, c.want)
		}
	}
	for _, name := range []string{"none.example", "host.example" /* no TXT there */} {
		if _, err := r.LookupTXT(ctx, name); !isNotFound(err) {
			t.Errorf("%s: error %v, want not found", name, err)
		}
	}
	if _, err := r.LookupIPAddr(ctx, "none.example"); !isNotFound(err) {
		t.Errorf("address of nothing: %v", err)
	}
}

func TestResolverNamesThatAreNone(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t)
	r, _ := newTestResolver(t, long, s)
	for _, name := range []string{"", ".", "a..b", ".a", "a b.example", "a\\.b", "a\r\n", "é.example",
		strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 130) + "example"} {
		if _, err := r.LookupTXT(t.Context(), name); !isNotFound(err) {
			t.Errorf("%q: error %v, want not found", name, err)
		}
	}
	if n := s.Total(); n != 0 {
		t.Errorf("%d questions went out", n)
	}
}

func TestResolverRemembers(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t,
		`short.example. 1 IN TXT "x"`, `middle.example. 300 IN TXT "x"`, `long.example. 999999 IN TXT "x"`)
	for _, c := range []struct {
		name string
		keep time.Duration
	}{
		{"short.example", 5 * time.Second},
		{"middle.example", 300 * time.Second},
		{"long.example", time.Hour},
		{"none.example", 60 * time.Second}, // the SOA record's minimum
	} {
		r, clock := newTestResolver(t, long, s)
		ask := func() int {
			_, _ = r.LookupTXT(t.Context(), c.name)
			return s.Count("TXT " + c.name)
		}
		if n := ask(); n != 1 {
			t.Fatalf("%s: asked %d times", c.name, n)
		}
		clock.Advance(c.keep - time.Millisecond)
		if n := ask(); n != 1 {
			t.Errorf("%s: asked again before %v", c.name, c.keep)
		}
		clock.Advance(time.Millisecond)
		if n := ask(); n != 2 {
			t.Errorf("%s: not asked again after %v", c.name, c.keep)
		}
	}
}

func TestResolverFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		behave func(dns.ResponseWriter, *dns.Msg, string)
		sent   int // questions for one look-up
	}{
		{"SERVFAIL", dnstest.Rcode(dns.RcodeServerFailure), 1},
		{"REFUSED", dnstest.Rcode(dns.RcodeRefused), 2},
		{"FORMERR", dnstest.Rcode(dns.RcodeFormatError), 2},
		{"silence", dnstest.Silence, 2},
		{"garbage", dnstest.Garbage, 2},
		{"another question", func(w dns.ResponseWriter, m *dns.Msg, _ string) {
			reply := new(dns.Msg)
			reply.SetReply(m)
			reply.Question[0].Name = "other.example."
			_ = w.WriteMsg(reply)
		}, 2},
		{"a question", func(w dns.ResponseWriter, m *dns.Msg, _ string) { _ = w.WriteMsg(m) }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := dnstest.Start(t, `a.example. 300 IN TXT "x"`)
			s.Set(c.behave)
			r, clock := newTestResolver(t, long, s)
			if c.name == "silence" {
				r.timeout = short
			}
			for range 3 { // the second and third come from memory
				if _, err := r.LookupTXT(t.Context(), "a.example"); !isTemporary(err) {
					t.Fatalf("error %v, want a temporary one", err)
				}
			}
			if n := s.Total(); n != c.sent {
				t.Errorf("%d questions went out, want %d", n, c.sent)
			}
			s.Set(s.Answer)
			r.timeout = long
			clock.Advance(failureTTL)
			if txt, err := r.LookupTXT(t.Context(), "a.example"); err != nil || len(txt) != 1 {
				t.Errorf("after a minute: %q, %v", txt, err)
			}
		})
	}
}

func TestResolverTruncated(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 255)
	record := `big.example. 300 IN TXT` + strings.Repeat(` "`+big+`"`, 20)
	s := dnstest.Start(t, record)
	s.Set(func(w dns.ResponseWriter, m *dns.Msg, network string) {
		if network == "tcp" {
			s.Answer(w, m, network)
			return
		}
		reply := new(dns.Msg)
		reply.SetReply(m)
		reply.Truncated = true
		_ = w.WriteMsg(reply)
	})
	r, _ := newTestResolver(t, long, s)
	txt, err := r.LookupTXT(t.Context(), "big.example")
	if err != nil || len(txt) != 1 || txt[0] != strings.Repeat(big, 20) {
		t.Errorf("got %d records, %v", len(txt), err)
	}
	if s.Count("udp") != 1 || s.Count("tcp") != 1 {
		t.Errorf("%d by UDP and %d by TCP, want 1 and 1", s.Count("udp"), s.Count("tcp"))
	}
}

func TestResolverWithoutEDNS(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t, `a.example. 300 IN TXT "x"`)
	s.Set(func(w dns.ResponseWriter, m *dns.Msg, network string) {
		if m.IsEdns0() != nil {
			dnstest.Rcode(dns.RcodeFormatError)(w, m, network)
			return
		}
		s.Answer(w, m, network)
	})
	r, _ := newTestResolver(t, long, s)
	if txt, err := r.LookupTXT(t.Context(), "a.example"); err != nil || len(txt) != 1 {
		t.Errorf("%q, %v", txt, err)
	}
}

func TestResolverOtherServer(t *testing.T) {
	t.Parallel()
	bad, good := dnstest.Start(t), dnstest.Start(t, `a.example. 300 IN TXT "x"`, `b.example. 300 IN TXT "x"`)
	bad.Set(dnstest.Rcode(dns.RcodeServerFailure))
	r, _ := newTestResolver(t, long, bad, good)
	for _, name := range []string{"a.example", "b.example"} {
		if _, err := r.LookupTXT(t.Context(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if bad.Total() != 1 || good.Total() != 2 {
		t.Errorf("the bad server was asked %d times and the good one %d times, want 1 and 2", bad.Total(), good.Total())
	}
}

func TestResolverIgnoresGuesses(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t, `a.example. 300 IN TXT "x"`)
	s.Set(func(w dns.ResponseWriter, m *dns.Msg, network string) {
		guess := new(dns.Msg)
		guess.SetReply(m)
		guess.Id++
		_ = w.WriteMsg(guess)
		s.Answer(w, m, network)
	})
	r, _ := newTestResolver(t, long, s)
	if txt, err := r.LookupTXT(t.Context(), "a.example"); err != nil || len(txt) != 1 {
		t.Errorf("%q, %v", txt, err)
	}
}

// TestResolverOneFlight asks the same question many times at once.
func TestResolverOneFlight(t *testing.T) {
	t.Parallel()
	const askers = 50
	s := dnstest.Start(t, `a.example. 300 IN TXT "x"`)
	gate := make(chan struct{})
	s.Set(func(w dns.ResponseWriter, m *dns.Msg, network string) {
		<-gate
		s.Answer(w, m, network)
	})
	r, _ := newTestResolver(t, long, s)
	var all sync.WaitGroup
	for range askers {
		all.Go(func() {
			if txt, err := r.LookupTXT(t.Context(), "a.example"); err != nil || len(txt) != 1 {
				t.Errorf("%q, %v", txt, err)
			}
		})
	}
	// One who cannot wait goes away alone, with a temporary error.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.LookupTXT(ctx, "a.example"); !isTemporary(err) {
		t.Errorf("cancelled: %v", err)
	}
	close(gate)
	all.Wait()
	if n := s.Total(); n != 1 {
		t.Errorf("%d questions went out, want 1", n)
	}
}

func TestResolverClose(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t)
	s.Set(dnstest.Silence)
	r, _ := newTestResolver(t, long, s)
	failed := make(chan error)
	go func() {
		_, err := r.LookupTXT(t.Context(), "a.example")
		failed <- err
	}()
	for s.Total() == 0 {
		time.Sleep(time.Millisecond)
	}
	r.Close() // does not wait for the try to time out
	if err := <-failed; !isTemporary(err) {
		t.Errorf("a look-up that was on its way: %v", err)
	}
	if _, err := r.LookupTXT(t.Context(), "b.example"); !isTemporary(err) {
		t.Errorf("a look-up after Close: %v", err)
	}
}

func TestServerAddresses(t *testing.T) {
	t.Parallel()
	got, err := serverAddresses([]string{"192.0.2.1", "192.0.2.1:5353", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:5353"})
	want := []string{"192.0.2.1:53", "192.0.2.1:5353", "[2001:db8::1]:53", "[2001:db8::1]:53", "[2001:db8::1]:5353"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"", "localhost", "192.0.2.1:", "192.0.2.1:99999"} {
		if _, err := New(Options{Servers: []string{bad}}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if r, err := New(Options{}); err != nil || len(r.servers) == 0 {
		t.Errorf("defaults: %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	var c cache
	for i := range 3 * maxEntries {
		e := entry{expires: now.Add(time.Hour)}
		if i%2 == 0 {
			e.expires = now.Add(time.Second)
		}
		c.put(question{fmt.Sprint(i), 1}, e, now)
	}
	if len(c.entries) != maxEntries {
		t.Errorf("%d entries, want %d", len(c.entries), maxEntries)
	}
	later := now.Add(time.Minute) // half are expired: they go first
	c.put(question{"late", 1}, entry{expires: later.Add(time.Hour)}, later)
	if _, ok := c.get(question{"late", 1}, later); !ok || len(c.entries) > maxEntries {
		t.Errorf("%d entries, the last one kept: %v", len(c.entries), ok)
	}

	var big cache
	for i := range 2000 {
		big.put(question{fmt.Sprint(i), 1}, entry{answer: &Answer{forms: &forms{size: maxAnswerSize}}, expires: now.Add(time.Hour)}, now)
	}
	if want := maxCacheSize / maxAnswerSize; len(big.entries) != want || big.size != want*maxAnswerSize {
		t.Errorf("%d entries of %d octets, want %d entries", len(big.entries), big.size, want)
	}
}

// TestResolverHugeAnswer: what is too large is neither used nor kept.
func TestResolverHugeAnswer(t *testing.T) {
	t.Parallel()
	part := ` "` + strings.Repeat("x", 250) + `"`
	s := dnstest.Start(t,
		`large.example. 300 IN TXT`+strings.Repeat(part, 60),
		`huge.example. 300 IN TXT`+strings.Repeat(part, 70))
	r, _ := newTestResolver(t, long, s)
	if _, err := r.LookupTXT(t.Context(), "large.example"); err != nil {
		t.Errorf("15,000 octets: %v", err)
	}
	if _, err := r.LookupTXT(t.Context(), "huge.example"); !isTemporary(err) {
		t.Errorf("17,500 octets: %v", err)
	}
}

// FuzzReply reads whatever a name server may send.
func FuzzReply(f *testing.F) {
	for _, text := range []string{`a.example. 300 IN TXT "x" "\200"`, `a.example. 1 IN MX 10 b.`, `a.example. 5 IN CNAME a.example.`, `a.example. 0 IN A 192.0.2.1`} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		m := new(dns.Msg)
		m.SetQuestion("a.example.", dns.TypeTXT)
		m.Response, m.Answer = true, []dns.RR{rr}
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		reply := new(dns.Msg)
		if reply.Unpack(wire) != nil {
			return
		}
		for _, qtype := range []uint16{dns.TypeTXT, dns.TypeMX, dns.TypeA, dns.TypeAAAA, dns.TypePTR,
			dns.TypeTLSA, dns.TypeOPENPGPKEY, dns.TypeCNAME, dns.TypeNSEC} {
			m := new(dns.Msg)
			m.SetQuestion("a.example.", qtype)
			m.Id = reply.Id
			_ = answers(reply, m)
			q := question{"a.example", qtype}
			o := read(q, reply, len(wire)%2 == 0)
			e := o.entry(q, time.Unix(0, 0))
			if (e.err == nil) != (e.answer != nil) || e.size() > q.limit() {
				t.Errorf("%+v", e)
			}
			if a := e.answer; a != nil {
				if a.Secure && !(reply.AuthenticatedData && len(wire)%2 == 0) || len(a.Records) > maxRecords ||
					a.NXDomain && len(a.Records) > 0 || (a.forms.none == nil) != (len(a.Records) > 0) {
					t.Errorf("%+v", a)
				}
				for _, rr := range a.Records {
					if rr.Header().Rrtype != qtype || !strings.EqualFold(rr.Header().Name, dns.Fqdn(a.Name)) {
						t.Errorf("%v in the answer for %s", rr, a.Name)
					}
				}
			}
			if keep := e.expires.Sub(time.Unix(0, 0)); keep < minPositive || keep > maxPositive {
				t.Errorf("kept for %v", keep)
			}
		}
	})
}

func BenchmarkResolverHit(b *testing.B) {
	s := dnstest.Start(b, `a.example. 300 IN TXT "x"`)
	r, _ := newTestResolver(b, long, s)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.LookupTXT(b.Context(), "a.example"); err != nil {
			b.Fatal(err)
		}
	}
}
