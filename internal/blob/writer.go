package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"time"

	"postern/internal/telemetry"
)

// writeBehind is after how many octets of a large blob the system is asked to begin
// with writing them.
const writeBehind = 1 << 20

// writer keeps a blob in memory while it is small. Beyond maxSmall, or where memory is
// short, it goes to a temporary file.
type writer struct {
	f     *Files
	chunk *chunk // nil before the first octet and after the end
	n     int    // octets in chunk
	size  int64  // octets in all
	hash  hash.Hash
	file  *os.File // of a large blob
	sent  int64    // octets in file
	begun int64    // of them, those whose writing was asked for
	err   error    // what every further call returns
}

// Create implements Store. It does no more than begin: space is taken as octets come.
func (f *Files) Create(ctx context.Context) (Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := f.enter(); err != nil {
		return nil, err
	}
	defer f.leave()
	return &writer{f: f, hash: sha256.New()}, nil
}

// Write implements Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if err := w.write(p); err != nil {
		w.f.o.Metrics.BlobError(reason(err))
		w.end(fmt.Errorf("write blob: %w", classify(err)))
		return 0, w.err
	}
	w.size += int64(len(p))
	return len(p), nil
}

func (w *writer) write(p []byte) error {
	if w.file == nil {
		if w.grow(w.n + len(p)) {
			w.take(p)
			return nil
		}
		if err := w.spill(); err != nil {
			return err
		}
	}
	for len(p) > 0 {
		if w.n == 0 && len(p) >= streamSize {
			return w.send(p)
		}
		p = p[w.take(p):]
		if w.n == w.chunk.room() {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// take copies what fits into the chunk.
func (w *writer) take(p []byte) int {
	if w.chunk == nil {
		return 0 // p is empty
	}
	n := copy(w.chunk.b[unit+w.n:unit+w.chunk.room()], p)
	w.n += n
	return n
}

// grow makes room for n octets in all, or says that the blob must go to a file: it is
// large, or too many of middling size are in memory already.
func (w *writer) grow(n int) bool {
	if n == 0 || w.chunk != nil && n <= w.chunk.room() {
		return true
	}
	if n > maxSmall {
		return false
	}
	more := w.f.chunks.get(n)
	if more == nil {
		return false
	}
	old := w.chunk
	w.chunk = more
	if old != nil {
		copy(w.chunk.b[unit:], old.b[unit:unit+w.n])
		old.free()
	}
	return true
}

// spill moves what is in memory to a temporary file.
func (w *writer) spill() error {
	file, err := w.f.run.tempFile()
	if err != nil {
		return err
	}
	w.file = file
	if w.chunk != nil {
		if err := w.flush(); err != nil {
			return err
		}
		w.chunk.free()
	}
	w.chunk = w.f.chunks.get(streamSize)
	return nil
}

func (w *writer) flush() error {
	b := w.chunk.b[unit : unit+w.n]
	w.n = 0
	return w.send(b)
}

// send writes to the temporary file.
func (w *writer) send(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	w.hash.Write(p)
	n, err := w.f.sys.write(w.file, p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return err
	}
	w.sent += int64(len(p))
	if w.sent-w.begun >= writeBehind {
		startWriting(w.file, w.begun, w.sent-w.begun)
		w.begun = w.sent
	}
	return nil
}

// Commit implements Writer.
func (w *writer) Commit(ctx context.Context) (Written, error) {
	if w.err != nil {
		return Written{}, w.err
	}
	if err := ctx.Err(); err != nil {
		w.Abort()
		return Written{}, err
	}
	ref, err := w.commit(ctx)
	if err != nil {
		w.end(fmt.Errorf("commit blob: %w", err))
		return Written{}, w.err
	}
	done := Written{Ref: ref, Size: w.size}
	w.hash.Sum(done.Digest[:0])
	w.end(fmt.Errorf("blob was committed: %w", ErrClosed))
	return done, nil
}

func (w *writer) commit(ctx context.Context) (ref string, err error) {
	if w.file != nil {
		return w.commitLarge(ctx)
	}
	if w.chunk == nil {
		w.chunk = w.f.chunks.get(0)
	}
	p := &pending{chunk: w.chunk, size: w.n, done: make(chan error, 1)}
	w.hash.Write(p.chunk.b[unit : unit+w.n])
	w.hash.Sum(p.hash[:0])
	w.chunk = nil // it is the group's now
	where, err := w.f.commitSmall(ctx, p)
	if err != nil {
		return "", err
	}
	return where.ref(), nil
}

// commitLarge makes the temporary file durable, then its name.
func (w *writer) commitLarge(ctx context.Context) (ref string, err error) {
	asked := time.Now()
	if err := w.flush(); err != nil {
		w.f.o.Metrics.BlobError(reason(err))
		return "", classify(err)
	}
	if err := w.f.syncLarge(ctx, w.file); err != nil {
		return "", err
	}
	name := fileName{time: w.f.now().UnixMicro(), random: randomNumber()}
	if err := w.f.publish(ctx, w.file.Name(), name); err != nil {
		return "", err
	}
	w.f.o.Metrics.BlobCommit(w.size, time.Since(asked))
	return name.ref(), nil
}

// Abort implements Writer.
func (w *writer) Abort() {
	if w.err == nil {
		w.end(fmt.Errorf("blob was aborted: %w", ErrClosed))
	}
}

// end gives everything back; err is what later calls get. A temporary file that was
// published has another name by now.
func (w *writer) end(err error) {
	w.err = err
	w.chunk.free()
	w.chunk = nil
	if w.file != nil {
		closeAll(w.file)
		if errors.Is(os.Remove(w.file.Name()), os.ErrPermission) {
			w.f.o.Log.Warn("temporary file not removed", telemetry.KeyPath, w.file.Name())
		}
		w.file = nil
	}
}

// reason is the label under which an error is counted.
func reason(err error) string {
	if errors.Is(classify(err), ErrFull) {
		return telemetry.BlobFull
	}
	return telemetry.BlobWrite
}
