package vault

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The keys that mail is signed with (DKIM, RFC 6376) lie in a directory for each domain:
//
//	dkim/DOMAIN/20260131-rsa.key      RSA of 2048 bits (RFC 8301 3.2), PEM (PKCS #8)
//	dkim/DOMAIN/20260131-ed25519.key  Ed25519 (RFC 8463), PEM (PKCS #8)
//	dkim/DOMAIN/active                the generation that signs: 20260131
//
// A generation is named after the day on which it was made, and its keys are published
// under the selectors 20260131-rsa and 20260131-ed25519. Old ones stay until they are
// removed by hand: mail that they signed may still be on its way.
const (
	dkimDir    = "dkim"
	dkimActive = "active"
	dkimBits   = 2048
)

// dkimAlgorithms are those that each generation has a key of.
func dkimAlgorithms() [2]string { return [...]string{"rsa", "ed25519"} }

// ErrNoDKIM says that a domain has no generation of keys that could be activated.
var ErrNoDKIM = errors.New("no keys wait to be activated")

// DKIMKey is a key that signs mail of a domain. It is a crypto.Signer that does not hand
// out what it signs with.
type DKIMKey struct {
	Domain     string
	Selector   string
	Generation string
	// Active keys sign; the others wait to be published, or are old.
	Active bool
	secret crypto.Signer
}

// Public implements crypto.Signer.
func (k DKIMKey) Public() crypto.PublicKey { return k.secret.Public() }

// Sign implements crypto.Signer.
func (k DKIMKey) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.secret.Sign(random, digest, opts)
}

// String keeps the secret out of a log in which a key is printed by mistake.
func (k DKIMKey) String() string { return "DKIM key " + k.Selector + " of " + k.Domain }

// GoString does the same for %#v.
func (k DKIMKey) GoString() string { return k.String() }

// Name is where the key is published in the DNS.
func (k DKIMKey) Name() string { return k.Selector + "._domainkey." + k.Domain }

// Record is what is published there (RFC 6376 3.6.1, RFC 8463 4).
func (k DKIMKey) Record() string {
	switch public := k.Public().(type) {
	case ed25519.PublicKey:
		return "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)
	default:
		// It was made or read as an RSA key, and these have this form.
		spki, _ := x509.MarshalPKIXPublicKey(public)
		return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(spki)
	}
}

// DKIMKeys are the keys in a vault, by domain and then by generation, the oldest first.
type DKIMKeys []DKIMKey

// Of returns the keys of a domain.
func (l DKIMKeys) Of(domain string) DKIMKeys {
	return slices.DeleteFunc(slices.Clone(l), func(k DKIMKey) bool { return k.Domain != domain })
}

// Active returns those that sign.
func (l DKIMKeys) Active() DKIMKeys {
	return slices.DeleteFunc(slices.Clone(l), func(k DKIMKey) bool { return !k.Active })
}

// Next returns the keys of the newest generation of a domain if they wait to be
// activated.
func (l DKIMKeys) Next(domain string) DKIMKeys {
	of := l.Of(domain)
	if len(of) == 0 || of[len(of)-1].Active {
		return nil
	}
	newest := of[len(of)-1].Generation
	if active := of.Active(); len(active) > 0 && active[0].Generation > newest {
		return nil
	}
	return slices.DeleteFunc(of, func(k DKIMKey) bool { return k.Generation != newest })
}

