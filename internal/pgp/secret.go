package pgp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// SecretKey is an OpenPGP secret key, unlocked. It belongs on its owner's device;
// the only one on a server is the gateway's own hold key. It is safe for
// concurrent use.
type SecretKey struct {
	data    []byte // as it was read, locked or not
	cert    *Certificate
	decrypt []*packet.PrivateKey // those that open messages, newest first
}

// GenerateKey makes a secret key that every client in use can handle: version 4,
// an Ed25519 primary key, one Curve25519 subkey for encryption (flags 0x0C),
// AES-256 preferred, SEIPD version 1 as its only feature, no expiry, and the user
// ID "<address>". It is not locked by a passphrase.
func GenerateKey(address string, now time.Time) (*SecretKey, error) {
	e, err := openpgp.NewEntity("", "", address, &packet.Config{
		Algorithm:     packet.PubKeyAlgoEdDSA,
		Curve:         packet.Curve25519,
		DefaultCipher: packet.CipherAES256,
		Time:          func() time.Time { return now },
	})
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	var b bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&b, nil); err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return ParseSecretKey(b.Bytes(), nil)
}

// ParseSecretKey reads the first secret key of data, binary or in armor. passphrase
// is asked once if the key is locked; it may be nil. Errors wrap ErrNoSecretKey,
// ErrPassphrase, ErrTooLarge, or what is wrong with the certificate. Subkeys whose
// secret part is elsewhere (a smart card) are left out.
func ParseSecretKey(data []byte, passphrase func() ([]byte, error)) (*SecretKey, error) {
	if len(data) > maxInput {
		return nil, ErrTooLarge
	}
	if len(data) > 0 && data[0]&0x80 == 0 {
		octets, _, ok, err := cutArmor(data, typePrivateKey)
		if err != nil || !ok {
			return nil, ErrNoSecretKey
		}
		data = octets
	}
	private, public, used, err := readSecretPackets(data)
	if err != nil {
		return nil, err
	}
	if err := unlock(private, passphrase); err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(public)
	if err != nil {
		return nil, fmt.Errorf("public part of the secret key: %w", err)
	}
	k := &SecretKey{data: bytes.Clone(used), cert: certs[0]}
	for _, p := range private {
		if p.Encrypted || !p.PubKeyAlgo.CanEncrypt() || !p.IsSubkey && !k.cert.primaryEncrypts() {
			continue
		}
		k.decrypt = append(k.decrypt, p)
	}
	if len(k.decrypt) == 0 {
		return nil, fmt.Errorf("no secret part of an encryption subkey: %w", ErrNoSecretKey)
	}
	return k, nil
}

// readSecretPackets reads the secret key packets of the first secret key in data,
// and makes its certificate from them and the packets between. used is the part
// of data it came from.
func readSecretPackets(data []byte) (private []*packet.PrivateKey, public, used []byte, err error) {
	for rest := data; len(rest) > 0; {
		p, next, err := cutPacket(rest)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("%w: %w", ErrNoSecretKey, err)
		}
		if p.tag == tagSecretKey && len(private) > 0 {
			break
		}
		if len(private) == 0 && p.tag != tagSecretKey {
			return nil, nil, nil, ErrNoSecretKey
		}
		if p.tag == tagSecretKey || p.tag == tagSecretSubkey {
			key, err := readSecretPacket(p)
			switch {
			case err == nil:
				private = append(private, key)
				public = appendPublic(public, key)
			case p.tag == tagSecretKey:
				return nil, nil, nil, fmt.Errorf("%w: %w", ErrNoSecretKey, err)
			default:
				// A subkey we cannot read: its signatures would be taken for those of the
				// one before, where they do not verify and are dropped.
			}
		} else {
			public = append(public, p.raw...)
		}
		used, rest = data[:len(data)-len(next)], next
	}
	if len(private) == 0 {
		return nil, nil, nil, ErrNoSecretKey
	}
	return private, public, used, nil
}

func readSecretPacket(p rawPacket) (*packet.PrivateKey, error) {
	if _, err := inspectKey(p.body); err != nil {
		return nil, err
	}
	got, err := packet.Read(bytes.NewReader(p.raw))
	if err != nil {
		return nil, err
	}
	key, ok := got.(*packet.PrivateKey)
	if !ok {
		return nil, ErrAlgorithm
	}
	return key, nil
}

// appendPublic appends the public key packet that belongs to a secret one.
func appendPublic(b []byte, key *packet.PrivateKey) []byte {
	var out bytes.Buffer
	if err := key.PublicKey.Serialize(&out); err != nil {
		return b // a buffer takes everything; the library refuses only unknown algorithms
	}
	return append(b, out.Bytes()...)
}

// unlock decrypts the secret parts in place.
func unlock(private []*packet.PrivateKey, passphrase func() ([]byte, error)) error {
	var locked []*packet.PrivateKey
	for _, p := range private {
		if p.Encrypted && !p.Dummy() {
			locked = append(locked, p)
		}
	}
	if len(locked) == 0 {
		return nil
	}
	if passphrase == nil {
		return ErrPassphrase
	}
	word, err := passphrase()
	if err != nil {
		return fmt.Errorf("ask for the passphrase: %w", err)
	}
	if err := packet.DecryptPrivateKeys(locked, word); err != nil {
		return fmt.Errorf("%w: %v", ErrPassphrase, err)
	}
	return nil
}

// primaryEncrypts says whether any self-signature lets the primary key encrypt.
func (c *Certificate) primaryEncrypts() bool {
	for _, s := range c.direct {
		if s.flags != 0 {
			return true
		}
	}
	for _, u := range c.userIDs {
		for _, s := range u.certs {
			if s.flags != 0 {
				return true
			}
		}
	}
	return false
}

// Certificate is the public part.
func (k *SecretKey) Certificate() *Certificate { return k.cert }

// Armor is the secret key in ASCII armor, locked if it was locked when it was read.
func (k *SecretKey) Armor() []byte {
	return armored(typePrivateKey, k.data, k.cert.Version())
}

// keysFor returns the secret keys that a PKESK body may be for.
func (k *SecretKey) keysFor(body []byte) (keys []*packet.PrivateKey, named bool) {
	id, known := recipientID(body)
	if !known {
		return nil, false
	}
	if id == "" {
		return k.decrypt, false
	}
	for _, p := range k.decrypt {
		if body[0] == 3 && p.KeyId == binary.BigEndian.Uint64(body[1:]) ||
			body[0] == 6 && id == fingerprintHex(p.Fingerprint) {
			keys = append(keys, p)
		}
	}
	return keys, true
}

// String keeps the secret out of a log in which a key is printed by mistake.
func (k *SecretKey) String() string { return "secret key " + k.cert.Fingerprint() }

// GoString does the same for %#v.
func (k *SecretKey) GoString() string { return k.String() }
