package admin

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"postern/internal/dns/dnstest"
	"postern/internal/server"
	"postern/internal/vault"
)

// ask has the gateway ask a name server with these records.
func (f *fixture) ask(records ...string) {
	f.t.Helper()
	f.configure("servers", fmt.Sprintf("[%q]", dnstest.Start(f.t, records...).Addr))
}

// signs are the selectors of the keys that sign.
func (f *fixture) signs() string {
	f.t.Helper()
	keys, err := vault.LoadDKIM(f.g.Config.KeysDir)
	if err != nil {
		f.t.Fatal(err)
	}
	var names []string
	for _, k := range keys.Active() {
		names = append(names, k.Selector)
	}
	return strings.Join(names, " ")
}

func TestRotateDKIM(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	before := f.signs()
	if before == "" {
		t.Fatal("quickstart made no keys")
	}
	if _, err := f.ActivateDKIM(t.Context(), "here.test", false); !errors.Is(err, vault.ErrNoDKIM) {
		t.Error(err)
	}
	next, err := f.RotateDKIM("Here.Test")
	if err != nil || next.Active || len(next.DNS) != 2 || f.signs() != before {
		t.Fatalf("%+v %v", next, err)
	}
	if again, err := f.RotateDKIM("here.test"); err != nil || fmt.Sprint(again) != fmt.Sprint(next) {
		t.Errorf("%+v %v", again, err)
	}
	var text bytes.Buffer
	if err := next.WriteText(&text); err != nil || !strings.Contains(text.String(), next.DNS[0]) || !strings.Contains(text.String(), next.DNS[1]) {
		t.Errorf("%s %v", text.String(), err)
	}

	// Nothing is signed with a key that others cannot find.
	wrong := strings.Replace(next.DNS[1], "p=", "p=AAAA", 1)
	for what, records := range map[string][]string{
		"is not in the DNS": {next.DNS[0]}, "is another record": {next.DNS[0], wrong}, "publish: ": {},
	} {
		f.ask(records...)
		if r, err := f.ActivateDKIM(t.Context(), "here.test", true); err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "nothing was changed") {
			t.Errorf("%s: %+v %v", what, r, err)
		}
	}
	f.configure("servers", `["127.0.0.1:1"]`)
	if _, err := f.ActivateDKIM(t.Context(), "here.test", true); err == nil || !strings.Contains(err.Error(), "cannot be looked up") {
		t.Error(err)
	}
	if f.signs() != before {
		t.Error("another key signs")
	}
	f.ask(next.DNS...)
	done, err := f.ActivateDKIM(t.Context(), "here.test", true)
	if err != nil || !done.Active || f.signs() != strings.Join(next.Selectors, " ") {
		t.Errorf("%+v %v", done, err)
	}
	for _, domain := range []string{"there.test", "", "a b"} {
		if _, err := f.RotateDKIM(domain); !errors.Is(err, ErrUsage) {
			t.Errorf("%q: %v", domain, err)
		}
	}
}

func TestCheckRecords(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	look := func(records ...string) Report {
		t.Helper()
		f.ask(records...)
		var r Report
		r.records(t.Context(), f.g)
		return r
	}
	r := look()
	rsa := ""
	for s := range strings.FieldsSeq(f.signs()) {
		r.want(t, "DNS DKIM "+s+" here.test", Warn, "publish: "+s+"._domainkey.here.test.\tIN\tTXT\t\"v=DKIM1; k=")
		if strings.HasSuffix(s, "-rsa") {
			rsa = s
		}
	}
	r.want(t, "DNS SPF here.test", Warn, "publish: here.test.\tIN\tTXT\t\"v=spf1 mx -all\"")
	r.want(t, "DNS DMARC here.test", Warn, "publish: _dmarc.here.test.")
	r.want(t, "DNS MTA-STS here.test", Warn, "publish: _mta-sts.here.test.")
	r.want(t, "DNS TLS reports here.test", Warn, "publish: _smtp._tls.here.test.")

	// What quickstart prints is what check looks for.
	var txt []string
	for _, line := range f.setup.DNS {
		if strings.Contains(line, "\tTXT\t") {
			txt = append(txt, line)
		}
	}
	r = look(txt...)
	for _, found := range r {
		if found.State != Fine {
			t.Errorf("%+v", found)
		}
	}
	if len(r) != 6 {
		t.Errorf("%+v", r)
	}

	_, id := server.MTASTS(f.g.Config)
	for i := range txt {
		txt[i] = strings.NewReplacer("p=", "p=AAAA", id, "20200101", "v=TLSRPTv1", "v=TLSRPTv2", "v=DMARC1", "v=DMARC2", "-all", "ip4:192.0.2.1 ~all").Replace(txt[i])
	}
	r = look(append(txt, `here.test. IN TXT "some-site-verification=1"`)...)
	r.want(t, "DNS SPF here.test", Fine, "here.test")
	r.want(t, "DNS DMARC here.test", Warn, "is another")
	r.want(t, "DNS DKIM "+rsa+" here.test", Warn, "is another")
	r.want(t, "DNS MTA-STS here.test", Warn, "is another")
	r.want(t, "DNS TLS reports here.test", Warn, "is another")

	r = look(`here.test. IN TXT "v=spf1 -all"`, `here.test. IN TXT "v=spf1 mx -all"`)
	r.want(t, "DNS SPF here.test", Warn, "is another") // with two, there is none (RFC 7208 4.5)

	if _, err := f.RotateDKIM("here.test"); err != nil {
		t.Fatal(err)
	}
	f.configure("domains", `["here.test", "new.test"]`)
	f.configure("mta_sts", `"none"`)
	r = look()
	r.want(t, "DKIM here.test", Fine, "postern dkim rotate here.test --activate")
	r.want(t, "DKIM new.test", Warn, "postern dkim rotate new.test")
	if len(r.find("DNS MTA-STS")) != 0 {
		t.Errorf("%+v", r)
	}
	// Whoever asked before has to be told that it is taken back.
	r = look("_mta-sts.here.test. IN TXT \"v=STSv1; id=" + id + ";\"")
	r.want(t, "DNS MTA-STS here.test", Warn, "is another")
}

// TestSameKey: what others could not verify our signatures by is not our key.
func TestSameKey(t *testing.T) {
	t.Parallel()
	const rsa, ed25519 = "v=DKIM1; k=rsa; p=AAAA", "v=DKIM1; k=ed25519; p=BBBB"
	for _, c := range []struct {
		found, want string
		same        bool
	}{
		{rsa, rsa, true}, {ed25519, ed25519, true}, {"p=AAAA", rsa, true}, {"v=DKIM1; p=A A\tAA; n=x", rsa, true},
		{"v=DKIM1; p=BBBB", ed25519, false}, {"v=DKIM1; k=rsa; p=BBBB", ed25519, false}, {"v=DKIM1; p=", rsa, false},
		{"v=DKIM2; k=rsa; p=AAAA", rsa, false}, {"k=rsa; h=sha1; p=AAAA", rsa, false}, {"k=rsa; h=sha1:sha256; p=AAAA", rsa, true},
		{"k=rsa; s=tlsrpt; p=AAAA", rsa, false}, {"k=rsa; s=email; p=AAAA", rsa, true}, {"k=rsa; s=*; p=AAAA", rsa, true},
	} {
		if got := sameKey(c.found, c.want); got != c.same {
			t.Errorf("%q for %q: %t", c.found, c.want, got)
		}
	}
}
