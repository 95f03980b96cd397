package pgp

import (
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Minimal is as little of the certificate as others need to encrypt to it at now, in
// binary, as Autocrypt Level 1 wants it: the primary key, one user ID, the encryption
// subkey that mail on its way is encrypted to, and the newest self-signature of each.
// The user ID is one for the address (a look-up key) if there is one, else the primary
// one. A version 6 certificate keeps its direct-key signature. The error is that of
// UsableFor.
//
// It is asked for with each message that a person sends, so that the last one is kept.
func (c *Certificate) Minimal(address string, now time.Time) ([]byte, error) {
	to, err := c.chooseFor(Communication, now)
	if err != nil {
		return nil, err
	}
	if m := c.last.Load(); m != nil && m.address == address && m.key == to.key && m.made.Sub(now).Abs() < minimalFor {
		return m.data, nil
	}
	m := &minimal{address: address, key: to.key, made: now}
	if m.data, err = c.makeMinimal(address, to, now); err != nil {
		return nil, err
	}
	c.last.Store(m)
	return m.data, nil
}

// minimalFor is how long one is kept: a newer self-signature may begin to hold.
const minimalFor = time.Minute

// minimal is what Minimal returned for an address and a subkey.
type minimal struct {
	address string
	key     *packet.PublicKey
	made    time.Time
	data    []byte // never changed
}

func (c *Certificate) makeMinimal(address string, to recipient, now time.Time) ([]byte, error) {
	parts, err := c.components()
	if err != nil {
		return nil, err
	}
	v, err := newVerifier(parts[0].rawPacket)
	if err != nil {
		return nil, err
	}
	name := c.userIDFor(address, now)
	data := append([]byte(nil), parts[0].raw...)
	if c.Version() >= 6 || name == nil {
		data = appendNewest(data, &parts[0], v, newest(c.direct, now))
	}
	for i := 1; i < len(parts); i++ {
		switch p := &parts[i]; {
		case p.tag == tagUserID && name != nil && string(p.body) == name.text:
			data = appendNewest(append(data, p.raw...), p, v, newest(name.certs, now))
			name = nil
		case p.tag == tagPublicSubkey && to.key != c.primary && sameKey(p.rawPacket, to.key):
			data = appendNewest(append(data, p.raw...), p, v, c.bindingOf(to.key, now))
			to.key = c.primary
		}
	}
	return data, nil
}

// userIDFor returns the user ID for the address, or the primary one, or nil.
func (c *Certificate) userIDFor(address string, now time.Time) *userID {
	var best *userID
	var bestSig *selfSignature
	for i := range c.userIDs {
		u := &c.userIDs[i]
		s := newest(u.certs, now)
		if s == nil || u.isRevoked(s.created) {
			continue
		}
		if u.address != "" && u.address == address {
			return u
		}
		if best == nil || s.primaryID && !bestSig.primaryID {
			best, bestSig = u, s
		}
	}
	return best
}

// bindingOf returns the binding of one of the certificate's subkeys that counts at now.
func (c *Certificate) bindingOf(key *packet.PublicKey, now time.Time) *selfSignature {
	for i := range c.subkeys {
		if c.subkeys[i].key == key {
			return newest(c.subkeys[i].bindings, now)
		}
	}
	return nil
}

// sameKey says whether a packet is the one that key was read from.
func sameKey(p rawPacket, key *packet.PublicKey) bool {
	got, err := readPublicKey(p)
	return err == nil && string(got.Fingerprint) == string(key.Fingerprint)
}

// appendNewest appends the signature packet about p that was read as s.
func appendNewest(data []byte, p *component, v *verifier, s *selfSignature) []byte {
	if s == nil {
		return data
	}
	for _, own := range p.ownSignatures(v) {
		if own.sig.CreationTime.Equal(s.created) && !isRevocation(own.sig.SigType) {
			return append(data, own.raw...)
		}
	}
	return data
}
