package auth

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// directory is a Directory in memory. Like a real one it accepts an address in any
// case and with a sub-address.
type directory struct {
	mu    sync.Mutex
	creds map[string][]Credential
	used  []int64
	err   error
}

func (d *directory) Credentials(_ context.Context, login string) ([]Credential, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]Credential(nil), d.creds[accountKey(login)]...), d.err
}

func (d *directory) Used(_ context.Context, c Credential) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used = append(d.used, c.ID)
}

const (
	alice, bob, carol = "alice@example.org", "bob@example.org", "carol@example.org"
	aliceHuman        = "four wild geese"
	carolHuman        = "a second flock"
)

// world has alice with two app passwords and a chosen one, bob with an app
// password, and carol with a chosen one. Chosen ones are stretched less than in
// life to keep the tests fast, but enough to count as slow.
type world struct {
	*Authenticator
	dir   *directory
	clock *clock
	alice [2]string
	bob   string
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{dir: &directory{creds: map[string][]Credential{}}, clock: newClock()}
	add := func(account string, c Credential) {
		c.ID = int64(100 + len(w.dir.creds)*10 + len(w.dir.creds[account]))
		w.dir.creds[account] = append(w.dir.creds[account], c)
	}
	for i := range w.alice {
		w.alice[i] = NewAppPassword()
		add(alice, AppCredential(alice, w.alice[i], w.dir.creds[alice]))
	}
	add(alice, stretched(alice, aliceHuman, w.dir.creds[alice], quickIterations+1))
	w.bob = NewAppPassword()
	add(bob, AppCredential(bob, w.bob, nil))
	add(carol, stretched(carol, carolHuman, nil, quickIterations+1))
	w.restart(Options{Secret: []byte("a secret of the gateway, 32 long")})
	return w
}

// restart makes a new Authenticator, which remembers no failures.
func (w *world) restart(o Options) {
	o.Directory, o.Now = w.dir, w.clock.Now
	w.Authenticator = New(o)
	w.stretch = quickIterations + 1
}

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bare := strings.ReplaceAll(w.alice[1], "-", "")
	for name, tt := range map[string]struct {
		login, password string
		credential      int // index in the account's list; -1: rejected
	}{
		"first app password":      {alice, w.alice[0], 0},
		"second app password":     {alice, w.alice[1], 1},
		"without dashes":          {alice, bare, 1},
		"capitals and blanks":     {alice, strings.ToUpper(bare[:9]) + " " + bare[9:], 1},
		"chosen":                  {alice, aliceHuman, 2},
		"chosen, other case":      {alice, strings.ToUpper(aliceHuman), -1},
		"login in capitals":       {"Alice@Example.ORG", w.alice[0], 0},
		"login with sub-address":  {"alice+require@example.org", w.alice[0], 0},
		"somebody else's":         {alice, w.bob, -1},
		"empty":                   {alice, "", -1},
		"too long":                {alice, strings.Repeat("a", maxPassword+1), -1},
		"not UTF-8":               {alice, "\xff\xfe", -1},
		"unknown login":           {"nobody@example.org", w.alice[0], -1},
		"unknown, chosen":         {"nobody@example.org", aliceHuman, -1},
		"no login":                {"", w.alice[0], -1},
		"login too long":          {strings.Repeat("a", maxLogin+1), w.alice[0], -1},
		"only a chosen one":       {carol, carolHuman, 0},
		"only a chosen one, miss": {carol, aliceHuman, -1},
	} {
		w.clock.Advance(time.Hour) // nobody has to wait
		id, err := w.Password(t.Context(), ip("192.0.2.1"), tt.login, tt.password)
		if tt.credential < 0 {
			if !errors.Is(err, ErrRejected) || id != (Identity{}) {
				t.Errorf("%s: got %+v, %v; want ErrRejected", name, id, err)
			}
			continue
		}
		account := accountKey(tt.login)
		want := Identity{Login: account, Credential: w.dir.creds[account][tt.credential].ID}
		if err != nil || id != want {
			t.Errorf("%s: got %+v, %v; want %+v", name, id, err, want)
		}
		if n := len(w.dir.used); n == 0 || w.dir.used[n-1] != want.Credential {
			t.Errorf("%s: use of credential %d was not told: %v", name, want.Credential, w.dir.used)
		}
	}
}

