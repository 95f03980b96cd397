package store

import (
	"context"
	"fmt"
	"time"
)

// Peer is the Autocrypt Level 1 state of one correspondent. Times are effective dates
// of messages.
type Peer struct {
	Address  string    // mail.Address.Key
	LastSeen time.Time // last_seen: of the newest message
	KeySeen  time.Time // autocrypt_timestamp: of the newest message with a certificate
	Mutual   bool      // prefer_encrypt is mutual
	KeyData  []byte    // public_key: the certificate as that message had it, binary
}

// Peer returns the Autocrypt state of an address, or ErrNotFound.
func (s *Store) Peer(ctx context.Context, addressKey string) (Peer, error) {
	p := Peer{Address: addressKey}
	found := false
	err := s.read(ctx, func(c *session) error {
		return c.each(func(r scanner) error {
			found = true
			var last, key int64
			err := r.Scan(&last, &key, &p.Mutual, &p.KeyData)
			p.LastSeen, p.KeySeen = fromMicros(last), fromMicros(key)
			return err
		}, `SELECT last_seen, key_seen, mutual, key_data FROM autocrypt WHERE address = $1`, addressKey)
	})
	if err != nil {
		return Peer{}, fmt.Errorf("read peer: %w", err)
	}
	if !found {
		return Peer{}, ErrNotFound
	}
	return p, nil
}

// SavePeers writes states that were computed from those of Peer, all of them or none.
// Where another node has written meanwhile, the newer of the two states stays for each
// time, with the certificate that belongs to it, as if the messages had come in another
// order. ErrInvalid: a state without a certificate is not kept.
func (s *Store) SavePeers(ctx context.Context, peers []Peer) error {
	for _, p := range peers {
		if p.Address == "" || len(p.KeyData) == 0 {
			return fmt.Errorf("save peers: %w: incomplete", ErrInvalid)
		}
	}
	err := s.write(ctx, func(t *tx) error {
		for _, p := range peers {
			if err := t.putPeer(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save peers: %w", err)
	}
	return nil
}

// ForgetPeers deletes the states of those whose newest message is from before a time, and
// returns how many there were.
func (s *Store) ForgetPeers(ctx context.Context, before time.Time) (n int64, err error) {
	err = s.write(ctx, func(t *tx) error {
		n, err = t.exec(`DELETE FROM autocrypt WHERE last_seen < $1`, micros(before))
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("forget peers: %w", err)
	}
	return n, nil
}

func (t *tx) putPeer(p Peer) error {
	mutual := 0
	if p.Mutual {
		mutual = 1
	}
	_, err := t.exec(`INSERT INTO autocrypt (address, last_seen, key_seen, mutual, key_data)
		VALUES ($1, $2, $3, $4, $5) ON CONFLICT (address) DO UPDATE SET
		last_seen = CASE WHEN autocrypt.last_seen < $2 THEN $2 ELSE autocrypt.last_seen END,
		mutual = CASE WHEN autocrypt.key_seen <= $3 THEN $4 ELSE autocrypt.mutual END,
		key_data = CASE WHEN autocrypt.key_seen <= $3 THEN $5 ELSE autocrypt.key_data END,
		key_seen = CASE WHEN autocrypt.key_seen <= $3 THEN $3 ELSE autocrypt.key_seen END`,
		p.Address, micros(p.LastSeen), micros(p.KeySeen), mutual, p.KeyData)
	if err != nil {
		return fmt.Errorf("write peer: %w", err)
	}
	return nil
}
