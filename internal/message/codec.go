package message

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The stored form of envelopes and structures: a version octet, then numbers as
// uvarints and strings as their length and octets. What is stored outlives the
// program, so a change of form is a new version, and old ones are read for ever.
const codecVersion = 1

// maxDecodeDepth bounds the nesting that ParseStructure follows. It is above
// every limit that a scan is used with.
const maxDecodeDepth = 1000

// ErrEncoding says that stored octets are not an envelope or a structure.
var ErrEncoding = errors.New("invalid stored form")

// How Sender and Reply-To are stored if they are the From list.
const (
	senderIsFrom = 1 << iota
	replyToIsFrom
)

// Append appends the stored form of e to dst.
func (e *Envelope) Append(dst []byte) []byte {
	return e.append(append(dst, codecVersion))
}

func (e *Envelope) append(b []byte) []byte {
	var flags byte
	if sameList(e.Sender, e.From) {
		flags |= senderIsFrom
	}
	if sameList(e.ReplyTo, e.From) {
		flags |= replyToIsFrom
	}
	b = append(b, flags)
	b = appendString(b, e.Date)
	b = appendString(b, e.Subject)
	b = appendString(b, e.InReplyTo)
	b = appendString(b, e.MessageID)
	// The sum comes first, so that reading allocates once for all lists.
	total, lists := 0, e.lists()
	for i, l := range lists {
		if i == 1 && flags&senderIsFrom != 0 || i == 2 && flags&replyToIsFrom != 0 {
			lists[i] = nil
			continue
		}
		total += len(*l)
	}
	b = binary.AppendUvarint(b, uint64(total))
	for _, l := range lists {
		if l == nil {
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(*l)))
		for i := range *l {
			a := &(*l)[i]
			b = append(b, byte(a.Kind))
			b = appendString(b, a.Name)
			b = appendString(b, a.Route)
			b = appendString(b, a.Local)
			b = appendString(b, a.Domain)
		}
	}
	return b
}

// ParseEnvelope reads what Append wrote. All strings of the result share one copy
// of b. Errors wrap ErrEncoding.
func ParseEnvelope(b []byte) (Envelope, error) {
	d := newDecoder(b)
	e := d.envelope()
	if d.bad || d.i != len(d.s) {
		return Envelope{}, fmt.Errorf("%w: envelope", ErrEncoding)
	}
	return e, nil
}

// Append appends the stored form of p and everything below it to dst.
func (p *Part) Append(dst []byte) []byte {
	return p.append(append(dst, codecVersion), 0)
}

// What a stored part has besides its offsets and media type.
const (
	hasParams = 1 << iota
	hasTexts  // ID, Description, MD5, Location
	hasEncoding
	hasDisposition
	hasLanguage
	hasChildren
	hasMessage
)

// append writes offsets relative to base, the start of the parent's body.
func (p *Part) append(b []byte, base int64) []byte {
	flags := p.has()
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(p.HeaderStart-base))
	b = binary.AppendUvarint(b, uint64(p.BodyStart-p.HeaderStart))
	b = binary.AppendUvarint(b, uint64(p.Size()))
	b = binary.AppendUvarint(b, uint64(p.Lines))
	b = appendString(b, p.Type)
	b = appendString(b, p.Subtype)
	if flags&hasParams != 0 {
		b = appendParams(b, p.Params)
	}
	if flags&hasTexts != 0 {
		b = appendString(b, p.ID)
		b = appendString(b, p.Description)
		b = appendString(b, p.MD5)
		b = appendString(b, p.Location)
	}
	if flags&hasEncoding != 0 {
		b = appendString(b, p.Encoding)
	}
	if flags&hasDisposition != 0 {
		b = appendString(b, p.Disposition)
		b = appendParams(b, p.DispositionParams)
	}
	if flags&hasLanguage != 0 {
		b = binary.AppendUvarint(b, uint64(len(p.Language)))
		for _, l := range p.Language {
			b = appendString(b, l)
		}
	}
	if flags&hasChildren != 0 {
		b = binary.AppendUvarint(b, uint64(len(p.Children)))
		for _, c := range p.Children {
			b = c.append(b, p.BodyStart)
		}
	}
	if flags&hasMessage != 0 {
		b = p.Envelope.append(b)
		b = p.Message.append(b, p.BodyStart)
	}
	return b
}

func (p *Part) has() byte {
	var flags byte
	for i, has := range [...]bool{
		len(p.Params) > 0,
		p.ID != "" || p.Description != "" || p.MD5 != "" || p.Location != "",
		p.Encoding != "",
		p.Disposition != "" || len(p.DispositionParams) > 0,
		len(p.Language) > 0,
		len(p.Children) > 0,
		p.Message != nil,
	} {
		if has {
			flags |= 1 << i
		}
	}
	return flags
}

