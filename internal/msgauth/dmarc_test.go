package msgauth

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"postern/internal/mail"
)

// TestAlignment is the table of who may speak for whom (RFC 9989 4.4, 4.10.2).
func TestAlignment(t *testing.T) {
	t.Parallel()
	records := map[string]string{
		"example.com":       "v=DMARC1; p=none",
		"strict.example":    "v=DMARC1; p=none; aspf=s; adkim=s",
		"dept.example.com":  "v=DMARC1; p=none; psd=n",
		"alone.example.com": "SERVFAIL",
		"bank":              "v=DMARC1; p=reject; psd=y",
		"shop.bank":         "v=DMARC1; p=none",
		"lost.example":      "v=DMARC1; p=none",
		"example":           "SERVFAIL",
	}
	for _, c := range []struct {
		author, identifier string
		want               alignment
	}{
		{"example.com", "example.com", aligned},
		{"example.com", "mail.example.com", aligned},
		{"mail.example.com", "example.com", aligned},
		{"mail.example.com", "news.example.com", aligned},
		{"a.b.c.example.com", "x.y.example.com", aligned},
		{"example.com", "notexample.com", notAligned},
		{"example.com", "example.com.evil.net", notAligned},
		{"example.com", "example.net", notAligned},
		{"example.com", "com", notAligned},
		{"example.com", "", notAligned},
		// psd=n cuts a department off from the rest.
		{"example.com", "dept.example.com", notAligned},
		{"example.com", "a.dept.example.com", notAligned},
		{"dept.example.com", "example.com", notAligned},
		{"a.dept.example.com", "b.dept.example.com", aligned},
		// Names below a public suffix have nothing to do with each other.
		{"shop.bank", "mail.shop.bank", aligned},
		{"shop.bank", "other.bank", notAligned},
		{"other.bank", "shop.bank", notAligned},
		{"shop.bank", "bank", notAligned},
		// Strict.
		{"strict.example", "strict.example", aligned},
		{"strict.example", "mail.strict.example", notAligned},
		// Nobody knows.
		{"example.com", "alone.example.com", maybeAligned},
		{"lost.example", "lost.example", aligned},
		{"lost.example", "mail.lost.example", maybeAligned},
	} {
		z := dmarcZone(records)
		w := newWalk(c.author)
		w.discover(t.Context(), z)
		policy, ok := w.policy()
		if !ok {
			t.Errorf("%s has no policy", c.author)
			continue
		}
		e := evaluation{resolver: z, author: &w}
		for _, result := range []Result{Pass, TempError} {
			if got := e.align(t.Context(), result, c.identifier, policy.record.strictKey); got != c.want {
				t.Errorf("From %s, authenticated %s: %v, want %v", c.author, c.identifier, got, c.want)
			}
		}
		for _, result := range []Result{None, Fail, SoftFail, Neutral, Policy, PermError} {
			if got := e.align(t.Context(), result, c.identifier, false); got != notAligned {
				t.Errorf("an identifier with result %s is %v", result, got)
			}
		}
	}
}

// dmarcOf verifies a message without signatures from 192.0.2.7.
func dmarcOf(t *testing.T, z *zone, author, envelope string) Results {
	t.Helper()
	req := Request{
		IP:         netip.MustParseAddr("192.0.2.7"),
		Helo:       "mail.example.net",
		From:       mail.Address{Local: "a", Domain: envelope},
		HeaderFrom: []mail.Address{{Local: "a", Domain: author}},
		Header:     []byte("From: a@" + author + "\r\n\r\n"),
	}
	return NewVerifier(Options{Resolver: z}).Verify(t.Context(), req)
}

