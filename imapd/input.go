package imapd

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"
)

// skip throws away octets of a refused literal.
func (g *guard) skip(n int64) error {
	if n > maxSkip {
		return g.bye("Literal is too long")
	}
	if err := g.arm(g.limits.StallTime, n > int64(g.in.Buffered())); err != nil {
		return err
	}
	defer g.disarm()
	_, err := io.CopyN(io.Discard, g.in, n)
	return err
}

// skipTail throws away the rest of a refused command behind a literal. Where its end
// cannot be told, the connection ends.
func (g *guard) skipTail() error {
	for {
		line, err := g.line(maxCommand, false)
		if err != nil && err != errLineTooLong {
			return err
		}
		l, lineErr := checkLine(line)
		switch {
		case err == nil && lineErr != nil, err != nil && lostLiteral(line, l):
			return g.bye("Protocol error")
		case !l.present || l.sync:
			return nil
		}
		if err := g.skip(l.size); err != nil {
			return err
		}
	}
}

// line reads one line, without spaces at its end: the engine passes over one, too.
// first says that the line begins a command or ends IDLE, and so may take as long to
// begin as a client may be silent.
func (g *guard) line(limit int, first bool) ([]byte, error) {
	if first && g.in.Buffered() == 0 {
		if err := g.await(); err != nil {
			return nil, err
		}
	}
	there, _ := g.in.Peek(g.in.Buffered())
	if err := g.arm(g.limits.StallTime, bytes.IndexByte(there, '\n') < 0); err != nil {
		return nil, err
	}
	defer g.disarm()
	line, err := readLine(g.in, limit)
	return bytes.TrimRight(line, " "), err
}

// await waits for the first octet of a command.
func (g *guard) await() error {
	g.waiting.Store(true)
	defer g.waiting.Store(false)
	wait := g.limits.IdleTime
	if !g.authed.Load() {
		wait = time.Until(g.login)
	}
	if err := g.arm(wait, true); err != nil {
		return err
	}
	defer g.disarm()
	if g.wantsFarewell() {
		return io.EOF
	}
	_, err := g.in.Peek(1)
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if g.wantsFarewell() {
		return io.EOF
	}
	return g.bye("Idle for too long")
}

// full fills b, as a part of a command.
func (g *guard) full(b []byte) error {
	if err := g.arm(g.limits.StallTime, g.in.Buffered() < len(b)); err != nil {
		return err
	}
	defer g.disarm()
	_, err := io.ReadFull(g.in, b)
	return err
}

// some reads what there is of a message.
func (g *guard) some(b []byte) (int, error) {
	if err := g.arm(g.limits.StallTime, g.in.Buffered() == 0); err != nil {
		return 0, err
	}
	defer g.disarm()
	n, err := g.in.Read(b)
	if n > 0 {
		return n, nil
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return 0, err
}

// arm sets the deadline for reading. If reading is going to wait for the client, all
// answers are written out first; if the client has sent more ahead, it did not wait
// for them, and neither do we.
func (g *guard) arm(limit time.Duration, waits bool) error {
	end := time.Now().Add(limit)
	if !g.authed.Load() && end.After(g.login) {
		end = g.login
	}
	if waits {
		g.mu.Lock()
		g.out.flush()
		if g.waiting.Load() {
			g.out.rest()
		}
		g.out.through = true
		err := g.out.err
		g.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return g.conn.SetReadDeadline(end)
}

func (g *guard) disarm() {
	g.mu.Lock()
	g.out.through = false
	g.mu.Unlock()
}
