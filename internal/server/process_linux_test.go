package server

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"postern/internal/telemetry"
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

// Another user than the server's is told what to do.
func TestOpenAsNobody(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("only root can become somebody else")
		return
	}
	c := newConfig(t)
	for dir := filepath.Dir(c.DataDir); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock it: this thread is nobody's from now on
		err := syscall.Setfsuid(65534)
		if err == nil {
			_, err = Open(t.Context(), c, telemetry.Discard())
		}
		ended <- err
	}()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), c.DataDir) || !strings.Contains(err.Error(), "run this as the user that the server runs as") {
		t.Errorf("%v", err)
	}
}
