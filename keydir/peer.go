package keydir

import (
	"time"

	"postern/internal/mail"
	"postern/internal/store"
)

// Sighting is what one message says of its author for Autocrypt. Whoever makes one has
// seen to it that the message is not one that the standard ignores, and that From is
// vouched for together with the rest of what is here.
type Sighting struct {
	// From is the single address of the From field.
	From mail.Address
	// Date is that of the Date field; zero if there is none that can be read.
	Date time.Time
	// Received is when the message came.
	Received time.Time
	// KeyData and Mutual are from the single valid Autocrypt field. KeyData is nil if
	// there is none, or more than one.
	KeyData []byte
	Mutual  bool
}

// effective is the effective date: Date, or the time of receipt if that is in the
// future or unavailable. To the second, as Date is.
func (s *Sighting) effective() time.Time {
	at := s.Date
	if at.IsZero() || at.After(s.Received) {
		at = s.Received
	}
	return at.UTC().Truncate(time.Second)
}

// update applies the rules of Autocrypt Level 1, "Updating Autocrypt Peer State", to
// what is known of a peer; the zero value is a peer of whom nothing is known. It is
// pure. The messages may come in any order; of two with the same date the last counts.
func update(p store.Peer, s Sighting) store.Peer {
	at := s.effective()
	if at.Before(p.KeySeen) { // (1)
		return p
	}
	if at.After(p.LastSeen) { // (2)
		p.LastSeen = at
	}
	if s.KeyData == nil { // (3)
		return p
	}
	p.KeySeen = at        // (4)
	p.KeyData = s.KeyData // (5)
	p.Mutual = s.Mutual   // (6)
	return p
}

// staleAfter is for how long a peer may write without an Autocrypt field before it is
// likely that they cannot read what is encrypted to the certificate seen last.
const staleAfter = 35 * 24 * time.Hour

// PeerState is what Autocrypt knows of a peer, as Recommend needs it. The zero value
// is a peer of whom nothing is known.
type PeerState struct {
	// Usable says that there is a certificate that can be encrypted to now.
	Usable bool
	// LastSeen is the date of the newest message, KeySeen that of the newest one with a
	// certificate.
	LastSeen, KeySeen time.Time
	// Mutual says that the peer wants encrypted mail from whoever wants it too.
	Mutual bool
}

// stale says whether the peer has written for long without a certificate since.
func (p PeerState) stale() bool { return p.LastSeen.Sub(p.KeySeen) > staleAfter }

// Recommendation is what Autocrypt recommends for mail to somebody. The zero value
// does not encrypt.
type Recommendation uint8

// The recommendations.
const (
	Disable    Recommendation = iota // it cannot be encrypted
	Discourage                       // it can be, and the recipient may be unable to read it
	Available                        // it can be, if the sender wants it
	Encrypt                          // it should be
)

func (r Recommendation) String() string {
	names := [...]string{"disable", "discourage", "available", "encrypt"}
	if int(r) < len(names) {
		return names[r]
	}
	return "invalid"
}

// Recommend computes the recommendation of Autocrypt Level 1 for one recipient. mutual
// is the sender's own preference; reply says that the message answers an encrypted one.
// A certificate that was only gossiped is never here, see Autocrypt.
func Recommend(p PeerState, mutual, reply bool) Recommendation {
	if !p.Usable {
		return Disable
	}
	preliminary := Available
	if p.stale() {
		preliminary = Discourage
	}
	if reply || preliminary == Available && p.Mutual && mutual {
		return Encrypt
	}
	return preliminary
}

// RecommendAll combines the recommendations for the recipients of one message. For no
// recipients it is Disable.
func RecommendAll(each []Recommendation) Recommendation {
	if len(each) == 0 {
		return Disable
	}
	encrypt, discourage := 0, false
	for _, r := range each {
		switch r {
		case Encrypt:
			encrypt++
		case Discourage:
			discourage = true
		case Available:
		default:
			return Disable
		}
	}
	switch {
	case encrypt == len(each):
		return Encrypt
	case discourage:
		return Discourage
	}
	return Available
}
