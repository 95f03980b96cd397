package smtpd

import (
	"bytes"
	"io"

	"postern/internal/mail"
)

// event is what follows a stretch of clean octets.
type event uint8

const (
	evNone    event = iota
	evMore          // more input is needed to say
	evStuffed       // a dot that was added for transparency, RFC 5321 4.5.2
	evEnd           // the line with the single dot
	evFault         // a bare CR or LF, or NUL
)

// position is where in a line the octet before the next one leaves us.
type position uint8

const (
	lineStart position = iota
	inLine
	afterCR
)

// scanner looks at the content of a message in large pieces. It finds the end of
// DATA only in CRLF.CRLF and every CR or LF that stands alone, which is what
// keeps one message from being read as two (SMTP smuggling).
type scanner struct {
	at    position
	fault *mail.Error // set with evFault: the first fault there is
}

// scan returns how many octets at the front of b are clean, and what follows
// them. With dots false, b is content of BDAT, where a dot means nothing.
//
// It visits each LF once. Every LF having a CR before it, the CRs are all paired
// if there are as many of them: that is cheaper than looking at each.
func (s *scanner) scan(b []byte, dots bool) (int, event) {
	if dots && s.at == lineStart {
		if e := dotAt(b); e != evNone {
			return s.settle(b, 0, 0, e)
		}
	}
	i, lines := 0, 0
	for {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			return s.settle(b, len(b), lines, evMore)
		}
		i += j
		if i > 0 && b[i-1] != '\r' || i == 0 && s.at != afterCR {
			return s.settle(b, i, lines, evFault)
		}
		i++
		lines++
		if dots && i < len(b) && b[i] == '.' {
			if e := dotAt(b[i:]); e != evNone {
				return s.settle(b, i, lines, e)
			}
		}
	}
}

// dotAt says what a line beginning with b is as far as dots go.
func dotAt(b []byte) event {
	switch {
	case len(b) == 0 || b[0] != '.':
		return evNone
	case len(b) == 1:
		return evMore
	case b[1] == '\n':
		return evFault
	case b[1] != '\r':
		return evStuffed
	case len(b) == 2:
		return evMore
	case b[2] == '\n':
		return evEnd
	}
	return evFault
}

// settle checks the first n octets of b, which hold so many LFs, each after a CR.
func (s *scanner) settle(b []byte, n, lines int, e event) (int, event) {
	clean := b[:n]
	at, want := s.at, lines
	if n > 0 {
		if s.at == afterCR {
			want-- // the CR of the first line came before b
			if clean[0] != '\n' {
				e = evFault
			}
		}
		switch clean[n-1] {
		case '\r':
			at = afterCR
			want++ // its LF is still to come
		case '\n':
			at = lineStart
		default:
			at = inLine
		}
	}
	if e == evFault || bytes.Count(clean, []byte{'\r'}) != want || bytes.IndexByte(clean, 0) >= 0 {
		s.fault = firstFault(b, s.at)
		return 0, evFault
	}
	s.at = at
	return n, e
}

// firstFault names the first fault in b, which is known to hold one, so that the
// reply does not depend on how the content was cut into segments.
func firstFault(b []byte, at position) *mail.Error {
	cr := at == afterCR
	for _, c := range b {
		if cr != (c == '\n') {
			return mail.ErrLineEnding
		}
		if c == 0 {
			return mail.ErrNUL
		}
		cr = c == '\r'
	}
	return mail.ErrLineEnding
}

// stretcher yields the content of a message in pieces that lie in the input's
// buffer.
type stretcher interface {
	// stretch returns the next octets, at least one, without taking them. The
	// error is io.EOF behind the last octet of a complete message, and
	// another one if there will be no complete message.
	stretch() ([]byte, error)
	// consume takes n of the octets that stretch returned.
	consume(n int)
	// abandon says that nobody wants the rest: the end to be found is then
	// where the refusal can be given.
	abandon()
}

// dotReader is the content of DATA (RFC 5321 4.1.1.4), dots unstuffed.
type dotReader struct {
	in    *input
	scan  scanner
	clean int // octets at the front of the input that were found clean
	next  event
}

func (d *dotReader) stretch() ([]byte, error) {
	for d.clean == 0 {
		switch d.next {
		case evEnd:
			d.in.skip(len(".\r\n"))
			return nil, io.EOF
		case evFault:
			return nil, d.scan.fault
		case evStuffed:
			d.in.skip(1)
			d.scan.at = inLine
		case evMore:
			if err := d.in.more(); err != nil {
				return nil, unexpected(err)
			}
		}
		d.clean, d.next = d.scan.scan(d.in.bytes(), true)
	}
	return d.in.bytes()[:d.clean], nil
}

func (d *dotReader) consume(n int) {
	d.in.skip(n)
	d.clean -= n
}

func (d *dotReader) abandon() {}

// unexpected keeps the end of the connection from looking like the end of the
// message: half a message is never a whole one.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
