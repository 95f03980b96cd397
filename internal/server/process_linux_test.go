package server

import (
	"testing"

	"golang.org/x/sys/unix"
)

// The limit on core dumps is not enough: a crash handler of the system gets one all the
// same, and a debugger of the same user needs none.
func TestNotDumpable(t *testing.T) {
	t.Parallel()
	if err := guardMemory(); err != nil {
		t.Fatal(err)
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		t.Errorf("dumpable %d, %v", dumpable, err)
	}
}
