package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// smtpConn is an SMTP connection in which the test writes every octet itself.
type smtpConn struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// smtp connects, and greets.
func (g *gateway) smtp(t testing.TB) *smtpConn {
	t.Helper()
	conn, err := net.Dial("tcp", g.mx())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &smtpConn{Conn: conn, t: t, r: bufio.NewReader(conn)}
	if got := c.reply(); !strings.HasPrefix(got, "220 ") {
		t.Fatal("greeting: ", got)
	}
	c.must("250", "EHLO client.example.net\r\n")
	return c
}

// reply reads one reply, and returns its last line.
func (c *smtpConn) reply() string {
	c.t.Helper()
	got, err := c.tryReply()
	if err != nil {
		c.t.Fatal("read SMTP reply: ", err)
	}
	return got
}

func (c *smtpConn) tryReply() (string, error) {
	c.SetReadDeadline(time.Now().Add(2 * patience))
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return line, err
		}
		if len(line) < 4 || line[3] != '-' {
			return strings.TrimRight(line, "\r\n"), nil
		}
	}
}

// must writes and requires a reply that begins so.
func (c *smtpConn) must(want, octets string) string {
	c.t.Helper()
	c.put([]byte(octets))
	got := c.reply()
	if !strings.HasPrefix(got, want) {
		c.t.Fatalf("%.80q: %s", octets, got)
	}
	return got
}

func (c *smtpConn) put(octets []byte) {
	c.t.Helper()
	c.SetWriteDeadline(time.Now().Add(2 * patience))
	if _, err := c.Write(octets); err != nil {
		c.t.Fatal("write SMTP: ", err)
	}
}

// begin goes as far as 354.
func (c *smtpConn) begin(rcpts ...string) {
	c.t.Helper()
	if len(rcpts) == 0 {
		rcpts = []string{owner}
	}
	c.must("250", "MAIL FROM:<"+sender+"> BODY=8BITMIME\r\n")
	for _, r := range rcpts {
		c.must("250", "RCPT TO:<"+r+">\r\n")
	}
	c.must("354", "DATA\r\n")
}

// send sends a message and returns the reply to its end.
func (c *smtpConn) send(message []byte, rcpts ...string) string {
	c.t.Helper()
	c.begin(rcpts...)
	c.put(stuffed(message))
	c.put([]byte(".\r\n"))
	return c.reply()
}

// stuffed doubles the dot at the start of a line, RFC 5321 4.5.2.
func stuffed(message []byte) []byte {
	b := bytes.ReplaceAll(message, []byte("\r\n."), []byte("\r\n.."))
	if len(b) > 0 && b[0] == '.' {
		b = append([]byte("."), b...)
	}
	return b
}

// deliver sends messages that must be accepted.
func (g *gateway) deliver(messages ...[]byte) {
	g.t.Helper()
	c := g.smtp(g.t)
	for i, m := range messages {
		if got := c.send(m); !strings.HasPrefix(got, "250 ") {
			g.t.Fatalf("message %d: %s", i, got)
		}
	}
	c.must("221", "QUIT\r\n")
}

// text is a plain message with CRLF.
func text(subject, body string) []byte {
	return fmt.Appendf(nil, "From: Bob <%s>\r\nTo: Alice <%s>\r\nSubject: %s\r\nDate: Mon, 2 Mar 2026 11:00:00 +0000\r\n"+
		"Message-ID: <%x@example.net>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n",
		sender, owner, subject, subject, body)
}
