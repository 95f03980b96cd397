package blob

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"postern/internal/telemetry"
)

// Modes of what is made here: for the gateway's own user only.
const (
	dirMode  = 0o700
	fileMode = 0o600
)

// Options are what Files may be told; the zero value is of use.
type Options struct {
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log gets what nobody waits for; nil drops it.
	Log *slog.Logger
	// Metrics may be nil.
	Metrics *telemetry.Metrics
	// SegmentSize is the size in octets at which a segment is full; zero or less
	// means 128 MiB. At most 1 GiB.
	SegmentSize int64
}

const (
	defaultSegmentSize = 128 << 20
	maxSegmentSize     = 1 << 30
)

// Files is the Store that is a directory; see the package comment.
type Files struct {
	dir      string
	o        Options
	start    time.Time
	sys      system
	run      *run
	handles  *handles
	chunks   *chunks
	group    *group
	dirs     *dirSyncer
	syncs    chan struct{} // a place for each large blob that is being synchronised
	deleting sync.Mutex    // one deletion or sweep at a time works on the segments

	ending  sync.RWMutex // held for reading while something is handed to a goroutine
	closed  bool
	workers sync.WaitGroup
}

var _ Store = (*Files)(nil)

// system is what tests replace to see a disk fail.
type system struct {
	writev  func(f *os.File, bufs [][]byte, off int64) error
	write   func(f *os.File, b []byte) (int, error)
	sync    func(f *os.File) error
	syncDir func(path string) error
}

func realSystem() system {
	return system{writev: writeAll, write: (*os.File).Write, sync: syncData, syncDir: syncDir}
}

// OpenFiles opens the store in dir and makes the directory if need be. It tidies up
// after processes that ended without closing it: their temporary files are removed
// and the torn ends of their segments are cut off. Close must be called.
func OpenFiles(dir string, o Options) (*Files, error) { return openFiles(dir, o, realSystem()) }

func openFiles(dir string, o Options, sys system) (*Files, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = telemetry.Discard()
	}
	if o.SegmentSize <= 0 {
		o.SegmentSize = defaultSegmentSize
	}
	o.SegmentSize = min(o.SegmentSize, maxSegmentSize)
	f := &Files{
		dir:   dir,
		o:     o,
		start: o.Now(),
		sys:   sys,
		dirs:  newDirSyncer(sys.syncDir),
		syncs: make(chan struct{}, maxSyncs),
	}
	f.handles = newHandles(f.segmentPath)
	f.chunks = newChunks()
	f.group = newGroup(f)
	if err := f.makeDirs(); err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	if err := f.begin(); err != nil {
		return nil, fmt.Errorf("open blob store: %w", err)
	}
	f.workers.Go(f.group.run)
	f.workers.Go(f.dirs.run)
	return f, nil
}

func (f *Files) makeDirs() error {
	_, err := os.Stat(f.dir)
	isNew := errors.Is(err, fs.ErrNotExist)
	for _, d := range []string{f.segmentsDir(), f.filesDir(), f.runsDir()} {
		if err := os.MkdirAll(d, dirMode); err != nil {
			return err
		}
	}
	if isNew {
		if err := f.sys.syncDir(filepath.Dir(f.dir)); err != nil {
			return fmt.Errorf("synchronise directory: %w", err)
		}
	}
	return f.sys.syncDir(f.dir)
}

func (f *Files) segmentsDir() string { return filepath.Join(f.dir, "segments") }
func (f *Files) filesDir() string    { return filepath.Join(f.dir, "files") }
func (f *Files) runsDir() string     { return filepath.Join(f.dir, "run") }

func (f *Files) segmentPath(number uint32) string {
	return filepath.Join(f.segmentsDir(), fmt.Sprintf("%012x", number))
}

func (f *Files) filePath(n fileName) string {
	return filepath.Join(f.filesDir(), n.dir(), n.base())
}

// now is the time by which the age of blobs is told. It runs on from the time at
// which the store was opened, whatever happens to the system's clock: a blob of this
// process is never older than it is.
func (f *Files) now() time.Time { return f.start.Add(f.o.Now().Sub(f.start)) }

// Close waits for the commits that were asked for and ends the store. Readers that
// are open stay of use; writers are not.
func (f *Files) Close() error {
	f.ending.Lock()
	if f.closed {
		f.ending.Unlock()
		return nil
	}
	f.closed = true
	close(f.group.requests)
	close(f.dirs.requests)
	f.ending.Unlock()
	f.workers.Wait()
	err := f.deleteDoomed()
	f.handles.close()
	return errors.Join(err, f.run.end())
}

// enter lets something be handed to a goroutine of the store, until leave.
func (f *Files) enter() error {
	f.ending.RLock()
	if f.closed {
		f.ending.RUnlock()
		return fmt.Errorf("blob store: %w", ErrClosed)
	}
	return nil
}

func (f *Files) leave() { f.ending.RUnlock() }

// Open implements Store.
func (f *Files) Open(ctx context.Context, ref string) (Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(ref) > 2 && ref[:2] == "f/" {
		return f.openFile(ref)
	}
	p, err := parsePlace(ref)
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	r, err := f.handles.read(p)
	if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", ref, err)
	}
	return r, nil
}

func (f *Files) openFile(ref string) (Reader, error) {
	n, err := parseFileName(ref)
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	file, err := os.Open(f.filePath(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open blob %s: %w", ref, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	return file, nil
}

// classify gives the errors of a full disk their name.
func classify(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

func randomNumber() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails: it would end the process
	return binary.LittleEndian.Uint64(b[:])
}

// closeAll is for paths on which an error is already being returned.
func closeAll(closers ...io.Closer) {
	for _, c := range closers {
		c.Close()
	}
}
