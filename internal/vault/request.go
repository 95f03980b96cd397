package vault

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"postern/internal/pgp"
)

// requestPrefix begins the name of a file with the key of one domain.
const requestPrefix = "request-"

// Requests holds the secret keys that requests to publish a certificate are encrypted
// to, one for each domain (draft-koch-openpgp-webkey-service 4.2). They open such
// requests, and nothing that anybody keeps here. It is safe for concurrent use.
type Requests struct {
	dir  string
	mu   sync.RWMutex
	keys map[string]*pgp.SecretKey
}

// NewRequests returns the keys of the vault in dir, none of which is opened yet.
func NewRequests(dir string) *Requests {
	return &Requests{dir: dir, keys: make(map[string]*pgp.SecretKey)}
}

// Open opens the key of address's domain, and makes it if it is not there. address
// stands in its user ID.
func (r *Requests) Open(domain, address string, now time.Time) error {
	if domain == "" || strings.ContainsAny(domain, `/\`) || domain[0] == '.' {
		return fmt.Errorf("open request key: %q is no domain", domain)
	}
	path := filepath.Join(r.dir, requestPrefix+domain+".key")
	b, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = r.create(path, address, now); err == nil {
			b, err = readSecret(path)
		}
	}
	if err != nil {
		return err
	}
	key, err := pgp.ParseSecretKey(b, nil)
	if err != nil {
		return fmt.Errorf("open request key: %s: %w", path, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[domain] = key
	return nil
}

// create makes a key. Of two processes that do so at the same time one is first, and
// both use its key.
func (r *Requests) create(path, address string, now time.Time) error {
	key, err := pgp.GenerateKey(address, now)
	if err != nil {
		return fmt.Errorf("make request key: %w", err)
	}
	temporary := path + "." + rand.Text() + ".new"
	if err := writeFiles(r.dir, []newFile{{filepath.Base(temporary), key.Armor(), 0o600}}); err != nil {
		return err
	}
	defer os.Remove(temporary)
	if err := os.Link(temporary, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make request key: %w", err)
	}
	return syncDirectory(r.dir)
}

// Certificate is what requests of a domain are encrypted to; nil if it has none.
func (r *Requests) Certificate(domain string) *pgp.Certificate {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if key := r.keys[domain]; key != nil {
		return key.Certificate()
	}
	return nil
}

// OpenRequest opens a request of at most limit octets that came to a domain. Errors are
// those of pgp.SecretKey.Decrypt.
func (r *Requests) OpenRequest(domain string, in io.Reader, limit int64) (io.Reader, error) {
	r.mu.RLock()
	key := r.keys[domain]
	r.mu.RUnlock()
	if key == nil {
		return nil, fmt.Errorf("open request: %w", pgp.ErrNotForKey)
	}
	return key.DecryptLimit(in, limit)
}
