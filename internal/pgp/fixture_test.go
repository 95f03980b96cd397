package pgp

import (
	"bytes"
	"crypto/rand"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// testNow is when tests happen, unless they say otherwise.
var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// testConfig makes keys of a kind, at a time.
func testConfig(kind string, at time.Time) *packet.Config {
	c := &packet.Config{Time: func() time.Time { return at }, DefaultCipher: packet.CipherAES256}
	switch kind {
	case "curve25519":
		c.Algorithm, c.Curve = packet.PubKeyAlgoEdDSA, packet.Curve25519
	case "rsa2048", "rsa3072":
		c.Algorithm, c.RSABits = packet.PubKeyAlgoRSA, 2048
		if kind == "rsa3072" {
			c.RSABits = 3072
		}
	case "p256", "p384", "p521":
		c.Algorithm = packet.PubKeyAlgoECDSA
		c.Curve = map[string]packet.Curve{"p256": packet.CurveNistP256, "p384": packet.CurveNistP384, "p521": packet.CurveNistP521}[kind]
	case "v6", "v6gcm":
		c.V6Keys, c.Algorithm = true, packet.PubKeyAlgoEd25519
		c.AEADConfig = &packet.AEADConfig{DefaultMode: packet.AEADModeOCB}
		if kind == "v6gcm" {
			c.AEADConfig.DefaultMode = packet.AEADModeGCM
		}
	case "v6plain":
		c.V6Keys, c.Algorithm = true, packet.PubKeyAlgoEd25519
	case "v6x448":
		c.V6Keys, c.Algorithm = true, packet.PubKeyAlgoEd448
		c.AEADConfig = &packet.AEADConfig{DefaultMode: packet.AEADModeGCM}
	default:
		panic(kind)
	}
	return c
}

var testKinds = []string{"curve25519", "rsa2048", "rsa3072", "p256", "p384", "p521", "v6", "v6gcm", "v6plain", "v6x448"}

var (
	testKeysMu sync.Mutex
	testKeys   = map[string]*SecretKey{}
)

// testKey returns a secret key of a kind; making RSA keys takes long, so they are shared.
func testKey(t testing.TB, kind string) *SecretKey {
	t.Helper()
	testKeysMu.Lock()
	defer testKeysMu.Unlock()
	if k, ok := testKeys[kind]; ok {
		return k
	}
	k, err := ParseSecretKey(secretOctets(t, testEntity(t, kind, testNow.Add(-time.Hour))), nil)
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	testKeys[kind] = k
	return k
}

// testEntity makes a key with the library.
func testEntity(t testing.TB, kind string, at time.Time) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("Alice", "", "alice@example.org", testConfig(kind, at))
	if err != nil {
		t.Fatalf("make %s: %v", kind, err)
	}
	return e
}

func secretOctets(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&b, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func publicOctets(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// parseOne parses exactly one certificate.
func parseOne(t testing.TB, data []byte) *Certificate {
	t.Helper()
	certs, err := ParseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(certs) != 1 {
		t.Fatalf("%d certificates", len(certs))
	}
	return certs[0]
}

func randomOctets(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// sealTo seals data to certs, written in pieces of the given size.
func sealTo(t testing.TB, data []byte, piece int, certs ...*Certificate) []byte {
	t.Helper()
	return sealAt(t, testNow, data, piece, certs...)
}

func sealAt(t testing.TB, now time.Time, data []byte, piece int, certs ...*Certificate) []byte {
	t.Helper()
	s, err := NewSealing(certs, int64(len(data)), now)
	if err != nil {
		t.Fatal(err)
	}
	pkesk, err := s.Wrap(certs, now)
	if err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	w, err := s.Encrypt(&body)
	if err != nil {
		t.Fatal(err)
	}
	for rest := data; len(rest) > 0; {
		n := min(piece, len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return bytes.Join([][]byte{s.Head(pkesk), body.Bytes(), s.Tail(pkesk)}, nil)
}

// opened decrypts with our own code.
func opened(t testing.TB, k *SecretKey, message []byte) []byte {
	t.Helper()
	r, err := k.Decrypt(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
