package deliver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/internal/testkit"
)

const (
	unproven = "delivered 250 2.0.0 TLS1.3"
	byDANE   = "delivered 250 2.0.0 TLS1.3 dane"
	bySTS    = "delivered 250 2.0.0 TLS1.3 mta-sts"
	inClear  = "delivered 250 2.0.0 none"
	noTrust  = "retry 451 4.7.5 none" // met on a connection
	notTried = "retry 451 4.7.5"      // met before there was one
	noProofs = "failed 550 5.7.10"
)

// TestSecure: what a server has to prove by what is published, and what becomes of the
// copy, if it may go anyhow and if it needs verified TLS. Nothing of one that does is
// ever seen outside of verified TLS, and nothing of any where DANE or MTA-STS holds.
func TestSecure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		publish func(w *world, good tls.Certificate)
		bad     bool // the server shows another certificate, for another name
		none    bool // the server has no TLS
		want    string
		strict  string // the same with VerifiedTLS
		mayBe   bool   // an ordinary copy may be seen in clear
	}{
		{name: "nothing published", want: unproven, strict: noProofs},
		{name: "nothing published, no TLS", none: true, want: inClear, strict: noProofs, mayBe: true},
		{name: "nothing published, bad certificate", bad: true, want: unproven, strict: noProofs},

		{name: "DANE-EE key", publish: tlsaEE(selectSPKI, matchSHA256), want: byDANE, strict: byDANE},
		{name: "DANE-EE certificate, whole", publish: tlsaEE(selectCert, matchFull), want: byDANE, strict: byDANE},
		{name: "DANE-EE certificate, SHA-512", publish: tlsaEE(selectCert, matchSHA512), want: byDANE, strict: byDANE},
		{name: "DANE-EE, another certificate", publish: tlsaEE(selectSPKI, matchSHA256), bad: true, want: noTrust, strict: noTrust},
		{name: "DANE-EE, no TLS", publish: tlsaEE(selectSPKI, matchSHA256), none: true, want: noTrust, strict: noTrust},
		{name: "DANE-TA", publish: tlsaTA, want: byDANE, strict: byDANE},
		{name: "DANE-TA, another name", publish: tlsaTA, bad: true, want: noTrust, strict: noTrust},
		{name: "DANE, rolled over", publish: func(w *world, good tls.Certificate) {
			w.tlsa("mx.example.test", usageEE, selectSPKI, matchSHA256, []byte("the next key"))
			tlsaEE(selectSPKI, matchSHA256)(w, good)
		}, want: byDANE, strict: byDANE},
		{name: "DANE wins over MTA-STS", publish: func(w *world, good tls.Certificate) {
			tlsaEE(selectSPKI, matchSHA256)(w, good)
			w.policy(strings.Replace(enforce, "mx.example", "other.example", 1))
		}, want: byDANE, strict: byDANE},
		{name: "MTA-STS does not excuse DANE", publish: func(w *world, _ tls.Certificate) {
			w.tlsa("mx.example.test", usageEE, selectSPKI, matchSHA256, []byte("no key of ours"))
			w.policy(enforce)
		}, want: noTrust, strict: noTrust},
		{name: "DANE records that cannot be used", publish: unusable, want: unproven, strict: noProofs},
		{name: "DANE records that cannot be used, no TLS", publish: unusable, none: true, want: noTrust, strict: noProofs},
		{name: "DANE records that cannot be used, MTA-STS", publish: func(w *world, good tls.Certificate) {
			unusable(w, good)
			w.policy(enforce)
		}, bad: true, want: noTrust, strict: noTrust},
		{name: "TLSA records that are not signed", publish: func(w *world, _ tls.Certificate) {
			w.dns.Secure(false)
			w.tlsa("mx.example.test", usageEE, selectSPKI, matchSHA256, []byte("somebody else's"))
		}, want: unproven, strict: noProofs},
		{name: "TLSA look-up fails", publish: func(w *world, _ tls.Certificate) {
			w.dns.Set(failing(w.dns, miekg.TypeTLSA))
		}, want: notTried, strict: notTried},
		{name: "TLSA look-up fails, no TLS", publish: func(w *world, _ tls.Certificate) {
			w.dns.Set(failing(w.dns, miekg.TypeTLSA))
		}, none: true, want: notTried, strict: notTried},

		{name: "enforce", publish: sts(enforce), want: bySTS, strict: bySTS},
		{name: "enforce, wildcard", publish: sts(strings.Replace(enforce, "mx.example", "*.example", 1)), want: bySTS, strict: bySTS},
		{name: "enforce, bad certificate", publish: sts(enforce), bad: true, want: noTrust, strict: noTrust},
		{name: "enforce, no TLS", publish: sts(enforce), none: true, want: noTrust, strict: noTrust},
		{name: "enforce, another host", publish: sts(strings.Replace(enforce, "mx.example", "other.example", 1)), want: notTried, strict: notTried},
		{name: "testing", publish: sts(testing0), want: unproven, strict: bySTS},
		{name: "testing, bad certificate", publish: sts(testing0), bad: true, want: unproven, strict: noTrust},
		{name: "testing, no TLS", publish: sts(testing0), none: true, want: inClear, strict: noTrust, mayBe: true},
		{name: "testing, another host", publish: sts(strings.Replace(testing0, "mx.example", "other.example", 1)), want: unproven, strict: notTried},
		{name: "none", publish: sts("version: STSv1\nmode: none\nmax_age: 100\n"), bad: true, want: unproven, strict: noProofs},
		{name: "no policy behind the record", publish: sts("rubbish"), want: unproven, strict: notTried},
		{name: "the web server has another certificate", publish: func(w *world, _ tls.Certificate) { w.policy(enforce, "other.example.test") }, want: unproven, strict: notTried},
		{name: "TXT look-up fails", publish: func(w *world, _ tls.Certificate) {
			w.dns.Set(failing(w.dns, miekg.TypeTXT))
		}, want: unproven, strict: notTried},
	} {
		for _, strict := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, verified %t", c.name, strict), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.dns.Secure(true)
				good := w.ca.issue(t, time.Now().Add(time.Hour), "mx.example.test")
				shown := config(good)
				if c.bad {
					shown = config(w.ca.issue(t, time.Now().Add(time.Hour), "evil.example.test"))
				}
				if c.none {
					shown = nil
				}
				m := w.mta(1, &testkit.MTA{TLS: shown, Offer: []string{"PIPELINING"}})
				if c.publish != nil {
					c.publish(w, good)
				}
				wanted := c.want
				if strict {
					wanted = c.strict
				}
				want(t, "result", deliver(t, w.carrier(), func(r *Request) { r.VerifiedTLS = strict }), wanted)
				seen := strings.Contains(m.Clear(), canary)
				if seen && (strict || !c.mayBe) {
					t.Error("seen in clear")
				}
				if strings.Contains(m.Secret(), canary) && !strings.Contains(wanted, "TLS") {
					t.Error("seen over TLS that is not claimed")
				}
				if strict && (seen || strings.Contains(m.Secret(), canary)) && !strings.HasPrefix(wanted, "delivered") {
					t.Error("seen over TLS that was not verified")
				}
			})
		}
	}
}

