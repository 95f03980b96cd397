package keydir

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/testkit"
)

// enrolment is an Enrolment over a real store with one account.
type enrolment struct {
	*Enrolment
	store   *store.Store
	changed int
	told    []Enrolled
}

var ownAccount = mail.Address{Local: "alice", Domain: "here.test"}

func newEnrolment(t *testing.T) *enrolment {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "postern.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.CreateAccount(t.Context(), ownAccount, 0, nil); err != nil {
		t.Fatal(err)
	}
	e := &enrolment{store: s}
	e.Enrolment = NewEnrolment(EnrolOptions{
		Store:   s,
		Changed: func(context.Context, mail.Address) error { e.changed++; return nil },
		Tell:    func(_ context.Context, r Enrolled) error { e.told = append(e.told, r); return nil },
	})
	return e
}

// take hands a certificate in.
func (e *enrolment) take(t *testing.T, c *pgp.Certificate) Enrolled {
	t.Helper()
	r, err := e.Take(t.Context(), ownAccount, c, SourceWKS)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// stored are the fingerprints of the account's certificates.
func (e *enrolment) stored(t *testing.T) (all []string) {
	t.Helper()
	rows, err := e.store.Certificates(t.Context(), ownAccount.Key())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		all = append(all, r.Fingerprint)
	}
	return all
}

func (e *enrolment) rules(t *testing.T) (all []Rule) {
	t.Helper()
	d := New(Options{Store: e.store})
	history, err := d.History(t.Context(), ownAccount)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range history {
		all = append(all, c.Rule)
	}
	return all
}

func TestEnrolFirst(t *testing.T) {
	t.Parallel()
	e := newEnrolment(t)
	c := newCertificate(t, "alice@here.test")
	if r := e.take(t, c); !r.News || r.Waits || r.Certificate.Fingerprint() != c.Fingerprint() {
		t.Errorf("%+v", r)
	}
	if got := e.stored(t); len(got) != 1 || got[0] != c.Fingerprint() || e.changed != 1 || len(e.told) != 1 {
		t.Errorf("stored %v, changed %d, told %d", got, e.changed, len(e.told))
	}
	// The same again is no news, and costs nothing.
	if r := e.take(t, c); r.News || r.Waits || e.changed != 1 || len(e.told) != 1 {
		t.Errorf("%+v, changed %d, told %d", r, e.changed, len(e.told))
	}
	if got := e.rules(t); len(got) != 1 || got[0] != RuleEnrolled {
		t.Errorf("history %v", got)
	}
}

// What a person has removed does not come back by itself, though the account has none: who
// handed it in may still have the password.
func TestEnrolRemovedWaits(t *testing.T) {
	t.Parallel()
	e := newEnrolment(t)
	thief, owner := newCertificate(t, "alice@here.test"), newCertificate(t, "alice@here.test")
	e.take(t, thief)
	if err := e.store.RemoveCertificate(t.Context(), ownAccount.Key(), thief.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	if err := e.record(t.Context(), Change{Rule: RuleRemoved, Old: thief.Fingerprint()}, &Enrolled{Account: ownAccount}); err != nil {
		t.Fatal(err)
	}
	if r := e.take(t, thief); !r.Waits || !r.News || len(e.stored(t)) != 0 {
		t.Errorf("%+v, stored %v", r, e.stored(t))
	}
	if r := e.take(t, thief); !r.Waits || r.News {
		t.Errorf("again: %+v", r)
	}
	if r := e.take(t, owner); r.Waits || len(e.stored(t)) != 1 {
		t.Errorf("another one: %+v", r)
	}
}

// TestEnrolTellsLater: an owner who cannot be told of a certificate is told when it is
// handed in the next time, once.
func TestEnrolTellsLater(t *testing.T) {
	t.Parallel()
	e := newEnrolment(t)
	tell, broken := e.Tell, errors.New("the disk has failed")
	e.Tell = func(ctx context.Context, r Enrolled) error {
		if broken != nil {
			return broken
		}
		return tell(ctx, r)
	}
	c := newCertificate(t, "alice@here.test")
	learn := func() { e.learn(t.Context(), handedIn{ownAccount, c.Data()}) }
	learn()
	learn()
	if got := e.stored(t); len(got) != 1 || len(e.told) != 0 || len(e.seen) != 0 {
		t.Errorf("stored %v, told %d, remembered %d", got, len(e.told), len(e.seen))
	}
	broken = nil
	learn()
	learn()
	if len(e.told) != 1 || !e.told[0].News || e.told[0].Certificate.Fingerprint() != c.Fingerprint() || len(e.seen) != 1 {
		t.Errorf("told %+v, remembered %d", e.told, len(e.seen))
	}
}

// Another certificate than the one in use waits, whoever gave that one, and is told of
// once.
func TestEnrolAnotherWaits(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]string{"given by the operator": "operator", "handed in": SourceAutocrypt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnrolment(t)
			first, second := newCertificate(t, "alice@here.test"), newCertificate(t, "alice@here.test")
			row := store.Certificate{Address: ownAccount.Key(), Fingerprint: first.Fingerprint(), Data: first.Data(), Source: source}
			if _, err := e.store.AddCertificate(t.Context(), row); err != nil {
				t.Fatal(err)
			}
			if r := e.take(t, second); !r.Waits || !r.News {
				t.Errorf("%+v", r)
			}
			if r := e.take(t, second); !r.Waits || r.News {
				t.Errorf("again: %+v", r)
			}
			if got := e.stored(t); len(got) != 1 || got[0] != first.Fingerprint() {
				t.Errorf("stored %v", got)
			}
			if e.changed != 0 || len(e.told) != 1 || !e.told[0].Waits {
				t.Errorf("changed %d, told %+v", e.changed, e.told)
			}
			if got := e.rules(t); len(got) != 1 || got[0] != RuleOffered {
				t.Errorf("history %v", got)
			}
		})
	}
}

