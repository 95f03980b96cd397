package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/internal/dns"
	"postern/internal/dns/dnstest"
	"postern/internal/mail"
	"postern/internal/testkit"
	"postern/smtpd"
)

// chainFile writes a certificate and its key as Postfix reads them.
func chainFile(t testing.TB, cert tls.Certificate) string {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	for _, der := range cert.Certificate {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	path := filepath.Join(t.TempDir(), "chain.pem")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPostfixTLS: a Postfix with all that it has.
func TestPostfixTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dns.Secure(true)
	w.l.Close()
	cert := w.ca.issue(t, timeIn(1), "mx.example.test")
	p := testkit.StartPostfix(t, domain, w.port, "smtpd_tls_security_level = may\nsmtpd_tls_chain_files = "+chainFile(t, cert)+
		"\nsmtpd_recipient_restrictions = check_recipient_access inline:{{nobody@example.test = 550 5.1.1 no such user}, {grey@example.test = 450 4.2.0 greylisted}}")
	c := w.carrier()
	want(t, "nothing published", deliver(t, c, func(r *Request) { r.UTF8, r.Body, r.Return = true, "8BITMIME", "HDRS" }), "delivered 250 2.0.0 TLS1.3")
	results := c.Deliver(t.Context(), request("nobody@example.test", alice, "grey@example.test"))
	want(t, "nobody", brief(results[0]), "failed 550 5.1.1 TLS1.3")
	want(t, "alice", brief(results[1]), "delivered 250 2.0.0 TLS1.3")
	want(t, "grey", brief(results[2]), "retry 450 4.2.0 TLS1.3")
	if !results[1].DSN {
		t.Error("Postfix takes over reports, and that is not said")
	}
	w.policy(enforce)
	c = w.carrier()
	want(t, "MTA-STS", deliver(t, c, verified), bySTS)
	want(t, "REQUIRETLS", deliver(t, c, requireTLS), "failed 550 5.7.30 TLS1.3 mta-sts")
	w.tlsa("mx.example.test", usageEE, selectSPKI, matchSHA256, cert.Leaf.RawSubjectPublicKeyInfo)
	c = w.carrier()
	for range 20 {
		want(t, "DANE", deliver(t, c, verified), byDANE)
	}
	if n := strings.Count(p.Log(), ": connect from"); n > 8 {
		t.Errorf("%d connections", n)
	}
	for _, m := range p.Messages(t, 23) {
		if !strings.HasSuffix(m, strings.ReplaceAll(body[strings.Index(body, "\r\n\r\n"):], "\r\n", "\n")) || !strings.Contains(m, "SMTPS id") {
			t.Errorf("%q", m)
		}
	}
}

// TestPostfixPlain: a Postfix that has little, and that a copy which needs verified TLS
// gets nothing of.
func TestPostfixPlain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.l.Close()
	p := testkit.StartPostfix(t, domain, w.port, "smtputf8_enable = no\nmessage_size_limit = 5000\nsmtpd_discard_ehlo_keywords = pipelining, chunking, dsn")
	c := w.carrier()
	want(t, "clear", deliver(t, c), "delivered 250 2.0.0 none")
	want(t, "UTF-8", deliver(t, c, func(r *Request) { r.UTF8 = true }), "failed 550 5.6.7 none")
	want(t, "declared size", deliver(t, c, func(r *Request) { r.Size = 6000 }), "failed 552 5.3.4 none")
	large := strings.Repeat(body, 1000)
	want(t, "size", deliver(t, c, func(r *Request) { r.Size, r.Open = 0, opener(large) }), "failed 552 5.3.4 none")
	want(t, "verified", deliver(t, c, verified), noProofs)
	w.policy(enforce)
	want(t, "MTA-STS", deliver(t, w.carrier()), noTrust)
	if all := p.Messages(t, 1); len(all) != 1 {
		t.Errorf("%d messages", len(all))
	}
}

// TestSMTPSink: many messages over one connection, all of them whole.
func TestSMTPSink(t *testing.T) {
	t.Parallel()
	sink := testkit.Parts(t, "smtp-sink")["smtp-sink"]
	w := newWorld(t)
	w.l.Close()
	dir, err := os.MkdirTemp("", "sink") // a test's own is closed to nobody's user
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	args := []string{"-c", "-d", filepath.Join(dir, "m."), fmt.Sprintf("127.0.0.1:%d", w.port), "100"}
	if os.Geteuid() == 0 {
		args = append([]string{"-u", "nobody"}, args...)
	}
	command := exec.Command(sink, args...)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
	})
	waitFor(t, func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	c := w.carrier()
	for range 200 {
		r := request(alice, "b@example.test")
		r.Body = "8BITMIME"
		for _, got := range c.Deliver(t.Context(), r) {
			if got.Status != Delivered {
				t.Fatalf("%+v", got)
			}
		}
	}
	var files []string
	waitFor(t, func() bool {
		files, _ = filepath.Glob(filepath.Join(dir, "m.*"))
		return len(files) == 200
	})
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || strings.Count(string(b), canary) != 1 {
			t.Errorf("%s: %q, %v", f, b, err)
		}
	}
}

