package keydir

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/internal/dns"
	"postern/internal/dns/dnstest"
	"postern/internal/pgp"
)

func TestDANEName(t *testing.T) {
	t.Parallel()
	for local, want := range map[string]string{ // the first is that of RFC 7929 3
		"hugh": "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._openpgpkey.example.com",
	} {
		if got := DANEName(local, "example.com"); got != want {
			t.Errorf("%s: %s", local, got)
		}
	}
	if DANEName("Hugh", "x") == DANEName("hugh", "x") {
		t.Error("the local-part was changed")
	}
}

// record is an OPENPGPKEY record in zone file form.
func record(local string, data []byte) string {
	return DANEName(local, "example.org") + ". 300 IN OPENPGPKEY " + base64.StdEncoding.EncodeToString(data)
}

// daneSource asks a name server that is trusted to validate, or not.
func daneSource(t testing.TB, s *dnstest.Server, validating []string) *DANE {
	t.Helper()
	r, err := dns.New(dns.Options{Servers: []string{s.Addr}, Validating: validating, Timeout: long})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return NewDANE(r, nil, long)
}

func TestDANE(t *testing.T) {
	t.Parallel()
	good, bob := certificateOf(t, alice), certificateOf(t, "bob@example.org")
	cert, err := pgp.ParseCertificates(good)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		records  []string
		insecure bool
		address  string
		want     string
	}{
		{"secure", []string{record("alice", good)}, false, alice, "found - found, signed"},
		{"as it is", []string{record("Alice", good), record("alice", bob)}, false, "Alice@example.org", "found"},
		{"in lower case", []string{record("alice", good)}, false, "ALICE@example.org", "found"},
		{"not the other way round", []string{record("ALICE", good)}, false, alice, "none - no record"},
		{"two records", []string{record("alice", good), record("alice", bob)}, false, alice, "found"},
		{"a bad one first", []string{record("alice", []byte("x")), record("alice", good)}, false, alice, "found"},
		{"two in one record", []string{record("carol", testdata(t, "expired-and-renewed.pgp"))}, false, "carol@example.org", "found found"},
		{"an alias", []string{DANEName("alice", "example.org") + ". 300 IN CNAME a.example.net.", "a.example.net. 300 IN OPENPGPKEY " + base64.StdEncoding.EncodeToString(good)}, false, alice, "found"},
		{"securely none", nil, false, alice, "none - no record"},
		{"somebody else's", []string{record("alice", bob)}, false, alice, "none - the certificate is for another address"},
		{"garbage", []string{record("alice", []byte("x"))}, false, alice, "unknown content"},
		{"armor", []string{record("alice", cert[0].Armor())}, false, alice, "unknown content"},
		{"10,000 user IDs", []string{record("alice", userIDs(good, 10_000))}, false, alice, "unknown too_large"},
		{"not signed", []string{record("alice", good)}, true, alice, "none - there are records, but not signed"},
		{"not signed, none", nil, true, alice, "none - no record, not signed"},
		{"a literal", nil, false, "alice@[192.0.2.1]", "none - an address literal"},
	} {
		s := dnstest.Start(t, c.records...)
		s.Secure(!c.insecure)
		wantOutcome(t, c.name, outcome(t, daneSource(t, s, nil), c.address), c.want)
		// A server that is not trusted is not asked, whatever it would claim.
		asked := s.Total()
		got := outcome(t, daneSource(t, s, []string{}), c.address)
		if c.name == "a literal" {
			wantOutcome(t, c.name, got, c.want)
		} else {
			wantOutcome(t, c.name+", not trusted", got, "none - not asked")
		}
		if s.Total() != asked {
			t.Errorf("%s: a server that does not validate was asked", c.name)
		}
	}
}

