package imapd

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"time"
)

// Write takes the engine's answers.
func (g *guard) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.over:
		return len(b), nil // answers behind a BYE
	case g.mute:
		g.mute = false
		return len(b), nil
	}
	if fixed, ok := g.parseError(b); ok {
		g.resp.answered = true
		_, err := g.out.write(fixed)
		return len(b), err
	}
	g.resp.scan(b)
	n, err := g.out.write(b)
	if err != nil {
		err = fmt.Errorf("%w: %w", errHungUp, err)
	}
	return n, err
}

// parseError turns the engine's NO [SERVERBUG] into BAD. Our session never causes it,
// for all its errors are status responses (error.go): what is left are dates, numbers
// and base64 that the engine could not read.
func (g *guard) parseError(b []byte) ([]byte, bool) {
	tag := g.resp.tag
	if tag == "" || !g.resp.atStart() || !bytes.HasPrefix(b, []byte(tag)) {
		return nil, false
	}
	if string(b[len(tag):]) != " NO [SERVERBUG] Internal server error\r\n" {
		return nil, false
	}
	return []byte(tag + " BAD Cannot understand the arguments\r\n"), true
}

// say writes a response of the guard's own. It is called where no response of the
// engine is under way.
func (g *guard) say(line string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		_, _ = g.out.write([]byte(line)) // the error stays in out
	}
}

// bye says farewell and ends the connection. It returns io.EOF for the engine.
func (g *guard) bye(text string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.endWith(text)
	return io.EOF
}

func (g *guard) endWith(text string) {
	if g.over {
		return
	}
	if g.resp.atStart() {
		_, _ = g.out.write([]byte("* BYE " + text + "\r\n"))
	}
	g.out.flush()
	g.over = true
}

// dismiss ends the connection with a BYE as soon as no command is in hand. It may be
// called by anybody and does not wait, not even for a client that does not read.
func (g *guard) dismiss(text string) {
	g.farewell.CompareAndSwap(nil, &text)
	if g.waiting.Load() {
		_ = g.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader
	}
}

// wantsFarewell says the BYE that dismiss asked for, if it did.
func (g *guard) wantsFarewell() bool {
	text := g.farewell.Load()
	g.mu.Lock()
	defer g.mu.Unlock()
	if text != nil {
		g.endWith(*text)
	}
	return g.over
}

func (g *guard) isOver() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.over
}

// end makes sure that nothing is read after an error: what comes next could be the
// rest of a message.
func (g *guard) end() {
	g.mu.Lock()
	g.over = true
	g.mu.Unlock()
}

// cork gathers answers although the client is waited for, until uncork.
func (g *guard) cork() {
	g.mu.Lock()
	g.out.corks++
	g.mu.Unlock()
}

func (g *guard) uncork() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.out.corks--; g.out.corks == 0 && g.out.through && !g.over {
		g.out.flush()
	}
}

// abandon ends the connection at once, as in the middle of a response that cannot be
// completed. It does not wait for a write that is stuck.
func (g *guard) abandon() { _ = g.conn.Close() }

// Close writes out what is left and closes the connection.
func (g *guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.over, g.closed = true, true
	g.out.stall = min(g.out.stall, 5*time.Second)
	g.out.flush()
	err := g.conn.Close()
	if g.onClose != nil {
		g.onClose()
	}
	return err
}

// The rest of net.Conn. Deadlines are the guard's own business.

// LocalAddr implements net.Conn.
func (g *guard) LocalAddr() net.Addr { return g.conn.LocalAddr() }

// RemoteAddr implements net.Conn.
func (g *guard) RemoteAddr() net.Addr { return g.conn.RemoteAddr() }

// SetDeadline does nothing.
func (g *guard) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (g *guard) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (g *guard) SetWriteDeadline(time.Time) error { return nil }
