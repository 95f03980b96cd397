package blob

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/testkit"
)

func noSync() system { return failing(testkit.NewFailAt(0, nil)) }

// die makes the store look as if its process had ended without closing it. Closing
// the lock would not do: a child that is just being forked by another test holds it.
func die(t *testing.T, f *Files) {
	t.Helper()
	if err := os.Remove(filepath.Join(f.run.path, lockName)); err != nil {
		t.Fatal(err)
	}
}

func segmentFiles(t *testing.T, f *Files) []uint32 {
	t.Helper()
	numbers, err := f.segments()
	if err != nil {
		t.Fatal(err)
	}
	return numbers
}

// A segment of which everything was deleted goes, but never the one with the highest
// number: a number that was used for two segments would let an old ref name a new
// blob.
func TestDeadSegmentsAreRemoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := openTest(t, dir, Options{SegmentSize: 4000}, noSync())
	var all []Written
	for i := range 40 {
		all = append(all, commit(t, f, octets(uint64(i), 900), 900))
	}
	before := segmentFiles(t, f)
	if len(before) < 8 {
		t.Fatalf("%d segments", len(before))
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for _, w := range all {
		if err := f.Delete(t.Context(), []string{w.Ref}); err != nil {
			t.Fatal(err)
		}
	}
	highest := before[len(before)-1]
	if after := segmentFiles(t, f); !slices.Equal(after, []uint32{highest}) {
		t.Errorf("segments %v are left, want %v", after, highest)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = openTest(t, dir, Options{SegmentSize: 4000}, noSync())
	w := commit(t, f, octets(1, 900), 900)
	p, err := parsePlace(w.Ref)
	if err != nil || p.segment <= highest {
		t.Errorf("segment %d was begun after %d: %v", p.segment, highest, err)
	}
	for _, old := range all {
		wantGone(t, f, old.Ref)
	}
	// The one that was kept for its number alone goes with the next sweep.
	if _, err := f.Sweep(t.Context(), time.Hour, func(string) bool { return true }); err != nil {
		t.Error(err)
	}
	if after := segmentFiles(t, f); !slices.Equal(after, []uint32{p.segment}) {
		t.Errorf("segments %v are left, want %v", after, p.segment)
	}
}

// The octets of what was deleted are nowhere any more.
func TestDeletedOctetsAreGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := openTest(t, dir, Options{}, noSync())
	canary := []byte("CANARY of 32 octets, not random!")
	var refs []string
	for i := range 30 {
		w := commit(t, f, slices.Concat(octets(uint64(i), i*200), canary, octets(1, 100+i)), 1<<20)
		refs = append(refs, w.Ref)
	}
	kept := commit(t, f, octets(5, 5000), 5000)
	if n := countOnDisk(t, dir, canary); n != 30 {
		t.Fatalf("the canary is there %d times", n)
	}
	if err := f.Delete(t.Context(), refs); err != nil {
		t.Fatal(err)
	}
	if n := countOnDisk(t, dir, canary); n != 0 {
		t.Errorf("the canary is there %d times after deleting", n)
	}
	if err := f.Verify(t.Context(), kept.Ref, kept.Size, kept.Digest); err != nil {
		t.Error(err)
	}
}

// What an earlier blob left in a buffer does not get to the disk with a later one.
func TestNothingLeaksByBuffers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := openTest(t, dir, Options{}, noSync())
	canary := []byte("CANARY of 32 octets, not random!")
	for range 20 {
		w := commit(t, f, bytes.Repeat(canary, 100), 1<<20)
		commit(t, f, octets(1, 3), 3)
		if err := f.Delete(t.Context(), []string{w.Ref}); err != nil {
			t.Fatal(err)
		}
	}
	if n := countOnDisk(t, dir, canary); n != 0 {
		t.Errorf("the canary is there %d times", n)
	}
}

