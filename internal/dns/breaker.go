package dns

import "time"

// When the breaker trips and for how long. A server that is silent, unreachable
// or refuses us counts three times as much as one that answers SERVFAIL, which
// may as well be the fault of the domains asked for.
const (
	silentStrikes   = 3
	servfailStrikes = 1
	tripStrikes     = 15
	openFor         = 30 * time.Second
)

// A breaker stops look-ups when nothing has been answered for several different
// domains in a row. It is not safe for concurrent use: its owner's lock guards it.
type breaker struct {
	// struck holds the domains that failed since the last success: one broken
	// domain never trips the breaker alone, however many names it has.
	struck  map[string]struct{}
	strikes int
	open    bool
	until   time.Time // while open: when the next probe may go out
	probing bool      // while open: a probe is on its way
}

// blocked reports whether a look-up must fail without being tried.
func (b *breaker) blocked(now time.Time) bool {
	return b.open && (b.probing || now.Before(b.until))
}

// begin is called before a look-up goes out; probe says that it is the one that
// decides whether the breaker closes.
func (b *breaker) begin() (probe bool) {
	if b.open {
		b.probing = true
	}
	return b.open
}

// success closes the breaker.
func (b *breaker) success() {
	*b = breaker{}
}

// failure counts a failed look-up of name. silent is false if the server
// answered SERVFAIL. It reports whether this one tripped the breaker.
func (b *breaker) failure(name string, silent, probe bool, now time.Time) (tripped bool) {
	if b.open {
		if probe {
			b.probing = false
			if silent {
				b.until = now.Add(openFor)
			}
		}
		return false
	}
	domain := lastLabels(name, 2)
	if _, seen := b.struck[domain]; seen {
		return false
	}
	if b.struck == nil {
		b.struck = make(map[string]struct{}, tripStrikes)
	}
	b.struck[domain] = struct{}{}
	b.strikes += servfailStrikes
	if silent {
		b.strikes += silentStrikes - servfailStrikes
	}
	if b.strikes < tripStrikes {
		return false
	}
	*b = breaker{open: true, until: now.Add(openFor)}
	return true
}
