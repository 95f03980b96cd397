package server

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"postern/internal/config"
	"postern/internal/vault"
)

func TestMTASTS(t *testing.T) {
	t.Parallel()
	c := config.Default()
	text, id := MTASTS(c)
	if text != "version: STSv1\r\nmode: testing\r\nmx: mail.example.org\r\nmax_age: 86400\r\n" {
		t.Errorf("%q", text)
	}
	if strings.Trim(id, "0123456789abcdef") != "" || len(id) != 32 {
		t.Errorf("id %q", id)
	}
	c.HTTPS.MTASTS = "enforce"
	enforced, other := MTASTS(c)
	if !strings.Contains(enforced, "mode: enforce\r\n") || !strings.Contains(enforced, "max_age: 1209600\r\n") || other == id {
		t.Errorf("%q %s", enforced, other)
	}
}

// The policy is served for every hosted domain, and nothing else is in its way.
func TestServeMTASTS(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	c.HTTPS.Publish = false
	c.HTTPS.ListenHKP = "127.0.0.1:0"
	_, r, _ := serve(t, c)
	b := browser(r, true)
	want, _ := MTASTS(c)
	const path = "/.well-known/mta-sts.txt"
	if code, text := ask(t, b, "https://mta-sts.here.test"+path, "", ""); code != 200 || text != want {
		t.Errorf("%d %q", code, text)
	}
	for _, url := range []string{"https://mta-sts.there.test" + path, "https://here.test" + path, "https://mta-sts.here.test" + path + "x"} {
		if code, text := ask(t, b, url, "", ""); code == 200 {
			t.Errorf("%s: %d %q", url, code, text)
		}
	}
	next := clone(c)
	next.Domains = []string{"here.test", "new.test"}
	if err := r.Reload(next); err != nil {
		t.Fatal(err)
	}
	if code, text := ask(t, b, "https://MTA-STS.new.test:443"+path, "", ""); code != 200 || text != want {
		t.Errorf("a new domain: %d %q", code, text)
	}
	resp, err := b.Post("https://mta-sts.here.test"+path, "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Error(resp.Status)
	}

	// Never without TLS: who could change it on the way could take the TLS away.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Addrs.HKP.String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "mta-sts.here.test"
	clear, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer clear.Body.Close()
	if text, _ := io.ReadAll(clear.Body); clear.StatusCode == 200 {
		t.Errorf("%q", text)
	}
}

// Keys that were activated sign from the next reload on.
func TestReloadSigning(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	g, r, _ := serve(t, c)
	if g.Signer.Begin("here.test") != nil {
		t.Error("it signs without keys")
	}
	if _, err := vault.CreateDKIM(c.KeysDir, "here.test", time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(c); err != nil || g.Signer.Begin("here.test") != nil {
		t.Errorf("keys that wait sign: %v", err)
	}
	if _, err := vault.ActivateDKIM(c.KeysDir, "here.test"); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(c); err != nil {
		t.Fatal(err)
	}
	signing := g.Signer.Begin("here.test")
	fields, err := signing.Fields([]byte("From: alice@here.test\r\n\r\n"))
	if err != nil || strings.Count(string(fields), "DKIM-Signature:") != 2 {
		t.Errorf("%q %v", fields, err)
	}
}
