// Package keydir is the key directory: given an address it says whether there is a
// usable certificate, which, and why it is believed.
//
// This version knows one source, the certificates that the operator or the account's
// owner imported (trust: own). It answers Found, None or Unknown; Unknown is
// never turned into None, and no answer is ever made up.
//
// It never contacts anybody, never sees a message and holds no secret key.
package keydir

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
)

// Store is where the directory's certificates lie. *store.Store is one.
type Store interface {
	Certificates(ctx context.Context, addressKey string) ([]store.Certificate, error)
}

// Answer is what the directory knows of an address.
type Answer struct {
	Kind mail.Answer
	// Certificates are all that are usable now; a copy is sealed to each of them.
	// Empty unless Kind is mail.Found.
	Certificates []*pgp.Certificate
	// Reason says why Kind is not Found, in words for the log and the operator.
	Reason string
}

// Directory answers look-ups. It is safe for concurrent use.
type Directory struct {
	store Store
	now   func() time.Time

	mu    sync.Mutex
	known map[string]entry
	epoch uint64 // counts Forget calls, so that a stale read is not remembered
}

type entry struct {
	certs []*pgp.Certificate
	err   error // of parsing, when certs is empty
}

// maxKnown bounds the memory of parsed certificates: about 2 KB each.
const maxKnown = 10_000

// New returns a directory over the given store.
func New(s Store, now func() time.Time) *Directory {
	return &Directory{store: s, now: now, known: make(map[string]entry)}
}

// Own looks up a hosted account's certificates. A certificate that cannot be used
// now (expired, revoked, no encryption subkey) is left out; if none remains the
// answer is None and says why. A store that fails gives Unknown.
func (d *Directory) Own(ctx context.Context, address mail.Address) Answer {
	e, err := d.load(ctx, address.Key())
	if err != nil {
		return Answer{Kind: mail.Unknown, Reason: err.Error()}
	}
	return choose(e, d.now())
}

func choose(e entry, now time.Time) Answer {
	if len(e.certs) == 0 {
		if e.err != nil {
			return Answer{Kind: mail.None, Reason: e.err.Error()}
		}
		return Answer{Kind: mail.None, Reason: "no certificate"}
	}
	var usable []*pgp.Certificate
	var why error
	for _, c := range e.certs {
		if err := c.Usable(now); err != nil {
			why = errors.Join(why, fmt.Errorf("%s: %w", c.Fingerprint(), err))
			continue
		}
		usable = append(usable, c)
	}
	if len(usable) == 0 {
		return Answer{Kind: mail.None, Reason: why.Error()}
	}
	return Answer{Kind: mail.Found, Certificates: usable}
}

// load returns the parsed certificates of an address, from memory if it can.
func (d *Directory) load(ctx context.Context, key string) (entry, error) {
	d.mu.Lock()
	e, ok := d.known[key]
	epoch := d.epoch
	d.mu.Unlock()
	if ok {
		return e, nil
	}
	rows, err := d.store.Certificates(ctx, key)
	if err != nil {
		return entry{}, fmt.Errorf("read certificates: %w", err)
	}
	for _, row := range rows {
		certs, err := pgp.ParseCertificates(row.Data)
		if err != nil {
			// It was accepted once; what cannot be read any more is left out, and said.
			e.err = fmt.Errorf("%s: %w", row.Fingerprint, err)
			continue
		}
		e.certs = append(e.certs, certs...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoch == epoch {
		if len(d.known) >= maxKnown {
			clear(d.known)
		}
		d.known[key] = e
	}
	return e, nil
}

// Forget drops what is remembered, so that the next look-up asks the store. It is
// called whenever certificates may have changed, by this process or another.
func (d *Directory) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.known)
	d.epoch++
}
