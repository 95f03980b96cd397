package pgp

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// ErrOtherKey: two certificates that are to be merged have different primary keys.
var ErrOtherKey = errors.New("the certificates have different primary keys")

// keptSignatures is how many self-signatures of one part survive when a merged
// certificate is over the limits: the newest, and some for a clock that is wrong.
const keptSignatures = 4

// Merge returns one certificate with all that the two forms of it say: the user
// IDs, subkeys, self-signatures and revocations of both, each once, packet by packet
// from their octets, those of the first form in front. If the second says nothing
// that the first does not, the first is returned as it is.
//
// Only what verifies is added up. Subkeys that are not for encryption, or of an
// unknown algorithm, are kept without being verified, as long as there is room.
// Third-party certifications, user attributes and what is unknown are left out.
//
// The limits of the package hold for the result. If it is over them, what was not
// verified goes, then self-signatures that newer ones replaced; never a revocation.
// If that is not enough the error wraps ErrTooLarge, and neither form replaces the
// other: ask both whether they are revoked. ErrOtherKey if they do not belong
// together.
func Merge(first, second *Certificate) (*Certificate, error) {
	if first.Fingerprint() != second.Fingerprint() {
		return nil, ErrOtherKey
	}
	m := &merger{}
	for _, c := range []*Certificate{first, second} {
		m.added = false
		if err := m.take(c); err != nil {
			return nil, err
		}
	}
	if !m.added {
		return first, nil
	}
	for _, shorten := range []func(){func() {}, m.dropUnverified, m.dropReplaced} {
		if shorten(); m.fits() {
			return parseExactly(m.octets())
		}
	}
	return nil, fmt.Errorf("merged certificate: %w", ErrTooLarge)
}

// merger collects the parts of certificates with the same primary key.
type merger struct {
	parts []*mergedPart
	added bool // something was new since this was last cleared
}

// mergedPart is a part of the certificate with the signatures that count.
type mergedPart struct {
	rawPacket
	verified   bool // its signatures are
	signatures []signaturePacket
	seen       map[string]bool // the signatures by what makes them one
}

// take adds what c says.
func (m *merger) take(c *Certificate) error {
	parts, err := c.components()
	if err != nil {
		return err
	}
	// With a key of its own: verifying writes into the library's structures.
	v, err := newVerifier(parts[0].rawPacket)
	if err != nil {
		return err
	}
	v.left = 2 * maxVerify // reading each of the two was within the budget of one
	for _, p := range parts {
		if err := m.add(v, p); err != nil {
			return err
		}
	}
	return nil
}

// add merges one part and its signatures.
func (m *merger) add(v *verifier, p component) error {
	own := p.ownSignatures(v)
	check, verified := v.checkerOf(p.rawPacket)
	if verified {
		kept := own[:0]
		for _, s := range own {
			valid, err := v.keep([]*packet.Signature{s.sig}, check)
			if err != nil {
				return err
			}
			if len(valid) > 0 {
				kept = append(kept, s)
			}
		}
		own = kept
	}
	if len(own) == 0 && p.tag != tagPublicKey {
		return nil
	}
	at := slices.IndexFunc(m.parts, func(q *mergedPart) bool { return q.tag == p.tag && bytes.Equal(q.body, p.body) })
	if at < 0 {
		at = len(m.parts)
		m.parts = append(m.parts, &mergedPart{rawPacket: p.rawPacket, verified: verified, seen: make(map[string]bool)})
		m.added = true
	}
	part := m.parts[at]
	for _, s := range own {
		if id := signatureID(s.body); !part.seen[id] {
			part.seen[id] = true
			part.signatures = append(part.signatures, s)
			m.added = true
		}
	}
	return nil
}

