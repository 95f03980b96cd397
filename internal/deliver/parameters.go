package deliver

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"postern/internal/mail"
)

// mailLine is the MAIL command with what the server has to know, or why it must not
// get this message.
func (s *session) mailLine(d *delivery) (string, *failure) {
	e := s.ext
	switch {
	case d.RequireTLS && !e.requireTLS:
		return "", never("5.7.30", "mail server %s does not offer REQUIRETLS", s.host)
	case d.utf8 && !e.utf8:
		return "", never("5.6.7", "mail server %s does not take addresses or header fields that are not ASCII", s.host).last()
	case d.Body == "8BITMIME" && !e.eightBit:
		return "", never("5.6.3", "mail server %s does not take 8-bit content", s.host).last()
	case e.size > 0 && d.Size > e.size:
		f := never("5.3.4", "the message has %d octets, mail server %s takes %d", d.Size, s.host, e.size).last()
		f.Code = 552
		return "", f
	}
	var b strings.Builder
	b.WriteString("MAIL FROM:<")
	b.WriteString(d.from)
	b.WriteByte('>')
	if e.size >= 0 && d.Size > 0 {
		b.WriteString(" SIZE=")
		b.WriteString(strconv.FormatInt(d.Size, 10))
	}
	if d.Body == "8BITMIME" {
		b.WriteString(" BODY=8BITMIME")
	}
	if d.utf8 {
		b.WriteString(" SMTPUTF8")
	}
	if d.RequireTLS {
		b.WriteString(" REQUIRETLS")
	}
	if e.dsn && (d.Return == "FULL" || d.Return == "HDRS") {
		b.WriteString(" RET=" + d.Return)
	}
	if e.dsn && d.EnvID != "" && ascii(d.EnvID) {
		b.WriteString(" ENVID=" + xtext(d.EnvID))
	}
	return b.String(), nil
}

// rcptLine is the RCPT command for recipient i.
func (s *session) rcptLine(d *delivery, i int) string {
	line := "RCPT TO:<" + d.rcpts[i] + ">"
	if !s.ext.dsn {
		return line
	}
	if n := notify(d.Rcpts[i].Notify); n != "" {
		line += " NOTIFY=" + n
	}
	if o := original(d.Rcpts[i].Original, d.utf8); o != "" {
		line += " ORCPT=" + o
	}
	return line
}

// original writes the recipient that the sender named (RFC 3461 4.2, RFC 6533 3), "" if
// it cannot be written. raw says that the transaction may have octets that are not ASCII.
func original(s string, raw bool) string {
	kind, address, ok := strings.Cut(s, ";")
	switch {
	case !ok || !isAtom(kind) || address == "":
		return ""
	case strings.EqualFold(kind, "utf-8") && utf8.ValidString(address):
		return kind + ";" + unicodeText(address, raw)
	case ascii(address):
		return kind + ";" + xtext(address)
	}
	return ""
}

// unicodeText encodes as utf-8-addr-unitext, or utf-8-addr-xtext (RFC 6533 3).
func unicodeText(s string, raw bool) string {
	var b strings.Builder
	for _, r := range s {
		if r <= ' ' || r == '+' || r == '=' || r == '\\' || r == 0x7f || r > 0x7f && (!raw || !unicode.IsPrint(r)) {
			fmt.Fprintf(&b, `\x{%X}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// notify writes the events of RFC 3461 4.1; "" for none given.
func notify(n mail.Notify) string {
	if n&mail.NotifyNever != 0 {
		return "NEVER"
	}
	var all []string
	for _, e := range []struct {
		event mail.Notify
		name  string
	}{{mail.NotifySuccess, "SUCCESS"}, {mail.NotifyFailure, "FAILURE"}, {mail.NotifyDelay, "DELAY"}} {
		if n&e.event != 0 {
			all = append(all, e.name)
		}
	}
	return strings.Join(all, ",")
}

// isAtom reports whether s can stand for an addr-type (RFC 3461 4.2).
func isAtom(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return notAlnum(r) && r != '-' }) < 0
}

// xtext encodes what is not printable, "+" and "=" (RFC 3461 4).
func xtext(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < '!' || c > '~' || c == '+' || c == '=' {
			b.Write([]byte{'+', digits[c>>4], digits[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
