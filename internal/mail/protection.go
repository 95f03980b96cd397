package mail

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

// Order is what is wanted for one recipient, complete with what to do when there
// is no certificate. The zero value refuses everything.
type Order struct {
	// Floor is the weakest level at which the copy may exist: Clear or stronger. An
	// order without one refuses.
	Floor Level
	// NoCertificate is Held or Refused: what becomes of clear mail when the
	// directory answers None.
	NoCertificate Level
	// NotKnown is Held or Deferred: the same for Unknown.
	NotKnown Level
}

// Inbound is the order for mail that comes to rest with us: sealed, or held.
func Inbound() Order { return Order{Floor: Held, NoCertificate: Held, NotKnown: Held} }

// Protection is a decision about one copy. Only Protect makes one; the zero value
// refuses. The store takes nothing without it (P3).
type Protection struct{ level Level }

// Protect decides the protection of one recipient's copy that is to lie in a
// mailbox here. It is the only place where this is decided.
func Protect(o Order, c Content, a Answer) Protection {
	level := atRest(o, c, a)
	if level > Deferred && level < o.Floor && level != Notice {
		level = Refused
	}
	return Protection{level}
}

func atRest(o Order, c Content, a Answer) Level {
	switch {
	case o.Floor < Clear:
		return Refused
	case c == ContentEncrypted:
		return EndToEnd
	case a == Found:
		return Sealed
	case c == ContentNotice:
		return Notice
	case a == None:
		return fallback(o.NoCertificate)
	default:
		return fallback(o.NotKnown)
	}
}

// fallback lets an order name nothing but these as its way out.
func fallback(l Level) Level {
	if l == Held || l == Deferred {
		return l
	}
	return Refused
}

// Level returns the decided level.
func (p Protection) Level() Level { return p.level }

// MayRest reports whether a copy so protected may be written to the store.
func (p Protection) MayRest() bool {
	switch p.level {
	case Notice, Held, Sealed, EndToEnd:
		return true
	}
	return false
}
