package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"postern/internal/mail"
)

// Exchange is what is remembered of one message that an account sent, or received: how
// well it was protected. Of the message itself there is only a digest of its Message-ID.
type Exchange struct {
	Account   ID
	Received  bool // the account got it; else it sent it
	MessageID string
	// Level is the weakest of all copies of a message that was sent. Of several
	// exchanges of one message the weakest stays.
	Level mail.Level
}

// digest is what is kept of a Message-ID.
func (e *Exchange) digest() []byte { return messageDigest(e.MessageID) }

func messageDigest(id string) []byte {
	sum := sha256.Sum256([]byte(id))
	return sum[:16]
}

func (t *tx) insertExchange(e *Exchange) error {
	_, err := t.exec(`INSERT INTO exchanges (account, received, digest, level, time) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (account, received, digest) DO UPDATE SET
		level = CASE WHEN exchanges.level < $4 THEN exchanges.level ELSE $4 END, time = $5`,
		e.Account, bit(e.Received), e.digest(), uint8(e.Level), micros(t.now))
	if err != nil {
		return fmt.Errorf("insert exchange: %w", err)
	}
	return nil
}

// SentLevel returns the weakest protection of the copies of a message that the account
// sent, or ErrNotFound.
func (s *Store) SentLevel(ctx context.Context, account ID, messageID string) (mail.Level, error) {
	var level mail.Level
	err := s.read(ctx, func(c *session) error {
		return c.get([]any{&level}, `SELECT level FROM exchanges WHERE account = $1 AND received = 0 AND digest = $2`,
			account, messageDigest(messageID))
	})
	if err != nil {
		return 0, fmt.Errorf("read exchange: %w", err)
	}
	return level, nil
}

// WasProtected reports whether one of the messages was exchanged by the account, either
// way, at this level or a stronger one.
func (s *Store) WasProtected(ctx context.Context, account ID, level mail.Level, messageIDs ...string) (bool, error) {
	found := false
	err := s.read(ctx, func(c *session) error {
		for _, id := range messageIDs {
			n := 0
			err := c.get([]any{&n}, `SELECT COUNT(*) FROM exchanges WHERE account = $1 AND received IN (0, 1)
				AND digest = $2 AND level >= $3`, account, messageDigest(id), uint8(level))
			if err != nil {
				return err
			}
			if found = n > 0; found {
				break
			}
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("read exchanges: %w", err)
	}
	return found, nil
}

// PurgeExchanges forgets at most limit of those that were last seen before a time, and
// returns how many it forgot.
func (s *Store) PurgeExchanges(ctx context.Context, before time.Time, limit int) (int, error) {
	var n int64
	err := s.write(ctx, func(t *tx) error {
		var last int64
		err := t.get([]any{&last}, `SELECT COALESCE(MAX(time), 0) FROM (SELECT time FROM exchanges WHERE time < $1
			ORDER BY time LIMIT $2) AS oldest`, micros(before), limit)
		if errors.Is(err, ErrNotFound) || last == 0 {
			return nil
		}
		if err == nil {
			n, err = t.exec(`DELETE FROM exchanges WHERE time <= $1`, last)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("purge exchanges: %w", err)
	}
	return int(n), nil
}
