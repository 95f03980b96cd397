package vault

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/pgp"
)

var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// newVault creates a vault and opens it.
func newVault(t *testing.T) (dir string, v *Vault) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "vault")
	if err := Create(dir, "mail.example.org", testNow); err != nil {
		t.Fatal(err)
	}
	v, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, v
}

func TestCreate(t *testing.T) {
	t.Parallel()
	dir, _ := newVault(t)
	want := map[string]fs.FileMode{"": 0o700, provenanceFile: 0o600, holdFile: 0o600, masterFile: 0o600}
	for name, mode := range want {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: %v, %v", name, info.Mode(), err)
		}
	}
	for _, name := range []string{provenancePub, holdPub} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || bytes.Contains(b, []byte("PRIVATE")) || !bytes.Contains(b, []byte("PUBLIC")) {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 5 {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

// TestCreateNeverOverwrites: with any one of the files there, nothing is written.
func TestCreateNeverOverwrites(t *testing.T) {
	t.Parallel()
	for _, name := range []string{provenanceFile, provenancePub, holdFile, holdPub, masterFile} {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Create(dir, "example.org", testNow)
		if !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		entries, _ := os.ReadDir(dir)
		if b, _ := os.ReadFile(path); string(b) != "mine" || len(entries) != 1 {
			t.Errorf("%s: %d files, %q", name, len(entries), b)
		}
	}
}

// TestCreateFailsClean: what was written before a fault is removed again.
func TestCreateFailsClean(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := []newFile{{"a", []byte("x"), 0o600}, {"b", []byte("x"), 0o600}, {"no/such/directory", nil, 0o600}}
	if err := writeFiles(dir, files); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("%d files left", len(entries))
	}
}

func TestProvenance(t *testing.T) {
	t.Parallel()
	dir, v := newVault(t)
	msg := []byte("Postern-Arrival")
	if !ed25519.Verify(v.PublicKey(), msg, v.Sign(msg)) || ed25519.Verify(v.PublicKey(), []byte("other"), v.Sign(msg)) {
		t.Error("signature does not verify")
	}
	b, err := os.ReadFile(filepath.Join(dir, provenancePub))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil || !v.PublicKey().Equal(key) {
		t.Errorf("published key is another: %v", err)
	}
	again, err := Open(dir)
	if err != nil || len(v.KeyID()) != 16 || again.KeyID() != v.KeyID() {
		t.Errorf("key id %q, %q, %v", v.KeyID(), again.KeyID(), err)
	}
	if _, other := newVault(t); other.KeyID() == v.KeyID() {
		t.Error("two vaults have one key")
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	dir, v := newVault(t)
	c := v.HoldCertificate()
	if err := c.Usable(testNow); err != nil || !c.HasAddress("postern-hold@mail.example.org") {
		t.Errorf("%v, %q", err, c.UserIDs())
	}
	if b, err := os.ReadFile(filepath.Join(dir, holdPub)); err != nil || !bytes.Equal(b, c.Armor()) {
		t.Errorf("hold.pub: %v", err)
	}
	text := "held mail"
	message := seal(t, c, text)
	r, err := v.OpenHeld(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
	if _, other := newVault(t); true {
		if _, err := other.OpenHeld(bytes.NewReader(message)); !errors.Is(err, pgp.ErrNotForKey) {
			t.Errorf("another vault: %v", err)
		}
	}
}

func seal(t *testing.T, c *pgp.Certificate, text string) []byte {
	t.Helper()
	b, err := pgp.Seal([]byte(text), []*pgp.Certificate{c}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSecret(t *testing.T) {
	t.Parallel()
	dir, v := newVault(t)
	a, b := v.Secret("salts"), v.Secret("other")
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != 32 || bytes.Equal(a, b) || !bytes.Equal(a, again.Secret("salts")) || bytes.Equal(a, v.master) {
		t.Error("secrets are not 32 octets that depend on the label and the vault alone")
	}
	if _, other := newVault(t); bytes.Equal(other.Secret("salts"), a) {
		t.Error("two vaults have one secret")
	}
}

// TestOpenRefuses: anything missing, damaged, or open to others, by name.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, name := range []string{provenanceFile, holdFile, masterFile} {
		for what, change := range map[string]func(path string) error{
			"missing": os.Remove,
			"empty":   func(path string) error { return os.Truncate(path, 0) },
			"garbage": func(path string) error { return os.WriteFile(path, []byte("garbage"), 0o600) },
			"group":   func(path string) error { return os.Chmod(path, 0o640) },
			"others":  func(path string) error { return os.Chmod(path, 0o604) },
		} {
			dir, _ := newVault(t)
			path := filepath.Join(dir, name)
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			v, err := Open(dir)
			if err == nil || v != nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s %s: %v", name, what, err)
				continue
			}
			if errors.Is(err, fs.ErrNotExist) != (what == "missing") {
				t.Errorf("%s %s: %v", name, what, err)
			}
			if errors.Is(err, ErrPermissions) != (what == "group" || what == "others") {
				t.Errorf("%s %s: %v", name, what, err)
			}
		}
	}
	dir, _ := newVault(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrPermissions) || !strings.Contains(err.Error(), "chmod") {
		t.Errorf("open directory: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// TestPrinted: a vault printed by mistake shows nothing.
func TestPrinted(t *testing.T) {
	t.Parallel()
	_, v := newVault(t)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, v); got != "vault "+v.KeyID() {
			t.Errorf("%s: %.60q", verb, got)
		}
	}
}
