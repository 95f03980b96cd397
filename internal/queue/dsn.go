package queue

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
)

// dsn is a delivery status notification, RFC 3464, about some recipients of a copy.
type dsn struct {
	Event    event
	Hostname string
	ID       string
	Now      time.Time
	GiveUp   time.Duration
	To       mail.Address
	Copy     *store.Outgoing
	Rcpts    []reported
	Header   message.Header // of the copy
}

// utf8 says whether the report is one of RFC 6533, which has addresses that are not
// ASCII.
func (d *dsn) utf8() bool {
	for _, r := range d.Rcpts {
		if !ascii(r.rcpt.Address) || !ascii(r.rcpt.Original) {
			return true
		}
	}
	return !ascii(d.To.String()) || !ascii(string(d.Header.Bytes()))
}

// reader returns the whole message with CRLF line endings.
func (d *dsn) reader() io.Reader {
	var b bytes.Buffer
	boundary := "=_postern." + rand.Text()
	status, headers := "message/delivery-status", "text/rfc822-headers"
	eightBit := d.utf8()
	if eightBit {
		status, headers = "message/global-delivery-status", "message/global-headers"
	}
	part := func(contentType, disposition string) {
		fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: %s\r\n", boundary, contentType)
		if disposition != "" {
			fmt.Fprintf(&b, "Content-Description: %s\r\n", disposition)
		}
		if eightBit {
			b.WriteString("Content-Transfer-Encoding: 8bit\r\n")
		}
		b.WriteString("\r\n")
	}
	d.header(&b, boundary)
	part("text/plain; charset=utf-8", "")
	d.text(&b)
	part(status, "Delivery report")
	d.status(&b)
	if len(d.Header.Fields) > 0 {
		part(headers, "Header section of your message")
		d.quoted(&b)
	}
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return &b
}

// header writes the report's own header section, RFC 3462, RFC 3834 5.
func (d *dsn) header(b *bytes.Buffer, boundary string) {
	fmt.Fprintf(b, "From: Mail Delivery System <mailer-daemon@%s>\r\n", d.Hostname)
	fmt.Fprintf(b, "To: %s\r\n", d.To)
	fmt.Fprintf(b, "Date: %s\r\n", message.FormatDate(d.Now))
	fmt.Fprintf(b, "Message-ID: <%s.report@%s>\r\n", d.ID, d.Hostname)
	if id := d.Header.Get("Message-ID"); messageID(id) {
		fmt.Fprintf(b, "In-Reply-To: %s\r\nReferences: %s\r\n", id, id)
	}
	fmt.Fprintf(b, "Subject: %s\r\n", d.Event.subject())
	b.WriteString("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n")
	fmt.Fprintf(b, "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"%s\"\r\n", boundary)
	b.WriteString("\r\nThis is a delivery status notification (RFC 3464).\r\n")
}

// messageID says whether a value can be written into a header field as it is.
func messageID(s string) bool {
	return len(s) > 2 && len(s) < 250 && s[0] == '<' && s[len(s)-1] == '>' && ascii(s) && !strings.ContainsAny(s, " \t\r\n")
}

// text writes what people read.
func (d *dsn) text(b *bytes.Buffer) {
	for _, line := range d.opening() {
		b.WriteString(line + "\r\n")
	}
	for _, r := range d.Rcpts {
		fmt.Fprintf(b, "\r\n%s\r\n    %s\r\n", clean(r.rcpt.Address), d.why(r))
		if advice := d.advice(r); advice != "" {
			fmt.Fprintf(b, "    %s\r\n", advice)
		}
	}
	b.WriteString("\r\nBelow are the same facts for programs, and the header section of your message.\r\n")
	b.WriteString("What it said is not quoted.\r\n")
}

// status writes the per-message and per-recipient fields, RFC 3464 2.2 and 2.3.
func (d *dsn) status(b *bytes.Buffer) {
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\n", d.Hostname)
	if d.Copy.EnvID != "" {
		fmt.Fprintf(b, "Original-Envelope-Id: %s\r\n", plain(d.Copy.EnvID))
	}
	fmt.Fprintf(b, "Arrival-Date: %s\r\n", message.FormatDate(d.Copy.Created))
	for _, r := range d.Rcpts {
		b.WriteString("\r\n")
		if kind, address, ok := strings.Cut(r.rcpt.Original, ";"); ok {
			fmt.Fprintf(b, "Original-Recipient: %s; %s\r\n", clean(kind), clean(address))
		}
		kind := "rfc822"
		if !ascii(r.rcpt.Address) {
			kind = "utf-8"
		}
		fmt.Fprintf(b, "Final-Recipient: %s; %s\r\nAction: %s\r\nStatus: %s\r\n", kind, clean(r.rcpt.Address), d.action(), d.code(r))
		if r.reply.Host != "" {
			fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", mtaName(plain(r.reply.Host)))
		}
		if r.reply.Code != 0 && r.reply.Host != "" { // our own words are no reply of RFC 5321
			fmt.Fprintf(b, "Diagnostic-Code: smtp; %d %s\r\n", r.reply.Code, plain(r.reply.Enhanced+" "+r.reply.Text))
		} else if r.reply.Text != "" {
			fmt.Fprintf(b, "Diagnostic-Code: x-postern; %s\r\n", plain(r.reply.Text))
		}
		if !r.rcpt.Tried.IsZero() {
			fmt.Fprintf(b, "Last-Attempt-Date: %s\r\n", message.FormatDate(r.rcpt.Tried))
		}
		if d.Event == eventDelayed {
			fmt.Fprintf(b, "Will-Retry-Until: %s\r\n", message.FormatDate(r.rcpt.Since.Add(d.GiveUp)))
		}
	}
}

// mtaName writes a host for a field of the type dns (RFC 3464 2.3.5).
func mtaName(host string) string {
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return host
	case a.Is6():
		return "[IPv6:" + host + "]"
	}
	return "[" + host + "]"
}

// action is RFC 3464 2.3.3.
func (d *dsn) action() string {
	switch d.Event {
	case eventDelayed:
		return "delayed"
	case eventRelayed:
		return "relayed"
	case eventDelivered:
		return "delivered"
	}
	return "failed"
}

// code is the status of RFC 3463, of the class that the event wants.
func (d *dsn) code(r reported) string {
	class, otherwise := byte('5'), "5.0.0"
	switch d.Event {
	case eventExpired:
		return "4.4.7" // delivery time expired
	case eventCancelled:
		return "5.7.0"
	case eventDelayed:
		class, otherwise = '4', "4.0.0"
	case eventRelayed, eventDelivered:
		class, otherwise = '2', "2.0.0"
	}
	s := r.reply.Enhanced
	if len(s) == 0 || s[0] != class || !statusCode(s) {
		return otherwise
	}
	return s
}

// statusCode says whether s has the form of RFC 3463 2: 1, 1 to 3 and 1 to 3 digits.
func statusCode(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || len(parts[0]) != 1 {
		return false
	}
	for _, p := range parts {
		if len(p) < 1 || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return true
}

// quoted writes the fields of the copy's header section, line endings made CRLF.
func (d *dsn) quoted(b *bytes.Buffer) {
	for _, f := range d.Header.Fields {
		if f.Name == "" {
			continue
		}
		for line := range bytes.Lines(f.Raw) {
			b.Write(bytes.TrimRight(line, "\r\n"))
			b.WriteString("\r\n")
		}
	}
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
