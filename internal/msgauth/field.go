package msgauth

import "strings"

// maxProperty bounds a value of the peer that goes into a field, in octets.
const maxProperty = 255

// lineLength is where a field is folded if it can be (RFC 5322 2.1.1).
const lineLength = 78

// Field returns the results as an Authentication-Results field (RFC 8601), with
// its name, folded, and with CRLF at its end. authserv is the authserv-id, our
// own name. The result is ASCII, and no line is over 998 octets, whatever the
// peer sent.
func (r Results) Field(authserv string) string {
	var w fieldWriter
	w.b.Grow(512)
	w.b.WriteString("Authentication-Results: ")
	w.b.WriteString(value(authserv))
	w.method("spf", r.SPF)
	r.writeSender(&w)
	if len(r.DKIM) == 0 {
		w.method("dkim", None)
	}
	for _, s := range r.DKIM {
		w.method("dkim", s.Result)
		w.property("reason", s.Reason)
		w.property("header.d", s.Domain)
		w.property("header.s", s.Selector)
		w.property("header.a", s.Algorithm)
		w.property("header.b", s.Start)
	}
	w.method("dmarc", r.DMARC)
	w.property("header.from", r.Author)
	w.property("policy.dmarc", r.Published.Request)
	w.b.WriteString("\r\n")
	return w.b.String()
}

// writeSender writes the identity that SPF checked: an address if its local-part
// can stand without quotes, else the domain alone.
func (r Results) writeSender(w *fieldWriter) {
	switch s := r.Sender; {
	case s.Domain == "":
	case s.Helo:
		w.property("smtp.helo", s.Domain)
	case isDotAtom(s.Local):
		w.write("smtp.mailfrom", s.Local+"@"+value(s.Domain))
	default:
		w.property("smtp.mailfrom", s.Domain)
	}
}

// fieldWriter folds a field as it is written.
type fieldWriter struct {
	b    strings.Builder
	line int // octets of the current line
}

func (w *fieldWriter) method(name string, result Result) {
	w.b.WriteString(";\r\n\t")
	w.line = 1
	w.put(name, word(result))
}

// property writes nothing for an empty value.
func (w *fieldWriter) property(name, s string) {
	if s != "" {
		w.write(name, value(s))
	}
}

// write writes a property whose value is safe as it is.
func (w *fieldWriter) write(name, safe string) {
	if w.line+len(name)+len(safe)+2 > lineLength {
		w.b.WriteString("\r\n\t")
		w.line = 1
	} else {
		w.b.WriteByte(' ')
		w.line++
	}
	w.put(name, safe)
}

func (w *fieldWriter) put(name, safe string) {
	w.b.WriteString(name)
	w.b.WriteByte('=')
	w.b.WriteString(safe)
	w.line += len(name) + 1 + len(safe)
}

// value writes s as a token if it is one, else as a quoted-string (RFC 2045
// 5.1, RFC 5322 3.2.4). What is not printable ASCII becomes a question mark, so
// that no octet of the peer's can end the line or the string, and what is too
// long is cut.
func value(s string) string {
	s = s[:min(len(s), maxProperty)]
	if isToken(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			b.WriteByte('?')
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// isToken follows RFC 2045 5.1: printable ASCII without tspecials.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// isDotAtom follows RFC 5322 3.2.3, in ASCII.
func isDotAtom(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '.':
			if i == 0 || i == len(s)-1 || s[i-1] == '.' {
				return false
			}
		case c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"[]`, c) >= 0:
			return false
		}
	}
	return s != "" && len(s) <= 64
}
