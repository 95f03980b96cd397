package auth

import (
	"net/netip"
	"strings"
	"sync"
	"time"
)

// How failed attempts slow down the next ones.
const (
	freeFailures = 4               // without any wait
	maxWait      = 5 * time.Minute // after 1 s, 2 s, 4 s, ...
	forgetAfter  = 30 * time.Minute
	trustFor     = 7 * 24 * time.Hour // a network the owner logged in from

	// Entries of each table. All of them full take about 15 MiB.
	tableSize = 32_768
)

// throttle makes those wait who guess passwords. It counts failures
//
//   - by source network (an IPv4 address, an IPv6 /64): after the free ones,
//     nothing from there is looked at until the wait is over;
//   - by account: after the free ones, from networks that are not known, only app
//     passwords are looked at until the wait is over. They cannot be guessed, so
//     nobody is kept out who holds one; a password that a person chose has to
//     wait there.
//
// A network from which the owner logged in within the last seven days is known
// for that account. Attempts from there are counted by a table of their own and
// by neither of the above. So an outsider cannot lock the owner out of the places
// the owner is used to, nor can a neighbour behind the same address.
//
// Success forgets the failures in those tables that the attempt was counted by,
// and only in those: with a login of one's own nobody resets the count of guesses
// at another's.
//
// Everything is in memory and bounded; when a table is full, somebody is
// forgotten early.
type throttle struct {
	now func() time.Time

	mu       sync.Mutex
	sources  table
	accounts table
	known    table // by source and account; entries exist only after a success
}

type table map[string]*strikes

// strikes counts failures in a row.
type strikes struct {
	failures int
	last     time.Time // the last failure; in known, the last success
	until    time.Time // nothing is looked at before
}

// attempt is one attempt to log in.
type attempt struct {
	t                        *throttle
	source, account, visitor string
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, sources: table{}, accounts: table{}, known: table{}}
}

func (t *throttle) attempt(ip netip.Addr, account string) attempt {
	source := network(ip)
	return attempt{t: t, source: source, account: account, visitor: source + " " + account}
}

// network is what one customer of a provider has: an IPv4 address or an IPv6 /64.
func network(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// waits returns how long nothing is looked at, and how long no password is looked
// at that could be guessed. Zero means not at all.
func (a attempt) waits() (all, guessable time.Duration) {
	t := a.t
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if k := t.known.get(a.visitor, now, trustFor); k != nil {
		return wait(k, now), 0
	}
	return wait(t.sources.get(a.source, now, forgetAfter), now), wait(t.accounts.get(a.account, now, forgetAfter), now)
}

// fail counts a failure. An attempt during an account's wait does not make that
// wait longer, or an outsider could keep it up for ever without guessing.
func (a attempt) fail() {
	t := a.t
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if k := t.known.get(a.visitor, now, trustFor); k != nil {
		succeeded := k.last
		k.strike(now)
		k.last = succeeded // failures do not prolong trust
		return
	}
	t.sources.make(a.source, now, forgetAfter).strike(now)
	if acc := t.accounts.make(a.account, now, forgetAfter); wait(acc, now) == 0 {
		acc.strike(now)
	}
}

// succeed forgets failures and makes the network known for the account.
func (a attempt) succeed() {
	t := a.t
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	k := t.known.get(a.visitor, now, trustFor)
	if k == nil {
		delete(t.sources, a.source)
		delete(t.accounts, a.account)
		k = t.known.make(a.visitor, now, trustFor)
	}
	*k = strikes{last: now}
}

func wait(s *strikes, now time.Time) time.Duration {
	if s == nil {
		return 0
	}
	return max(0, s.until.Sub(now))
}

func (s *strikes) strike(now time.Time) {
	s.failures++
	s.last = now
	s.until = now.Add(delay(s.failures))
}

// delay is the wait after so many failures in a row.
func delay(failures int) time.Duration {
	n := failures - freeFailures
	if n <= 0 {
		return 0
	}
	if n > 10 {
		return maxWait
	}
	return min(maxWait, time.Second<<(n-1))
}

// get returns the entry for key unless it is too old.
func (t table) get(key string, now time.Time, keep time.Duration) *strikes {
	s := t[key]
	if s == nil || now.Sub(s.last) > keep {
		return nil
	}
	return s
}

// make returns the entry for key, a new one if need be.
func (t table) make(key string, now time.Time, keep time.Duration) *strikes {
	if s := t.get(key, now, keep); s != nil {
		return s
	}
	if _, old := t[key]; !old && len(t) >= tableSize {
		t.makeRoom(now, keep)
	}
	s := &strikes{last: now}
	t[key] = s
	return s
}

// makeRoom drops what is too old. If that is not a sixteenth of the table, it
// drops others, those without a wait first, so that the work is rare.
func (t table) makeRoom(now time.Time, keep time.Duration) {
	const room = tableSize - tableSize/16
	drop := func(when func(*strikes) bool) {
		for key, s := range t {
			if len(t) <= room {
				return
			}
			if when(s) {
				delete(t, key)
			}
		}
	}
	drop(func(s *strikes) bool { return now.Sub(s.last) > keep })
	drop(func(s *strikes) bool { return !s.until.After(now) })
	drop(func(*strikes) bool { return true })
}

// accountKey is the key for a login whose account is not known: one spelling for
// those that would name the same account if it existed.
func accountKey(login string) string {
	login = strings.ToLower(prepare(login))
	local, domain, ok := strings.Cut(login, "@")
	if !ok {
		return login
	}
	local, _, _ = strings.Cut(local, "+")
	return local + "@" + domain
}
