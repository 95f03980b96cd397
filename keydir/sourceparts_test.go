package keydir

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/internal/dns"
	"postern/internal/dns/dnstest"
	"postern/internal/testkit"
)

// GnuPG makes keys, a Web Key Directory and DANE records; nginx, Knot and unbound
// serve them; we read them.

// gnupg is a home directory of its own.
type gnupg struct {
	gpg, home string
}

func newGnuPG(t testing.TB) *gnupg {
	t.Helper()
	g := &gnupg{gpg: testkit.Parts(t, "gpg", "gpgconf")["gpg"]}
	var err error
	if g.home, err = os.MkdirTemp("", "gpg"); err != nil { // short enough for the agent's socket
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = g.command(context.Background(), "gpgconf", "--kill", "all").Output() // of this home directory
		_ = os.RemoveAll(g.home)
	})
	return g
}

func (g *gnupg) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), "GNUPGHOME="+g.home)
	return c
}

// run returns what a program of GnuPG prints.
func (g *gnupg) run(t testing.TB, name string, args ...string) []byte {
	t.Helper()
	c := g.command(t.Context(), name, args...)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, errs.String())
	}
	return out
}

// generate makes a key for addresses and returns its fingerprint.
func (g *gnupg) generate(t testing.TB, addresses ...string) string {
	t.Helper()
	batch := []string{"--batch", "--passphrase", "", "--pinentry-mode", "loopback"}
	g.run(t, g.gpg, append(batch, "--quick-gen-key", "<"+addresses[0]+">", "ed25519", "cert")...)
	fingerprint := ""
	for line := range strings.Lines(string(g.run(t, g.gpg, "--with-colons", "--list-keys", addresses[0]))) {
		if f := strings.Split(line, ":"); f[0] == "fpr" && fingerprint == "" {
			fingerprint = f[9]
		}
	}
	g.run(t, g.gpg, append(batch, "--quick-add-key", fingerprint, "cv25519", "encr")...)
	for _, a := range addresses[1:] {
		g.run(t, g.gpg, append(batch, "--quick-add-uid", fingerprint, "<"+a+">")...)
	}
	return fingerprint
}

