package pgp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/bits"
)

// Limits on what is looked at before the OpenPGP library sees any of it. Octets
// and counts for one certificate unless said otherwise.
const (
	maxInput        = 1 << 20 // of everything given to ParseCertificates
	maxCertificates = 256     // in one input
	maxCertificate  = 256 << 10
	maxUserIDs      = 100
	maxSubkeys      = 64
	maxSignatures   = 1000
	maxOther        = 200 // trust packets, user attributes, unknown ones
	maxVerify       = 250 // public-key operations on self-signatures
	minRSABits      = 2048
	maxRSABits      = 8192
)

// Public-key algorithms (RFC 9580 9.1) that are named in this package. All others
// are refused as primary and dropped as subkey, before a single number of theirs is
// read: a DSA signature over a "prime" of 64 Kbit keeps a processor busy for
// minutes. Post-quantum algorithms (RFC 9980) are not in the list yet, because the
// clients that will read the sealed mail do not know them.
const (
	algoRSA            = 1
	algoRSAEncryptOnly = 2
	algoRSASignOnly    = 3
	algoElGamal        = 16
	algoDSA            = 17
	algoECDH           = 18
	algoECDSA          = 19
	algoEdDSALegacy    = 22
	algoX25519         = 25
	algoX448           = 26
	algoEd25519        = 27
	algoEd448          = 28
)

// keyMaterial is what the octets of a public key packet say about themselves.
type keyMaterial struct {
	version   int
	algorithm byte
	name      string // for people, e.g. "RSA 3072"
}

// canEncrypt says whether session keys can be wrapped with the algorithm.
func (k keyMaterial) canEncrypt() bool {
	switch k.algorithm {
	case algoRSA, algoRSAEncryptOnly, algoECDH, algoX25519, algoX448:
		return true
	}
	return false
}

// onlyEncrypts says that the algorithm leaves no doubt what the key is for, even
// without key flags.
func (k keyMaterial) onlyEncrypts() bool {
	return k.canEncrypt() && k.algorithm != algoRSA
}

// canCertify says whether the key can be a primary key.
func (k keyMaterial) canCertify() bool {
	switch k.algorithm {
	case algoRSA, algoRSASignOnly, algoECDSA, algoEdDSALegacy, algoEd25519, algoEd448:
		return true
	}
	return false
}

// inspectKey reads version and algorithm of a public key packet and refuses what
// we would not compute with: ErrAlgorithm, or ErrWeak for short RSA.
func inspectKey(body []byte) (keyMaterial, error) {
	k := keyMaterial{}
	if len(body) < 6 {
		return k, fmt.Errorf("public key packet cut off: %w", ErrNoCertificate)
	}
	k.version, k.algorithm = int(body[0]), body[5]
	material := body[6:]
	switch {
	case k.version == 4:
	case k.version == 6 && len(material) >= 4:
		material = material[4:] // octet count
	default:
		return k, fmt.Errorf("version %d: %w", k.version, ErrAlgorithm)
	}
	var err error
	switch k.algorithm {
	case algoRSA, algoRSAEncryptOnly, algoRSASignOnly:
		k.name, err = inspectRSA(material)
	case algoECDH, algoECDSA, algoEdDSALegacy:
		k.name, err = inspectCurve(k.algorithm, material)
	case algoX25519:
		k.name = "X25519"
	case algoX448:
		k.name = "X448"
	case algoEd25519:
		k.name = "Ed25519"
	case algoEd448:
		k.name = "Ed448"
	case algoElGamal, algoDSA:
		k.name, err = "DSA or ElGamal", ErrAlgorithm
	default:
		k.name, err = fmt.Sprintf("algorithm %d", k.algorithm), ErrAlgorithm
	}
	if err != nil {
		return k, fmt.Errorf("%s: %w", k.name, err)
	}
	return k, nil
}

// inspectRSA checks the modulus by its octets, not by the length it claims, and
// the exponent, so that wrapping a session key later cannot fail or take long.
func inspectRSA(material []byte) (string, error) {
	n, rest, ok := cutMPI(material)
	e, _, ok2 := cutMPI(rest)
	if !ok || !ok2 {
		return "RSA", fmt.Errorf("number cut off: %w", ErrAlgorithm)
	}
	size := bitLength(n)
	name := fmt.Sprintf("RSA %d", size)
	switch {
	case size > maxRSABits:
		return name, ErrAlgorithm
	case size < minRSABits:
		return name, ErrWeak
	case n[len(n)-1]&1 == 0:
		return name, fmt.Errorf("even modulus: %w", ErrAlgorithm)
	}
	if b := bitLength(e); b < 2 || b > 24 || e[len(e)-1]&1 == 0 {
		return name, fmt.Errorf("bad exponent: %w", ErrAlgorithm)
	}
	return name, nil
}

