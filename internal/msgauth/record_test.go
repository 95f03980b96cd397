package msgauth

import (
	"strings"
	"testing"
)

func TestParseRecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		txt  string
		want record
	}{
		{"v=DMARC1", record{psd: 'u'}},
		{"v=DMARC1;", record{psd: 'u'}},
		{"v=DMARC1; p=reject", record{p: "reject", psd: 'u'}},
		{"v = DMARC1 ;P=Reject;SP = none; nP=QUARANTINE ;", record{p: "reject", sp: "none", np: "quarantine", psd: 'u'}},
		{"V=DMARC1; p=none", record{p: "none", psd: 'u'}}, // names have no case (RFC 5234 2.3)
		{"v=DMARC1; p=none; adkim=s; aspf=S; t=y; psd=y", record{p: "none", strictKey: true, strictSPF: true, testing: true, psd: 'y'}},
		{"v=DMARC1; psd=N", record{psd: 'n'}},
		{"v=DMARC1; psd=x; t=maybe; adkim=q; aspf=", record{psd: 'u'}},
		// Tags of RFC 7489, unknown ones and rubbish are passed over.
		{"v=DMARC1; p=none; pct=200; rf=x; ri=; fo=9; x=y; =; ;;rubbish; p", record{p: "none", psd: 'u'}},
		{"v=DMARC1; p=none; rua=mailto:a@example.com", record{p: "none", psd: 'u', reports: true}},
		{"v=DMARC1; p=none; rua=a@example.com, ,https://example.com/x!10m", record{p: "none", psd: 'u', reports: true}},
		{"v=DMARC1; p=none; rua=a@example.com,mailto:,%zz", record{p: "none", psd: 'u'}},
		{"v=DMARC1; p=block", record{psd: 'u', invalid: true}},
		{"v=DMARC1; p=none; sp=", record{p: "none", psd: 'u', invalid: true}},
		{"v=DMARC1; p=reject; p=none; aspf=s; aspf=r", record{p: "reject", psd: 'u', strictSPF: true}},
		{"v=DMARC1; p=bad; p=none", record{psd: 'u', invalid: true}},
	} {
		got, ok := parseRecord(c.txt)
		if !ok || got != c.want {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", c.txt, got, ok, c.want)
		}
	}
	for _, txt := range []string{
		"", "v=DMARC", "v=DMARC2; p=none", "v=dmarc1; p=none", "p=none; v=DMARC1", " v=DMARC1; p=none",
		"v=spf1 -all", "v=DMARC1 p=none", "v DMARC1", "v=DMARC1;" + strings.Repeat("x", maxRecord),
	} {
		if r, ok := parseRecord(txt); ok {
			t.Errorf("%.30q was taken for a record: %+v", txt, r)
		}
	}
}

func TestUsableRecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		txt       string
		p, sp, np string
		ok        bool
	}{
		{"v=DMARC1; p=reject; sp=none; np=quarantine", "reject", "none", "quarantine", true},
		{"v=DMARC1; sp=reject", "none", "reject", "", true},
		{"v=DMARC1; p=block; sp=reject; rua=mailto:a@example.com", "none", "", "", true},
		{"v=DMARC1; p=reject; np=block; rua=mailto:a@example.com", "none", "", "", true},
		{"v=DMARC1; p=block", "none", "", "", false},
		{"v=DMARC1; p=reject; sp=block; rua=nonsense", "none", "", "", false},
	} {
		r, _ := parseRecord(c.txt)
		got, ok := r.usable()
		if ok != c.ok || got.p != c.p || got.sp != c.sp || got.np != c.np {
			t.Errorf("%q: %q %q %q %v", c.txt, got.p, got.sp, got.np, ok)
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, txt := range []string{
		"v=DMARC1; p=reject; sp=quarantine; np=none; psd=y; t=y; adkim=s; aspf=s; rua=mailto:a@b.example,https://c/; fo=1:d",
		"v = DMARC1;;;p==;=;", "v=DMARC1; p=bad; rua=:", "v=spf1",
	} {
		f.Add(txt)
	}
	oneOf := func(s string) bool { return s == "" || s == "none" || s == "quarantine" || s == "reject" }
	f.Fuzz(func(t *testing.T, txt string) {
		r, ok := parseRecord(txt)
		if !ok {
			if r != (record{}) {
				t.Errorf("no record, and yet %+v", r)
			}
			return
		}
		if !strings.Contains(txt, "DMARC1") {
			t.Error("a record without its version")
		}
		if !oneOf(r.p) || !oneOf(r.sp) || !oneOf(r.np) || !strings.ContainsRune("ynu", rune(r.psd)) {
			t.Errorf("%+v", r)
		}
		// An unknown tag at the end changes nothing, nor does reading twice.
		again, ok := parseRecord(txt + ";unknown=1")
		if len(txt) < maxRecord-20 && (!ok || again != r) {
			t.Errorf("with an unknown tag: %+v, without: %+v", again, r)
		}
		if u, ok := r.usable(); ok && (u.p == "" || !oneOf(u.p)) {
			t.Errorf("usable without a policy: %+v", u)
		}
	})
}
