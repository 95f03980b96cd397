package imapd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/telemetry"
)

// guard is a client's connection as the engine sees it. It stands above TLS and reads
// commands itself, so that the engine is handed one line or one literal at a time and
// can never take data for a command:
//
//   - a command reaches the engine only when all of it is there and well framed, but
//     for the message of an APPEND, which streams;
//   - what the engine has not read when it answers is thrown away;
//   - the last octet of an APPEND's message is held back until the command is known to
//     end behind it, so that nothing is stored that is not answered;
//   - if the engine ever asks for input that no command has left, the connection ends.
//
// The engine's deadlines are ignored; the guard's own count the time in which nothing
// moves, and the time until login.
type guard struct {
	conn   net.Conn
	in     *bufio.Reader
	ip     netip.Addr
	secure *tls.ConnectionState // nil in clear
	// startTLS hands the connection to the engine for TLS; nil where STARTTLS is
	// not offered.
	startTLS func(*guard) error
	limits   Limits
	metrics  *telemetry.Metrics
	onClose  func()
	login    time.Time   // when an unauthenticated connection ends
	authed   atomic.Bool // set by the session
	waiting  atomic.Bool // no command is in hand: the connection may be ended
	farewell atomic.Pointer[string]

	// The command in hand; used by the engine's reading goroutine alone.
	cmd   *command
	next  int    // piece of cmd that comes next
	ready []byte // what is left of a piece
	left  int64  // octets of the message of an APPEND still to come
	bad   int    // commands that were refused here

	mu     sync.Mutex
	out    coalescer
	resp   responses
	mute   bool // the greeting of the second engine, after STARTTLS
	over   bool // nothing is read or written any more
	closed bool
}

func newGuard(conn net.Conn, ip netip.Addr, limits Limits, metrics *telemetry.Metrics) *guard {
	g := &guard{
		conn: conn, in: bufio.NewReader(conn), ip: ip, limits: limits, metrics: metrics,
		login: time.Now().Add(limits.LoginTime),
		out:   coalescer{conn: conn, stall: limits.StallTime},
	}
	if t, ok := conn.(*tls.Conn); ok {
		cs := t.ConnectionState()
		g.secure = &cs
	}
	return g
}

// errHungUp is wrapped by the errors of a connection that has failed: nobody is left to
// be told, and it is no fault of the server's.
var errHungUp = errors.New("client is gone")