// LoadDKIM reads the keys in the vault dir; there may be none. Errors are those of Open.
func LoadDKIM(dir string) (DKIMKeys, error) {
	domains, err := os.ReadDir(filepath.Join(dir, dkimDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	var all DKIMKeys
	for _, d := range domains {
		if !d.IsDir() {
			continue
		}
		keys, err := loadDomain(filepath.Join(dir, dkimDir, d.Name()), d.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
	}
	return all, nil
}

// loadDomain reads the keys of one domain.
func loadDomain(dir, domain string) (keys DKIMKeys, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	active, err := os.ReadFile(filepath.Join(dir, dkimActive))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	for _, f := range files {
		selector, ok := strings.CutSuffix(f.Name(), ".key")
		if !ok {
			continue
		}
		generation, algorithm, _ := strings.Cut(selector, "-")
		k := DKIMKey{Domain: domain, Selector: selector, Generation: generation, Active: generation == strings.TrimSpace(string(active))}
		if k.secret, err = readDKIM(filepath.Join(dir, f.Name()), algorithm); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	slices.SortStableFunc(keys, func(a, b DKIMKey) int { return strings.Compare(a.Generation, b.Generation) })
	if len(active) > 0 && len(keys.Active()) == 0 {
		return nil, fmt.Errorf("open vault: %s names keys that are not there", filepath.Join(dir, dkimActive))
	}
	return keys, nil
}

// readDKIM reads one key, which has to be of the kind that its name says.
func readDKIM(path, algorithm string) (crypto.Signer, error) {
	b, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("open vault: %s holds no PEM block", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("open vault: %s: %w", path, err)
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if algorithm == "rsa" && key.N.BitLen() >= dkimBits {
			return key, nil
		}
	case ed25519.PrivateKey:
		if algorithm == "ed25519" {
			return key, nil
		}
	}
	return nil, fmt.Errorf("open vault: %s is not what its name says: SELECTOR-rsa.key with at least %d bits, or SELECTOR-ed25519.key", path, dkimBits)
}

// CreateDKIM makes a generation of keys for a domain in the vault dir. It signs nothing
// before it is activated. If one waits already, that one is returned instead.
func CreateDKIM(dir, domain string, now time.Time) (DKIMKeys, error) {
	all, err := LoadDKIM(dir)
	if err != nil {
		return nil, err
	}
	if next := all.Next(domain); next != nil {
		return next, nil
	}
	files, err := newDKIM(newGeneration(all.Of(domain), now))
	if err != nil {
		return nil, fmt.Errorf("create DKIM keys: %w", err)
	}
	for _, d := range []string{filepath.Join(dir, dkimDir), filepath.Join(dir, dkimDir, domain)} {
		if err := os.Mkdir(d, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("create DKIM keys: %w", err)
		}
		if err := syncDirectory(filepath.Dir(d)); err != nil {
			return nil, err
		}
	}
	if err := writeFiles(filepath.Join(dir, dkimDir, domain), files); err != nil {
		return nil, err
	}
	if all, err = LoadDKIM(dir); err != nil {
		return nil, err
	}
	return all.Next(domain), nil
}

// newGeneration names the next one: by its day, with a letter if that has one already.
func newGeneration(keys DKIMKeys, now time.Time) string {
	day := now.UTC().Format("20060102")
	if len(keys) == 0 || keys[len(keys)-1].Generation < day {
		return day
	}
	newest := keys[len(keys)-1].Generation // of this day, or of a clock that was ahead
	if len(newest) == len(day) {
		return newest + "b"
	}
	if last := newest[len(newest)-1]; last < 'z' {
		return newest[:len(newest)-1] + string(last+1)
	}
	return newest + "b"
}

// newDKIM makes the files of a generation.
func newDKIM(generation string) (files []newFile, err error) {
	for _, algorithm := range dkimAlgorithms() {
		var key any
		if algorithm == "rsa" {
			key, err = rsa.GenerateKey(rand.Reader, dkimBits)
		} else {
			_, key, err = ed25519.GenerateKey(rand.Reader)
		}
		if err != nil {
			return nil, err
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		files = append(files, newFile{generation + "-" + algorithm + ".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600})
	}
	return files, nil
}

// ActivateDKIM makes the generation of a domain that waits the one that signs, and
// returns its keys. The error is ErrNoDKIM if none waits.
func ActivateDKIM(dir, domain string) (DKIMKeys, error) {
	all, err := LoadDKIM(dir)
	if err != nil {
		return nil, err
	}
	next := all.Next(domain)
	if next == nil {
		return nil, fmt.Errorf("DKIM keys of %s: %w", domain, ErrNoDKIM)
	}
	of := filepath.Join(dir, dkimDir, domain)
	fresh := filepath.Join(of, dkimActive+".new")
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an activation that was cut off
		return nil, fmt.Errorf("activate DKIM keys: %w", err)
	}
	if err := writeFiles(of, []newFile{{dkimActive + ".new", []byte(next[0].Generation + "\n"), 0o600}}); err != nil {
		return nil, err
	}
	if err := os.Rename(fresh, filepath.Join(of, dkimActive)); err != nil {
		return nil, fmt.Errorf("activate DKIM keys: %w", err)
	}
	if err := syncDirectory(of); err != nil {
		return nil, err
	}
	if all, err = LoadDKIM(dir); err != nil {
		return nil, err
	}
	return all.Of(domain).Active(), nil
}
