package blob

import (
	"errors"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// writeAll writes the buffers one after the other at off, with as few calls as the
// system allows.
func writeAll(f *os.File, bufs [][]byte, off int64) error {
	const most = 1024 // IOV_MAX
	defer runtime.KeepAlive(f)
	for len(bufs) > 0 {
		if len(bufs) == 1 {
			_, err := f.WriteAt(bufs[0], off)
			return err
		}
		n, err := unix.Pwritev(int(f.Fd()), bufs[:min(most, len(bufs))], off)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "pwritev", Path: f.Name(), Err: err}
		}
		if n > 0 {
			off += int64(n)
			bufs = written(bufs, n)
		}
	}
	return nil
}

// written drops the first n octets of bufs.
func written(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 {
		bufs[0] = bufs[0][n:]
	}
	return bufs
}

// syncData makes the octets of f durable, and of its metadata what is needed to read
// them.
func syncData(f *os.File) error {
	defer runtime.KeepAlive(f)
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

// startWriting asks the system to begin to write what f got, without waiting for it,
// so that the synchronisation at the end finds less to do and a long blob does not
// fill the memory with pages that wait. It is a hint.
func startWriting(f *os.File, off, n int64) {
	unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
	runtime.KeepAlive(f)
}

// punch gives the space of n octets at off back; they read as zeros from then on.
// On a file system that cannot do it they are zeros that still take their space.
func punch(f *os.File, off, n int64) error {
	defer runtime.KeepAlive(f)
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return writeZeros(f, off, n)
	}
	if err == nil {
		return nil
	}
	return &os.PathError{Op: "fallocate", Path: f.Name(), Err: err}
}

// syncDir makes the names in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
