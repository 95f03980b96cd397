package keydir

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"postern/internal/store"
	"postern/internal/testkit"
)

// expiryFixture is a store with bob as an account of ours, and who was warned.
type expiryFixture struct {
	t     *testing.T
	path  string
	clock *testkit.Clock
	store *store.Store
	days  []int
	fails error
}

func newExpiry(t *testing.T) *expiryFixture {
	t.Helper()
	f := &expiryFixture{t: t, clock: testkit.NewClock(), path: filepath.Join(t.TempDir(), "postern.db")}
	f.open()
	t.Cleanup(func() { f.store.Close() })
	if _, err := f.store.CreateAccount(t.Context(), bob, 0, nil); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *expiryFixture) open() {
	f.t.Helper()
	var err error
	if f.store, err = store.Open(f.t.Context(), store.Options{Path: f.path, Now: f.clock.Now}); err != nil {
		f.t.Fatal(err)
	}
}

// restart is what a gateway goes through between two days.
func (f *expiryFixture) restart() {
	f.t.Helper()
	if err := f.store.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.open()
}

// has gives bob a certificate of a key of g.
func (f *expiryFixture) has(g *gnupg, fingerprint string) {
	f.t.Helper()
	c := g.certificate(f.t, fingerprint)
	row := store.Certificate{Address: bob.Key(), Fingerprint: c.Fingerprint(), Data: c.Data(), Source: "operator"}
	_, err := f.store.AddCertificate(f.t.Context(), row)
	if errors.Is(err, store.ErrExists) {
		_, err = f.store.ReplaceCertificate(f.t.Context(), row)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

// warn does what happens once a day.
func (f *expiryFixture) warn() error {
	return WarnOwners(context.Background(), f.store, f.clock.Now(), func(e Expiring) error {
		if f.fails != nil {
			return f.fails
		}
		if e.Address != bob {
			f.t.Errorf("warned %v", e.Address)
		}
		f.days = append(f.days, e.Days)
		return nil
	})
}

// pass lets days pass, each with a restart and two rounds of warnings.
func (f *expiryFixture) pass(days int) {
	f.t.Helper()
	for range days {
		f.clock.Advance(24 * time.Hour)
		for range 2 {
			f.restart()
			if err := f.warn(); err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

func (f *expiryFixture) want(days ...int) {
	f.t.Helper()
	if !slices.Equal(f.days, days) {
		f.t.Errorf("warned %v days before, want %v", f.days, days)
	}
}

func TestOwnersAreWarned(t *testing.T) {
	t.Parallel()
	f, g := newExpiry(t), newGnuPG(t)
	k := g.keyAt(t, yesterday(), "41d") // ends in 40 days
	f.has(g, k)
	f.pass(9)
	f.want()
	f.pass(1)
	f.want(30)
	f.pass(22)
	f.want(30)
	f.pass(1)
	f.want(30, 7)
	f.pass(6)
	f.want(30, 7, 1)
	f.pass(10) // and not after its end
	f.want(30, 7, 1)
}

func TestRenewedOwnersAreWarnedAnew(t *testing.T) {
	t.Parallel()
	f, g := newExpiry(t), newGnuPG(t)
	k := g.keyAt(t, yesterday(), "21d")
	f.has(g, k)
	f.pass(1)
	f.want(30) // late, but said
	g.at(t, f.clock.Now(), "--quick-set-expire", k, "60d")
	g.at(t, f.clock.Now(), "--quick-set-expire", k, "60d", "*")
	f.has(g, k)
	f.pass(28)
	f.want(30)
	f.pass(40)
	f.want(30, 30, 7, 1)
}

// TestNobodyIsWarnedInVain: not while another certificate lasts longer, and not of one
// that ended already.
func TestNobodyIsWarnedInVain(t *testing.T) {
	t.Parallel()
	f, g := newExpiry(t), newGnuPG(t)
	f.has(g, g.keyAt(t, yesterday(), "5d"))
	other := g.keyAt(t, yesterday(), "60d")
	f.has(g, other)
	f.pass(20)
	f.want()
	f.pass(10)
	f.want(30) // of the one that lasts
	f.has(g, g.keyAt(t, yesterday(), "never"))
	f.pass(40)
	f.want(30)
}

// TestAWarningIsNotLost: who could not be warned is warned the next time.
func TestAWarningIsNotLost(t *testing.T) {
	t.Parallel()
	f, g := newExpiry(t), newGnuPG(t)
	f.has(g, g.keyAt(t, yesterday(), "20d"))
	f.fails = errors.New("the disk is full")
	if err := f.warn(); !errors.Is(err, f.fails) {
		t.Fatal(err)
	}
	f.fails = nil
	f.pass(1)
	f.want(30)
}
