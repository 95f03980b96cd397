package store

import (
	"context"
	"fmt"

	"postern/internal/mail"
)

// Listed is one certificate of an account that publishes its certificates.
type Listed struct {
	Account     ID
	Address     mail.Address
	Fingerprint string // upper-case hex
}

// listBatch is how many rows Listed reads at once: a read that lasts would keep the
// log of the database from being written back.
const listBatch = 2000

// SetPublished says whether an account's certificates are published. They are unless
// somebody says no. ErrNotFound: there is no such account.
func (s *Store) SetPublished(ctx context.Context, account ID, on bool) error {
	value := 0
	if on {
		value = 1
	}
	err := s.write(ctx, func(t *tx) error {
		return t.must(`UPDATE accounts SET published = $1 WHERE id = $2 AND removed = 0`, value, account)
	})
	if err != nil {
		return fmt.Errorf("set published: %w", err)
	}
	return nil
}

// Listed calls each for every certificate that is published, account by account. What
// changes meanwhile may or may not be among them.
func (s *Store) Listed(ctx context.Context, each func(Listed) error) error {
	var batch []Listed
	for last := (Listed{}); ; last = batch[len(batch)-1] {
		batch = batch[:0]
		err := s.read(ctx, func(c *session) error {
			return c.each(func(r scanner) error {
				var l Listed
				err := r.Scan(&l.Account, &l.Address.Local, &l.Address.Domain, &l.Fingerprint)
				batch = append(batch, l)
				return err
			}, `SELECT a.id, a.local_part, a.domain, c.fingerprint
				FROM accounts a JOIN certificates c ON c.address = a.address_key
				WHERE a.id >= $1 AND (a.id > $1 OR c.fingerprint > $2)
					AND a.removed = 0 AND a.published = 1
				ORDER BY a.id, c.fingerprint LIMIT $3`, last.Account, last.Fingerprint, listBatch)
		})
		if err != nil {
			return fmt.Errorf("list published certificates: %w", err)
		}
		for _, l := range batch {
			if err := each(l); err != nil {
				return err
			}
		}
		if len(batch) < listBatch {
			return nil
		}
	}
}

// PublishedCertificates returns the address of an account and its certificates, the
// oldest first. ErrNotFound: it has none, does not publish them, or does not exist.
func (s *Store) PublishedCertificates(ctx context.Context, account ID) (mail.Address, []Certificate, error) {
	var address mail.Address
	var all []Certificate
	err := s.read(ctx, func(c *session) error {
		return c.each(func(r scanner) error {
			var c Certificate
			var added int64
			err := r.Scan(&address.Local, &address.Domain, &c.ID, &c.Address, &c.Fingerprint, &c.Data, &c.Source, &added)
			c.Added = fromMicros(added)
			all = append(all, c)
			return err
		}, `SELECT a.local_part, a.domain, c.id, c.address, c.fingerprint, c.data, c.source, c.added
			FROM accounts a JOIN certificates c ON c.address = a.address_key
			WHERE a.id = $1 AND a.removed = 0 AND a.published = 1 ORDER BY c.id`, account)
	})
	if err == nil && len(all) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return mail.Address{}, nil, fmt.Errorf("read published certificates: %w", err)
	}
	return address, all, nil
}
