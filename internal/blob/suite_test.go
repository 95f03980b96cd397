package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"
)

// octets returns n octets that look like ciphertext and depend on seed alone.
func octets(seed uint64, n int) []byte {
	b := make([]byte, n)
	s := [32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)}
	rand.NewChaCha8(s).Read(b)
	return b
}

// commit stores content, written in pieces of the given size.
func commit(t testing.TB, s Store, content []byte, piece int) Written {
	t.Helper()
	w, err := tryCommit(s, content, piece)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func tryCommit(s Store, content []byte, piece int) (Written, error) {
	w, err := s.Create(context.Background())
	if err != nil {
		return Written{}, err
	}
	defer w.Abort()
	for rest := content; len(rest) > 0; {
		n := min(piece, len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			return Written{}, err
		}
		rest = rest[n:]
	}
	return w.Commit(context.Background())
}

// read returns the octets of a blob whose size is known.
func read(t testing.TB, s Store, w Written) []byte {
	t.Helper()
	r, err := s.Open(context.Background(), w.Ref)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(io.NewSectionReader(r, 0, w.Size+1))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wantGone(t testing.TB, s Store, ref string) {
	t.Helper()
	if r, err := s.Open(context.Background(), ref); !errors.Is(err, ErrNotFound) {
		t.Errorf("open %s: reader %v, error %v, want ErrNotFound", ref, r != nil, err)
		if r != nil {
			r.Close()
		}
	}
}

// sizes are those around which an implementation may go wrong.
func sizes() []int {
	return []int{0, 1, 63, 64, 65, 127, 128, 4095, 4096, 4097, 40_000, 65_536, 65_537,
		maxSmall - 1, maxSmall, maxSmall + 1, maxSmall + streamSize, 1_400_000}
}

// testSuite is what every implementation of Store must pass. Its store must be empty
// and have a clock that is moved by advance.
func testSuite(t *testing.T, open func(t *testing.T) (s Store, advance func(time.Duration))) {
	tests := []struct {
		name string
		run  func(*testing.T, Store, func(time.Duration))
	}{
		{"round trip", suiteRoundTrip},
		{"reader", suiteReader},
		{"writer", suiteWriter},
		{"context", suiteContext},
		{"delete", suiteDelete},
		{"delete while open", suiteDeleteWhileOpen},
		{"refs", suiteRefs},
		{"sweep", suiteSweep},
		{"verify", suiteVerify},
		{"concurrent", suiteConcurrent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, advance := open(t)
			tt.run(t, s, advance)
		})
	}
}

func suiteRoundTrip(t *testing.T, s Store, _ func(time.Duration)) {
	for i, size := range sizes() {
		for _, piece := range []int{77, 4096, 1 << 20} {
			if size > maxSmall && piece < 100 {
				piece = 1000
			}
			content := octets(uint64(i), size)
			w := commit(t, s, content, piece)
			if w.Size != int64(size) || w.Digest != sha256.Sum256(content) {
				t.Errorf("size %d: written as %d octets, digest %x", size, w.Size, w.Digest)
			}
			if !bytes.Equal(read(t, s, w), content) {
				t.Errorf("size %d in pieces of %d: octets differ", size, piece)
			}
		}
	}
}

func suiteReader(t *testing.T, s Store, _ func(time.Duration)) {
	for _, size := range []int{1000, maxSmall + 1000} {
		content := octets(1, size)
		w := commit(t, s, content, size)
		commit(t, s, octets(2, 1000), 1000) // a neighbour that must not show
		r, err := s.Open(context.Background(), w.Ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(io.NewSectionReader(r, 0, w.Size), content); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
		p := make([]byte, 100)
		for _, tt := range []struct {
			off  int64
			n    int
			want error
		}{{0, 100, nil}, {int64(size) - 100, 100, nil}, {int64(size) - 10, 10, io.EOF}, {int64(size), 0, io.EOF}, {int64(size) + 5, 0, io.EOF}} {
			// At the very end an io.ReaderAt may return EOF or not.
			n, err := r.ReadAt(p, tt.off)
			if n != tt.n || err != tt.want && !(tt.want == nil && err == io.EOF) {
				t.Errorf("ReadAt(%d) = %d, %v; want %d, %v", tt.off, n, err, tt.n, tt.want)
			}
			if !bytes.Equal(p[:n], content[min(int(tt.off), size):][:n]) {
				t.Errorf("ReadAt(%d): octets differ", tt.off)
			}
		}
		if _, err := r.ReadAt(p, -1); err == nil || err == io.EOF {
			t.Errorf("ReadAt(-1): %v", err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := r.ReadAt(p, 0); err == nil {
			t.Error("read after Close")
		}
	}
}

func suiteWriter(t *testing.T, s Store, _ func(time.Duration)) {
	ctx := context.Background()
	for _, size := range []int{10, maxSmall + 10} {
		w, err := s.Create(ctx)
		if err != nil {
			t.Fatal(err)
		}
		content := octets(3, size)
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
		done, err := w.Commit(ctx)
		if err != nil {
			t.Fatal(err)
		}
		w.Abort()
		w.Abort()
		if !bytes.Equal(read(t, s, done), content) {
			t.Errorf("size %d: Abort after Commit undid it", size)
		}
		if _, err := w.Commit(ctx); !errors.Is(err, ErrClosed) {
			t.Errorf("size %d: second Commit: %v", size, err)
		}
		if _, err := w.Write(content); !errors.Is(err, ErrClosed) {
			t.Errorf("size %d: Write after Commit: %v", size, err)
		}
		w, err = s.Create(ctx)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(content)
		w.Abort()
		if _, err := w.Commit(ctx); !errors.Is(err, ErrClosed) {
			t.Errorf("size %d: Commit after Abort: %v", size, err)
		}
	}
}

func suiteContext(t *testing.T, s Store, _ func(time.Duration)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := commit(t, s, octets(1, 100), 100)
	w, err := s.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(octets(4, 100))
	cancel()
	if _, err := w.Commit(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v", err)
	}
	if _, err := s.Create(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Create: %v", err)
	}
	if _, err := s.Open(ctx, done.Ref); !errors.Is(err, context.Canceled) {
		t.Errorf("Open: %v", err)
	}
	if err := s.Verify(ctx, done.Ref, done.Size, done.Digest); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify: %v", err)
	}
}

func suiteDelete(t *testing.T, s Store, _ func(time.Duration)) {
	ctx := context.Background()
	rng := rand.New(rand.NewPCG(1, 2))
	kept := map[string][]byte{}
	byRef := map[string]Written{}
	for i := range 300 {
		content := octets(uint64(i), rng.IntN(9000))
		if i%50 == 0 {
			content = octets(uint64(i), maxSmall+i+1)
		}
		w := commit(t, s, content, 5000)
		kept[w.Ref], byRef[w.Ref] = content, w
	}
	for len(kept) > 0 {
		// The map yields them in an order of its own, so that neighbours of all
		// kinds come together.
		var batch []string
		for ref := range kept {
			if batch = append(batch, ref); len(batch) == 17 {
				break
			}
		}
		if err := s.Delete(ctx, batch); err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(ctx, batch); err != nil {
			t.Fatalf("deleting again: %v", err)
		}
		for _, ref := range batch {
			delete(kept, ref)
			wantGone(t, s, ref)
		}
		for ref, content := range kept {
			if !bytes.Equal(read(t, s, byRef[ref]), content) {
				t.Fatalf("%s was harmed by the deletion of others", ref)
			}
		}
	}
}

func suiteDeleteWhileOpen(t *testing.T, s Store, _ func(time.Duration)) {
	ctx := context.Background()
	for _, size := range []int{50_000, maxSmall + 50_000} {
		content := octets(9, size)
		w := commit(t, s, content, size)
		r, err := s.Open(ctx, w.Ref)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Delete(ctx, []string{w.Ref}); err != nil {
			t.Fatal(err)
		}
		wantGone(t, s, w.Ref)
		got, err := io.ReadAll(io.NewSectionReader(r, 0, w.Size))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("size %d: the reader lost its octets: %v", size, err)
		}
		r.Close()
		r.Close()
		if err := s.Delete(ctx, nil); err != nil {
			t.Error(err)
		}
		wantGone(t, s, w.Ref)
	}
}

func suiteRefs(t *testing.T, s Store, _ func(time.Duration)) {
	ctx := context.Background()
	small := commit(t, s, octets(1, 1000), 1000)
	large := commit(t, s, octets(1, maxSmall+1), 1<<20)
	for _, ref := range []string{small.Ref, large.Ref} {
		if len(ref) > maxRef || strings.Trim(ref, "abcdefghijklmnopqrstuvwxyz0123456789/-") != "" {
			t.Errorf("ref %q is not of the promised form", ref)
		}
	}
	bad := []string{"", "/", "..", "../../etc/passwd", "f/../lock", "x/1/2/3", small.Ref + "/", "/" + small.Ref,
		strings.ToUpper(small.Ref) + "X", " " + small.Ref, small.Ref + "\x00", large.Ref + "0", large.Ref[:len(large.Ref)-1],
		strings.Repeat("s/", 1000), "f/" + strings.Repeat("../", 9) + "ab"}
	for _, ref := range bad {
		if _, err := s.Open(ctx, ref); !errors.Is(err, ErrRef) {
			t.Errorf("Open(%q): %v, want ErrRef", ref, err)
		}
		if err := s.Delete(ctx, []string{ref}); !errors.Is(err, ErrRef) {
			t.Errorf("Delete(%q): %v, want ErrRef", ref, err)
		}
	}
	if err := s.Delete(ctx, []string{"bad", small.Ref}); !errors.Is(err, ErrRef) {
		t.Errorf("Delete: %v", err)
	}
	wantGone(t, s, small.Ref) // in spite of the bad one beside it
}

func suiteSweep(t *testing.T, s Store, advance func(time.Duration)) {
	ctx := context.Background()
	live := map[string]bool{}
	isLive := func(ref string) bool { return live[ref] }
	sweep := func(want int) {
		t.Helper()
		n, err := s.Sweep(ctx, time.Hour, isLive)
		if err != nil || n != want {
			t.Errorf("swept %d, %v; want %d", n, err, want)
		}
	}
	var known, orphans []Written
	for i := range 40 {
		size := 3000
		if i%10 < 2 {
			size = maxSmall + 1
		}
		w := commit(t, s, octets(uint64(i), size), 1<<20)
		if i%2 == 0 {
			known = append(known, w)
			live[w.Ref] = true
		} else {
			orphans = append(orphans, w)
		}
	}
	sweep(0) // too young
	advance(59 * time.Minute)
	young := commit(t, s, octets(99, 3000), 3000)
	sweep(0)
	advance(2 * time.Minute)
	sweep(len(orphans))
	sweep(0)
	for _, w := range orphans {
		wantGone(t, s, w.Ref)
	}
	for _, w := range append(known, young) {
		if err := s.Verify(ctx, w.Ref, w.Size, w.Digest); err != nil {
			t.Errorf("the sweep harmed %s: %v", w.Ref, err)
		}
	}
	// A clock that jumps back makes nothing older, forward only what it says.
	advance(-48 * time.Hour)
	sweep(0)
	advance(49 * time.Hour)
	clear(live)
	sweep(len(known) + 1)
}

func suiteVerify(t *testing.T, s Store, _ func(time.Duration)) {
	ctx := context.Background()
	for _, size := range sizes() {
		w := commit(t, s, octets(8, size), 1<<20)
		if err := s.Verify(ctx, w.Ref, w.Size, w.Digest); err != nil {
			t.Errorf("size %d: %v", size, err)
		}
		if err := s.Verify(ctx, w.Ref, w.Size, [32]byte{1}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("size %d, wrong digest: %v", size, err)
		}
		for _, wrong := range []int64{w.Size + 1, w.Size - 1} {
			if err := s.Verify(ctx, w.Ref, wrong, w.Digest); !errors.Is(err, ErrCorrupt) {
				t.Errorf("size %d said to be %d: %v", size, wrong, err)
			}
		}
		s.Delete(ctx, []string{w.Ref})
		if err := s.Verify(ctx, w.Ref, w.Size, w.Digest); !errors.Is(err, ErrNotFound) {
			t.Errorf("size %d, deleted: %v", size, err)
		}
	}
}

// Writers, readers, deletions and sweeps at once must not disturb each other.
func suiteConcurrent(t *testing.T, s Store, advance func(time.Duration)) {
	ctx := context.Background()
	var live sync.Map
	var all sync.WaitGroup
	for g := range 12 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 0))
			var mine []Written
			for i := range 25 {
				size := rng.IntN(20_000)
				if rng.IntN(10) == 0 {
					size += maxSmall
				}
				content := octets(uint64(g)<<16+uint64(i), size)
				w, err := tryCommit(s, content, 7000)
				if err != nil {
					t.Error(err)
					return
				}
				live.Store(w.Ref, true)
				mine = append(mine, w)
				k := rng.IntN(len(mine))
				if err := s.Verify(ctx, mine[k].Ref, mine[k].Size, mine[k].Digest); err != nil {
					t.Error(err)
				}
				if rng.IntN(2) == 0 {
					live.Delete(mine[k].Ref)
					if err := s.Delete(ctx, []string{mine[k].Ref}); err != nil {
						t.Error(err)
					}
					mine = append(mine[:k], mine[k+1:]...)
				}
			}
			for _, w := range mine {
				if err := s.Verify(ctx, w.Ref, w.Size, w.Digest); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range 10 {
			n, err := s.Sweep(ctx, time.Hour, func(ref string) bool { _, ok := live.Load(ref); return ok })
			if n != 0 || err != nil {
				t.Error(fmt.Errorf("swept %d: %w", n, err))
			}
		}
	})
	all.Wait()
}