// A directory that cannot look must let nobody in, and nobody pay for it.
func TestPasswordFailsClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.dir.err = errors.New("database is gone")
	for range 3 * freeFailures {
		_, err := w.Password(t.Context(), ip("192.0.2.1"), alice, w.alice[0])
		if err == nil || errors.Is(err, ErrRejected) || !errors.Is(err, w.dir.err) {
			t.Fatalf("got %v, want the directory's error", err)
		}
	}
	w.dir.err = nil
	if _, err := w.Password(t.Context(), ip("192.0.2.1"), alice, w.alice[0]); err != nil {
		t.Fatalf("after the failure: %v", err)
	}
}

func TestPasswordContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range cap(w.quick) {
		w.quick <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Logins that do not exist wait for their turn like others: the work is the same.
	for _, login := range []string{alice, bob, "nobody@example.org", ""} {
		if _, err := w.Password(ctx, ip("192.0.2.1"), login, w.alice[0]); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", login, err)
		}
	}
}

// Logins that exist and logins that do not get the same answers in the same order.
func TestUnknownLoginLooksAlike(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	answers := func(login string, next func(i int) netip.Addr) (out []string) {
		w.restart(Options{})
		for i := range 3 * freeFailures {
			_, err := w.Password(t.Context(), next(i), login, "a wrong password")
			out = append(out, err.Error())
		}
		return out
	}
	for name, next := range map[string]func(int) netip.Addr{
		"one network":    func(int) netip.Addr { return ip("192.0.2.1") },
		"many networks":  func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) },
		"two by turns":   func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 2)}) },
		"IPv6 neighbour": func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}) },
	} {
		want := strings.Join(answers("nobody@example.org", next), "\n")
		if !strings.Contains(want, "try again in") {
			t.Errorf("%s: nobody was ever told to wait:\n%s", name, want)
		}
		for _, login := range []string{alice, bob, carol} {
			if got := strings.Join(answers(login, next), "\n"); got != want {
				t.Errorf("%s: %s got\n%s\nwant, as for an unknown login,\n%s", name, login, got, want)
			}
		}
	}
}

// A wrong password costs the same derivations for every login, or the time would tell
// who exists, and who has a password that could be guessed.
func TestWrongPasswordCostsTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	dave := "dave@example.org" // has two of each
	for _, p := range []string{"a third wild goose", "a fourth wild goose"} {
		w.dir.creds[dave] = append(w.dir.creds[dave],
			stretched(dave, p, w.dir.creds[dave], quickIterations+1), AppCredential(dave, NewAppPassword(), w.dir.creds[dave]))
	}
	for _, password := range []string{"a wrong password", NewAppPassword(), "", "\xff"} {
		for _, login := range []string{alice, bob, carol, dave, "nobody@example.org", "", strings.Repeat("a", maxLogin+1)} {
			w.clock.Advance(time.Hour) // nobody has to wait
			creds, try, err := w.lookUp(t.Context(), ip("192.0.2.1"), login)
			if err != nil {
				t.Fatal(err)
			}
			d := derivation{a: w.Authenticator, try: try}
			if _, _, err := d.verify(t.Context(), login, password, creds); !errors.Is(err, ErrRejected) {
				t.Fatalf("%q: %v", login, err)
			}
			var cost []int
			for _, e := range d.done {
				cost = append(cost, e.iterations)
			}
			if want := []int{AppIterations, quickIterations + 1}; !slices.Equal(cost, want) {
				t.Errorf("%q, %q: %v, want %v", login, password, cost, want)
			}
		}
	}
	if real := New(Options{Directory: w.dir}); real.stretch != HumanIterations {
		t.Errorf("outside of tests it is %d", real.stretch)
	}
}

