package smtpd

import (
	"errors"
	"log/slog"
	"strconv"

	"postern/internal/mail"
	"postern/internal/telemetry"
)

// maxReplyText keeps a reply line within 512 octets (RFC 5321 4.5.3.1.5).
const maxReplyText = 480

// flushAt is when replies are written although more commands are at hand.
const flushAt = 16 << 10

// reply adds a reply of one line.
func (c *conn) reply(code int, enhanced, text string) {
	c.out = appendReply(c.out, code, ' ', enhanced, text)
	if len(c.out) > flushAt {
		c.flush()
	}
}

// replyLines adds a reply of several lines. The enhanced status code, where there
// is one, stands on each (RFC 2034 4).
func (c *conn) replyLines(code int, enhanced string, lines ...string) {
	for i, line := range lines {
		sep := byte('-')
		if i == len(lines)-1 {
			sep = ' '
		}
		c.out = appendReply(c.out, code, sep, enhanced, line)
	}
}

// fault answers a mistake in the protocol, and ends the connection after too many.
func (c *conn) fault(code int, enhanced, text string) {
	c.Metrics.SMTPRejection(telemetry.ReasonSyntax)
	c.reply(code, enhanced, text)
	if c.faults++; over(c.faults, c.Limits.Errors) {
		c.tooMany("errors")
	}
}

// faultErr is fault for an error of the parser.
func (c *conn) faultErr(e *mail.Error) { c.fault(e.Code, e.Enhanced, e.Text) }

func (c *conn) tooMany(what string) {
	if c.end != endNot {
		return
	}
	c.reply(421, "4.7.0", "too many "+what+", closing")
	c.event(slog.LevelWarn, "connection ended by server", telemetry.KeyReason, "too many "+what)
	c.end = endRead
}

// refuse is the only place where an error of another room becomes a reply. What
// is no *mail.Error gets a bare 451 with the id under which the log explains it.
func (c *conn) refuse(err error) int {
	e := mail.AsError(err)
	id := ""
	var known *mail.Error
	args := []any{telemetry.KeyCode, e.Enhanced}
	if c.login != nil {
		args = append(args, telemetry.KeyAccount, c.login.account.String())
	}
	switch {
	case !errors.As(err, &known):
		id = c.logID()
		c.event(slog.LevelError, "transaction failed", telemetry.KeyError, err)
	case e.Cause != nil:
		c.event(slog.LevelInfo, "refused", append(args, telemetry.KeyError, e.Cause)...)
	case c.login != nil: // one of our users will ask why
		c.event(slog.LevelInfo, "refused", args...)
	default:
		c.event(slog.LevelDebug, "refused", args...)
	}
	c.Metrics.SMTPRejection(reason(e))
	c.out = appendError(c.out, e, id)
	if e.Code == 421 { // RFC 5321 3.8: whoever says 421 closes
		c.end = endRead
	}
	return e.Code
}

// reason is what the metrics call a refusal.
func reason(e *mail.Error) string {
	subject := ""
	if len(e.Enhanced) > 2 {
		subject = e.Enhanced[2:]
	}
	switch subject {
	case "1.1", "1.2":
		return telemetry.ReasonUnknownRecipient
	case "7.1":
		if e.Code == 450 || e.Code == 452 {
			return telemetry.ReasonRate
		}
		return telemetry.ReasonRelay
	case "2.2":
		return telemetry.ReasonQuota
	case "3.4":
		return telemetry.ReasonSize
	case "5.3":
		return telemetry.ReasonRecipients
	case "4.2":
		return telemetry.ReasonTimeout
	case "7.8":
		return telemetry.ReasonAuth
	case "7.0":
		if e.Code == 530 {
			return telemetry.ReasonAuth
		}
		return telemetry.ReasonRate
	case "6.0":
		return telemetry.ReasonMessage
	case "5.2":
		if e.Code == 550 {
			return telemetry.ReasonBareNewline
		}
		return telemetry.ReasonSyntax
	case "1.3", "1.7", "5.1", "5.4", "6.7":
		return telemetry.ReasonSyntax
	}
	return telemetry.ReasonInternal
}

// appendError appends e as a reply, with an id in brackets if there is one. A
// code that is no refusal would tell the client that all is well; it becomes 451.
func appendError(b []byte, e *mail.Error, id string) []byte {
	code, enhanced, text := e.Code, e.Enhanced, e.Text
	if code < 400 || code > 599 {
		code, enhanced, text = 451, "4.3.0", "local error, try again later"
	}
	class := byte('0' + code/100)
	if len(enhanced) < 5 || enhanced[0] != class || enhanced[1] != '.' {
		enhanced = string(class) + ".0.0"
	}
	if id != "" {
		text += " (" + id + ")"
	}
	return appendReply(b, code, ' ', enhanced, text)
}

// appendReply appends one line of a reply. Nothing in text can end the line or
// begin another.
func appendReply(b []byte, code int, sep byte, enhanced, text string) []byte {
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, sep)
	if enhanced != "" {
		b = append(b, enhanced...)
		b = append(b, ' ')
	}
	if len(text) > maxReplyText {
		text = text[:maxReplyText]
	}
	for i := 0; i < len(text); i++ {
		ch := text[i]
		if ch < ' ' || ch > '~' {
			ch = '?'
		}
		b = append(b, ch)
	}
	return append(b, "\r\n"...)
}
