package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"

	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/testkit"
	"postern/internal/vault"
)

const (
	owner    = "alice@here.test"
	password = "seven purple elephants"
	hello    = "From: bob@there.test\r\nTo: alice@here.test\r\nSubject: Zanzibar\r\n\r\nthe canary sings\r\n"
)

// newConfig makes the files of a gateway in a new directory: keys, TLS certificate and
// database, with one account. All listeners are on free loopback ports.
func newConfig(t *testing.T) *config.Config {
	t.Helper()
	dir := t.TempDir()
	c := config.Default()
	c.Hostname, c.Domains = "mail.here.test", []string{"here.test"}
	c.DataDir, c.KeysDir = filepath.Join(dir, "data"), filepath.Join(dir, "keys")
	c.TLS.Cert, c.TLS.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for _, listen := range []*string{&c.SMTP.Listen, &c.Submission.Listen, &c.Submission.ListenTLS, &c.IMAP.Listen, &c.IMAP.ListenTLS, &c.HTTPS.Listen, &c.HTTP.Listen} {
		*listen = "127.0.0.1:0"
	}
	c.HTTPS.Listen = "127.0.0.1:0"
	c.DNS.Servers = []string{"127.0.0.1:1"} // nobody is there, and the system says so at once
	if err := vault.Create(c.KeysDir, "here.test", time.Now()); err != nil {
		t.Fatal(err)
	}
	newTLS(t, c.TLS)
	g, err := Create(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	addAccount(t, g, owner)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

func addAccount(t *testing.T, g *Gateway, address string) store.Account {
	t.Helper()
	addr, err := mail.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	a, err := g.Store.CreateAccount(t.Context(), addr, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := auth.AppCredential(addr.Key(), password, nil)
	_, err = g.Store.AddCredential(t.Context(), store.Credential{
		Account: a.ID, Label: "first", Salt: c.Salt, Iterations: c.Iterations, StoredKey: c.StoredKey, ServerKey: c.ServerKey,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// addCertificate gives the owner a certificate, through any handle on the data.
func addCertificate(t *testing.T, g *Gateway) {
	t.Helper()
	k, err := pgp.GenerateKey(owner, time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	c := k.Certificate()
	if _, err := g.Store.AddCertificate(t.Context(), store.Certificate{Address: owner, Fingerprint: c.Fingerprint(), Data: c.Data()}); err != nil {
		t.Fatal(err)
	}
}

// newTLS writes a certificate of its own.
func newTLS(t *testing.T, c config.TLS) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"mail.here.test", "localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, c.Cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, c.Key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}

// writeConfig writes the configuration file.
func writeConfig(t *testing.T, c *config.Config) string {
	t.Helper()
	file := filepath.Join(filepath.Dir(c.DataDir), "postern.toml")
	write(t, file, string(config.Render(c)))
	return file
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// newGateway opens a gateway that is not served.
func newGateway(t *testing.T, c *config.Config) *Gateway {
	t.Helper()
	g, err := Open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

// serve opens and starts a gateway, whose log goes to the returned buffer.
func serve(t *testing.T, c *config.Config) (*Gateway, *Running, *logBuffer) {
	t.Helper()
	buffer := new(logBuffer)
	log, err := NewLogger(c, buffer)
	if err != nil {
		t.Fatal(err)
	}
	g, err := Open(t.Context(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	r, err := g.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Stop() })
	return g, r, buffer
}

// logBuffer is a log that can be waited for.
type logBuffer struct{ testkit.Log }

// wait waits until the log has text.
func (l *logBuffer) wait(t *testing.T, text string) {
	t.Helper()
	eventually(t, "the log says "+text, func() bool { return strings.Contains(l.String(), text) })
}

// eventually fails if something does not come true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came true that %s", what)
		}
	}
}

// send sends a message by SMTP and returns the server's error.
func send(r *Running, from, to, text string) error {
	c, err := smtp.Dial(r.Addrs.MX.String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SendMail(from, []string{to}, strings.NewReader(text)); err != nil {
		return err
	}
	return c.Quit()
}

// login logs in by IMAP over TLS.
func login(r *Running, user, password string) (*imapclient.Client, error) {
	c, err := imapclient.DialTLS(r.Addrs.IMAPS.String(), &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		return nil, err
	}
	if err := c.Login(user, password).Wait(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// inboxCount asks by IMAP.
func inboxCount(t *testing.T, r *Running) int {
	t.Helper()
	c, err := login(r, owner, password)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	selected, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	return int(selected.NumMessages)
}

func held(t *testing.T, g *Gateway) int {
	t.Helper()
	n, err := g.Store.HeldCount(context.WithoutCancel(t.Context()), 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