const testing0 = "version: STSv1\r\nmode: testing\r\nmx: mx.example.test\r\nmax_age: 86400\r\n"

func sts(text string) func(*world, tls.Certificate) {
	return func(w *world, _ tls.Certificate) { w.policy(text) }
}

func tlsaEE(selector, matching int) func(*world, tls.Certificate) {
	return func(w *world, cert tls.Certificate) {
		data := cert.Leaf.Raw
		if selector == selectSPKI {
			data = cert.Leaf.RawSubjectPublicKeyInfo
		}
		w.tlsa("mx.example.test", usageEE, selector, matching, data)
	}
}

func tlsaTA(w *world, _ tls.Certificate) {
	w.tlsa("mx.example.test", usageTA, selectSPKI, matchSHA256, w.ca.cert.RawSubjectPublicKeyInfo)
}

func unusable(w *world, cert tls.Certificate) {
	w.tlsa("mx.example.test", 0, selectSPKI, matchSHA256, w.ca.cert.RawSubjectPublicKeyInfo)
	w.tlsa("mx.example.test", 1, selectSPKI, matchSHA256, cert.Leaf.RawSubjectPublicKeyInfo)
	w.dns.Add(w.t, fmt.Sprintf("_%d._tcp.mx.example.test. 300 IN TLSA 3 1 1 abcd", w.port), fmt.Sprintf("_%d._tcp.mx.example.test. 300 IN TLSA 3 7 9 abcd", w.port))
}

