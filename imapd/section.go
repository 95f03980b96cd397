package imapd

import (
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-imap/v2"

	"postern/internal/message"
	"postern/internal/store"
)

// maxEmbeddedHeader is how much of an embedded message's header section is read into
// memory to pick fields from, in octets.
const maxEmbeddedHeader = 1 << 20

// octets is a message as it is stored.
type octets interface {
	io.ReaderAt
	Size() int64
}

// source is what one FETCH response takes a message from. Only what the items need is
// there: a header section alone never opens the blob.
type source struct {
	head []byte
	root *message.Part // nil unless needed
	body octets        // nil unless needed
}

// slice is the answer to one section: octets in memory, or a range of the body.
type slice struct {
	data   []byte
	off, n int64
	stored bool
}

func inMemory(b []byte) slice { return slice{data: b, n: int64(len(b))} }

// columns says what the store must load for a section.
func columns(s *imap.FetchItemBodySection) store.Columns {
	switch {
	case len(s.Part) > 0, s.Specifier == imap.PartSpecifierText, s.Specifier == imap.PartSpecifierMIME:
		return store.WantBody | store.WantStructure
	case s.Specifier == imap.PartSpecifierHeader:
		return store.WantHead
	}
	return store.WantBody
}

// section finds the octets of BODY[...] (RFC 9051 6.4.5). A section that is not there
// is empty.
func (m *source) section(s *imap.FetchItemBodySection) (slice, error) {
	out, err := m.whole(s)
	if err != nil {
		return slice{}, err
	}
	if s.Specifier == imap.PartSpecifierHeader && (len(s.HeaderFields) > 0 || len(s.HeaderFieldsNot) > 0) {
		hdr, err := m.inHand(out)
		if err != nil {
			return slice{}, err
		}
		if len(s.HeaderFields) > 0 {
			out = inMemory(message.FilterFields(hdr, s.HeaderFields, false))
		} else {
			out = inMemory(message.FilterFields(hdr, s.HeaderFieldsNot, true))
		}
	}
	return out.partial(s.Partial), nil
}

// whole finds a section without its partial range.
func (m *source) whole(s *imap.FetchItemBodySection) (slice, error) {
	kind := message.SectionAll
	switch s.Specifier {
	case imap.PartSpecifierHeader:
		kind = message.SectionHeader
	case imap.PartSpecifierText:
		kind = message.SectionText
	case imap.PartSpecifierMIME:
		kind = message.SectionMIME
	}
	if len(s.Part) == 0 {
		switch kind {
		case message.SectionAll:
			return slice{n: m.body.Size(), stored: true}, nil
		case message.SectionHeader:
			return inMemory(headerOf(m.head)), nil
		}
	}
	off, n, ok := m.root.Section(s.Part, kind)
	if !ok {
		return slice{}, nil
	}
	if off < 0 || n < 0 || off > m.body.Size() || n > m.body.Size()-off {
		return slice{}, fmt.Errorf("section of %d octets at %d in a message of %d: %w", n, off, m.body.Size(), errRecord)
	}
	return slice{off: off, n: n, stored: true}, nil
}

// errRecord says that what was recorded of a message does not fit it.
var errRecord = errors.New("record does not fit the message")

// headerOf cuts the header section off the stored head.
func headerOf(head []byte) []byte {
	var end message.HeaderEnd
	n, _ := end.Feed(head)
	return head[:n]
}

// inHand reads a section of the body into memory, up to maxEmbeddedHeader octets.
func (m *source) inHand(s slice) ([]byte, error) {
	if !s.stored {
		return s.data, nil
	}
	b := make([]byte, min(s.n, maxEmbeddedHeader))
	if _, err := m.body.ReadAt(b, s.off); err != nil && (err != io.EOF || len(b) > 0) {
		return nil, fmt.Errorf("read header section: %w", err)
	}
	return b, nil
}

// partial cuts a section down to <offset.count>. Both are int64 of any size, so no sum
// of them is formed.
func (s slice) partial(p *imap.SectionPartial) slice {
	if p == nil {
		return s
	}
	off := min(max(p.Offset, 0), s.n)
	n := min(max(p.Size, 0), s.n-off)
	if !s.stored {
		return inMemory(s.data[off : off+n])
	}
	return slice{off: s.off + off, n: n, stored: true}
}

// copyTo writes a section out.
func (s slice) copyTo(w io.Writer, body octets, buf []byte) error {
	if !s.stored {
		_, err := w.Write(s.data)
		return err
	}
	for off, left := s.off, s.n; left > 0; {
		b := buf[:min(left, int64(len(buf)))]
		if n, err := body.ReadAt(b, off); n < len(b) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read body: %w", err)
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		off, left = off+int64(len(b)), left-int64(len(b))
	}
	return nil
}

// decoded is the answer to BINARY[...]: the octets of a part without its transfer
// encoding (RFC 9051 6.4.5.2).
type decoded struct {
	raw      slice
	encoding string // "" if raw is the answer
	skip     int64  // of the decoded octets
	n        int64
}

// binary finds a part and its decoded size, for which an encoded part is read once.
func (m *source) binary(path []int, partial *imap.SectionPartial) (decoded, error) {
	raw, err := m.whole(&imap.FetchItemBodySection{Part: path})
	if err != nil {
		return decoded{}, err
	}
	part := m.root.Find(path)
	if len(path) == 0 || part == nil || part.IsMultipart() || part.Message != nil {
		raw = raw.partial(partial)
		return decoded{raw: raw, n: raw.n}, nil
	}
	switch part.Encoding {
	case "", "7bit", "8bit", "binary":
		raw = raw.partial(partial)
		return decoded{raw: raw, n: raw.n}, nil
	case "base64", "quoted-printable":
	default:
		return decoded{}, errUnknownCTE
	}
	d := decoded{raw: raw, encoding: part.Encoding}
	if d.n, err = io.Copy(io.Discard, d.reader(m.body)); err != nil {
		return decoded{}, fmt.Errorf("decode part: %w", err)
	}
	cut := slice{n: d.n, stored: true}.partial(partial)
	d.skip, d.n = cut.off, cut.n
	return d, nil
}

func (d decoded) reader(body octets) io.Reader {
	return message.Decode(d.encoding, io.NewSectionReader(body, d.raw.off, d.raw.n))
}

func (d decoded) copyTo(w io.Writer, body octets, buf []byte) error {
	if d.encoding == "" {
		return d.raw.copyTo(w, body, buf)
	}
	r := d.reader(body)
	if _, err := io.CopyN(io.Discard, r, d.skip); err != nil {
		return fmt.Errorf("decode part: %w", err)
	}
	if _, err := io.CopyBuffer(w, io.LimitReader(r, d.n), buf); err != nil {
		return fmt.Errorf("decode part: %w", err)
	}
	return nil
}
