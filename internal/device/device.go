// Package device is what runs on the owner's own machine: making a key and opening
// a sealed message with it.
//
// It never contacts a server, never writes clear text anywhere but where its caller
// says, and is the only room besides the tests that handles a person's secret key.
package device

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/pgp"
)

// MaxMessage is the largest message that Open reads, in octets. A gateway accepts at
// most 1 GiB, which armor makes a third larger.
const MaxMessage = 3 << 29

// Key is a new key, armored.
type Key struct {
	Fingerprint string
	// Secret is for its owner alone. No passphrase protects it.
	Secret []byte
	// Certificate is the public half.
	Certificate []byte
}

// NewKey makes a key for an address.
func NewKey(address string, now time.Time) (*Key, error) {
	a, err := mail.ParseAddress(address)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", address, err)
	}
	k, err := pgp.GenerateKey(a.String(), now)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	c := k.Certificate()
	return &Key{Fingerprint: c.Fingerprint(), Secret: k.Armor(), Certificate: c.Armor()}, nil
}

// Opened is a message that was opened.
type Opened struct {
	// Original is the message as it arrived at the gateway, octet by octet. If
	// Signature is Malformed, it lacks the fields that claim to be a gateway's.
	Original []byte
	// Provenance is the gateway's statement; nil if there is none, as in mail that
	// the sender encrypted, or none that can be read.
	Provenance *message.Provenance
	// Signature says what the check of the statement gave.
	Signature Verdict
}

// Verdict is what is known of a provenance.
type Verdict string

// The verdicts, from best to worst.
const (
	Verified    Verdict = "verified"          // signed by the given gateway key, and the content is what was signed
	NotChecked  Verdict = "not checked"       // content is what the statement says, but no gateway key was given
	NoStatement Verdict = "none"              // there is no statement
	Altered     Verdict = "content differs"   // the content is not what the statement says
	Forged      Verdict = "signature invalid" // not signed by the given gateway key
	Malformed   Verdict = "malformed"         // something claims to be a statement, and is none
)

// ErrNotEncrypted says that there is nothing to open.
var ErrNotEncrypted = errors.New("the message is not OpenPGP-encrypted (PGP/MIME)")

// Open decrypts a PGP/MIME message with a secret key and checks its provenance against the
// gateway's public key (PEM, may be empty). passphrase is asked only for a locked key.
func Open(r io.Reader, secret []byte, passphrase func() ([]byte, error), gateway []byte) (*Opened, error) {
	key, err := pgp.ParseSecretKey(secret, passphrase)
	if err != nil {
		return nil, fmt.Errorf("read secret key: %w", err)
	}
	var pub ed25519.PublicKey
	if len(gateway) > 0 {
		if pub, err = publicKey(gateway); err != nil {
			return nil, err
		}
	}
	raw, err := io.ReadAll(io.LimitReader(r, MaxMessage+1))
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	if len(raw) > MaxMessage {
		return nil, fmt.Errorf("message is larger than %d octets", MaxMessage)
	}
	payload, err := decrypt(raw, key)
	if err != nil {
		return nil, err
	}
	return examine(payload, pub)
}

// decrypt finds the OpenPGP message in raw, which may also be bare armor or packets.
func decrypt(raw []byte, key *pgp.SecretKey) ([]byte, error) {
	at := bytes.NewReader(raw)
	var data io.Reader = at
	if h, _, err := message.ParseHeader(raw); err == nil && (h.Has("Content-Type") || h.Has("From")) {
		c, ok, err := message.FindEncrypted(message.ScanBytes(raw, message.Limits{}), at)
		if err != nil || !ok || c.Kind != message.PGPMIME {
			return nil, ErrNotEncrypted
		}
		data = c.Reader(at)
	}
	plain, err := key.DecryptLimit(data, MaxMessage)
	if errors.Is(err, pgp.ErrNotEncrypted) {
		return nil, fmt.Errorf("%w: %w", ErrNotEncrypted, err)
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	payload, err := io.ReadAll(plain)
	if err != nil {
		return nil, fmt.Errorf("decrypt: %w", err)
	}
	return payload, nil
}

// examine splits the provenance off and says what it proves.
func examine(payload []byte, gateway ed25519.PublicKey) (*Opened, error) {
	restored, err := message.Restore(bytes.NewReader(payload))
	if err != nil {
		// Not sealed by a gateway, or altered so much that the statement cannot be
		// read; the second must not look like the first.
		rest, claimed := message.DropClaims(payload)
		if claimed {
			return &Opened{Original: rest, Signature: Malformed}, nil
		}
		return &Opened{Original: payload, Signature: NoStatement}, nil
	}
	original, err := io.ReadAll(restored.Reader())
	if err != nil {
		return nil, fmt.Errorf("read payload: %w", err)
	}
	o := &Opened{Original: original, Provenance: &restored.Provenance, Signature: NotChecked}
	switch {
	case restored.Intact() != nil:
		o.Signature = Altered
	case gateway == nil:
	case ed25519.Verify(gateway, restored.Signed, restored.Signature):
		o.Signature = Verified
	default:
		o.Signature = Forged
	}
	return o, nil
}

// publicKey reads the gateway's published key, PEM of RFC 8410.
func publicKey(b []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("the gateway's key is not PEM: it is the file provenance.pub in the gateway's keys directory")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the gateway's key: %w", err)
	}
	pub, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("the gateway's key is not an Ed25519 key: it is the file provenance.pub in the gateway's keys directory")
	}
	return pub, nil
}

// KeyFiles names the files of a new key: the secret key at out, or named after the address,
// and the certificate beside it.
func KeyFiles(address, out string) (secret, certificate string) {
	if out == "" {
		out = strings.Map(func(r rune) rune {
			if r == '/' || r == os.PathSeparator || r < ' ' {
				return '_'
			}
			return r
		}, address) + ".key.asc"
	}
	base := strings.TrimSuffix(strings.TrimSuffix(out, ".asc"), ".key")
	return out, base + ".cert.asc"
}
