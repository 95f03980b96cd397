package pgp

import (
	"cmp"
	"crypto"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Key flags (RFC 9580 5.2.3.29).
const (
	flagEncryptCommunications = 0x04
	flagEncryptStorage        = 0x08
)

// selfSignature is what a verified signature of the primary key says about a user
// ID, a subkey or the certificate itself. The zero expires means never.
type selfSignature struct {
	created   time.Time
	expires   time.Time     // of the signature
	keyLife   time.Duration // of the key, from the key's creation; 0 is for ever
	flags     byte          // 0x04 and 0x08 only
	hasFlags  bool
	primaryID bool // marks the primary user ID
	aead      bool // feature SEIPD version 2
	suites    [][2]uint8
}

// newSelfSignature copies the fields that matter, so that nothing of the library,
// which writes into its own structures when it reads them, is shared.
func newSelfSignature(sig *packet.Signature) selfSignature {
	s := selfSignature{
		created:   sig.CreationTime,
		hasFlags:  sig.FlagsValid,
		primaryID: sig.IsPrimaryId != nil && *sig.IsPrimaryId,
		aead:      sig.SEIPDv2,
		suites:    sig.PreferredCipherSuites,
	}
	if sig.FlagEncryptCommunications {
		s.flags |= flagEncryptCommunications
	}
	if sig.FlagEncryptStorage {
		s.flags |= flagEncryptStorage
	}
	s.expires = signatureExpires(sig)
	if sig.KeyLifetimeSecs != nil {
		s.keyLife = time.Duration(*sig.KeyLifetimeSecs) * time.Second
	}
	return s
}

func signatureExpires(sig *packet.Signature) time.Time {
	if sig.SigLifetimeSecs == nil || *sig.SigLifetimeSecs == 0 {
		return time.Time{}
	}
	return sig.CreationTime.Add(time.Duration(*sig.SigLifetimeSecs) * time.Second)
}

// holds says whether the signature counts at now.
func (s *selfSignature) holds(now time.Time) bool {
	return !s.created.After(now) && !passed(s.expires, now)
}

// keyExpires is when a key created then expires by this signature; zero is never.
func (s *selfSignature) keyExpires(created time.Time) time.Time {
	if s.keyLife == 0 {
		return time.Time{}
	}
	return created.Add(s.keyLife)
}

// passed says whether the moment t, if there is one, is over at now.
func passed(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// sooner returns the earlier of two moments of which zero means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// newest returns the newest signature that holds at now, or nil. The list is
// sorted, newest first.
func newest(sigs []selfSignature, now time.Time) *selfSignature {
	for i := range sigs {
		if sigs[i].holds(now) {
			return &sigs[i]
		}
	}
	return nil
}

func sortNewestFirst(sigs []selfSignature) {
	slices.SortStableFunc(sigs, func(a, b selfSignature) int { return b.created.Compare(a.created) })
}

// revocation is a verified revocation signature.
type revocation struct {
	created time.Time
	expires time.Time
	hard    bool // the key is to be distrusted for all time (RFC 9580 5.2.3.31)
}

// newRevocation reads the reason. None given, and one we do not know, count as
// compromise: the safe side.
func newRevocation(sig *packet.Signature) revocation {
	r := revocation{created: sig.CreationTime, expires: signatureExpires(sig), hard: true}
	if sig.RevocationReason != nil {
		switch *sig.RevocationReason {
		case packet.KeySuperseded, packet.KeyRetired, packet.UserIDNotValid:
			r.hard = false
		}
	}
	return r
}

// revoked says whether a key whose self-signature was made at signed is revoked at
// now. A soft revocation counts from its date on and is undone by a newer
// self-signature; a hard one counts backwards and for ever.
func revoked(list []revocation, signed, now time.Time) bool {
	for _, r := range list {
		if r.hard || !r.created.After(now) && !passed(r.expires, now) && !r.created.Before(signed) {
			return true
		}
	}
	return false
}

// verifier checks self-signatures within a budget of public-key operations.
type verifier struct {
	primary *packet.PublicKey
	version int
	left    int
}

// candidate says whether sig may be a self-signature: of the version that belongs
// to the key, issued by it, with a hash that is no toy, without a critical
// notation (we know none, RFC 9580 5.2.3.24).
func (v *verifier) candidate(sig *packet.Signature) bool {
	if sig.Version != v.version || !sig.CheckKeyIdOrFingerprint(v.primary) {
		return false
	}
	if sig.Hash == crypto.MD5 || sig.Hash == crypto.RIPEMD160 || sig.PubKeyAlgo != v.primary.PubKeyAlgo {
		return false
	}
	for _, n := range sig.Notations {
		if n.IsCritical {
			return false
		}
	}
	return true
}

// keep returns those of sigs that check accepts, or ErrTooLarge when the budget is
// used up.
func (v *verifier) keep(sigs []*packet.Signature, check func(*packet.Signature) error) ([]*packet.Signature, error) {
	kept := sigs[:0]
	for _, sig := range sigs {
		cost := 1
		if sig.FlagSign {
			cost = 2 // the cross signature of a signing subkey
		}
		if v.left -= cost; v.left < 0 {
			return nil, ErrTooLarge
		}
		if check(sig) == nil {
			kept = append(kept, sig)
		}
	}
	return kept, nil
}

// split separates self-signatures from revocations by type.
func split(sigs []*packet.Signature, revocationType packet.SignatureType) (self []selfSignature, revs []revocation) {
	for _, sig := range sigs {
		if sig.SigType == revocationType {
			revs = append(revs, newRevocation(sig))
		} else {
			self = append(self, newSelfSignature(sig))
		}
	}
	sortNewestFirst(self)
	slices.SortFunc(revs, func(a, b revocation) int { return cmp.Or(a.created.Compare(b.created)) })
	return self, revs
}
