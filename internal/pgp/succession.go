package pgp

import (
	"bytes"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// maxSuccession bounds how many foreign signatures CertifiedBy verifies.
const maxSuccession = 8

// CertifiedBy says whether old's primary key certified a user ID of c: the way in which
// an owner tells that the one certificate replaces the other (RFC 9580 5.2.1.4 to
// 5.2.1.7). A certification counts if old's key could make it at its time: it had not
// expired, was not revoked yet, and was never revoked as compromised; and if it neither
// lies in the future nor has expired or was taken back itself.
//
// Of a certificate that Restrict or ParseFor made, only the user IDs that are left
// count: old's owner may have certified others of them, as one does with friends. A
// certificate that was stored and read again has lost its certifications.
func (c *Certificate) CertifiedBy(old *Certificate, now time.Time) bool {
	data := c.data
	if c.origin != nil {
		data = c.origin
	}
	raws, err := cutCertificates(data)
	if err != nil || old.material.version != c.material.version {
		return false
	}
	v := &verifier{primary: old.primary, version: old.material.version, left: maxSuccession}
	for _, p := range componentsOf(raws[0]) {
		mine := slices.ContainsFunc(c.userIDs, func(u userID) bool { return u.text == string(p.body) })
		if p.tag == tagUserID && mine && old.certified(p, c.primary, v, now) {
			return true
		}
	}
	return false
}

// certified says whether c's key, which v knows, certified a user ID of primary, and did
// not take it back.
func (c *Certificate) certified(p component, primary *packet.PublicKey, v *verifier, now time.Time) bool {
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
		certified = certified || c.couldSign(sig, now)
	}
	return certified
}

// couldSign says whether a signature of c's primary key counts at now.
func (c *Certificate) couldSign(sig *packet.Signature, now time.Time) bool {
	made := sig.CreationTime
	if made.Before(c.primary.CreationTime) || made.After(now) || passed(signatureExpires(sig), now) {
		return false
	}
	end, ends := c.Expires()
	return !revoked(c.revoked, time.Time{}, made) && !(ends && passed(end, made))
}
