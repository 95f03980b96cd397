package vault

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// selectors are those of keys, active ones with a star.
func selectors(keys DKIMKeys) string {
	var names []string
	for _, k := range keys {
		name := k.Domain + "/" + k.Selector
		if k.Active {
			name += "*"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

func TestDKIMRotation(t *testing.T) {
	t.Parallel()
	dir, _ := newVault(t)
	load := func(want string) DKIMKeys {
		t.Helper()
		keys, err := LoadDKIM(dir)
		if err != nil || selectors(keys) != want {
			t.Fatalf("%s, %v, want %s", selectors(keys), err, want)
		}
		return keys
	}
	create := func(domain string, at time.Time, want string) {
		t.Helper()
		keys, err := CreateDKIM(dir, domain, at)
		if err != nil || selectors(keys) != want {
			t.Fatalf("%s, %v, want %s", selectors(keys), err, want)
		}
	}
	activate := func(domain, want string) {
		t.Helper()
		keys, err := ActivateDKIM(dir, domain)
		if err != nil || selectors(keys) != want {
			t.Fatalf("%s, %v, want %s", selectors(keys), err, want)
		}
	}
	load("")
	if _, err := ActivateDKIM(dir, "a.example"); !errors.Is(err, ErrNoDKIM) {
		t.Error(err)
	}
	create("a.example", testNow, "a.example/20261123-ed25519 a.example/20261123-rsa")
	create("a.example", testNow.AddDate(0, 1, 0), "a.example/20261123-ed25519 a.example/20261123-rsa") // one that waits is enough
	activate("a.example", "a.example/20261123-ed25519* a.example/20261123-rsa*")
	if _, err := ActivateDKIM(dir, "a.example"); !errors.Is(err, ErrNoDKIM) {
		t.Error(err)
	}
	create("a.example", testNow, "a.example/20261123b-ed25519 a.example/20261123b-rsa")
	activate("a.example", "a.example/20261123b-ed25519* a.example/20261123b-rsa*")
	create("a.example", testNow, "a.example/20261123c-ed25519 a.example/20261123c-rsa")
	create("b.example", testNow, "b.example/20261123-ed25519 b.example/20261123-rsa")
	keys := load("a.example/20261123-ed25519 a.example/20261123-rsa a.example/20261123b-ed25519* a.example/20261123b-rsa* " +
		"a.example/20261123c-ed25519 a.example/20261123c-rsa b.example/20261123-ed25519 b.example/20261123-rsa")
	if got := selectors(keys.Active()); got != "a.example/20261123b-ed25519* a.example/20261123b-rsa*" {
		t.Error(got)
	}
	if info, err := os.Stat(filepath.Join(dir, "dkim", "a.example", "20261123-rsa.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
}

func TestDKIMKey(t *testing.T) {
	t.Parallel()
	dir, _ := newVault(t)
	keys, err := CreateDKIM(dir, "a.example", testNow)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	for _, k := range keys {
		_, p, _ := strings.Cut(k.Record(), "; p=")
		published, err := base64.StdEncoding.DecodeString(p)
		if err != nil {
			t.Fatal(err)
		}
		switch k.Selector {
		case "20261123-ed25519":
			sig, err := k.Sign(rand.Reader, digest[:], crypto.Hash(0))
			if err != nil || !ed25519.Verify(published, digest[:], sig) || !strings.HasPrefix(k.Record(), "v=DKIM1; k=ed25519; ") {
				t.Error(err, k.Record())
			}
		case "20261123-rsa":
			sig, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
			public, perr := x509.ParsePKIXPublicKey(published)
			if err != nil || perr != nil || rsa.VerifyPKCS1v15(public.(*rsa.PublicKey), crypto.SHA256, digest[:], sig) != nil || !strings.HasPrefix(k.Record(), "v=DKIM1; k=rsa; ") {
				t.Error(err, perr, k.Record())
			}
		}
		if k.Name() != k.Selector+"._domainkey.a.example" {
			t.Error(k.Name())
		}
		if text := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); strings.Count(text, "DKIM key") != 4 || strings.Contains(text, "secret") {
			t.Error(text)
		}
	}
}

func TestLoadDKIMRefuses(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"a key for everybody": {func(dir string) error { return os.Chmod(filepath.Join(dir, "20261123-rsa.key"), 0o644) }, "chmod"},
		"rubbish":             {func(dir string) error { return os.WriteFile(filepath.Join(dir, "x-rsa.key"), []byte("x"), 0o600) }, "no PEM"},
		"another kind": {func(dir string) error {
			return os.Rename(filepath.Join(dir, "20261123-rsa.key"), filepath.Join(dir, "20261124-ed25519.key"))
		}, "not what its name says"},
		"active keys that are gone": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "active"), []byte("20251123\n"), 0o600) }, "not there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _ := newVault(t)
			if _, err := CreateDKIM(dir, "a.example", testNow); err != nil {
				t.Fatal(err)
			}
			if err := row.spoil(filepath.Join(dir, "dkim", "a.example")); err != nil {
				t.Fatal(err)
			}
			if keys, err := LoadDKIM(dir); err == nil || keys != nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v %v", keys, err)
			}
		})
	}
}
