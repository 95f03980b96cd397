package keydir

import (
	"fmt"
	"sync"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
)

// Answer is what the directory knows of an address. It is shared and never changed.
type Answer struct {
	Kind mail.Answer
	// Source and Trust say where the certificate is from; empty unless Kind is Found.
	Source string
	Trust  Trust
	// Fingerprint names the certificate, or the last one that there was.
	Fingerprint string
	// Reason says why Kind is not Found, in words for the log and the operator.
	Reason string
	// Checked is when the sources were asked, and FreshUntil until when the answer is
	// as good as a new one.
	Checked, FreshUntil time.Time
	// Lost says that mail to this address could be encrypted before and cannot now. It
	// must never go in clear without a person's word.
	Lost bool
	// Candidate is the fingerprint of a certificate that waits for a person's decision;
	// Kind is Unknown then.
	Candidate string

	parsed *parsed
}

// parsed holds an answer's certificates, read when they are first needed: verifying one
// costs more than all the rest of a look-up.
type parsed struct {
	once sync.Once
	rows []store.Certificate
	// lenient leaves out what cannot be read, as long as something can.
	lenient bool
	certs   []*pgp.Certificate
	err     error
}

// Certificates returns the certificates that are usable at a time; a copy is sealed to
// each of them. An error means that there is none after all: the caller defers or holds.
func (a Answer) Certificates(now time.Time) ([]*pgp.Certificate, error) {
	if a.Kind != mail.Found || a.parsed == nil {
		return nil, fmt.Errorf("no certificate: %s", a.Reason)
	}
	a.parsed.once.Do(a.parsed.read)
	if a.parsed.err != nil {
		return nil, a.parsed.err
	}
	purpose := pgp.Communication
	if a.Trust == Own {
		purpose = pgp.Storage
	}
	usable, why := usableNow(a.parsed.certs, purpose, now)
	if len(usable) == 0 {
		return nil, why
	}
	return usable, nil
}

// Under is what the answer means where certificates have to be trusted so much, and those
// that can be used at a time. What could be encrypted to before and cannot now is not
// None: a person has to say that it may go in clear.
func (a Answer) Under(least Trust, now time.Time) (Answer, []*pgp.Certificate) {
	switch {
	case a.Lost:
		a.Kind = mail.Unknown
		a.Reason = "it could be encrypted to before and cannot now: " + a.Reason
		return a, nil
	case a.Kind != mail.Found:
		return a, nil
	case a.Trust < least:
		a.Kind = mail.None
		a.Reason = fmt.Sprintf("its certificate is only %v, and %v is required", a.Trust, least)
		return a, nil
	}
	certs, err := a.Certificates(now)
	if err != nil {
		a.Kind, a.Reason = mail.Unknown, err.Error()
	}
	return a, certs
}

func (p *parsed) read() {
	for _, row := range p.rows {
		certs, err := pgp.ParseCertificates(row.Data)
		if err != nil {
			p.err = fmt.Errorf("%s: %w", row.Fingerprint, err)
			if !p.lenient {
				return
			}
		}
		p.certs = append(p.certs, certs...)
	}
	if len(p.certs) > 0 {
		p.err = nil
	}
	p.rows = nil
}

// usableNow returns the certificates that can be sealed to, and why the others cannot.
func usableNow(certs []*pgp.Certificate, p pgp.Purpose, now time.Time) (usable []*pgp.Certificate, why error) {
	for _, c := range certs {
		if err := c.UsableFor(p, now); err != nil {
			why = fmt.Errorf("%s: %w", c.Fingerprint(), err)
			continue
		}
		usable = append(usable, c)
	}
	return usable, why
}
