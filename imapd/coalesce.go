package imapd

import (
	"net"
	"time"
)

// maxGather is how many octets of answers wait before they are written: two TLS
// records of the largest size.
const maxGather = 32 << 10

// keepGather is the buffer that a connection keeps while it waits for its client:
// none that a long answer has blown up.
const keepGather = 2 << 10

// coalescer gathers the engine's answers, which come one write for each line, into
// few writes. It is not safe for concurrent use; the guard's mutex covers it.
type coalescer struct {
	conn  net.Conn
	stall time.Duration // longest time for one write of at most maxGather octets
	buf   []byte
	// through is set while somebody waits for the client's input: nothing would
	// flush the buffer later, so nothing may stay in it.
	through bool
	// corks counts reasons to gather even then.
	corks int
	err   error
}

func (c *coalescer) write(b []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n := len(b)
	if len(c.buf)+len(b) > maxGather {
		c.flush()
		for len(b) > maxGather && c.err == nil {
			c.send(b[:maxGather])
			b = b[maxGather:]
		}
	}
	c.buf = append(c.buf, b...)
	if c.through && c.corks == 0 {
		c.flush()
	}
	if c.err != nil {
		return 0, c.err
	}
	return n, nil
}

func (c *coalescer) flush() {
	if len(c.buf) > 0 && c.err == nil {
		c.send(c.buf)
	}
	c.buf = c.buf[:0]
}

// rest drops a buffer that is larger than a waiting connection needs.
func (c *coalescer) rest() {
	if cap(c.buf) > keepGather && len(c.buf) == 0 {
		c.buf = nil
	}
}

// send writes with a deadline of its own, so that a large message may take as long as
// it takes while octets flow.
func (c *coalescer) send(b []byte) {
	if c.err = c.conn.SetWriteDeadline(time.Now().Add(c.stall)); c.err == nil {
		_, c.err = c.conn.Write(b)
	}
}
