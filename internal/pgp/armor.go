package pgp

import (
	"encoding/base64"
	"encoding/binary"
	"io"
)

// ASCII armor (RFC 9580 6.2), written with CRLF and 64 characters a line.
const (
	armorBegin = "-----BEGIN PGP "
	armorEnd   = "-----END PGP "
	armorDash  = "-----"

	typeMessage     = "MESSAGE"
	typePublicKey   = "PUBLIC KEY BLOCK"
	typePrivateKey  = "PRIVATE KEY BLOCK"
	lineOctets      = 48 // of data on a line
	lineChars       = 64
	lineWidth       = lineChars + 2
	armorBatchLines = 512
)

// base64Pairs gives the two characters of twelve bits, low octet first. Read-only.
var base64Pairs = func() (t [4096]uint16) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range t {
		t[i] = uint16(alphabet[i>>6]) | uint16(alphabet[i&63])<<8
	}
	return t
}()

// encodeLines writes len(src)/48 full lines into dst, which has 66 octets for each.
func encodeLines(dst, src []byte) {
	for len(src) >= lineOctets {
		s := (*[lineOctets]byte)(src)
		d := (*[lineWidth]byte)(dst)
		for i := range 7 {
			encodeSix(d[i*8:i*8+8], binary.BigEndian.Uint64(s[i*6:i*6+8])>>16)
		}
		// The last group must not read behind the line.
		encodeSix(d[56:64], binary.BigEndian.Uint64(s[40:48]))
		d[64], d[65] = '\r', '\n'
		src, dst = src[lineOctets:], dst[lineWidth:]
	}
}

// encodeSix writes the low six octets of v as eight characters.
func encodeSix(d []byte, v uint64) {
	t := &base64Pairs
	binary.LittleEndian.PutUint64(d, uint64(t[v>>36&0xFFF])|uint64(t[v>>24&0xFFF])<<16|
		uint64(t[v>>12&0xFFF])<<32|uint64(t[v&0xFFF])<<48)
}

// armorWriter turns octets into armor lines. It keeps at most one unfinished
// line, whatever the sizes of the writes.
type armorWriter struct {
	w       io.Writer
	out     []byte // scratch for armorBatchLines lines
	rest    [lineOctets]byte
	nrest   int
	withCRC bool
	crc     uint32
	octets  int64 // written so far
}

func (a *armorWriter) Write(p []byte) (int, error) {
	total := len(p)
	a.octets += int64(total)
	if a.withCRC {
		a.crc = crc24Update(a.crc, p)
	}
	if a.nrest > 0 {
		n := copy(a.rest[a.nrest:], p)
		a.nrest += n
		p = p[n:]
		if a.nrest < lineOctets {
			return total, nil
		}
		if err := a.lines(a.rest[:]); err != nil {
			return 0, err
		}
		a.nrest = 0
	}
	for len(p) >= lineOctets {
		n := min(len(p)/lineOctets, armorBatchLines) * lineOctets
		if err := a.lines(p[:n]); err != nil {
			return 0, err
		}
		p = p[n:]
	}
	a.nrest = copy(a.rest[:], p)
	return total, nil
}

// lines writes whole lines.
func (a *armorWriter) lines(p []byte) error {
	out := a.out[:len(p)/lineOctets*lineWidth]
	encodeLines(out, p)
	_, err := a.w.Write(out)
	return err
}

// Close ends the last line.
func (a *armorWriter) Close() error {
	if a.nrest == 0 {
		return nil
	}
	line := base64.StdEncoding.AppendEncode(a.out[:0], a.rest[:a.nrest])
	a.nrest = 0
	_, err := a.w.Write(append(line, '\r', '\n'))
	return err
}

// appendLines appends the armor lines of data.
func appendLines(b, data []byte) []byte {
	whole := len(data) / lineOctets
	if whole > 0 {
		at := len(b)
		b = append(b, make([]byte, whole*lineWidth)...)
		encodeLines(b[at:], data)
	}
	if rest := data[whole*lineOctets:]; len(rest) > 0 {
		b = base64.StdEncoding.AppendEncode(b, rest)
		b = append(b, '\r', '\n')
	}
	return b
}

// appendArmorHead appends the begin line and the empty line behind it.
func appendArmorHead(b []byte, kind string) []byte {
	b = append(b, armorBegin...)
	b = append(b, kind...)
	return append(b, armorDash+"\r\n\r\n"...)
}

// appendArmorTail appends the checksum line, if there is one, and the end line.
func appendArmorTail(b []byte, kind string, withCRC bool, crc uint32) []byte {
	if withCRC {
		b = append(b, '=')
		b = base64.StdEncoding.AppendEncode(b, []byte{byte(crc >> 16), byte(crc >> 8), byte(crc)})
		b = append(b, '\r', '\n')
	}
	b = append(b, armorEnd...)
	b = append(b, kind...)
	return append(b, armorDash+"\r\n"...)
}

// armored returns data in armor. A checksum must not stand where the content is
// of version 6 (RFC 9580 6.1).
func armored(kind string, data []byte, version int) []byte {
	b := make([]byte, 0, 128+(len(data)/lineOctets+1)*lineWidth)
	b = appendArmorHead(b, kind)
	b = appendLines(b, data)
	return appendArmorTail(b, kind, version < 6, crc24Update(crc24Init, data))
}
