package smtpd

import (
	"log/slog"
	"strconv"

	"postern/internal/telemetry"
)

// maxHelo is the longest name a client may give itself (RFC 5321 4.5.3.1.2).
const maxHelo = 255

// greet sends the banner.
func (c *conn) greet() {
	c.reply(220, "", c.Hostname+" "+c.front.protocol+" Postern")
}

// hello does HELO and EHLO (RFC 5321 4.1.1.1). Both drop a transaction.
func (c *conn) hello(arg string, extended bool) {
	if c.idle++; c.idle > maxIdle {
		c.fault(503, "5.5.1", "too many commands without a message")
		return
	}
	name, ok := cleanHelo(arg, c.front.submission != nil)
	if !ok {
		c.fault(501, "5.5.4", "a domain or address literal is needed")
		return
	}
	c.reset()
	c.helo, c.extended = name, extended
	if !extended {
		c.reply(250, "", c.Hostname)
		return
	}
	lines := make([]string, 0, 10)
	limits := "LIMITS RCPTMAX=" + strconv.Itoa(c.Limits.Recipients) // RFC 9422
	if n := c.Limits.MessagesPerConnection; n > 0 {
		limits += " MAILMAX=" + strconv.Itoa(n)
	}
	lines = append(lines, c.Hostname, "PIPELINING", "SIZE "+octets(c.MaxSize), "8BITMIME",
		"SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING", limits)
	if c.TLS != nil && c.tls == nil {
		lines = append(lines, "STARTTLS")
	}
	if c.tls != nil {
		lines = append(lines, "REQUIRETLS") // RFC 8689 2: only here
	}
	if c.front.submission != nil {
		lines = append(lines, c.submissionKeywords()...)
	}
	c.replyLines(250, "", append(lines, "HELP")...)
}

// cleanHelo returns the first word of what a client calls itself, in a form that
// can stand in a trace field. Many clients give no proper domain, so only what
// is not printable ASCII is refused; what is no part of a name becomes "?". With
// lenient what is not ASCII becomes "?" too: programs of our own users name their
// computer as its owner did.
func cleanHelo(arg string, lenient bool) (string, bool) {
	for i := 0; i < len(arg); i++ {
		if arg[i] == ' ' {
			arg = arg[:i]
			break
		}
	}
	if arg == "" || len(arg) > maxHelo {
		return "", false
	}
	clean := []byte(arg)
	for i, ch := range clean {
		switch {
		case ch <= ' ' || ch == 0x7f || ch > '~' && !lenient:
			return "", false
		case ch >= 'a' && ch <= 'z', ch >= 'A' && ch <= 'Z', ch >= '0' && ch <= '9':
		case ch == '.', ch == '-', ch == '_', ch == ':', ch == '[', ch == ']':
		default:
			clean[i] = '?'
		}
	}
	return string(clean), true
}

// startTLSCommand does STARTTLS (RFC 3207). What was sent in clear behind the
// command is never looked at: it may be somebody else's.
func (c *conn) startTLSCommand(arg []byte) {
	switch {
	case !c.bare(arg):
		return
	case c.TLS == nil:
		c.fault(502, "5.5.1", "TLS is not offered")
		return
	case c.tls != nil:
		c.fault(503, "5.5.1", "TLS is already active")
		return
	case !c.ordered(c.helo != "", "EHLO"):
		return
	case c.tx.Transaction != nil:
		c.fault(503, "5.5.1", "not during a transaction")
		return
	case len(c.in.bytes()) > 0:
		c.reply(501, "5.5.1", "nothing may follow STARTTLS before the handshake")
		c.event(slog.LevelWarn, "connection ended by server", telemetry.KeyReason, "input after STARTTLS")
		c.end = endRead
		return
	}
	c.reply(220, "2.0.0", "ready to start TLS")
	if err := c.startTLS(); err != nil {
		c.event(slog.LevelInfo, "connection ended by server", telemetry.KeyReason, err)
		c.end = endNow
		return
	}
	// RFC 3207 4.2: all that was learned before is forgotten.
	c.helo, c.extended, c.login = "", false, nil
}

// protocol is the with-protocol-type of Received (RFC 3848, RFC 6531 4.3).
func (c *conn) protocol(utf8 bool) string {
	if !c.extended {
		return "SMTP"
	}
	name := "ESMTP"
	if utf8 {
		name = "UTF8SMTP"
	}
	if c.tls != nil {
		name += "S"
	}
	if c.login != nil {
		name += "A"
	}
	return name
}
