package pgp

import (
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// minCommunicationLife is how long a subkey without the storage flag must still
// live to be sealed to. Stored mail must open for years; subkeys for communication
// only may be destroyed by rotation a few days after they are made.
const minCommunicationLife = 365 * 24 * time.Hour

// recipient is the key that is sealed to and what the certificate says about it.
type recipient struct {
	key     *packet.PublicKey
	expires time.Time // zero is never
	aead    bool      // asks for SEIPD version 2
	suites  [][2]uint8
}

// rank orders what can be sealed to; a higher one wins, whatever the dates.
type rank int

const (
	rankNone rank = iota
	rankPrimaryCommunications
	rankCommunications
	rankPrimaryStorage
	rankStorage
)

// choose picks the key to seal stored mail to at now:
//
//  1. the newest subkey with the flag 0x08 (encrypt storage);
//  2. else the primary key, if it has that flag;
//  3. else the newest subkey with only 0x04 (encrypt communications), if it does not
//     expire within a year, and last the primary key under the same condition.
//
// Only what is valid, neither revoked nor expired, and not from the future counts.
// "Newest" is by the creation of the subkey, then of its binding: extending an old
// subkey does not bring it back before the one that replaced it.
func (c *Certificate) choose(now time.Time) (recipient, error) {
	self, until, err := c.primaryAt(now)
	if err != nil {
		return recipient{}, err
	}
	best, bestRank := recipient{}, rankNone
	var bestBinding time.Time
	var whyNot error
	for i := range c.subkeys {
		s := &c.subkeys[i]
		b, expires, err := s.at(now)
		if err != nil {
			whyNot = worse(whyNot, err)
			continue
		}
		expires = sooner(expires, until)
		r := rankOf(flagsOf(b, s.material.onlyEncrypts()), expires, now, rankStorage, rankCommunications)
		if r == rankNone || r < bestRank ||
			r == bestRank && !newerSubkey(s.key, b.created, best.key, bestBinding) {
			continue
		}
		best, bestRank, bestBinding = recipient{key: s.key, expires: expires}, r, b.created
	}
	if c.material.canEncrypt() {
		r := rankOf(flagsOf(self, false), until, now, rankPrimaryStorage, rankPrimaryCommunications)
		if r > bestRank {
			best, bestRank = recipient{key: c.primary, expires: until}, r
		}
	}
	if bestRank == rankNone {
		return recipient{}, c.noSubkey(whyNot)
	}
	best.aead, best.suites = self.aead, self.suites
	return best, nil
}

// newerSubkey compares by creation of the key, then of the binding; of equals the
// later in the certificate wins.
func newerSubkey(a *packet.PublicKey, aBound time.Time, b *packet.PublicKey, bBound time.Time) bool {
	if !a.CreationTime.Equal(b.CreationTime) {
		return a.CreationTime.After(b.CreationTime)
	}
	return !aBound.Before(bBound)
}

// flagsOf returns the encryption flags of a self-signature. Certificates from
// before key flags have none; then the algorithm decides, if it can.
func flagsOf(s *selfSignature, onlyEncrypts bool) byte {
	if !s.hasFlags && onlyEncrypts {
		return flagEncryptCommunications | flagEncryptStorage
	}
	return s.flags
}

func rankOf(flags byte, expires, now time.Time, storage, communications rank) rank {
	switch {
	case flags&flagEncryptStorage != 0:
		return storage
	case flags&flagEncryptCommunications != 0 && (expires.IsZero() || expires.After(now.Add(minCommunicationLife))):
		return communications
	}
	return rankNone
}

// at returns the binding that counts at now and when the subkey expires, or
// ErrRevoked, ErrExpired, ErrNotYetValid.
func (s *subkey) at(now time.Time) (*selfSignature, time.Time, error) {
	if s.key.CreationTime.After(now) {
		return nil, time.Time{}, ErrNotYetValid
	}
	b := newest(s.bindings, now)
	if b == nil {
		return nil, time.Time{}, noneHolds(s.bindings, now)
	}
	if revoked(s.revoked, b.created, now) {
		return nil, time.Time{}, ErrRevoked
	}
	expires := sooner(b.keyExpires(s.key.CreationTime), b.expires)
	if passed(expires, now) {
		return nil, time.Time{}, fmt.Errorf("encryption subkey, on %s: %w", expires.UTC().Format(time.DateOnly), ErrExpired)
	}
	return b, expires, nil
}

// noneHolds says why no signature of a list counts at now.
func noneHolds(sigs []selfSignature, now time.Time) error {
	for _, s := range sigs {
		if !s.created.After(now) {
			return ErrExpired
		}
	}
	return ErrNotYetValid
}

// primaryAt returns the self-signature that counts for the whole certificate at
// now, and when the certificate expires, or why it is not usable. For version 4 it
// is that of the primary user ID, for version 6, and a certificate without user
// IDs, the direct-key signature (RFC 9580 5.2.3.10, 10.1).
func (c *Certificate) primaryAt(now time.Time) (*selfSignature, time.Time, error) {
	if c.primary.CreationTime.After(now) {
		return nil, time.Time{}, ErrNotYetValid
	}
	if revoked(c.revoked, time.Time{}, now) {
		return nil, time.Time{}, ErrRevoked
	}
	direct := newest(c.direct, now)
	self := direct
	if c.Version() < 6 {
		if u := c.primaryUserID(now); u != nil {
			self = u
		}
	}
	if self == nil {
		return nil, time.Time{}, c.noSelfSignature(now)
	}
	expires := sooner(self.keyExpires(c.primary.CreationTime), self.expires)
	if direct != nil {
		expires = sooner(expires, direct.keyExpires(c.primary.CreationTime))
	}
	if passed(expires, now) {
		return nil, time.Time{}, fmt.Errorf("certificate, on %s: %w", expires.UTC().Format(time.DateOnly), ErrExpired)
	}
	return self, expires, nil
}

// primaryUserID returns the self-signature of the user ID that is marked as
// primary, or else of the newest.
func (c *Certificate) primaryUserID(now time.Time) *selfSignature {
	var best *selfSignature
	for i := range c.userIDs {
		u := &c.userIDs[i]
		s := newest(u.certs, now)
		if s == nil || u.isRevoked(s.created) {
			continue
		}
		if best == nil || s.primaryID && !best.primaryID ||
			s.primaryID == best.primaryID && s.created.After(best.created) {
			best = s
		}
	}
	return best
}

// noSelfSignature says why no self-signature counts at now.
func (c *Certificate) noSelfSignature(now time.Time) error {
	all := c.direct
	for _, u := range c.userIDs {
		if newest(u.certs, now) != nil {
			return fmt.Errorf("every user ID: %w", ErrRevoked)
		}
		all = append(all[:len(all):len(all)], u.certs...)
	}
	if len(all) == 0 || c.Version() == 6 && len(c.direct) == 0 {
		return ErrUnsigned
	}
	return noneHolds(all, now)
}

// worse keeps the reason that tells the owner most: a revocation and an expiry
// before a date in the future.
func worse(a, b error) error {
	if a == nil || a == ErrNotYetValid {
		return b
	}
	return a
}

// noSubkey is the error when nothing can be sealed to.
func (c *Certificate) noSubkey(whyNot error) error {
	switch {
	case whyNot != nil:
		return fmt.Errorf("every encryption subkey: %w", whyNot)
	case c.refused != nil && len(c.subkeys) == 0:
		return fmt.Errorf("encryption subkey: %w", c.refused)
	case len(c.subkeys) > 0:
		return fmt.Errorf("subkeys without the storage flag that expire within a year: %w", ErrNoEncryptionSubkey)
	}
	return ErrNoEncryptionSubkey
}

// Usable says whether mail can be sealed to the certificate at now: nil, or an
// error that wraps ErrExpired, ErrRevoked, ErrNotYetValid, ErrUnsigned,
// ErrNoEncryptionSubkey, ErrAlgorithm or ErrWeak.
func (c *Certificate) Usable(now time.Time) error {
	_, err := c.choose(now)
	return err
}

// SubkeyExpires is until when mail can be sealed to the key that is used at now:
// the first expiry of the subkey, of its binding and of the certificate. ok is
// false if it never expires, or if there is no such key.
func (c *Certificate) SubkeyExpires(now time.Time) (t time.Time, ok bool) {
	r, err := c.choose(now)
	return r.expires, err == nil && !r.expires.IsZero()
}

// Expires is when the certificate as a whole expires by its newest self-signature,
// also if that is in the past. ok is false if it never expires.
func (c *Certificate) Expires() (t time.Time, ok bool) {
	var last *selfSignature
	lists := [][]selfSignature{c.direct}
	if c.Version() < 6 {
		for i := range c.userIDs {
			lists = append(lists, c.userIDs[i].certs)
		}
	}
	for _, l := range lists {
		if len(l) > 0 && (last == nil || l[0].created.After(last.created)) {
			last = &l[0]
		}
	}
	if last == nil {
		return time.Time{}, false
	}
	t = last.keyExpires(c.primary.CreationTime)
	return t, !t.IsZero()
}
