package blob

import (
	"io/fs"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"postern/internal/testkit"
)

func openTest(t testing.TB, dir string, o Options, sys system) *Files {
	t.Helper()
	f, err := openFiles(dir, o, sys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestFiles(t *testing.T) {
	t.Parallel()
	testSuite(t, func(t *testing.T) (Store, func(time.Duration)) {
		clock := testkit.NewClock()
		return openTest(t, t.TempDir(), Options{Now: clock.Now}, realSystem()), clock.Advance
	})
}

// With segments so small that most groups begin one of their own.
func TestFilesManySegments(t *testing.T) {
	t.Parallel()
	testSuite(t, func(t *testing.T) (Store, func(time.Duration)) {
		clock := testkit.NewClock()
		f := openTest(t, t.TempDir(), Options{Now: clock.Now, SegmentSize: 10_000}, realSystem())
		f.handles.max = 2
		return f, clock.Advance
	})
}

func TestModes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "blobs")
	f := openTest(t, dir, Options{}, realSystem())
	commit(t, f, octets(1, 100), 100)
	commit(t, f, octets(1, maxSmall+1), 1<<20)
	w, err := f.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	w.Write(octets(1, maxSmall+1))
	files := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(fileMode)
		if d.IsDir() {
			want = dirMode | fs.ModeDir
		} else {
			files++
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("%d files, %v", files, err)
	}
}

// Two hundred long blobs at once take little memory each. It does not run beside
// other tests, whose memory it would count.
func TestManyWritersAreModest(t *testing.T) {
	f := openTest(t, t.TempDir(), Options{}, noSync())
	heap := func() int64 {
		runtime.GC()
		runtime.GC() // the pools give up what they hold at the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	content := octets(1, maxSmall+1000)
	before := heap()
	const n = 200
	for range n {
		w, err := f.Create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content[:100]); err != nil {
			t.Fatal(err)
		}
	}
	if each := (heap() - before) / n; each > streamSize+8<<10 {
		t.Errorf("each writer takes %d octets", each)
	}
}

// Of the large buffers there are only a few: who gets none writes to a file at once,
// and all of them come back.
func TestFewLargeBuffers(t *testing.T) {
	t.Parallel()
	f := openTest(t, t.TempDir(), Options{}, realSystem())
	var open []Writer
	for range 3 * maxLargest {
		w, err := f.Create(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(octets(1, maxSmall-100)); err != nil {
			t.Fatal(err)
		}
		open = append(open, w)
	}
	if n := len(f.chunks.taken); n != maxLargest {
		t.Errorf("%d large buffers are in use", n)
	}
	for i, w := range open {
		if i%2 == 0 {
			w.Abort()
			continue
		}
		got, err := w.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Verify(t.Context(), got.Ref, got.Size, got.Digest); err != nil {
			t.Error(err)
		}
	}
	if n := len(f.chunks.taken); n != 0 {
		t.Errorf("%d large buffers were not given back", n)
	}
}
