package keydir

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
)

// countingPeers counts what is saved, and fails when told to.
type countingPeers struct {
	*store.Store
	mu    sync.Mutex
	saves int
	fail  error
}

func (c *countingPeers) Peer(ctx context.Context, key string) (store.Peer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return store.Peer{}, c.fail
	}
	return c.Store.Peer(ctx, key)
}

func (c *countingPeers) SavePeers(ctx context.Context, peers []store.Peer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return c.fail
	}
	c.saves++
	return c.Store.SavePeers(ctx, peers)
}

func (c *countingPeers) fails(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

// learner is an Autocrypt over a directory's store.
type learner struct {
	*Autocrypt
	*fixture
	peers *countingPeers
}

// newLearner returns a directory that asks WKD and then Autocrypt, or what change says.
func newLearner(t testing.TB, change ...func(*Options)) *learner {
	t.Helper()
	l := &learner{}
	with := func(o *Options) {
		l.peers = &countingPeers{Store: o.Store.(*store.Store)}
		l.Autocrypt = NewAutocrypt(AutocryptOptions{
			Store: l.peers, Hosted: o.Hosted, Now: o.Now,
			Changed: func(ctx context.Context, a mail.Address) error { return l.Directory.Expire(ctx, a, Observed) },
		})
		o.Sources[1] = l.Autocrypt
	}
	l.fixture = newDirectory(t, append([]func(*Options){with}, change...)...)
	return l
}

// hears lets a message of bob's teach; no data is a message without a valid field.
func (l *learner) hears(date time.Time, data []byte) {
	l.learn(l.t.Context(), Sighting{From: bob, Date: date, Received: day(200), KeyData: data})
}

// wantPeer checks what is saved of bob.
func (l *learner) wantPeer(last, key time.Time, data []byte) {
	l.t.Helper()
	p, err := l.peers.Store.Peer(l.t.Context(), bob.Key())
	if err != nil || !p.LastSeen.Equal(last) || !p.KeySeen.Equal(key) || !bytes.Equal(p.KeyData, data) {
		l.t.Errorf("last seen %v, key seen %v, %d octets, %v; want %v, %v, %d", p.LastSeen, p.KeySeen, len(p.KeyData), err, last, key, len(data))
	}
}

func (l *learner) wantNothing() {
	l.t.Helper()
	if _, err := l.peers.Store.Peer(l.t.Context(), bob.Key()); !errors.Is(err, store.ErrNotFound) {
		l.t.Errorf("something is known: %v", err)
	}
}

// TestAutocryptSource: what was learned is found, and what it says is right.
func TestAutocryptSource(t *testing.T) {
	t.Parallel()
	l := newLearner(t)
	f, err := l.Autocrypt.Lookup(t.Context(), bob)
	if err != nil || len(f.Certificates) != 0 || f.Detail == "" {
		t.Errorf("before: %+v, %v", f, err)
	}
	if p, err := l.Peer(t.Context(), bob); err != nil || p != (PeerState{}) {
		t.Errorf("before: %+v, %v", p, err)
	}
	c := key(t, "bob@there.test").Certificate()
	l.learn(t.Context(), Sighting{From: mail.Address{Local: "Bob", Domain: "there.test"}, Date: day(23), Received: day(24), KeyData: c.Data(), Mutual: true})
	f, err = l.Autocrypt.Lookup(t.Context(), bob)
	if err != nil || len(f.Certificates) != 1 || f.Certificates[0].Fingerprint() != c.Fingerprint() || f.Detail != "seen in mail of 2026-11-23" {
		t.Errorf("%+v, %v", f, err)
	}
	if p, err := l.Peer(t.Context(), bob); err != nil || !p.Usable || !p.Mutual || !p.KeySeen.Equal(day(23)) || Recommend(p, true, false) != Encrypt {
		t.Errorf("%+v, %v", p, err)
	}
	l.hears(day(80), nil)
	l.save(t.Context())
	f, err = l.Autocrypt.Lookup(t.Context(), bob)
	if err != nil || len(f.Certificates) != 1 || !strings.HasSuffix(f.Detail, "but not in newer mail up to 2027-01-19") {
		t.Errorf("%+v, %v", f, err)
	}
	if p, _ := l.Peer(t.Context(), bob); Recommend(p, true, false) != Discourage {
		t.Errorf("%+v", p)
	}
	l.peers.fails(errors.New("the store is down"))
	if f, err := l.Autocrypt.Lookup(t.Context(), bob); err == nil || strings.Contains(err.Error(), "bob") {
		t.Errorf("store down: %+v, %v", f, err)
	}
	if l.Autocrypt.Name() != "autocrypt" || l.Autocrypt.Trust() != Observed {
		t.Error("another source")
	}
}

// TestAutocryptPoison: keydata that is not a certificate for the address is as if the
// field were not there, and never harms the one that is known.
func TestAutocryptPoison(t *testing.T) {
	t.Parallel()
	good, eve := key(t, "bob@there.test"), key(t, "eve@there.test")
	data := good.Certificate().Data()
	userID := append([]byte{0xcd, 9}, "<x@y.zzz>"...)
	flipped := bytes.Clone(data)
	flipped[len(flipped)/2] ^= 1
	for name, poison := range map[string][]byte{
		"nothing":                     {},
		"garbage":                     []byte("\x99\xff\xffgarbage"),
		"text":                        []byte("not binary at all"),
		"armor":                       good.Certificate().Armor(),
		"cut off":                     data[:len(data)-5],
		"somebody else's":             eve.Certificate().Data(),
		"a domain that looks like it": key(t, "bob@there.test.evil.test").Certificate().Data(),
		"two certificates":            slices.Concat(data, eve.Certificate().Data()),
		"a secret key":                binary(t, good.Armor()),
		"300 user IDs":                slices.Concat(data, bytes.Repeat(userID, 300)),
		"user ID is not signed":       flipped,
		"huge packet":                 []byte("\xc6\xff\xff\xff\xff\xff\x04"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLearner(t)
			l.hears(day(1), poison)
			l.wantNothing()
			l.hears(day(2), data)
			l.hears(day(3), poison)
			l.save(t.Context())
			l.wantPeer(day(3), day(2), data)
		})
	}
}

