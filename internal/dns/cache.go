package dns

import (
	"net"
	"time"
)

// Bounds of the cache. An answer over maxAnswerSize octets is no answer: nothing
// that is published for mail is so large, and to evaluate it would cost too much.
// Certificates are, but are not remembered here: whoever asks for one keeps it.
const (
	maxEntries    = 10_000
	maxCacheSize  = 8 << 20
	maxAnswerSize = 16 << 10
	maxKeySize    = 64 << 10
	// evictSample is how many entries are looked at to find one to drop.
	evictSample = 8
)

// How long answers are kept, whatever the zone says.
const (
	minPositive = 5 * time.Second
	maxPositive = time.Hour
	minNegative = 5 * time.Second
	maxNegative = 5 * time.Minute
	failureTTL  = time.Minute
)

// A question is a domain name in lower case without a dot at the end, and a type.
type question struct {
	name  string
	qtype uint16
}

// limit is the largest answer to q, in octets.
func (q question) limit() int {
	if q.qtype == TypeOPENPGPKEY {
		return maxKeySize
	}
	return maxAnswerSize
}

// An entry is an answer, or the error that the look-up failed a short while ago.
type entry struct {
	answer  *Answer
	err     *net.DNSError
	expires time.Time
}

func (e entry) size() int {
	if e.answer == nil {
		return 0
	}
	return e.answer.size()
}

// cache is bounded in entries and in octets of record data. Its owner's lock
// guards it.
type cache struct {
	entries map[question]entry
	size    int
}

func (c *cache) get(q question, now time.Time) (entry, bool) {
	e, ok := c.entries[q]
	if !ok || !now.Before(e.expires) {
		return entry{}, false
	}
	return e, true
}

func (c *cache) put(q question, e entry, now time.Time) {
	c.drop(q)
	if e.size() > maxAnswerSize {
		return
	}
	for len(c.entries) >= maxEntries || c.size+e.size() > maxCacheSize {
		c.evict(now)
	}
	if c.entries == nil {
		c.entries = make(map[question]entry)
	}
	c.entries[q] = e
	c.size += e.size()
}

func (c *cache) drop(q question) {
	if e, ok := c.entries[q]; ok {
		c.size -= e.size()
		delete(c.entries, q)
	}
}

// evict drops, of a few entries in the map's random order, the expired ones or
// else the one that would expire first: no list to keep, no lock held for long.
func (c *cache) evict(now time.Time) {
	var victim question
	var first time.Time
	n, dropped := 0, false
	for q, e := range c.entries {
		if !now.Before(e.expires) {
			c.drop(q)
			dropped = true
		} else if first.IsZero() || e.expires.Before(first) {
			victim, first = q, e.expires
		}
		if n++; n == evictSample {
			break
		}
	}
	if !dropped {
		c.drop(victim)
	}
}

func clamp(d, low, high time.Duration) time.Duration {
	return max(low, min(d, high))
}