// TestDANEDates: DANE-EE looks at no dates and names, DANE-TA and MTA-STS do.
func TestDANEDates(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		publish func(*world, tls.Certificate)
		want    string
	}{"EE": {tlsaEE(selectSPKI, matchSHA256), byDANE}, "TA": {tlsaTA, noTrust}, "MTA-STS": {sts(enforce), noTrust}} {
		w := newWorld(t)
		w.dns.Secure(true)
		cert := w.ca.issue(t, time.Now().Add(-time.Hour), "mx.example.test")
		w.mta(1, &testkit.MTA{TLS: config(cert)})
		c.publish(w, cert)
		want(t, name, deliver(t, w.carrier(), verified), c.want)
	}
}

// TestDANENames: the names that count for DANE-TA, and the places of the records, if
// the domain or the host are aliases (RFC 7672 2.2, 3.2.2).
func TestDANENames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, cert, tlsa, want string
		insecure               string // a name whose answers are not signed
	}{
		{"certificate for the domain", "d.test", "real.test", byDANE, ""},
		{"certificate for where the domain leads", "e.test", "real.test", byDANE, ""},
		{"certificate for where the host leads", "real.test", "real.test", byDANE, ""},
		{"certificate for the host's own name, records elsewhere", "host.test", "real.test", noTrust, ""},
		{"records at the host's own name", "host.test", "host.test", byDANE, ""},
		{"the alias is signed, where it leads to is not", "host.test", "host.test", byDANE, "host.test. A AAAA"},
		{"the host is not signed at all", "host.test", "host.test", unproven, "host.test. A AAAA CNAME"},
		{"the records are not signed", "host.test", "real.test", unproven, "TLSA"},
		{"the domain is not signed", "host.test", "host.test", unproven, "d.test. MX"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "d.test. 300 IN CNAME e.test.", "e.test. 300 IN MX 10 host.test.", "host.test. 300 IN CNAME real.test.", "real.test. 300 IN A 127.0.0.1")
			w.dns.Secure(true)
			w.dns.Set(func(rw miekg.ResponseWriter, m *miekg.Msg, _ string) {
				reply := new(miekg.Msg)
				reply.SetReply(m)
				q := m.Question[0]
				w.dns.Fill(reply, q.Name, q.Qtype)
				if c.insecure == "TLSA" && q.Qtype == miekg.TypeTLSA {
					reply.AuthenticatedData = false
				}
				for _, word := range strings.Fields(c.insecure)[min(1, len(strings.Fields(c.insecure))):] {
					if strings.HasPrefix(c.insecure, q.Name) && word == miekg.TypeToString[q.Qtype] {
						reply.AuthenticatedData = false
					}
				}
				_ = rw.WriteMsg(reply)
			})
			w.mta(1, &testkit.MTA{TLS: config(w.ca.issue(t, time.Now().Add(time.Hour), c.cert))})
			w.tlsa(c.tlsa, usageTA, selectCert, matchSHA256, w.ca.cert.Raw)
			r := w.carrier().Deliver(t.Context(), request("x@d.test"))[0]
			want(t, r.Text, brief(r), c.want)
		})
	}
}

