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

// Purpose is what a message is encrypted for; it decides which subkey is used.
type Purpose uint8

// The purposes.
const (
	// Storage is mail that must open for years, in its owner's own mailbox.
	Storage Purpose = iota
	// Communication is mail on its way to a correspondent, whose software may keep it as
	// it likes: subkeys that rotate away are there for it.
	Communication
)

// recipient is the key that is sealed to and what the certificate says about it.
type recipient struct {
	key     *packet.PublicKey
	expires time.Time // zero is never
	aead    bool      // asks for SEIPD version 2
	suites  [][2]uint8
}

// rank orders what can be encrypted to; a higher one wins, whatever the dates.
type rank int

// The ranks for Storage.
const (
	rankNone rank = iota
	rankPrimaryCommunications
	rankCommunications
	rankPrimaryStorage
	rankStorage
)

// The ranks for Communication. A key that is for storage alone is better than clear text.
const (
	rankStorageAlone rank = iota + 1
	rankPrimary
	rankSubkey
)

// choice is one key that could be encrypted to.
type choice struct {
	key     *packet.PublicKey
	expires time.Time // zero is never
	bound   time.Time // when its binding was made; zero for the primary key
	rank    rank
}

// choose picks the key to seal stored mail to at now.
func (c *Certificate) choose(now time.Time) (recipient, error) { return c.chooseFor(Storage, now) }

// chooseFor picks the key to encrypt to at now. For stored mail it is
//
//  1. the newest subkey with the flag 0x08 (encrypt storage);
//  2. else the primary key, if it has that flag;
//  3. else the newest subkey with only 0x04 (encrypt communications), if it does not
//     expire within a year, and last the primary key under the same condition.
//
// For a correspondent's mail it is the subkey with the flag 0x04 that expires first, so
// that what rotates is used while it lives; else the primary key with that flag; else
// what is for storage alone.
//
// Only what is valid, neither revoked nor expired, and not from the future counts.
// "Newest" is by the creation of the subkey, then of its binding: extending an old
// subkey does not bring it back before the one that replaced it.
func (c *Certificate) chooseFor(p Purpose, now time.Time) (recipient, error) {
	self, until, err := c.primaryAt(now)
	if err != nil {
		return recipient{}, err
	}
	var best choice
	var whyNot error
	for i := range c.subkeys {
		s := &c.subkeys[i]
		b, expires, err := s.at(now)
		if err != nil {
			whyNot = worse(whyNot, err)
			continue
		}
		next := choice{key: s.key, expires: sooner(expires, until), bound: b.created}
		next.rank = p.rank(flagsOf(b, s.material.onlyEncrypts()), next.expires, now, false)
		if next.rank > best.rank || next.rank == best.rank && next.rank != rankNone && p.prefers(next, best) {
			best = next
		}
	}
	if c.material.canEncrypt() {
		if r := p.rank(flagsOf(self, false), until, now, true); r > best.rank {
			best = choice{key: c.primary, expires: until, rank: r}
		}
	}
	if best.rank == rankNone {
		return recipient{}, c.noSubkey(whyNot)
	}
	return recipient{key: best.key, expires: best.expires, aead: self.aead, suites: self.suites}, nil
}

// rank says how good a key with these flags is for the purpose.
func (p Purpose) rank(flags byte, expires, now time.Time, primary bool) rank {
	if p == Communication {
		switch {
		case flags&flagEncryptCommunications != 0 && primary:
			return rankPrimary
		case flags&flagEncryptCommunications != 0:
			return rankSubkey
		case flags&flagEncryptStorage != 0:
			return rankStorageAlone
		}
		return rankNone
	}
	if primary {
		return rankOf(flags, expires, now, rankPrimaryStorage, rankPrimaryCommunications)
	}
	return rankOf(flags, expires, now, rankStorage, rankCommunications)
}

// prefers says whether a is better than b, which has the same rank.
func (p Purpose) prefers(a, b choice) bool {
	if p == Communication && !a.expires.Equal(b.expires) {
		return sooner(a.expires, b.expires).Equal(a.expires)
	}
	return newerSubkey(a.key, a.bound, b.key, b.bound)
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
func (c *Certificate) Usable(now time.Time) error { return c.UsableFor(Storage, now) }

// UsableFor is Usable for a purpose.
func (c *Certificate) UsableFor(p Purpose, now time.Time) error {
	_, err := c.chooseFor(p, now)
	return err
}

// HasKey says whether one of the certificate's keys that can encrypt has this key ID or
// fingerprint, in upper-case hex as an Inspection has it. Expired and revoked ones count:
// what was encrypted to them was meant for this certificate's owner.
func (c *Certificate) HasKey(id string) bool {
	is := func(k *packet.PublicKey) bool { return k.KeyIdString() == id || fingerprintHex(k.Fingerprint) == id }
	for i := range c.subkeys {
		if is(c.subkeys[i].key) {
			return true
		}
	}
	return c.material.canEncrypt() && is(c.primary)
}

// SubkeyExpires is until when mail can be sealed to the key that is used at now:
// the first expiry of the subkey, of its binding and of the certificate. ok is
// false if it never expires, or if there is no such key.
func (c *Certificate) SubkeyExpires(now time.Time) (t time.Time, ok bool) {
	return c.SubkeyExpiresFor(Storage, now)
}

// SubkeyExpiresFor is SubkeyExpires for a purpose.
func (c *Certificate) SubkeyExpiresFor(p Purpose, now time.Time) (t time.Time, ok bool) {
	r, err := c.chooseFor(p, now)
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
