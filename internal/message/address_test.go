package message

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestAddressList(t *testing.T) {
	t.Parallel()
	start, end := Address{Kind: GroupStart, Local: "team"}, Address{Kind: GroupEnd}
	a := Address{Local: "a", Domain: "x.org"}
	for in, want := range map[string][]Address{
		"":                       nil,
		" , ;,":                  nil,
		"a@x.org":                {a},
		"<a@x.org>":              {a},
		"a @ x.org":              {a},
		"a@x.org (Alice (A.) E)": {{Name: "Alice (A.) E", Local: "a", Domain: "x.org"}},
		"<a@x.org> (Alice)":      {{Name: "Alice", Local: "a", Domain: "x.org"}},
		"Alice <a@x.org>":        {{Name: "Alice", Local: "a", Domain: "x.org"}},
		"Alice\tB. E <a@x.org>":  {{Name: "Alice B. E", Local: "a", Domain: "x.org"}},
		`"E, Alice" <a@x.org>`:   {{Name: "E, Alice", Local: "a", Domain: "x.org"}},
		`"E \"A\" \\" <a@x.org>`: {{Name: `E "A" \`, Local: "a", Domain: "x.org"}},
		`"b@c.org" <a@x.org>`:    {{Name: "b@c.org", Local: "a", Domain: "x.org"}},
		`b@c.org <a@x.org>`:      {{Name: "b@c.org", Local: "a", Domain: "x.org"}},
		`=?utf-8?q?=C3=84,?= <a@x.org>`: {{Local: "=?utf-8?q?=C3=84", Domain: ""},
			{Name: "?=", Local: "a", Domain: "x.org"}},
		"=?utf-8?q?=C3=84?= <a@x.org>": {{Name: "=?utf-8?q?=C3=84?=", Local: "a", Domain: "x.org"}},
		"Ä <ä@ö.org>":                  {{Name: "Ä", Local: "ä", Domain: "ö.org"}},
		`"a b"@x.org`:                  {{Local: "a b", Domain: "x.org"}},
		`"a@b"@x.org`:                  {{Local: "a@b", Domain: "x.org"}},
		`"a@b"`:                        {{Local: "a@b"}},
		`<"a b"@x.org>`:                {{Local: "a b", Domain: "x.org"}},
		"<@r.org,@s.org:a@x.org>":      {{Route: "@r.org,@s.org", Local: "a", Domain: "x.org"}},
		"a@[IPv6:2001:db8::1], a@x.org": {{Local: "a", Domain: "[IPv6:2001:db8::1]"},
			a},
		"team: a@x.org, <a@x.org>;":  {start, a, a, end},
		"team:;":                     {start, end},
		"team:; a@x.org":             {start, end, a},
		"team: a@x.org":              {start, a, end},
		"a@x.org; a@x.org":           {a, a},
		"Undisclosed recipients":     {{Local: "Undisclosed recipients"}},
		"Alice <a@x.org, <a@x.org>":  {{Name: "Alice", Local: "a", Domain: "x.org"}, a},
		"Mailer <>":                  {{Name: "Mailer"}},
		"<>":                         nil,
		`"open <a@x.org>`:            {{Local: "open <a@x.org>"}},
		"(open a@x.org":              nil,
		"a@x.org garbage, a@x.org":   {{Local: "a", Domain: "x.orggarbage"}, a},
		"<a@x.org> garbage, a@x.org": {a, a},
		"<a@x.org> <b@y.org>":        {a, {Local: "b", Domain: "y.org"}},
		"<a@x.org> B <b@y.org> (C)":  {a, {Name: "B", Local: "b", Domain: "y.org"}},
		"<a@x.org> b@y.org, a@x.org": {a, {Local: "b", Domain: "y.org"}, a},
		"a@b@x.org":                  {{Local: "a@b", Domain: "x.org"}},
		"\\":                         {{Local: "\\"}},
	} {
		if got := AddressList(in); !reflect.DeepEqual(got, want) && len(got)+len(want) > 0 {
			t.Errorf("%q:\n got %+v\nwant %+v", in, got, want)
		}
	}
	if got := AddressList("<" + strings.Repeat("@r,", 600) + ":a@x.org>"); len(got) == 1 && got[0].Route != "" {
		t.Errorf("a route of %d octets", len(got[0].Route))
	}
	if got := Addresses("x: a@x.org;, b@y.org"); len(got) != 2 || got[1].Addr() != "b@y.org" {
		t.Errorf("Addresses: %+v", got)
	}
}

func TestMentions(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                "",
		"Alice <a@x.org>":                 "a@x.org",
		"Alice [ACME] B. C <a@x.org>":     "a@x.org",
		"a@x.org, B <b@y.org>":            "a@x.org b@y.org",
		`"c@z.org" <a@x.org> (b@y.org)`:   "a@x.org",
		"c@z.org<a@x.org>":                "c@z.org a@x.org",
		`"b c"@x.org`:                     "b c@x.org",
		`<"b\"c"@x.org>`:                  `b"c@x.org`,
		"a @ x.org":                       "@",
		"=?utf-8?q?c=40z.org?= <a@x.org>": "a@x.org",
		"<a@x.org":                        "-", `"a <a@x.org>`: "-", "(a <a@x.org>": "-", "a@x.org>": "-", "<<a@x.org>>": "-", `"a\" <a@x.org>`: "-",
		"c@z.org: a@x.org;": "-", `c@z.org\:a@x.org`: "-", "<@z.org:a@x.org>": "-", "<a@x.org> c@z.org": "-", "<a@x.org> <c@z.org>": "-",
		`<a@x.org> "c@z.org"`: "-", `"c@z.org"a <a@x.org>`: "-", `c"c@z.org" <a@x.org>`: "-", `"c@z.org" [<a@x.org>`: "-", "=?utf-8?q?c=40z.org?=]<a@x.org>": "-", "c) <a@x.org>": "-", "<a@x.org, c@z.org>": "-",
	} {
		words, ok := Mentions(in)
		if got := strings.Join(words, " "); ok && got != want || ok == (want == "-") {
			t.Errorf("%q: %q %v, want %q", in, got, ok, want)
		}
	}
}

func TestAddressListBounds(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"a@b,", "<", "\"", "(", "(\"", "a:;", "<@a,", "@[", "\\", "a<b", ":", "<@", "[@[@", "< (", "<a@b> ", "\"\\"} {
		began := time.Now()
		list := AddressList(strings.Repeat(unit, 1<<20/len(unit)))
		if len(list) > maxAddresses+1 {
			t.Errorf("%q: %d elements", unit, len(list))
		}
		if d := time.Since(began); d > time.Second {
			t.Errorf("%q: took %v", unit, d)
		}
	}
}

func FuzzAddressList(f *testing.F) {
	for _, s := range []string{`"A, b" <a@x.org>, team: b@c (x);`, "<@a,@b:c@d>", `"\`, "a@[b]:", "(((", "a;b,c<d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		depth := 0
		for _, a := range AddressList(s) {
			switch a.Kind {
			case GroupStart:
				depth++
			case GroupEnd:
				depth--
			}
			if depth < 0 || depth > 1 {
				t.Fatal("groups do not pair")
			}
		}
		if depth != 0 {
			t.Fatal("group left open")
		}
	})
}
