package store

import (
	"context"
	"fmt"
	"time"
)

// STSPolicy is what is remembered of a domain's MTA-STS policy (RFC 8461).
type STSPolicy struct {
	ID   string // of the TXT record when it was fetched
	Text []byte // as the domain publishes it
	// Until Expires it holds; from Refresh on it is to be fetched again.
	Fetched, Expires, Refresh time.Time
	Used                      time.Time // when mail went by it last
}

// STSPolicy returns what is remembered of a domain's policy, expired or not, or
// ErrNotFound.
func (s *Store) STSPolicy(ctx context.Context, domain string) (STSPolicy, error) {
	var p STSPolicy
	err := s.read(ctx, func(c *session) error {
		var fetched, expires, refresh, used int64
		err := c.get([]any{&p.ID, &p.Text, &fetched, &expires, &refresh, &used},
			`SELECT id, text, fetched, expires, refresh, used FROM sts_policies WHERE domain = $1`, domain)
		p.Fetched, p.Expires, p.Refresh, p.Used = fromMicros(fetched), fromMicros(expires), fromMicros(refresh), fromMicros(used)
		return err
	})
	if err != nil {
		return STSPolicy{}, fmt.Errorf("read MTA-STS policy: %w", err)
	}
	return p, nil
}

// PutSTSPolicy replaces what is remembered of a domain's policy.
func (s *Store) PutSTSPolicy(ctx context.Context, domain string, p STSPolicy) error {
	err := s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO sts_policies (domain, id, text, fetched, expires, refresh, used)
			VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (domain) DO UPDATE SET id = $2, text = $3, fetched = $4, expires = $5, refresh = $6, used = $7`,
			domain, p.ID, octets(p.Text), micros(p.Fetched), micros(p.Expires), micros(p.Refresh), micros(p.Used))
		return err
	})
	if err != nil {
		return fmt.Errorf("write MTA-STS policy: %w", err)
	}
	return nil
}

// DueSTSPolicies returns at most limit domains whose policies are to be fetched again by
// now, have not expired, and were used since a time; those that wait longest first.
func (s *Store) DueSTSPolicies(ctx context.Context, now, since time.Time, limit int) ([]string, error) {
	var domains []string
	err := s.read(ctx, func(c *session) error {
		return c.each(func(r scanner) error {
			var d string
			err := r.Scan(&d)
			domains = append(domains, d)
			return err
		}, `SELECT domain FROM sts_policies WHERE refresh <= $1 AND expires > $1 AND used >= $2 ORDER BY refresh LIMIT $3`,
			micros(now), micros(since), limit)
	})
	if err != nil {
		return nil, fmt.Errorf("list MTA-STS policies: %w", err)
	}
	return domains, nil
}

// PurgeSTSPolicies forgets the policies that expired before a time, and returns how many
// there were.
func (s *Store) PurgeSTSPolicies(ctx context.Context, before time.Time) (int, error) {
	var n int64
	err := s.write(ctx, func(t *tx) error {
		var err error
		n, err = t.exec(`DELETE FROM sts_policies WHERE expires < $1`, micros(before))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("purge MTA-STS policies: %w", err)
	}
	return int(n), nil
}