// TestVerifiedElsewhere: routes have DANE alone, address literals nothing; a first host
// that fails leaves a verified copy to the next one that is proven, and to no other.
func TestVerifiedElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "two.test. 300 IN A 127.0.0.2", "three.test. 300 IN A 127.0.0.3", "example.test. 300 IN MX 20 two.test.", "example.test. 300 IN MX 30 three.test.")
	w.dns.Secure(true)
	cert := w.ca.issue(t, time.Now().Add(time.Hour), "three.test")
	w.tlsa("three.test", usageEE, selectSPKI, matchSHA256, cert.Leaf.RawSubjectPublicKeyInfo)
	one, two := w.mta(1, &testkit.MTA{TLS: config(cert)}), w.mta(2, &testkit.MTA{})
	w.mta(3, &testkit.MTA{TLS: config(cert)})
	want(t, "third", deliver(t, w.carrier(), verified), byDANE)
	if one.Connections()+two.Connections() > 0 {
		t.Error("servers that can prove nothing were connected to")
	}
	literal := func(r *Request) { r.Domain, r.VerifiedTLS = "[127.0.0.1]", true }
	want(t, "literal", deliver(t, w.carrier(), literal), noProofs)
	w.o.Routes = []Route{{Domain: "*", Host: "three.test"}}
	want(t, "route", deliver(t, w.carrier(), verified), byDANE)
	w.o.Routes = []Route{{Domain: "*", Host: "two.test"}}
	want(t, "route without proof", deliver(t, w.carrier(), verified), noProofs)
	w.o.Routes = []Route{{Domain: "*", Host: "127.0.0.3"}}
	want(t, "route to an address", deliver(t, w.carrier(), verified), noProofs)
}

// TestRequireTLS: the keyword counts behind STARTTLS alone (RFC 8689 4.2.1).
func TestRequireTLS(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name                string
		clearOffer, offered []string
		want                string
	}{
		{"offered", nil, []string{"REQUIRETLS"}, bySTS},
		{"in lower case", nil, []string{"requiretls"}, bySTS},
		{"not offered", nil, []string{"PIPELINING"}, "failed 550 5.7.30 TLS1.3 mta-sts"},
		{"offered in clear", []string{"REQUIRETLS"}, []string{"PIPELINING"}, "failed 550 5.7.30 TLS1.3 mta-sts"},
	} {
		w := newWorld(t)
		w.policy(enforce)
		m := w.mta(1, &testkit.MTA{Offer: c.clearOffer, OfferTLS: c.offered, TLS: config(w.ca.issue(t, time.Now().Add(time.Hour), "mx.example.test"))})
		want(t, c.name, deliver(t, w.carrier(), requireTLS), c.want)
		if all := m.Messages(); len(all) > 0 && all[0].Mail != "MAIL FROM:<bob@sender.test> REQUIRETLS" {
			t.Errorf("%s: %q", c.name, all[0].Mail)
		}
	}
	w := newWorld(t)
	w.mta(1, &testkit.MTA{Offer: []string{"REQUIRETLS"}})
	want(t, "nothing published", deliver(t, w.carrier(), requireTLS), noProofs)
}

