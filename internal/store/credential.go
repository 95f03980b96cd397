package store

import (
	"context"
	"fmt"
	"time"
)

// AddCredential stores a credential and returns it with its id and time.
// ErrNotFound: there is no such account.
func (s *Store) AddCredential(ctx context.Context, c Credential) (Credential, error) {
	c.ID = s.NewID()
	err := s.write(ctx, func(t *tx) error {
		if _, err := t.account(c.Account); err != nil {
			return err
		}
		c.Created, c.LastUsed = fromMicros(micros(t.now)), time.Time{}
		_, err := t.exec(`INSERT INTO credentials (id, account, label, human, salt, iterations,
			stored_key, server_key, created, last_used) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)`,
			c.ID, c.Account, c.Label, truth(c.Human), octets(c.Salt), c.Iterations,
			octets(c.StoredKey), octets(c.ServerKey), micros(c.Created))
		return err
	})
	if err != nil {
		return Credential{}, fmt.Errorf("add credential: %w", err)
	}
	return c, nil
}

const selectCredentials = `SELECT c.id, c.account, c.label, c.human, c.salt, c.iterations, c.stored_key, c.server_key, c.created, c.last_used
	FROM credentials c `

// Credentials returns an account's credentials, the oldest first.
func (s *Store) Credentials(ctx context.Context, account ID) ([]Credential, error) {
	return s.credentials(ctx, selectCredentials+`WHERE c.account = $1 ORDER BY c.id`, account)
}

// CredentialsOf returns the credentials of the account whose address has this
// mail.Address.Key, the oldest first: none if there is no account.
func (s *Store) CredentialsOf(ctx context.Context, addressKey string) ([]Credential, error) {
	return s.credentials(ctx, selectCredentials+`JOIN accounts a ON a.id = c.account
		WHERE a.address_key = $1 AND a.removed = 0 ORDER BY c.id`, addressKey)
}

func (s *Store) credentials(ctx context.Context, query string, key any) ([]Credential, error) {
	var all []Credential
	err := s.read(ctx, func(c *session) error {
		return c.each(func(r scanner) error {
			var c Credential
			var created, used int64
			err := r.Scan(&c.ID, &c.Account, &c.Label, &c.Human, &c.Salt, &c.Iterations,
				&c.StoredKey, &c.ServerKey, &created, &used)
			c.Created, c.LastUsed = fromMicros(created), fromMicros(used)
			all = append(all, c)
			return err
		}, query, key)
	})
	if err != nil {
		return nil, fmt.Errorf("list credentials: %w", err)
	}
	return all, nil
}

// RemoveCredential takes a credential away. ErrNotFound: the account has none
// with this id.
func (s *Store) RemoveCredential(ctx context.Context, account, id ID) error {
	err := s.write(ctx, func(t *tx) error {
		return t.must(`DELETE FROM credentials WHERE id = $1 AND account = $2`, id, account)
	})
	if err != nil {
		return fmt.Errorf("remove credential: %w", err)
	}
	return nil
}

// UseCredential records that a credential was used. Times are kept to the
// minute, so that a busy client costs one write a minute.
func (s *Store) UseCredential(ctx context.Context, id ID, at time.Time) error {
	minute := micros(at.Truncate(time.Minute))
	var last int64
	err := s.read(ctx, func(c *session) error {
		return c.get([]any{&last}, `SELECT last_used FROM credentials WHERE id = $1`, id)
	})
	if err == nil && last < minute {
		err = s.write(ctx, func(t *tx) error {
			_, err := t.exec(`UPDATE credentials SET last_used = $1
				WHERE id = $2 AND last_used < $1`, minute, id)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("record use of credential: %w", err)
	}
	return nil
}

// truth is how a bool is stored.
func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// octets is b, or empty instead of nil, which would be stored as NULL.
func octets(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
