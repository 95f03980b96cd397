package pgp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Certificate is an OpenPGP certificate whose self-signatures have been verified.
// It is immutable and safe for concurrent use; whatever depends on the time is
// asked with the time.
type Certificate struct {
	data     []byte
	material keyMaterial
	primary  *packet.PublicKey
	userIDs  []userID
	direct   []selfSignature // direct-key signatures, newest first
	revoked  []revocation    // of the primary key
	subkeys  []subkey
	refused  error // why the last unusable subkey was dropped
	// origin are the octets that Restrict or ParseFor made this one from; nil if it is as
	// it was read. They live as long as what was found is looked at.
	origin []byte
	last   atomic.Pointer[minimal]
}

// userID is a user ID with at least one verified self-signature.
type userID struct {
	text    string
	address string // in the form of a look-up key, or ""
	certs   []selfSignature
	revoked []revocation
}

// subkey is an encryption-capable subkey with at least one verified binding.
type subkey struct {
	key      *packet.PublicKey
	material keyMaterial
	bindings []selfSignature
	revoked  []revocation
}

// ParseCertificates reads certificates, binary or in armor, one or several. The
// limits of the package comment hold. A certificate that cannot be used at all
// (ErrAlgorithm, ErrWeak, ErrUnsigned) is left out if others can be used; if none is
// left, its error is returned. A secret key anywhere refuses everything. An expired
// or revoked certificate is no error here: ask Usable.
func ParseCertificates(data []byte) ([]*Certificate, error) {
	if len(data) > maxInput {
		return nil, fmt.Errorf("over %d KiB: %w", maxInput>>10, ErrTooLarge)
	}
	binary, err := certificateOctets(data)
	if err != nil {
		return nil, err
	}
	raws, err := cutCertificates(binary)
	if err != nil {
		return nil, err
	}
	var certs []*Certificate
	var refused error
	for _, raw := range raws {
		c, err := newCertificate(raw)
		if err != nil {
			refused = err
			continue
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, refused
	}
	return certs, nil
}

// certificateOctets takes the armor off, if there is any.
func certificateOctets(data []byte) ([]byte, error) {
	if len(data) > 0 && data[0]&0x80 != 0 && !bytes.HasPrefix(data, []byte("\xEF\xBB\xBF")) {
		return data, nil
	}
	if bytes.Contains(data, []byte(armorBegin+typePrivateKey+armorDash)) {
		return nil, ErrSecretKey
	}
	var all []byte
	for {
		octets, rest, ok, err := cutArmor(data, typePublicKey)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoCertificate, err)
		}
		if !ok {
			return all, nil // nothing at all is found out by the caller
		}
		all = append(all, octets...)
		data = rest
	}
}