// TestPolicyMemory: a policy holds until it expires, whatever becomes of its record or
// its page; another id fetches it again; so does a host that does not keep it.
func TestPolicyMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	clock := testkit.NewClock()
	clock.Set(time.Now())
	w.o.Now = clock.Now
	cert := w.ca.issue(t, time.Now().Add(100*time.Hour), "mx.example.test")
	var stripped atomic.Bool
	w.mta(1, &testkit.MTA{TLS: config(cert), Stage: func(c *testkit.MTAConn, stage, line string) bool {
		return stripped.Load() && strip(c, stage, line)
	}})
	s := w.policy(enforce)
	// A new carrier has a new resolver, which remembers no records; the cache stays.
	w.o.Policies = NewMemory(0)
	want(t, "first", deliver(t, w.carrier()), bySTS)
	want(t, "remembered", deliver(t, w.carrier()), bySTS)
	if n := s.asked.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	// The policy changes, and nobody says so: the host is no longer named. It is not
	// asked, because the old policy is kept.
	s.text.Store(strings.Replace(enforce, "mx.example", "other.example", 1))
	want(t, "no new id", deliver(t, w.carrier()), bySTS)
	clock.Advance(13 * time.Hour) // over half of its life
	want(t, "refreshed before it expires", deliver(t, w.carrier()), notTried)
	if n := s.asked.Load(); n != 2 {
		t.Errorf("fetched %d times", n)
	}
	// Now what is remembered does not fit, and it is fetched once more before giving up.
	s.text.Store(enforce)
	want(t, "fetched again", deliver(t, w.carrier()), bySTS)
	if n := s.asked.Load(); n != 3 {
		t.Errorf("fetched %d times", n)
	}
	// Record and page go wrong, one after the other.
	s.text.Store("rubbish")
	clock.Advance(13 * time.Hour)
	stripped.Store(true)
	want(t, "page is gone", deliver(t, w.carrier()), noTrust)
	w.dns.Set(failing(w.dns, miekg.TypeTXT))
	want(t, "record cannot be read", deliver(t, w.carrier()), noTrust)
	w.dns.Set(w.dns.Answer)
	clock.Advance(12 * time.Hour)
	want(t, "expired", deliver(t, w.carrier()), inClear)
	before := s.asked.Load()
	c := w.carrier()
	deliver(t, c)
	deliver(t, c)
	if n := s.asked.Load() - before; n != 1 {
		t.Errorf("a page that cannot be had was asked for %d times", n)
	}
}

// TestPolicyRefresh: a policy outlives a restart and those who stop mail from going to the
// domain until it expires, as it is fetched again before; not if nobody writes there.
func TestPolicyRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	clock := testkit.NewClock()
	clock.Set(time.Now())
	w.o.Now, w.o.Policies = clock.Now, NewMemory(0)
	w.mta(1, &testkit.MTA{TLS: config(w.ca.issue(t, time.Now().Add(9000*time.Hour), "mx.example.test"))})
	s := w.policy(enforce)
	refresh := func() { w.carrier().policies.refresh(t.Context()) }
	refresh()
	want(t, "first", deliver(t, w.carrier()), bySTS)
	refresh()
	if n := s.asked.Load(); n != 1 {
		t.Errorf("fetched %d times", n)
	}
	for range 4 {
		clock.Advance(13 * time.Hour) // over half of its life, and in the end beyond it
		refresh()
	}
	if n := s.asked.Load(); n != 5 {
		t.Errorf("fetched %d times", n)
	}
	// Now the page cannot be had: what is kept holds, and it is not asked for all the time.
	s.text.Store("rubbish")
	clock.Advance(13 * time.Hour)
	refresh()
	refresh()
	if n := s.asked.Load(); n != 6 {
		t.Errorf("fetched %d times", n)
	}
	clock.Advance(10 * time.Hour)
	refresh()
	if n := s.asked.Load(); n != 7 {
		t.Errorf("fetched %d times", n)
	}
	s.text.Store(strings.Replace(enforce, "mx.example", "other.example", 1))
	clock.Advance(45 * time.Minute)
	refresh()
	want(t, "refreshed at last", deliver(t, w.carrier()), notTried)
	// It was used today, and is not for a hundred days.
	before := s.asked.Load()
	for range 200 {
		clock.Advance(12 * time.Hour)
		refresh()
	}
	if n := s.asked.Load() - before; n < 150 || n > 190 {
		t.Errorf("fetched %d times in 100 days", n)
	}
}

