package smtpd

import (
	"bytes"
	"io"
	"sync"
)

const (
	// smallBuffer is what an idle connection holds, and so the longest command
	// line that is looked at.
	smallBuffer = 4 << 10
	// largeBuffer is taken from a pool while a message comes in.
	largeBuffer = 64 << 10
)

// What can be wrong with a command line. Each ends the connection: where the next
// command would begin is not certain any more.
const (
	errLineTooLong lineError = "command line too long"
	errBareCR      lineError = "bare CR in command line"
	errBareLF      lineError = "bare LF in command line"
	errNULInLine   lineError = "NUL in command line"
)

type lineError string

func (e lineError) Error() string { return string(e) }

// input is the read buffer of a connection. Its bytes are looked at in place.
type input struct {
	read  func([]byte) (int, error) // may wait; never returns 0, nil
	small []byte
	pool  *sync.Pool
	large *[largeBuffer]byte // nil while the small buffer does
	buf   []byte             // small or large
	r, w  int                // what is buffered is buf[r:w]
}

// bytes returns what is buffered; it is valid until the next call of more.
func (in *input) bytes() []byte { return in.buf[in.r:in.w] }

// skip takes n buffered octets away.
func (in *input) skip(n int) { in.r += n }

// more reads at least one octet into the buffer, whatever is buffered moving to
// its front. The buffer must not be full.
func (in *input) more() error {
	if in.r > 0 {
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	if in.w == len(in.buf) {
		return io.ErrShortBuffer
	}
	n, err := in.read(in.buf[in.w:])
	in.w += n
	if n > 0 {
		return nil
	}
	return err
}

// grow takes a large buffer for a message.
func (in *input) grow() {
	if in.large != nil {
		return
	}
	in.large = in.pool.Get().(*[largeBuffer]byte)
	in.w = copy(in.large[:], in.bytes())
	in.r = 0
	in.buf = in.large[:]
}

// shrink gives the large buffer back as soon as what is left fits into the small
// one: pipelined commands may follow a message in the same segment.
func (in *input) shrink() {
	if in.large == nil || in.w-in.r > len(in.small) {
		return
	}
	in.w = copy(in.small, in.bytes())
	in.r = 0
	in.buf = in.small
	in.pool.Put(in.large)
	in.large = nil
}

// free gives everything back; the input cannot be used afterwards.
func (in *input) free() {
	in.r, in.w = 0, 0
	in.shrink()
}

// line returns the next command line without its CRLF. It is valid until the next
// read. Only CRLF ends a line, RFC 5321 2.3.8.
func (in *input) line() ([]byte, error) {
	for {
		b := in.bytes()
		i := bytes.IndexByte(b, '\n')
		switch {
		case i >= smallBuffer, i < 0 && len(b) >= smallBuffer:
			return nil, errLineTooLong
		case i >= 0:
			in.skip(i + 1)
			return checkLine(b[:i])
		}
		in.shrink()
		if err := in.more(); err != nil {
			return nil, err
		}
	}
}

// checkLine takes the CR off a line that ended with LF.
func checkLine(b []byte) ([]byte, error) {
	if len(b) == 0 || b[len(b)-1] != '\r' {
		return nil, errBareLF
	}
	b = b[:len(b)-1]
	if bytes.IndexByte(b, '\r') >= 0 {
		return nil, errBareCR
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return nil, errNULInLine
	}
	return b, nil
}
