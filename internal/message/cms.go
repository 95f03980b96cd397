package message

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrCMS says that octets are not a CMS object, or not wholly one.
var ErrCMS = errors.New("not a CMS object")

// ASN.1 tags (X.690 8.1.2) as they stand in the identifier octet.
const (
	tagInteger  = 0x02
	tagOctets   = 0x04
	tagOID      = 0x06
	tagSequence = 0x30
	tagSet      = 0x31
	tagContext0 = 0xa0 // [0], constructed
	constructed = 0x20
)

const (
	// maxBERDepth bounds the nesting of values that are passed over.
	maxBERDepth = 32
	// The values that are in clear beside the ciphertext, in octets: the sender's
	// certificates, one recipient's information, all attributes together, and
	// whatever else there is one of.
	maxOriginator = 64 << 10
	maxRecipient  = 16 << 10
	maxAttributes = 2 << 10
	maxSmall      = 512
)

// InspectCMS reads a CMS object (RFC 5652) in DER or BER and reports whether it
// is encrypted: EnvelopedData or AuthEnvelopedData (RFC 5083) with at least one
// RecipientInfo and encrypted content, nothing behind it, and no more beside it than
// these need. Signed, digested,
// compressed and any other content, EncryptedData without recipients included,
// gives false. It reads everything and keeps nothing; that only the key's owner
// can tell ciphertext from noise is beyond it.
//
// The error wraps ErrCMS, or is the reader's.
func InspectCMS(r io.Reader) (encrypted bool, err error) {
	d := &berReader{r: bufio.NewReader(r)}
	info := d.enter(value{end: -1, top: true}, tagSequence)
	if kind := d.oid(info); d.err == nil && !isEnveloped(kind) {
		return false, nil
	}
	content := d.enter(info, tagContext0)
	data := d.enter(content, tagSequence)
	d.expect(data, tagInteger) // version
	v := d.next(data)
	if v.tag == tagContext0 { // originatorInfo
		d.skipShort(v, maxOriginator)
		v = d.next(data)
	}
	d.recipients(v)
	d.encryptedContent(data)
	d.attributes(data)
	d.leave(content)
	d.leave(info)
	d.trailer()
	if d.err != nil {
		return false, d.err
	}
	return true, nil
}

// isEnveloped compares the content of an OID.
func isEnveloped(oid []byte) bool {
	enveloped := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03}                 // 1.2.840.113549.1.7.3
	authEnveloped := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x01, 0x17} // 1.2.840.113549.1.9.16.1.23
	return bytes.Equal(oid, enveloped) || bytes.Equal(oid, authEnveloped)
}

// value is one BER value whose header has been read.
type value struct {
	tag byte
	end int64 // offset behind it, or -1: ended by an end-of-contents, or top
	top bool  // stands for what the object lies in
}

// berReader reads BER from the front to the end. After an error it does nothing.
type berReader struct {
	r   *bufio.Reader
	off int64
	err error
}

func (d *berReader) fail() value {
	if d.err == nil {
		d.err = ErrCMS
	}
	return value{}
}

func (d *berReader) octet() byte {
	if d.err != nil {
		return 0
	}
	c, err := d.r.ReadByte()
	if err == io.EOF {
		d.fail()
	} else if err != nil {
		d.err = fmt.Errorf("read CMS object: %w", err)
	}
	d.off++
	return c
}

// next reads the header of the next value within v, which must have one.
func (d *berReader) next(v value) value {
	if !v.top && !d.more(v) {
		return d.fail()
	}
	n := value{tag: d.octet(), end: -1}
	if n.tag&0x1f == 0x1f { // multi-octet tag numbers do not occur in CMS
		return d.fail()
	}
	length := int64(d.octet())
	switch {
	case length == 0x80:
		if n.tag&constructed == 0 {
			return d.fail()
		}
		return n
	case length > 0x84:
		return d.fail() // 4 GiB and more
	case length > 0x80:
		octets := length - 0x80
		for length = 0; octets > 0; octets-- {
			length = length<<8 | int64(d.octet())
		}
	}
	if n.end = d.off + length; v.end >= 0 && n.end > v.end {
		return d.fail()
	}
	return n
}

