package cluster

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"postern/internal/testkit"
)

func woken(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestWakeReachesOnlyItsTopic(t *testing.T) {
	t.Parallel()
	m := NewMemory(nil)
	a1, end1 := m.Watch("a")
	a2, end2 := m.Watch("a")
	b, endB := m.Watch("b")
	defer end1()
	defer end2()
	defer endB()

	m.Wake("a")
	if !woken(a1) || !woken(a2) {
		t.Error("a watcher of the topic was not woken")
	}
	if woken(b) {
		t.Error("a watcher of another topic was woken")
	}
	m.WakeAll()
	if !woken(a1) || !woken(a2) || !woken(b) {
		t.Error("WakeAll left somebody asleep")
	}
}

func TestWakeCoalescesAndNeverBlocks(t *testing.T) {
	t.Parallel()
	m := NewMemory(nil)
	c, end := m.Watch("a")
	defer end()
	for range 1000 {
		m.Wake("a")
	}
	if !woken(c) {
		t.Fatal("not woken")
	}
	if woken(c) {
		t.Error("a thousand wake-ups did not coalesce into one")
	}
	m.Wake("a")
	if !woken(c) {
		t.Error("a wake-up after looking was lost")
	}
}

func TestEndedWatchIsForgotten(t *testing.T) {
	t.Parallel()
	m := NewMemory(nil)
	c, end := m.Watch("a")
	end()
	end()
	m.Wake("a")
	m.WakeAll()
	if woken(c) {
		t.Error("woken after the end")
	}
	if n := len(m.topics.byName); n != 0 {
		t.Errorf("%d topics are kept for nobody", n)
	}
}

// Whoever looks after a wake-up must see the change that was made before it, however
// many change and watch at once.
func TestNoWakeUpIsLost(t *testing.T) {
	t.Parallel()
	m := NewMemory(nil)
	const changes = 2000
	var mu sync.Mutex
	state := 0
	var watchers sync.WaitGroup
	for range 8 {
		c, end := m.Watch("box")
		watchers.Go(func() {
			defer end()
			timeout := time.After(10 * time.Second)
			for {
				mu.Lock()
				seen := state
				mu.Unlock()
				if seen == changes {
					return
				}
				select {
				case <-c:
				case <-timeout:
					t.Error("a watcher slept through a change")
					return
				}
			}
		})
	}
	var changers sync.WaitGroup
	for range 4 {
		changers.Go(func() {
			for range changes / 4 {
				mu.Lock()
				state++
				mu.Unlock()
				m.Wake("box")
				_, end := m.Watch("other")
				end()
			}
		})
	}
	changers.Wait()
	watchers.Wait()
}

func TestTake(t *testing.T) {
	t.Parallel()
	const w = time.Minute
	type step struct {
		after time.Duration // since the step before
		takes int           // attempts
		want  int           // of them granted
	}
	tests := []struct {
		name  string
		limit int
		steps []step
	}{
		{"up to the limit", 3, []step{{0, 5, 3}}},
		{"refused uses do not count", 3, []step{{0, 100, 3}, {2 * w, 5, 3}}},
		{"half of the last window still weighs", 10, []step{{0, 10, 10}, {w + w/2, 10, 5}}},
		{"no double rate at the edge of a window", 10, []step{{w - time.Second, 10, 10}, {2 * time.Second, 10, 1}}},
		{"empty after two windows", 2, []step{{0, 2, 2}, {2 * w, 2, 2}}},
		{"clock set back", 2, []step{{0, 2, 2}, {-time.Hour, 3, 2}}},
		{"no limit", 0, []step{{0, 1000, 1000}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := testkit.NewClock()
			m := NewMemory(clock.Now)
			for i, s := range tt.steps {
				clock.Advance(s.after)
				got := 0
				for range s.takes {
					if m.Take("k", tt.limit, w) {
						got++
					}
				}
				// The first window starts with the first use, so the edge case
				// may differ by one.
				if diff := got - s.want; diff < -1 || diff > 1 || (i == 0 && diff != 0) {
					t.Errorf("step %d: %d of %d granted, want %d", i, got, s.takes, s.want)
				}
			}
		})
	}
}

func TestTakeKeysAreApart(t *testing.T) {
	t.Parallel()
	m := NewMemory(testkit.NewClock().Now)
	if !m.Take("a", 1, time.Minute) || !m.Take("b", 1, time.Minute) {
		t.Error("one key used up the other's limit")
	}
	if m.Take("a", 1, time.Minute) {
		t.Error("over the limit")
	}
}

func TestTakeMemoryIsBounded(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	m := NewMemory(clock.Now)
	m.counters.max = 1000
	for i := range 20_000 {
		clock.Advance(time.Millisecond)
		m.Take(fmt.Sprint("k", i), 5, time.Second)
		if n := len(m.counters.byKey); n > 1000 {
			t.Fatalf("%d keys are kept", n)
		}
	}
	m.Take("survivor", 1, time.Second)
	if m.Take("survivor", 1, time.Second) {
		t.Error("the newest key was dropped at once")
	}
}

func TestTakeConcurrentlyGrantsExactlyTheLimit(t *testing.T) {
	t.Parallel()
	m := NewMemory(testkit.NewClock().Now)
	var granted sync.Map
	var all sync.WaitGroup
	for g := range 16 {
		all.Go(func() {
			n := 0
			for range 100 {
				if m.Take("k", 250, time.Minute) {
					n++
				}
			}
			granted.Store(g, n)
		})
	}
	all.Wait()
	sum := 0
	granted.Range(func(_, n any) bool { sum += n.(int); return true })
	if sum != 250 {
		t.Errorf("%d uses were granted, want 250", sum)
	}
}

func BenchmarkTake(b *testing.B) {
	m := NewMemory(nil)
	b.ReportAllocs()
	for b.Loop() {
		m.Take("192.0.2.1", 1<<30, time.Minute)
	}
}

func BenchmarkWake200(b *testing.B) {
	m := NewMemory(nil)
	for i := range 200 {
		_, end := m.Watch(fmt.Sprint("t", i))
		defer end()
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Wake("t7")
	}
}
