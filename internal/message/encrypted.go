package message

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// CandidateKind is the form of encryption that a message claims.
type CandidateKind uint8

// The kinds of candidates. The zero value is none.
const (
	PGPMIME CandidateKind = iota + 1 // RFC 3156: the octets must be OpenPGP packets or armor
	CMS                              // RFC 8551: the octets must pass InspectCMS
)

// Candidate points at the octets that must prove a message is encrypted. By
// itself it proves nothing: media types are the sender's claim.
type Candidate struct {
	Kind   CandidateKind
	Offset int64 // of the octets in the message
	Length int64 // in octets, in their transfer encoding
	// TransferEncoding is that of the octets: lower case, "" for none.
	TransferEncoding string
}

// Reader reads the candidate's octets with the transfer encoding undone. Unlike
// Decode it fails at what is not of the encoding: clear text between the lines of
// base64 must not pass as part of a ciphertext.
func (c Candidate) Reader(r io.ReaderAt) io.Reader {
	body := io.NewSectionReader(r, c.Offset, c.Length)
	if c.TransferEncoding == "base64" {
		return &base64Reader{r: body, strict: true}
	}
	return Decode(c.TransferEncoding, body)
}

// maxAround is how many octets of its body an encrypted message may have in clear
// around the ciphertext: boundaries, the parts' header fields, "Version: 1", the
// line that clients write as preamble. A message with more is one with a clear
// text, and gets sealed as such.
const maxAround = 2048

// FindEncrypted looks at the top level of a message, whose structure is top, for
// PGP/MIME of exactly the form of RFC 3156 4 or for S/MIME. Nothing nested, inline
// or mangled is found: that is then sealed like any clear text, which harms
// nobody. The error is the reader's.
func FindEncrypted(top *Part, r io.ReaderAt) (c Candidate, ok bool, err error) {
	switch {
	case top.is("multipart", "encrypted"):
		ok, err := pgpStructure(top, r)
		if !ok || err != nil {
			return Candidate{}, false, err
		}
		data := top.Children[1]
		return Candidate{PGPMIME, data.BodyStart, data.Size(), data.Encoding}, true, nil
	case top.is("application", "pkcs7-mime"), top.is("application", "x-pkcs7-mime"):
		return Candidate{CMS, top.BodyStart, top.Size(), top.Encoding}, true, nil
	}
	return Candidate{}, false, nil
}

// pgpStructure checks the two parts of RFC 3156 4.
func pgpStructure(top *Part, r io.ReaderAt) (bool, error) {
	protocol, _ := top.Params.Get("protocol")
	if !strings.EqualFold(protocol, "application/pgp-encrypted") || len(top.Children) != 2 {
		return false, nil
	}
	control, data := top.Children[0], top.Children[1]
	if !control.is("application", "pgp-encrypted") || !data.is("application", "octet-stream") ||
		top.Size()-data.Size() > maxAround {
		return false, nil
	}
	body := make([]byte, control.Size())
	if n, err := r.ReadAt(body, control.BodyStart); err != nil && n < len(body) {
		return false, fmt.Errorf("read part: %w", err)
	}
	// "Version: 1" is all there is to the control part.
	version := false
	for _, line := range bytes.Split(body, []byte("\n")) {
		name, value, _ := strings.Cut(string(line), ":")
		if strings.EqualFold(strings.TrimSpace(name), "Version") && strings.TrimSpace(value) == "1" {
			version = true
		}
	}
	return version, nil
}
