package message

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
)

// ErrDigest says that a payload is not the one its provenance speaks of.
var ErrDigest = errors.New("payload does not match the digests of its provenance")

// Original is a message as it arrived, taken out of a payload.
type Original struct {
	Provenance Provenance
	// Signed and Signature are for the caller to verify: here nothing is.
	Signed, Signature []byte
	// Header is the original header section with its blank line, if it had one.
	Header []byte
	// Body reads the original body.
	Body io.Reader

	body *digestReader
	head [sha256.Size]byte
}

// Restore takes a decrypted payload apart: the provenance, and behind it the
// original octets with what PayloadHeader inserted taken away. It reads the
// header section at once, at most DefaultHeaderLimit and a little, and the body
// as Body is read. Errors wrap ErrProvenance, ErrHeaderTooLarge, or are the
// reader's.
func Restore(payload io.Reader) (*Original, error) {
	section, rest, err := readSection(payload, DefaultHeaderLimit+2*maxProvenance)
	if err != nil {
		return nil, fmt.Errorf("read payload header: %w", err)
	}
	eol := lineEnd(section, 0)
	first := section[:foldEnd(section, eol)]
	o := &Original{}
	if o.Provenance, o.Signed, o.Signature, err = ParseProvenance(first); err != nil {
		return nil, err
	}
	hdr := section[len(first):]
	o.head = sha256.Sum256(hdr)
	if o.Header, err = originalHeader(hdr, o.Provenance.ContentType); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProvenance, err)
	}
	o.body = &digestReader{r: io.MultiReader(bytes.NewReader(rest), payload), h: sha256.New()}
	o.Body = o.body
	return o, nil
}

// Reader reads the whole original message, once.
func (o *Original) Reader() io.Reader {
	return io.MultiReader(bytes.NewReader(o.Header), o.Body)
}

// Intact compares what was read with the digests of the provenance. It is to be
// called after Body has returned io.EOF; before that the answer is ErrDigest.
func (o *Original) Intact() error {
	if !o.body.eof || o.head != o.Provenance.Head || [sha256.Size]byte(o.body.h.Sum(nil)) != o.Provenance.Body {
		return ErrDigest
	}
	return nil
}

// DropClaims returns a payload that Restore did not take without the fields that only
// a gateway writes, and whether there were any: whoever made the payload, they prove
// nothing, and must not be taken for a statement.
func DropClaims(payload []byte) (rest []byte, claimed bool) {
	pos := 0
	for pos < len(payload) {
		eol := lineEnd(payload, pos)
		if isBlank(payload[pos:eol]) {
			break
		}
		end := foldEnd(payload, eol)
		if hasPrefixFold(string(payload[pos:min(end, pos+len(fieldPrefix))]), fieldPrefix) {
			claimed = true
		} else {
			rest = append(rest, payload[pos:end]...)
		}
		pos = end
	}
	if !claimed {
		return payload, false
	}
	return append(rest, payload[pos:]...), true
}

type digestReader struct {
	r   io.Reader
	h   hash.Hash
	eof bool
}

func (d *digestReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.h.Write(p[:n])
	d.eof = d.eof || err == io.EOF
	return n, err
}

// readSection reads up to the end of the header section and returns it apart
// from what was read too much. Only io.EOF itself is taken for the end: a
// truncated ciphertext must not pass for a short message.
func readSection(r io.Reader, limit int) (section, rest []byte, err error) {
	var end HeaderEnd
	buf := make([]byte, 0, 8<<10)
	for {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		at := len(buf)
		n, err := r.Read(buf[at:cap(buf)])
		buf = buf[:at+n]
		_, found := end.Feed(buf[at:])
		switch {
		case end.Len() > int64(limit):
			return nil, nil, ErrHeaderTooLarge
		case err != nil && err != io.EOF:
			return nil, nil, err
		case found:
			return buf[:end.Len():end.Len()], buf[end.Len():], nil
		case err == io.EOF:
			return buf, nil, nil
		}
	}
}
