package message

import (
	"bytes"
	"errors"
	"strings"
)

// Limits of a header section.
const (
	// DefaultHeaderLimit is the greatest header section, in octets with its
	// blank line, that ParseHeader reads.
	DefaultHeaderLimit = 1 << 20
	// MaxFields is the greatest number of fields. A header of a million empty
	// lines is within the octet limit and would still cost 40 octets for each.
	MaxFields = 10000
)

// ErrHeaderTooLarge says that a header section is over its limit of octets or
// fields.
var ErrHeaderTooLarge = errors.New("header section too large")

// Field is one header field as it came.
type Field struct {
	// Name is the field name in the case it came in, without the colon. It is
	// empty for a line that is no field: an mbox "From " line, a line without a
	// colon, a first line that begins with white space.
	Name string
	// Raw is the whole field with name, folding and line ending. Only the last
	// field of a message that ends within its header section lacks the ending.
	Raw []byte
}

// Is reports whether f has this name; case does not matter.
func (f Field) Is(name string) bool { return f.Name != "" && equalFold(f.Name, name) }

// Value is what follows the colon, unfolded (RFC 5322 2.2.3) and trimmed. It
// holds neither CR nor LF, whatever the sender wrote.
func (f Field) Value() string {
	colon := bytes.IndexByte(f.Raw, ':')
	if f.Name == "" || colon < 0 {
		return ""
	}
	return unfold(f.Raw[colon+1:])
}

// Header is a header section: fields in their order, and how it ended.
type Header struct {
	Fields []Field
	// End is the blank line that separates the body, as it came: usually CRLF;
	// empty if the message has no blank line and therefore no body.
	End []byte
}

// ParseHeader reads the header section at the start of b, which must hold at
// least that section, up to DefaultHeaderLimit octets. bodyStart is the offset
// behind the blank line, or len(b) if there is none. The fields are sub-slices of
// b. The only error is ErrHeaderTooLarge.
func ParseHeader(b []byte) (h Header, bodyStart int, err error) {
	return ParseHeaderLimit(b, DefaultHeaderLimit)
}

// ParseHeaderLimit is ParseHeader with another limit, in octets.
func ParseHeaderLimit(b []byte, limit int) (h Header, bodyStart int, err error) {
	fields := make([]Field, 0, 32)
	pos := 0
	for pos < len(b) {
		eol := lineEnd(b, pos)
		if isBlank(b[pos:eol]) {
			h.End = b[pos:eol:eol]
			break
		}
		end := foldEnd(b, eol)
		if end > limit || len(fields) == MaxFields {
			return Header{}, 0, ErrHeaderTooLarge
		}
		fields = append(fields, Field{Raw: b[pos:end:end]})
		pos = end
	}
	if bodyStart = pos + len(h.End); bodyStart > limit {
		return Header{}, 0, ErrHeaderTooLarge
	}
	// One copy serves all the names; the fields lie end to end.
	text, off := string(b[:pos]), 0
	for i := range fields {
		n := nameLen(fields[i].Raw)
		fields[i].Name = text[off : off+n]
		off += len(fields[i].Raw)
	}
	h.Fields = fields
	return h, bodyStart, nil
}

// Get returns the value of the first field of this name, unfolded and trimmed,
// or "".
func (h Header) Get(name string) string {
	if f := h.first(name); f != nil {
		return f.Value()
	}
	return ""
}

// first returns the first field of this name, or nil.
func (h Header) first(name string) *Field {
	for i := range h.Fields {
		if h.Fields[i].Is(name) {
			return &h.Fields[i]
		}
	}
	return nil
}

// Values returns the values of all fields of this name in their order.
func (h Header) Values(name string) []string {
	var values []string
	for i := range h.Fields {
		if h.Fields[i].Is(name) {
			values = append(values, h.Fields[i].Value())
		}
	}
	return values
}

// Has reports whether there is a field of this name.
func (h Header) Has(name string) bool { return h.first(name) != nil }