// withoutUserID is the certificate of RFC 9580 A.3: version 6, no user ID.
const withoutUserID = `-----BEGIN PGP PUBLIC KEY BLOCK-----

xioGY4d/4xsAAAAg+U2nu0jWCmHlZ3BqZYfQMxmZu52JGggkLq2EVD34laPCsQYf
GwoAAABCBYJjh3/jAwsJBwUVCg4IDAIWAAKbAwIeCSIhBssYbE8GCaaX5NUt+mxy
KwwfHifBilZwj2Ul7Ce62azJBScJAgcCAAAAAK0oIBA+LX0ifsDm185Ecds2v8lw
gyU2kCcUmKfvBXbAf6rhRYWzuQOwEn7E/aLwIwRaLsdry0+VcallHhSu4RN6HWaE
QsiPlR4zxP/TP7mhfVEe7XWPxtnMUMtf15OyA51YBM4qBmOHf+MZAAAAIIaTJINn
+eUBXbki+PSAld2nhJh/LVmFsS+60WyvXkQ1wpsGGBsKAAAALAWCY4d/4wKbDCIh
BssYbE8GCaaX5NUt+mxyKwwfHifBilZwj2Ul7Ce62azJAAAAAAQBIKbpGG2dWTX8
j+VjFM21J0hqWlEg+bdiojWnKfA5AQpWUWtnNwDEM0g12vYxoWM8Y81W+bHBw805
I8kWVkXU6vFOi+HWvv/ira7ofJu16NnoUkhclkUrk0mXubZvyl4GBg==
-----END PGP PUBLIC KEY BLOCK-----
`

