package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"sync"
	"time"
)

const (
	cacheFor  = 5 * time.Minute
	cacheSize = 4096
)

// cache remembers which app passwords were verified a moment ago, so that a client
// that connects for every message does not cost a derivation each time. It holds
// no password, only a MAC of it under a key that exists in this process alone;
// for 128 random bits nothing can be guessed from that. Human-chosen passwords
// never go in: to somebody who reads the memory their MAC would be worth a guess
// without stretching.
type cache struct {
	now func() time.Time
	key []byte

	mu      sync.Mutex
	entries map[[sha256.Size]byte]cached
}

type cached struct {
	id     int64
	stored [sha256.Size]byte // StoredKey then: a changed credential is no hit
	until  time.Time
}

func newCache(now func() time.Time) *cache {
	return &cache{now: now, key: randomBytes(32), entries: make(map[[sha256.Size]byte]cached)}
}

func (c *cache) tag(account, password string) (t [sha256.Size]byte) {
	n := binary.BigEndian.AppendUint64(nil, uint64(len(account)))
	copy(t[:], mac(c.key, n, []byte(account), []byte(password)))
	return t
}

// find returns the credential among creds that this password was verified for.
func (c *cache) find(password string, creds []Credential) (Credential, bool) {
	if len(creds) == 0 {
		return Credential{}, false
	}
	tag := c.tag(creds[0].Account, password)
	c.mu.Lock()
	e, ok := c.entries[tag]
	c.mu.Unlock()
	if !ok || !c.now().Before(e.until) {
		return Credential{}, false
	}
	for _, cred := range creds {
		if cred.ID == e.id && !cred.Human && subtle.ConstantTimeCompare(cred.StoredKey, e.stored[:]) == 1 {
			return cred, true
		}
	}
	return Credential{}, false
}

// add remembers that password belongs to cred.
func (c *cache) add(password string, cred Credential) {
	if cred.Human || len(cred.StoredKey) != sha256.Size {
		return
	}
	now := c.now()
	e := cached{id: cred.ID, until: now.Add(cacheFor)}
	copy(e.stored[:], cred.StoredKey)
	tag := c.tag(cred.Account, password)

	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[tag]; !ok && len(c.entries) >= cacheSize {
		c.makeRoom(now)
	}
	c.entries[tag] = e
}

// makeRoom drops what has expired or else any one entry: losing one costs a
// derivation, nothing more. The caller holds mu.
func (c *cache) makeRoom(now time.Time) {
	for tag, e := range c.entries {
		if !now.Before(e.until) {
			delete(c.entries, tag)
		}
	}
	for tag := range c.entries {
		if len(c.entries) < cacheSize {
			return
		}
		delete(c.entries, tag)
	}
}
