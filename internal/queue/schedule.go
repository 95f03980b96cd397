package queue

import (
	"math/rand/v2"
	"time"
)

// Schedule says when what could not be delivered is tried again, and for how long. Zero
// values are the defaults.
type Schedule struct {
	First  time.Duration // after the first attempt; 5 min
	Last   time.Duration // the longest between two attempts; 4 h
	GiveUp time.Duration // age from which it goes back to its sender; 5 days
	// Warn is the age at which the sender hears that it is late; 4 h, less than 0 for
	// never.
	Warn time.Duration
	// Held is how long a copy that waits for a certificate is left alone; 5 min.
	Held time.Duration
}

func (s Schedule) withDefaults() Schedule {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&s.First, 5*time.Minute)
	set(&s.Last, 4*time.Hour)
	set(&s.GiveUp, 5*24*time.Hour)
	set(&s.Warn, 4*time.Hour)
	set(&s.Held, 5*time.Minute)
	return s
}

// after is how long to wait after so many attempts: twice as long each time, up to Last.
func (s Schedule) after(attempts int) time.Duration {
	d := s.First
	for ; attempts > 1 && d < s.Last; attempts-- {
		d *= 2
	}
	return min(d, s.Last)
}

// overdue is the age from which somebody is to hear of a recipient.
func (s Schedule) overdue() time.Duration {
	if s.Warn < 0 {
		return s.GiveUp
	}
	return min(s.Warn, s.GiveUp)
}

// jitter spreads a duration by a fifth to either side, so that what failed together is
// not tried together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}