// TestAutocryptOdd: certificates that are not as the standard wants them, and are used
// all the same as far as they can be.
func TestAutocryptOdd(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		address string
		data    []byte
		userIDs int
		usable  bool
	}{
		"no user ID":        {"bob@there.test", binary(t, []byte(withoutUserID)), 0, true},
		"several addresses": {"erin@example.net", testFile(t, "several-addresses.pgp"), 1, true},
		"revoked":           {"dave@example.org", testFile(t, "revoked.pgp"), 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLearner(t)
			address, err := mail.ParseAddress(test.address)
			if err != nil {
				t.Fatal(err)
			}
			l.learn(t.Context(), Sighting{From: address, Date: day(1), Received: day(2), KeyData: test.data})
			f, err := l.Autocrypt.Lookup(t.Context(), address)
			if err != nil || len(f.Certificates) != 1 || len(f.Certificates[0].UserIDs()) != test.userIDs {
				t.Fatalf("%+v, %v", f, err)
			}
			if p, err := l.Peer(t.Context(), address); err != nil || p.Usable != test.usable {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
}

func testFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// binary takes the armor off.
func binary(t *testing.T, armored []byte) []byte {
	t.Helper()
	_, body, _ := bytes.Cut(bytes.ReplaceAll(armored, []byte("\r"), nil), []byte("\n\n"))
	body, _, _ = bytes.Cut(body, []byte("\n="))
	body, _, _ = bytes.Cut(body, []byte("\n-----END"))
	b, err := base64.StdEncoding.DecodeString(string(bytes.ReplaceAll(body, []byte("\n"), nil)))
	if err != nil || len(b) == 0 {
		t.Fatalf("dearmor: %v", err)
	}
	return b
}

// TestAutocryptStranger: of who never sent a certificate, and of our own users, nothing
// is kept.
func TestAutocryptStranger(t *testing.T) {
	t.Parallel()
	l := newLearner(t)
	l.hears(day(1), nil)
	l.wantNothing()
	alice := mail.Address{Local: "alice", Domain: "here.test"}
	l.learn(t.Context(), Sighting{From: alice, Date: day(1), Received: day(2), KeyData: key(t, "alice@here.test").Certificate().Data()})
	l.learn(t.Context(), Sighting{KeyData: key(t, "alice@here.test").Certificate().Data(), Received: day(2)})
	l.save(t.Context())
	if _, err := l.peers.Store.Peer(t.Context(), alice.Key()); !errors.Is(err, store.ErrNotFound) || l.peers.saves != 0 || len(l.unsaved) != 0 {
		t.Errorf("%v, %d saves, %d unsaved", err, l.peers.saves, len(l.unsaved))
	}
}

// TestAutocryptCoalesces: what brings nothing new but a date costs no commit each, and
// the rules are applied to the newest dates all the same.
func TestAutocryptCoalesces(t *testing.T) {
	t.Parallel()
	l := newLearner(t)
	c, other := key(t, "bob@there.test").Certificate().Data(), key(t, "bob@there.test").Certificate().Data()
	for i := range 100 {
		l.hears(day(1).Add(time.Duration(i)*time.Minute), c)
	}
	if l.peers.saves != 1 {
		t.Errorf("%d saves", l.peers.saves)
	}
	l.wantPeer(day(1), day(1), c)
	// Newer than what is saved, older than what is known.
	l.hears(day(1).Add(50*time.Minute), other)
	newest := day(1).Add(99 * time.Minute)
	l.save(t.Context())
	l.wantPeer(newest, newest, c)
	if l.peers.saves != 2 || len(l.unsaved) != 0 {
		t.Errorf("%d saves, %d unsaved", l.peers.saves, len(l.unsaved))
	}
	// Something new is saved at once, with the dates that were not.
	l.hears(day(3), nil)
	l.hears(day(2), other)
	l.wantPeer(day(3), day(2), other)
	if len(l.unsaved) != 0 {
		t.Errorf("%d unsaved", len(l.unsaved))
	}
	l.save(t.Context())
	if l.peers.saves != 3 {
		t.Errorf("%d saves", l.peers.saves)
	}
}

// TestAutocryptRandomly: whatever comes in which order, and whenever it is saved, the
// store ends with what the rules say of the messages since the first certificate.
func TestAutocryptRandomly(t *testing.T) {
	t.Parallel()
	poison := key(t, "eve@there.test").Certificate().Data()
	rnd := rand.New(rand.NewPCG(3, 4))
	l := newLearner(t)
	for run := range 40 {
		from := mail.Address{Local: "bob", Domain: fmt.Sprintf("there%d.test", run)}
		keys := [][]byte{key(t, from.String()).Certificate().Data(), key(t, from.String()).Certificate().Data()}
		var want store.Peer
		for i := range 1 + rnd.IntN(15) {
			s := Sighting{From: from, Date: day(1).Add(time.Duration(rnd.IntN(100)*15+i) * time.Hour), Received: day(5000)}
			switch rnd.IntN(4) {
			case 0:
				s.KeyData, s.Mutual = keys[rnd.IntN(len(keys))], rnd.IntN(2) == 0
			case 1:
				s.KeyData = poison
			}
			l.learn(t.Context(), s)
			if bytes.Equal(s.KeyData, poison) {
				s.KeyData = nil
			}
			if want = update(want, s); want.KeyData == nil {
				want = store.Peer{}
			}
			if rnd.IntN(5) == 0 {
				l.save(t.Context())
			}
		}
		l.save(t.Context())
		got, err := l.peers.Store.Peer(t.Context(), from.Key())
		want.Address = from.Key()
		if want.KeyData == nil && !errors.Is(err, store.ErrNotFound) || want.KeyData != nil && (err != nil || !samePeer(got, want)) {
			t.Fatalf("%+v, %v\nwant %+v", got, err, want)
		}
	}
}

// TestAutocryptBounded: neither what waits nor what is not saved grows without end.
func TestAutocryptBounded(t *testing.T) {
	t.Parallel()
	l := newLearner(t)
	for range maxSightings + 10 {
		l.Learn(Sighting{}) // nobody takes them; it must not block
	}
	if n := l.dropped.Load(); n != 10 {
		t.Errorf("%d dropped", n)
	}
	for i := range maxUnsaved {
		l.unsaved[time.Duration(i).String()] = store.Peer{Address: time.Duration(i).String(), KeyData: []byte("x")}
	}
	l.hears(day(1), key(t, "bob@there.test").Certificate().Data())
	l.hears(day(2), nil)
	if n := len(l.unsaved); n != 0 {
		t.Errorf("%d unsaved", n)
	}
}

// TestAutocryptRun: what waits when Run ends is learned, and a store that fails is
// survived.
func TestAutocryptRun(t *testing.T) {
	t.Parallel()
	l := newLearner(t)
	c, other := key(t, "bob@there.test").Certificate().Data(), key(t, "bob@there.test").Certificate().Data()
	run := func(seen ...Sighting) {
		for _, s := range seen {
			l.Learn(s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l.Autocrypt.Run(ctx)
	}
	run(Sighting{From: bob, Date: day(1), Received: day(9), KeyData: c}, Sighting{From: bob, Date: day(2), Received: day(9)})
	l.wantPeer(day(2), day(1), c)
	l.peers.fails(errors.New("the disk is full"))
	run(Sighting{From: bob, Date: day(3), Received: day(9), KeyData: other})
	l.peers.fails(nil)
	l.wantPeer(day(2), day(1), c)
	// The next message teaches the same.
	run(Sighting{From: bob, Date: day(4), Received: day(9), KeyData: other})
	l.wantPeer(day(4), day(4), other)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); l.Autocrypt.Run(ctx) }()
	l.Learn(Sighting{From: bob, Date: day(5), Received: day(9), KeyData: c})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if p, err := l.peers.Store.Peer(t.Context(), bob.Key()); err == nil && p.KeySeen.Equal(day(5)) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was learned")
		}
	}
	cancel()
	<-ended
}

