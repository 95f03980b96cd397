package deliver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/internal/dns"
	"postern/internal/dns/dnstest"
	"postern/internal/testkit"
)

// canary is in the content of every message; body is such a message.
const (
	canary = "canary-in-clear-4711"
	body   = "From: a@sender.test\r\nSubject: x\r\n\r\n" + canary + "\r\n.dot\r\n..\r\nend\r\n"
	domain = "example.test"
	alice  = "alice@example.test"
)

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(20000 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

// issue returns a certificate for names, until then, with its chain.
func (a *authority) issue(t testing.TB, until time.Time, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until, DNSNames: names,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
}

func config(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// world is an Internet on loopback: names, an authority, one port for mail servers.
type world struct {
	t    testing.TB
	dns  *dnstest.Server
	ca   *authority
	port int
	l    net.Listener // 127.0.0.1 at port, until somebody takes it
	o    Options
}

// newWorld has the domain example.test with mx.example.test at 127.0.0.1, and more
// records in zone file form.
func newWorld(t testing.TB, records ...string) *world {
	t.Helper()
	port := testkit.FreePort(t)
	w := &world{t: t, ca: newAuthority(t), port: port.Number, l: port.Listener()}
	w.dns = dnstest.Start(t, append([]string{
		"example.test. 300 IN MX 10 mx.example.test.",
		"mx.example.test. 300 IN A 127.0.0.1",
	}, records...)...)
	w.o = Options{
		Hostname: "us.sender.test", Port: uint16(w.port), AllowPrivate: true, RootCAs: w.ca.pool,
		Timeouts: Timeouts{Quit: 200 * time.Millisecond},
	}
	return w
}

// carrier returns one with the world's options, as they are now.
func (w *world) carrier() *Carrier {
	w.t.Helper()
	o := w.o
	if o.Resolver == nil {
		o.Resolver = resolver(w.t, w.dns, nil)
	}
	c := New(o)
	w.t.Cleanup(c.Close)
	return c
}

// resolver asks s, and believes what validating say they have validated.
func resolver(t testing.TB, s *dnstest.Server, validating []string) *dns.Resolver {
	t.Helper()
	r, err := dns.New(dns.Options{Servers: []string{s.Addr}, Validating: validating, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// mta starts a server on 127.0.0.n at the world's port.
func (w *world) mta(n int, m *testkit.MTA) *testkit.MTA {
	w.t.Helper()
	if n == 1 {
		return m.Serve(w.t, w.l)
	}
	return testkit.StartMTA(w.t, fmt.Sprintf("127.0.0.%d:%d", n, w.port), m)
}

// tlsa adds a TLSA record for host at the world's port.
func (w *world) tlsa(host string, usage, selector, matching int, data []byte) {
	w.t.Helper()
	switch matching {
	case matchSHA256:
		sum := sha256.Sum256(data)
		data = sum[:]
	case matchSHA512:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	w.dns.Add(w.t, fmt.Sprintf("_%d._tcp.%s. 300 IN TLSA %d %d %d %s", w.port, host, usage, selector, matching, hex.EncodeToString(data)))
}

// site is the web server of the domain's MTA-STS policy.
type site struct {
	text  atomic.Value // string
	asked atomic.Int64
	serve http.HandlerFunc // in place of text
}

// policy publishes an MTA-STS policy for example.test, under a certificate for names.
func (w *world) policy(text string, names ...string) *site {
	w.t.Helper()
	s := &site{}
	s.text.Store(text)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if s.serve != nil {
			s.serve(rw, r)
			return
		}
		if r.URL.Path != "/.well-known/mta-sts.txt" || r.Host != "mta-sts."+domain {
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(rw, s.text.Load().(string))
	}))
	if len(names) == 0 {
		names = []string{"mta-sts." + domain}
	}
	web.TLS = config(w.ca.issue(w.t, time.Now().Add(9000*time.Hour), names...))
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	web.StartTLS()
	w.t.Cleanup(web.Close)
	w.o.PolicyPort = uint16(web.Listener.Addr().(*net.TCPAddr).Port)
	w.dns.Add(w.t, "_mta-sts.example.test. 300 IN TXT \"v=STSv1; id=1;\"", "mta-sts.example.test. 300 IN A 127.0.0.1")
	return s
}

const enforce = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.test\r\nmax_age: 86400\r\n"

// request is a message to the recipients, which are of one domain.
func request(rcpts ...string) Request {
	r := Request{From: "bob@sender.test", Size: int64(len(body)), Body: "7BIT", Open: opener(body)}
	for _, a := range rcpts {
		r.Rcpts = append(r.Rcpts, Rcpt{Address: a})
		r.Domain = a[strings.LastIndexByte(a, '@')+1:]
	}
	return r
}

func opener(content string) func(context.Context) (io.ReadCloser, error) {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
}

// brief is a result in a few words, to be compared.
func brief(r Result) string {
	return strings.TrimSpace(fmt.Sprintf("%v %d %s %s", r.Status, r.Code, r.Enhanced, r.TLS))
}

// deliver carries one message to alice and says what became of it.
func deliver(t testing.TB, c *Carrier, change ...func(*Request)) string {
	t.Helper()
	r := request(alice)
	for _, f := range change {
		f(&r)
	}
	results := c.Deliver(t.Context(), r)
	if len(results) != len(r.Rcpts) {
		t.Fatalf("%d results for %d recipients", len(results), len(r.Rcpts))
	}
	t.Log(results[0].Text)
	return brief(results[0])
}

func verified(r *Request)   { r.VerifiedTLS = true }
func requireTLS(r *Request) { r.RequireTLS = true }

// want compares what became of a message.
func want(t testing.TB, name, got, wanted string) {
	t.Helper()
	if got != wanted {
		t.Errorf("%s: %q, want %q", name, got, wanted)
	}
}

// failing answers questions of one type with an error, and all others well.
func failing(s *dnstest.Server, qtype uint16) dnstest.Manner {
	return func(w miekg.ResponseWriter, m *miekg.Msg, network string) {
		if m.Question[0].Qtype == qtype {
			dnstest.Rcode(miekg.RcodeServerFailure)(w, m, network)
			return
		}
		s.Answer(w, m, network)
	}
}