// Spellings of one account share one count.
func TestSpellingsShareTheCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range freeFailures + 1 {
		from := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		login := "ALICE+" + strings.Repeat("x", i) + "@example.org"
		if _, err := w.Password(t.Context(), from, login, "a wrong password"); !errors.Is(err, ErrRejected) {
			t.Fatalf("attempt %d: %v", i, err)
		}
	}
	var throttled *ErrThrottled
	if _, err := w.Password(t.Context(), ip("198.51.100.1"), alice, aliceHuman); !errors.As(err, &throttled) {
		t.Fatalf("got %v, want *ErrThrottled", err)
	}
	// Spellings that only the directory understands.
	for i := range freeFailures + 1 {
		alias := "\"c\\" + strings.Repeat("a", i) + "rol\"@example.org"
		w.dir.creds[alias] = w.dir.creds[carol]
		if _, err := w.Password(t.Context(), netipOf(byte(i)), alias, "a wrong password"); !errors.Is(err, ErrRejected) {
			t.Fatalf("attempt %d: %v", i, err)
		}
	}
	if _, err := w.Password(t.Context(), ip("198.51.100.2"), carol, carolHuman); !errors.As(err, &throttled) {
		t.Fatalf("got %v, want *ErrThrottled", err)
	}
}

// A thousand guesses at once are not a thousand free guesses.
func TestGuessesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	looked := 0
	for range 200 {
		wg.Go(func() {
			_, err := w.Password(t.Context(), ip("192.0.2.1"), alice, "a wrong password")
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, ErrRejected) {
				looked++
			}
		})
	}
	wg.Wait()
	if most := freeFailures + 1 + cap(w.quick) + cap(w.slow); looked > most {
		t.Fatalf("%d guesses were looked at, want at most %d", looked, most)
	}
}

func TestVerifiedAreRemembered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	login := func() error {
		_, err := w.Password(t.Context(), ip("192.0.2.1"), alice, w.alice[0])
		return err
	}
	block := func() (undo func()) { // no turn to derive is free
		for range cap(w.quick) {
			w.quick <- struct{}{}
		}
		return func() {
			for range cap(w.quick) {
				<-w.quick
			}
		}
	}
	if err := login(); err != nil {
		t.Fatal(err)
	}
	undo := block()
	if err := login(); err != nil { // would wait for ever if it derived
		t.Fatal(err)
	}
	undo()
	w.clock.Advance(cacheFor)
	if _, ok := w.verified.find(w.alice[0], w.dir.creds[alice]); ok {
		t.Error("remembered after its time")
	}
	if err := login(); err != nil {
		t.Fatal(err)
	}
	// The password of the same credential changes, then the credential goes.
	w.dir.creds[alice][0] = AppCredential(alice, NewAppPassword(), w.dir.creds[alice])
	w.dir.creds[alice][0].ID = 110
	if err := login(); !errors.Is(err, ErrRejected) {
		t.Errorf("changed credential: got %v, want ErrRejected", err)
	}
	w.dir.creds[alice] = nil
	if err := login(); !errors.Is(err, ErrRejected) {
		t.Errorf("removed credential: got %v, want ErrRejected", err)
	}
	// A chosen password is never remembered.
	if _, err := w.Password(t.Context(), ip("192.0.2.2"), carol, carolHuman); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.verified.find(carolHuman, w.dir.creds[carol]); ok {
		t.Error("a chosen password is remembered")
	}
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	now := newClock()
	c := newCache(now.Now)
	cred := Credential{ID: 1, Account: alice, StoredKey: make([]byte, 32)}
	for i := range cacheSize + 100 {
		c.add(strings.Repeat("x", i), cred)
	}
	if len(c.entries) > cacheSize {
		t.Fatalf("%d entries, want at most %d", len(c.entries), cacheSize)
	}
	now.Advance(cacheFor)
	c.add("another", cred)
	if len(c.entries) != 1 {
		t.Fatalf("%d entries, want those that expired to be gone", len(c.entries))
	}
}

func BenchmarkPassword(b *testing.B) {
	w := newWorld(b)
	b.Run("derived", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			clear(w.verified.entries)
			if _, err := w.Password(b.Context(), ip("192.0.2.1"), alice, w.alice[0]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Password(b.Context(), ip("192.0.2.1"), alice, w.alice[0]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
