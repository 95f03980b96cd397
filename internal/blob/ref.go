package blob

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// maxRef bounds the length of a ref, in octets.
const maxRef = 64

// place is where a small blob lies. Its ref is "s/segment/offset/size-crc" in
// hexadecimal. Size and crc are there so that a ref of another life of the directory,
// from a backup of the rows for instance, is seen to be wrong.
type place struct {
	segment uint32
	offset  int64 // of the record's header
	size    uint32
	crc     uint32
}

func (p place) ref() string {
	return fmt.Sprintf("s/%x/%x/%x-%08x", p.segment, p.offset, p.size, p.crc)
}

// is reports whether r is the header this place speaks of.
func (p place) is(r record) bool {
	return r.kind == live && r.size == p.size && r.crc == p.crc
}

// parsePlace reads a ref that begins with "s/".
func parsePlace(ref string) (place, error) {
	var p place
	parts := strings.Split(strings.TrimPrefix(ref, "s/"), "/")
	if len(ref) > maxRef || len(parts) != 3 {
		return p, fmt.Errorf("%w: form", ErrRef)
	}
	size, crc, _ := strings.Cut(parts[2], "-")
	var err error
	number := func(s string) uint64 {
		n, e := strconv.ParseUint(s, 16, 32)
		if e != nil {
			err = fmt.Errorf("%w: number", ErrRef)
		}
		return n
	}
	p = place{uint32(number(parts[0])), int64(number(parts[1])), uint32(number(size)), uint32(number(crc))}
	// One place has one ref, so that refs can be compared as strings.
	if err == nil && (p.ref() != ref || p.offset < unit || p.offset%unit != 0 || p.size > maxSmall) {
		err = fmt.Errorf("%w: form", ErrRef)
	}
	return p, err
}

// fileName names a large blob: the time of its commit in microseconds, so that its
// age does not depend on the file system, and a random number.
type fileName struct {
	time   int64
	random uint64
}

// dir is the fan-out directory.
func (n fileName) dir() string { return fmt.Sprintf("%02x", n.random&0xff) }

func (n fileName) base() string { return fmt.Sprintf("%014x%016x", n.time, n.random) }

// ref is "f/" and the path below the directory of files.
func (n fileName) ref() string { return "f/" + n.dir() + "/" + n.base() }

func (n fileName) at() time.Time { return time.UnixMicro(n.time) }

// parseFileName reads a ref that begins with "f/". Nothing but hexadecimal digits
// gets through, so that no ref leads out of the directory.
func parseFileName(ref string) (fileName, error) {
	const digits = 14 + 16
	if len(ref) != len("f/ab/")+digits {
		return fileName{}, fmt.Errorf("%w: form", ErrRef)
	}
	base := ref[len(ref)-digits:]
	at, err1 := strconv.ParseUint(base[:14], 16, 56)
	random, err2 := strconv.ParseUint(base[14:], 16, 64)
	n := fileName{int64(at), random}
	if err1 != nil || err2 != nil || n.ref() != ref {
		return fileName{}, fmt.Errorf("%w: form", ErrRef)
	}
	return n, nil
}
