package msgauth

import (
	"slices"
	"strings"
	"testing"
)

// dmarcZone is a zone of DMARC records by domain.
func dmarcZone(records map[string]string) *zone {
	z := &zone{txt: map[string][]string{}, fails: map[string]bool{}}
	for domain, txt := range records {
		if txt == "SERVFAIL" {
			z.fails["_dmarc."+domain] = true
			continue
		}
		z.txt["_dmarc."+domain] = strings.Split(txt, "|")
	}
	return z
}

const some = "v=DMARC1; p=none"

// walkCase is a walk and what comes of it.
type walkCase struct {
	name         string
	records      map[string]string
	start        string
	asked        []string // domains
	organization string
	policy       string // where it is found; empty if nowhere
}

func (c walkCase) check(t *testing.T) {
	t.Helper()
	z := dmarcZone(c.records)
	w := newWalk(c.start)
	w.finish(t.Context(), z)
	var want []string
	for _, d := range c.asked {
		want = append(want, "TXT _dmarc."+d)
	}
	if got := z.names(); !slices.Equal(got, want) {
		t.Errorf("%s: asked for %q, want %q", c.name, got, want)
	}
	if got := w.organization(); got != c.organization {
		t.Errorf("%s: organization %q, want %q", c.name, got, c.organization)
	}
	if got, ok := w.policy(); got.domain != c.policy || ok != (c.policy != "") {
		t.Errorf("%s: policy at %q, want %q", c.name, got.domain, c.policy)
	}
}

// TestWalkLength has the examples of RFC 9989 4.10 and 5.1.8.
func TestWalkLength(t *testing.T) {
	t.Parallel()
	for _, c := range []walkCase{
		{
			"a long name costs eight questions", nil,
			"a.b.c.d.e.f.g.h.i.j.mail.example.com",
			[]string{"a.b.c.d.e.f.g.h.i.j.mail.example.com", "g.h.i.j.mail.example.com", "h.i.j.mail.example.com",
				"i.j.mail.example.com", "j.mail.example.com", "mail.example.com", "example.com", "com"},
			"a.b.c.d.e.f.g.h.i.j.mail.example.com", "",
		},
		{
			"eight labels", nil, "a.b.c.d.e.f.example.com",
			[]string{"a.b.c.d.e.f.example.com", "b.c.d.e.f.example.com", "c.d.e.f.example.com", "d.e.f.example.com",
				"e.f.example.com", "f.example.com", "example.com", "com"},
			"a.b.c.d.e.f.example.com", "",
		},
		{
			"nine labels skip one", nil, "z.a.b.c.d.e.f.example.com",
			[]string{"z.a.b.c.d.e.f.example.com", "b.c.d.e.f.example.com", "c.d.e.f.example.com", "d.e.f.example.com",
				"e.f.example.com", "f.example.com", "example.com", "com"},
			"z.a.b.c.d.e.f.example.com", "",
		},
		{
			"a record that is skipped (5.1.8)",
			map[string]string{"b.c.d.e.f.g.example.com": some + "; psd=n", "example.com": some},
			"mail.a.b.c.d.e.f.g.example.com",
			[]string{"mail.a.b.c.d.e.f.g.example.com", "c.d.e.f.g.example.com", "d.e.f.g.example.com",
				"e.f.g.example.com", "f.g.example.com", "g.example.com", "example.com", "com"},
			"example.com", "example.com",
		},
		{"nothing anywhere", nil, "a.example.com", []string{"a.example.com", "example.com", "com"}, "a.example.com", ""},
		{"one label", nil, "com", []string{"com"}, "com", ""},
	} {
		c.check(t)
	}
}

// TestWalkSelection has the examples of RFC 9989 4.10.2, and the corners.
func TestWalkSelection(t *testing.T) {
	t.Parallel()
	for _, c := range []walkCase{
		{
			"the fewest labels win (4.10.2, first example)",
			map[string]string{"mail.example.com": some, "example.com": some}, "a.mail.example.com",
			[]string{"a.mail.example.com", "mail.example.com", "example.com", "com"}, "example.com", "example.com",
		},
		{
			"psd=n ends it (second example)",
			map[string]string{"mail.example.com": some + "; psd=n", "example.com": some}, "a.mail.example.com",
			[]string{"a.mail.example.com", "mail.example.com"}, "mail.example.com", "mail.example.com",
		},
		{
			"psd=y, the one below it without a record (last example)",
			map[string]string{"com": some + "; psd=y"}, "a.mail.example.com",
			[]string{"a.mail.example.com", "mail.example.com", "example.com", "com"}, "example.com", "com",
		},
		{
			"psd=y, the one below it has a record",
			map[string]string{"com": some + "; psd=y", "example.com": some}, "a.example.com",
			[]string{"a.example.com", "example.com", "com"}, "example.com", "example.com",
		},
		{
			"psd=y below the top",
			map[string]string{"co.example": some + "; psd=y", "example": some}, "a.b.co.example",
			[]string{"a.b.co.example", "b.co.example", "co.example"}, "b.co.example", "co.example",
		},
		{
			"psd=y directly above", map[string]string{"example.com": some + "; psd=y"}, "mail.example.com",
			[]string{"mail.example.com", "example.com"}, "mail.example.com", "example.com",
		},
		{
			"psd=y at the start", map[string]string{"example.com": some + "; psd=y", "com": some}, "example.com",
			[]string{"example.com"}, "example.com", "example.com",
		},
		{
			"its own record applies, its organization is above",
			map[string]string{"a.example.com": some, "example.com": some}, "a.example.com",
			[]string{"a.example.com", "example.com", "com"}, "example.com", "a.example.com",
		},
		{
			"several records are none", map[string]string{"a.example.com": some + "|" + some, "example.com": some}, "a.example.com",
			[]string{"a.example.com", "example.com", "com"}, "example.com", "example.com",
		},
		{
			"other texts do not count", map[string]string{"example.com": "v=spf1 -all|" + some + "|x"}, "example.com",
			[]string{"example.com", "com"}, "example.com", "example.com",
		},
	} {
		c.check(t)
	}
}

// TestWalkStops: a step that could not be made ends the walk, since the answer
// that is missing may be the one that counts; and discovery takes no step more
// than it needs.
func TestWalkStops(t *testing.T) {
	t.Parallel()
	z := dmarcZone(map[string]string{"mail.example.com": "SERVFAIL", "example.com": "v=DMARC1; p=none"})
	w := newWalk("a.mail.example.com")
	w.finish(t.Context(), z)
	if w.err == nil || len(w.found) != 0 {
		t.Errorf("error %v, found %v", w.err, w.found)
	}
	z.wantAsked(t, "TXT _dmarc.a.mail.example.com", "TXT _dmarc.mail.example.com")

	z = dmarcZone(map[string]string{"example.com": "v=DMARC1; p=none"})
	w = newWalk("example.com")
	w.discover(t.Context(), z)
	z.wantAsked(t, "TXT _dmarc.example.com")
	w.finish(t.Context(), z)
	z.wantAsked(t, "TXT _dmarc.example.com", "TXT _dmarc.com")
}
