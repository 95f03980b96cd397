package smtpd

import (
	"errors"
	"io"
	"log/slog"
	"time"

	"postern/internal/mail"
	"postern/internal/telemetry"
)

// errUnread is what is made of a transaction that reports success without having
// read the message to its end.
var errUnread = errors.New("transaction did not read the message to its end")

// data does DATA (RFC 5321 4.1.1.4).
func (c *conn) data(arg []byte) {
	switch {
	case !c.bare(arg):
		return
	case c.inData:
		c.fault(503, "5.5.1", "the message has begun by BDAT") // RFC 3030 2
		return
	case !c.receivable():
		return
	}
	c.reply(354, "", "end with <CRLF>.<CRLF>")
	c.receive(&dotReader{in: &c.in})
}

// receivable answers DATA or BDAT that comes before there is somebody to get it.
func (c *conn) receivable() bool {
	if !c.ordered(c.tx.Transaction != nil, "MAIL") {
		return false
	}
	if c.tx.accepted == 0 {
		c.refuse(mail.ErrNoRecipients)
	}
	return c.tx.accepted > 0
}

// receive takes the content of a message to the transaction and gives the final
// reply, or ends the connection where there is nothing safe to go on with.
func (c *conn) receive(src stretcher) {
	c.inData, c.dataStart, c.dataOctets = true, time.Now(), 0
	c.in.grow()
	b := &body{src: src, limit: c.MaxSize}
	receipt, err := c.tx.Data(c.txContext(), b)
	code := c.conclude(b, receipt, err)
	b.err = errOver
	c.inData = false
	c.Metrics.SMTPMessage(result(code))
	c.tx.Transaction.Abort() // does nothing after Data
	c.tx = transaction{}
}

// conclude replies to a message. txErr is what the transaction said of it. It
// returns the reply code, 0 if none was given.
func (c *conn) conclude(b *body, receipt mail.Receipt, txErr error) int {
	read := b.err // what became of the content as far as it was wanted
	if txErr == nil && read != io.EOF {
		txErr = errUnread
	}
	rest := b.drain()
	if txErr == nil {
		args := []any{telemetry.KeySize, b.n, telemetry.KeyCount, c.tx.accepted, telemetry.KeyDuration, time.Since(c.dataStart)}
		if c.login != nil {
			args = append(args, telemetry.KeyAccount, c.login.account.String())
		}
		c.event(slog.LevelInfo, "message accepted", args...)
		c.faults, c.idle = 0, 0
		c.reply(250, "2.0.0", c.accepted(receipt))
		return 250
	}
	if rest == nil || rest == errAborted {
		// The end was found, so the refusal is all there is to say. A size
		// over the limit is ours to report, whatever the transaction made of it.
		if read == mail.ErrTooBig {
			txErr = read
		}
		if rest == errAborted {
			return 0
		}
		return c.refuse(txErr)
	}
	return c.cut(rest, read, txErr)
}

// cut ends a connection in the middle of a message: its input is content, and is
// never looked at as commands.
func (c *conn) cut(rest, read, txErr error) int {
	var fault *mail.Error
	c.event(slog.LevelInfo, "message cut", telemetry.KeyReason, rest)
	switch {
	case errors.Is(rest, errTimeout):
		return c.refuse(errIdle)
	case errors.Is(rest, errShutdown):
		return c.refuse(errStopping)
	case !errors.As(rest, &fault):
		c.end = endNow
		return 0
	}
	c.end = endRead
	if read == nil { // refused before the fault was met
		return c.refuse(txErr)
	}
	return c.refuse(fault)
}

// result is what the metrics call a reply code to a message.
func result(code int) string {
	switch {
	case code == 0:
		return telemetry.Aborted
	case code < 400:
		return telemetry.Accepted
	case code < 500:
		return telemetry.Deferred
	}
	return telemetry.Refused
}