func waitFor(t testing.TB, ready func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ready(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}

// acceptor keeps what our own server takes.
type acceptor struct {
	mu      sync.Mutex
	taken   []string
	sources []mail.Source
}

func (a *acceptor) Begin(_ context.Context, s mail.Source) (mail.Transaction, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sources = append(a.sources, s)
	return taking{a}, nil
}

type taking struct{ a *acceptor }

func (taking) Rcpt(context.Context, mail.Rcpt) error { return nil }
func (taking) Abort()                                {}
func (t taking) Data(_ context.Context, r io.Reader) (mail.Receipt, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return mail.Receipt{}, err
	}
	t.a.mu.Lock()
	defer t.a.mu.Unlock()
	t.a.taken = append(t.a.taken, string(b))
	return mail.Receipt{}, nil
}

// ownServer serves our own smtpd at the world's address.
func ownServer(t testing.TB, w *world, config *tls.Config) *acceptor {
	t.Helper()
	a := new(acceptor)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- smtpd.New(smtpd.Options{Acceptor: a, Hostname: "mx.example.test", TLS: config}).Serve(ctx, w.l)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a
}

// TestOurOwn: our server gets what we send, small and large, over TLS and in clear.
func TestOurOwn(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		w := newWorld(t)
		wanted := "delivered none"
		var served *tls.Config
		if secure {
			served = config(w.ca.issue(t, timeIn(1), "mx.example.test"))
			w.policy(enforce)
			wanted = "delivered TLS1.3 mta-sts"
		}
		a := ownServer(t, w, served)
		c := w.carrier()
		for _, content := range []string{body, strings.Repeat(body, 5000), ".\r\n"} {
			r := request(alice)
			r.Open, r.Size, r.Body = opener(content), int64(len(content)), "8BITMIME"
			got := c.Deliver(t.Context(), r)[0]
			want(t, "result", fmt.Sprint(got.Status, " ", got.TLS), wanted)
			if last := a.taken[len(a.taken)-1]; last != content {
				t.Errorf("%d octets arrived of %d", len(last), len(content))
			}
		}
	}
}

// TestUnboundDANE: TLSA records in a zone that Knot signed, by way of unbound: what they
// prove, and that a forged one, or one that is taken away, lets nothing through.
func TestUnboundDANE(t *testing.T) {
	t.Parallel()
	parts := testkit.Parts(t, "knotd", "keymgr", "unbound")
	w := newWorld(t)
	good := w.ca.issue(t, timeIn(1), "mx.signed.test")
	evil := w.ca.issue(t, timeIn(1), "mx.signed.test")
	record := func(host string, cert tls.Certificate) string {
		sum := fmt.Sprintf("%x", cert.Leaf.RawSubjectPublicKeyInfo)
		return fmt.Sprintf("_%d._tcp.%s 300 TLSA 3 1 0 %s\n", w.port, host, sum)
	}
	hosts := "@ 300 MX 10 mx\nmx 300 A 127.0.0.1\nother 300 MX 10 bad\nbad 300 A 127.0.0.1\ngone 300 MX 10 away\naway 300 A 127.0.0.1\nbare 300 MX 10 none\nnone 300 A 127.0.0.1\n"
	signed := hosts + record("mx", good) + record("bad", good) + record("away", good)
	var forged, removed atomic.Bool
	address := dnstest.Signed(t, parts, signed, hosts+record("mx", evil), func(reply *miekg.Msg) {
		for i, rr := range reply.Answer {
			tlsa, ok := rr.(*miekg.TLSA)
			switch {
			case ok && strings.Contains(rr.Header().Name, ".bad."):
				forged.Store(true)
				tlsa.Certificate = hex.EncodeToString(evil.Leaf.RawSubjectPublicKeyInfo)
			case ok && strings.Contains(rr.Header().Name, ".away."):
				removed.Store(true)
				reply.Answer, reply.Ns = append(reply.Answer[:i:i], reply.Answer[len(reply.Answer):]...), nil
				return
			}
		}
	})
	r, err := dns.New(dns.Options{Servers: []string{address}, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	w.o.Resolver = r
	var show atomic.Pointer[tls.Certificate]
	m := w.mta(1, &testkit.MTA{TLS: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return show.Load(), nil }}})
	for _, c := range []struct {
		name, rcpt   string
		cert         *tls.Certificate
		want, strict string
	}{
		{"signed", "x@signed.test", &good, byDANE, byDANE},
		{"signed, another key", "x@signed.test", &evil, noTrust, noTrust},
		{"forged record", "x@other.signed.test", &evil, notTried, notTried},
		{"record taken away", "x@gone.signed.test", &evil, notTried, notTried},
		{"signed, no record", "x@bare.signed.test", &evil, unproven, noProofs},
		{"not signed", "x@unsigned.test", &good, unproven, noProofs},
	} {
		show.Store(c.cert)
		for strict, wanted := range map[bool]string{false: c.want, true: c.strict} {
			req := request(c.rcpt)
			req.VerifiedTLS = strict
			carrier := w.carrier()
			got := carrier.Deliver(t.Context(), req)[0]
			want(t, c.name+": "+got.Text, brief(got), wanted)
		}
	}
	if !forged.Load() || !removed.Load() {
		t.Error("nothing was forged")
	}
	if strings.Contains(m.Clear(), canary) {
		t.Error("seen in clear")
	}
}
