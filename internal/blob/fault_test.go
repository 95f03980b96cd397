package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"postern/internal/testkit"
)

var errDisk = errors.New("input/output error")

// failing puts a point of failure before every call of the system. It synchronises
// nothing, since the process goes on.
func failing(f *testkit.FailAt) system {
	sys, real := realSystem(), realSystem()
	sys.writev = func(file *os.File, bufs [][]byte, off int64) error {
		if err := f.Call(); err != nil {
			return err
		}
		return real.writev(file, bufs, off)
	}
	sys.write = func(file *os.File, b []byte) (int, error) {
		if err := f.Call(); err != nil {
			return 0, err
		}
		return real.write(file, b)
	}
	sys.sync = func(*os.File) error {
		return f.Call()
	}
	sys.syncDir = func(string) error {
		return f.Call()
	}
	return sys
}

// onDisk returns how many blobs lie in files of their own and how many temporary
// files there are.
func onDisk(t *testing.T, dir string) (large, temporary int) {
	t.Helper()
	files, err1 := filepath.Glob(filepath.Join(dir, "files", "*", "*"))
	temps, err2 := filepath.Glob(filepath.Join(dir, "run", "*", "t*"))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return len(files), len(temps)
}

// Whichever call fails: what was acknowledged is there, and what failed left nothing
// but, at most, an orphan for the sweep; the store goes on.
func TestEveryCallFailsOnce(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		dir := t.TempDir()
		fail := testkit.NewFailAt(n, errDisk)
		f, err := openFiles(dir, Options{SegmentSize: 20_000}, failing(fail))
		if err != nil {
			if !errors.Is(err, errDisk) {
				t.Fatal(err)
			}
			continue
		}
		acknowledged, failures := fillSome(t, f)
		if failures > 1 {
			t.Errorf("call %d: one failure made %d commits fail", n, failures)
		}
		if _, temporary := onDisk(t, dir); temporary != 0 {
			t.Errorf("call %d: %d temporary files are left", n, temporary)
		}
		if err := f.Close(); err != nil {
			t.Errorf("call %d: close: %v", n, err)
		}
		again := openTest(t, dir, Options{}, noSync())
		for _, w := range acknowledged {
			if err := again.Verify(t.Context(), w.Ref, w.Size, w.Digest); err != nil {
				t.Errorf("call %d: acknowledged, then lost: %v", n, err)
			}
		}
		commit(t, again, octets(1, 500), 500)
		if fail.Calls() < n {
			if n < 20 {
				t.Errorf("only %d calls can fail", n)
			}
			return
		}
	}
}

// fillSome commits and deletes a few blobs of all sizes, one after the other.
func fillSome(t *testing.T, f *Files) (acknowledged []Written, failures int) {
	for i, size := range []int{100, 5000, maxSmall + 1, 30_000, 200, maxSmall + streamSize, 7000} {
		w, err := tryCommit(f, octets(uint64(i), size), 10_000)
		if err != nil {
			failures++
			if !errors.Is(err, errDisk) {
				t.Errorf("the cause is lost: %v", err)
			}
			continue
		}
		acknowledged = append(acknowledged, w)
		if i == 3 && len(acknowledged) > 1 {
			err := f.Delete(context.Background(), []string{acknowledged[0].Ref})
			if err != nil && !errors.Is(err, errDisk) {
				t.Errorf("delete: %v", err)
			}
			acknowledged = acknowledged[1:]
		}
	}
	return acknowledged, failures
}

// After a failed synchronisation the segment is never written again.
func TestFailedSyncAbandonsSegment(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	failed := map[string]bool{}
	failNext := false
	sys, real := realSystem(), realSystem()
	sys.sync = func(file *os.File) error {
		mu.Lock()
		defer mu.Unlock()
		if failNext {
			failNext = false
			failed[file.Name()] = true
			return errDisk
		}
		return real.sync(file)
	}
	sys.writev = func(file *os.File, bufs [][]byte, off int64) error {
		mu.Lock()
		defer mu.Unlock()
		if failed[file.Name()] {
			t.Errorf("%s was written after its synchronisation had failed", file.Name())
		}
		return real.writev(file, bufs, off)
	}
	f := openTest(t, t.TempDir(), Options{}, sys)
	before := commit(t, f, octets(1, 1000), 1000)
	mu.Lock()
	failNext = true
	mu.Unlock()
	if _, err := tryCommit(f, octets(2, 1000), 1000); !errors.Is(err, errDisk) {
		t.Errorf("commit: %v", err)
	}
	after := commit(t, f, octets(3, 1000), 1000)
	if a, b := strings.Split(before.Ref, "/"), strings.Split(after.Ref, "/"); a[1] == b[1] {
		t.Error("the next blob went into the same segment")
	}
	for _, w := range []Written{before, after} {
		if err := f.Verify(t.Context(), w.Ref, w.Size, w.Digest); err != nil {
			t.Error(err)
		}
	}
	if len(failed) != 1 {
		t.Errorf("%d synchronisations failed", len(failed))
	}
}

