package pgp

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

const (
	maxSessionKeys = 4096     // PKESK and SKESK packets in one message
	maxSessionKey  = 16 << 10 // octets of one of them
	maxLoose       = 4 << 10  // octets of Marker and Padding packets together
	// Shortest bodies of a SEIPD packet that hold anything: version, prefix, the
	// smallest literal packet and MDC; version 2: its head and two tags.
	minSEIPD1 = 1 + seipd1Prefix + 2 + literalHeader + mdcSize
	minSEIPD2 = seipd2Head + 2*aeadTag
)

// Inspection is what the packets of a message say without any key.
type Inspection struct {
	// Encrypted: armor or binary of session key packets, then exactly one SEIPD
	// packet, and nothing else. All other fields are empty if false.
	Encrypted bool
	// Recipients are the key IDs (PKESK version 3) or fingerprints (version 6) in
	// upper-case hex, in the order of the message, as the sender put them there.
	Recipients []string
	// Anonymous counts PKESK packets that do not name their recipient.
	Anonymous int
	// Symmetric counts SKESK packets: a passphrase opens the message too.
	Symmetric int
	// SEIPDVersion is 1 (CFB and MDC) or 2 (AEAD).
	SEIPDVersion int
	// Strict says that the strictest readers take it as it is: armor with CRLF, a
	// checksum and no header but Version, new-format packet headers, and no packet but
	// session keys and the encrypted data. What is not can be reframed.
	Strict bool

	length int64 // octets in the body of the SEIPD packet
}

// Inspect decides whether r is an OpenPGP encrypted message (RFC 9580 10.3, with
// integrity protection) by walking its packets, without decrypting anything. r is
// read to its end, or to the first thing that does not belong; memory does not
// depend on its size. Text before or behind the armor, or in unknown armor
// headers, makes it not encrypted: it would be clear text beside the ciphertext.
// Packets of the obsolete types 9 (no integrity protection) and 20 are not
// accepted. A message that is wrongly taken for not encrypted is only sealed once
// more; the opposite would leave clear text on the disk.
//
// The error is that of r, never about the content.
func Inspect(r io.Reader) (Inspection, error) {
	source := &watchedReader{r: r}
	found, ok := inspect(source)
	if source.err != nil {
		return Inspection{}, fmt.Errorf("inspect message: %w", source.err)
	}
	if !ok {
		return Inspection{}, nil
	}
	return found, nil
}

func inspect(r io.Reader) (found Inspection, ok bool) {
	s, err := openMessage(r)
	if err != nil {
		return found, false
	}
	var packets, loose int64
	found.Strict = s.armor != nil
	for s.next() == nil {
		found.Strict = found.Strict && s.head[0]&0x40 != 0
		switch s.tag {
		case tagPKESK, tagSKESK:
			packets++
			if packets > maxSessionKeys || !found.addSessionKey(s) {
				return found, false
			}
		case tagMarker, tagPadding:
			loose += s.left
			if s.partial || loose > maxLoose {
				return found, false
			}
			found.Strict = false
		case tagSEIPD:
			found.Encrypted = packets > 0 && found.end(s)
			return found, found.Encrypted
		default:
			return found, false
		}
	}
	return found, false
}

// openMessage takes off the armor, if there is any.
func openMessage(r io.Reader) (*packetStream, error) {
	br := bufferedFor(r)
	first, err := br.Peek(1)
	if err != nil {
		return nil, cutShort(err)
	}
	if first[0]&0x80 != 0 {
		return &packetStream{r: br}, nil
	}
	a, err := newArmorReader(br, typeMessage)
	if err != nil {
		return nil, err
	}
	return &packetStream{r: bufferedFor(a), armor: a}, nil
}

// addSessionKey notes one PKESK or SKESK packet (RFC 9580 5.1, 5.3). Versions we
// do not know count as a session key for somebody else.
func (f *Inspection) addSessionKey(s *packetStream) bool {
	tag := s.tag
	body, err := s.body(maxSessionKey)
	if err != nil || len(body) < 2 {
		return false
	}
	if tag == tagSKESK {
		f.Symmetric++
		return true
	}
	switch id, known := recipientID(body); {
	case !known:
	case id == "":
		f.Anonymous++
	default:
		f.Recipients = append(f.Recipients, id)
	}
	return true
}

// recipientID reads whom a PKESK is for; "" is an anonymous recipient. known is
// false if the version is not.
func recipientID(body []byte) (id string, known bool) {
	switch {
	case body[0] == 3 && len(body) >= 10:
		if binary.BigEndian.Uint64(body[1:]) == 0 {
			return "", true
		}
		return strings.ToUpper(hex.EncodeToString(body[1:9])), true
	case body[0] == 6 && int(body[1]) <= len(body)-2:
		if body[1] < 2 {
			return "", true
		}
		return strings.ToUpper(hex.EncodeToString(body[3 : 2+int(body[1])])), true
	}
	return "", false
}

// end checks the SEIPD packet, which is the current one, and that nothing follows.
func (f *Inspection) end(s *packetStream) bool {
	var version [1]byte
	if _, err := io.ReadFull(s, version[:]); err != nil {
		return false
	}
	n, err := s.skip()
	if err != nil {
		return false
	}
	f.SEIPDVersion, f.length = int(version[0]), n+1
	switch {
	case f.SEIPDVersion == 1 && n+1 >= minSEIPD1:
	case f.SEIPDVersion == 2 && n+1 >= minSEIPD2:
	default:
		return false
	}
	// Reading the end also checks the end of the armor.
	_, err = s.r.ReadByte()
	if f.Strict {
		// Behind version 2 there must not be a checksum (RFC 9580 6.1).
		f.Strict = !s.armor.loose && (s.armor.checksum || f.SEIPDVersion != 1)
	}
	return err == io.EOF
}

// bufferedFor makes the reader whose buffer decides how long a line may be.
func bufferedFor(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, armorBuffer) }
