package smtpd

import (
	"bytes"
	"strconv"
)

// The longest command lines without their CRLF (RFC 5321 4.5.3.1.4). MAIL and
// RCPT have room for the parameters of SIZE, 8BITMIME and SMTPUTF8.
const (
	maxCommand  = 510
	maxMailRcpt = 1022
)

// maxIdle is how many commands that lead nowhere are let pass between two
// messages before they count as mistakes.
const maxIdle = 100

// splitVerb splits a command line behind its verb, which it puts into upper case
// in place.
func splitVerb(line []byte) (verb, arg []byte) {
	verb = line
	if i := bytes.IndexByte(line, ' '); i >= 0 {
		verb, arg = line[:i], bytes.TrimRight(line[i+1:], " ")
	}
	for i, c := range verb {
		if c >= 'a' && c <= 'z' {
			verb[i] = c - 'a' + 'A'
		}
	}
	return verb, arg
}

// command does one command line.
func (c *conn) command(line []byte) {
	verb, arg := splitVerb(line)
	limit := maxCommand
	switch string(verb) {
	case "MAIL", "RCPT":
		limit = c.front.maxEnvelope
	case "AUTH":
		limit = smallBuffer // of base64; input bounds it
	case "BDAT":
		// Even a bad BDAT is handled there: a chunk may follow.
		c.bdat(arg)
		return
	}
	if len(line) > limit {
		c.fault(500, "5.5.2", "command line too long")
		return
	}
	switch string(verb) {
	case "MAIL":
		c.mail(string(arg))
	case "RCPT":
		c.rcpt(string(arg))
	case "DATA":
		c.data(arg)
	case "EHLO", "HELO":
		c.hello(string(arg), verb[0] == 'E')
	case "STARTTLS":
		c.startTLSCommand(arg)
	case "AUTH":
		c.auth(string(arg))
	case "QUIT":
		if c.bare(arg) {
			c.reply(221, "2.0.0", "closing connection")
			c.end = endNow
		}
	default:
		c.harmless(verb, arg)
	}
}

// harmless does the commands that change nothing or only the transaction; too
// many of them are a mistake too.
func (c *conn) harmless(verb, arg []byte) {
	if c.idle++; c.idle > maxIdle {
		c.fault(503, "5.5.1", "too many commands without a message")
		return
	}
	switch string(verb) {
	case "RSET":
		if c.bare(arg) {
			c.reset()
			c.reply(250, "2.0.0", "OK")
		}
	case "NOOP":
		c.reply(250, "2.0.0", "OK")
	case "HELP":
		verbs := "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY STARTTLS HELP"
		if c.front.submission != nil {
			verbs += " AUTH"
		}
		c.replyLines(214, "2.0.0", verbs, "see RFC 5321")
	case "VRFY":
		c.vrfy(arg)
	case "EXPN", "ETRN", "TURN", "SEND", "SOML", "SAML":
		c.fault(502, "5.5.1", "command not implemented")
	case "GET", "HEAD", "POST", "PUT", "CONNECT", "OPTIONS":
		// A browser was led here; the body of its request is no command.
		c.reply(554, "5.5.1", "this is not HTTP")
		c.end = endRead
	default:
		c.fault(500, "5.5.2", "unknown command")
	}
}

// vrfy says what RFC 5321 7.3 lets a server say that does not tell who exists.
func (c *conn) vrfy(arg []byte) {
	if len(arg) == 0 {
		c.fault(501, "5.5.4", "VRFY needs an address")
		return
	}
	c.reply(252, "2.0.0", "cannot verify, but will try to deliver")
}

// bare answers a command that takes no argument but has one.
func (c *conn) bare(arg []byte) bool {
	if len(arg) > 0 {
		c.fault(501, "5.5.4", "no argument allowed")
	}
	return len(arg) == 0
}

// ordered answers a command that comes too early.
func (c *conn) ordered(ok bool, first string) bool {
	if !ok && c.rejected && c.idle < maxIdle {
		c.idle++
		c.reply(503, "5.5.1", "send "+first+" first")
	} else if !ok {
		c.fault(503, "5.5.1", "send "+first+" first")
	}
	return ok
}

// octets writes a number for a reply.
func octets(n int64) string { return strconv.FormatInt(n, 10) }
