package blob

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"postern/internal/telemetry"
)

// run is the directory of what this process has in hand: the temporary files of
// large blobs, and an empty file ("claim") for each segment it appends to. Its lock
// ends with the process, so that the next one knows what was left behind.
type run struct {
	path string
	lock *os.File
	temp atomic.Uint64
}

const lockName = "lock"

// begin tidies up after the dead and makes this process's own run. The lock of the
// whole store keeps processes that start together from each other's half-made runs.
func (f *Files) begin() error {
	whole, err := os.OpenFile(filepath.Join(f.dir, lockName), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	defer whole.Close()
	if err := lock(whole); err != nil {
		return err
	}
	runs, err := os.ReadDir(f.runsDir())
	if err != nil {
		return err
	}
	for _, d := range runs {
		if err := f.tidy(filepath.Join(f.runsDir(), d.Name())); err != nil {
			return fmt.Errorf("tidy up after a process: %w", err)
		}
	}
	f.run, err = newRun(filepath.Join(f.runsDir(), fmt.Sprintf("%016x", randomNumber())))
	return err
}

func newRun(path string) (*run, error) {
	if err := os.Mkdir(path, dirMode); err != nil {
		return nil, err
	}
	l, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	if err := lock(l); err != nil {
		l.Close()
		return nil, err
	}
	return &run{path: path, lock: l}, nil
}

// tidy removes a run if its process has ended.
func (f *Files) tidy(path string) error {
	l, err := os.OpenFile(filepath.Join(path, lockName), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	defer l.Close()
	if free, err := tryLock(l); err != nil || !free {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if number, ok := claimed(e.Name()); ok {
			if err := f.recover(number); err != nil {
				return fmt.Errorf("segment %x: %w", number, err)
			}
		}
	}
	return os.RemoveAll(path)
}

// recover cuts off what follows the last whole record of a segment. No commit of it
// was ever acknowledged: what was, is whole.
func (f *Files) recover(number uint32) error {
	file, err := os.OpenFile(f.segmentPath(number), os.O_RDWR, fileMode)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // claimed, then not made
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	s, err := readSalt(file)
	if err != nil && info.Size() <= unit {
		return os.Remove(file.Name()) // its maker ended before there was a header
	}
	if err != nil {
		// Without the salt nobody knows what is a record: leave it to be repaired.
		f.o.Log.Warn("segment has no header", telemetry.KeyBlob, number, telemetry.KeySize, info.Size())
		return nil
	}
	end := int64(unit)
	octets := make([]byte, maxSmall)
	err = scan(file, info.Size(), s, func(off int64, r record) error {
		if r.kind == live {
			b := octets[:r.size]
			if _, err := file.ReadAt(b, off+unit); err != nil {
				return err
			}
			if crc32.Checksum(b, castagnoli()) != r.crc {
				return nil
			}
		}
		end = off + int64(r.span)
		return nil
	})
	if err != nil {
		return err
	}
	return file.Truncate(end)
}

// claim says that this process appends to a segment.
func (r *run) claim(number uint32) error {
	c, err := os.OpenFile(r.claimPath(number), os.O_CREATE|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	return c.Close()
}

func (r *run) release(number uint32) error { return os.Remove(r.claimPath(number)) }

func (r *run) claimPath(number uint32) string {
	return filepath.Join(r.path, claimName(number))
}

func claimName(number uint32) string { return fmt.Sprintf("s%x", number) }

// claimed returns the segment that a file of this name claims.
func claimed(name string) (number uint32, ok bool) {
	if len(name) < 2 || name[0] != 's' {
		return 0, false
	}
	n, err := strconv.ParseUint(name[1:], 16, 32)
	return uint32(n), err == nil && claimName(uint32(n)) == name
}

// tempFile makes a temporary file; it lies in the same file system as all blobs.
func (r *run) tempFile() (*os.File, error) {
	name := filepath.Join(r.path, fmt.Sprintf("t%x", r.temp.Add(1)))
	return os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, fileMode)
}

// end removes the run with the temporary files of writers that were never ended.
func (r *run) end() error {
	defer r.lock.Close()
	return os.RemoveAll(r.path)
}

// isClaimed reports whether any process appends to a segment.
func (f *Files) isClaimed(number uint32) (bool, error) {
	found, err := filepath.Glob(filepath.Join(f.runsDir(), "*", claimName(number)))
	return len(found) > 0, err
}