// Bytes returns the octets of all fields, without the blank line: a message is
// Bytes, then End, then the body.
func (h Header) Bytes() []byte {
	n := 0
	for i := range h.Fields {
		n += len(h.Fields[i].Raw)
	}
	b := make([]byte, 0, n)
	for i := range h.Fields {
		b = append(b, h.Fields[i].Raw...)
	}
	return b
}

// Without returns the header without the fields that match. The octets are
// shared with h.
func (h Header) Without(match func(Field) bool) Header {
	kept := Header{Fields: make([]Field, 0, len(h.Fields)), End: h.End}
	for _, f := range h.Fields {
		if !match(f) {
			kept.Fields = append(kept.Fields, f)
		}
	}
	return kept
}

// FilterFields answers HEADER.FIELDS and, with not, HEADER.FIELDS.NOT (RFC 9051
// 6.4.5.1): the fields of the header section hdr that have (or do not have) one
// of the names, as they came, and a blank line. Lines that are no field are in
// the answer only with not.
func FilterFields(hdr []byte, names []string, not bool) []byte {
	out := make([]byte, 0, 256)
	for pos := 0; pos < len(hdr); {
		eol := lineEnd(hdr, pos)
		if isBlank(hdr[pos:eol]) {
			break
		}
		raw := hdr[pos:foldEnd(hdr, eol)]
		pos += len(raw)
		if listed(names, raw[:nameLen(raw)]) != not {
			out = append(out, raw...)
		}
	}
	if n := len(out); n > 0 && out[n-1] != '\n' {
		out = append(out, '\r', '\n')
	}
	return append(out, '\r', '\n')
}

func listed(names []string, name []byte) bool {
	if len(name) == 0 {
		return false
	}
	for _, n := range names {
		if equalFold(n, name) {
			return true
		}
	}
	return false
}

// lineEnd returns the offset behind the line that begins at pos.
func lineEnd(b []byte, pos int) int {
	if n := bytes.IndexByte(b[pos:], '\n'); n >= 0 {
		return pos + n + 1
	}
	return len(b)
}

// foldEnd returns the offset behind the field whose first line ends at eol:
// lines that begin with white space continue it (RFC 5322 2.2.3).
func foldEnd(b []byte, eol int) int {
	for eol < len(b) && isWSP(b[eol]) {
		eol = lineEnd(b, eol)
	}
	return eol
}

// isBlank reports whether a line with its ending is the blank line that ends a
// header section. QUIRK: CR CR LF counts, which double conversion of line endings
// makes of every line; so does a message's last octet CR.
func isBlank(line []byte) bool {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	for _, c := range line {
		if c != '\r' {
			return false
		}
	}
	return true
}

// nameLen returns the length of the field name at the start of raw, 0 if raw is
// no field. White space before the colon is the obsolete syntax of RFC 5322 4.5.
func nameLen(raw []byte) int {
	n := 0
	for n < len(raw) && raw[n] > ' ' && raw[n] < 0x7f && raw[n] != ':' {
		n++
	}
	for i := n; i < len(raw); i++ {
		if raw[i] == ':' {
			return n
		}
		if !isWSP(raw[i]) {
			break
		}
	}
	return 0
}

// unfold drops line endings and trims white space.
func unfold(b []byte) string {
	b = bytes.Trim(b, " \t\r\n")
	if bytes.IndexByte(b, '\n') < 0 && bytes.IndexByte(b, '\r') < 0 {
		return string(b)
	}
	var s strings.Builder
	s.Grow(len(b))
	for len(b) > 0 {
		n := bytes.IndexAny(b, "\r\n")
		if n < 0 {
			n = len(b)
		}
		s.Write(b[:n])
		b = b[min(n+1, len(b)):]
	}
	return s.String()
}

func isWSP(c byte) bool { return c == ' ' || c == '\t' }

// equalFold compares ASCII without regard to case. Unlike strings.EqualFold it
// takes no other letter for an ASCII one.
func equalFold[T string | []byte](a string, b T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// hasPrefixFold is strings.HasPrefix without regard to ASCII case.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && equalFold(s[:len(prefix)], prefix)
}