// TestAutocryptExpires: a new certificate counts from the next look-up on, without
// waiting for what is remembered to become stale.
func TestAutocryptExpires(t *testing.T) {
	t.Parallel()
	shared := newFakeShared()
	l := newLearner(t, func(o *Options) { o.Shared = shared })
	two := New(Options{Store: l.store, Sources: l.Sources, Shared: shared, Now: l.clock.Now})
	shared.onInvalidate = two.Drop
	first, second := key(t, "bob@there.test").Certificate(), key(t, "bob@there.test").Certificate()
	l.want(l.Directory.Lookup(t.Context(), bob), mail.None, nil)
	l.want(two.Lookup(t.Context(), bob), mail.None, nil)
	asked := l.wkd.count()
	l.hears(day(1), first.Data())
	l.want(l.Directory.Lookup(t.Context(), bob), mail.Found, first)
	l.want(two.Lookup(t.Context(), bob), mail.Found, first)
	if n := l.wkd.count() - asked; n != 1 {
		t.Errorf("the sources were asked %d times", n)
	}
	// Only dates or another preference: nobody is asked again.
	l.hears(day(2), first.Data())
	l.learn(t.Context(), Sighting{From: bob, Date: day(2), Received: day(9), KeyData: first.Data(), Mutual: true})
	if a := l.Directory.Lookup(t.Context(), bob); !l.clock.Now().Before(a.FreshUntil) {
		t.Error("the answer is stale")
	}
	l.hears(day(3), second.Data())
	l.refreshed(func() { l.Directory.Lookup(t.Context(), bob) })
	l.want(l.Directory.Lookup(t.Context(), bob), mail.Found, second)
	if got := l.rules(); !slices.Equal(got, []Rule{RuleFirst, RuleReplaced}) {
		t.Errorf("history %v", got)
	}
}

