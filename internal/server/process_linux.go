package server

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// notDumpable is for what the limit on core dumps leaves open: a program that the
// kernel hands them to, and a debugger of the same user.
func notDumpable() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("close memory to other processes: %w", err)
	}
	return nil
}