func write(t testing.TB, path, format string, args ...any) {
	t.Helper()
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestNginxWKD reads a directory that gpg-wks-client made and nginx serves, by both
// methods.
func TestNginxWKD(t *testing.T) {
	t.Parallel()
	nginx := testkit.Parts(t, "nginx")["nginx"]
	client := testkit.WKSClient(t)
	g := newGnuPG(t)
	dir := t.TempDir()
	addresses := []string{"Joe.Doe@advanced.test", "joe@direct.test"}
	tree := filepath.Join(dir, "openpgpkey")
	prints := map[string]string{}
	for _, a := range addresses {
		prints[a] = g.generate(t, a, "other@example.org")
		file := filepath.Join(dir, "key")
		write(t, file, "%s", g.run(t, g.gpg, "--export", prints[a]))
		if err := os.MkdirAll(filepath.Join(tree, testAddress(t, a).Domain), 0o755); err != nil {
			t.Fatal(err)
		}
		g.run(t, client, "--directory", tree, "--install-key", file, a)
	}

	n := newInternet(t, "openpgpkey.advanced.test. 300 IN A 127.0.0.1", "advanced.test. 300 IN A 127.0.0.1", "direct.test. 300 IN A 127.0.0.1")
	cert := n.ca.issue(t, time.Now().Add(time.Hour), "openpgpkey.advanced.test", "direct.test")
	der, err := x509.MarshalECPrivateKey(cert.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cert.pem"), "%s", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	write(t, filepath.Join(dir, "key.pem"), "%s", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	port := testkit.FreePort(t)
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;" // the files are nobody else's
	}
	write(t, filepath.Join(dir, "nginx.conf"), `%s daemon off; pid %[2]s/nginx.pid; error_log stderr;
events {}
http {
  access_log %[2]s/access.log; default_type application/octet-stream;
  client_body_temp_path %[2]s/t1; proxy_temp_path %[2]s/t2; fastcgi_temp_path %[2]s/t3; uwsgi_temp_path %[2]s/t4; scgi_temp_path %[2]s/t5;
  ssl_certificate %[2]s/cert.pem; ssl_certificate_key %[2]s/key.pem;
  server { listen %[3]s ssl; server_name openpgpkey.advanced.test; location /.well-known/openpgpkey/ { alias %[4]s/; } }
  server { listen %[3]s ssl; server_name direct.test; location /.well-known/openpgpkey/ { alias %[4]s/direct.test/; } }
}
`, user, dir, port.Addr(), tree)
	port.Release()
	dnstest.Run(t, func() bool {
		c, err := net.DialTimeout("tcp", port.Addr(), time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, nginx, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr")

	f := NewFetcher(FetchOptions{Resolver: n.resolver, RootCAs: n.ca.pool, Timeout: long, AllowPrivate: true, Port: uint16(port.Number)})
	defer f.Close()
	w := NewWKD(f, n.resolver, nil, time.Now)
	for i, method := range []string{"advanced method", "direct method"} {
		address := addresses[i]
		wantOutcome(t, address, outcome(t, w, address), "found - "+method)
		found, err := w.Lookup(t.Context(), testAddress(t, address))
		if err != nil || found.Certificates[0].Fingerprint() != prints[address] || found.Certificates[0].Usable(time.Now()) != nil {
			t.Errorf("%s: %+v, %v", address, found, err)
		}
		wantOutcome(t, "nobody", outcome(t, w, "nobody@"+testAddress(t, address).Domain), "none - "+method+", 404")
	}
	log, err := os.ReadFile(filepath.Join(dir, "access.log"))
	if err != nil || !strings.Contains(string(log), "/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe") {
		t.Errorf("%s, %v", log, err)
	}
}

// TestUnboundDANE reads OPENPGPKEY records that GnuPG made from a zone that Knot
// signed, through unbound.
func TestUnboundDANE(t *testing.T) {
	t.Parallel()
	parts := testkit.Parts(t, "knotd", "keymgr", "unbound")
	g := newGnuPG(t)
	zones := map[string]string{}
	prints := map[string]string{}
	for _, a := range []string{"hugh@signed.test", "forged@signed.test", "hugh@unsigned.test"} {
		prints[a] = g.generate(t, a)
		domain := testAddress(t, a).Domain
		for line := range strings.Lines(string(g.run(t, g.gpg, "--export-options", "export-dane", "--export", a))) {
			// The record in the form for unknown types (RFC 3597), below an $ORIGIN that
			// the zone file has not.
			if name, rest, ok := strings.Cut(line, " "); ok && len(name) == 56 {
				zones[domain] += name + "._openpgpkey " + rest
			} else if !strings.HasPrefix(line, "$ORIGIN") && !strings.HasPrefix(line, ";") {
				zones[domain] += line
			}
		}
	}
	var tampering atomic.Bool
	forge := func(reply *miekg.Msg) {
		for _, rr := range reply.Answer {
			// Another certificate under the same name, as who controls the way would put.
			if key, ok := rr.(*miekg.OPENPGPKEY); ok && strings.HasPrefix(rr.Header().Name, DANEName("forged", "")[:56]) {
				tampering.Store(true)
				key.PublicKey = strings.TrimSuffix(strings.Fields(record("forged", certificateOf(t, "forged@signed.test")))[4], "\n")
			}
		}
	}
	r, err := dns.New(dns.Options{Servers: []string{dnstest.Signed(t, parts, zones["signed.test"], zones["unsigned.test"], forge)}, Timeout: long})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	d := NewDANE(r, nil, long)
	wantOutcome(t, "signed", outcome(t, d, "hugh@signed.test"), "found - found, signed")
	f, err := d.Lookup(t.Context(), testAddress(t, "hugh@signed.test"))
	if err != nil || f.Certificates[0].Fingerprint() != prints["hugh@signed.test"] || f.Certificates[0].Usable(time.Now()) != nil {
		t.Errorf("%+v, %v", f, err)
	}
	wantOutcome(t, "signed, none", outcome(t, d, "nobody@signed.test"), "none - no record")
	if a, err := r.Query(t.Context(), DANEName("nobody", "signed.test"), dns.TypeOPENPGPKEY); err != nil || !a.Secure || !a.Validated || len(a.Records) != 0 {
		t.Errorf("the proof that there is none: %+v, %v", a, err)
	}
	wantOutcome(t, "not signed", outcome(t, d, "hugh@unsigned.test"), "none - there are records, but not signed")
	wantOutcome(t, "tampered", outcome(t, d, "forged@signed.test"), "unknown dns - DNS: SERVFAIL: DNSSEC validation failed")
	if !tampering.Load() {
		t.Error("nothing was tampered with")
	}
	if a, err := r.Query(t.Context(), "signed.test", dns.TypeA); err != nil || a.NXDomain || !a.Secure {
		t.Errorf("NODATA: %+v, %v", a, err)
	}
}
