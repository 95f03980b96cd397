package blob

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkCommit is the rate of durable blobs by size and by how many write at
// once. Its directory is BLOB_BENCH_DIR if that is set, to measure another disk.
func BenchmarkCommit(b *testing.B) {
	for _, size := range []int{4 << 10, 40 << 10, 1400 << 10} {
		for _, writers := range []int{1, 10, 64} {
			b.Run(fmt.Sprintf("%dKB/%d", size>>10, writers), func(b *testing.B) {
				benchmarkCommit(b, size, writers)
			})
		}
	}
}

func benchmarkCommit(b *testing.B, size, writers int) {
	dir, err := os.MkdirTemp(os.Getenv("BLOB_BENCH_DIR"), "blob")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	f := openTest(b, dir, Options{}, realSystem())
	content := octets(1, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := tryCommit(f, content, 32<<10); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "blobs/s")
}

func BenchmarkOpenRead(b *testing.B) {
	f := openTest(b, b.TempDir(), Options{}, realSystem())
	w := commit(b, f, octets(1, 4096), 4096)
	p := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		r, err := f.Open(b.Context(), w.Ref)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.ReadAt(p, 0); err != nil {
			b.Fatal(err)
		}
		r.Close()
	}
}

func BenchmarkDelete(b *testing.B) {
	f := openTest(b, b.TempDir(), Options{}, realSystem())
	content := octets(1, 4096)
	refs := make([]string, 0, 100)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		refs = refs[:0]
		var mu sync.Mutex
		var all sync.WaitGroup
		for range cap(refs) {
			all.Go(func() {
				w, err := tryCommit(f, content, 4096)
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				refs = append(refs, w.Ref)
			})
		}
		all.Wait()
		b.StartTimer()
		if err := f.Delete(b.Context(), refs); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*cap(refs))/b.Elapsed().Seconds(), "blobs/s")
}
