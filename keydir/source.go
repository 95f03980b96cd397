package keydir

import (
	"context"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
)

// Trust is how much the source of a certificate is believed.
type Trust = mail.Trust

// The steps of trust.
const (
	NoTrust    = mail.NoTrust
	Unverified = mail.Unverified
	Observed   = mail.Observed
	Published  = mail.Published
	Own        = mail.Own
	Pinned     = mail.Pinned
)

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
