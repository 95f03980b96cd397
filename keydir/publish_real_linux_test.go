package keydir

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/dns/dnstest"
	"postern/internal/pgp"
	"postern/internal/testkit"
)

// TestRealClients has GnuPG, Sequoia and curl look for certificates. They take names
// from /etc/resolv.conf and trust the system's CAs; so that nothing of the system has
// to change, the test runs itself again in a network and a mount namespace with files
// of its own there.
func TestRealClients(t *testing.T) {
	testkit.Parts(t, "gpg", "dirmngr", "gpgconf", "gpg-connect-agent", "sq", "curl", "ip")
	testkit.WKSClient(t)
	if testkit.Apart(t) {
		testRealClients(t)
	}
}

// serverIP is one of the namespace's own.
const serverIP = "10.77.0.10"

// testRealClients runs within the namespaces. here.test has an openpgpkey name, for the
// advanced method of the Web Key Directory, and there.test has none.
func testRealClients(t *testing.T) {
	authority := testkit.Furnish(t, serverIP, "here.test", "openpgpkey.here.test", "keys.here.test", "there.test")
	dnstest.ServeSystem(t,
		"openpgpkey.here.test. 60 IN A "+serverIP, "keys.here.test. 60 IN A "+serverIP,
		"here.test. 60 IN A "+serverIP, "there.test. 60 IN A "+serverIP)
	d := newDesk(t, nil)
	shared := fileCertificate(t, "two-addresses.asc")
	carol := newCertificate(t, "carol@there.test")
	d.shelf.put(t, "alice@here.test", false, fileCertificate(t, "expired.asc"), fileCertificate(t, "version6.asc"), shared)
	d.shelf.put(t, "hidden@here.test", true, newCertificate(t, "hidden@here.test"))
	d.shelf.put(t, "carol@there.test", false, carol)
	d.read()
	serveTLS(t, d.publisher, authority)
	c := &clients{t: t, env: append(os.Environ(), "SSL_CERT_FILE="+authority.CA)}
	t.Run("gpg", func(t *testing.T) { c.gnupg(t, shared, carol) })
	t.Run("sq", func(t *testing.T) { c.sequoia(t, shared, carol) })
	t.Run("curl", func(t *testing.T) { c.curl(t, shared) })
}

// clients run programs.
type clients struct {
	t   testing.TB
	env []string
}

// run returns what a program says, and whether it ended well.
func (c *clients) run(t *testing.T, name string, args ...string) (string, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = c.env
	out, err := cmd.CombinedOutput()
	t.Logf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, printableOutput(out))
	return string(out), err == nil
}

func printableOutput(b []byte) []byte {
	return bytes.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r > '~' {
			return '.'
		}
		return r
	}, b)
}

func (c *clients) gnupg(t *testing.T, alice, carol *pgp.Certificate) {
	// The socket's path must not be long.
	home, err := os.MkdirTemp("", "gnupg-")
	if err != nil {
		t.Fatal(err)
	}
	with := &clients{t: t, env: append(c.env, "GNUPGHOME="+home, "LC_ALL=C")}
	defer os.RemoveAll(home)
	if err := os.WriteFile(filepath.Join(home, "dirmngr.conf"), []byte("keyserver hkps://keys.here.test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer with.run(t, "gpgconf", "--kill", "all")
	locate := func(how, address string) (string, bool) {
		return with.run(t, "gpg", "--batch", "--with-colons", "--no-auto-key-locate", "--auto-key-locate", "clear,nodefault,"+how, "--locate-external-keys", address)
	}
	for address, want := range map[string]*pgp.Certificate{"alice@here.test": alice, "carol@there.test": carol} {
		if out, ok := locate("wkd", address); !ok || !strings.Contains(out, "fpr:::::::::"+want.Fingerprint()) {
			t.Errorf("WKD %s: not found", address)
		}
		if _, ok := with.run(t, testkit.WKSClient(t), "-v", "--check", address); !ok {
			t.Errorf("gpg-wks-client --check %s", address)
		}
	}
	for _, address := range []string{"nobody@here.test", "hidden@here.test", "nobody@there.test"} {
		if _, ok := locate("wkd", address); ok {
			t.Errorf("%s is found", address)
		}
	}
	with.run(t, "gpg", "--batch", "--yes", "--delete-keys", alice.Fingerprint(), carol.Fingerprint())
	if out, ok := locate("keyserver", "carol@there.test"); !ok || !strings.Contains(out, carol.Fingerprint()) {
		t.Error("HKP by address: not found")
	}
	if _, ok := with.run(t, "gpg", "--batch", "--recv-keys", alice.Fingerprint()); !ok {
		t.Error("HKP by fingerprint: not found")
	}
	if out, _ := with.run(t, "gpg", "--batch", "--with-colons", "--search-keys", "alice@here.test"); !strings.Contains(out, "pub:"+alice.Fingerprint()+":22:256:") {
		t.Error("HKP index: not found")
	}
	if out, _ := with.run(t, "gpg", "--list-keys"); strings.Contains(out, "Secret Life") {
		t.Error("the other address was given out")
	}
	if _, ok := locate("keyserver", "hidden@here.test"); ok {
		t.Error("hidden@here.test is found by HKP")
	}
}

func (c *clients) sequoia(t *testing.T, alice, carol *pgp.Certificate) {
	for address, want := range map[string]*pgp.Certificate{"alice@here.test": alice, "carol@there.test": carol} {
		out, ok := c.run(t, "sq", "wkd", "get", address)
		if !ok || !hasCertificate([]byte(out), want) {
			t.Errorf("sq wkd get %s: not found", address)
		}
	}
	if _, ok := c.run(t, "sq", "wkd", "get", "nobody@here.test"); ok {
		t.Error("nobody@here.test is found")
	}
	out, ok := c.run(t, "sq", "keyserver", "--server", "hkps://keys.here.test", "get", carol.Fingerprint())
	if !ok || !hasCertificate([]byte(out), carol) {
		t.Error("sq keyserver get: not found")
	}
}

// hasCertificate says whether a certificate is in what a program wrote.
func hasCertificate(out []byte, want *pgp.Certificate) bool {
	certs, err := pgp.ParseCertificates(out)
	for _, c := range certs {
		if err == nil && c.Fingerprint() == want.Fingerprint() {
			return true
		}
	}
	return false
}

func (c *clients) curl(t *testing.T, alice *pgp.Certificate) {
	for _, version := range []string{"--http1.1", "--http2"} {
		url := "https://" + advanced("here.test", "alice") + "?l=alice"
		out := filepath.Join(t.TempDir(), "key")
		if _, ok := c.run(t, "curl", "-sS", "--fail", version, "-o", out, url); !ok {
			t.Errorf("%s: failed", version)
		}
		if data, err := os.ReadFile(out); err != nil || !hasCertificate(data, alice) {
			t.Errorf("%s: %d octets, %v", version, len(data), err)
		}
		head, ok := c.run(t, "curl", "-sS", "--fail", "--head", version, url)
		if !ok || !strings.Contains(strings.ToLower(head), "content-type: application/octet-stream") {
			t.Errorf("%s: HEAD: %s", version, head)
		}
	}
	for _, url := range []string{"https://" + advanced("here.test", "hidden"), "https://keys.here.test/vks/v1/by-email/hidden%40here.test"} {
		if _, ok := c.run(t, "curl", "-sS", "--fail", url); ok {
			t.Errorf("%s is found", url)
		}
	}
}

func serveTLS(t *testing.T, handler http.Handler, a testkit.Authority) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.Cert, a.Key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", serverIP+":443")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = s.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = s.Close() })
}
