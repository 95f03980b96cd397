package deliver

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
)

// Bounds of a reply. RFC 5321 4.5.3.1.5 allows 512 octets for a line.
const (
	maxReplyLine  = 2048
	maxReplyLines = 128
	maxReply      = 32 << 10
	maxText       = 400 // octets of a reply's text that are kept
)

// errReply is something that is no reply: nobody can say what the peer means.
var errReply = errors.New("not an SMTP reply")

// reply is an SMTP reply (RFC 5321 4.2).
type reply struct {
	code     int
	enhanced string   // RFC 3463; always there for 4xx and 5xx
	lines    []string // without codes
}

// readReply reads a reply from br, whose buffer is the longest line. It reads at most
// maxReply octets; the error wraps errReply if they are no reply.
func readReply(br *bufio.Reader) (reply, error) {
	var r reply
	total := 0
	for len(r.lines) < maxReplyLines {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return reply{}, fmt.Errorf("%w: line over %d octets", errReply, maxReplyLine)
		}
		if err != nil {
			return reply{}, err
		}
		if total += len(line); total > maxReply {
			break
		}
		text := strings.TrimRight(string(line), "\r\n")
		code, more, ok := replyCode(text)
		if !ok || r.code != 0 && code != r.code {
			return reply{}, fmt.Errorf("%w: bad code", errReply)
		}
		r.code = code
		r.lines = append(r.lines, text[min(len(text), 4):])
		if !more {
			r.takeEnhanced()
			return r, nil
		}
	}
	return reply{}, fmt.Errorf("%w: over %d lines or %d octets", errReply, maxReplyLines, maxReply)
}

// replyCode reads the three digits in front of a line, and whether more lines follow.
func replyCode(line string) (code int, more, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' || line[1] > '9' || line[2] < '0' || line[2] > '9' {
		return 0, false, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	switch {
	case len(line) == 3 || line[3] == ' ':
		return code, false, true
	case line[3] == '-':
		return code, true, true
	}
	return 0, false, false
}

// takeEnhanced takes the enhanced status code (RFC 2034) off the lines. One that
// contradicts the reply's code is none.
func (r *reply) takeEnhanced() {
	for i, line := range r.lines {
		code, rest, _ := strings.Cut(line, " ")
		if isEnhanced(code) {
			r.lines[i] = rest
			if code[0] == byte('0'+r.code/100) {
				r.enhanced = code
			}
		}
	}
	if r.enhanced == "" && r.code >= 400 {
		r.enhanced = string(rune('0'+r.code/100)) + ".0.0"
	}
}

// isEnhanced reports whether s is class "." subject "." detail (RFC 3463 2).
func isEnhanced(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || parts[0] != "2" && parts[0] != "4" && parts[0] != "5" {
		return false
	}
	for _, p := range parts[1:] {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return true
}

// good says that the peer did what it was asked.
func (r reply) good() bool { return r.code/100 == 2 }

// text is one line for a Result.
func (r reply) text() string { return clean(strings.Join(r.lines, " ")) }

// result is what a reply that is not good means for a recipient. What is neither 4xx
// nor 5xx where it cannot be is a peer that is confused, which may pass.
func (r reply) result() Result {
	result := Result{Status: Retry, Code: r.code, Enhanced: r.enhanced, Text: r.text(), said: true}
	switch r.code / 100 {
	case 5:
		result.Status = Failed
	case 4:
	default:
		result.Code, result.Enhanced = 451, "4.5.0"
		result.Text = clean(fmt.Sprintf("unexpected reply %d %s", r.code, result.Text))
	}
	return result
}

// clean makes one line of printable ASCII of what a peer said.
func clean(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if b.Len() == maxText {
			break
		}
		switch {
		case c == '\t' || c == '\r' || c == '\n':
			c = ' '
		case c < ' ' || c > '~':
			c = '?'
		}
		b.WriteByte(c)
	}
	return strings.TrimSpace(b.String())
}
