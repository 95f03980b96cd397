package msgauth

import (
	"net/netip"
	"testing"

	"postern/internal/mail"
)

func TestSPF(t *testing.T) {
	t.Parallel()
	z := &zone{
		txt: map[string][]string{
			"pass.example":     {"v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"},
			"mx.example":       {"v=spf1 mx -all"},
			"soft.example":     {"v=spf1 ~all"},
			"neutral.example":  {"v=spf1 ?all"},
			"include.example":  {"v=spf1 include:pass.example -all"},
			"redirect.example": {"v=spf1 redirect=pass.example"},
			"broken.example":   {"v=spf1 ip4:nonsense"},
			"two.example":      {"v=spf1 +all", "v=spf1 -all"},
			"loop.example":     {"v=spf1 include:loop.example"},
			"local.example":    {"v=spf1 exists:%{l}.who.example -all"},
			"tempmx.example":   {"v=spf1 a:down.example -all"},
			"other.example":    {"nothing", "v=spf10 +all"},
		},
		mx:    map[string][]string{"mx.example": {"mail.mx.example."}},
		ip:    map[string][]string{"mail.mx.example.": {"192.0.2.7"}, "alice.who.example": {"127.0.0.2"}, "postmaster.who.example": {"127.0.0.2"}},
		fails: map[string]bool{"down.example": true},
	}
	v := NewVerifier(Options{Resolver: z})
	const in, out = "192.0.2.7", "198.51.100.1"
	for _, c := range []struct {
		ip, local, domain, helo string
		want                    Result
		identity                SPFIdentity
	}{
		{in, "a", "pass.example", "", Pass, SPFIdentity{Local: "a", Domain: "pass.example"}},
		{"::ffff:192.0.2.7", "a", "pass.example", "", Pass, SPFIdentity{Local: "a", Domain: "pass.example"}},
		{"2001:db8::1", "a", "pass.example", "", Pass, SPFIdentity{Local: "a", Domain: "pass.example"}},
		{out, "a", "pass.example", "", Fail, SPFIdentity{Local: "a", Domain: "pass.example"}},
		{in, "a", "mx.example", "", Pass, SPFIdentity{Local: "a", Domain: "mx.example"}},
		{out, "a", "mx.example", "", Fail, SPFIdentity{Local: "a", Domain: "mx.example"}},
		{out, "a", "soft.example", "", SoftFail, SPFIdentity{Local: "a", Domain: "soft.example"}},
		{out, "a", "neutral.example", "", Neutral, SPFIdentity{Local: "a", Domain: "neutral.example"}},
		{in, "a", "include.example", "", Pass, SPFIdentity{Local: "a", Domain: "include.example"}},
		{in, "a", "redirect.example", "", Pass, SPFIdentity{Local: "a", Domain: "redirect.example"}},
		{in, "a", "broken.example", "", PermError, SPFIdentity{Local: "a", Domain: "broken.example"}},
		{in, "a", "two.example", "", PermError, SPFIdentity{Local: "a", Domain: "two.example"}},
		{in, "a", "loop.example", "", PermError, SPFIdentity{Local: "a", Domain: "loop.example"}},
		{in, "alice", "local.example", "", Pass, SPFIdentity{Local: "alice", Domain: "local.example"}},
		{in, "bob", "local.example", "", Fail, SPFIdentity{Local: "bob", Domain: "local.example"}},
		{in, "a", "tempmx.example", "", TempError, SPFIdentity{Local: "a", Domain: "tempmx.example"}},
		{in, "a", "down.example", "", TempError, SPFIdentity{Local: "a", Domain: "down.example"}},
		{in, "a", "none.example", "", None, SPFIdentity{Local: "a", Domain: "none.example"}},
		{in, "a", "other.example", "", None, SPFIdentity{Local: "a", Domain: "other.example"}},
		{in, "a", "localhost", "", None, SPFIdentity{Local: "a"}},
		{in, "a", "[192.0.2.7]", "", None, SPFIdentity{Local: "a"}},
		{"", "a", "pass.example", "", None, SPFIdentity{Local: "a"}},
		// The null reverse-path: HELO stands in.
		{in, "", "", "PASS.example.", Pass, SPFIdentity{Helo: true, Domain: "pass.example"}},
		{out, "", "", "pass.example", Fail, SPFIdentity{Helo: true, Domain: "pass.example"}},
		{in, "", "", "local.example", Pass, SPFIdentity{Helo: true, Domain: "local.example"}}, // as postmaster@
		{in, "", "", "[192.0.2.7]", None, SPFIdentity{Helo: true}},
		{in, "", "", "a b\r\nc", None, SPFIdentity{Helo: true}},
		// A quoted local-part must not choose the domain.
		{out, "x@soft.example", "pass.example", "", Fail, SPFIdentity{Local: "x@soft.example", Domain: "pass.example"}},
		{out, "x@soft.example@", "pass.example", "", Fail, SPFIdentity{Local: "x@soft.example@", Domain: "pass.example"}},
	} {
		ip, _ := netip.ParseAddr(c.ip)
		r := v.Verify(t.Context(), Request{IP: ip, Helo: c.helo, From: mail.Address{Local: c.local, Domain: c.domain}})
		if r.SPF != c.want || r.Sender != c.identity {
			t.Errorf("%s %s@%s (%s): %s for %+v, want %s", c.ip, c.local, c.domain, c.helo, r.SPF, r.Sender, c.want)
		}
	}
}
