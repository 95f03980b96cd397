package dns

import (
	"encoding/base64"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postern/internal/dns/dnstest"
)

func query(t *testing.T, r *Resolver, name string, qtype uint16) Answer {
	t.Helper()
	a, err := r.Query(t.Context(), name, qtype)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return a
}

func TestQuery(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t,
		`example. 300 IN MX 10 a.example.`,
		`example. 200 IN MX 20 b.example.`,
		`alias.example. 100 IN CNAME Example.`,
		`lost.example. 100 IN CNAME nowhere.example.`,
		`_25._tcp.a.example. 300 IN TLSA 3 1 1 00112233`,
	)
	r, clock := newTestResolver(t, long, s)
	for _, c := range []struct {
		name     string
		qtype    uint16
		records  int
		at       string
		nxdomain bool
		ttl      time.Duration
	}{
		{"example", TypeMX, 2, "example", false, 200 * time.Second},
		{"EXAMPLE.", TypeMX, 2, "example", false, 200 * time.Second},
		{"alias.example", TypeMX, 2, "example", false, 100 * time.Second},
		{"_25._tcp.a.example", TypeTLSA, 1, "_25._tcp.a.example", false, 300 * time.Second},
		{"example", TypeA, 0, "example", false, 60 * time.Second},
		{"alias.example", TypeA, 0, "example", false, minNegative}, // comes without a SOA record
		{"none.example", TypeA, 0, "none.example", true, 60 * time.Second},
		{"lost.example", TypeA, 0, "nowhere.example", true, minNegative},
		{"no name", TypeA, 0, "no name", true, 0},
		{strings.Repeat("a.", 127) + "a", TypeA, 0, strings.Repeat("a.", 127) + "a", true, 0},
	} {
		a := query(t, r, c.name, c.qtype)
		if len(a.Records) != c.records || a.Name != c.at || a.NXDomain != c.nxdomain || a.Secure {
			t.Errorf("%s: %+v", c.name, a)
		}
		if c.nxdomain != (a.NXDomain) || c.ttl != 0 && a.TTL != c.ttl {
			t.Errorf("%s: kept for %v, want %v", c.name, a.TTL, c.ttl)
		}
		for _, rr := range a.Records {
			if rr.Header().Rrtype != c.qtype {
				t.Errorf("%s: %v", c.name, rr)
			}
		}
	}
	if mx, ok := query(t, r, "example", TypeMX).Records[0].(*MX); !ok || mx.Mx != "a.example." {
		t.Errorf("%v", mx)
	}
	clock.Advance(50 * time.Second)
	if a := query(t, r, "example", TypeMX); a.TTL != 150*time.Second {
		t.Errorf("50 s later: %v left", a.TTL)
	}
	if a, ok, err := r.Recall("Example", TypeMX); !ok || err != nil || len(a.Records) != 2 {
		t.Errorf("recall: %+v, %v, %v", a, ok, err)
	}
	if _, ok, _ := r.Recall("other.example", TypeMX); ok {
		t.Error("recalled what was never asked")
	}
}

// authenticated is the manner of a server that sets AD, and notes what it was sent.
func authenticated(s *dnstest.Server, do, ad *atomic.Bool) func(dns.ResponseWriter, *dns.Msg, string) {
	return func(w dns.ResponseWriter, m *dns.Msg, _ string) {
		do.Store(m.IsEdns0() != nil && m.IsEdns0().Do())
		ad.Store(m.AuthenticatedData)
		reply := new(dns.Msg)
		reply.SetReply(m)
		s.Fill(reply, m.Question[0].Name, m.Question[0].Qtype)
		reply.AuthenticatedData = true
		_ = w.WriteMsg(reply)
	}
}

// TestSecure: the AD bit is believed from loopback, from where we are told to, and
// nowhere else; signatures are asked for only there.
func TestSecure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		validating func(s *dnstest.Server) []string
		want       bool
	}{
		{"by default", func(*dnstest.Server) []string { return nil }, true},
		{"if told so", func(s *dnstest.Server) []string { return []string{s.Addr} }, true},
		{"nobody", func(*dnstest.Server) []string { return []string{} }, false},
	} {
		s := dnstest.Start(t, `a.example. 300 IN A 192.0.2.1`)
		var do, ad atomic.Bool
		s.Set(authenticated(s, &do, &ad))
		r, err := New(Options{Servers: []string{s.Addr}, Validating: c.validating(s), Timeout: long})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"a.example", "none.example"} { // proofs that there is none count too
			a := query(t, r, name, TypeA)
			if a.Secure != c.want || a.Validated != c.want || do.Load() != c.want || ad.Load() != c.want || r.Validates() != c.want {
				t.Errorf("%s: %s: secure %v, validated %v, DO %v, AD %v", c.name, name, a.Secure, a.Validated, do.Load(), ad.Load())
			}
		}
		s.Set(s.Answer)
		if a := query(t, r, "unsigned.example", TypeA); a.Secure || a.Validated != c.want {
			t.Errorf("%s: without AD: %+v", c.name, a)
		}
		r.Close()
	}
}