// The octets go only after it is durable that they are to go; a deletion that
// failed can be repeated.
func TestDeletionFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var fail atomic.Bool
	sys := noSync()
	sys.sync = func(*os.File) error {
		if fail.Load() {
			return errDisk
		}
		return nil
	}
	f := openTest(t, dir, Options{}, sys)
	canary := []byte("CANARY of 32 octets, not random!")
	w := commit(t, f, bytes.Repeat(canary, 100), 1<<20)
	fail.Store(true)
	if err := f.Delete(t.Context(), []string{w.Ref}); !errors.Is(err, errDisk) {
		t.Errorf("delete: %v", err)
	}
	if n := countOnDisk(t, dir, canary); n < 90 {
		t.Errorf("the octets went before their mark was durable: %d are left", n)
	}
	fail.Store(false)
	if err := f.Delete(t.Context(), []string{w.Ref}); err != nil {
		t.Errorf("delete again: %v", err)
	}
	if n := countOnDisk(t, dir, canary); n != 0 {
		t.Errorf("the canary is there %d times", n)
	}
}

func countOnDisk(t *testing.T, dir string, what []byte) (n int) {
	t.Helper()
	for _, pattern := range []string{"segments/*", "files/*/*", "run/*/*"} {
		paths, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			n += bytes.Count(b, what)
		}
	}
	return n
}

