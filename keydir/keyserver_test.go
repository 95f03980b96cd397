package keydir

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"postern/internal/pgp"
)

func TestKeyServerAddresses(t *testing.T) {
	t.Parallel()
	f := newInternet(t).fetcher(long)
	for _, c := range []struct{ server, address, want, name string }{
		{"vks://Keys.OpenPGP.org", "Alice+x@example.org", "https://keys.openpgp.org/vks/v1/by-email/Alice%2Bx%40example.org", "vks"},
		{"vks://keys.openpgp.org/", "Jörg@example.org", "https://keys.openpgp.org/vks/v1/by-email/J%C3%B6rg%40example.org", "vks"},
		{"hkps://keys.example:443", "a&op=x@example.org", "https://keys.example:443/pks/lookup?op=get&options=mr&exact=on&search=a%26op%3Dx%40example.org", "hkp"},
		{"hkps://keys.example", `"a b/../c"@example.org`, "https://keys.example/pks/lookup?op=get&options=mr&exact=on&search=%22a%20b%2F..%2Fc%22%40example.org", "hkp"},
		{"hkps2://keys.example", `"../../x?y#z"@example.org`, "https://keys.example/pks/v2/certs/by-identity/%22..%2F..%2Fx%3Fy%23z%22%40example.org", "hkp"},
	} {
		k, err := NewKeyServer(f, c.server)
		if err != nil {
			t.Errorf("%s: %v", c.server, err)
			continue
		}
		if got := k.page(testAddress(t, c.address)).String(); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.server, got, c.want)
		}
		if k.Name() != c.name || k.Trust() != Unverified {
			t.Errorf("%s: %s, %v", c.server, k.Name(), k.Trust())
		}
	}
	for _, bad := range []string{"", "keys.openpgp.org", "https://keys.openpgp.org", "hkp://keys.example", "hkps://", "hkps://:443", "hkps://a@keys.example",
		"hkps://keys.example/pks", "hkps://keys.example?x", "hkps://keys.example#x", "hkps://keys.example:11371", "vks://%zz"} {
		if _, err := NewKeyServer(f, bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestKeyServer(t *testing.T) {
	t.Parallel()
	cert, err := pgp.ParseCertificates(certificateOf(t, alice))
	if err != nil {
		t.Fatal(err)
	}
	erin, err := pgp.ParseCertificates(testdata(t, "several-addresses.pgp"))
	if err != nil {
		t.Fatal(err)
	}
	answers := map[string]func(http.ResponseWriter){
		"alice": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/pgp-keys")
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = w.Write(cert[0].Armor())
		},
		"binary": func(w http.ResponseWriter) { _, _ = w.Write(cert[0].Data()) },
		"erin":   func(w http.ResponseWriter) { _, _ = w.Write(erin[0].Armor()) },
		"soft404": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<html>"))
		},
		"empty":     func(http.ResponseWriter) {},
		"nobody":    func(w http.ResponseWriter) { w.WriteHeader(404) },
		"forbidden": func(w http.ResponseWriter) { w.WriteHeader(403) },
		"elsewhere": func(w http.ResponseWriter) { w.Header().Set("Location", "https://example.net/"); w.WriteHeader(302) },
		"broken":    func(w http.ResponseWriter) { w.Header().Set("Retry-After", "30"); w.WriteHeader(503) },
	}
	n := newInternet(t)
	n.site(t, "keys.example", func(w http.ResponseWriter, r *http.Request) {
		text := r.URL.Path + r.URL.Query().Get("search")
		for local, answer := range answers {
			if strings.HasSuffix(text, local+"@example.org") {
				answer(w)
				return
			}
		}
		t.Errorf("asked for %v", r.URL)
	})
	for _, scheme := range []string{"vks", "hkps", "hkps2"} {
		k, err := NewKeyServer(n.fetcher(long), scheme+"://keys.example")
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct{ local, want string }{
			{"alice", "found"}, {"binary", "none - the certificate is for another address"}, {"erin", "found"},
			{"nobody", "none - 404"}, {"soft404", "unknown content"}, {"empty", "unknown content"},
			{"forbidden", "unknown status"}, {"elsewhere", "unknown redirect"},
			{"alice", "found"}, // the server is well all the same
			{"broken", "unknown status"}, {"alice", "unknown backoff"},
		} {
			wantOutcome(t, scheme+" "+c.local, outcome(t, k, c.local+"@example.org"), c.want)
		}
		wantOutcome(t, "literal", outcome(t, k, "alice@[192.0.2.1]"), "none")
	}
	k, err := NewKeyServer(n.fetcher(long), "vks://keys.example")
	if err != nil {
		t.Fatal(err)
	}
	if f, err := k.Lookup(t.Context(), testAddress(t, alice)); err != nil || f.Lifetime != time.Minute {
		t.Errorf("for %v, %v", f.Lifetime, err)
	}
}
