package pgp

import (
	"bytes"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// maxSuccession bounds how many foreign signatures CertifiedBy verifies.
const maxSuccession = 8

// CertifiedBy says whether old's primary key certified a user ID of c: the way in which
// an owner tells that the one certificate replaces the other (RFC 9580 5.2.1.4 to
// 5.2.1.7). A certification that is revoked, or made by a key that was revoked as
// compromised, counts for nothing. For a certificate that Restrict made, the
// certifications of the one it was made from count.
func (c *Certificate) CertifiedBy(old *Certificate) bool {
	source := c
	if c.origin != nil {
		source = c.origin
	}
	parts, err := source.components()
	if err != nil || old.material.version != c.material.version || len(old.revoked) > 0 {
		return false
	}
	v := &verifier{primary: old.primary, version: old.material.version, left: maxSuccession}
	for _, p := range parts {
		if p.tag == tagUserID && p.certifiedBy(v, source.primary) {
			return true
		}
	}
	return false
}

// certifiedBy says whether v's key certified this user ID of primary, and did not take
// it back.
func (p *component) certifiedBy(v *verifier, primary *packet.PublicKey) bool {
	certified := false
	for _, raw := range p.signatures {
		got, err := packet.Read(bytes.NewReader(raw.raw))
		sig, ok := got.(*packet.Signature)
		if !ok || err != nil || !v.candidate(sig) || !belongs(tagUserID, sig.SigType) || v.left == 0 {
			continue
		}
		v.left--
		if v.primary.VerifyUserIdSignature(string(p.body), primary, sig) != nil {
			continue
		}
		if isRevocation(sig.SigType) {
			return false
		}
		certified = true
	}
	return certified
}
