package e2e

import (
	"testing"
	"time"
)

// patience is how long a test waits for something that takes milliseconds, on a
// machine that is busy with other things.
const patience = 20 * time.Second

// eventually waits until ok, and fails the test if that never happens.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !soon(patience, ok) {
		t.Fatalf("not within %v: %s", patience, what)
	}
}

// soon waits until ok, at most for limit.
func soon(limit time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(limit); ; {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// receive waits for a value.
func receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-from:
		if !ok {
			t.Fatalf("closed instead of %s", what)
		}
		return v
	case <-time.After(patience):
	}
	t.Fatalf("not within %v: %s", patience, what)
	panic("not reached")
}
