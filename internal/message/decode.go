package message

import (
	"bufio"
	"encoding/base64"
	"errors"
	"io"
	"strings"
)

// errNotBase64 says that a strict reader met something else.
var errNotBase64 = errors.New("octets outside the base64 alphabet")

// Decode undoes a content transfer encoding (RFC 2045 6) while it is read. It is
// tolerant: what is not of the encoding is passed over (base64) or passed on
// (quoted-printable), and an encoding that is not known is none.
func Decode(encoding string, r io.Reader) io.Reader {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		return &base64Reader{r: r}
	case "quoted-printable":
		return &qpReader{r: bufio.NewReader(r)}
	}
	return r
}

// base64Reader decodes base64 in lines of any length. If strict, octets that are
// neither of the alphabet nor white space are an error.
type base64Reader struct {
	r      io.Reader
	strict bool
	in     [4096]byte
	out    [3072]byte
	rest   int // alphabet octets kept at the start of in, less than 4
	ready  []byte
	padded bool
	err    error
}

func (d *base64Reader) Read(p []byte) (int, error) {
	for len(d.ready) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		d.fill()
	}
	n := copy(p, d.ready)
	d.ready = d.ready[n:]
	return n, nil
}

func (d *base64Reader) fill() {
	n, err := d.r.Read(d.in[d.rest:])
	kept, ferr := d.filter(d.in[d.rest : d.rest+n])
	total := d.rest + kept
	whole := total &^ 3
	if ferr != nil {
		err = ferr // also if it came together with the reader's end
	}
	m, derr := base64.StdEncoding.Decode(d.out[:], d.in[:whole])
	d.rest = copy(d.in[:], d.in[whole:total])
	if err == io.EOF && derr == nil && d.rest > 1 {
		var t int
		t, derr = base64.RawStdEncoding.Decode(d.out[m:], d.in[:d.rest])
		m += t
	}
	if d.strict && (derr != nil || err == io.EOF && d.rest == 1) {
		err = errNotBase64
	}
	d.ready, d.err = d.out[:m], err
}

// filter moves the octets of the alphabet to the front of b. Padding ends the
// data: the alphabet cannot tell what follows it.
func (d *base64Reader) filter(b []byte) (int, error) {
	n := 0
	for _, c := range b {
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '+', c == '/':
			if d.padded {
				if d.strict {
					return n, errNotBase64
				}
				return n, io.EOF
			}
			b[n] = c
			n++
		case c == '=':
			d.padded = true
		case c == '\r', c == '\n', c == ' ', c == '\t':
		default:
			if d.strict {
				return n, errNotBase64
			}
		}
	}
	return n, nil
}

// maxBlanks is the longest run of white space that is looked through for the end
// of a line.
const maxBlanks = 1024

// qpReader decodes quoted-printable (RFC 2045 6.7).
type qpReader struct {
	r      *bufio.Reader
	blanks []byte // white space that may turn out to be at the end of a line
	ready  []byte
	buf    [256]byte
	err    error
}

func (d *qpReader) Read(p []byte) (int, error) {
	for len(d.ready) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		d.fill()
	}
	n := copy(p, d.ready)
	d.ready = d.ready[n:]
	return n, nil
}

// fill decodes until the buffer is nearly full.
func (d *qpReader) fill() {
	out := d.buf[:0]
	for len(out) < len(d.buf)-4 && d.err == nil {
		c, err := d.r.ReadByte()
		if err != nil {
			d.err = err
			break
		}
		if isWSP(c) && len(d.blanks) < maxBlanks {
			d.blanks = append(d.blanks, c)
			continue
		}
		if len(d.blanks) > 0 {
			if c == '\r' || c == '\n' {
				d.blanks = d.blanks[:0]
			} else {
				// Hand out the blanks first; c is read again.
				_ = d.r.UnreadByte()
				d.ready = append(append([]byte(nil), out...), d.blanks...)
				d.blanks = d.blanks[:0]
				return
			}
		}
		if c == '=' {
			out = d.escape(out)
			continue
		}
		out = append(out, c)
	}
	d.ready = out
}

// escape decodes what follows "=": two hexadecimal digits, or the end of the
// line, before which white space may stand. Anything else stays as it is.
func (d *qpReader) escape(out []byte) []byte {
	two, _ := d.r.Peek(2)
	if len(two) == 2 {
		hi, ok1 := unhex(two[0])
		lo, ok2 := unhex(two[1])
		if ok1 && ok2 {
			_, _ = d.r.Discard(2)
			return append(out, hi<<4|lo)
		}
	}
	for n := 0; n < maxBlanks; n++ {
		ahead, err := d.r.Peek(n + 1)
		if err != nil {
			if n == 0 {
				return out // "=" as the last octet is a soft line break
			}
			break
		}
		switch c := ahead[n]; {
		case c == '\n':
			_, _ = d.r.Discard(n + 1)
			return out
		case !isWSP(c) && c != '\r':
			return append(out, '=')
		}
	}
	return append(out, '=')
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// latin1 reads every octet as the character of the same number.
func latin1(_ string, r io.Reader) (io.Reader, error) {
	b, err := io.ReadAll(io.LimitReader(r, 1<<16))
	if err != nil {
		return nil, err
	}
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return strings.NewReader(s.String()), nil
}
