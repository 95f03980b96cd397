package blob

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// crashDir names, in the environment, the directory for the child that is killed.
const crashDir = "POSTERN_BLOB_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashChild(dir)
		return
	}
	os.Exit(m.Run())
}

// crashChild is the process that TestCrash kills: it commits blobs without end and
// says so after each.
func crashChild(dir string) {
	f, err := OpenFiles(dir, Options{SegmentSize: 1 << 20})
	if err != nil {
		panic(err)
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), uint64(os.Getpid())))
			for i := uint64(0); ; i++ {
				size := rng.IntN(40_000)
				if i%8 == 7 {
					size += maxSmall
				}
				w, err := tryCommit(f, octets(rng.Uint64(), size), 8000)
				if err != nil {
					panic(err)
				}
				mu.Lock()
				fmt.Printf("ack %s %d %x\n", w.Ref, w.Size, w.Digest)
				mu.Unlock()
			}
		})
	}
	all.Wait()
}

// Every blob that was acknowledged before a SIGKILL is there afterwards, through
// several lives of one directory.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acknowledged := map[string]Written{}
	for life := range 6 {
		n := len(acknowledged)
		runAndKill(t, dir, acknowledged, time.Duration(20+rand.IntN(200))*time.Millisecond)
		if len(acknowledged) == n {
			t.Errorf("life %d acknowledged nothing", life)
		}
	}
	f := openTest(t, dir, Options{}, realSystem())
	if n := segmentsWithTail(t, dir); n != 0 {
		t.Errorf("%d segments end in what is no record", n)
	}
	if runs, _ := filepath.Glob(filepath.Join(dir, "run", "*")); len(runs) != 1 {
		t.Errorf("%d runs are left, one is ours", len(runs))
	}
	for _, w := range acknowledged {
		if err := f.Verify(t.Context(), w.Ref, w.Size, w.Digest); err != nil {
			t.Errorf("acknowledged, then lost: %v", err)
		}
	}
	known := func(ref string) bool { _, ok := acknowledged[ref]; return ok }
	if _, err := f.Sweep(t.Context(), -time.Hour, known); err != nil {
		t.Error(err)
	}
	for _, w := range acknowledged {
		if err := f.Verify(t.Context(), w.Ref, w.Size, w.Digest); err != nil {
			t.Errorf("lost to the sweep: %v", err)
		}
	}
	t.Logf("%d blobs", len(acknowledged))
}

// runAndKill lets a child commit, adds what it acknowledged and kills it after the
// first of these and then the given time.
func runAndKill(t *testing.T, dir string, acknowledged map[string]Written, after time.Duration) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), crashDir+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	first := true
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var w Written
		var digest string
		if n, _ := fmt.Sscanf(lines.Text(), "ack %s %d %s", &w.Ref, &w.Size, &digest); n != 3 || len(digest) != 64 {
			continue // the line at which it was killed
		}
		hex.Decode(w.Digest[:], []byte(digest))
		if _, twice := acknowledged[w.Ref]; twice {
			t.Errorf("%s was given twice", w.Ref)
		}
		acknowledged[w.Ref] = w
		if first {
			first = false
			time.AfterFunc(after, func() { child.Process.Kill() })
		}
	}
}

// segmentsWithTail counts the segments that end in octets which belong to no record.
func segmentsWithTail(t *testing.T, dir string) (n int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "segments", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err1 := file.Stat()
		s, err2 := readSalt(file)
		end := int64(unit)
		err3 := scan(file, info.Size(), s, func(off int64, r record) error { end = off + int64(r.span); return nil })
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatal(err1, err2, err3)
		}
		if end != info.Size() {
			n++
		}
		file.Close()
	}
	return n
}
