package message

import "bytes"

// HeaderEnd finds the end of a header section in octets that stream by, without
// keeping any of them. The zero value is ready for the first octet of a message.
// It agrees with ParseHeader about what a blank line is.
type HeaderEnd struct {
	inLine bool  // something other than CR stands on this line
	n      int64 // octets seen
	found  bool
}

// Feed takes the next octets. If the header section ends within them it returns
// the number of octets of chunk that belong to it, blank line included, and true;
// the rest of chunk is body. Once found, Feed returns 0 and true.
func (e *HeaderEnd) Feed(chunk []byte) (n int, found bool) {
	if e.found {
		return 0, true
	}
	for n < len(chunk) {
		if e.inLine {
			lf := bytes.IndexByte(chunk[n:], '\n')
			if lf < 0 {
				break
			}
			n += lf + 1
			e.inLine = false
			continue
		}
		switch chunk[n] {
		case '\r':
		case '\n':
			n++
			e.n += int64(n)
			e.found = true
			return n, true
		default:
			e.inLine = true
		}
		n++
	}
	e.n += int64(len(chunk))
	return len(chunk), false
}

// Len returns the number of octets that belong to the header section so far, or
// altogether once it has been found.
func (e *HeaderEnd) Len() int64 { return e.n }

// Found reports whether the blank line has been seen.
func (e *HeaderEnd) Found() bool { return e.found }