// filling is a system whose disk is as large as d.
func filling(d *testkit.FullDisk) system {
	sys, real := realSystem(), realSystem()
	sys.writev = func(file *os.File, bufs [][]byte, off int64) error {
		for _, b := range bufs {
			n, full := d.Take(len(b))
			if err := real.writev(file, [][]byte{b[:n]}, off); err != nil {
				return err
			}
			if full != nil {
				return &os.PathError{Op: "pwritev", Path: file.Name(), Err: full}
			}
			off += int64(n)
		}
		return nil
	}
	sys.write = func(file *os.File, b []byte) (int, error) {
		n, full := d.Take(len(b))
		if n, err := real.write(file, b[:n]); err != nil {
			return n, err
		}
		return n, full
	}
	return sys
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk := testkit.NewFullDisk(3 * maxSmall)
	f := openTest(t, dir, Options{}, filling(disk))
	var acknowledged []Written
	full := 0
	for i := range 40 {
		size := 50_000
		if i%4 == 3 {
			size = maxSmall + 50_000
		}
		w, err := tryCommit(f, octets(uint64(i), size), 20_000)
		switch {
		case err == nil:
			acknowledged = append(acknowledged, w)
		case errors.Is(err, ErrFull) && errors.Is(err, syscall.ENOSPC):
			full++
		default:
			t.Errorf("error %v, want ErrFull", err)
		}
	}
	if full == 0 || len(acknowledged) < 5 {
		t.Fatalf("%d acknowledged, %d refused", len(acknowledged), full)
	}
	if _, temporary := onDisk(t, dir); temporary != 0 {
		t.Errorf("%d partial files are left", temporary)
	}
	disk.Free(10 << 20)
	for i := range 5 {
		acknowledged = append(acknowledged, commit(t, f, octets(uint64(100+i), 60_000*i), 20_000))
	}
	for _, w := range acknowledged {
		if err := f.Verify(t.Context(), w.Ref, w.Size, w.Digest); err != nil {
			t.Error(err)
		}
	}
}

// A power failure loses any part of what was written and not synchronised. This
// disk keeps for every file what it held at its last synchronisation; afterwards, of
// each unsynchronised sector either the old or the new octets are there.
func TestPowerFailure(t *testing.T) {
	t.Parallel()
	for seed := range uint64(15) {
		dir := t.TempDir()
		tear := newTearing(seed)
		f, err := openFiles(dir, Options{SegmentSize: 60_000}, tear.system())
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		acknowledged := map[string]Written{}
		var all sync.WaitGroup
		for g := range uint64(6) {
			all.Go(func() {
				for i := range uint64(12) {
					size := int(1000 * (1 + (g*7+i*3)%20))
					if i == 5 {
						size = maxSmall + 5
					}
					w, err := tryCommit(f, octets(seed<<16+g<<8+i, size), 9000)
					if err != nil {
						return // the power is off
					}
					mu.Lock()
					acknowledged[w.Ref] = w
					mu.Unlock()
				}
			})
		}
		all.Wait()
		tear.tearDown(t, dir)
		die(t, f)
		again, err := openFiles(dir, Options{}, noSync())
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range acknowledged {
			if err := again.Verify(t.Context(), w.Ref, w.Size, w.Digest); err != nil {
				t.Errorf("seed %d: acknowledged, then lost: %v", seed, err)
			}
		}
		if len(acknowledged) == 0 {
			t.Errorf("seed %d: nothing was acknowledged", seed)
		}
		w := commit(t, again, octets(1, 2000), 2000)
		if read(t, again, w) == nil || sha256.Sum256(read(t, again, w)) != w.Digest {
			t.Errorf("seed %d: cannot write after the failure", seed)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
		f.Close()
	}
}