// newCertificate verifies the self-signatures of one certificate.
func newCertificate(raw *rawCertificate) (*Certificate, error) {
	first := raw.packets[0]
	material, err := inspectKey(first.body)
	if err != nil {
		return nil, err
	}
	if !material.canCertify() {
		return nil, fmt.Errorf("primary key %s cannot sign: %w", material.name, ErrAlgorithm)
	}
	primary, err := readPublicKey(first)
	if err != nil {
		return nil, err
	}
	c := &Certificate{data: bytes.Clone(raw.data), material: material, primary: primary}
	v := &verifier{primary: primary, version: material.version, left: maxVerify}
	// The signatures before the first user ID or subkey are about the primary key,
	// every other run of them is about what stands before it (RFC 9580 10.1).
	sigs, rest := cutSignatures(raw.packets[1:], v)
	err = c.addPrimary(v, sigs)
	for err == nil && len(rest) > 0 {
		component := rest[0]
		sigs, rest = cutSignatures(rest[1:], v)
		switch component.tag {
		case tagUserID:
			err = c.addUserID(v, string(component.body), sigs)
		case tagPublicSubkey:
			err = c.addSubkey(v, component, sigs)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(c.direct) == 0 && len(c.userIDs) == 0 {
		return nil, ErrUnsigned
	}
	return c, nil
}

// readPublicKey gives the packet to the library after inspectKey allowed it.
func readPublicKey(p rawPacket) (*packet.PublicKey, error) {
	got, err := packet.Read(bytes.NewReader(p.raw))
	if err != nil {
		return nil, fmt.Errorf("public key: %w: %v", ErrAlgorithm, err)
	}
	key, ok := got.(*packet.PublicKey)
	if !ok {
		return nil, fmt.Errorf("public key: %w", ErrAlgorithm)
	}
	return key, nil
}

// cutSignatures takes the signatures at the beginning of packets and keeps those
// that may be self-signatures. What belongs to nothing there (trust packets,
// markers, padding) is skipped.
func cutSignatures(packets []rawPacket, v *verifier) (sigs []*packet.Signature, rest []rawPacket) {
	for i, p := range packets {
		switch p.tag {
		case tagSignature:
			// One that cannot be read is worth nothing; it does not harm the others.
			got, err := packet.Read(bytes.NewReader(p.raw))
			if sig, ok := got.(*packet.Signature); ok && err == nil && v.candidate(sig) {
				sigs = append(sigs, sig)
			}
		case tagTrust, tagMarker, tagPadding:
		default:
			return sigs, packets[i:]
		}
	}
	return sigs, nil
}

// addPrimary takes the direct-key signatures and the revocations of the primary key.
func (c *Certificate) addPrimary(v *verifier, sigs []*packet.Signature) error {
	valid, err := v.keep(sigs, func(sig *packet.Signature) error {
		switch sig.SigType {
		case packet.SigTypeKeyRevocation:
			return c.primary.VerifyRevocationSignature(sig)
		case packet.SigTypeDirectSignature:
			return c.primary.VerifyDirectKeySignature(sig)
		}
		return errSignatureType
	})
	if err != nil {
		return err
	}
	c.direct, c.revoked = split(valid, packet.SigTypeKeyRevocation)
	return nil
}

// addUserID keeps a user ID if a self-signature of it verifies.
func (c *Certificate) addUserID(v *verifier, text string, sigs []*packet.Signature) error {
	valid, err := v.keep(sigs, func(sig *packet.Signature) error {
		switch sig.SigType {
		case packet.SigTypeGenericCert, packet.SigTypePersonaCert, packet.SigTypeCasualCert,
			packet.SigTypePositiveCert, packet.SigTypeCertificationRevocation:
			return c.primary.VerifyUserIdSignature(text, c.primary, sig)
		}
		return errSignatureType
	})
	if err != nil {
		return err
	}
	u := userID{text: text, address: addressKey(text)}
	u.certs, u.revoked = split(valid, packet.SigTypeCertificationRevocation)
	if len(u.certs) > 0 {
		c.userIDs = append(c.userIDs, u)
	}
	return nil
}

// addSubkey keeps a subkey if we could encrypt to it and a binding of it verifies.
// Others are dropped together with their signatures.
func (c *Certificate) addSubkey(v *verifier, p rawPacket, sigs []*packet.Signature) error {
	material, err := inspectKey(p.body)
	if err == nil && material.version != c.material.version {
		err = ErrAlgorithm // RFC 9580 10.1.1
	}
	if err == nil && !material.canEncrypt() {
		return nil // a subkey for signing: nothing is wrong with it
	}
	var key *packet.PublicKey
	if err == nil {
		key, err = readPublicKey(p)
	}
	if err != nil {
		c.refused = err
		return nil
	}
	valid, err := v.keep(sigs, func(sig *packet.Signature) error {
		switch sig.SigType {
		case packet.SigTypeSubkeyBinding:
			return c.primary.VerifyKeySignature(key, sig)
		case packet.SigTypeSubkeyRevocation:
			return c.primary.VerifySubkeyRevocationSignature(sig, key)
		}
		return errSignatureType
	})
	if err != nil {
		return err
	}
	s := subkey{key: key, material: material}
	s.bindings, s.revoked = split(valid, packet.SigTypeSubkeyRevocation)
	if len(s.bindings) > 0 {
		c.subkeys = append(c.subkeys, s)
	}
	return nil
}

// Fingerprint is the fingerprint of the primary key in upper-case hex: 40 digits
// for version 4, 64 for version 6.
func (c *Certificate) Fingerprint() string {
	return fingerprintHex(c.primary.Fingerprint)
}

// KeyID is the key ID of the primary key in upper-case hex, 16 digits. It is for
// showing only: key IDs can be made to collide.
func (c *Certificate) KeyID() string { return c.primary.KeyIdString() }

// Version is the version of the key format, 4 or 6.
func (c *Certificate) Version() int { return c.material.version }

// Algorithm names the algorithm of the primary key, e.g. "Ed25519" or "RSA 3072".
func (c *Certificate) Algorithm() string { return c.material.name }

// Created is when the primary key was made.
func (c *Certificate) Created() time.Time { return c.primary.CreationTime }

// UserIDs are those with a valid self-signature, in the order of the certificate,
// without control characters. Revoked ones are left out.
func (c *Certificate) UserIDs() []string {
	var ids []string
	for i := range c.userIDs {
		if u := &c.userIDs[i]; !u.isRevoked(u.certs[0].created) {
			ids = append(ids, printable(u.text))
		}
	}
	return ids
}

// HasAddress says whether a user ID that is not revoked is for the address, given
// as a look-up key (lower case, A-labels).
func (c *Certificate) HasAddress(key string) bool {
	for i := range c.userIDs {
		u := &c.userIDs[i]
		if u.address != "" && u.address == key && !u.isRevoked(u.certs[0].created) {
			return true
		}
	}
	return false
}

// isRevoked says whether a revocation is at least as new as the self-signature.
// Revoking a user ID takes back what was said, whatever the reason.
func (u *userID) isRevoked(signed time.Time) bool {
	for _, r := range u.revoked {
		if !r.created.Before(signed) {
			return true
		}
	}
	return false
}

// Data is the certificate in binary as it was given, with everything in it. The
// caller must not change it.
func (c *Certificate) Data() []byte { return c.data }

// Armor is Data in ASCII armor.
func (c *Certificate) Armor() []byte {
	return armored(typePublicKey, c.data, c.material.version)
}

func fingerprintHex(f []byte) string { return strings.ToUpper(hex.EncodeToString(f)) }
