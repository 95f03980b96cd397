package keydir

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/internal/dns"
	"postern/internal/dns/dnstest"
	"postern/internal/mail"
	"postern/internal/pgp"
)

// long is more than anything takes here that ends by itself; short is how long a
// test waits for what does not.
const (
	long  = 20 * time.Second
	short = 150 * time.Millisecond
)

// sourceNow is when the certificates of these tests are judged.
var sourceNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// testCA is a certificate authority.
type testCA struct {
	cert *x509.Certificate
	key  crypto.Signer
	pool *x509.CertPool
}

func newTestCA(t testing.TB) *testCA {
	t.Helper()
	ca := &testCA{key: testSigner(t), pool: x509.NewCertPool()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ca.key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	ca.pool.AddCert(ca.cert)
	return ca
}

func testSigner(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a server certificate for names that is valid until then.
func (ca *testCA) issue(t testing.TB, until time.Time, names ...string) tls.Certificate {
	t.Helper()
	key := testSigner(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: names,
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// internet is a name server, and web servers on public addresses which are really
// on loopback.
type internet struct {
	dns      *dnstest.Server
	resolver *dns.Resolver
	ca       *testCA

	mu     sync.Mutex
	hosts  map[netip.Addr]string // where an address really is
	dialed []netip.AddrPort
}

func newInternet(t testing.TB, records ...string) *internet {
	t.Helper()
	n := &internet{dns: dnstest.Start(t, records...), ca: newTestCA(t), hosts: map[netip.Addr]string{}}
	var err error
	if n.resolver, err = dns.New(dns.Options{Servers: []string{n.dns.Addr}, Timeout: long}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.resolver.Close)
	return n
}

// connect is the Connect of a Fetcher.
func (n *internet) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	n.mu.Lock()
	n.dialed = append(n.dialed, to)
	at := n.hosts[to.Addr()]
	n.mu.Unlock()
	if at == "" || to.Port() != httpsPort {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", at)
}

// dials are the addresses that were dialled.
func (n *internet) dials() []netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dialed)
}

// listen puts a listener on an address.
func (n *internet) listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[netip.MustParseAddr(addr)] = l.Addr().String()
	return l
}

// serve starts an HTTPS server on an address.
func (n *internet) serve(t testing.TB, addr string, cert tls.Certificate, handler http.Handler) {
	t.Helper()
	l := tls.NewListener(n.listen(t, addr), &tls.Config{Certificates: []tls.Certificate{cert}})
	s := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
}

// site is a domain with a web server for it and its openpgpkey. name on 11.0.0.1.
func (n *internet) site(t testing.TB, domain string, handler http.HandlerFunc) {
	t.Helper()
	n.dns.Add(t, domain+". 300 IN A 11.0.0.1", "openpgpkey."+domain+". 300 IN A 11.0.0.1")
	n.serve(t, "11.0.0.1", n.ca.issue(t, time.Now().Add(time.Hour), domain, "*."+domain), handler)
}

func (n *internet) fetcher(timeout time.Duration) *Fetcher {
	return NewFetcher(FetchOptions{Resolver: n.resolver, RootCAs: n.ca.pool, Timeout: timeout, Connect: n.connect})
}

func (n *internet) wkd(timeout time.Duration) *WKD {
	return NewWKD(n.fetcher(timeout), n.resolver, nil, time.Now)
}

// alice is the address of most of these tests.
const alice = "alice@example.org"

var (
	sourceKeysMu sync.Mutex
	sourceKeys   = map[string][]byte{}
)

// certificateOf returns a certificate of an address.
func certificateOf(t testing.TB, address string) []byte {
	t.Helper()
	sourceKeysMu.Lock()
	defer sourceKeysMu.Unlock()
	if sourceKeys[address] == nil {
		k, err := pgp.GenerateKey(address, sourceNow.Add(-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		sourceKeys[address] = k.Certificate().Data()
	}
	return sourceKeys[address]
}

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func testAddress(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// outcome is how a look-up ended: "found 2", "none: …" or "unknown dns: …".
func outcome(t testing.TB, s Source, address string) string {
	t.Helper()
	a := testAddress(t, address)
	f, err := s.Lookup(t.Context(), a)
	return checked(t, a, f, err)
}

// checked holds a Source to its promises whatever the outcome.
func checked(t testing.TB, a mail.Address, f Finding, err error) string {
	t.Helper()
	for _, c := range f.Certificates {
		if !c.HasAddress(a.Key()) || len(c.UserIDs()) != 1 {
			t.Errorf("%s: a certificate with user IDs %q", a, c.UserIDs())
		}
	}
	if err == nil {
		if f.Detail == "" {
			t.Errorf("%s: no detail", a)
		}
		if n := len(f.Certificates); n > 0 {
			return strings.Repeat("found ", n) + "- " + f.Detail
		}
		return "none - " + f.Detail
	}
	var e *SourceError
	if !errors.As(err, &e) || len(f.Certificates) > 0 || !slices.Contains(Causes(), e.Cause) {
		t.Fatalf("%s: %v, %d certificates", a, err, len(f.Certificates))
	}
	if text := strings.ToLower(err.Error()); strings.Contains(text, strings.ToLower(a.Local)) || strings.Contains(text, "@") || strings.Contains(text, WKDHash(a.Local)) || strings.Contains(text, "/hu/") {
		t.Errorf("the error names the address: %q", err)
	}
	return "unknown " + string(e.Cause) + " - " + e.Detail
}

func wantOutcome(t testing.TB, name, got, want string) {
	t.Helper()
	if kind, _, _ := strings.Cut(got, " - "); kind != want && !strings.HasPrefix(got, want) {
		t.Errorf("%s: %s; want %s", name, got, want)
	}
}

// always answers 200 with a body.
func always(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(body)
	}
}

// userIDs appends n user ID packets that nobody signed.
func userIDs(data []byte, n int) []byte {
	data = bytes.Clone(data)
	for range n {
		data = append(append(data, 0xC0|13, 1), 'x')
	}
	return data
}

// dearmored takes the armor off.
func dearmored(t testing.TB, armor []byte) []byte {
	t.Helper()
	var text []byte
	for _, line := range bytes.Split(armor, []byte("\n"))[2:] {
		if line = bytes.TrimSpace(line); !bytes.HasPrefix(line, []byte("=")) && !bytes.HasPrefix(line, []byte("-")) {
			text = append(text, line...)
		}
	}
	data, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
