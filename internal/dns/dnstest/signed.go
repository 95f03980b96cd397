package dnstest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Signed runs Knot with the zone signed.test, which is signed, and unsigned.test, which
// is not, and unbound, which validates the first, with forge between them. The zones are
// in zone file form without SOA and NS; parts are the paths of knotd, keymgr and
// unbound. It returns unbound's address.
func Signed(t testing.TB, parts map[string]string, signed, unsigned string, forge func(*dns.Msg)) string {
	t.Helper()
	return SignedAt(t, parts, fmt.Sprintf("127.0.0.1:%d", freePort(t)), signed, unsigned, forge)
}

// SignedAt is Signed with unbound at an address of 127.0.0.0/8 that the caller knows
// beforehand: programs that go by /etc/resolv.conf ask port 53.
func SignedAt(t testing.TB, parts map[string]string, at, signed, unsigned string, forge func(*dns.Msg)) string {
	t.Helper()
	dir := t.TempDir()
	const soa = "@ 300 SOA ns.signed.test. h.signed.test. 1 60 60 86400 60\n@ 300 NS ns.signed.test.\n"
	write(t, filepath.Join(dir, "signed.test.zone"), "$ORIGIN signed.test.\n%sns 300 A 127.0.0.1\n%s", soa, signed)
	write(t, filepath.Join(dir, "unsigned.test.zone"), "$ORIGIN unsigned.test.\n%s%s", soa, unsigned)
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	authority, anchor := knot(t, parts, dir)
	write(t, filepath.Join(dir, "anchor"), "%s", anchor)
	between := Start(t)
	between.Set(func(w dns.ResponseWriter, m *dns.Msg, network string) {
		c := &dns.Client{Net: "tcp"}
		reply, _, err := c.Exchange(m, authority)
		if err != nil {
			return
		}
		forge(reply)
		if network == "udp" {
			reply.Truncate(1232)
		}
		_ = w.WriteMsg(reply)
	})
	unbound(t, parts["unbound"], dir, at, between.Addr)
	return at
}

// knot serves the zones in dir. It returns its address and the key of the signed one.
func knot(t testing.TB, parts map[string]string, dir string) (address, anchor string) {
	t.Helper()
	authority := freePort(t)
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
	Run(t, func() bool {
		m := new(dns.Msg)
		m.SetQuestion("signed.test.", dns.TypeDNSKEY)
		m.SetEdns0(1232, true)
		r, err := dns.Exchange(m, at)
		return err == nil && len(r.Answer) >= 2 // the key and its signature
	}, parts["knotd"], "-c", conf)

	keys, err := exec.CommandContext(t.Context(), parts["keymgr"], "-c", conf, "signed.test", "dnskey").Output()
	if err != nil {
		t.Fatal("keymgr: ", err)
	}
	return at, strings.Replace(string(keys), "DNSKEY", "IN DNSKEY", 1)
}

// unbound runs at an address, asks the server at authority, and believes the key in dir.
func unbound(t testing.TB, path, dir, at, authority string) {
	t.Helper()
	write(t, filepath.Join(dir, "unbound.conf"), `server:
  interface: %s
  username: ""
  chroot: ""
  directory: "%s"
  pidfile: "%[2]s/unbound.pid"
  use-syslog: no
  do-daemonize: no
  do-not-query-localhost: no
  module-config: "validator iterator"
  trust-anchor-file: "%[2]s/anchor"
  local-zone: "." static
  local-zone: "signed.test." transparent
  local-zone: "unsigned.test." transparent
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
`, strings.Replace(at, ":", "@", 1), dir, strings.Replace(authority, ":", "@", 1))
	Run(t, func() bool {
		m := new(dns.Msg)
		m.SetQuestion("signed.test.", dns.TypeSOA)
		r, err := dns.Exchange(m, at)
		return err == nil && r.Rcode == dns.RcodeSuccess
	}, path, "-c", filepath.Join(dir, "unbound.conf"))
}

// freePort is a port that is free for UDP and TCP; it may be gone when it is used.
func freePort(t testing.TB) int {
	t.Helper()
	udp, tcp := listenBoth(t)
	_, _ = udp.Close(), tcp.Close()
	return tcp.Addr().(*net.TCPAddr).Port
}

func write(t testing.TB, path, format string, args ...any) {
	t.Helper()
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
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

// Run runs a server until the test ends, and waits until ready says so.
func Run(t testing.TB, ready func() bool, name string, args ...string) {
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
