package e2e

import (
	"sync"
	"testing"

	"postern/internal/testkit"
)

// offsets are the ports that a gateway listens on: MX, IMAP, HTTPS, submission, metrics, IMAPS.
var offsets = []int{25, 143, 443, 465, 587, 925, 993}

// portsMu guards portsTaken: every port that a gateway of this process has had, since
// one that was stopped or killed comes back on the same ports.
var (
	portsMu    sync.Mutex
	portsTaken = map[int]bool{}
)

// freeBase returns a base port whose ports are free and no other test's.
func freeBase(t testing.TB) int {
	t.Helper()
	portsMu.Lock()
	defer portsMu.Unlock()
	for range 100 {
		base, release := testkit.FreeBase(t, offsets...)
		release()
		if takePorts(base) {
			return base
		}
	}
	t.Fatal("no free base port")
	return 0
}

func takePorts(base int) bool {
	for _, o := range offsets {
		if portsTaken[base+o] {
			return false
		}
	}
	for _, o := range offsets {
		portsTaken[base+o] = true
	}
	return true
}
