package imapd

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
)

// Limits on what a client sends.
const (
	// maxTag is the length of a tag, in octets. RFC 9051 sets none.
	maxTag = 128
	// maxCommand is the length of a command with its literals, but without the
	// message of an APPEND, in octets. The engine loses its place in a command of
	// more than 50 KiB.
	maxCommand = 48 << 10
	// maxInline is the size of a literal inside a command; LITERAL- sets it for
	// those that do not synchronize (RFC 7888 5), the engine for all.
	maxInline = 4096
	// maxSkip is how much of a refused line or literal is read and thrown away
	// before the connection is given up.
	maxSkip = 1 << 20
	// keptHead and keptTail are what is kept of a line that is too long.
	keptHead, keptTail = 2 * maxTag, 32
	// maxSASL is the length of one line of a SASL exchange; the engine's buffer
	// ends there.
	maxSASL = 4000
)

// Refusals of what cannot be framed. Their text goes to the client.
var (
	errLineTooLong    = errors.New("command is too long")
	errLineBare       = errors.New("NUL, or CR without LF, in a command")
	errQuote          = errors.New("quoted string does not end on its line")
	errLiteralHeader  = errors.New("bad literal")
	errLiteralLost    = errors.New("command is too long, and nobody knows where its literal ends")
	errLiteralTooLong = errors.New("literals are limited to 4096 octets here")
	errTag            = errors.New("bad tag or no command")
)

// command is one client command, complete but for the message of an APPEND. The
// pieces are handed to the engine one by one: a line, a literal, a line.
type command struct {
	tag, name string
	pieces    []piece
	size      int
	// message is the size of the literal that follows the last piece, or -1.
	message int64
	sync    bool // the client waits for a continuation request before it
	binary  bool // the message stands inside UTF8 (...), RFC 9755 4
}

// piece is a line with its CRLF, or the octets of a literal.
type piece struct {
	octets  []byte
	literal bool
}

// lineLiteral is the literal that a line announces at its end.
type lineLiteral struct {
	size    int64
	sync    bool
	at      int // where its header begins
	present bool
}

// readLine reads a line without its CRLF. A bare LF ends a line too, as many scripts
// send it. Of a line over limit octets the two ends are returned with errLineTooLong,
// enough to find its tag and its literal; one over maxSkip ends the connection.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	total := 0
	for {
		part, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			if err == io.EOF && total+len(part) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if total += len(part); total > maxSkip {
			return nil, io.ErrUnexpectedEOF
		}
		line = append(line, part...)
		if total > limit+2 {
			line = ends(line)
		}
		if err == nil {
			break
		}
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	if total > limit+2 {
		return line, errLineTooLong
	}
	return line, nil
}

// ends cuts the middle out of a line that is too long anyway.
func ends(line []byte) []byte {
	if len(line) > keptHead+keptTail {
		n := copy(line[keptHead:], line[len(line)-keptTail:])
		line = line[:keptHead+n]
	}
	return line
}

// checkLine makes sure that the engine will stop where the line stops: no octet in it
// may end a line, and every quoted string must be closed. It finds the literal that
// the line announces.
func checkLine(line []byte) (lineLiteral, error) {
	quoted := false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == 0 || c == '\r':
			return lineLiteral{}, errLineBare
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			if i++; i == len(line) || line[i] == 0 || line[i] == '\r' {
				return lineLiteral{}, errQuote
			}
		}
	}
	if quoted {
		return lineLiteral{}, errQuote
	}
	return announced(line)
}

// announced reads a literal's header at the end of a line whose quotes are closed.
func announced(line []byte) (lineLiteral, error) {
	n := len(line)
	if n == 0 || line[n-1] != '}' {
		return lineLiteral{}, nil
	}
	at := strings.LastIndexByte(string(line), '{')
	if at < 0 {
		return lineLiteral{}, nil
	}
	l := lineLiteral{sync: true, at: at, present: true}
	digits := string(line[at+1 : n-1])
	if cut, ok := strings.CutSuffix(digits, "+"); ok {
		digits, l.sync = cut, false
	}
	var ok bool
	if l.size, ok = parseNumber(digits); !ok {
		return lineLiteral{}, errLiteralHeader
	}
	return l, nil
}

// lostLiteral says whether a line of which readLine kept only the two ends announces a
// literal whose size is not known for sure: its header must lie in the part that was kept
// of the line's end, behind quotes that are closed.
func lostLiteral(line []byte, l lineLiteral) bool {
	n := len(line)
	return n > 0 && line[n-1] == '}' && (!l.present || l.at < keptHead && n >= keptHead)
}

// parseNumber reads a number64 of digits only.
func parseNumber(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// splitCommand reads tag and name from a command's first line. UID is part of the name.
func splitCommand(line []byte) (tag, name string, err error) {
	tag, rest, _ := strings.Cut(string(line), " ")
	if !atom(tag) || len(tag) > maxTag || strings.Contains(tag, "+") {
		return "", "", errTag
	}
	name, rest, _ = strings.Cut(rest, " ")
	name = strings.ToUpper(name)
	if name == "UID" {
		sub, _, _ := strings.Cut(rest, " ")
		name += " " + strings.ToUpper(sub)
	}
	if !atom(strings.TrimPrefix(name, "UID ")) || len(name) > maxTag {
		return tag, "", errTag
	}
	return tag, name, nil
}

// atom says whether s is one or more ATOM-CHAR of RFC 9051 9.
func atom(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// takesMessage says whether the literal at the end of an APPEND's line is the message.
// The only other one it can have is the mailbox name, right after the command's name.
func (c *command) takesMessage(line []byte, l lineLiteral) bool {
	if c.name != "APPEND" {
		return false
	}
	if len(c.pieces) > 0 {
		return true
	}
	return l.at != len(c.tag)+len(" APPEND ")
}

// add appends a line for the engine. A literal that is not the message has been taken
// by the guard already, and is announced as one that nobody waits for.
func (c *command) add(line []byte, l lineLiteral, message bool) {
	if l.present && !message {
		line = strconv.AppendInt(line[:l.at+1], l.size, 10)
		line = append(line, '+', '}')
	}
	line = append(line, '\r', '\n')
	c.pieces = append(c.pieces, piece{octets: line})
	c.size += len(line)
}
