package smtpd

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"postern/internal/mail"
)

// errAborted is what a transaction gets when the client gave up between chunks.
var errAborted = errors.New("client gave up the message")

// errChunkSyntax ends the connection: without a size, nobody knows where the
// chunk ends and the next command begins.
var errChunkSyntax = mail.Refuse(501, "5.5.4", "syntax: BDAT size [LAST]")

// errChunkSize ends the connection: a chunk that is never wanted would have to be read
// to its end before the next command.
var errChunkSize = mail.Refuse(552, "5.3.4", "chunk is far larger than the messages this server accepts")

// checkChunk says whether a chunk of which the argument of BDAT speaks can be read, if
// only to throw it away. Its error ends the connection.
func (c *conn) checkChunk(arg []byte) (size int64, last bool, e *mail.Error) {
	size, last, ok := parseChunk(arg)
	switch {
	case !ok:
		return 0, false, errChunkSyntax
	case size > 2*c.MaxSize:
		return 0, false, errChunkSize
	}
	return size, last, nil
}

// parseChunk reads the argument of BDAT (RFC 3030 2).
func parseChunk(arg []byte) (size int64, last, ok bool) {
	number, rest, more := strings.Cut(string(arg), " ")
	if more && !strings.EqualFold(strings.TrimLeft(rest, " "), "LAST") {
		return 0, false, false
	}
	size, ok = parseSize(number)
	return size, more, ok
}

// bdat does the first BDAT of a message; the following ones are read by the
// chunkReader. It also does those that come when they must not.
func (c *conn) bdat(arg []byte) {
	size, last, e := c.checkChunk(arg)
	if e != nil {
		c.end = endRead
		c.faultErr(e)
		return
	}
	if !c.receivable() {
		c.skipChunk(size)
		return
	}
	c.receive(&chunkReader{c: c, size: size, left: size, last: last})
}

// skipChunk reads a chunk that nobody wants. The reply is already given.
func (c *conn) skipChunk(size int64) {
	for size > 0 && c.end == endNot {
		n := min(int64(len(c.in.bytes())), size)
		c.in.skip(int(n))
		if size -= n; size == 0 {
			return
		}
		if err := c.in.more(); err != nil {
			c.broken(err)
		}
	}
}

// chunkReader is the content of a sequence of BDAT. When a chunk is used up it
// answers it and reads the next command itself, so that a transaction reads a
// message in chunks as it reads any other.
type chunkReader struct {
	c    *conn
	size int64 // of the chunk
	left int64 // of it, not yet consumed
	last bool
	gone bool // the message is refused
	scan scanner
	seen int // octets at the front of the input that were found clean
}

func (r *chunkReader) stretch() ([]byte, error) {
	in := &r.c.in
	for r.seen == 0 {
		if r.left == 0 {
			if r.last {
				return nil, r.atEnd()
			}
			if err := r.nextChunk(); err != nil {
				return nil, err
			}
			continue
		}
		if len(in.bytes()) == 0 {
			if err := in.more(); err != nil {
				return nil, unexpected(err)
			}
		}
		n := int(min(int64(len(in.bytes())), r.left))
		var what event
		if r.seen, what = r.scan.scan(in.bytes()[:n], false); what == evFault {
			return nil, r.scan.fault
		}
	}
	return in.bytes()[:r.seen], nil
}

func (r *chunkReader) consume(n int) {
	r.c.in.skip(n)
	r.seen -= n
	r.left -= int64(n)
}

// abandon makes the chunk the last one: it gets the refusal, and those that follow
// find no transaction (RFC 3030 2).
func (r *chunkReader) abandon() { r.last, r.gone = true, true }

func (r *chunkReader) atEnd() error {
	if r.scan.at == afterCR && !r.gone {
		return mail.ErrLineEnding
	}
	return io.EOF
}

// nextChunk answers the chunk before and reads commands until there is another.
// RSET and whatever else ends a transaction is left for the command loop.
func (r *chunkReader) nextChunk() error {
	c := r.c
	c.reply(250, "2.0.0", octets(r.size)+" octets received")
	for c.end == endNot {
		line, err := c.in.line()
		if err != nil {
			return r.noCommand(err)
		}
		verb, arg := splitVerb(line)
		switch string(verb) {
		case "BDAT":
			size, last, e := c.checkChunk(arg)
			if e != nil {
				return e
			}
			c.in.grow() // looking for the command may have given it back
			r.size, r.left, r.last = size, size, last
			return nil
		case "RSET", "QUIT", "EHLO", "HELO":
			c.pending = bytes.Clone(line)
			return errAborted
		}
		c.command(line)
	}
	return errAborted
}

// noCommand is for a connection that breaks between two chunks.
func (r *chunkReader) noCommand(err error) error {
	var bad lineError
	if !errors.As(err, &bad) {
		return unexpected(err)
	}
	r.c.broken(err)
	return errAborted
}