// cutMPI takes a multiprecision integer off b (RFC 9580 3.2).
func cutMPI(b []byte) (number, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := (int(b[0])<<8 + int(b[1]) + 7) / 8
	if n > len(b)-2 {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

func bitLength(number []byte) int {
	number = bytes.TrimLeft(number, "\x00")
	if len(number) == 0 {
		return 0
	}
	return (len(number)-1)*8 + bits.Len8(number[0])
}

// inspectCurve allows the curves of RFC 9580 9.2 except Brainpool, whose
// arithmetic here is slow enough to be an attack, and never secp256k1.
func inspectCurve(algorithm byte, material []byte) (string, error) {
	if len(material) < 1 || int(material[0]) > len(material)-1 {
		return "elliptic curve", fmt.Errorf("curve cut off: %w", ErrAlgorithm)
	}
	oid := hex.EncodeToString(material[1 : 1+int(material[0])])
	name := ""
	switch oid {
	case "2a8648ce3d030107":
		name = "NIST P-256"
	case "2b81040022":
		name = "NIST P-384"
	case "2b81040023":
		name = "NIST P-521"
	case "2b060104019755010501":
		name = "Curve25519"
	case "2b06010401da470f01":
		name = "Ed25519"
	default:
		return "elliptic curve " + oid, ErrAlgorithm
	}
	// A curve with the wrong algorithm: ECDH is for all but Ed25519, ECDSA for NIST.
	if (name == "Ed25519") != (algorithm == algoEdDSALegacy) ||
		name == "Curve25519" && algorithm != algoECDH {
		return name, ErrAlgorithm
	}
	return name, nil
}

// rawCertificate is one transferable public key (RFC 9580 10.1), cut into packets.
type rawCertificate struct {
	data    []byte
	packets []rawPacket // the first is the primary key
	counts  struct{ userIDs, subkeys, signatures, other int }
}

// cutCertificates cuts binary data into certificates and enforces the limits on
// sizes and numbers. A secret key anywhere refuses the whole input. What follows
// the last whole packet is an error: the certificate is cut off.
func cutCertificates(data []byte) ([]*rawCertificate, error) {
	var found []*rawCertificate
	var c *rawCertificate
	for rest := data; len(rest) > 0; {
		p, next, err := cutPacket(rest)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoCertificate, err)
		}
		switch {
		case p.tag == tagSecretKey || p.tag == tagSecretSubkey:
			return nil, ErrSecretKey
		case p.tag == tagPublicKey:
			if len(found) == maxCertificates {
				return nil, fmt.Errorf("over %d certificates: %w", maxCertificates, ErrTooLarge)
			}
			c = &rawCertificate{}
			found = append(found, c)
		case c == nil && (p.tag == tagMarker || p.tag == tagPadding):
			rest = next
			continue
		case c == nil:
			return nil, ErrNoCertificate
		}
		if err := c.add(p); err != nil {
			return nil, err
		}
		rest = next
	}
	if len(found) == 0 {
		return nil, ErrNoCertificate
	}
	return found, nil
}

// add takes the next packet, which directly follows those before it.
func (c *rawCertificate) add(p rawPacket) error {
	if c.packets == nil {
		c.data = p.raw
	} else {
		c.data = c.data[:len(c.data)+len(p.raw)]
	}
	if len(c.data) > maxCertificate {
		return fmt.Errorf("certificate over %d KiB: %w", maxCertificate>>10, ErrTooLarge)
	}
	count, limit, what := &c.counts.other, maxOther, "other packets"
	switch p.tag {
	case tagUserID:
		count, limit, what = &c.counts.userIDs, maxUserIDs, "user IDs"
	case tagPublicSubkey:
		count, limit, what = &c.counts.subkeys, maxSubkeys, "subkeys"
	case tagSignature:
		count, limit, what = &c.counts.signatures, maxSignatures, "signatures"
	}
	if *count++; *count > limit {
		return fmt.Errorf("over %d %s: %w", limit, what, ErrTooLarge)
	}
	c.packets = append(c.packets, p)
	return nil
}
