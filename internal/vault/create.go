package vault

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"postern/internal/pgp"
)

// newFile is one file of a vault to be written.
type newFile struct {
	name string
	data []byte
	mode fs.FileMode
}

// Create makes the secrets of a new gateway and writes them to dir, which is made
// with mode 0700 if it is not there. domain stands in the user ID of the hold key.
// Everything is on stable storage when it returns. Nothing is ever overwritten: if
// any of the files exists, the error wraps fs.ErrExist and names it, and nothing
// has been written.
func Create(dir, domain string, now time.Time) error {
	files, err := newSecrets(domain, now)
	if err != nil {
		return fmt.Errorf("create vault: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create vault: %w", err)
	}
	if err := checkPermissions(dir); err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("create vault: %s: %w", path, fs.ErrExist)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("create vault: %w", err)
		}
	}
	return writeFiles(dir, files)
}

// newSecrets makes all secrets, in the order in which they are written.
func newSecrets(domain string, now time.Time) ([]newFile, error) {
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		return nil, err
	}
	pkix, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	hold, err := pgp.GenerateKey("postern-hold@"+domain, now)
	if err != nil {
		return nil, err
	}
	master := make([]byte, masterSize)
	if _, err := rand.Read(master); err != nil {
		return nil, err
	}
	return []newFile{
		{provenanceFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600},
		{provenancePub, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}), 0o644},
		{holdFile, hold.Armor(), 0o600},
		{holdPub, hold.Certificate().Armor(), 0o644},
		{masterFile, []byte(hex.EncodeToString(master) + "\n"), 0o600},
	}, nil
}

// writeFiles writes files that must not exist. If one cannot be written, those
// before it are removed again: half a vault would only be in the way.
func writeFiles(dir string, files []newFile) (err error) {
	var written []string
	defer func() {
		if err != nil {
			for _, path := range written {
				os.Remove(path)
			}
		}
	}()
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.mode)
		if err != nil {
			return fmt.Errorf("create vault: %w", err)
		}
		written = append(written, path)
		_, err = file.Write(f.data)
		if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
			return fmt.Errorf("create vault: write %s: %w", path, err)
		}
	}
	if err := syncDirectory(dir); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(dir))
}

// syncDirectory makes the names in a directory durable.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil // a parent that others own: its entry for us was durable before
	}
	if err != nil {
		return fmt.Errorf("create vault: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("create vault: sync %s: %w", dir, err)
	}
	return nil
}
