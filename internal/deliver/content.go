package deliver

import (
	"bytes"
	"errors"
	"io"
	"strconv"
)

// errContent is content that must not leave: a bare CR or LF can make two messages of
// one at the next hop (SMTP smuggling), and NUL is in no message.
var errContent = errors.New("bare CR, bare LF or NUL in the content")

// readError is an error of the copy that is read, not of the connection.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

// checker looks at content block by block.
type checker struct {
	last byte // the octet before the next one; 0 at the beginning
}

// check refuses a block before any of it is sent. All LFs have a CR before them, and
// all CRs are paired if there are as many.
func (k *checker) check(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	split := k.last == '\r'
	if split != (b[0] == '\n') {
		return errContent
	}
	lines := 0
	for i := 0; ; i++ {
		j := bytes.IndexByte(b[i:], '\n')
		if j < 0 {
			break
		}
		i += j
		if i > 0 && b[i-1] != '\r' {
			return errContent
		}
		lines++
	}
	k.last = b[len(b)-1]
	if split {
		lines--
	}
	if k.last == '\r' {
		lines++
	}
	if bytes.Count(b, []byte{'\r'}) != lines || bytes.IndexByte(b, 0) >= 0 {
		return errContent
	}
	return nil
}

// lineStart says that the next octet is the first of a line.
func (k *checker) lineStart() bool { return k.last == 0 || k.last == '\n' }

// fill reads until b is full or nothing more comes. Unlike io.ReadFull it tells the
// end of the content from content that was cut off.
func fill(r io.Reader, b []byte) (n int, last bool, err error) {
	for n < len(b) {
		var k int
		k, err = r.Read(b[n:])
		n += k
		if err == io.EOF {
			return n, true, nil
		}
		if err != nil {
			return n, false, readError{err}
		}
	}
	return n, false, nil
}

// pump reads the content, checks it, and hands it to send in blocks. A last line
// without an end gets one.
func (s *session) pump(r io.Reader, send func(block []byte, atStart, last bool) error) error {
	block := s.c.blocks.Get().(*[blockSize]byte)
	defer s.c.blocks.Put(block)
	var k checker
	for {
		n, last, err := fill(r, block[:blockSize-2])
		if err != nil {
			return err
		}
		atStart := k.lineStart()
		b := block[:n]
		if err := k.check(b); err != nil {
			return err
		}
		if last && k.last == '\r' {
			return errContent
		}
		if last && !k.lineStart() {
			b = append(b, '\r', '\n')
		}
		s.within(s.c.Timeouts.Block)
		if err := send(b, atStart, last); err != nil || last {
			return err
		}
	}
}

// sendData sends the content of DATA and its end (RFC 5321 4.5.2).
func (s *session) sendData(r io.Reader) error {
	return s.pump(r, func(b []byte, atStart, last bool) error {
		s.stuff(b, atStart)
		if last {
			_, _ = s.bw.WriteString(".\r\n")
			return s.bw.Flush()
		}
		_, err := s.bw.Write(nil) // the error of the writes before
		return err
	})
}

// stuff writes b with a dot before each that begins a line. Errors come with Flush.
func (s *session) stuff(b []byte, atStart bool) {
	if atStart && len(b) > 0 && b[0] == '.' {
		_ = s.bw.WriteByte('.')
	}
	for {
		i := bytes.Index(b, []byte("\n."))
		if i < 0 {
			_, _ = s.bw.Write(b)
			return
		}
		_, _ = s.bw.Write(b[:i+1])
		_ = s.bw.WriteByte('.')
		b = b[i+1:]
	}
}

// maxUnanswered is how many chunks may be on their way.
const maxUnanswered = 8

// errRefused is a chunk that the server does not want; its reply says why.
var errRefused = errors.New("a chunk was refused")

// sendChunks sends the content by BDAT (RFC 3030) and reads the replies to all chunks
// but the last. If one is not good it is returned with errRefused.
func (s *session) sendChunks(r io.Reader) (refusal reply, err error) {
	waiting := 0
	answer := func() error {
		s.within(s.c.Timeouts.Command)
		got, err := readReply(s.br)
		waiting--
		if err == nil && !got.good() {
			refusal, err = got, errRefused
		}
		return err
	}
	err = s.pump(r, func(b []byte, _, last bool) error {
		_, _ = s.bw.WriteString("BDAT ")
		_, _ = s.bw.WriteString(strconv.Itoa(len(b)))
		if last {
			_, _ = s.bw.WriteString(" LAST")
		}
		_, _ = s.bw.WriteString("\r\n")
		_, _ = s.bw.Write(b)
		if err := s.bw.Flush(); err != nil || last {
			return err
		}
		if waiting++; waiting > maxUnanswered || !s.ext.pipelining {
			return answer()
		}
		return nil
	})
	for err == nil && waiting > 0 {
		err = answer()
	}
	return refusal, err
}
