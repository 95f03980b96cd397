package message

import (
	"fmt"
	"net/mail"
	"net/netip"
	"strings"
	"time"
)

// dateLayout is the date-time of RFC 5322 3.3.
const dateLayout = "Mon, 02 Jan 2006 15:04:05 -0700"

// FormatDate returns t as a Date or Received field has it (RFC 5322 3.3).
func FormatDate(t time.Time) string { return t.Format(dateLayout) }

// ParseDate reads the value of a Date field, obsolete forms and comments
// included.
func ParseDate(value string) (time.Time, error) {
	t, err := mail.ParseDate(value[:min(len(value), 256)])
	if err != nil {
		return time.Time{}, fmt.Errorf("not a date of RFC 5322")
	}
	return t, nil
}

// MessageIDs returns the identifiers of a Message-ID, In-Reply-To or References
// value (RFC 5322 3.6.4), without their angle brackets and at most 1,000 of them.
func MessageIDs(value string) []string {
	var ids []string
	for len(ids) < 1000 {
		_, rest, found := strings.Cut(value, "<")
		id, after, closed := strings.Cut(rest, ">")
		if !found || !closed {
			break
		}
		if n := strings.LastIndexByte(id, '<'); n >= 0 {
			id = id[n+1:] // the one before was not closed
		}
		if id = strings.Trim(id, " \t"); id != "" {
			ids = append(ids, id)
		}
		value = after
	}
	return ids
}

// CountReceived returns the number of Received fields, by which loops are found
// (RFC 5321 6.3).
func CountReceived(h Header) int {
	n := 0
	for i := range h.Fields {
		if h.Fields[i].Is("Received") {
			n++
		}
	}
	return n
}

// Received is the content of a trace field (RFC 5321 4.4).
type Received struct {
	Helo string     // what the peer called itself; empty leaves "from" out
	IP   netip.Addr // the peer's; may be invalid
	By   string     // our host name
	With string     // RFC 3848: ESMTP, ESMTPS
	TLS  string     // a comment such as "TLS1.3 TLS_AES_128_GCM_SHA256", or empty
	ID   string
	// For is the addr-spec of the only recipient. It must be empty if there are
	// several, who would learn of each other. A quoted local-part is left out.
	For  string
	Time time.Time
}

// ReceivedField returns a whole Received field, folded and with its CRLF. No
// value can end the field, a comment or a quote: specials of RFC 5322 and what is
// not visible ASCII or UTF-8 become "?".
func ReceivedField(r Received) []byte {
	var b strings.Builder
	b.Grow(256)
	b.WriteString("Received: ")
	const specials = `()\"<>;,`
	if r.Helo != "" {
		b.WriteString("from " + visible(r.Helo, specials))
		if r.IP.IsValid() {
			b.WriteString(" (" + addressLiteral(r.IP) + ")")
		}
		b.WriteString("\r\n\t")
	}
	b.WriteString("by " + visible(r.By, specials))
	b.WriteString(" with " + visible(r.With, specials))
	if r.TLS != "" {
		words := strings.Fields(r.TLS)
		for i := range words {
			words[i] = visible(words[i], specials)
		}
		b.WriteString("\r\n\t(" + strings.Join(words, " ") + ")")
	}
	b.WriteString("\r\n\tid " + visible(r.ID, specials))
	if r.For != "" && !strings.Contains(r.For, `"`) {
		b.WriteString("\r\n\tfor <" + visible(r.For, specials) + ">")
	}
	b.WriteString(";\r\n\t" + FormatDate(r.Time) + "\r\n")
	return []byte(b.String())
}

// visible replaces spaces, controls, invalid UTF-8 and the characters of bad by
// "?", and empty by "unknown".
func visible(s, bad string) string {
	if s == "" {
		return "unknown"
	}
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c >= 0x7f && c < 0xa0 || c == '\uFFFD' || strings.ContainsRune(bad, c) {
			return '?'
		}
		return c
	}, s)
}

// addressLiteral is the address-literal of RFC 5321 4.1.3.
func addressLiteral(ip netip.Addr) string {
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		return "[IPv6:" + ip.String() + "]"
	}
	return "[" + ip.String() + "]"
}
