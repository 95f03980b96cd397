package keydir

import (
	"errors"
	"fmt"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
)

// Cause is why a source does not know: a word for metrics and for explain.
type Cause string

// The causes.
const (
	CauseDNS       Cause = "dns"       // nobody knows the host's address, or the record
	CauseAddress   Cause = "address"   // the host's address is not one that is asked
	CauseConnect   Cause = "connect"   // no connection, or it broke
	CauseTLS       Cause = "tls"       // no valid TLS
	CauseTimeout   Cause = "timeout"   // no answer in time
	CauseStatus    Cause = "status"    // an HTTP status that says nothing about certificates
	CauseRedirect  Cause = "redirect"  // to where it is not followed, or in a loop
	CauseTooLarge  Cause = "too_large" // over a limit
	CauseContent   Cause = "content"   // not what was asked for
	CauseBusy      Cause = "busy"      // too many look-ups here
	CauseBackoff   Cause = "backoff"   // failed a short while ago, not asked
	CauseStore     Cause = "store"     // our own memory fails
	CauseCancelled Cause = "cancelled" // whoever asked went away
)

// Causes are all of them, for whoever counts by cause.
func Causes() []Cause {
	return []Cause{CauseDNS, CauseAddress, CauseConnect, CauseTLS, CauseTimeout, CauseStatus, CauseRedirect,
		CauseTooLarge, CauseContent, CauseBusy, CauseBackoff, CauseStore, CauseCancelled}
}

// SourceError is why a source does not know. All errors of the sources in this
// package are of this type.
type SourceError struct {
	Cause Cause
	// Detail says it in a few words of ours; it names no address and quotes nobody.
	Detail string
	// RetryAfter is how long the host asks to be left alone; zero if it does not.
	RetryAfter time.Duration
	// Err is what happened below, for errors.Is, or nil. Its text may quote the
	// peer and is not part of this one's.
	Err error

	// answered says that the host is well, and that only this question of it has no
	// answer.
	answered bool
}

// Error returns the detail.
func (e *SourceError) Error() string { return e.Detail }

// Unwrap returns what happened below.
func (e *SourceError) Unwrap() error { return e.Err }

// fault is whose fault an error is.
type fault uint8

const (
	faultNone     fault = iota // it is an answer
	faultOfHost                // it is not well, and is left alone for a while
	faultOfNobody              // nothing was learnt about it
)

// hostFault says whose fault an error of a question is.
func hostFault(err error) (fault, time.Duration) {
	var e *SourceError
	if !errors.As(err, &e) {
		return faultNone, 0
	}
	switch e.Cause {
	case CauseConnect, CauseTLS, CauseTimeout, CauseStatus, CauseTooLarge:
		if !e.answered {
			return faultOfHost, e.RetryAfter
		}
	case CauseCancelled, CauseBusy, CauseBackoff, CauseStore:
		return faultOfNobody, 0
	case CauseDNS, CauseAddress: // the resolver has a memory of its own
		return faultOfNobody, 0
	}
	return faultNone, 0
}

// unknown makes a SourceError.
func unknown(cause Cause, err error, format string, args ...any) *SourceError {
	return &SourceError{Cause: cause, Detail: fmt.Sprintf(format, args...), Err: err}
}

// survivors are those of the certificates in data that are for the address, with no
// other user ID in them. Expired and revoked ones are among them: which one counts
// is the directory's business. If there is none, detail says why, and it is an
// error unless it is certain that the data holds none that could be used:
//
//	what the data is                                outcome
//	no certificate, one that is cut off, garbage    Unknown
//	a secret key                                    Unknown
//	over a limit, such as 10,000 user IDs           Unknown
//	the address, but not signed by the key          Unknown
//	only algorithms we do not encrypt to            None
//	only certificates for other addresses           None
//	the address only in user IDs that are revoked   None
func survivors(data []byte, address mail.Address) (certs []*pgp.Certificate, detail string, err error) {
	certs, err = pgp.ParseFor(data, address.Key())
	switch {
	case err == nil:
		return certs, "", nil
	case errors.Is(err, pgp.ErrOtherAddress):
		return nil, "the certificate is for another address", nil
	case errors.Is(err, pgp.ErrRevoked):
		return nil, "the certificate's user ID for the address is revoked", nil
	case errors.Is(err, pgp.ErrAlgorithm), errors.Is(err, pgp.ErrWeak):
		return nil, "the certificate has no algorithm that is encrypted to here", nil
	case errors.Is(err, pgp.ErrTooLarge):
		return nil, "", unknown(CauseTooLarge, err, "the certificate is over the limits")
	case errors.Is(err, pgp.ErrSecretKey):
		return nil, "", unknown(CauseContent, err, "a secret key is published there")
	case errors.Is(err, pgp.ErrUnsigned):
		return nil, "", unknown(CauseContent, err, "the certificate is damaged or forged: no valid self-signature")
	}
	return nil, "", unknown(CauseContent, err, "what is published there is no OpenPGP certificate")
}
