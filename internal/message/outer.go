package message

// Limits of the outer header section of a sealed message, in octets. A field
// that does not fit is left out there; the payload has it all the same.
const (
	maxOuterField  = 64 << 10
	maxOuterFields = 256 << 10
	maxOuterLists  = 32 << 10 // all List-* fields together
)

// hiddenSubject is what a sealed message shows instead of its subject
// (RFC 9788 3.2.1).
const hiddenSubject = "Subject: [...]\r\n"

// Outer is what the outside of a sealed message has besides the fields that are
// kept of the original.
type Outer struct {
	// Prepend goes first as it is: whole trace fields (Return-Path, Received,
	// Authentication-Results), each with its CRLF.
	Prepend []byte
	// KeepSubject leaves the Subject in clear.
	KeepSubject bool
	// Boundary separates the parts: 1 to 70 of letters, digits and '()+_,-./:=?
	// (RFC 2046 5.1.1). It must not be what a line of base64 armor can be, so it
	// should hold a character such as "_" or ".".
	Boundary string
}

// OuterHeader returns the start of a sealed message: the outer header section and
// everything of the multipart/encrypted structure (RFC 3156 4) up to where the
// armor begins. The armor and ClosingBoundary follow.
//
// From, To, Cc, Date, Message-ID, In-Reply-To, References, Reply-To and List-*
// are kept octet for octet in their order, 8-bit and over-long lines included;
// a last field that has no line ending gains one. Nothing is invented: a message
// without From, Date or Message-ID has none outside either. Unless KeepSubject is
// set there is exactly one Subject, "[...]", in the place of the first. A kept
// field over 64 KiB, and what exceeds 256 KiB altogether or 32 KiB of List-*, is
// left out.
func OuterHeader(h Header, o Outer) []byte {
	b := make([]byte, 0, 2048+len(o.Prepend))
	b = append(b, o.Prepend...)
	b = appendKept(b, h, o.KeepSubject)
	b = append(b, "MIME-Version: 1.0\r\n"+
		"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n"+
		"\tboundary=\""...)
	b = append(b, o.Boundary...)
	b = append(b, "\"\r\n\r\n"+
		"This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\r\n--"...)
	b = append(b, o.Boundary...)
	b = append(b, "\r\nContent-Type: application/pgp-encrypted\r\n"+
		"Content-Description: PGP/MIME version identification\r\n\r\n"+
		"Version: 1\r\n\r\n--"...)
	b = append(b, o.Boundary...)
	return append(b, "\r\nContent-Type: application/octet-stream; name=\"encrypted.asc\"\r\n"+
		"Content-Description: OpenPGP encrypted message\r\n"+
		"Content-Disposition: inline; filename=\"encrypted.asc\"\r\n\r\n"...)
}

// ClosingBoundary returns what follows the armor's END line and its CRLF.
func ClosingBoundary(o Outer) []byte {
	return []byte("\r\n--" + o.Boundary + "--\r\n")
}

// appendKept appends the fields that stay in clear.
func appendKept(b []byte, h Header, keepSubject bool) []byte {
	total, lists, subject := 0, 0, keepSubject
	for _, f := range h.Fields {
		n := len(f.Raw)
		list := hasPrefixFold(f.Name, "List-")
		switch {
		case f.Is("Subject") && !keepSubject:
			if !subject {
				b = append(b, hiddenSubject...)
				subject = true
			}
			continue
		case !list && !staysOutside(f.Name),
			n > maxOuterField, total+n > maxOuterFields, list && lists+n > maxOuterLists:
			continue
		}
		total += n
		if list {
			lists += n
		}
		b = append(b, f.Raw...)
		if b[len(b)-1] != '\n' {
			b = append(b, '\r', '\n')
		}
	}
	if !subject {
		b = append(b, hiddenSubject...)
	}
	return b
}

// staysOutside names the fields that clients need to sort, thread and show a
// list of messages without opening them.
func staysOutside(name string) bool {
	for _, kept := range [...]string{"From", "To", "Cc", "Date", "Message-ID", "In-Reply-To", "References", "Reply-To", "Subject"} {
		if equalFold(kept, name) {
			return true
		}
	}
	return false
}