func TestDMARC(t *testing.T) {
	t.Parallel()
	const pass = "v=spf1 ip4:192.0.2.7 -all"
	for _, c := range []struct {
		name             string
		records          map[string]string
		spf              map[string]string // by domain; SERVFAIL as above
		exists           []string
		author, envelope string
		want             Result
		at, request      string
	}{
		{"no record", nil, map[string]string{"example.com": pass}, nil, "example.com", "example.com", None, "", ""},
		{"aligned SPF", map[string]string{"example.com": "v=DMARC1; p=reject"}, map[string]string{"example.com": pass}, nil,
			"example.com", "example.com", Pass, "example.com", "reject"},
		{"aligned SPF, relaxed", map[string]string{"example.com": "v=DMARC1; p=reject"}, map[string]string{"bounce.example.com": pass}, nil,
			"example.com", "bounce.example.com", Pass, "example.com", "reject"},
		{"aligned SPF that fails", map[string]string{"example.com": "v=DMARC1; p=reject"}, map[string]string{"example.com": "v=spf1 -all"}, nil,
			"example.com", "example.com", Fail, "example.com", "reject"},
		{"SPF of somebody else", map[string]string{"example.com": "v=DMARC1; p=quarantine"}, map[string]string{"evil.net": pass}, nil,
			"example.com", "evil.net", Fail, "example.com", "quarantine"},
		{"no p", map[string]string{"example.com": "v=DMARC1"}, nil, nil, "example.com", "evil.net", Fail, "example.com", "none"},
		{"bad p", map[string]string{"example.com": "v=DMARC1; p=x"}, map[string]string{"example.com": pass}, nil, "example.com", "example.com", PermError, "", ""},
		{"bad p and reports", map[string]string{"example.com": "v=DMARC1; p=x; rua=mailto:a@b.example"}, map[string]string{"example.com": pass}, nil,
			"example.com", "example.com", Pass, "example.com", "none"},
		{"sp", map[string]string{"example.com": "v=DMARC1; p=none; sp=reject"}, nil, nil, "a.example.com", "evil.net", Fail, "example.com", "reject"},
		{"np, does not exist", map[string]string{"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject"}, nil, nil,
			"a.example.com", "evil.net", Fail, "example.com", "reject"},
		{"np, exists", map[string]string{"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject"}, nil, []string{"a.example.com"},
			"a.example.com", "evil.net", Fail, "example.com", "quarantine"},
		{"np, nobody knows", map[string]string{"example.com": "v=DMARC1; p=none; np=reject"}, map[string]string{"a.example.com": "SERVFAIL"}, nil,
			"a.example.com", "evil.net", TempError, "example.com", "none"},
		{"np without sp falls to p", map[string]string{"example.com": "v=DMARC1; p=reject"}, nil, nil, "a.example.com", "evil.net", Fail, "example.com", "reject"},
		{"the public suffix", map[string]string{"bank": "v=DMARC1; p=none; sp=reject; psd=y"}, nil, nil, "a.shop.bank", "evil.net", Fail, "bank", "reject"},
		{"policy not known", map[string]string{"example.com": "SERVFAIL"}, map[string]string{"example.com": pass}, nil, "example.com", "example.com", TempError, "", ""},
		{"policy above not known", map[string]string{"example.com": "SERVFAIL"}, nil, nil, "a.example.com", "evil.net", TempError, "", ""},
		{"a record, and above it nobody knows", map[string]string{"b.example.com": "v=DMARC1; p=reject", "example.com": "SERVFAIL"}, nil, nil,
			"a.b.example.com", "evil.net", TempError, "", ""},
		{"SPF not known and aligned", map[string]string{"example.com": "v=DMARC1; p=reject"}, map[string]string{"example.com": "SERVFAIL"}, nil,
			"example.com", "example.com", TempError, "example.com", "reject"},
		{"SPF not known and not aligned", map[string]string{"example.com": "v=DMARC1; p=reject"}, map[string]string{"evil.net": "SERVFAIL"}, nil,
			"example.com", "evil.net", Fail, "example.com", "reject"},
	} {
		z := dmarcZone(c.records)
		z.ip, z.mx = map[string][]string{}, map[string][]string{}
		for domain, txt := range c.spf {
			if txt == "SERVFAIL" {
				z.fails[domain] = true
			}
			z.txt[domain] = []string{txt}
		}
		for _, name := range c.exists {
			z.ip[name] = []string{"192.0.2.1"}
		}
		r := dmarcOf(t, z, c.author, c.envelope)
		if r.DMARC != c.want || r.Published.Domain != c.at || r.Published.Request != c.request {
			t.Errorf("%s: %s by %q at %q, want %s by %q at %q", c.name,
				r.DMARC, r.Published.Request, r.Published.Domain, c.want, c.request, c.at)
		}
		if r.Aligned != (c.want == Pass) {
			t.Errorf("%s: Aligned is %v", c.name, r.Aligned)
		}
	}
}

