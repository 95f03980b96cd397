package auth

import (
	"errors"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"
)

func TestDelay(t *testing.T) {
	t.Parallel()
	for failures, want := range map[int]time.Duration{
		0: 0, 1: 0, 4: 0, 5: time.Second, 6: 2 * time.Second, 7: 4 * time.Second, 12: 128 * time.Second,
		13: 256 * time.Second, 14: maxWait, 15: maxWait, 1000: maxWait, 1 << 40: maxWait,
	} {
		if got := delay(failures); got != want {
			t.Errorf("delay(%d) = %v, want %v", failures, got, want)
		}
	}
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := network(ip(in)); got != want {
			t.Errorf("network(%s) = %s, want %s", in, got, want)
		}
	}
	if network(netip.Addr{}) == "" {
		t.Error("no address has no name")
	}
}

// A story in steps: what one attempt meets, and how it ends.
func TestThrottle(t *testing.T) {
	t.Parallel()
	const (
		home, office, away = "192.0.2.1", "192.0.2.2", "192.0.2.3"
		evil               = "203.0.113.66"
	)
	type step struct {
		advance        time.Duration
		from, account  string
		all, guessable time.Duration // what waits says before
		end            string        // "fail", "ok", or ""
		times          int           // 0 is 1; waits is checked before the first
	}
	for name, steps := range map[string][]step{
		"grows from one network, over accounts": {
			{0, evil, "a", 0, 0, "fail", 2}, {0, evil, "b", 0, 0, "fail", 2},
			{0, evil, "c", 0, 0, "fail", 1}, {0, evil, "d", time.Second, 0, "", 1},
			{time.Second, evil, "d", 0, 0, "fail", 1}, {0, evil, "e", 2 * time.Second, 0, "", 1},
			{2*time.Second - 1, evil, "e", 1, 0, "", 1}, {1, evil, "e", 0, 0, "fail", 1},
			{0, evil, "f", 4 * time.Second, 0, "", 1}, {0, home, "f", 0, 0, "", 1},
		},
		"never over five minutes": {
			{0, evil, "a", 0, 0, "fail", 100}, {0, evil, "b", maxWait, 0, "", 1},
			{maxWait, evil, "b", 0, 0, "fail", 1}, {0, evil, "c", maxWait, 0, "", 1},
		},
		"is forgotten": {
			{0, evil, "a", 0, 0, "fail", 20}, {forgetAfter, evil, "a", 0, 0, "", 1},
			{1, evil, "a", 0, 0, "fail", freeFailures}, {0, evil, "a", 0, 0, "", 1},
		},
		"an account from many networks": {
			{0, "203.0.113.1", "a", 0, 0, "fail", 2}, {0, "203.0.113.2", "a", 0, 0, "fail", 3},
			{0, "203.0.113.3", "a", 0, time.Second, "fail", 1},
			{0, "203.0.113.4", "a", 0, time.Second, "", 1}, // the wait was not made longer
			{time.Second, "203.0.113.5", "a", 0, 0, "fail", 1}, {0, "203.0.113.6", "a", 0, 2 * time.Second, "", 1},
			{0, "203.0.113.6", "b", 0, 0, "", 1},
		},
		"the owner is not locked out": {
			{0, home, "a", 0, 0, "ok", 1}, {time.Hour, evil, "a", 0, 0, "fail", 50},
			{0, away, "a", 0, time.Second, "", 1}, {0, home, "a", 0, 0, "ok", 1},
			{0, evil, "a", maxWait, time.Second, "", 1}, // the owner's success does not help
		},
		"the owner's own typing errors": {
			{0, home, "a", 0, 0, "ok", 1}, {0, home, "a", 0, 0, "fail", freeFailures + 1},
			{0, home, "a", time.Second, 0, "", 1}, {0, home, "b", 0, 0, "", 1}, {0, away, "a", 0, 0, "", 1},
			{time.Second, home, "a", 0, 0, "ok", 1}, {0, home, "a", 0, 0, "fail", freeFailures}, {0, home, "a", 0, 0, "", 1},
		},
		"an office with one wrong client": {
			{0, office, "a", 0, 0, "ok", 1}, {0, office, "b", 0, 0, "fail", 50},
			{0, office, "a", 0, 0, "ok", 1}, {0, office, "c", maxWait, 0, "", 1},
			{maxWait, office, "c", 0, 0, "ok", 1}, {0, office, "d", 0, 0, "", 1},
		},
		"a login of one's own does not reset": {
			{0, evil, "mine", 0, 0, "ok", 1}, {0, evil, "a", 0, 0, "fail", freeFailures},
			{0, evil, "mine", 0, 0, "ok", 1}, {0, evil, "a", 0, 0, "fail", 1}, {0, evil, "a", time.Second, time.Second, "", 1},
		},
		"a login from a new place resets": {
			{0, evil, "a", 0, 0, "fail", 10}, {0, home, "a", 0, time.Second, "ok", 1}, {0, away, "a", 0, 0, "fail", freeFailures}, {0, office, "a", 0, 0, "", 1},
		},
		"trust ends": {
			{0, home, "a", 0, 0, "ok", 1}, {trustFor, evil, "a", 0, 0, "fail", 5},
			{0, home, "a", 0, 0, "fail", 1}, {1, home, "a", 0, time.Second - 1, "", 1},
		},
		"IPv6 neighbours are one": {
			{0, "2001:db8::1", "a", 0, 0, "fail", 3}, {0, "2001:db8::2", "b", 0, 0, "fail", 2},
			{0, "2001:db8::3", "c", time.Second, 0, "", 1}, {0, "2001:db8:0:1::3", "c", 0, 0, "", 1},
		},
	} {
		now := newClock()
		th := newThrottle(now.Now)
		for i, s := range steps {
			now.Advance(s.advance)
			try := th.attempt(ip(s.from), s.account)
			if all, guessable := try.waits(); all != s.all || guessable != s.guessable {
				t.Errorf("%s, step %d: waits %v, %v; want %v, %v", name, i, all, guessable, s.all, s.guessable)
			}
			for range max(1, s.times) {
				switch s.end {
				case "fail":
					try.fail()
				case "ok":
					try.succeed()
				}
			}
		}
	}
}

