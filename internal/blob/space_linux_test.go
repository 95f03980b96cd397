package blob

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// allocated returns the octets that the segments of a store take on the disk.
func allocated(t *testing.T, f *Files) (n int64) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(f.segmentsDir(), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	return n
}

// Space returns at once and in proportion to what was deleted, also where records
// are smaller than the blocks of the disk.
func TestDeletionReturnsSpace(t *testing.T) {
	t.Parallel()
	f := openTest(t, t.TempDir(), Options{SegmentSize: maxSegmentSize}, noSync())
	var refs []string
	const each = 1500
	for i := range 800 {
		refs = append(refs, commit(t, f, octets(uint64(i), each), each).Ref)
	}
	full := allocated(t, f)
	if full < 800*each {
		t.Fatalf("%d octets are allocated for %d", full, 800*each)
	}
	// The first 700, one by one and in no order.
	rand.New(rand.NewPCG(1, 1)).Shuffle(700, func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
	for i := 0; i < 700; i += 50 {
		if err := f.Delete(t.Context(), refs[i:i+50]); err != nil {
			t.Fatal(err)
		}
	}
	if returned := full - allocated(t, f); returned < 690*each {
		t.Errorf("%d octets returned of %d deleted", returned, 700*each)
	}
}
