package keydir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
)

// Errors of the operations that a person asks for.
var (
	ErrNothingWaits = errors.New("no certificate waits for a decision")
	ErrUnusable     = errors.New("the certificate cannot be encrypted to")
)

// Pin makes a certificate the one for an address, above all sources.
func (d *Directory) Pin(ctx context.Context, address mail.Address, c *pgp.Certificate) error {
	now := d.Now()
	if err := c.UsableFor(pgp.Communication, now); err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	return d.decide(ctx, address, func(m *memory) (*Change, error) {
		change := &Change{Rule: RuleAccepted, Source: "pinned", Old: m.row.Fingerprint, New: c.Fingerprint()}
		m.use(c, "pinned", Pinned)
		m.row.Rejected = ""
		m.row.FreshUntil = now.Add(foundFor)
		return change, nil
	})
}

// Unpin lets the sources decide again about an address: what is known of it is
// forgotten, except for its history.
func (d *Directory) Unpin(ctx context.Context, address mail.Address) error {
	return d.decide(ctx, address, func(m *memory) (*Change, error) {
		if m.row.Fingerprint == "" {
			return nil, store.ErrNotFound
		}
		change := &Change{Rule: RuleRejected, Source: m.row.Source, Old: m.row.Fingerprint}
		m.rows, m.certs = nil, nil
		m.row.Fingerprint, m.row.Source, m.row.Trust, m.row.Candidate, m.row.CandidateSource = "", "", 0, "", ""
		m.row.Rejected = ""
		m.row.FreshUntil = d.Now() // the next look-up asks
		return change, nil
	})
}

// Accept uses the certificate that waits for an address. What was pinned stays pinned,
// to the new one.
func (d *Directory) Accept(ctx context.Context, address mail.Address) error {
	return d.decide(ctx, address, func(m *memory) (*Change, error) {
		c, err := m.candidate()
		if err != nil {
			return nil, err
		}
		change := &Change{Rule: RuleAccepted, Source: m.row.CandidateSource, Old: m.row.Fingerprint, New: c.Fingerprint()}
		m.use(c, m.row.CandidateSource, Pinned)
		return change, nil
	})
}

// Reject refuses the certificate that waits; mail goes on to the known one.
func (d *Directory) Reject(ctx context.Context, address mail.Address) error {
	return d.decide(ctx, address, func(m *memory) (*Change, error) {
		if m.row.Candidate == "" {
			return nil, ErrNothingWaits
		}
		change := &Change{Rule: RuleRejected, Source: m.row.CandidateSource, Old: m.row.Fingerprint, New: m.row.Candidate}
		m.row.Rejected, m.row.Candidate, m.row.CandidateSource = m.row.Candidate, "", ""
		return change, nil
	})
}

// candidate returns the certificate that waits.
func (m *memory) candidate() (*pgp.Certificate, error) {
	for _, r := range m.rows {
		if m.row.Candidate == "" || r.Fingerprint != m.row.Candidate {
			continue
		}
		certs, err := pgp.ParseCertificates(r.Data)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		return certs[0], nil
	}
	return nil, ErrNothingWaits
}

// decide applies what a person said, and keeps it in the history.
func (d *Directory) decide(ctx context.Context, address mail.Address, change func(*memory) (*Change, error)) error {
	key := address.Key()
	for range 3 {
		before, err := d.recall(ctx, key)
		if err != nil {
			return err
		}
		after := before.clone()
		after.row.Address = key
		c, err := change(&after)
		if err != nil {
			return err
		}
		now := d.Now()
		c.Address, c.Time = key, now
		after.row.Checked = now
		after.row.Vanished = time.Time{}
		after.keep(now)
		_, err = d.commit(ctx, before, after, c)
		if !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	return fmt.Errorf("%s is being looked up all the time, try again", key)
}

// History returns the changes of an address, the newest first.
func (d *Directory) History(ctx context.Context, address mail.Address) ([]Change, error) {
	rows, err := d.Store.AuditRows(ctx, address.Key(), 1000)
	if err != nil {
		return nil, err
	}
	var all []Change
	for _, r := range rows {
		var c Change
		if r.Kind == "certificate" && json.Unmarshal([]byte(r.Detail), &c) == nil {
			all = append(all, c)
		}
	}
	return all, nil
}
