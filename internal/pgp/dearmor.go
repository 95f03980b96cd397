package pgp

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
)

var errArmor = errors.New("malformed ASCII armor")

const (
	// armorBuffer is the longest line read, in octets; SMTP allows 1,000.
	armorBuffer = 8 << 10
	// maxArmorHeaders bounds the lines between the begin line and the data, in octets:
	// anybody may fill them with anything, and programs write two short ones.
	maxArmorHeaders = 200
	// maxBlankLines is how many empty lines are skipped before a line of armor.
	maxBlankLines = 2 << 10
)

// armorReader gives the octets inside one armor block, line by line, holding no
// more than a buffer. A missing or wrong checksum is no fault (RFC 9580 6.1);
// anything else that is not armor is errArmor. At the end it has read the end
// line and made sure that only white space follows, so text cannot ride along.
type armorReader struct {
	r      *bufio.Reader
	kind   string
	chars  []byte // characters not decoded yet
	plain  []byte // decoded, not yet read
	buf    []byte
	padded bool
	err    error
	// loose says that there was something besides CRLF line endings and a Version
	// header, and checksum that there was one.
	loose, checksum bool
}

// newArmorReader reads the begin line and the header lines. r's buffer must be
// armorBuffer octets. kind is what must stand after "BEGIN PGP".
func newArmorReader(r *bufio.Reader, kind string) (*armorReader, error) {
	a := &armorReader{r: r, kind: kind}
	line, err := a.firstLine()
	if err != nil {
		return nil, err
	}
	if string(line) != armorBegin+kind+armorDash {
		return nil, errArmor
	}
	for left := maxArmorHeaders; ; {
		line, err := a.line()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			break
		}
		if left -= len(line); left < 0 || !isArmorHeader(line) {
			return nil, errArmor
		}
		a.loose = a.loose || !bytes.HasPrefix(line, []byte("Version: "))
	}
	a.chars = make([]byte, 0, 2*armorBuffer)
	a.buf = make([]byte, base64.StdEncoding.DecodedLen(2*armorBuffer))
	return a, nil
}

// firstLine skips empty lines.
func (a *armorReader) firstLine() ([]byte, error) {
	for skipped := 0; skipped < maxBlankLines; skipped++ {
		line, err := a.line()
		if err != nil || len(line) > 0 {
			return line, err
		}
		a.loose = true
	}
	return nil, errArmor
}

// isArmorHeader accepts the keys of RFC 9580 6.2.2 and of programs in use. Any
// other text is clear text beside the ciphertext, not an armor header.
func isArmorHeader(line []byte) bool {
	key, _, ok := strings.Cut(string(line), ":")
	if !ok {
		return false
	}
	switch strings.ToLower(key) {
	case "version", "comment", "messageid", "hash", "charset":
		return true
	}
	return false
}

// line returns the next line without white space at its end. The end of the
// input is errArmor: an armor block has an end line.
func (a *armorReader) line() ([]byte, error) {
	b, err := a.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull || err == io.EOF && len(b) == 0 {
		return nil, errArmor
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	line := bytes.TrimRight(b, " \t\r\n")
	if end := b[len(line):]; string(end) != "\r\n" && err == nil {
		a.loose = true
	}
	return line, nil
}

// Read implements io.Reader.
func (a *armorReader) Read(p []byte) (int, error) {
	for len(a.plain) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		a.err = a.fill()
	}
	n := copy(p, a.plain)
	a.plain = a.plain[n:]
	return n, nil
}

// fill collects lines and decodes them; io.EOF after the end line.
func (a *armorReader) fill() error {
	for len(a.chars) < armorBuffer {
		line, err := a.line()
		if err != nil {
			return err
		}
		if len(line) == 0 {
			a.loose = true
			continue
		}
		if line[0] == '=' && len(line) == 5 || line[0] == '-' {
			return a.finish(line)
		}
		if len(line) > armorBuffer {
			return errArmor
		}
		a.chars = append(a.chars, line...)
	}
	return a.decode(len(a.chars) &^ 3)
}

// decode decodes the first n characters.
func (a *armorReader) decode(n int) error {
	if n == 0 {
		return nil
	}
	if a.padded {
		return errArmor // data behind the padding
	}
	a.padded = a.chars[n-1] == '='
	m, err := base64.StdEncoding.Decode(a.buf, a.chars[:n])
	if err != nil {
		return errArmor
	}
	a.plain = a.buf[:m]
	a.chars = a.chars[:copy(a.chars, a.chars[n:])]
	return nil
}

// finish reads the checksum line, if line is one, the end line, and what follows.
func (a *armorReader) finish(line []byte) error {
	if line[0] == '=' {
		if !isBase64(line[1:]) {
			return errArmor
		}
		a.checksum = true
		var err error
		if line, err = a.firstLine(); err != nil {
			return err
		}
	}
	if string(line) != armorEnd+a.kind+armorDash {
		return errArmor
	}
	for {
		b, err := a.r.ReadSlice('\n')
		if len(bytes.TrimRight(b, " \t\r\n")) > 0 {
			return errArmor
		}
		if err == io.EOF {
			break
		}
		if err != nil && err != bufio.ErrBufferFull {
			return err
		}
	}
	if err := a.decode(len(a.chars)); err != nil {
		return err
	}
	return io.EOF
}

func isBase64(b []byte) bool {
	for _, c := range b {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '+' && c != '/' {
			return false
		}
	}
	return true
}

// cutArmor returns the octets of the first block of the given kind in data, and
// what follows it. Text around the block is skipped: people paste whole mails.
// ok is false if there is no such block.
func cutArmor(data []byte, kind string) (octets, rest []byte, ok bool, err error) {
	begin := []byte(armorBegin + kind + armorDash)
	at := bytes.Index(data, begin)
	if at < 0 {
		return nil, nil, false, nil
	}
	data = data[at+len(begin):]
	end := bytes.Index(data, []byte(armorEnd+kind+armorDash))
	if end < 0 {
		return nil, nil, true, errArmor
	}
	rest = data[end+len(armorEnd)+len(kind)+len(armorDash):]
	_, text, _ := bytes.Cut(data[:end], []byte("\n"))
	chars := make([]byte, 0, len(text))
	headers := true
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		switch {
		case headers && bytes.IndexByte(line, ':') > 0:
		case len(line) == 5 && line[0] == '=':
			// Nothing is decided by the checksum.
		default:
			headers = false
			chars = append(chars, line...)
		}
	}
	octets = make([]byte, base64.StdEncoding.DecodedLen(len(chars)))
	n, err := base64.StdEncoding.Decode(octets, chars)
	if err != nil {
		return nil, nil, true, errArmor
	}
	return octets[:n], rest, true, nil
}
