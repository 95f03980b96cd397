package message

// Part is one part of a message's MIME structure; the root stands for the message
// itself. Offsets are octets from the start of the message.
//
// A Part is always fit to be shown by BODYSTRUCTURE: a multipart has at least one
// child, a message/rfc822 or message/global has its Envelope and Message, and
// nothing else has either. Scan makes it so by showing a multipart without parts
// as text/plain, and what it does not look into as application/octet-stream.
type Part struct {
	HeaderStart int64 // of the part's header section
	BodyStart   int64 // behind the blank line
	BodyEnd     int64 // before the CRLF that belongs to the next boundary
	Lines       int64 // LFs in the body

	Type, Subtype string // lower case
	Params        Params
	ID            string // Content-ID
	Description   string // Content-Description
	Encoding      string // Content-Transfer-Encoding, lower case; "" means 7bit
	MD5           string // Content-MD5

	Disposition       string // lower case
	DispositionParams Params
	Language          []string
	Location          string

	// Children are the parts of a multipart.
	Children []*Part
	// Envelope and Message are those of an embedded message; its header section
	// begins where this part's body does.
	Envelope *Envelope
	Message  *Part
}

// Size returns the octets of the body, in its transfer encoding.
func (p *Part) Size() int64 { return p.BodyEnd - p.BodyStart }

// IsMultipart reports whether p has children.
func (p *Part) IsMultipart() bool { return len(p.Children) > 0 }

// is compares the media type, given in lower case.
func (p *Part) is(typ, subtype string) bool { return p.Type == typ && p.Subtype == subtype }

// SectionKind is what of a part is wanted (RFC 9051 6.4.5.1).
type SectionKind uint8

// The kinds of sections.
const (
	SectionAll    SectionKind = iota // BODY[], BODY[1.2]
	SectionHeader                    // HEADER; of the message or an embedded one
	SectionText                      // TEXT; of the message or an embedded one
	SectionMIME                      // MIME; of a part
)

// Section returns the range of octets of an IMAP section of the message whose
// root is p. path is the part number, empty for the message itself. ok is false
// if there is no such part, or no such section of it.
func (p *Part) Section(path []int, kind SectionKind) (off, n int64, ok bool) {
	if len(path) == 0 {
		return p.whole(kind)
	}
	part := p.find(path)
	if part == nil {
		return 0, 0, false
	}
	switch kind {
	case SectionAll:
		return part.BodyStart, part.Size(), true
	case SectionMIME:
		return part.HeaderStart, part.BodyStart - part.HeaderStart, true
	}
	if part.Message == nil {
		return 0, 0, false
	}
	return part.Message.whole(kind)
}

// whole returns a section of a message, embedded or not.
func (p *Part) whole(kind SectionKind) (off, n int64, ok bool) {
	switch kind {
	case SectionAll:
		return p.HeaderStart, p.BodyEnd - p.HeaderStart, true
	case SectionHeader:
		return p.HeaderStart, p.BodyStart - p.HeaderStart, true
	case SectionText:
		return p.BodyStart, p.Size(), true
	}
	return 0, 0, false
}

// Find returns the part with this number below the message p, or nil. The number
// 1 of a message that is no multipart is the message's own body.
func (p *Part) Find(path []int) *Part {
	if len(path) == 0 {
		return p
	}
	return p.find(path)
}

func (p *Part) find(path []int) *Part {
	message := p // whose parts the next number counts
	for i, n := range path {
		var part *Part
		switch {
		case message.IsMultipart():
			if n < 1 || n > len(message.Children) {
				return nil
			}
			part = message.Children[n-1]
		case n == 1:
			part = message
		default:
			return nil
		}
		if i == len(path)-1 {
			return part
		}
		switch {
		case part.Message != nil:
			message = part.Message
		case part.IsMultipart():
			message = part
		default:
			return nil
		}
	}
	return nil
}

// Walk calls f for p and everything below it, parents first.
func (p *Part) Walk(f func(*Part)) {
	f(p)
	for _, c := range p.Children {
		c.Walk(f)
	}
	if p.Message != nil {
		p.Message.Walk(f)
	}
}
