package keydir

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postern/internal/dns/dnstest"
	"postern/internal/pgp"
	"postern/internal/testkit"
)

// inside tells this test that it runs in namespaces of its own.
const inside = "POSTERN_TEST_INSIDE"

// TestRealClients has GnuPG, Sequoia and curl look for certificates. They take names
// from /etc/resolv.conf and trust the system's CAs; so that nothing of the system has
// to change, the test runs itself again in a network and a mount namespace with files
// of its own there.
func TestRealClients(t *testing.T) {
	testkit.Parts(t, "gpg", "dirmngr", "gpgconf", "gpg-connect-agent", "sq", "curl", "ip")
	wksClient(t)
	if os.Getenv(inside) == "1" {
		testRealClients(t)
		return
	}
	if testing.Short() {
		t.Skip("starts other programs")
	}
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRealClients$", "-test.v", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		testkit.Missing(t, "namespaces of its own: "+err.Error())
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "--- PASS: TestRealClients") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// serverIP is one of the namespace's own.
const serverIP = "10.77.0.10"

// testRealClients runs within the namespaces. here.test has an openpgpkey name, for the
// advanced method of the Web Key Directory, and there.test has none.
func testRealClients(t *testing.T) {
	bundle := furnish(t)
	serveNames(t,
		"openpgpkey.here.test. 60 IN A "+serverIP, "keys.here.test. 60 IN A "+serverIP,
		"here.test. 60 IN A "+serverIP, "there.test. 60 IN A "+serverIP)
	d := newDesk(t, nil)
	shared := fileCertificate(t, "two-addresses.asc")
	carol := newCertificate(t, "carol@there.test")
	d.shelf.put(t, "alice@here.test", false, fileCertificate(t, "expired.asc"), fileCertificate(t, "version6.asc"), shared)
	d.shelf.put(t, "hidden@here.test", true, newCertificate(t, "hidden@here.test"))
	d.shelf.put(t, "carol@there.test", false, carol)
	d.read()
	serveTLS(t, d.publisher, bundle)
	c := &clients{t: t, env: append(os.Environ(), "SSL_CERT_FILE="+bundle.ca)}
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
		if _, ok := with.run(t, wksClient(t), "-v", "--check", address); !ok {
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

// tlsBundle is a private CA and a certificate by it.
type tlsBundle struct {
	ca   string // file
	pair tls.Certificate
}

// furnish brings the loopback interface up, and puts this namespace's own files over
// those of the system.
func furnish(t *testing.T) tlsBundle {
	t.Helper()
	for _, args := range [][]string{{"link", "set", "lo", "up"}, {"addr", "add", serverIP + "/32", "dev", "lo"}} {
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	// What is mounted here must not be seen outside.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	b := newBundle(t, filepath.Join(dir, "ca.pem"), "here.test", "openpgpkey.here.test", "keys.here.test", "there.test")
	for target, text := range map[string]string{
		"/etc/resolv.conf": "nameserver 127.0.0.1\noptions timeout:2 attempts:1\n",
		"/etc/hosts":       "127.0.0.1 localhost\n",
	} {
		file := filepath.Join(dir, filepath.Base(target))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		cover(t, file, target)
	}
	cover(t, b.ca, "/etc/ssl/certs/ca-certificates.crt")
	return b
}

// cover lets a file be seen in place of another.
func cover(t *testing.T, file, target string) {
	t.Helper()
	real, err := filepath.EvalSymlinks(target)
	if err != nil {
		testkit.Missing(t, target)
	}
	if err := syscall.Mount(file, real, "", syscall.MS_BIND, ""); err != nil {
		t.Fatalf("mount over %s: %v", target, err)
	}
}

func newBundle(t *testing.T, caFile string, names ...string) tlsBundle {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	must(err)
	must(os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o644))
	return tlsBundle{ca: caFile, pair: tls.Certificate{Certificate: [][]byte{der, caDER}, PrivateKey: key}}
}

// serveNames answers on the port where the system asks for names.
func serveNames(t *testing.T, records ...string) {
	t.Helper()
	names := dnstest.Start(t, records...)
	for _, network := range []string{"udp", "tcp"} {
		started := make(chan struct{})
		s := &dns.Server{Addr: "127.0.0.1:53", Net: network, NotifyStartedFunc: func() { close(started) }}
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) { names.Answer(w, m, network) })
		go func() { _ = s.ListenAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
}

func serveTLS(t *testing.T, handler http.Handler, b tlsBundle) {
	t.Helper()
	l, err := net.Listen("tcp", serverIP+":443")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{b.pair}}, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go func() { _ = s.ServeTLS(l, "", "") }()
	t.Cleanup(func() { _ = s.Close() })
}