// checkerOf returns how self-signatures about a part are verified; false if they
// are not, because nothing here depends on them.
func (v *verifier) checkerOf(p rawPacket) (func(*packet.Signature) error, bool) {
	switch p.tag {
	case tagPublicKey:
		return func(sig *packet.Signature) error {
			if sig.SigType == packet.SigTypeKeyRevocation {
				return v.primary.VerifyRevocationSignature(sig)
			}
			return v.primary.VerifyDirectKeySignature(sig)
		}, true
	case tagUserID:
		return func(sig *packet.Signature) error {
			return v.primary.VerifyUserIdSignature(string(p.body), v.primary, sig)
		}, true
	}
	if p.tag != tagPublicSubkey {
		return nil, false
	}
	material, err := inspectKey(p.body)
	if err != nil || !material.canEncrypt() || material.version != v.version {
		return nil, false
	}
	key, err := readPublicKey(p)
	if err != nil {
		return nil, false
	}
	return func(sig *packet.Signature) error {
		if sig.SigType == packet.SigTypeSubkeyRevocation {
			return v.primary.VerifySubkeyRevocationSignature(sig, key)
		}
		return v.primary.VerifyKeySignature(key, sig)
	}, true
}

// signatureID is a signature of version 4 or 6 without its unhashed subpackets
// (RFC 9580 5.2.3), which anybody may change on the way, and so make a thousand
// different packets of one signature.
func signatureID(body []byte) string {
	octets := 2
	if len(body) > 0 && body[0] == 6 {
		octets = 4
	}
	head, rest, ok := cutSubpackets(body, 4, octets)
	if !ok {
		return string(body)
	}
	_, tail, ok := cutSubpackets(rest, 0, octets)
	if !ok {
		return string(body)
	}
	return string(head) + string(tail)
}

// cutSubpackets cuts body behind the subpackets whose length stands at an offset.
func cutSubpackets(body []byte, at, octets int) (head, tail []byte, ok bool) {
	if len(body) < at+octets {
		return nil, nil, false
	}
	n := uint64(binary.BigEndian.Uint16(body[at:]))
	if octets == 4 {
		n = uint64(binary.BigEndian.Uint32(body[at:]))
	}
	start := at + octets
	if n > uint64(len(body)-start) {
		return nil, nil, false
	}
	end := start + int(n)
	return body[:end], body[end:], true
}

// fits says whether what octets gives can be read again within the limits.
func (m *merger) fits() bool {
	var size, userIDs, subkeys, signatures, checks int
	for _, p := range m.parts {
		size += len(p.raw)
		switch p.tag {
		case tagUserID:
			userIDs++
		case tagPublicSubkey:
			subkeys++
		}
		for _, s := range p.signatures {
			size += len(s.raw)
			signatures++
			if p.verified {
				checks += checkCost(s.sig)
			}
		}
	}
	return size <= maxCertificate && userIDs <= maxUserIDs && subkeys <= maxSubkeys &&
		signatures <= maxSignatures && checks <= maxVerify
}

// checkCost is what verifier.keep takes off its budget.
func checkCost(sig *packet.Signature) int {
	if sig.FlagSign {
		return 2
	}
	return 1
}

// dropUnverified leaves out the subkeys whose signatures were not verified.
func (m *merger) dropUnverified() {
	m.parts = slices.DeleteFunc(m.parts, func(p *mergedPart) bool { return !p.verified })
}

// dropReplaced leaves out all but the newest self-signatures of each part.
func (m *merger) dropReplaced() {
	for _, p := range m.parts {
		var self []signaturePacket
		for _, s := range p.signatures {
			if !isRevocation(s.sig.SigType) {
				self = append(self, s)
			}
		}
		if len(self) <= keptSignatures {
			continue
		}
		slices.SortStableFunc(self, func(a, b signaturePacket) int {
			return cmp.Compare(b.sig.CreationTime.Unix(), a.sig.CreationTime.Unix())
		})
		self = self[:keptSignatures]
		p.signatures = slices.DeleteFunc(p.signatures, func(s signaturePacket) bool {
			return !isRevocation(s.sig.SigType) &&
				!slices.ContainsFunc(self, func(t signaturePacket) bool { return t.sig == s.sig })
		})
	}
}

// octets puts the parts in their order (RFC 9580 10.1): the primary key, user IDs,
// subkeys.
func (m *merger) octets() []byte {
	var data []byte
	for _, tag := range []byte{tagPublicKey, tagUserID, tagPublicSubkey} {
		for _, p := range m.parts {
			if p.tag != tag {
				continue
			}
			data = append(data, p.raw...)
			for _, s := range p.signatures {
				data = append(data, s.raw...)
			}
		}
	}
	return data
}