// refreshed does something and waits for the look-up behind its back.
func (l *learner) refreshed(do func()) {
	l.t.Helper()
	do()
	if err := l.landed(l.t.Context(), bob.Key()); err != nil {
		l.t.Fatal(err)
	}
}

// TestAutocryptIsWeaker: where the domain itself publishes, mail teaches nothing, and
// does not make anybody ask again.
func TestAutocryptIsWeaker(t *testing.T) {
	t.Parallel()
	l := newLearner(t)
	published := key(t, "bob@there.test").Certificate()
	l.wkd.has("bob@there.test", published)
	l.want(l.Directory.Lookup(t.Context(), bob), mail.Found, published)
	l.hears(day(1), key(t, "bob@there.test").Certificate().Data())
	if a := l.Directory.Lookup(t.Context(), bob); !l.clock.Now().Before(a.FreshUntil) || l.wkd.count() != 1 {
		t.Error("mail from outside made the answer stale")
	}
	// Not even when the domain's certificate is gone.
	l.wkd.has("bob@there.test")
	l.want(l.again(), mail.Found, published)
}

// TestAutocryptWhileAsking: a look-up that has asked before there was something to
// find does not hide it afterwards.
func TestAutocryptWhileAsking(t *testing.T) {
	t.Parallel()
	l := newLearner(t, func(o *Options) { slices.Reverse(o.Sources) })
	block := make(chan struct{})
	l.wkd.mu.Lock()
	l.wkd.block = block
	l.wkd.mu.Unlock()
	answered := make(chan Answer)
	go func() { answered <- l.Directory.Lookup(t.Context(), bob) }()
	for deadline := time.Now().Add(10 * time.Second); l.wkd.count() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody was asked")
		}
	}
	c := key(t, "bob@there.test").Certificate()
	learned := make(chan struct{})
	go func() { defer close(learned); l.hears(day(1), c.Data()) }()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := l.peers.Store.Peer(t.Context(), bob.Key()); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was learned")
		}
	}
	close(block)
	if a := <-answered; a.Kind != mail.None {
		t.Errorf("%v", a.Kind)
	}
	<-learned
	l.want(l.Directory.Lookup(t.Context(), bob), mail.Found, c)
}

// TestExpire: the cases that Autocrypt does not come to.
func TestExpire(t *testing.T) {
	t.Parallel()
	l := newLearner(t)
	if err := l.Expire(t.Context(), bob, Observed); err != nil {
		t.Errorf("of whom nothing is known: %v", err)
	}
	if err := l.Expire(t.Context(), mail.Address{Local: "alice", Domain: "here.test"}, Pinned); err != nil {
		t.Errorf("one of our own: %v", err)
	}
	l.wkd.fails(errDown)
	l.want(l.Directory.Lookup(t.Context(), bob), mail.Unknown, nil)
	asked := l.wkd.count()
	if err := l.Expire(t.Context(), bob, Observed); err != nil {
		t.Error(err)
	}
	if l.Directory.Lookup(t.Context(), bob); l.wkd.count() != asked+1 {
		t.Error("Unknown was not asked again")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Expire(ended, bob, Observed); err == nil {
		t.Error("no error of a store that is not to be asked")
	}
}

func BenchmarkAutocryptLearn(b *testing.B) {
	l := newLearner(b)
	data := key(b, "bob@there.test").Certificate().Data()
	other := mail.Address{Local: "stranger", Domain: "there.test"}
	l.hears(day(1), data)
	b.Run("nothing new", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			l.hears(day(1).Add(time.Duration(i)*time.Second), data)
		}
	})
	b.Run("stranger", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			l.learn(b.Context(), Sighting{From: other, Date: day(1), Received: day(2)})
		}
	})
	b.Run("new certificate, rejected", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			l.learn(b.Context(), Sighting{From: other, Date: day(1), Received: day(2), KeyData: data})
		}
	})
}
