package admin

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// mboxBuffer is how far an mbox is looked ahead, in octets: more than a From line and
// the next one have.
const mboxBuffer = 64 << 10

// maxFromLine is how much of a From line is looked at, in octets: an address and a
// date.
const maxFromLine = 512

var errNotMbox = errors.New("neither a Maildir nor an mbox file, which begins with \"From \"")

// walkMbox visits the messages of an mbox file. A file of 0 octets has none.
func walkMbox(path, mailbox string, visit func(old) error) error {
	if mailbox == "" {
		mailbox = "INBOX"
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	m := newMboxReader(f)
	for n := 1; ; n++ {
		date, err := m.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		err = visit(old{
			where: fmt.Sprintf("%s: message %d", path, n), mailbox: mailbox, date: date,
			open: func() (io.ReadCloser, error) { return io.NopCloser(m), nil },
		})
		if err != nil {
			return err
		}
	}
}

// mboxReader splits an mbox (RFC 4155, in the form called mboxrd: ">From " stands for
// "From ", ">>From " for ">From "). It reads one message at a time and keeps none.
type mboxReader struct {
	r *bufio.Reader
	// inside says that a message is being read; lineStart that its next octet begins
	// a line; afterEmpty that the line before was empty, or the From line.
	inside, lineStart, afterEmpty bool
	// empty is the empty line that was just read. Before a From line and at the end
	// of the file it belongs to the mbox, else to the message.
	empty []byte
	out   []byte // read and not yet given out
	buf   []byte
}

func newMboxReader(r io.Reader) *mboxReader {
	return &mboxReader{r: bufio.NewReaderSize(r, mboxBuffer)}
}

// next goes to the next message and returns the date of its From line. What is left
// of the one before is skipped.
func (m *mboxReader) next() (time.Time, error) {
	if _, err := io.Copy(io.Discard, m); err != nil {
		return time.Time{}, err
	}
	line, err := m.r.ReadSlice('\n')
	if err == io.EOF && len(line) == 0 {
		return time.Time{}, io.EOF
	}
	if err != nil && err != io.EOF && err != bufio.ErrBufferFull {
		return time.Time{}, err
	}
	if !bytes.HasPrefix(line, []byte("From ")) || err == bufio.ErrBufferFull {
		return time.Time{}, errNotMbox
	}
	m.inside, m.lineStart, m.afterEmpty, m.empty = true, true, false, nil
	date, _ := fromDate(line)
	return date, nil
}

// Read reads the current message, with the line endings that it has.
func (m *mboxReader) Read(p []byte) (int, error) {
	for len(m.out) == 0 {
		if !m.inside {
			return 0, io.EOF
		}
		if err := m.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, m.out)
	m.out = m.out[n:]
	return n, nil
}

// fill takes the next line, or a piece of a long one, into out.
func (m *mboxReader) fill() error {
	if m.lineStart && m.afterEmpty && m.atFromLine() {
		m.inside = false
		return nil
	}
	line, err := m.r.ReadSlice('\n')
	if err == io.EOF {
		m.inside = false
		if len(line) == 0 {
			return nil
		}
	} else if err != nil && err != bufio.ErrBufferFull {
		return err
	}
	wasStart := m.lineStart
	m.lineStart = err == nil
	if wasStart && len(bytes.TrimRight(line, "\r\n")) == 0 {
		m.afterEmpty = true
		m.out = append(m.buf[:0], m.empty...)
		m.empty = bytes.Clone(line)
		m.buf = m.out
		return nil
	}
	if wasStart {
		m.afterEmpty = false
		if unquoted := bytes.TrimLeft(line, ">"); len(unquoted) < len(line) && bytes.HasPrefix(unquoted, []byte("From ")) {
			line = line[1:]
		}
	}
	m.out = append(append(m.buf[:0], m.empty...), line...)
	m.buf, m.empty = m.out, nil
	return nil
}

// atFromLine says whether what comes next separates messages. Programs that do not
// quote leave lines of text that begin with "From " behind empty ones; what tells them
// apart is the date, or a header field in the next line.
func (m *mboxReader) atFromLine() bool {
	if word, _ := m.r.Peek(5); string(word) != "From " {
		return false
	}
	ahead, _ := m.r.Peek(4096)
	line, rest, _ := bytes.Cut(ahead, []byte("\n"))
	if _, ok := fromDate(line); ok {
		return true
	}
	name, _, ok := bytes.Cut(rest, []byte(":"))
	return ok && len(name) > 0 && bytes.IndexFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// fromDate reads the date of a From line, "From a@b Mon Jan  2 15:04:05 2006", which
// is in UTC unless an offset follows. Some programs leave the seconds out, or put the
// name of a time zone before the year, which says nothing reliable.
func fromDate(line []byte) (time.Time, bool) {
	fields := bytes.Fields(line[:min(len(line), maxFromLine)])
	for i := 1; i < len(fields); i++ {
		if len(fields[i]) != len("Mon") {
			continue
		}
		for _, layout := range [][]byte{
			[]byte("Mon Jan 2 15:04:05 2006 -0700"), []byte("Mon Jan 2 15:04:05 2006"),
			[]byte("Mon Jan 2 15:04 2006"), []byte("Mon Jan 2 15:04:05 MST 2006"),
		} {
			n := bytes.Count(layout, []byte(" ")) + 1
			if i+n > len(fields) {
				continue
			}
			if t, err := time.Parse(string(layout), string(bytes.Join(fields[i:i+n], []byte(" ")))); err == nil {
				return t, true
			}
		}
	}
	return time.Time{}, false
}

// crlfReader turns bare LF and bare CR line endings into CRLF.
type crlfReader struct {
	src io.Reader
	in  [16 << 10]byte
	buf []byte
	out []byte // of buf, what is not yet given out
	cr  bool   // the last octet was CR
	end error
}

func (c *crlfReader) Read(p []byte) (int, error) {
	for len(c.out) == 0 {
		if c.end != nil {
			return 0, c.end
		}
		var n int
		n, c.end = c.src.Read(c.in[:])
		c.convert(c.in[:n])
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

func (c *crlfReader) convert(in []byte) {
	b := c.buf[:0]
	for _, o := range in {
		if c.cr && o != '\n' {
			b = append(b, '\n')
		}
		if o == '\n' && !c.cr {
			b = append(b, '\r')
		}
		b = append(b, o)
		c.cr = o == '\r'
	}
	if c.end == io.EOF && c.cr {
		b, c.cr = append(b, '\n'), false
	}
	c.buf, c.out = b, b
}
