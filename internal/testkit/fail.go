package testkit

import (
	"io"
	"sync"
	"syscall"
)

// FailAt fails the nth call that is made through it, and only that one. Run what is
// tested with n = 1, 2, 3 … until a run makes fewer than n calls: then every call has
// failed once. It is safe for concurrent use.
type FailAt struct {
	mu    sync.Mutex
	n     int
	calls int
	err   error
}

// NewFailAt returns one that fails call n, counted from 1, with err. With n zero none
// fails, which counts the calls there are.
func NewFailAt(n int, err error) *FailAt { return &FailAt{n: n, err: err} }

// Call counts a call and returns the error if this is the one.
func (f *FailAt) Call() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.calls == f.n {
		return f.err
	}
	return nil
}

// Calls returns how many calls were counted.
func (f *FailAt) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Reader fails reads from r.
func (f *FailAt) Reader(r io.Reader) io.Reader { return failingReader{f, r} }

// Writer fails writes to w; a write that fails has written nothing.
func (f *FailAt) Writer(w io.Writer) io.Writer { return failingWriter{f, w} }

type failingReader struct {
	f *FailAt
	r io.Reader
}

func (r failingReader) Read(p []byte) (int, error) {
	if err := r.f.Call(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

type failingWriter struct {
	f *FailAt
	w io.Writer
}

func (w failingWriter) Write(p []byte) (int, error) {
	if err := w.f.Call(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}

// FullDisk is a disk with so much room and no more. It is safe for concurrent use.
type FullDisk struct {
	mu   sync.Mutex
	left int64
}

// NewFullDisk returns a disk with room for octets.
func NewFullDisk(octets int64) *FullDisk { return &FullDisk{left: octets} }

// Take takes room for n octets and returns for how many there is some, with ENOSPC if
// that is less than n. This is how a real disk fills up: within a write.
func (d *FullDisk) Take(n int) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if int64(n) <= d.left {
		d.left -= int64(n)
		return n, nil
	}
	n = int(d.left)
	d.left = 0
	return n, syscall.ENOSPC
}

// Free makes room for octets more.
func (d *FullDisk) Free(octets int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left += octets
}

// Writer lets what is written to w take room on the disk.
func (d *FullDisk) Writer(w io.Writer) io.Writer { return diskWriter{d, w} }

type diskWriter struct {
	d *FullDisk
	w io.Writer
}

func (w diskWriter) Write(p []byte) (int, error) {
	n, full := w.d.Take(len(p))
	n, err := w.w.Write(p[:n])
	if err != nil {
		return n, err
	}
	return n, full
}
