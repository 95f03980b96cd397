package keydir

import (
	"context"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
)

// Trust is how much the source of a certificate is believed. A greater trust is a
// stronger one; a weaker source never replaces a stronger one's certificate.
type Trust uint8

// The five steps, and the zero value, which nothing that was found has.
const (
	NoTrust    Trust = iota
	Unverified       // key servers: anybody could have put it there
	Observed         // Autocrypt in mail that DMARC aligned with its author
	Published        // the domain itself says so: WKD, DANE
	Own              // an account of this gateway
	Pinned           // the operator or the account's owner said so
)

func (t Trust) String() string {
	names := [...]string{"none", "unverified", "observed", "published", "own", "pinned"}
	if int(t) < len(names) {
		return names[t]
	}
	return "invalid"
}

// Source is one place where certificates of other people's addresses are found.
type Source interface {
	// Name is "wkd", "dane", "vks", "hkp" or "autocrypt": a word for logs, metrics,
	// the configuration and explain.
	Name() string
	Trust() Trust
	// Lookup asks for the certificates of an address. Found certificates were filtered:
	// each has the address in a user ID, and no other user IDs. No certificates and no
	// error means None: there is none, for certain. An error means Unknown, and its
	// text says why, for explain and the log; it names no address.
	Lookup(ctx context.Context, address mail.Address) (Finding, error)
}

// Finding is what a source answered.
type Finding struct {
	Certificates []*pgp.Certificate
	// Lifetime is how long the source itself says its answer is good for; zero if it
	// says nothing.
	Lifetime time.Duration
	// Detail is how it was found or not, in a few words: "advanced method, 404".
	Detail string
}
