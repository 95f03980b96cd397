package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
)

// maxHandles bounds the segments that are kept open for reading though nobody reads.
const maxHandles = 64

// handles are the segments that are open for reading, and the records in them that
// somebody has open: those must not be deleted under the reader.
type handles struct {
	path func(number uint32) string
	max  int

	mu     sync.Mutex
	open   map[uint32]*handle
	uses   uint64
	doomed []place // deleted while open, closed since
}

// handle is one open segment. All but file and salt is guarded by handles.mu.
type handle struct {
	number uint32
	file   *os.File
	salt   salt
	refs   int
	used   uint64 // when, counted in uses
	gone   bool   // not in the map any more: close it at the end of its last use
	pins   map[int64]*pin
}

// pin is a record that is open.
type pin struct {
	readers int
	doomed  bool
}

func newHandles(path func(uint32) string) *handles {
	return &handles{path: path, max: maxHandles, open: make(map[uint32]*handle)}
}

// read opens the record at p.
func (h *handles) read(p place) (*segmentReader, error) {
	k, err := h.pin(p)
	if err != nil {
		return nil, err
	}
	if err := k.check(p); err != nil {
		h.unpin(k, p)
		return nil, err
	}
	return &segmentReader{handles: h, handle: k, place: p}, nil
}

// check finds out whether the record at p is the live one that p speaks of.
func (k *handle) check(p place) error {
	var b [unit]byte
	if _, err := k.file.ReadAt(b[:], p.offset); err != nil {
		if errors.Is(err, io.EOF) {
			return ErrNotFound
		}
		return err
	}
	r, ok := parseRecord(b[:], k.salt)
	switch {
	case ok && p.is(r):
		return nil
	case ok, b == [unit]byte{}:
		return ErrNotFound
	}
	return ErrCorrupt
}

// pin takes part in the record at p, which keeps it from being deleted.
func (h *handles) pin(p place) (*handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k, err := h.get(p.segment)
	if err != nil {
		return nil, err
	}
	pinned := k.pins[p.offset]
	if pinned == nil {
		pinned = &pin{}
		k.pins[p.offset] = pinned
	}
	if pinned.doomed {
		return nil, ErrNotFound
	}
	pinned.readers++
	k.refs++
	h.uses++
	k.used = h.uses
	return k, nil
}

// get returns the segment's handle and opens it if need be.
func (h *handles) get(number uint32) (*handle, error) {
	if k := h.open[number]; k != nil {
		return k, nil
	}
	file, err := os.Open(h.path(number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	s, err := readSalt(file)
	if err != nil {
		closeAll(file)
		return nil, err
	}
	h.evict()
	k := &handle{number: number, file: file, salt: s, pins: make(map[int64]*pin)}
	h.open[number] = k
	return k, nil
}

// evict closes the handle that was not used for the longest time, if there are too
// many. Those in use are bounded by their users.
func (h *handles) evict() {
	if len(h.open) < h.max {
		return
	}
	var oldest *handle
	for _, k := range h.open {
		if k.refs == 0 && (oldest == nil || k.used < oldest.used) {
			oldest = k
		}
	}
	if oldest != nil {
		h.drop(oldest)
	}
}

// drop takes a handle out of the map.
func (h *handles) drop(k *handle) {
	delete(h.open, k.number)
	k.gone = true
	if k.refs == 0 {
		closeAll(k.file)
	}
}

func (h *handles) unpin(k *handle, p place) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pinned := k.pins[p.offset]
	pinned.readers--
	if pinned.readers == 0 {
		delete(k.pins, p.offset)
		if pinned.doomed {
			h.doomed = append(h.doomed, p)
		}
	}
	k.refs--
	if k.gone && k.refs == 0 {
		closeAll(k.file)
	}
}

// unlessOpen calls kill while nobody can open the record at p. If somebody has it
// open, it is doomed instead: not to be found any more, and deleted later.
func (h *handles) unlessOpen(p place, kill func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.open[p.segment]; k != nil {
		if pinned := k.pins[p.offset]; pinned != nil && pinned.readers > 0 {
			pinned.doomed = true
			return errDoomed
		}
	}
	return kill()
}

// errDoomed is what unlessOpen returns of a record that somebody reads.
var errDoomed = errors.New("blob is open")

// takeDoomed returns what can be deleted by now.
func (h *handles) takeDoomed() []place {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.doomed
	h.doomed = nil
	return d
}

// forget closes a segment that was removed.
func (h *handles) forget(number uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.open[number]; k != nil {
		h.drop(k)
	}
}

// close closes what nobody reads; readers close the rest.
func (h *handles) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.open {
		h.drop(k)
	}
}

// segmentReader reads the octets of one record.
type segmentReader struct {
	handles *handles
	handle  *handle
	place   place
	closed  atomic.Bool
}

// ReadAt implements io.ReaderAt.
func (r *segmentReader) ReadAt(p []byte, off int64) (int, error) {
	size := int64(r.place.size)
	switch {
	case r.closed.Load():
		return 0, fmt.Errorf("read blob: %w", ErrClosed)
	case off < 0:
		return 0, fmt.Errorf("read blob: negative offset")
	case off >= size:
		return 0, io.EOF
	}
	short := int64(len(p)) > size-off
	if short {
		p = p[:size-off]
	}
	n, err := r.handle.file.ReadAt(p, r.place.offset+unit+off)
	if errors.Is(err, io.EOF) {
		// The record is longer than the file.
		return n, fmt.Errorf("read blob: %w", ErrCorrupt)
	}
	if err == nil && short {
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer. Closing twice does nothing.
func (r *segmentReader) Close() error {
	if !r.closed.Swap(true) {
		r.handles.unpin(r.handle, r.place)
	}
	return nil
}
