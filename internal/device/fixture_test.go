package device

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"postern/internal/message"
	"postern/internal/pgp"
)

const original = "From: Bob <bob@elsewhere.test>\r\nTo: alice@here.test\r\nSubject: Tonight\r\n" +
	"Date: Mon, 2 Mar 2026 12:00:00 +0000\r\n\r\nDear Alice,\r\n\r\nat midnight.\r\n"

// now is when the tests' keys are made: before they are used, whatever the clock.
func now() time.Time { return time.Now().Add(-time.Minute) }

// gateway is what a test's gateway signs with.
type gateway struct {
	secret ed25519.PrivateKey
	pem    []byte // the public half
}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	public, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return &gateway{secret: secret, pem: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}
}

func (g *gateway) sign(b []byte) []byte { return ed25519.Sign(g.secret, b) }

// payload is what a gateway seals: the statement and the message.
func (g *gateway) payload(t *testing.T, msg string, change ...func(*message.Provenance)) []byte {
	t.Helper()
	h, body, err := message.ParseHeader([]byte(msg))
	if err != nil {
		t.Fatal(err)
	}
	fields, how := message.PayloadHeader(h)
	p := message.Provenance{
		ID: "tx1", Recipient: "alice@here.test", Time: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), TLS: "TLS1.3",
		SPF: "pass", DKIM: "none", DMARC: "pass", Class: "clear", ContentType: how,
		Head: sha256.Sum256(fields), Body: sha256.Sum256([]byte(msg[body:])), Key: "abc",
	}
	for _, c := range change {
		c(&p)
	}
	return append(append(p.Field(g.sign), fields...), msg[body:]...)
}

// seal encrypts a payload and returns the whole message.
func seal(t *testing.T, certificate []byte, payload []byte) []byte {
	t.Helper()
	h, _, err := message.ParseHeader([]byte(original))
	if err != nil {
		t.Fatal(err)
	}
	outer := message.Outer{Boundary: "postern_test"}
	return append(append(message.OuterHeader(h, outer), encrypt(t, certificate, payload)...), message.ClosingBoundary(outer)...)
}

// encrypt returns the armored OpenPGP message.
func encrypt(t *testing.T, certificate, payload []byte) []byte {
	t.Helper()
	certs, err := pgp.ParseCertificates(certificate)
	if err != nil {
		t.Fatal(err)
	}
	armored, err := pgp.Seal(payload, certs, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return armored
}

func newKey(t *testing.T) *Key {
	t.Helper()
	k, err := NewKey("alice@here.test", now())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// noPassphrase is for keys that have none.
func noPassphrase(t *testing.T) func() ([]byte, error) {
	return func() ([]byte, error) {
		t.Error("asked for a passphrase")
		return nil, nil
	}
}

func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n" }
