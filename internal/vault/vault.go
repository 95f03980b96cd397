package vault

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"postern/internal/pgp"
)

const (
	provenanceFile = "provenance.key"
	provenancePub  = "provenance.pub"
	holdFile       = "hold.key"
	holdPub        = "hold.pub"
	masterFile     = "master.secret"

	masterSize = 32
	// maxHeld is the largest held message that can be opened, in octets. Held mail
	// was accepted by this gateway, so its size was limited then; a smaller number
	// here would lose mail.
	maxHeld = 1 << 30
	// maxFile is more than any of our files has, in octets.
	maxFile = 1 << 20
)

// ErrPermissions is wrapped when a secret file or the directory is open to others.
var ErrPermissions = errors.New("readable or writable by others")

// Vault is an opened directory of secrets. It is safe for concurrent use.
type Vault struct {
	provenance ed25519.PrivateKey
	keyID      string
	hold       *pgp.SecretKey
	master     []byte
	spool      []byte // from which the keys of locked copies are derived
}

// Open reads the vault in dir. Errors name the file; they wrap fs.ErrNotExist if
// one is missing and ErrPermissions if others than the owner may read it.
func Open(dir string) (*Vault, error) {
	if err := checkPermissions(dir); err != nil {
		return nil, err
	}
	v := &Vault{}
	if err := v.readProvenance(filepath.Join(dir, provenanceFile)); err != nil {
		return nil, err
	}
	if err := v.readHold(filepath.Join(dir, holdFile)); err != nil {
		return nil, err
	}
	if err := v.readMaster(filepath.Join(dir, masterFile)); err != nil {
		return nil, err
	}
	v.spool = v.Secret("queue spool")
	return v, nil
}

// readSecret reads a file that only its owner may read.
func readSecret(path string) ([]byte, error) {
	if err := checkPermissions(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	return b, nil
}

func checkPermissions(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("open vault: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("open vault: %s has mode %04o, %w: run chmod go-rwx %s", path, mode, ErrPermissions, path)
	}
	return nil
}

func (v *Vault) readProvenance(path string) error {
	b, err := readSecret(path)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return fmt.Errorf("open vault: %s holds no PEM block", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("open vault: %s: %w", path, err)
	}
	var ok bool
	if v.provenance, ok = key.(ed25519.PrivateKey); !ok {
		return fmt.Errorf("open vault: %s is not an Ed25519 key", path)
	}
	digest := sha256.Sum256(v.PublicKey())
	v.keyID = hex.EncodeToString(digest[:8])
	return nil
}

func (v *Vault) readHold(path string) error {
	b, err := readSecret(path)
	if err != nil {
		return err
	}
	if v.hold, err = pgp.ParseSecretKey(b, nil); err != nil {
		return fmt.Errorf("open vault: %s: %w", path, err)
	}
	return nil
}

func (v *Vault) readMaster(path string) error {
	b, err := readSecret(path)
	if err != nil {
		return err
	}
	v.master, err = hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(v.master) != masterSize {
		return fmt.Errorf("open vault: %s does not hold %d octets in hex", path, masterSize)
	}
	return nil
}

// Sign signs msg with the provenance key (Ed25519). The caller gives msg a form
// that cannot be mistaken for anything else that is signed.
func (v *Vault) Sign(msg []byte) []byte { return ed25519.Sign(v.provenance, msg) }

// KeyID names the provenance key: the first 16 hex digits of the SHA-256 of its
// public key. It stays the same as long as the key does.
func (v *Vault) KeyID() string { return v.keyID }

// PublicKey verifies what Sign signed.
func (v *Vault) PublicKey() ed25519.PublicKey {
	return v.provenance.Public().(ed25519.PublicKey)
}

// HoldCertificate is what held copies are sealed to.
func (v *Vault) HoldCertificate() *pgp.Certificate { return v.hold.Certificate() }

// OpenHeld opens a held copy, to seal it again to its owner. Nothing is released
// before its integrity was checked, so all of it is in memory. Errors are those of
// pgp.SecretKey.Decrypt.
func (v *Vault) OpenHeld(r io.Reader) (io.Reader, error) {
	return v.hold.DecryptLimit(r, maxHeld)
}

// Secret derives 32 octets for one purpose, named by label, from the master
// secret. The same label gives the same octets for the life of the vault.
func (v *Vault) Secret(label string) []byte {
	b, err := hkdf.Key(sha256.New, v.master, nil, "postern/"+label, masterSize)
	if err != nil {
		panic("vault: " + err.Error()) // only if more than 8,160 octets are asked for
	}
	return b
}

// String keeps the secrets out of a log in which a Vault is printed by mistake.
func (v *Vault) String() string { return "vault " + v.keyID }

// GoString does the same for %#v.
func (v *Vault) GoString() string { return v.String() }
