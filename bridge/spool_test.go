package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"postern/internal/mail"
)

func nothing([]byte) error { return nil }

func TestSpoolKeepsOctets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, budget := range []int64{0, chunkSize, 3 * chunkSize, 64 << 20} {
		for _, size := range []int{0, 1, 15, chunkSize - 1, chunkSize, chunkSize + 1, 5*chunkSize + 7, spoolInMemory + chunkSize + 3} {
			t.Run(fmt.Sprintf("%d/%d", budget, size), func(t *testing.T) {
				s := newSpools(t.TempDir(), budget)
				want := make([]byte, size)
				for i := range want {
					want[i] = byte(rnd.Uint32())
				}
				var seen bytes.Buffer
				sp, err := s.fill(bytes.NewReader(want), 1<<30, func(b []byte) error { seen.Write(b); return nil })
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(seen.Bytes(), want) || sp.Size() != int64(size) {
					t.Error("seen octets differ")
				}
				if size <= 2*chunkSize { // it reads octet by octet
					if err := iotest.TestReader(io.NewSectionReader(sp, 0, sp.Size()), want); err != nil {
						t.Error(err)
					}
				}
				for range 20 {
					from := rnd.IntN(size + 1)
					var out bytes.Buffer
					if err := sp.WriteRange(&out, int64(from)); err != nil || !bytes.Equal(out.Bytes(), want[from:]) {
						t.Errorf("from %d: differ, %v", from, err)
					}
				}
				n := rnd.IntN(size + 1)
				if p, err := sp.Prefix(int64(n)); err != nil || !bytes.Equal(p, want[:n]) {
					t.Errorf("prefix %d: differ, %v", n, err)
				}
				sp.Close()
				if left := s.budget.Load(); left != budget {
					t.Errorf("budget %d, was %d", left, budget)
				}
			})
		}
	}
}

// TestP2SpoolFile: what goes to a temporary file has no name and is not readable there.
func TestP2SpoolFile(t *testing.T) {
	dir := t.TempDir()
	s := newSpools(dir, 0)
	sp, err := s.fill(strings.NewReader(strings.Repeat("the canary sings\r\n", 10_000)), 1<<30, nothing)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("the spool file has a name: %v", left)
	}
	info, err := sp.file.Stat()
	if err != nil || info.Size() != sp.Size() {
		t.Fatalf("file of %v octets, %v", info, err)
	}
	raw := make([]byte, info.Size())
	if _, err := sp.file.ReadAt(raw, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("canary")) {
		t.Error("clear text in the spool file")
	}
	// The same octets twice must not look the same twice.
	if bytes.Equal(raw[:1800], raw[1800:3600]) {
		t.Error("the key stream repeats")
	}
}

func TestSpoolRefuses(t *testing.T) {
	s := newSpools(t.TempDir(), 1<<20)
	if _, err := s.fill(strings.NewReader(strings.Repeat("x", 1001)), 1000, nothing); !errors.Is(err, mail.ErrTooBig) {
		t.Errorf("over the limit: %v", err)
	}
	lost := errors.New("lost")
	if _, err := s.fill(io.MultiReader(strings.NewReader("x"), &failing{lost}), 1000, nothing); !errors.Is(err, lost) {
		t.Errorf("lost: %v", err)
	}
	no := errors.New("no")
	if _, err := s.fill(strings.NewReader("x"), 1000, func([]byte) error { return no }); !errors.Is(err, no) {
		t.Errorf("refused by the visitor: %v", err)
	}
	gone := newSpools(filepath.Join(t.TempDir(), "gone"), 0)
	if _, err := gone.fill(strings.NewReader("x"), 1000, nothing); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if left := s.budget.Load(); left != 1<<20 {
		t.Errorf("budget %d after failures", left)
	}
}

// TestSpoolError: a full disk is not the sender's fault, and its reply says so.
func TestSpoolError(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		code int
	}{{syscall.ENOSPC, 452}, {syscall.EDQUOT, 452}, {syscall.EIO, 451}} {
		err := spoolError("write spool file", &os.PathError{Op: "write", Path: "x", Err: c.err})
		if got := mail.AsError(err); got.Code != c.code || !errors.Is(err, c.err) {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