// A deletion that was cut short between the mark and the hole is finished by the
// next sweep.
func TestSweepBuries(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := openTest(t, dir, Options{}, noSync())
	canary := []byte("CANARY of 32 octets, not random!")
	w := commit(t, f, bytes.Repeat(canary, 20), 1<<20)
	commit(t, f, octets(1, 500), 500)
	p, err := parsePlace(w.Ref)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(f.segmentPath(p.segment), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	g, err := newGraves(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.dig(p, f.handles); err != nil {
		t.Fatal(err)
	}
	if countOnDisk(t, dir, canary) == 0 {
		t.Fatal("nothing is left to bury")
	}
	if n, err := f.Sweep(t.Context(), time.Hour, func(string) bool { return true }); n != 0 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if n := countOnDisk(t, dir, canary); n != 0 {
		t.Errorf("the canary is there %d times", n)
	}
}

// Damage to one record harms no other, neither for readers nor for sweeps.
func TestDamage(t *testing.T) {
	t.Parallel()
	f := openTest(t, t.TempDir(), Options{}, noSync())
	var all []Written
	for i := range 20 {
		all = append(all, commit(t, f, octets(uint64(i), 3000), 3000))
	}
	damage := func(w Written, at int64) {
		p, err := parsePlace(w.Ref)
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(f.segmentPath(p.segment), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteAt([]byte{0xde, 0xad}, p.offset+at); err != nil {
			t.Fatal(err)
		}
	}
	damage(all[5], 8)       // the header's span
	damage(all[9], unit+50) // the octets
	for i, w := range all {
		err := f.Verify(t.Context(), w.Ref, w.Size, w.Digest)
		if i == 5 || i == 9 {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("damaged blob %d: %v", i, err)
			}
		} else if err != nil {
			t.Errorf("blob %d: %v", i, err)
		}
	}
	// Behind the damaged header the sweep finds its way again.
	keep := all[12].Ref
	n, err := f.Sweep(t.Context(), -time.Hour, func(ref string) bool { return ref == keep })
	if n != len(all)-2 || err != nil {
		t.Errorf("swept %d, %v; want %d", n, err, len(all)-2)
	}
	if err := f.Verify(t.Context(), keep, all[12].Size, all[12].Digest); err != nil {
		t.Error(err)
	}
}

// Octets that look like a record do not become one, though the header before them is
// lost: they lack the salt.
func TestForgedRecord(t *testing.T) {
	t.Parallel()
	f := openTest(t, t.TempDir(), Options{}, noSync())
	forged := record{kind: live, size: 100, span: uint32(spanOf(100)), time: 1}
	content := bytes.Repeat(append(forged.bytes(salt{}), make([]byte, spanOf(100)-unit)...), 10)
	w := commit(t, f, content, len(content))
	p, _ := parsePlace(w.Ref)
	file, err := os.OpenFile(f.segmentPath(p.segment), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(make([]byte, unit), p.offset); err != nil {
		t.Fatal(err)
	}
	found := 0
	s, err := readSalt(file)
	if err != nil {
		t.Fatal(err)
	}
	scanAll := func(s salt) {
		found = 0
		if err := scan(file, p.offset+int64(spanOf(len(content))), s, func(int64, record) error { found++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if scanAll(s); found != 0 {
		t.Errorf("%d forged records were taken", found)
	}
	if scanAll(salt{}); found != 10 {
		t.Errorf("the test is wrong: with a known salt %d are found", found)
	}
}

// Two processes with the same directory do not get into each other's way.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := openTest(t, dir, Options{SegmentSize: 3000}, noSync())
	inHand, err := a.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	content := octets(1, maxSmall*2)
	if _, err := inHand.Write(content); err != nil {
		t.Fatal(err)
	}
	all := []Written{commit(t, a, octets(2, 1000), 1000)}
	b := openTest(t, dir, Options{SegmentSize: 3000}, noSync())
	for i := range 19 { // so that the segments they write are not full
		all = append(all, commit(t, a, octets(uint64(i), 1000), 1000), commit(t, b, octets(uint64(i), 999), 999))
	}
	done, err := inHand.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all = append(all, done)
	refs := map[string]bool{}
	for _, w := range all {
		if refs[w.Ref] {
			t.Errorf("%s was given twice", w.Ref)
		}
		refs[w.Ref] = true
		for _, f := range []*Files{a, b} {
			if err := f.Verify(t.Context(), w.Ref, w.Size, w.Digest); err != nil {
				t.Error(err)
			}
		}
	}
	// Each deletes some of the other's.
	for i, w := range all {
		f := a
		if i%2 == 0 {
			f = b
		}
		if err := f.Delete(t.Context(), []string{w.Ref}); err != nil {
			t.Fatal(err)
		}
		wantGone(t, a, w.Ref)
		wantGone(t, b, w.Ref)
	}
	// Neither may sweep away the empty segment that the other is writing.
	for _, f := range []*Files{a, b} {
		if _, err := f.Sweep(t.Context(), time.Hour, func(string) bool { return true }); err != nil {
			t.Error(err)
		}
	}
	last := []Written{commit(t, a, octets(7, 100), 100), commit(t, b, octets(8, 100), 100)}
	for _, w := range last {
		if err := a.Verify(t.Context(), w.Ref, w.Size, w.Digest); err != nil {
			t.Error(err)
		}
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	f := openTest(t, t.TempDir(), Options{}, noSync())
	small, err1 := f.Create(t.Context())
	large, err2 := f.Create(t.Context())
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	small.Write(octets(1, 10))
	large.Write(octets(1, maxSmall+1))
	w := commit(t, f, octets(1, 10), 10)
	r, err := f.Open(t.Context(), w.Ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	for _, w := range []Writer{small, large} {
		if _, err := w.Commit(t.Context()); err == nil {
			t.Error("committed to a closed store")
		}
	}
	if _, err := f.Create(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("create: %v", err)
	}
	if n, err := r.ReadAt(make([]byte, 10), 0); n != 10 {
		t.Errorf("a reader that was open read %d octets: %v", n, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// Few handles are kept, however many segments are read.
func TestHandlesAreBounded(t *testing.T) {
	t.Parallel()
	f := openTest(t, t.TempDir(), Options{SegmentSize: 1}, noSync())
	var all []Written
	for i := range 3 * maxHandles {
		all = append(all, commit(t, f, octets(uint64(i), 100), 100))
	}
	for range 2 {
		for _, w := range all {
			if err := f.Verify(t.Context(), w.Ref, w.Size, w.Digest); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(f.handles.open); n > maxHandles {
		t.Errorf("%d handles are open", n)
	}
	for _, k := range f.handles.open {
		if k.refs != 0 || len(k.pins) != 0 {
			t.Errorf("segment %d has %d users and %d pins", k.number, k.refs, len(k.pins))
		}
	}
}

// A blob has one ref: sets of refs are compared as strings.
func TestRefsAreCanonical(t *testing.T) {
	t.Parallel()
	place := place{segment: 0xabc, offset: 0xfc0, size: 0xdef, crc: 0xabcdef01}.ref()
	file := fileName{time: 0xabcdef, random: 0xabcdef}.ref()
	if _, err := parsePlace(place); err != nil {
		t.Error(err)
	}
	if _, err := parseFileName(file); err != nil {
		t.Error(err)
	}
	for _, ref := range []string{"s/ABC/fc0/def-abcdef01", "s/0abc/fc0/def-abcdef01", "s/abc/fc0/def-ABCDEF01", "s/abc/fc1/def-abcdef01",
		"s/abc/fc0/def", "s/abc/fc0/def-abcdef01-", "s/abc/0/def-abcdef01", "s/100000000/fc0/def-abcdef01", "s/abc/fc0/ffffff-abcdef01"} {
		if _, err := parsePlace(ref); !errors.Is(err, ErrRef) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for _, ref := range []string{strings.ToUpper(file), "f/ee" + file[4:], "x" + file[1:], file[:5] + "-" + file[6:]} {
		if _, err := parseFileName(ref); !errors.Is(err, ErrRef) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func FuzzRef(f *testing.F) {
	f.Add("s/1/40/3e8-0badcafe")
	f.Add("f/ab/00060a24181e4000000000000000000000ab")
	f.Add("f/../../../../etc/passwd")
	f.Add("s/-1/+40/0x3-00000000")
	f.Fuzz(func(t *testing.T, ref string) {
		if p, err := parsePlace(ref); err == nil && (p.ref() != ref || p.offset < unit || p.size > maxSmall) {
			t.Errorf("%q is %+v", ref, p)
		}
		n, err := parseFileName(ref)
		if err != nil {
			return
		}
		if n.ref() != ref || strings.Contains(ref, "..") || filepath.Join("x", n.dir(), n.base()) != "x/"+ref[2:] {
			t.Errorf("%q is %+v", ref, n)
		}
	})
}

// Whatever a segment holds, reading it ends, stays within it and does not panic.
func FuzzScan(f *testing.F) {
	whole := segmentHeader(salt{1}, time.Unix(0, 0))
	for i, k := range []kind{live, dead, live} {
		r := record{kind: k, size: uint32(i * 70), span: uint32(spanOf(i * 70))}
		whole = append(append(whole, r.bytes(salt{1})...), make([]byte, int(r.span)-unit)...)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add(whole[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := readSalt(bytes.NewReader(b))
		if err != nil {
			s = salt{1}
		}
		last := int64(unit)
		err = scan(bytes.NewReader(b), int64(len(b)), s, func(off int64, r record) error {
			if off < last || off+int64(r.span) > int64(len(b)) {
				t.Errorf("record at %d, span %d, after %d", off, r.span, last)
			}
			last = off + int64(r.span)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// What a process left at the end of its segment is cut off by the next one: zeros
// that were filled ahead, and records that are torn.
func TestRecover(t *testing.T) {
	t.Parallel()
	for _, tail := range []string{"", "zeros", "torn", "noise", "no header", "no file"} {
		dir := t.TempDir()
		f, err := openFiles(dir, Options{}, noSync())
		if err != nil {
			t.Fatal(err)
		}
		w := commit(t, f, octets(1, 3000), 3000)
		p, _ := parsePlace(w.Ref)
		want := p.offset + int64(spanOf(3000))
		path := f.segmentPath(p.segment)
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		s, err := readSalt(file)
		if err != nil {
			t.Fatal(err)
		}
		torn := record{kind: live, size: 2000, span: uint32(spanOf(2000)), crc: 1}.bytes(s)
		switch tail {
		case "":
			file.Truncate(want)
		case "torn":
			file.WriteAt(append(torn, octets(2, 1000)...), want)
		case "noise":
			file.WriteAt(octets(3, 100_000), want)
		case "no header":
			file.Truncate(0)
		case "no file":
			os.Remove(path)
		}
		file.Close()
		die(t, f)
		t.Cleanup(func() { f.Close() })
		again := openTest(t, dir, Options{}, noSync())
		info, err := os.Stat(path)
		if tail == "no header" || tail == "no file" {
			if !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: the segment is there: %v", tail, err)
			}
			continue
		}
		if err != nil || info.Size() != want {
			t.Errorf("%s: %d octets are left, want %d: %v", tail, info.Size(), want, err)
		}
		if err := again.Verify(t.Context(), w.Ref, w.Size, w.Digest); err != nil {
			t.Errorf("%s: %v", tail, err)
		}
		next := commit(t, again, octets(4, 100), 100)
		if q, _ := parsePlace(next.Ref); q.segment <= p.segment {
			t.Errorf("%s: segment %d is written again", tail, q.segment)
		}
	}
}