func TestEnrolRefused(t *testing.T) {
	t.Parallel()
	e := newEnrolment(t)
	if _, err := e.Take(t.Context(), ownAccount, fileCertificate(t, "expired.asc"), SourceWKS); !errors.Is(err, ErrUnusable) {
		t.Errorf("expired: %v", err)
	}
	if _, err := e.Take(t.Context(), mail.Address{Local: "nobody", Domain: "here.test"}, newCertificate(t, "nobody@here.test"), SourceWKS); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no account: %v", err)
	}
	if got := e.stored(t); len(got) != 0 || e.changed != 0 || len(e.told) != 0 {
		t.Errorf("stored %v, changed %d, told %d", got, e.changed, len(e.told))
	}
}

// learnAll has Run work off what was learned.
func (e *enrolment) learnAll(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); e.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); len(e.waiting) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is learned")
		}
	}
	cancel()
	<-ended
}

// What GnuPG writes into an Autocrypt field, what Delta Chat writes there, and rubbish.
func TestEnrolKeyData(t *testing.T) {
	t.Parallel()
	testkit.Parts(t, "gpg", "gpgconf")
	for name, uid := range map[string]string{"GnuPG": "Alice Example <Alice@here.test>", "like Delta Chat": "<alice@here.test>"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnrolment(t)
			e.Learn(ownAccount, gpgKeyData(t, uid, "alice@here.test"))
			e.learnAll(t)
			if got := e.stored(t); len(got) != 1 || len(e.told) != 1 || e.told[0].Source != SourceAutocrypt {
				t.Fatalf("stored %v, told %+v", got, e.told)
			}
			rows, err := e.store.Certificates(t.Context(), ownAccount.Key())
			if err != nil || rows[0].Source != SourceAutocrypt {
				t.Errorf("%v, %v", rows, err)
			}
		})
	}
	for name, data := range map[string][]byte{
		"rubbish":           []byte("\x99rubbish"),
		"armored":           newCertificate(t, "alice@here.test").Armor(),
		"somebody else's":   newCertificate(t, "carol@here.test").Data(),
		"two certificates":  append(newCertificate(t, "alice@here.test").Data(), newCertificate(t, "alice@here.test").Data()...),
		"cannot be used":    fileCertificate(t, "expired.asc").Data(),
		"nothing":           {},
		"a secret key even": []byte(key(t, "alice@here.test").Armor()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnrolment(t)
			e.Learn(ownAccount, data)
			e.learnAll(t)
			if got := e.stored(t); len(got) != 0 || len(e.told) != 0 {
				t.Errorf("stored %v, told %v", got, e.told)
			}
		})
	}
}

// gpgKeyData makes a key with GnuPG and exports what it would put into Autocrypt.
func gpgKeyData(t *testing.T, uid, address string) []byte {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // the socket's path must not be long
	if err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "GNUPGHOME="+home, "LC_ALL=C")
	gpg := func(program string, args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env = env
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", program, args, err, &stderr)
		}
		return out
	}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all") // of this home directory only
		cmd.Env = env
		_ = cmd.Run()
		os.RemoveAll(home)
	})
	gpg("gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key", uid, "future-default", "default", "never")
	return gpg("gpg", "--batch", "--export-options", "export-minimal,export-clean", "--export-filter", "keep-uid=mbox="+address, "--export", address)
}
