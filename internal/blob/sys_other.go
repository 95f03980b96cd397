//go:build !linux

package blob

import (
	"os"
	"runtime"
)

// writeAll writes the buffers one after the other at off.
func writeAll(f *os.File, bufs [][]byte, off int64) error {
	for _, b := range bufs {
		n, err := f.WriteAt(b, off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// syncData makes f durable.
func syncData(f *os.File) error { return f.Sync() }

// startWriting is a hint that is not given here.
func startWriting(*os.File, int64, int64) {}

// punch overwrites n octets at off with zeros; their space returns when the segment
// is removed.
func punch(f *os.File, off, n int64) error { return writeZeros(f, off, n) }

// syncDir makes the names in a directory durable. Windows cannot be asked to.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