// TestPolicyRecalled: the cache is not asked for every message.
func TestPolicyRecalled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mta(1, &testkit.MTA{TLS: config(w.ca.issue(t, time.Now().Add(time.Hour), "mx.example.test"))})
	w.policy(enforce)
	kept := &counted{Cache: NewMemory(0)}
	w.o.Policies = kept
	c := w.carrier()
	for range 9 {
		want(t, "result", deliver(t, c), bySTS)
	}
	if kept.loads != 1 || kept.saves != 1 {
		t.Errorf("%d loads, %d saves", kept.loads, kept.saves)
	}
}

type counted struct {
	Cache
	loads, saves int
}

func (c *counted) Load(ctx context.Context, domain string) (Policy, bool, error) {
	c.loads++
	return c.Cache.Load(ctx, domain)
}

func (c *counted) Save(ctx context.Context, domain string, p Policy) error {
	c.saves++
	return c.Cache.Save(ctx, domain, p)
}

// TestPolicyPage: what the web server may not do (RFC 8461 3.3).
func TestPolicyPage(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]http.HandlerFunc{
		"redirect": func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/other", http.StatusFound) },
		"HTML": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "text/html")
			fmt.Fprint(rw, enforce)
		},
		"404": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "text/plain")
			rw.WriteHeader(404)
			fmt.Fprint(rw, enforce)
		},
		"too large": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(rw, enforce, strings.Repeat("x: y\r\n", maxPolicy/6))
		},
		"hangs":      func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"breaks off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.mta(1, &testkit.MTA{TLS: config(w.ca.issue(t, time.Now().Add(time.Hour), "mx.example.test"))})
			s := w.policy(enforce)
			s.serve = serve
			if name == "hangs" {
				w.o.Timeouts.Policy = 200 * time.Millisecond
			}
			want(t, "verified", deliver(t, w.carrier(), verified), notTried)
			if s.asked.Load() != 1 {
				t.Errorf("asked %d times", s.asked.Load())
			}
		})
	}
	w := newWorld(t)
	w.policy(enforce)
	w.o.AllowPrivate = false
	w.o.Routes = nil
	p, f := w.carrier().policies.get(t.Context(), domain)
	if f != nil || !p.unknown {
		t.Errorf("a page at a private address was fetched: %+v, %v", p, f)
	}
}

// TestPolicyMemoryFails: what was remembered and cannot be read might be a policy.
func TestPolicyMemoryFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mta(1, &testkit.MTA{})
	w.o.Policies = brokenCache{}
	want(t, "result", deliver(t, w.carrier()), "retry 451 4.3.0")
	if m.Connections() != 0 {
		t.Error("connected to")
	}
}

type brokenCache struct{}

func (brokenCache) Load(context.Context, string) (Policy, bool, error) {
	return Policy{}, false, errors.New("disk")
}
func (brokenCache) Save(context.Context, string, Policy) error { return errors.New("disk") }
func (brokenCache) Due(context.Context, time.Time, time.Time, int) ([]string, error) {
	return nil, errors.New("disk")
}

func TestMemory(t *testing.T) {
	t.Parallel()
	m := NewMemory(3)
	for _, d := range []string{"a", "b", "c", "d", "e"} {
		if err := m.Save(t.Context(), d, Policy{ID: d}); err != nil {
			t.Fatal(err)
		}
		if p, ok, err := m.Load(t.Context(), d); !ok || err != nil || p.ID != d || len(m.all) > 3 {
			t.Errorf("%s: %v, %d kept", d, p, len(m.all))
		}
	}
}

// TestUnvalidated: without a server that validates there is no DANE, and nothing waits
// for it.
func TestUnvalidated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.Secure(true)
	w.dns.Set(failing(w.dns, miekg.TypeTLSA))
	w.o.Resolver = resolver(t, w.dns, []string{})
	w.mta(1, &testkit.MTA{})
	want(t, "ordinary", deliver(t, w.carrier()), inClear)
	want(t, "verified", deliver(t, w.carrier(), verified), noProofs)
	if n := w.dns.Count(fmt.Sprintf("TLSA _%d._tcp.mx.example.test", w.port)); n != 0 {
		t.Errorf("asked %d times", n)
	}
}
