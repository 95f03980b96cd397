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
	"sync"
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

// printed is what a program that still runs has printed.
type printed struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (p *printed) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.Write(b)
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.String()
}

// start runs a server until the test ends, and waits until ready says so.
func start(t testing.TB, ready func() bool, name string, args ...string) {
	t.Helper()
	c := exec.Command(name, args...)
	output := new(printed)
	c.Stdout, c.Stderr = output, output
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = c.Process.Kill()
			<-ended
		}
	})
	deadline := time.Now().Add(30 * time.Second)
	for !ready() {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s ended: %v\n%s", name, err, output.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not get ready\n%s", name, output.String())
		}
	}
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
	start(t, func() bool {
		c, err := net.DialTimeout("tcp", port.Addr(), time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	}, nginx, "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr")

	f := NewFetcher(FetchOptions{Resolver: n.resolver, RootCAs: n.ca.pool, Timeout: long, AllowPrivate: true, Port: uint16(port.Number)})
	defer f.Close()
	w := NewWKD(f, n.resolver)
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

// signedZones runs Knot with a signed zone and one that is not, and unbound, which
// validates the first, with forge between them. It returns unbound's address.
func signedZones(t *testing.T, signed, unsigned string, forge func(*miekg.Msg)) string {
	t.Helper()
	parts := testkit.Parts(t, "knotd", "keymgr", "unbound")
	dir := t.TempDir()
	const soa = "@ 300 SOA ns.signed.test. h.signed.test. 1 60 60 86400 60\n@ 300 NS ns.signed.test.\n"
	write(t, filepath.Join(dir, "signed.test.zone"), "$ORIGIN signed.test.\n%sns 300 A 127.0.0.1\n%s", soa, signed)
	write(t, filepath.Join(dir, "unsigned.test.zone"), "$ORIGIN unsigned.test.\n%s%s", soa, unsigned)
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	authority := bothPort(t)
	conf := filepath.Join(dir, "knot.conf")
	write(t, conf, `server:
    listen: 127.0.0.1@%d
    rundir: %s
database:
    storage: %[2]s/db
log:
  - target: stderr
    any: warning
policy:
  - id: p
    algorithm: ecdsap256sha256
    single-type-signing: on
    ksk-lifetime: 0
template:
  - id: default
    storage: %[2]s
    file: "%%s.zone"
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
zone:
  - domain: signed.test
    dnssec-signing: on
    dnssec-policy: p
  - domain: unsigned.test
`, authority, dir)
	at := fmt.Sprintf("127.0.0.1:%d", authority)
	start(t, func() bool {
		m := new(miekg.Msg)
		m.SetQuestion("signed.test.", miekg.TypeDNSKEY)
		m.SetEdns0(1232, true)
		r, err := miekg.Exchange(m, at)
		return err == nil && len(r.Answer) >= 2 // the key and its signature
	}, parts["knotd"], "-c", conf)

	keys, err := exec.CommandContext(t.Context(), parts["keymgr"], "-c", conf, "signed.test", "dnskey").Output()
	if err != nil {
		t.Fatal("keymgr: ", err)
	}
	write(t, filepath.Join(dir, "anchor"), "%s", strings.Replace(string(keys), "DNSKEY", "IN DNSKEY", 1))
	between := dnstest.Start(t)
	between.Set(func(w miekg.ResponseWriter, m *miekg.Msg, network string) {
		c := &miekg.Client{Net: "tcp"}
		reply, _, err := c.Exchange(m, at)
		if err != nil {
			return
		}
		forge(reply)
		if network == "udp" {
			reply.Truncate(1232)
		}
		_ = w.WriteMsg(reply)
	})
	resolver := bothPort(t)
	write(t, filepath.Join(dir, "unbound.conf"), `server:
  interface: 127.0.0.1
  port: %d
  username: ""
  chroot: ""
  directory: "%s"
  pidfile: "%[2]s/unbound.pid"
  use-syslog: no
  do-daemonize: no
  do-not-query-localhost: no
  module-config: "validator iterator"
  trust-anchor-file: "%[2]s/anchor"
  local-zone: "test." nodefault
  qname-minimisation: no
  ede: yes
remote-control:
  control-enable: no
stub-zone:
  name: "signed.test"
  stub-addr: %s
stub-zone:
  name: "unsigned.test"
  stub-addr: %[3]s
`, resolver, dir, strings.Replace(between.Addr, ":", "@", 1))
	address := fmt.Sprintf("127.0.0.1:%d", resolver)
	start(t, func() bool {
		m := new(miekg.Msg)
		m.SetQuestion("signed.test.", miekg.TypeSOA)
		r, err := miekg.Exchange(m, address)
		return err == nil && r.Rcode == miekg.RcodeSuccess
	}, parts["unbound"], "-c", filepath.Join(dir, "unbound.conf"))
	return address
}

// bothPort is a port that is free for UDP and TCP; it may be gone when it is used.
func bothPort(t testing.TB) int {
	t.Helper()
	for range 20 {
		tcp := testkit.FreePort(t)
		udp, err := net.ListenPacket("udp", tcp.Addr())
		tcp.Release()
		if err == nil {
			udp.Close()
			return tcp.Number
		}
	}
	t.Fatal("no free port")
	return 0
}

// TestUnboundDANE reads OPENPGPKEY records that GnuPG made from a zone that Knot
// signed, through unbound.
func TestUnboundDANE(t *testing.T) {
	t.Parallel()
	testkit.Parts(t, "knotd", "keymgr", "unbound")
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
	r, err := dns.New(dns.Options{Servers: []string{signedZones(t, zones["signed.test"], zones["unsigned.test"], forge)}, Timeout: long})
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
