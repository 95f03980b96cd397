package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Known is what the key directory remembers of one address.
type Known struct {
	Address     string // mail.Address.Key
	Kind        uint8  // mail.Answer
	Source      string
	Trust       uint8
	Fingerprint string    // of the certificate in use, or of the last one; "" for none ever
	UsableUntil time.Time // zero: it does not expire
	Reason      string    // why Kind is not Found
	Checked     time.Time
	FreshUntil  time.Time
	Asked       time.Time // when somebody last wanted it
	Vanished    time.Time // since when its source has it no more; zero: it has it
	// Candidate is the fingerprint of a certificate that waits for a person's
	// decision; its octets are among the address's certificates.
	Candidate       string
	CandidateSource string
	// Rejected is the fingerprint that a person refused last.
	Rejected string
}

const knownColumns = `address, kind, source, trust, fingerprint, usable_until, reason, checked,
	fresh_until, asked, vanished, candidate, candidate_source, rejected`

// scanKnown reads a row of knownColumns.
func scanKnown(r scanner) (Known, error) {
	var k Known
	var usable, checked, fresh, asked, vanished int64
	err := r.Scan(&k.Address, &k.Kind, &k.Source, &k.Trust, &k.Fingerprint, &usable, &k.Reason, &checked,
		&fresh, &asked, &vanished, &k.Candidate, &k.CandidateSource, &k.Rejected)
	k.UsableUntil, k.Checked, k.FreshUntil = fromMicros(usable), fromMicros(checked), fromMicros(fresh)
	k.Asked, k.Vanished = fromMicros(asked), fromMicros(vanished)
	return k, err
}

// Known returns what is remembered of an address, or ErrNotFound.
func (s *Store) Known(ctx context.Context, addressKey string) (Known, error) {
	var k Known
	found := false
	err := s.read(ctx, func(c *session) error {
		return c.each(func(r scanner) (err error) {
			found = true
			k, err = scanKnown(r)
			return err
		}, `SELECT `+knownColumns+` FROM directory WHERE address = $1`, addressKey)
	})
	if err != nil {
		return Known{}, fmt.Errorf("read directory: %w", err)
	}
	if !found {
		return Known{}, ErrNotFound
	}
	return k, nil
}

// StaleKnown returns at most limit addresses whose answer ends before a time and that
// somebody wanted since another, the first to end first.
func (s *Store) StaleKnown(ctx context.Context, before, askedSince time.Time, limit int) ([]Known, error) {
	return s.listKnown(ctx, `WHERE fresh_until < $1 AND asked >= $2 ORDER BY fresh_until LIMIT $3`,
		micros(before), micros(askedSince), limit)
}

// HeldKnown returns the addresses for which a certificate waits for a person.
func (s *Store) HeldKnown(ctx context.Context) ([]Known, error) {
	return s.listKnown(ctx, `WHERE candidate <> '' ORDER BY address`)
}

func (s *Store) listKnown(ctx context.Context, where string, args ...any) ([]Known, error) {
	var all []Known
	err := s.read(ctx, func(c *session) error {
		return c.each(func(r scanner) error {
			k, err := scanKnown(r)
			all = append(all, k)
			return err
		}, `SELECT `+knownColumns+` FROM directory `+where, args...)
	})
	if err != nil {
		return nil, fmt.Errorf("list directory: %w", err)
	}
	return all, nil
}

// Learned is one change of what is remembered: all of it is written, or nothing.
type Learned struct {
	Known Known
	// Certificates replace those of the address. Nil leaves them as they are.
	Certificates []Certificate
	Audit        []Audit
	// Was is Checked of the row that the change was computed from, zero if there was
	// none. If the row is another by now, Learn returns ErrExists and writes nothing:
	// another node was faster.
	Was time.Time
}

// Learn writes what was learned of an address.
func (s *Store) Learn(ctx context.Context, l Learned) error {
	err := s.write(ctx, func(t *tx) error {
		if err := t.checkWas(l); err != nil {
			return err
		}
		if err := t.putKnown(l.Known); err != nil {
			return err
		}
		if l.Certificates != nil {
			if err := t.putCertificates(l.Known.Address, l.Certificates); err != nil {
				return err
			}
		}
		return t.insertAudit(l.Audit)
	})
	if err != nil {
		return fmt.Errorf("learn: %w", err)
	}
	return nil
}

func (t *tx) checkWas(l Learned) error {
	var checked int64
	err := t.get([]any{&checked}, `SELECT checked FROM directory WHERE address = $1`, l.Known.Address)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if checked != micros(l.Was) {
		return ErrExists
	}
	return nil
}

func (t *tx) putKnown(k Known) error {
	_, err := t.exec(`INSERT INTO directory (`+knownColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
		ON CONFLICT (address) DO UPDATE SET kind = $2, source = $3, trust = $4, fingerprint = $5,
		usable_until = $6, reason = $7, checked = $8, fresh_until = $9, asked = $10, vanished = $11,
		candidate = $12, candidate_source = $13, rejected = $14`,
		k.Address, k.Kind, k.Source, k.Trust, k.Fingerprint, micros(k.UsableUntil), k.Reason, micros(k.Checked),
		micros(k.FreshUntil), micros(k.Asked), micros(k.Vanished), k.Candidate, k.CandidateSource, k.Rejected)
	if err != nil {
		return fmt.Errorf("write directory: %w", err)
	}
	return nil
}

func (t *tx) putCertificates(address string, certs []Certificate) error {
	if _, err := t.exec(`DELETE FROM certificates WHERE address = $1`, address); err != nil {
		return fmt.Errorf("replace certificates: %w", err)
	}
	for _, c := range certs {
		at := c.Added
		if at.IsZero() {
			at = t.now
		}
		_, err := t.exec(`INSERT INTO certificates (id, address, fingerprint, data, source, added)
			VALUES ($1, $2, $3, $4, $5, $6)`, t.store.NewID(), address, c.Fingerprint, c.Data, c.Source, micros(at))
		if err != nil {
			return fmt.Errorf("write certificate: %w", err)
		}
	}
	return nil
}
