package blob

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"time"
)

// A segment is a header of one unit and then records, each a header of one unit, the
// octets, and zeros up to a whole number of units. Integers are little-endian.
//
//	segment header   magic[8] salt[16] created[8] zeros[28] crc[4]
//	record header    kind[4] size[4] span[4] octets-crc[4] time[8] digest[16] zeros[20] crc[4]
//
// The crc of a header covers the header before it and, for records, the salt, which
// never leaves the segment: nobody can send a message that looks like a header when
// a damaged segment is searched for the next one.
//
// A dead record may span several that were there before. Its last unit is a tag, a
// copy of its header of another kind, so that its right neighbour finds its start.
const (
	// unit divides a disk's sector, so that a header is never torn when it is
	// written again in place.
	unit = 64
	// minSpan leaves room for a header and a tag.
	minSpan = 2 * unit
	// maxSmall is the size in octets up to which blobs go into segments.
	maxSmall = 2 << 20

	segmentMagic = "PstnSeg\x01"
)

// kind tells the units of a segment apart.
type kind uint32

const (
	live kind = 0x4c527350 // "PsRL"
	dead kind = 0x44527350 // "PsRD"
	tag  kind = 0x54527350 // "PsRT"
)

// salt is the random part of a segment's header.
type salt [16]byte

// castagnoli is a function and not a variable; crc32 keeps the table itself.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// segmentHeader returns the first unit of a segment.
func segmentHeader(s salt, created time.Time) []byte {
	b := make([]byte, unit)
	copy(b, segmentMagic)
	copy(b[8:], s[:])
	binary.LittleEndian.PutUint64(b[24:], uint64(created.UnixMicro()))
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli()))
	return b
}

// readSalt reads and checks the first unit of a segment.
func readSalt(f io.ReaderAt) (salt, error) {
	var b [unit]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return salt{}, fmt.Errorf("read segment header: %w", err)
	}
	sum := crc32.Checksum(b[:60], castagnoli())
	if string(b[:8]) != segmentMagic || binary.LittleEndian.Uint32(b[60:]) != sum {
		return salt{}, fmt.Errorf("segment header: %w", ErrCorrupt)
	}
	return salt(b[8:24]), nil
}

// record is a record's header.
type record struct {
	kind   kind
	size   uint32 // octets of the blob
	span   uint32 // from this header to the next one
	crc    uint32 // CRC-32C of the octets
	time   int64  // of the commit, microseconds since 1970
	digest [16]byte
}

// spanOf returns the span of a blob of size octets.
func spanOf(size int) int { return max(minSpan, unit+(size+unit-1)/unit*unit) }

// put writes the header to b, which is one unit long.
func (r record) put(b []byte, s salt) {
	clear(b[40:60])
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(r.kind))
	le.PutUint32(b[4:], r.size)
	le.PutUint32(b[8:], r.span)
	le.PutUint32(b[12:], r.crc)
	le.PutUint64(b[16:], uint64(r.time))
	copy(b[24:40], r.digest[:])
	le.PutUint32(b[60:], headerSum(b, s))
}

func (r record) bytes(s salt) []byte {
	b := make([]byte, unit)
	r.put(b, s)
	return b
}

func headerSum(b []byte, s salt) uint32 {
	return crc32.Update(crc32.Checksum(s[:], castagnoli()), castagnoli(), b[:60])
}

// parseRecord reads a header or tag from one unit. It reports false for anything else.
func parseRecord(b []byte, s salt) (record, bool) {
	le := binary.LittleEndian
	r := record{
		kind: kind(le.Uint32(b[0:])),
		size: le.Uint32(b[4:]),
		span: le.Uint32(b[8:]),
		crc:  le.Uint32(b[12:]),
		time: int64(le.Uint64(b[16:])),
	}
	copy(r.digest[:], b[24:40])
	if r.kind != live && r.kind != dead && r.kind != tag {
		return record{}, false
	}
	if r.span < minSpan || r.span%unit != 0 || le.Uint32(b[60:]) != headerSum(b, s) {
		return record{}, false
	}
	if r.kind == live && (r.size > maxSmall || int(r.span) != spanOf(int(r.size))) {
		return record{}, false
	}
	return r, true
}

// readRecord reads the header at off; ok is false where there is none.
func readRecord(f io.ReaderAt, off int64, s salt) (r record, ok bool, err error) {
	var b [unit]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		if err == io.EOF {
			return record{}, false, nil
		}
		return record{}, false, fmt.Errorf("read record header: %w", err)
	}
	r, ok = parseRecord(b[:], s)
	return r, ok, nil
}

// scan calls visit for each live or dead record of the first size octets of a
// segment. What is no record is searched, unit by unit, for the next one.
func scan(f io.ReaderAt, size int64, s salt, visit func(off int64, r record) error) error {
	w := window{f: f, size: size}
	for off := int64(unit); off+unit <= size; {
		b, err := w.at(off)
		if err != nil {
			return fmt.Errorf("scan segment: %w", err)
		}
		r, ok := parseRecord(b, s)
		if !ok || r.kind == tag || off+int64(r.span) > size {
			off += unit
			continue
		}
		if err := visit(off, r); err != nil {
			return err
		}
		off += int64(r.span)
	}
	return nil
}

// window reads a file forward through one small buffer, leaving out what is skipped.
type window struct {
	f     io.ReaderAt
	size  int64
	start int64
	buf   []byte
	store [16 << 10]byte
}

// at returns the unit at off, which must lie within size.
func (w *window) at(off int64) ([]byte, error) {
	if off < w.start || off+unit > w.start+int64(len(w.buf)) {
		n := min(int64(len(w.store)), w.size-off)
		got, err := w.f.ReadAt(w.store[:n], off)
		if int64(got) < unit {
			return nil, fmt.Errorf("at %d: %w", off, err)
		}
		w.start, w.buf = off, w.store[:got]
	}
	return w.buf[off-w.start:][:unit], nil
}
