package blob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Delete implements Store. It is durable before any space is given back, but a
// crash may leave a blob deleted that was asked for later than one that is not.
func (f *Files) Delete(ctx context.Context, refs []string) error {
	var errs []error
	var places []place
	for _, ref := range refs {
		if strings.HasPrefix(ref, "f/") {
			errs = append(errs, f.deleteFile(ref))
			continue
		}
		p, err := parsePlace(ref)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		places = append(places, p)
	}
	errs = append(errs, f.deletePlaces(ctx, append(places, f.handles.takeDoomed()...)))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("delete blobs: %w", err)
	}
	return nil
}

func (f *Files) deleteFile(ref string) error {
	n, err := parseFileName(ref)
	if err != nil {
		return err
	}
	if err := os.Remove(f.filePath(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// deleteDoomed deletes what was open when its deletion was asked for.
func (f *Files) deleteDoomed() error {
	return f.deletePlaces(context.Background(), f.handles.takeDoomed())
}

// deletePlaces goes through the places segment by segment.
func (f *Files) deletePlaces(ctx context.Context, places []place) error {
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.segment, b.segment), cmp.Compare(a.offset, b.offset))
	})
	var errs []error
	for len(places) > 0 {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		number := places[0].segment
		n := len(places)
		if i := slices.IndexFunc(places, func(p place) bool { return p.segment != number }); i >= 0 {
			n = i
		}
		if err := f.deleteIn(number, places[:n]); err != nil {
			errs = append(errs, fmt.Errorf("segment %x: %w", number, err))
		}
		places = places[n:]
	}
	return errors.Join(errs...)
}

// deleteIn deletes records of one segment.
func (f *Files) deleteIn(number uint32, places []place) error {
	f.deleting.Lock()
	defer f.deleting.Unlock()
	file, err := f.lockSegment(number)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	g, err := newGraves(file)
	if err != nil {
		return err
	}
	for _, p := range places {
		if err := g.dig(p, f.handles); err != nil {
			return err
		}
	}
	if len(g.holes) == 0 {
		return nil
	}
	// The headers that lead over a hole must be durable before the hole is there.
	if err := f.sys.sync(file); err != nil {
		return err
	}
	if err := g.punch(); err != nil {
		return err
	}
	return f.removeDead(number, g)
}

// lockSegment opens a segment for changing the records in it, which one process at a
// time does.
func (f *Files) lockSegment(number uint32) (*os.File, error) {
	file, err := os.OpenFile(f.segmentPath(number), os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	if err := lock(file); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// graves are the dead records of one segment while some are being added.
type graves struct {
	file  *os.File
	salt  salt
	holes map[int64]int64 // dead regions to be punched: span by offset
}

func newGraves(file *os.File) (*graves, error) {
	s, err := readSalt(file)
	if err != nil {
		return nil, err
	}
	return &graves{file: file, salt: s, holes: make(map[int64]int64)}, nil
}

// dig marks the record at p dead and makes one region of it and its dead neighbours.
func (g *graves) dig(p place, open *handles) error {
	r, ok, err := readRecord(g.file, p.offset, g.salt)
	if err != nil {
		return err
	}
	if !ok || r.kind == tag || r.size != p.size || r.crc != p.crc {
		return nil // it is not there any more
	}
	// One that is dead already is gone through again: a crash, or a disk that
	// failed, may have come before its hole.
	r.kind = dead
	err = open.unlessOpen(p, func() error { return g.write(p.offset, r) })
	if errors.Is(err, errDoomed) {
		return nil
	}
	if err != nil {
		return err
	}
	start, span, err := g.merge(p.offset, int64(r.span))
	if err != nil {
		return err
	}
	r.span = uint32(span)
	if err := g.write(start, r); err != nil {
		return err
	}
	r.kind = tag
	if err := g.write(start+span-unit, r); err != nil {
		return err
	}
	g.holes[start] = span
	return nil
}

// merge returns the region that a dead record forms with its dead neighbours.
func (g *graves) merge(off, span int64) (int64, int64, error) {
	right, ok, err := readRecord(g.file, off+span, g.salt)
	if err != nil {
		return 0, 0, err
	}
	if ok && right.kind == dead {
		delete(g.holes, off+span)
		span += int64(right.span)
	}
	end, ok, err := readRecord(g.file, off-unit, g.salt)
	if err != nil || !ok || end.kind != tag || int64(end.span) > off-unit {
		return off, span, err
	}
	start := off - int64(end.span)
	left, ok, err := readRecord(g.file, start, g.salt)
	if err != nil || !ok || left.kind != dead || left.span != end.span {
		return off, span, err
	}
	delete(g.holes, start)
	return start, span + int64(left.span), nil
}

func (g *graves) write(off int64, r record) error {
	_, err := g.file.WriteAt(r.bytes(g.salt), off)
	return err
}

// punch gives the space of the dead octets back: all but header and tag.
func (g *graves) punch() error {
	for off, span := range g.holes {
		if span > minSpan {
			if err := punch(g.file, off+unit, span-minSpan); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeZeros is what stands in for punching a hole.
func writeZeros(f *os.File, off, n int64) error {
	zeros := make([]byte, min(n, maxSmall))
	for n > 0 {
		b := zeros[:min(n, maxSmall)]
		if _, err := f.WriteAt(b, off); err != nil {
			return err
		}
		off, n = off+int64(len(b)), n-int64(len(b))
	}
	return nil
}

// removeIfDead removes a segment without a live record.
func (f *Files) removeIfDead(number uint32) error {
	f.deleting.Lock()
	defer f.deleting.Unlock()
	file, err := f.lockSegment(number)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	g, err := newGraves(file)
	if err != nil {
		return err
	}
	return f.removeDead(number, g)
}

// removeDead removes the segment of g if its first region is dead and is the whole
// of it. The caller holds deleting and the segment's lock.
func (f *Files) removeDead(number uint32, g *graves) error {
	// First of all: what is not ended now may be ended, and not dead, a moment later.
	if ended, err := f.isEnded(number); err != nil || !ended {
		return err
	}
	info, err := g.file.Stat()
	if err != nil {
		return err
	}
	first, ok, err := readRecord(g.file, unit, g.salt)
	if err != nil {
		return err
	}
	empty := info.Size() <= unit
	whole := ok && first.kind == dead && unit+int64(first.span) == info.Size()
	if !empty && !whole {
		return nil
	}
	return f.remove(number)
}

// isEnded reports whether a segment is never appended to any more and may be removed
// for its number's sake: see group.begin.
func (f *Files) isEnded(number uint32) (bool, error) {
	highest, err := f.highest()
	if err != nil || number >= highest {
		return false, err
	}
	used, err := f.isClaimed(number)
	return !used, err
}

// remove unlinks a segment that is ended and in which nothing lives.
func (f *Files) remove(number uint32) error {
	f.handles.forget(number)
	return os.Remove(f.segmentPath(number))
}

// segments returns the numbers of all segments in order.
func (f *Files) segments() ([]uint32, error) {
	entries, err := os.ReadDir(f.segmentsDir())
	if err != nil {
		return nil, err
	}
	var numbers []uint32
	for _, e := range entries {
		n, err := strconv.ParseUint(e.Name(), 16, 32)
		if err == nil && f.segmentPath(uint32(n)) == f.segmentsDir()+string(os.PathSeparator)+e.Name() {
			numbers = append(numbers, uint32(n))
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// highest returns the highest number of a segment, or 0.
func (f *Files) highest() (uint32, error) {
	numbers, err := f.segments()
	if err != nil || len(numbers) == 0 {
		return 0, err
	}
	return numbers[len(numbers)-1], nil
}