func TestThrottleIsBounded(t *testing.T) {
	t.Parallel()
	now := newClock()
	th := newThrottle(now.Now)
	guesser := th.attempt(ip("203.0.113.66"), "victim")
	for range 20 {
		guesser.fail()
	}
	for i := range 3 * tableSize {
		a := [16]byte{0: 0x20, 1: 1, 4: byte(i >> 16), 5: byte(i >> 8), 6: byte(i)}
		try := th.attempt(netip.AddrFrom16(a), strconv.Itoa(i))
		if i%2 == 0 {
			try.fail()
		} else {
			try.succeed()
		}
	}
	for name, table := range map[string]table{"sources": th.sources, "accounts": th.accounts, "known": th.known} {
		if len(table) > tableSize {
			t.Errorf("%s: %d entries, want at most %d", name, len(table), tableSize)
		}
	}
	// Those who wait are forgotten last.
	if all, _ := guesser.waits(); all != maxWait {
		t.Errorf("the guesser waits %v, want %v", all, maxWait)
	}
}

func TestThrottleRace(t *testing.T) {
	t.Parallel()
	th := newThrottle(time.Now)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				try := th.attempt(netip.AddrFrom4([4]byte{192, 0, 2, byte(j % 7)}), strconv.Itoa(j%5))
				try.waits()
				if (i+j)%3 == 0 {
					try.succeed()
				} else {
					try.fail()
				}
			}
		})
	}
	wg.Wait()
}

// What an outsider can do to somebody with an app password: nothing.
func TestAppPasswordIsNeverLockedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 40 {
		_, err := w.Password(t.Context(), netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), alice, "a wrong password")
		if err == nil {
			t.Fatal("a wrong password was accepted")
		}
	}
	var throttled *ErrThrottled
	_, err := w.Password(t.Context(), ip("198.51.100.1"), alice, aliceHuman)
	if !errors.As(err, &throttled) || throttled.Wait != time.Second {
		t.Errorf("chosen password from a new network: got %v, want a wait of 1 s", err)
	}
	if _, err := w.Password(t.Context(), ip("198.51.100.2"), alice, w.alice[1]); err != nil {
		t.Errorf("app password from a new network: %v", err)
	}
	if _, err := w.Password(t.Context(), ip("198.51.100.2"), alice, aliceHuman); err != nil {
		t.Errorf("chosen password from a network that is known by now: %v", err)
	}
}