// Read hands the engine its next octets.
func (g *guard) Read(p []byte) (int, error) {
	for {
		if len(g.ready) > 0 {
			n := copy(p, g.ready)
			g.ready = g.ready[n:]
			return n, nil
		}
		if g.isOver() {
			return 0, io.EOF
		}
		n, err := g.more(p)
		if err != nil {
			g.end()
			if err != io.EOF {
				err = fmt.Errorf("%w: %w", errHungUp, err)
			}
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// more gets the next piece ready, or reads straight into p. The engine has consumed
// everything it was handed before.
func (g *guard) more(p []byte) (int, error) {
	if g.cmd == nil {
		return 0, g.nextCommand()
	}
	answered, continued := g.progress()
	switch {
	case answered:
		return 0, g.finish()
	case g.next < len(g.cmd.pieces):
		g.ready = g.cmd.pieces[g.next].octets
		g.next++
		return 0, nil
	case g.left > 0:
		return g.readMessage(p)
	case continued && (g.cmd.name == "AUTHENTICATE" || g.cmd.name == "IDLE"):
		return 0, g.readContinuation()
	}
	// The engine wants more than the client has said: it has lost its place.
	g.say(g.cmd.tag + " BAD Command cannot be understood\r\n")
	return 0, g.bye("Protocol error")
}

// progress says how far the engine has come with the command in hand.
func (g *guard) progress() (answered, continued bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.resp.answered, g.resp.tookContinuation()
}

// finish drops what the engine left of an answered command. A literal that does not
// synchronize is on its way whatever the answer was.
func (g *guard) finish() error {
	cmd, left := g.cmd, g.left
	g.cmd, g.left = nil, 0
	if left == 0 || cmd.sync {
		return nil
	}
	if err := g.skip(left); err != nil {
		return err
	}
	return g.skipTail()
}

// nextCommand brings one command into hand, or answers it here.
func (g *guard) nextCommand() error {
	if g.wantsFarewell() {
		return io.EOF
	}
	cmd, err := g.readCommand()
	if err != nil {
		return err
	}
	if cmd == nil {
		return g.tooManyBad()
	}
	g.metrics.IMAPCommand(strings.ToLower(strings.TrimPrefix(cmd.name, "UID ")))
	if g.answerHere(cmd) {
		return g.tooManyBad()
	}
	if g.authed.Load() {
		g.bad = 0 // a client may try one that we do not know now and then
	}
	g.mu.Lock()
	g.resp.begin(cmd.tag)
	g.mu.Unlock()
	g.cmd, g.next, g.left = cmd, 0, max(cmd.message, 0)
	if cmd.name == "STARTTLS" {
		return g.beginTLS()
	}
	return nil
}

// readCommand reads a command with its literals. One that is refused has been
// answered, and is nil.
func (g *guard) readCommand() (*command, error) {
	cmd := &command{message: -1}
	for {
		first := cmd.tag == ""
		line, err := g.line(max(maxCommand-cmd.size, 0), first)
		if err != nil && err != errLineTooLong {
			return nil, err
		}
		l, lineErr := checkLine(line)
		switch {
		case err == nil:
			err = lineErr
		case lostLiteral(line, l):
			err = errLiteralLost
		}
		if first {
			var nameErr error
			if cmd.tag, cmd.name, nameErr = splitCommand(line); err == nil {
				err = nameErr
			}
		}
		if err != nil {
			return nil, g.refuse(cmd, l, err)
		}
		message := l.present && cmd.takesMessage(line, l)
		if !message && l.size > maxInline || !l.sync && l.size > maxInline {
			return nil, g.refuse(cmd, l, errLiteralTooLong)
		}
		cmd.add(line, l, message)
		switch {
		case message:
			cmd.message, cmd.sync = l.size, l.sync
			cmd.binary = l.at > 1 && line[l.at-1] == '~' && line[l.at-2] == '('
			return cmd, nil
		case !l.present:
			return cmd, nil
		}
		if err := g.inline(cmd, l); err != nil {
			return nil, g.refuse(cmd, l, err)
		}
	}
}

// inline reads a literal that belongs to the command itself.
func (g *guard) inline(cmd *command, l lineLiteral) error {
	if cmd.size += int(l.size); cmd.size > maxCommand {
		return errLineTooLong
	}
	if l.sync {
		g.say("+ Ready for literal data\r\n")
	}
	if l.size == 0 {
		return nil
	}
	b := make([]byte, l.size)
	if err := g.full(b); err != nil {
		return err
	}
	cmd.pieces = append(cmd.pieces, piece{octets: b, literal: true})
	return nil
}

// refuse answers a command that was not handed on, and finds the place where the next
// one begins; where that is in doubt, the connection ends. Errors of the connection
// itself are returned.
func (g *guard) refuse(cmd *command, l lineLiteral, err error) error {
	code := ""
	switch err {
	case errTag, errLineBare, errQuote, errLiteralHeader:
	case errLineTooLong, errLiteralTooLong, errLiteralLost:
		code = "[TOOBIG] "
	default:
		return err
	}
	tag := cmd.tag
	if !atom(tag) {
		tag = "*"
	}
	g.say(tag + " BAD " + code + err.Error() + "\r\n")
	g.bad++
	switch {
	case err == errLineBare || err == errQuote || err == errLiteralHeader || err == errLiteralLost:
		return g.bye("Protocol error")
	case l.present && !l.sync:
		if err := g.skip(l.size); err != nil {
			return err
		}
		return g.skipTail()
	}
	return nil
}

// tooManyBad ends a connection that sends one thing after the other that is none.
func (g *guard) tooManyBad() error {
	limit := 3
	if g.authed.Load() {
		limit = 50
	}
	if g.bad > limit {
		return g.bye("Too many bad commands")
	}
	return nil
}

// readMessage streams the message of an APPEND.
func (g *guard) readMessage(p []byte) (int, error) {
	if g.left > 1 {
		n, err := g.some(p[:min(int64(len(p)), g.left-1)])
		g.left -= int64(n)
		return n, err
	}
	// The last octet goes to the engine only if the command ends behind it: the
	// engine stores first and looks for the end of the line later.
	var last [1]byte
	if err := g.full(last[:]); err != nil {
		return 0, err
	}
	tail, err := g.line(maxInline, false)
	want := ""
	if g.cmd.binary {
		want = ")"
	}
	if err == nil && string(tail) != want {
		err = errAfterMessage
	}
	if err == errAfterMessage || err == errLineTooLong {
		g.say(g.cmd.tag + " BAD " + errAfterMessage.Error() + "\r\n")
		return 0, g.bye("Protocol error")
	}
	if err != nil {
		return 0, err
	}
	g.left = 0
	g.ready = append([]byte{last[0]}, want...)
	g.ready = append(g.ready, '\r', '\n')
	// The engine's literal ends after one octet; the rest of ready is the line's end.
	n := copy(p[:1], g.ready)
	g.ready = g.ready[n:]
	return n, nil
}

// errAfterMessage refuses what MULTIAPPEND would send (RFC 3502); it is not offered.
var errAfterMessage = errors.New("one message for each APPEND, and nothing behind it")

// readContinuation hands on one line of a SASL exchange, or the end of IDLE.
func (g *guard) readContinuation() error {
	idle := g.cmd.name == "IDLE"
	line, err := g.line(maxSASL, idle)
	switch {
	case err != nil && err != errLineTooLong:
		return err
	case idle && err == nil && isDone(line):
		line = []byte("DONE")
	case idle:
		line = []byte("?")
	case err != nil:
		line = []byte("*") // the engine takes it for the client's own cancellation
	}
	g.ready = append(line, '\r', '\n')
	return nil
}

func isDone(line []byte) bool {
	const done = "DONE"
	if len(line) != len(done) {
		return false
	}
	for i := range line {
		if line[i]&^0x20 != done[i] {
			return false
		}
	}
	return true
}

// beginTLS answers STARTTLS and gives the connection to the other engine. What the
// client sent ahead in clear ends the connection: it could be somebody else's
// (RFC 9051 11.1).
func (g *guard) beginTLS() error {
	tag := g.cmd.tag
	g.cmd = nil
	if g.startTLS == nil || g.authed.Load() {
		g.bad++
		g.say(tag + " BAD STARTTLS is not available\r\n")
		return nil
	}
	if g.in.Buffered() > 0 {
		g.say(tag + " BAD Nothing may follow STARTTLS before TLS\r\n")
		return g.bye("Protocol error")
	}
	g.say(tag + " OK Begin TLS negotiation now\r\n")
	g.mu.Lock()
	g.out.flush()
	err := g.out.err
	g.mu.Unlock()
	if err != nil {
		return err
	}
	if err := g.startTLS(g); err != nil {
		return err
	}
	g.detach()
	return io.EOF
}

// detach lets go of the connection without closing it: somebody else has it now.
func (g *guard) detach() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over, g.closed = true, true
}

// handshake makes conn speak TLS, or fails within the limit.
func handshake(ctx context.Context, conn net.Conn, config *tls.Config, limit time.Duration) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	t := tls.Server(conn, config)
	return t, t.HandshakeContext(ctx)
}
