package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"postern/internal/mail"
	"postern/internal/telemetry"
)

// Why a read ended, other than by the network's own errors.
var (
	errTimeout  = errors.New("timeout")
	errShutdown = errors.New("server is shutting down")
)

var (
	errIdle     = mail.Refuse(421, "4.4.2", "timeout")
	errStopping = mail.Refuse(421, "4.3.2", "server is shutting down, try again later")
)

// ending says whether and how a connection is to be closed.
type ending uint8

const (
	endNot  ending = iota
	endNow         // the client expects it
	endRead        // reply, then read and throw away what is still coming, then close
)

// lingerTime is how long endRead reads. Closing with unread input resets the
// connection, and the client might never see the reply.
const lingerTime = 5 * time.Second

// connBuffers is the memory of an idle connection.
type connBuffers struct {
	in  [smallBuffer]byte
	out [1 << 10]byte
}

// conn is one connection. All of it belongs to one goroutine.
type conn struct {
	*serving
	raw  net.Conn // the socket
	nc   net.Conn // raw, or TLS on it
	in   input
	bufs *connBuffers
	out  []byte // replies not yet written
	werr error  // of a write; stays
	end  ending

	id       string
	ip       netip.Addr
	helo     string // empty: no HELO or EHLO yet
	extended bool   // it was EHLO
	tls      *mail.TLS
	secure   *tls.ConnectionState // of c.tls

	login    *login // nil: nobody has logged in
	failures int    // of logins

	tx       transaction
	messages int  // transactions begun
	rejected bool // the last MAIL was, so what was pipelined behind it is no mistake
	faults   int  // mistakes since the last accepted message
	idle     int  // commands that got nowhere since then
	refused  int  // recipients refused for good

	// While the content of a message is read:
	inData     bool
	dataStart  time.Time
	dataOctets int64
	pending    []byte // the command that ended a sequence of BDAT
}

// transaction is what the client is in the middle of; its zero value is nothing.
type transaction struct {
	mail.Transaction
	id       string
	utf8     bool
	accepted int // recipients
}

func newConn(v *serving, nc net.Conn, ip netip.Addr) *conn {
	c := &conn{serving: v, raw: nc, nc: nc, ip: ip, id: v.NewID(), bufs: v.small.Get().(*connBuffers)}
	c.in = input{read: c.read, small: c.bufs.in[:], buf: c.bufs.in[:], pool: &v.large}
	c.out = c.bufs.out[:0]
	return c
}

// event logs what happened, under the transaction's id if there is one.
func (c *conn) event(level slog.Level, what string, args ...any) {
	if !c.Log.Enabled(c.serving.ctx, level) {
		return
	}
	args = append(args, telemetry.KeyID, c.logID(), telemetry.KeyIP, c.ip.String())
	c.Log.Log(c.serving.ctx, level, what, args...)
}

// logID is the id under which the log tells of what happens now.
func (c *conn) logID() string {
	if c.tx.id != "" {
		return c.tx.id
	}
	return c.id
}

// serve runs the connection to its end.
func (c *conn) serve() {
	defer c.close()
	defer c.recover()
	c.event(slog.LevelDebug, "connection open")
	if c.implicit {
		if err := c.startTLS(); err != nil {
			c.event(slog.LevelInfo, "connection ended by server", telemetry.KeyReason, err)
			return
		}
	} else if waiting(c.raw) {
		c.event(slog.LevelWarn, "connection refused", telemetry.KeyReason, "early talker")
		c.refuse(errEarlyTalk)
		c.end = endRead
		return
	}
	c.greet()
	for c.end == endNot {
		line, err := c.in.line()
		if err != nil {
			c.broken(err)
			return
		}
		c.command(line)
		if c.pending != nil {
			line, c.pending = c.pending, nil
			c.command(line)
		}
	}
}

// broken ends a connection on which there is no next command.
func (c *conn) broken(err error) {
	var bad lineError
	switch {
	case errors.Is(err, errShutdown):
		c.refuse(errStopping)
	case errors.Is(err, errTimeout):
		c.refuse(errIdle)
	case errors.As(err, &bad):
		c.end = endRead
		c.fault(500, "5.5.2", err.Error())
	default:
		c.end = endNow
		c.event(slog.LevelDebug, "connection lost", telemetry.KeyError, err)
		return
	}
	c.event(slog.LevelInfo, "connection ended by server", telemetry.KeyReason, err)
}

