package message

// maxEnvelopeValue is how much of Date, Subject, In-Reply-To and Message-ID an
// envelope keeps, in octets.
const maxEnvelopeValue = 16 << 10

// Envelope is what ENVELOPE tells of a message (RFC 9051 7.5.2). Values are those
// of the header fields, unfolded and trimmed and otherwise as they came: encoded
// words are not decoded and dates not read. A field that is absent is empty.
//
// Of Date, Subject, In-Reply-To and Message-ID the first 16 KiB are kept, of each
// address list the first 4,096 elements within 128 KiB.
type Envelope struct {
	Date      string
	Subject   string
	InReplyTo string
	MessageID string

	From []Address
	// Sender and ReplyTo are From where their fields are absent or empty.
	Sender  []Address
	ReplyTo []Address
	To      []Address
	Cc      []Address
	Bcc     []Address
}

// EnvelopeOf reads the envelope from a header section. The first field of each
// name counts, but the elements of all To, all Cc and all Bcc fields are joined.
func EnvelopeOf(h Header) Envelope {
	var e Envelope
	for i := range h.Fields {
		f := &h.Fields[i]
		switch len(f.Name) {
		case 2:
			if f.Is("To") {
				e.To = moreAddresses(e.To, f)
			} else if f.Is("Cc") {
				e.Cc = moreAddresses(e.Cc, f)
			}
		case 3:
			if f.Is("Bcc") {
				e.Bcc = moreAddresses(e.Bcc, f)
			}
		case 4:
			if e.From == nil && f.Is("From") {
				e.From = AddressList(f.Value())
			} else if f.Is("Date") {
				setFirst(&e.Date, f)
			}
		case 6:
			if e.Sender == nil && f.Is("Sender") {
				e.Sender = AddressList(f.Value())
			}
		case 7:
			if f.Is("Subject") {
				setFirst(&e.Subject, f)
			}
		case 8:
			if e.ReplyTo == nil && f.Is("Reply-To") {
				e.ReplyTo = AddressList(f.Value())
			}
		case 10:
			if f.Is("Message-ID") {
				setFirst(&e.MessageID, f)
			}
		case 11:
			if f.Is("In-Reply-To") {
				setFirst(&e.InReplyTo, f)
			}
		}
	}
	if e.Sender == nil {
		e.Sender = e.From
	}
	if e.ReplyTo == nil {
		e.ReplyTo = e.From
	}
	return e
}

func setFirst(s *string, f *Field) {
	if *s == "" {
		*s = f.Value()
		*s = (*s)[:min(len(*s), maxEnvelopeValue)]
	}
}

// moreAddresses joins the lists of fields that occur more than once, as broken
// clients write them.
func moreAddresses(list []Address, f *Field) []Address {
	if list == nil {
		return AddressList(f.Value())
	}
	if len(list) >= maxAddresses {
		return list
	}
	return append(list, AddressList(f.Value())...)
}

// lists returns the address lists in the order of ENVELOPE.
func (e *Envelope) lists() [6]*[]Address {
	return [...]*[]Address{&e.From, &e.Sender, &e.ReplyTo, &e.To, &e.Cc, &e.Bcc}
}

// size is about how many octets e holds.
func (e *Envelope) size() int {
	n := len(e.Date) + len(e.Subject) + len(e.InReplyTo) + len(e.MessageID)
	for _, l := range e.lists() {
		for _, a := range *l {
			n += 16 + len(a.Name) + len(a.Local) + len(a.Domain)
		}
	}
	return n
}

// sameList reports whether two lists are one.
func sameList(a, b []Address) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