func TestValidatingServers(t *testing.T) {
	t.Parallel()
	servers, n, err := readServers([]string{"192.0.2.1", "127.0.0.1", "::1", "[::1]:5353", "192.0.2.2", "::ffff:127.0.0.1"}, nil)
	got := fmt.Sprint(servers, n, err)
	want := "[{127.0.0.1:53 true} {[::1]:53 true} {[::1]:5353 true} {[::ffff:127.0.0.1]:53 true} {192.0.2.1:53 false} {192.0.2.2:53 false}] 4 <nil>"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	servers, n, err = readServers([]string{"192.0.2.1", "127.0.0.1"}, []string{"192.0.2.1:53"})
	if got, want := fmt.Sprint(servers, n, err), "[{192.0.2.1:53 true} {127.0.0.1:53 false}] 1 <nil>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, bad := range []string{"192.0.2.9", "nonsense"} {
		if _, _, err := readServers([]string{"192.0.2.1"}, []string{bad}); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}

// TestForgery: what a validating server calls bogus stays unknown, whatever others
// say; if it says nothing they may answer, but never securely.
func TestForgery(t *testing.T) {
	t.Parallel()
	strict, loose := dnstest.Start(t), dnstest.Start(t, `a.example. 300 IN A 192.0.2.1`)
	strict.Set(func(w dns.ResponseWriter, m *dns.Msg, _ string) {
		reply := new(dns.Msg)
		reply.SetRcode(m, dns.RcodeServerFailure)
		reply.SetEdns0(udpSize, true)
		reply.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus}}
		_ = w.WriteMsg(reply)
	})
	r, err := New(Options{Servers: []string{loose.Addr, strict.Addr}, Validating: []string{strict.Addr}, Timeout: long})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, name := range []string{"a.example", "b.example", "c.example"} {
		if _, err := r.Query(t.Context(), name, TypeA); !isTemporary(err) || !strings.Contains(err.Error(), "validation failed") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if loose.Total() != 0 {
		t.Errorf("the server that does not validate was asked %d times", loose.Total())
	}
	var do, ad atomic.Bool
	loose.Set(authenticated(loose, &do, &ad))
	strict.Set(dnstest.Silence)
	r.timeout = short // nobody looks up
	for i := range 2 {
		a := query(t, r, fmt.Sprintf("d%d.example", i), TypeA)
		if a.Secure || a.Validated || do.Load() || ad.Load() {
			t.Errorf("from the other: %+v", a)
		}
		if n := strict.Total(); n != 4+i {
			t.Errorf("the validating one was asked %d times, want to be asked first each time", n)
		}
	}
}

// TestQueryLarge: a certificate may be larger than other answers, comes by TCP, and
// is not remembered if it is very large.
func TestQueryLarge(t *testing.T) {
	t.Parallel()
	key := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	s := dnstest.Start(t,
		`small. 300 IN OPENPGPKEY `+key(10_000),
		`large. 300 IN OPENPGPKEY `+key(50_000))
	r, _ := newTestResolver(t, long, s)
	for _, c := range []struct {
		name string
		size int
		sent int // by TCP, for two look-ups
	}{{"small", 10_000, 1}, {"large", 50_000, 2}} {
		before := s.Count("tcp")
		for range 2 {
			a := query(t, r, c.name, TypeOPENPGPKEY)
			rr, ok := a.Records[0].(*OPENPGPKEY)
			if !ok || base64.StdEncoding.DecodedLen(len(rr.PublicKey)) < c.size {
				t.Errorf("%s: %.60v", c.name, a.Records)
			}
		}
		if n := s.Count("tcp") - before; n != c.sent {
			t.Errorf("%s: asked %d times by TCP, want %d", c.name, n, c.sent)
		}
	}
}

func BenchmarkQueryHit(b *testing.B) {
	s := dnstest.Start(b, `a.example. 300 IN A 192.0.2.1`)
	r, _ := newTestResolver(b, long, s)
	b.ReportAllocs()
	for b.Loop() {
		if a, err := r.Query(b.Context(), "a.example", TypeA); err != nil || len(a.Records) != 1 {
			b.Fatal(err)
		}
	}
}
