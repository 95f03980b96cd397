package msgauth

import (
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/authres"
)

func TestField(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		r    Results
		want string
	}{
		{"nothing", Results{}, "Authentication-Results: mx.example;\r\n\tspf=none;\r\n\tdkim=none;\r\n\tdmarc=none\r\n"},
		{"everything", Results{
			SPF:    Pass,
			Sender: SPFIdentity{Local: "bounce+alice=b.example", Domain: "example.com"},
			DKIM: []DKIMResult{
				{Result: Pass, Domain: "example.com", Selector: "s1", Algorithm: "rsa-sha256", Start: "AbC+/=12"},
				{Result: Policy, Domain: "list.example", Reason: "rsa-sha1 is not accepted"},
			},
			DMARC: Pass, Author: "example.com", Published: DMARCPolicy{Request: "reject"},
		}, "Authentication-Results: mx.example;\r\n" +
			"\tspf=pass smtp.mailfrom=bounce+alice=b.example@example.com;\r\n" +
			"\tdkim=pass header.d=example.com header.s=s1 header.a=rsa-sha256\r\n" +
			"\theader.b=\"AbC+/=12\";\r\n" +
			"\tdkim=policy reason=\"rsa-sha1 is not accepted\" header.d=list.example;\r\n" +
			"\tdmarc=pass header.from=example.com policy.dmarc=reject\r\n"},
		{"HELO", Results{SPF: SoftFail, Sender: SPFIdentity{Helo: true, Domain: "mail.example.com"}},
			"Authentication-Results: mx.example;\r\n\tspf=softfail smtp.helo=mail.example.com;\r\n\tdkim=none;\r\n\tdmarc=none\r\n"},
		{"no domain to check", Results{SPF: None, Sender: SPFIdentity{Local: "a"}},
			"Authentication-Results: mx.example;\r\n\tspf=none;\r\n\tdkim=none;\r\n\tdmarc=none\r\n"},
		{"local-part that needs quotes", Results{SPF: Pass, Sender: SPFIdentity{Local: "a b; dmarc=pass", Domain: "example.com"}},
			"Authentication-Results: mx.example;\r\n\tspf=pass smtp.mailfrom=example.com;\r\n\tdkim=none;\r\n\tdmarc=none\r\n"},
	} {
		if got := c.r.Field("mx.example"); got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

// TestFieldInjection puts what a forger would like to see into everything that
// the peer chooses.
func TestFieldInjection(t *testing.T) {
	t.Parallel()
	for _, evil := range []string{
		"x; dmarc=pass", "x;\r\n\tdmarc=pass", "x\r\nAuthentication-Results: mx.example; dmarc=pass", "x\ndmarc=pass",
		`x" dmarc=pass; spf=pass "`, `x\`, `x\" ; dmarc=pass`, "x (comment", "x) dmarc=pass", "\x00", "é; dmarc=pass",
		strings.Repeat(`"`, 5000), strings.Repeat("a", 5000),
	} {
		r := Results{
			SPF:    Fail,
			Sender: SPFIdentity{Local: evil, Domain: evil},
			DKIM:   []DKIMResult{{Result: Fail, Domain: evil, Selector: evil, Algorithm: evil, Start: evil, Reason: evil}},
			DMARC:  Fail, Author: evil, Published: DMARCPolicy{Request: evil},
		}
		checkField(t, r, "mx.example")
		r.Sender.Helo = true
		checkField(t, r, "mx.example")
	}
}

// checkField reads a field back with a reader that is not ours and looks whether
// it says what we meant and nothing else.
func checkField(t *testing.T, r Results, authserv string) {
	t.Helper()
	field := r.Field(authserv)
	body, ok := strings.CutPrefix(field, "Authentication-Results: ")
	if !ok || !strings.HasSuffix(field, "\r\n") {
		t.Fatalf("no field: %q", field)
	}
	for i, line := range strings.Split(strings.TrimSuffix(field, "\r\n"), "\r\n") {
		if i > 0 && !strings.HasPrefix(line, "\t") || strings.ContainsAny(line, "\r\n") || len(line) > 998 {
			t.Errorf("line %q", line)
		}
		if strings.IndexFunc(line, func(c rune) bool { return c != '\t' && (c < ' ' || c > '~') }) >= 0 {
			t.Errorf("not printable ASCII: %q", line)
		}
	}
	// The library's reader knows no quotes: take quoted-strings and the reasons
	// away first, by RFC 5322 3.2.4.
	id, results, err := authres.Parse(strings.NewReplacer("\r\n\t", " ", "\r\n", "").Replace(withoutQuoted(body)))
	if err != nil {
		t.Fatalf("%q: %v", field, err)
	}
	if id != authserv {
		t.Errorf("authserv-id %q", id)
	}
	var got []Result
	for _, result := range results {
		switch result := result.(type) {
		case *authres.SPFResult:
			got = append(got, "spf "+Result(result.Value))
		case *authres.DKIMResult:
			got = append(got, "dkim "+Result(result.Value))
		case *authres.DMARCResult:
			got = append(got, "dmarc "+Result(result.Value))
		default:
			t.Errorf("%q says %T", field, result)
		}
	}
	want := []Result{"spf " + Result(word(r.SPF))}
	for _, s := range r.DKIM {
		want = append(want, "dkim "+Result(word(s.Result)))
	}
	if len(r.DKIM) == 0 {
		want = append(want, "dkim none")
	}
	want = append(want, "dmarc "+Result(word(r.DMARC)))
	if len(got) != len(want) {
		t.Fatalf("%q says %q, want %q", field, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%q says %q, want %q", field, got[i], want[i])
		}
	}
}

// withoutQuoted replaces each quoted-string by an x. A string that is not closed
// swallows the rest, and with it the results that the caller looks for.
func withoutQuoted(s string) string {
	var b strings.Builder
	for quoted, i := false, 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			if quoted = !quoted; quoted {
				b.WriteByte('x')
			}
		case !quoted:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func FuzzField(f *testing.F) {
	f.Add("alice", "example.com", "s1", "rsa-sha256", "reject", false)
	f.Add("a\r\nb", "x; dmarc=pass", `"\`, "\x00\xff", "=", true)
	f.Add(`"`, "é", "(", strings.Repeat(`\`, 300), ";\t", false)
	f.Fuzz(func(t *testing.T, local, domain, selector, algorithm, other string, helo bool) {
		checkField(t, Results{
			SPF:    Neutral,
			Sender: SPFIdentity{Helo: helo, Local: local, Domain: domain},
			DKIM: []DKIMResult{
				{Result: Fail, Domain: domain, Selector: selector, Algorithm: algorithm, Start: other, Reason: other},
				{Result: TempError, Domain: other, Selector: algorithm},
			},
			DMARC: PermError, Author: domain, Published: DMARCPolicy{Request: other},
		}, "mx.example")
	})
}

func TestSummary(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		dkim []Result
		want string
	}{
		{nil, "none"},
		{[]Result{Pass}, "pass"},
		{[]Result{Fail, TempError, Pass}, "pass"},
		{[]Result{Fail, TempError, Policy}, "temperror"},
		{[]Result{PermError}, "fail"},
		{[]Result{Policy, Fail}, "fail"},
	} {
		r := Results{SPF: SoftFail, DMARC: TempError}
		for _, d := range c.dkim {
			r.DKIM = append(r.DKIM, DKIMResult{Result: d})
		}
		if spf, dkim, dmarc := r.Summary(); spf != "softfail" || dkim != c.want || dmarc != "temperror" {
			t.Errorf("%q: %s %s %s", c.dkim, spf, dkim, dmarc)
		}
	}
	if spf, dkim, dmarc := (Results{}).Summary(); spf+dkim+dmarc != "nonenonenone" {
		t.Errorf("zero Results: %s %s %s", spf, dkim, dmarc)
	}
}

func BenchmarkField(b *testing.B) {
	r := Results{
		SPF: Pass, Sender: SPFIdentity{Local: "bob", Domain: "example.com"},
		DKIM:  []DKIMResult{{Result: Pass, Domain: "example.com", Selector: "s1", Algorithm: "rsa-sha256", Start: "AbCdEf12"}},
		DMARC: Pass, Author: "example.com", Published: DMARCPolicy{Request: "reject"},
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = r.Field("mx.example")
	}
}
