package mail

import "slices"

// Level is how strongly one copy is protected: the ladder. A greater level is a
// stronger one. The names are those of the documentation and the metrics.
type Level uint8

// The levels. Refused is the zero value: what nobody decided goes nowhere.
const (
	Refused  Level = iota
	Deferred       // not now: an answer is missing
	Notice         // the gateway's own words, with nothing of anybody's message
	Clear          // clear text, marked insecure
	TLSOnly        // clear text over verified TLS
	Held           // sealed to the gateway until its owner has a certificate
	Sealed         // encrypted by this gateway to the recipient's certificate
	EndToEnd       // encrypted by the sender's own software
)

func (l Level) String() string {
	names := [...]string{"refused", "deferred", "notice", "clear", "tls", "held", "sealed", "end-to-end"}
	if int(l) < len(names) {
		return names[l]
	}
	return "invalid"
}

// Called returns what people are told a copy of this level is: in replies, reports and
// the documentation.
func (l Level) Called() string {
	switch l {
	case Clear:
		return "insecure"
	case TLSOnly:
		return "transport only"
	}
	return l.String()
}

// Content says what the bytes of a message are, as found by parsing them.
type Content uint8

// The kinds of content. The zero value is clear text, the one that needs care.
const (
	ContentClear     Content = iota
	ContentEncrypted         // OpenPGP or S/MIME ciphertext
	ContentNotice            // composed by the gateway itself
)

// Answer is what the key directory says of a recipient.
type Answer uint8

// The answers. The zero value is Unknown: an answer that was never given.
const (
	Unknown Answer = iota // nobody knows: a timeout, a broken reply
	None                  // there is no usable certificate, for certain
	Found                 // there is one
)

// Order is what is wanted for one recipient's copy, complete with what to do when
// there is no certificate. The zero value refuses everything.
type Order struct {
	// Floor is the weakest level at which the copy may exist: Clear or stronger. An
	// order without one refuses.
	Floor Level
	// Ceiling is the strongest level that is aimed at. Below Sealed, the gateway does
	// not encrypt and no certificate is looked for. Zero means none: as strong as can
	// be. What the sender's own software encrypted passes under every ceiling.
	Ceiling Level
	// MinTrust is the least trust of a certificate that counts; one with less is none.
	MinTrust Trust
	// NoCertificate is what becomes of clear content when there is no certificate, or
	// none is wanted: Held, Refused, or for mail that leaves TLSOnly or Clear.
	NoCertificate Level
	// NotKnown is Held or Deferred: the same when nobody knows whether there is one. It
	// never lets the copy go.
	NotKnown Level
	// Mixed says what becomes of a message that some recipients can get encrypted and
	// others cannot.
	Mixed Mixed
	// HideSubject replaces the Subject outside of what the gateway encrypts by "[...]".
	HideSubject bool
	// Prefix and Footer are added to the subject and the text of copies in clear; empty
	// for none.
	Prefix, Footer string
	// Rule names the rule that made the order, for explain, the log and the history.
	Rule string
	// Refusal is what the sender is told if the copy is refused, one line; empty for a
	// text of our own.
	Refusal string
}

// Mixed says what becomes of a message some of whose copies would be weaker than Sealed
// and others not.
type Mixed uint8

// The ways. The zero value is the default.
const (
	MixedSplit  Mixed = iota // each recipient gets what can be had for them
	MixedRefuse              // nobody gets it; the sender is told who has no certificate
)

// LocalRule is the rule of mail that comes to rest with us: no policy is asked.
const LocalRule = "local delivery"

// Inbound is the order for mail that comes to rest with us: sealed, or held.
func Inbound() Order {
	return Order{Floor: Held, NoCertificate: Held, NotKnown: Held, Rule: LocalRule}
}

// Protection is a decision about one copy. Only Protect makes one; the zero value
// refuses. The store takes nothing without it, neither for a mailbox nor for the queue (P3).
type Protection struct{ level Level }

// Protect decides the protection of one recipient's copy. It is the only place where
// this is decided.
func Protect(o Order, c Content, a Answer) Protection {
	level := decide(o, c, a)
	switch level {
	case Refused, Deferred, Notice:
	case Held: // waits, and is decided anew before it goes anywhere
	default:
		if level < o.Floor {
			level = Refused
		}
	}
	return Protection{level}
}

func decide(o Order, c Content, a Answer) Level {
	wanted := o.Ceiling == 0 || o.Ceiling >= Sealed
	switch {
	case o.Floor < Clear, o.Floor > EndToEnd:
		return Refused
	case c == ContentEncrypted:
		return EndToEnd
	case wanted && a == Found:
		return Sealed
	case c == ContentNotice:
		return Notice
	case wanted && a != None:
		return fallback(o.NotKnown, Held, Deferred)
	default:
		return fallback(o.NoCertificate, Held, Deferred, TLSOnly, Clear)
	}
}

// fallback lets an order name nothing but the allowed as its way out.
func fallback(l Level, allowed ...Level) Level {
	if slices.Contains(allowed, l) {
		return l
	}
	return Refused
}

// Level returns the decided level.
func (p Protection) Level() Level { return p.level }

// MayRest reports whether a copy so protected may be written to a mailbox, or wait for
// its owner's certificate.
func (p Protection) MayRest() bool {
	switch p.level {
	case Notice, Held, Sealed, EndToEnd:
		return true
	}
	return false
}

// MayLeave reports whether a copy so protected may be written to the queue, to be
// carried to its next hop; or, if it is Held, to wait there until it is decided anew.
// What is weaker than Sealed lies there encrypted with a key of the gateway.
func (p Protection) MayLeave() bool {
	switch p.level {
	case Clear, TLSOnly, Held, Sealed, EndToEnd:
		return true
	}
	return false
}
