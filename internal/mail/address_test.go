package mail

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestParseAddress(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]struct {
		local, domain, out, key string
	}{
		"alice@example.org":              {"alice", "example.org", "alice@example.org", "alice@example.org"},
		"Alice.B+tag@EXAMPLE.org":        {"Alice.B+tag", "example.org", "Alice.B+tag@example.org", "alice.b+tag@example.org"},
		"!#$%&'*+-/=?^_`{|}~@a.test":     {"!#$%&'*+-/=?^_`{|}~", "a.test", "!#$%&'*+-/=?^_`{|}~@a.test", "!#$%&'*+-/=?^_`{|}~@a.test"},
		`"alice"@example.org`:            {"alice", "example.org", "alice@example.org", "alice@example.org"},
		`"a b"@example.org`:              {"a b", "example.org", `"a b"@example.org`, "a b@example.org"},
		`"a\"b\\c"@example.org`:          {`a"b\c`, "example.org", `"a\"b\\c"@example.org`, `a"b\c@example.org`},
		`"\a"@example.org`:               {"a", "example.org", "a@example.org", "a@example.org"},
		`".a..b."@example.org`:           {".a..b.", "example.org", `".a..b."@example.org`, ".a..b.@example.org"},
		`"a@b"@example.org`:              {"a@b", "example.org", `"a@b"@example.org`, "a@b@example.org"},
		"grün@exämple.org":               {"grün", "xn--exmple-cua.org", "grün@xn--exmple-cua.org", "grün@xn--exmple-cua.org"},
		"GRÜN@EXÄMPLE.org":               {"GRÜN", "xn--exmple-cua.org", "GRÜN@xn--exmple-cua.org", "grün@xn--exmple-cua.org"},
		"二@例え.テスト":                       {"二", "xn--r8jz45g.xn--zckzah", "二@xn--r8jz45g.xn--zckzah", "二@xn--r8jz45g.xn--zckzah"},
		"a@[192.0.2.1]":                  {"a", "[192.0.2.1]", "a@[192.0.2.1]", "a@[192.0.2.1]"},
		"a@[IPv6:2001:db8::1]":           {"a", "[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"},
		"a@_dmarc.example.org":           {"a", "_dmarc.example.org", "a@_dmarc.example.org", "a@_dmarc.example.org"},
		"a@localhost":                    {"a", "localhost", "a@localhost", "a@localhost"},
		strings.Repeat("a", 64) + "@b.c": {strings.Repeat("a", 64), "b.c", strings.Repeat("a", 64) + "@b.c", strings.Repeat("a", 64) + "@b.c"},
	} {
		a, err := ParseAddress(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if a.Local != want.local || a.Domain != want.domain || a.String() != want.out || a.Key() != want.key {
			t.Errorf("%q: %+v, String %q, Key %q", in, a, a.String(), a.Key())
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	t.Parallel()
	for what, in := range map[string]string{
		"nothing": "", "no @": "alice", "no local-part": "@example.org", "no domain": "alice@",
		"only @": "@", "two @": "a@b@c.d", "empty label": "a@b..c", "dot at the end": "a@example.org.",
		"dot at the beginning": ".a@b.c", "two dots": "a..b@c.d", "dot before @": "a.@b.c",
		"blank": "a b@c.d", "blank in domain": "a@b c.d", "display name": "Alice <a@b.c>", "brackets": "<a@b.c>",
		"comment": "a(b)@c.d", "route": "@x.y:a@b.c", "list": "a@b.c,d@e.f",
		"hyphen first": "a@-b.c", "hyphen last": "a@b-.c", "slash in domain": "a@b/c.d",
		"quote not closed": `"a@b.c`, "empty quotes": `""@b.c`, "text after quotes": `"a"b@c.d`, "quote within": `a"b@c.d`,
		"CRLF": "a\r\n@b.c", "LF in quotes": "\"a\nb\"@c.d", "escaped LF": "\"a\\\nb\"@c.d", "CR in domain": "a@b\r.c",
		"CRLF RCPT": "a@b.c>\r\nRCPT TO:<x@y.z", "NUL": "a\x00@b.c", "DEL in quotes": "\"a\x7f\"@b.c",
		"C1 control in quotes": "\"a\u009bb\"@c.d", "C1 control": "a\u0085b@c.d", "line separator": "a\u2028b@c.d",
		"line separator in quotes": "\"a\u2029b\"@c.d", "not UTF-8": "a\xff@b.c", "not UTF-8 in domain": "a@\xff.c",
		"bad literal": "a@[1.2.3.4", "empty literal": "a@[]", "literal with bracket": "a@[a]b]", "literal with blank": "a@[1 2]",
		"literal with quote": `a@["]`, "LF in literal": "a@[1\n2]",
		"long local-part": strings.Repeat("a", 65) + "@b.c", "long label": "a@" + strings.Repeat("b", 64) + ".c",
		"long domain": "a@" + strings.Repeat("b.", 130) + "c", "long altogether": strings.Repeat("a", 64) + "@" + strings.Repeat("b.", 96) + "cd",
		"too long when quoted": `"` + strings.Repeat(`\"`, 60) + `"@` + strings.Repeat("b.", 66) + "c",
		"huge":                 strings.Repeat("a", 1<<20) + "@b.c",
	} {
		if a, err := ParseAddress(in); !errors.Is(err, ErrAddress) {
			t.Errorf("%s: %q gives %+v, %v", what, in, a, err)
		}
	}
}

func TestParseDomain(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Example.ORG": "example.org", "EXÄMPLE.org": "xn--exmple-cua.org", "xn--exmple-cua.org": "xn--exmple-cua.org", "[::1]": "[::1]",
	} {
		if got, err := ParseDomain(in); got != want || err != nil {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", ".", "a..b", "[", "a b", "a\x00b", "ü\xff", strings.Repeat("ä", 200)} {
		if got, err := ParseDomain(in); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func TestBase(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"alice+x@b.c": "alice@b.c", "alice+x+y@b.c": "alice@b.c", "alice+@b.c": "alice@b.c",
	} {
		a, err := ParseAddress(in)
		if err != nil {
			t.Fatal(err)
		}
		if base, ok := a.Base(); !ok || base.String() != want {
			t.Errorf("%s: %v, %v", in, base, ok)
		}
	}
	for _, in := range []string{"alice@b.c", "+x@b.c"} {
		a, err := ParseAddress(in)
		if err != nil {
			t.Fatal(err)
		}
		if base, ok := a.Base(); ok || base != a {
			t.Errorf("%s: %v, %v", in, base, ok)
		}
	}
}

func TestNullReversePath(t *testing.T) {
	t.Parallel()
	var null Address
	if !null.IsNull() || null.String() != "" || null.Key() != "" {
		t.Errorf("%v %q %q", null.IsNull(), null.String(), null.Key())
	}
	if a, _ := ParseAddress("a@b.c"); a.IsNull() {
		t.Error("an address is null")
	}
}

// What was parsed is written so that it parses to the same, and can neither end a
// line nor an angle-addr nor steer a terminal.
func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{
		"alice@example.org", `"a b"@c.d`, `"a\"b\\"@c.d`, "grün@exämple.org", "a@[IPv6:::1]", "a+b@c.d", "a@b\r\n.c",
		"\"a\\\rb\"@c.d", `"><"@x.y`, "İ@b.c", "a@ß.de", "\u202ea@b.c", strings.Repeat("a", 64) + "@" + strings.Repeat("b.", 94) + "c",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		a, err := ParseAddress(in)
		if err != nil {
			if !errors.Is(err, ErrAddress) || a != (Address{}) {
				t.Fatalf("%q: %+v, %v", in, a, err)
			}
			return
		}
		out := a.String()
		again, err := ParseAddress(out)
		if err != nil || again != a {
			t.Fatalf("%q: %+v is written %q, which is %+v, %v", in, a, out, again, err)
		}
		if !utf8.ValidString(out) || strings.ContainsFunc(out, unicode.IsControl) || len(out) > maxAddress {
			t.Fatalf("%q is written %q", in, out)
		}
		if strings.ContainsAny(out, "<> ") && out[0] != '"' {
			t.Fatalf("%q is written %q: not quoted", in, out)
		}
		if base, ok := a.Base(); ok && base.IsNull() {
			t.Fatalf("%q: null base", in)
		}
		if a.Key() == "" || !strings.HasSuffix(a.Key(), "@"+a.Domain) {
			t.Fatalf("%q: key %q", in, a.Key())
		}
	})
}
