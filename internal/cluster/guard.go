package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// Bounds of one reply. The largest that are honest: a value (MaxValue), and what a
// Redis Cluster says of its commands and slots.
const (
	maxReply    = 4 << 20  // octets
	maxBulk     = 1 << 20  // octets of one string
	maxElements = 1 << 17  // of all arrays together
	maxLine     = 64 << 10 // octets
	maxDepth    = 16       // arrays in arrays
)

var errReply = errors.New("not a reply of Redis")

// guard is a connection on which only replies within bounds arrive. The client
// allocates what a reply announces and descends as deep as it nests before it knows
// that there is nothing behind it, so that a few octets of rubbish could take all the
// memory or the stack.
type guard struct {
	net.Conn
	replies replies
	closed  func() // told of Close; may be nil
}

// guarded wraps a connection. What wraps one of TCP lets the client look whether it
// was closed at the other end.
func guarded(conn net.Conn, closed func()) net.Conn {
	g := &guard{Conn: conn, closed: closed}
	if raw, ok := conn.(syscall.Conn); ok {
		return struct {
			*guard
			syscall.Conn
		}{g, raw}
	}
	return g
}

// Read implements net.Conn.
func (g *guard) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if bad := g.replies.scan(p[:n]); bad != nil {
		_ = g.Close() // it is of no more use, whatever closing says
		return 0, bad
	}
	return n, err
}

// Close implements net.Conn.
func (g *guard) Close() error {
	if g.closed != nil {
		g.closed()
	}
	return g.Conn.Close()
}

// replies follows a stream of RESP2 replies, in whatever pieces it comes.
type replies struct {
	skip     int      // octets of a string still to come, with its CRLF
	line     [32]byte // the beginning of a line that is not complete
	length   int      // of that line so far
	left     [maxDepth]int
	depth    int // arrays that are open; left says how many elements each still has
	elements int // of this reply so far
	size     int // of this reply so far
}

func (r *replies) scan(b []byte) error {
	for len(b) > 0 {
		if r.size > maxReply {
			return fmt.Errorf("%w: over %d octets", errReply, maxReply)
		}
		if r.skip > 0 {
			n := min(r.skip, len(b))
			r.skip -= n
			r.size += n
			b = b[n:]
			if r.skip == 0 {
				r.ended()
			}
			continue
		}
		part := b
		end := bytes.IndexByte(b, '\n')
		if end >= 0 {
			part = b[:end+1]
		}
		if r.length < len(r.line) {
			copy(r.line[r.length:], part)
		}
		r.length += len(part)
		r.size += len(part)
		b = b[len(part):]
		if r.length > maxLine {
			return fmt.Errorf("%w: a line over %d octets", errReply, maxLine)
		}
		if end < 0 {
			return nil
		}
		if err := r.header(); err != nil {
			return err
		}
		r.length = 0
	}
	return nil
}

// header takes in a complete line.
func (r *replies) header() error {
	switch r.line[0] {
	case '+', '-', ':':
		r.ended()
		return nil
	case '$':
		n, err := r.number()
		if err != nil || n < -1 || n > maxBulk {
			return fmt.Errorf("%w: the length of a string", errReply)
		}
		if n < 0 { // nil
			r.ended()
			return nil
		}
		r.skip = n + len("\r\n")
		return nil
	case '*':
		n, err := r.number()
		if err != nil || n < -1 || n > maxElements-r.elements {
			return fmt.Errorf("%w: the length of an array", errReply)
		}
		if n <= 0 {
			r.ended()
			return nil
		}
		if r.depth == maxDepth {
			return fmt.Errorf("%w: arrays %d deep", errReply, maxDepth)
		}
		r.elements += n
		r.left[r.depth] = n
		r.depth++
		return nil
	}
	// RESP3 has more, which was not asked for.
	return fmt.Errorf("%w: it begins with %q", errReply, r.line[0])
}

// number reads the line's, which has to end in CRLF.
func (r *replies) number() (int, error) {
	if r.length > len(r.line) {
		return 0, errReply
	}
	digits, ok := bytes.CutSuffix(r.line[1:r.length], []byte("\r\n"))
	if !ok {
		return 0, errReply
	}
	return strconv.Atoi(string(digits))
}

// ended counts a complete element, and what it completes.
func (r *replies) ended() {
	for r.depth > 0 {
		r.left[r.depth-1]--
		if r.left[r.depth-1] > 0 {
			return
		}
		r.depth--
	}
	r.elements, r.size = 0, 0
}
