package store

import (
	"math/rand/v2"
	"sync"
	"time"
)

const idSequenceBits = 21

// idEpoch is where the milliseconds of an ID begin.
const idEpoch = 1704067200000 // 2024-01-01T00:00:00Z in Unix milliseconds

// idMaker makes the ids of one process.
type idMaker struct {
	mu   sync.Mutex
	now  func() time.Time
	last ID
}

// next returns an id greater than every one before it. The sequence of a new
// millisecond starts at random in its lower half: another process that makes
// ids in the same millisecond then very likely makes others, and there is room
// for a million more. A clock that steps back does no harm: the last id is
// counted on.
func (m *idMaker) next() ID {
	ms := max(m.now().UnixMilli()-idEpoch, 1)
	id := ID(ms)<<idSequenceBits | ID(rand.Int64N(1<<(idSequenceBits-1)))
	m.mu.Lock()
	defer m.mu.Unlock()
	if id>>idSequenceBits <= m.last>>idSequenceBits {
		id = m.last + 1
	}
	m.last = id
	return id
}

// NewID returns an id that no other row has.
func (s *Store) NewID() ID { return s.ids.next() }

// micros is how times are stored: microseconds since 1970, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// fromMicros is the inverse of micros; times come back in UTC.
func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
