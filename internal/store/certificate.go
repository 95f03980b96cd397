package store

import (
	"context"
	"errors"
	"fmt"
)

// AddCertificate stores a certificate, with what the history says of it, and returns it
// with its id and time. ErrExists: the address has one with this fingerprint;
// ReplaceCertificate takes newer octets of it.
func (s *Store) AddCertificate(ctx context.Context, c Certificate, history ...Audit) (Certificate, error) {
	if c.Address == "" || c.Fingerprint == "" || len(c.Data) == 0 {
		return Certificate{}, fmt.Errorf("add certificate: %w: incomplete", ErrInvalid)
	}
	c.ID = s.NewID()
	err := s.write(ctx, func(t *tx) error {
		c.Added = fromMicros(micros(t.now))
		n, err := t.exec(`INSERT INTO certificates (id, address, fingerprint, data, source, added)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (address, fingerprint) DO NOTHING`,
			c.ID, c.Address, c.Fingerprint, c.Data, c.Source, micros(c.Added))
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrExists
		}
		return t.insertAudit(history)
	})
	if err != nil {
		return Certificate{}, fmt.Errorf("add certificate: %w", err)
	}
	return c, nil
}

// ReplaceCertificate replaces the octets and the source of the certificate with
// this address and fingerprint, with what the history says of that, and returns it.
// ErrNotFound: there is none.
func (s *Store) ReplaceCertificate(ctx context.Context, c Certificate, history ...Audit) (Certificate, error) {
	if len(c.Data) == 0 {
		return Certificate{}, fmt.Errorf("replace certificate: %w: no octets", ErrInvalid)
	}
	err := s.write(ctx, func(t *tx) error {
		var added int64
		err := t.get([]any{&c.ID, &added}, `SELECT id, added FROM certificates
			WHERE address = $1 AND fingerprint = $2`, c.Address, c.Fingerprint)
		if err != nil {
			return err
		}
		c.Added = fromMicros(added)
		err = t.must(`UPDATE certificates SET data = $1, source = $2 WHERE id = $3`, c.Data, c.Source, c.ID)
		if err != nil {
			return err
		}
		return t.insertAudit(history)
	})
	if err != nil {
		return Certificate{}, fmt.Errorf("replace certificate: %w", err)
	}
	return c, nil
}

// Certificates returns the certificates of the address with this
// mail.Address.Key, the oldest first.
func (s *Store) Certificates(ctx context.Context, addressKey string) ([]Certificate, error) {
	return s.listCertificates(ctx, `WHERE address = $1 ORDER BY id`, addressKey)
}

// AllCertificates returns every certificate, by address and age.
func (s *Store) AllCertificates(ctx context.Context) ([]Certificate, error) {
	return s.listCertificates(ctx, `ORDER BY address, id`)
}

func (s *Store) listCertificates(ctx context.Context, where string, args ...any) ([]Certificate, error) {
	var all []Certificate
	err := s.read(ctx, func(c *session) error {
		return c.each(func(r scanner) error {
			var c Certificate
			var added int64
			err := r.Scan(&c.ID, &c.Address, &c.Fingerprint, &c.Data, &c.Source, &added)
			c.Added = fromMicros(added)
			all = append(all, c)
			return err
		}, `SELECT id, address, fingerprint, data, source, added FROM certificates `+where, args...)
	})
	if err != nil {
		return nil, fmt.Errorf("list certificates: %w", err)
	}
	return all, nil
}

// RemoveCertificate takes a certificate away, or returns ErrNotFound.
func (s *Store) RemoveCertificate(ctx context.Context, addressKey, fingerprint string) error {
	err := s.write(ctx, func(t *tx) error {
		return t.must(`DELETE FROM certificates WHERE address = $1 AND fingerprint = $2`,
			addressKey, fingerprint)
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("remove certificate: %w", err)
	}
	return err
}
