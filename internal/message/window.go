package message

import "io"

// windowSize is how much of a message a scan holds in memory, in octets.
const windowSize = 64 << 10

// window moves over a message once, from the front to the end. It counts lines
// and remembers the last two octets that left it.
type window struct {
	r     io.ReaderAt // nil: all of the message is in buf
	buf   []byte
	pos   int   // next octet in buf
	off   int64 // of buf[pos] in the message
	next  int64 // offset of the octet behind buf
	size  int64
	lines int64   // LFs before off
	last  [2]byte // the octets before off
}

func newWindow(r io.ReaderAt, size int64) *window {
	return &window{r: r, size: size, buf: make([]byte, 0, min(size, windowSize))}
}

// atEnd reports whether buf reaches to the end of the message.
func (w *window) atEnd() bool { return w.next >= w.size }

// peek returns what is in the window: at least n octets unless the message ends.
// n must be at most windowSize.
func (w *window) peek(n int) ([]byte, error) {
	if len(w.buf)-w.pos >= n || w.atEnd() {
		return w.buf[w.pos:], nil
	}
	rest := copy(w.buf[:cap(w.buf)], w.buf[w.pos:])
	w.pos = 0
	w.buf = w.buf[:rest]
	for len(w.buf) < cap(w.buf) && !w.atEnd() {
		space := min(int64(cap(w.buf)-len(w.buf)), w.size-w.next)
		n, err := w.r.ReadAt(w.buf[len(w.buf):len(w.buf)+int(space)], w.next)
		w.buf = w.buf[:len(w.buf)+n]
		w.next += int64(n)
		if err != nil && int64(n) < space {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return w.buf, nil
}

// advance consumes n octets, of which lines are LFs.
func (w *window) advance(n, lines int) {
	gone := w.buf[w.pos : w.pos+n]
	switch {
	case n >= 2:
		w.last = [2]byte{gone[n-2], gone[n-1]}
	case n == 1:
		w.last = [2]byte{w.last[1], gone[0]}
	}
	w.pos += n
	w.off += int64(n)
	w.lines += int64(lines)
}

// ending returns the length of the line ending before off.
func (w *window) ending() int64 {
	switch {
	case w.last == [2]byte{'\r', '\n'}:
		return 2
	case w.last[1] == '\n':
		return 1
	}
	return 0
}