// recover keeps one connection's bug from ending all the others. The value of a
// panic may hold a piece of a message, so only the runtime's own are logged.
func (c *conn) recover() {
	v := recover()
	if v == nil {
		return
	}
	what := fmt.Sprintf("%T", v)
	if e, ok := v.(runtime.Error); ok {
		what = e.Error()
	}
	c.event(slog.LevelError, "panic", telemetry.KeyError, what, "stack", string(debug.Stack()))
	c.reply(421, "4.3.0", "local error, try again later ("+c.logID()+")")
	c.end = endNow
	// The transaction may panic again; then it has to look after itself.
	defer func() { _ = recover() }()
	tx := c.tx
	c.tx = transaction{}
	if tx.Transaction != nil {
		tx.Abort()
	}
}

// close writes what is still to be said and gives everything back.
func (c *conn) close() {
	c.reset()
	c.flush()
	if c.end == endRead && c.werr == nil {
		c.linger()
	}
	c.nc.Close()
	c.in.free()
	c.small.Put(c.bufs)
	c.event(slog.LevelDebug, "connection closed", telemetry.KeyCount, c.messages)
}

// linger throws away what the client still sends, within limits.
func (c *conn) linger() {
	w, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil {
		return
	}
	c.raw.SetReadDeadline(time.Now().Add(lingerTime))
	if c.closing.Load() {
		return
	}
	for n := int64(0); n < c.MaxSize; {
		m, err := c.raw.Read(c.bufs.in[:])
		if err != nil {
			return
		}
		n += int64(m)
	}
}

// flush writes the replies.
func (c *conn) flush() error {
	if len(c.out) == 0 || c.werr != nil {
		return c.werr
	}
	c.nc.SetWriteDeadline(noDeadline(time.Now(), c.Limits.CommandTimeout))
	_, c.werr = c.nc.Write(c.out)
	c.out = c.out[:0]
	return c.werr
}

// read waits for input. Replies are written just before, so that all replies to
// a group of pipelined commands leave in one segment (RFC 2920 3.2).
func (c *conn) read(p []byte) (int, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	for {
		now := time.Now()
		deadline := noDeadline(now, c.Limits.CommandTimeout)
		if c.inData {
			deadline = c.Limits.dataDeadline(c.dataStart, now, c.dataOctets)
		}
		c.nc.SetReadDeadline(deadline)
		if c.stopping() {
			return 0, errShutdown
		}
		n, err := c.nc.Read(p)
		if n > 0 {
			c.dataOctets += int64(n)
			return n, nil
		}
		switch {
		case err == nil:
			continue
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		case c.stopping():
			return 0, errShutdown
		case c.inData && (deadline.IsZero() || time.Now().Before(deadline)):
			// Woken by the shutdown; a message may go on during the grace.
			continue
		}
		return 0, errTimeout
	}
}

// stopping reports whether a shutdown ends the connection now: at once between
// messages, after the grace inside one.
func (c *conn) stopping() bool {
	return c.closing.Load() && (!c.inData || c.cutting.Load())
}

// reset drops the transaction, if there is one (RFC 5321 4.1.1.5).
func (c *conn) reset() {
	if c.tx.Transaction != nil {
		c.tx.Abort()
	}
	c.tx = transaction{}
	c.rejected = false
}

// txContext is for calls into the transaction.
func (c *conn) txContext() context.Context { return c.serving.ctx }

// startTLS does the handshake (RFC 3207).
func (c *conn) startTLS() error {
	if err := c.flush(); err != nil {
		return err
	}
	t := tls.Server(c.raw, c.TLS)
	c.raw.SetDeadline(noDeadline(time.Now(), c.Limits.TLSTimeout))
	if c.closing.Load() {
		return errShutdown
	}
	if err := t.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.raw.SetDeadline(time.Time{})
	state := t.ConnectionState()
	c.nc, c.secure = t, &state
	c.tls = &mail.TLS{Version: tlsVersion(state.Version), Cipher: tls.CipherSuiteName(state.CipherSuite)}
	return nil
}

func tlsVersion(v uint16) string {
	switch v {
	case tls.VersionTLS12:
		return "TLS1.2"
	case tls.VersionTLS13:
		return "TLS1.3"
	}
	return tls.VersionName(v)
}