func TestDMARCTesting(t *testing.T) {
	t.Parallel()
	r := dmarcOf(t, dmarcZone(map[string]string{"example.com": "v=DMARC1; p=reject; t=y"}), "example.com", "evil.net")
	if !r.Published.Testing || r.Published.Request != "reject" || r.DMARC != Fail {
		t.Errorf("%+v", r.Published)
	}
}

func TestAuthorDomain(t *testing.T) {
	t.Parallel()
	at := func(domains ...string) (from []mail.Address) {
		for _, d := range domains {
			from = append(from, mail.Address{Local: "a", Domain: d})
		}
		return from
	}
	for _, c := range []struct {
		name   string
		from   []mail.Address
		fields int
		domain string
		end    Result
	}{
		{"one", at("example.com"), 1, "example.com", ""},
		{"two of one domain", at("example.com", "example.com"), 1, "example.com", ""},
		{"two domains", at("example.com", "example.net"), 1, "", PermError},
		{"one that could not be read", at("example.com", ""), 1, "", PermError},
		{"the same, first", at("", "example.com"), 1, "", PermError},
		{"two fields", at("example.com"), 2, "", PermError},
		{"none", nil, 0, "", None},
		{"unreadable", nil, 1, "", None},
		{"literal", at("[192.0.2.1]"), 1, "", None},
		{"one label", at("localhost"), 1, "", None},
	} {
		domain, end := authorDomain(c.from, c.fields)
		if end != c.end || c.end == "" && domain != c.domain {
			t.Errorf("%s: %q, %q", c.name, domain, end)
		}
	}
	// The fields are counted in the header section itself.
	z := dmarcZone(map[string]string{"example.com": "v=DMARC1; p=none"})
	req := Request{HeaderFrom: at("example.com"), Header: []byte("FROM : a@example.com\r\nTo: b\r\nfrom:\r\n b@example.com\r\n\r\n")}
	if r := NewVerifier(Options{Resolver: z}).Verify(t.Context(), req); r.DMARC != PermError || r.Aligned {
		t.Errorf("two From fields: %s", r.DMARC)
	}
	z.wantAsked(t)
}

// TestDMARCByDKIM has aligned and other signatures on one message.
func TestDMARCByDKIM(t *testing.T) {
	t.Parallel()
	const author = "football.example.com"
	for _, c := range []struct {
		name     string
		signed   string
		adkim    string
		tampered bool
		want     Result
	}{
		{"the same domain", author, "s", false, Pass},
		{"the organization", "example.com", "r", false, Pass},
		{"the organization, strict", "example.com", "s", false, Fail},
		{"somebody else", "evil.net", "r", false, Fail},
		{"the same domain, changed", author, "r", true, Fail},
	} {
		z := dmarcZone(map[string]string{"example.com": "v=DMARC1; p=reject; adkim=" + c.adkim})
		req := sign(t, z, joe(""), c.signed, "s1")
		if c.tampered {
			req.Body = func() io.Reader { return strings.NewReader("x\r\n") }
		}
		r := NewVerifier(Options{Resolver: z}).Verify(t.Context(), req)
		if r.DMARC != c.want || r.Aligned != (c.want == Pass) || r.Published.DKIMAligned != (c.want == Pass) {
			t.Errorf("%s: %s (%s), want %s", c.name, r.DMARC, verdicts(r), c.want)
		}
	}

	// A mailing list's signature passes, the author's is broken: fail. With a
	// key that nobody can tell: temperror.
	z := dmarcZone(map[string]string{"example.com": "v=DMARC1; p=reject"})
	req := sign(t, z, joe(""), author, "s1")
	changed := "changed by the list\r\n"
	req.Body = func() io.Reader { return strings.NewReader(changed) }
	req = sign(t, z, req, "list.example.net", "s2")
	v := NewVerifier(Options{Resolver: z})
	r := v.Verify(t.Context(), req)
	if verdicts(r) != "pass; fail: body was changed" || r.DMARC != Fail {
		t.Errorf("through a list: %s, dmarc %s", verdicts(r), r.DMARC)
	}
	z.fails["s1._domainkey."+author] = true
	if r = v.Verify(t.Context(), req); verdicts(r) != "pass; temperror: key not available" || r.DMARC != TempError {
		t.Errorf("key not known: %s, dmarc %s", verdicts(r), r.DMARC)
	}
}
