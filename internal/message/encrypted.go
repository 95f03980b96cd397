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

// Limits on what an encrypted message may have in clear around the ciphertext, in
// octets. A message with more is one with a clear text, and gets sealed as such.
const (
	// maxAround is for all of the body but the ciphertext.
	maxAround = 2048
	// maxPartHeader is for the header section of one part.
	maxPartHeader = 500
	// maxPreamble is for the line that programs write before the first part.
	maxPreamble = 200
)

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

// pgpStructure checks the two parts of RFC 3156 4, and that nothing else is there in
// which a clear text could stand.
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
	var err error
	read := func(from, to int64) []byte {
		b := make([]byte, to-from)
		if n, failed := r.ReadAt(b, from); failed != nil && n < len(b) && err == nil {
			err = fmt.Errorf("read part: %w", failed)
		}
		return b
	}
	ok := knownPreamble(read(top.BodyStart, control.HeaderStart)) &&
		plainPartHeader(read(control.HeaderStart, control.BodyStart)) &&
		onlyVersion(read(control.BodyStart, control.BodyEnd)) &&
		plainPartHeader(read(data.HeaderStart, data.BodyStart)) &&
		onlyDelimiter(read(data.BodyEnd, top.BodyEnd))
	return ok && err == nil, err
}

// knownPreamble accepts what lies before the first part, its delimiter included: nothing,
// or the one line that programs write for readers without MIME ("This is an OpenPGP/MIME
// encrypted message (RFC 4880 and 3156)", "This is a multi-part message in MIME format.").
func knownPreamble(b []byte) bool {
	b = bytes.TrimSpace(b)
	text := bytes.TrimSpace(b[:bytes.LastIndexByte(b, '\n')+1])
	return len(text) == 0 ||
		len(text) <= maxPreamble && bytes.HasPrefix(text, []byte("This is a")) && bytes.IndexByte(text, '\n') < 0
}

// plainPartHeader accepts a part's header section that says what the part is.
func plainPartHeader(b []byte) bool {
	h, _, err := ParseHeaderLimit(b, maxPartHeader)
	if err != nil {
		return false
	}
	for _, f := range h.Fields {
		// Python's library gives every part a MIME-Version.
		if !hasPrefixFold(f.Name, "Content-") && !(f.Is("MIME-Version") && f.Value() == "1.0") {
			return false
		}
	}
	return true
}

// onlyVersion accepts the content of the control part: "Version: 1" and white space.
func onlyVersion(b []byte) bool {
	name, value, _ := strings.Cut(string(b), ":")
	return strings.EqualFold(strings.TrimSpace(name), "Version") && strings.TrimSpace(value) == "1"
}

// onlyDelimiter accepts what lies behind the last part: the closing delimiter, which may
// be missing, and an epilogue of white space.
func onlyDelimiter(b []byte) bool { return bytes.IndexByte(bytes.TrimSpace(b), '\n') < 0 }