// TestDANETrouble: what no answer is.
func TestDANETrouble(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		manner dnstest.Manner
		want   string
	}{
		{"bogus", func(w miekg.ResponseWriter, m *miekg.Msg, _ string) {
			reply := new(miekg.Msg)
			reply.SetRcode(m, miekg.RcodeServerFailure)
			reply.SetEdns0(1232, true)
			reply.IsEdns0().Option = []miekg.EDNS0{&miekg.EDNS0_EDE{InfoCode: miekg.ExtendedErrorCodeDNSBogus}}
			_ = w.WriteMsg(reply)
		}, "unknown dns - DNS: SERVFAIL: DNSSEC validation failed"},
		{"SERVFAIL", dnstest.Rcode(miekg.RcodeServerFailure), "unknown dns - DNS: SERVFAIL"},
		{"REFUSED", dnstest.Rcode(miekg.RcodeRefused), "unknown dns"},
		{"garbage", dnstest.Garbage, "unknown dns"},
		{"silence", dnstest.Silence, "unknown timeout"},
		{"always truncated", func(w miekg.ResponseWriter, m *miekg.Msg, _ string) {
			reply := new(miekg.Msg)
			reply.SetReply(m)
			reply.Truncated, reply.AuthenticatedData = true, true
			_ = w.WriteMsg(reply)
		}, "unknown dns"},
	} {
		s := dnstest.Start(t, record("alice", certificateOf(t, alice)))
		s.Secure(true)
		s.Set(c.manner)
		d := daneSource(t, s, nil)
		if c.name == "silence" {
			d.wait = short
		}
		wantOutcome(t, c.name, outcome(t, d, alice), c.want)
	}
}

// TestDANEOtherServer: if the server that validates says nothing, what another one
// says is worth nothing.
func TestDANEOtherServer(t *testing.T) {
	t.Parallel()
	strict, loose := dnstest.Start(t), dnstest.Start(t, record("alice", certificateOf(t, alice)))
	strict.Set(dnstest.Silence)
	loose.Secure(true)
	r, err := dns.New(dns.Options{Servers: []string{strict.Addr, loose.Addr}, Validating: []string{strict.Addr}, Timeout: short})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	d := NewDANE(r, nil, long)
	for _, address := range []string{alice, "nobody@example.org"} {
		wantOutcome(t, address, outcome(t, d, address), "unknown dns - the name server that validates DNSSEC does not answer")
	}
}

func TestDANELifetime(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t, record("alice", certificateOf(t, alice)))
	s.Secure(true)
	d := daneSource(t, s, nil)
	for address, want := range map[string]time.Duration{alice: 300 * time.Second, "nobody@example.org": 60 * time.Second} {
		f, err := d.Lookup(t.Context(), testAddress(t, address))
		if err != nil || f.Lifetime > want || f.Lifetime < want-20*time.Second {
			t.Errorf("%s: for %v, %v", address, f.Lifetime, err)
		}
	}
}

// TestDANEFairness: however many addresses of a domain are looked up, only a few
// questions go out at once, so that the resolver has room for others.
func TestDANEFairness(t *testing.T) {
	t.Parallel()
	s := dnstest.Start(t)
	s.Set(dnstest.Silence)
	d := daneSource(t, s, nil)
	d.wait = short
	done := make(chan string)
	for i := range 300 {
		go func() { done <- outcome(t, d, fmt.Sprintf("u%d@slow.example", i)) }()
	}
	for range 300 {
		if got := <-done; got[:7] != "unknown" {
			t.Error(got)
		}
	}
	if n := s.Below("slow.example"); n > 2*DefaultPerHost {
		t.Errorf("%d questions", n)
	}
}

func FuzzDANERecord(f *testing.F) {
	f.Add(certificateOf(f, alice), true, true)
	f.Add(certificateOf(f, "bob@example.org"), true, true)
	f.Add(testdata(f, "several-addresses.pgp"), false, true)
	f.Fuzz(func(t *testing.T, data []byte, secure, validated bool) {
		key := &dns.OPENPGPKEY{PublicKey: base64.StdEncoding.EncodeToString(data)}
		a := dns.Answer{Records: []dns.RR{key}, Secure: secure && validated, Validated: validated}
		for _, name := range []string{alice, "erin@example.com"} {
			address := testAddress(t, name)
			f, err := readDANE(a, address)
			checked(t, address, f, err)
			if len(f.Certificates) > 0 && !a.Secure {
				t.Error("a certificate that was not signed")
			}
		}
	})
}