// more reports whether v holds another value; it consumes an end-of-contents.
func (d *berReader) more(v value) bool {
	if d.err != nil {
		return false
	}
	if v.end >= 0 {
		return d.off < v.end
	}
	if ahead, err := d.r.Peek(2); err == nil && ahead[0] == 0 && ahead[1] == 0 {
		_, _ = d.r.Discard(2)
		d.off += 2
		return false
	}
	return true
}

// enter reads the header of a value that must have this tag.
func (d *berReader) enter(in value, tag byte) value {
	v := d.next(in)
	if v.tag != tag {
		return d.fail()
	}
	return v
}

// expect passes over a small value that must have this tag.
func (d *berReader) expect(in value, tag byte) { d.skipShort(d.enter(in, tag), maxSmall) }

// skipShort passes over the content of v, which must not be longer than limit.
func (d *berReader) skipShort(v value, limit int64) {
	from := d.off
	if v.end-from > limit { // not to read what is refused anyway
		d.fail()
		return
	}
	if d.skip(v, 0); d.off-from > limit {
		d.fail()
	}
}

// skip passes over the content of v.
func (d *berReader) skip(v value, depth int) {
	if d.err != nil {
		return
	}
	if v.end >= 0 {
		n, err := io.CopyN(io.Discard, d.r, v.end-d.off)
		if d.off += n; err == io.EOF {
			d.fail()
		} else if err != nil {
			d.err = fmt.Errorf("read CMS object: %w", err)
		}
		return
	}
	if depth == maxBERDepth {
		d.fail()
		return
	}
	for d.more(v) {
		d.skip(d.next(v), depth+1)
	}
}

// leave makes sure that nothing is left of a value that was entered.
func (d *berReader) leave(v value) {
	if d.more(v) {
		d.fail()
	}
}

// attributes reads what may follow the encrypted content: authenticated attributes and
// the MAC of AuthEnvelopedData, attributes that are not protected (RFC 5652 6.1, RFC 5083 2.1).
func (d *berReader) attributes(in value) {
	from := d.off
	for d.more(in) {
		v := d.next(in)
		if v.tag != tagOctets && v.tag != tagContext0+1 && v.tag != tagContext0+2 {
			d.fail()
			return
		}
		d.skipShort(v, maxAttributes-(d.off-from))
	}
}

// oid reads an object identifier.
func (d *berReader) oid(in value) []byte {
	v := d.enter(in, tagOID)
	if d.err != nil || v.end < 0 || v.end-d.off > 32 {
		d.fail()
		return nil
	}
	b := make([]byte, v.end-d.off)
	for i := range b {
		b[i] = d.octet()
	}
	return b
}

// recipients reads the RecipientInfos: a set of at least one (RFC 5652 6.1), each
// a SEQUENCE or one of [1] to [4].
func (d *berReader) recipients(set value) {
	if set.tag != tagSet {
		d.fail()
		return
	}
	n := 0
	for d.more(set) {
		r := d.next(set)
		if r.tag != tagSequence && (r.tag <= tagContext0 || r.tag > tagContext0+4) {
			d.fail()
			return
		}
		d.skipShort(r, maxRecipient)
		n++
	}
	if n == 0 {
		d.fail()
	}
}

// encryptedContent reads an EncryptedContentInfo that has its content with it.
func (d *berReader) encryptedContent(in value) {
	info := d.enter(in, tagSequence)
	d.expect(info, tagOID)
	d.expect(info, tagSequence) // algorithm
	v := d.next(info)
	if v.tag&^constructed != tagContext0&^constructed || v.end == d.off {
		d.fail()
		return
	}
	d.skip(v, 0)
	d.leave(info)
}

// trailer accepts line ends and padding behind the object, and nothing else.
func (d *berReader) trailer() {
	for d.err == nil {
		c, err := d.r.ReadByte()
		switch {
		case err == io.EOF:
			return
		case err != nil:
			d.err = fmt.Errorf("read CMS object: %w", err)
		case c != 0 && c != '\r' && c != '\n' && c != ' ' && c != '\t':
			d.fail()
		}
	}
}