// ParseStructure reads what Part.Append wrote. All strings of the result share
// one copy of b; memory is bounded by its length. Errors wrap ErrEncoding.
func ParseStructure(b []byte) (*Part, error) {
	d := newDecoder(b)
	p := &Part{}
	d.part(p, 0, 0)
	if d.bad || d.i != len(d.s) {
		return nil, fmt.Errorf("%w: structure", ErrEncoding)
	}
	return p, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendParams(b []byte, params Params) []byte {
	b = binary.AppendUvarint(b, uint64(len(params)))
	for i := range params {
		b = appendString(b, params[i].Name)
		b = appendString(b, params[i].Value)
	}
	return b
}

// decoder reads the stored form. After an error it returns zero values only.
type decoder struct {
	s   string
	i   int
	bad bool
}

func newDecoder(b []byte) *decoder {
	d := &decoder{s: string(b), i: 1}
	if len(b) == 0 || b[0] != codecVersion {
		d.fail()
	}
	return d
}

func (d *decoder) fail() {
	d.bad = true
	d.i = len(d.s)
}

func (d *decoder) octet() byte {
	if d.i >= len(d.s) {
		d.fail()
		return 0
	}
	d.i++
	return d.s[d.i-1]
}

func (d *decoder) number() uint64 {
	var n uint64
	for shift := uint(0); shift < 63; shift += 7 {
		c := d.octet()
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return n
		}
	}
	d.fail()
	return 0
}

// count is a number of elements, each of which takes at least size octets.
func (d *decoder) count(size int) int {
	n := d.number()
	if n > uint64(len(d.s)-d.i)/uint64(size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) text() string {
	n := d.count(1)
	d.i += n
	return d.s[d.i-n : d.i]
}

func (d *decoder) envelope() Envelope {
	var e Envelope
	flags := d.octet()
	e.Date = d.text()
	e.Subject = d.text()
	e.InReplyTo = d.text()
	e.MessageID = d.text()
	const minAddress = 5
	all := make([]Address, 0, d.count(minAddress))
	for i, l := range e.lists() {
		if i == 1 && flags&senderIsFrom != 0 || i == 2 && flags&replyToIsFrom != 0 {
			*l = e.From
			continue
		}
		n := d.count(minAddress)
		if n > cap(all)-len(all) {
			d.fail()
			break
		}
		if n == 0 {
			continue
		}
		from := len(all)
		for ; n > 0; n-- {
			all = append(all, Address{Kind: AddressKind(d.octet()),
				Name: d.text(), Route: d.text(), Local: d.text(), Domain: d.text()})
		}
		*l = all[from:len(all):len(all)]
	}
	if len(all) != cap(all) {
		d.fail()
	}
	return e
}

func (d *decoder) params() Params {
	n := d.count(2)
	if n == 0 {
		return nil
	}
	params := make(Params, n)
	for i := range params {
		params[i] = Param{Name: d.text(), Value: d.text()}
	}
	return params
}

// part reads a part into p. A part takes at least 7 octets.
func (d *decoder) part(p *Part, base int64, depth int) {
	if depth > maxDecodeDepth {
		d.fail()
	}
	flags := d.octet()
	p.HeaderStart = base + int64(d.number())
	p.BodyStart = p.HeaderStart + int64(d.number())
	p.BodyEnd = p.BodyStart + int64(d.number())
	p.Lines = int64(d.number())
	if p.HeaderStart < base || p.BodyStart < p.HeaderStart || p.BodyEnd < p.BodyStart {
		d.fail()
	}
	p.Type = d.text()
	p.Subtype = d.text()
	if flags&hasParams != 0 {
		p.Params = d.params()
	}
	if flags&hasTexts != 0 {
		p.ID = d.text()
		p.Description = d.text()
		p.MD5 = d.text()
		p.Location = d.text()
	}
	if flags&hasEncoding != 0 {
		p.Encoding = d.text()
	}
	if flags&hasDisposition != 0 {
		p.Disposition = d.text()
		p.DispositionParams = d.params()
	}
	if flags&hasLanguage != 0 {
		p.Language = make([]string, d.count(1))
		for i := range p.Language {
			p.Language[i] = d.text()
		}
	}
	d.below(p, flags, depth+1)
}

// below reads what lies within p.
func (d *decoder) below(p *Part, flags byte, depth int) {
	if flags&hasChildren != 0 {
		n := d.count(7)
		parts := make([]Part, n)
		p.Children = make([]*Part, n)
		for i := range parts {
			d.part(&parts[i], p.BodyStart, depth)
			p.Children[i] = &parts[i]
		}
	}
	if flags&hasMessage != 0 && !d.bad {
		e := d.envelope()
		p.Envelope, p.Message = &e, &Part{}
		d.part(p.Message, p.BodyStart, depth)
	}
}
