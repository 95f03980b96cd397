package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Sweep implements Store. It also removes segments in which nothing lives. Reading
// every header, it takes as long as reading all small blobs if they are very small;
// once a day is often enough.
func (f *Files) Sweep(ctx context.Context, olderThan time.Duration, live func(ref string) bool) (removed int, err error) {
	before := f.now().Add(-olderThan)
	numbers, err := f.segments()
	if err != nil {
		return 0, fmt.Errorf("sweep: %w", err)
	}
	var errs []error
	for _, number := range numbers {
		n, err := f.sweepSegment(ctx, number, before, live)
		removed += n
		errs = append(errs, err)
	}
	n, err := f.sweepFiles(ctx, before, live)
	removed += n
	if err := errors.Join(append(errs, err)...); err != nil {
		return removed, fmt.Errorf("sweep: %w", err)
	}
	return removed, nil
}

func (f *Files) sweepSegment(ctx context.Context, number uint32, before time.Time, known func(string) bool) (int, error) {
	c, err := f.takeCensus(ctx, number, before, known)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("segment %x: %w", number, err)
	}
	if err := f.deletePlaces(ctx, append(c.orphans, c.unburied...)); err != nil {
		return 0, err
	}
	if !c.alive {
		// Deleting may not have seen that nothing is left, if a header between
		// the records was damaged.
		return len(c.orphans), f.removeSwept(ctx, number)
	}
	return len(c.orphans), nil
}

// census is what a sweep finds in a segment.
type census struct {
	orphans  []place // live records that nobody knows
	unburied []place // dead ones whose octets are still there
	alive    bool    // whether any other record lives
}

func (f *Files) takeCensus(ctx context.Context, number uint32, before time.Time, known func(string) bool) (c census, err error) {
	file, err := os.Open(f.segmentPath(number))
	if err != nil {
		return c, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return c, err
	}
	s, err := readSalt(file)
	if err != nil {
		// What lives in a damaged segment is not for a sweep to judge.
		c.alive = true
		return c, nil
	}
	err = scan(file, info.Size(), s, func(off int64, r record) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		p := place{segment: number, offset: off, size: r.size, crc: r.crc}
		switch {
		case r.kind == dead:
			var after [unit]byte
			_, err := file.ReadAt(after[:], off+unit)
			if err == nil && after != [unit]byte{} && r.span > minSpan {
				c.unburied = append(c.unburied, p)
			}
		case time.UnixMicro(r.time).Before(before) && !known(p.ref()):
			c.orphans = append(c.orphans, p)
		default:
			c.alive = true
		}
		return nil
	})
	return c, err
}

// removeSwept removes a segment if still nothing lives in it.
func (f *Files) removeSwept(ctx context.Context, number uint32) error {
	f.deleting.Lock()
	defer f.deleting.Unlock()
	if ended, err := f.isEnded(number); err != nil || !ended {
		return err
	}
	c, err := f.takeCensus(ctx, number, time.Time{}, func(string) bool { return true })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || c.alive {
		return err
	}
	return f.remove(number)
}

func (f *Files) sweepFiles(ctx context.Context, before time.Time, known func(string) bool) (removed int, err error) {
	dirs, err := os.ReadDir(f.filesDir())
	if err != nil {
		return 0, err
	}
	for _, d := range dirs {
		entries, err := os.ReadDir(filepath.Join(f.filesDir(), d.Name()))
		if err != nil {
			return removed, err
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return removed, err
			}
			ref := "f/" + d.Name() + "/" + e.Name()
			n, err := parseFileName(ref)
			if err != nil || !n.at().Before(before) || known(ref) {
				continue
			}
			if err := f.deleteFile(ref); err != nil {
				return removed, err
			}
			removed++
		}
	}
	return removed, nil
}

// Verify implements Store.
func (f *Files) Verify(ctx context.Context, ref string, size int64, digest [32]byte) error {
	r, err := f.Open(ctx, ref)
	if err != nil {
		return err
	}
	defer r.Close()
	c := f.chunks.get(streamSize)
	defer c.free()
	h := sha256.New()
	// One octet more than there should be, to see that there is none.
	n, err := io.CopyBuffer(h, contextReader{ctx, io.NewSectionReader(r, 0, size+1)}, c.b)
	if err != nil {
		return fmt.Errorf("verify blob %s: %w", ref, err)
	}
	if n != size || [32]byte(h.Sum(nil)) != digest {
		return fmt.Errorf("verify blob %s: %w", ref, ErrCorrupt)
	}
	return nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
