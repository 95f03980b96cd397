// Package auth answers who a user is: passwords, SCRAM-SHA-256 with and without
// channel binding, app passwords, and delays for those who guess.
//
//	auth.go      what goes in and out: Authenticator, Directory, Credential, Identity
//	password.go  a password in clear inside TLS (LOGIN, PLAIN)
//	scram.go     SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677)
//	message.go   reads SCRAM's messages
//	binding.go   channel binding (RFC 9266, RFC 5929)
//	derive.go    makes credentials and passwords
//	throttle.go  growing delays by network and by account
//	confirm.go   whether a login still holds
//	cache.go     remembers app passwords that were verified a moment ago
//
// A password is never stored, logged or put into an error. What is stored are
// SCRAM's StoredKey and ServerKey, from which neither the password nor SCRAM's
// ClientKey can be computed. The ClientKey exists only during one call of
// ScramServer.Next or Password.
//
// Two kinds of credential exist. An app password is made here from 128 random
// bits; stretching would add nothing, so it has 4096 iterations and costs about a
// millisecond. All app passwords of an account share one salt: SCRAM's server
// sends the salt before it can know which of them the client holds, and then
// tries the proof against each. The passwords that a person chose have 600,000
// iterations, and share another salt. They work with LOGIN and PLAIN, and with SCRAM
// only if the account has no app password, because SCRAM has room for one salt.
//
// Logins that do not exist are answered as those that do: the same errors, a
// salt that stays the same, the same work. A wrong password costs one derivation of
// each kind, whatever passwords there are and whether or not there is an account:
// else the time would tell who exists, and whose password is worth guessing. The
// price is a fifth of a second for a guess at nobody. It is bounded: by throttle,
// which has a network wait after a few failures, and by the few turns for such
// derivations, which leave the app passwords theirs.
//
// Preparation of strings is OpaqueString of RFC 8265, not the SASLprep of RFC
// 5802 that it replaces. They agree on ASCII, so on all app passwords; they can
// differ for compatibility characters such as ligatures in a human-chosen
// password used with SCRAM.
//
// The package does not know SMTP, IMAP or the database, and never waits except
// for a turn to stretch a password.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"time"

	"postern/internal/telemetry"
)

// ErrRejected says that login and password do not belong together. It does not
// say whether the login exists.
var ErrRejected = errors.New("login or password is wrong")

// ErrThrottled says that too many attempts failed before this one, which was not
// looked at.
type ErrThrottled struct {
	Wait time.Duration // until the next attempt is looked at; more than 0
}

func (e *ErrThrottled) Error() string {
	return fmt.Sprintf("too many failed attempts: try again in %v", e.Wait.Round(time.Second))
}

// Credential is one password of one account, in the form SCRAM stores it.
type Credential struct {
	ID      int64
	Account string // the account's address in its one canonical spelling
	// Human says that a person chose the password. False promises at least 96
	// random bits: such a credential is never held back because of failed guesses.
	Human      bool
	Salt       []byte
	Iterations int
	StoredKey  []byte // H(ClientKey), 32 octets
	ServerKey  []byte // 32 octets
}

// Identity is the answer: who logged in, and with which credential.
type Identity struct {
	Login      string // Credential.Account
	Credential int64  // Credential.ID
}

// Directory knows the accounts.
type Directory interface {
	// Credentials returns all credentials of the account that login names, in any
	// spelling the directory accepts. An unknown login is an empty answer; an error
	// means that the directory could not look, and no login succeeds.
	Credentials(ctx context.Context, login string) ([]Credential, error)
	// Used is called after each successful login. It must not wait long.
	Used(ctx context.Context, c Credential)
}

// Options is what an Authenticator is made from.
type Options struct {
	Directory Directory
	// Secret makes the salts of logins that do not exist. It must stay the same
	// over restarts and on all nodes. If empty, a random one is used, and such
	// logins can be recognised by a salt that changes with the process.
	Secret []byte
	// Certificate returns the leaf certificate this server showed on the
	// connection, or nil. It is needed for tls-server-end-point, which binds
	// connections older than TLS 1.3; without it they get no -PLUS.
	Certificate func(*tls.ConnectionState) *x509.Certificate
	Now         func() time.Time // nil: time.Now
	Rand        io.Reader        // nonces; nil: crypto/rand
	Log         *slog.Logger     // nil: none. Never gets a login or a password
}

// Authenticator decides who may log in. It is safe for concurrent use.
type Authenticator struct {
	o        Options
	throttle *throttle
	verified *cache
	quick    chan struct{} // a turn to derive with few iterations
	slow     chan struct{} // a turn to derive with many
	// stretch is the work of looking at a chosen password that is not there:
	// HumanIterations.
	stretch int
}

// quickIterations is the most that derivations with a turn in quick may have.
const quickIterations = 10_000

// New returns an Authenticator.
func New(o Options) *Authenticator {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(o.Secret) == 0 {
		o.Secret = randomBytes(32)
	}
	cores := runtime.GOMAXPROCS(0)
	return &Authenticator{
		o:        o,
		throttle: newThrottle(o.Now),
		verified: newCache(o.Now),
		stretch:  HumanIterations,
		quick:    make(chan struct{}, cores),
		// A flood of guesses must leave a core for mail.
		slow: make(chan struct{}, min(2, max(1, cores-1))),
	}
}

// record writes down how an attempt ended. The login is left out: the address is
// nobody's business, and a mistyped login is often a password.
func (a *Authenticator) record(ctx context.Context, ip netip.Addr, mechanism, result string, credential int64) {
	level := slog.LevelInfo
	if result == "accepted" {
		level = slog.LevelDebug
	}
	a.o.Log.LogAttrs(ctx, level, "authentication",
		slog.String(telemetry.KeyResult, result), slog.String(telemetry.KeyMethod, mechanism),
		slog.String(telemetry.KeyIP, ip.String()), slog.Int64("credential", credential))
}
