package imapd

import "bytes"

// maxHead and maxTail are how much of a response line has to be kept when it comes in
// pieces: the tag in front, and a literal's size at the end.
const (
	maxHead = maxTag + 8
	maxTail = 32
)

// responses follows what the engine writes, just far enough to know when a command is
// answered and when the client is asked to go on. Literals are stepped over, so that
// no message can look like an answer.
type responses struct {
	tag       string // of the command in hand
	answered  bool   // its tagged response has begun
	continued bool   // a continuation request was written since last asked

	literal int64 // octets of a literal still to come
	inside  bool  // the line goes on after a literal: it does not begin a response
	head    []byte
	tail    []byte
}

// begin starts to look for the answer to a new command.
func (r *responses) begin(tag string) {
	r.tag, r.answered, r.continued = tag, false, false
}

// tookContinuation says whether a continuation request was written, once.
func (r *responses) tookContinuation() bool {
	was := r.continued
	r.continued = false
	return was
}

// atStart says that whole responses were written so far.
func (r *responses) atStart() bool { return r.literal == 0 && !r.inside && len(r.head) == 0 }

func (r *responses) scan(b []byte) {
	for len(b) > 0 {
		if r.literal > 0 {
			n := min(r.literal, int64(len(b)))
			r.literal -= n
			b = b[n:]
			continue
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			r.keep(b)
			return
		}
		line := b[:i+1]
		b = b[i+1:]
		if len(r.head) == 0 {
			r.line(line, line)
			continue
		}
		r.keep(line)
		r.line(r.head, r.tail)
		r.head, r.tail = r.head[:0], r.tail[:0]
	}
}

// keep remembers the ends of a line that is not complete.
func (r *responses) keep(b []byte) {
	if room := maxHead - len(r.head); room > 0 {
		r.head = append(r.head, b[:min(room, len(b))]...)
	}
	if len(b) >= maxTail {
		r.tail = append(r.tail[:0], b[len(b)-maxTail:]...)
		return
	}
	r.tail = append(r.tail, b...)
	if over := len(r.tail) - maxTail; over > 0 {
		r.tail = append(r.tail[:0], r.tail[over:]...)
	}
}

// line looks at one line, given by its beginning and its end.
func (r *responses) line(head, tail []byte) {
	if !r.inside {
		switch {
		case head[0] == '+':
			r.continued = true
		case r.tag != "" && len(head) > len(r.tag) && head[len(r.tag)] == ' ' && string(head[:len(r.tag)]) == r.tag:
			r.answered = true
		}
	}
	r.literal = trailingLiteral(tail)
	r.inside = r.literal >= 0
	r.literal = max(r.literal, 0)
}

// trailingLiteral returns the size of the literal that a response line announces at
// its end, or -1.
func trailingLiteral(line []byte) int64 {
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) < 3 || line[len(line)-1] != '}' {
		return -1
	}
	i := bytes.LastIndexByte(line, '{')
	if i < 0 {
		return -1
	}
	size, ok := parseNumber(string(line[i+1 : len(line)-1]))
	if !ok {
		return -1
	}
	return size
}
