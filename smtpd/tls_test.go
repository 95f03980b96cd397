package smtpd

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// selfSigned returns a server's configuration and a client's that trusts it.
func selfSigned(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"mx.example.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{RootCAs: roots, ServerName: "mx.example.org"}
}

// secure does the client's side of STARTTLS.
func (c *client) secure(config *tls.Config) {
	c.t.Helper()
	c.do("STARTTLS", "220 2.0.0")
	t := tls.Client(c.Conn, config)
	if err := t.Handshake(); err != nil {
		c.t.Fatalf("handshake: %v", err)
	}
	c.Conn, c.r = t, bufio.NewReader(t)
}

func TestStartTLS(t *testing.T) {
	t.Parallel()
	server, config := selfSigned(t)
	r := start(t, Options{TLS: server})
	c := r.dial(t)
	c.want("220 ")
	c.do("STARTTLS", "503 5.5.1 send EHLO first")
	if s := c.do("EHLO c", "250 "); !strings.Contains(s, "250-STARTTLS\r\n") {
		t.Errorf("not offered: %q", s)
	}
	c.do("STARTTLS now", "501 5.5.4")
	c.do("MAIL FROM:<a@example.net> REQUIRETLS", "555 5.5.4")
	c.envelope()
	c.do("STARTTLS", "503 5.5.1 not during a transaction")
	c.do("RSET", "250 ")
	c.secure(config)
	c.do("MAIL FROM:<a@example.net>", "503 5.5.1 send EHLO first") // forgotten
	if s := c.do("EHLO c", "250 "); strings.Contains(s, "STARTTLS") || !strings.Contains(s, "250-REQUIRETLS\r\n") {
		t.Errorf("STARTTLS is offered again, or REQUIRETLS is not: %q", s)
	}
	c.do("STARTTLS", "503 5.5.1 TLS is already active")
	c.message("b", "x\r\n", "250 2.0.0 stored")
	c.do("MAIL FROM:<a@example.net> SMTPUTF8 REQUIRETLS", "250 ")
	c.do("QUIT", "221 ")
	c.closed()
	m := r.all()
	if len(m) != 1 || m[0].source.TLS == nil || m[0].source.TLS.Version != "TLS1.3" ||
		!strings.HasPrefix(m[0].source.TLS.Cipher, "TLS_") || m[0].source.Protocol != "ESMTPS" {
		t.Errorf("messages %+v", m)
	}
	if s := r.sources[len(r.sources)-1]; s.Protocol != "UTF8SMTPS" {
		t.Errorf("protocol %s", s.Protocol)
	}
}

// Smuggling must fail under TLS as it does in clear, and the shutdown must work.
func TestUnderTLS(t *testing.T) {
	t.Parallel()
	server, config := selfSigned(t)
	r := start(t, Options{TLS: server})
	c := r.ready(t)
	c.secure(config)
	c.do("EHLO c", "250 ")
	c.envelope("b")
	c.do("DATA", "354 ")
	c.send("x\n.\nMAIL FROM:<evil@example.net>\r\n")
	c.want("550 5.5.2")
	c.closed()
	c = r.ready(t)
	c.secure(config)
	c.do("NOOP", "250 ") // the server has ended its part of the handshake
	r.cancel()
	c.want("421 4.3.2")
	c.closed()
	if len(r.all()) != 0 {
		t.Error("a message was stored")
	}
}

// startTLSInjection is CVE-2011-0411: a command sent in clear behind STARTTLS must
// not be done as if it came by TLS.
func startTLSInjection(t *testing.T) {
	server, _ := selfSigned(t)
	r := start(t, Options{TLS: server})
	c := r.ready(t)
	c.send("STARTTLS\r\nMAIL FROM:<evil@example.net>\r\n")
	c.want("501 5.5.1 nothing may follow STARTTLS")
	c.closed()
	// What comes a moment later is taken for the handshake, which fails.
	c = r.ready(t)
	c.do("STARTTLS", "220 ")
	c.send("MAIL FROM:<evil@example.net>\r\n")
	if s, _ := c.reply(); strings.HasPrefix(s, "250") {
		t.Errorf("got %q", s)
	}
	if len(r.sources) > 0 {
		t.Error("a transaction was begun")
	}
}

func TestTLSHandshakeTimeout(t *testing.T) {
	t.Parallel()
	server, _ := selfSigned(t)
	r := start(t, Options{TLS: server, Limits: Limits{TLSTimeout: 50 * time.Millisecond}})
	c := r.ready(t)
	c.do("STARTTLS", "220 ")
	c.closed()
}

// The client of the library that others use too.
func TestGoSMTPClient(t *testing.T) {
	t.Parallel()
	server, config := selfSigned(t)
	r := start(t, Options{TLS: server, MaxSize: 1000})
	c, err := smtp.DialStartTLS(r.addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if size, ok := c.MaxMessageSize(); !ok || size != 1000 {
		t.Errorf("size %d, %v", size, ok)
	}
	body := ".dots\r\n..\r\nend\r\n"
	if err := c.SendMail("a@example.net", []string{"b@example.org", "c@example.org"}, strings.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	err = c.SendMail("a@example.net", []string{"nobody@example.org"}, strings.NewReader(body))
	if e, ok := err.(*smtp.SMTPError); !ok || e.Code != 550 || e.EnhancedCode != (smtp.EnhancedCode{5, 1, 1}) {
		t.Errorf("error %v", err)
	}
	if err := c.Reset(); err != nil {
		t.Error(err)
	}
	if err := c.Quit(); err != nil {
		t.Error(err)
	}
	if m := r.all(); len(m) != 1 || m[0].body != body || len(m[0].rcpts) != 2 {
		t.Errorf("messages %+v", m)
	}
}
