package pgp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// Packet type ids (RFC 9580 5).
const (
	tagPKESK        = 1
	tagSignature    = 2
	tagSKESK        = 3
	tagSecretKey    = 5
	tagPublicKey    = 6
	tagSecretSubkey = 7
	tagSED          = 9
	tagMarker       = 10
	tagLiteral      = 11
	tagTrust        = 12
	tagUserID       = 13
	tagPublicSubkey = 14
	tagSEIPD        = 18
	tagMDC          = 19
	tagPadding      = 21
)

var errFraming = errors.New("malformed OpenPGP packet framing")

// maxPacket is the largest body a definite length can announce (RFC 9580 4.2.1).
const maxPacket = 1<<32 - 1

// appendHeader appends a new-format packet header with a definite length
// (RFC 9580 4.2.1). n is at most maxPacket.
func appendHeader(b []byte, tag byte, n int64) []byte {
	b = append(b, 0xC0|tag)
	switch {
	case n < 192:
		return append(b, byte(n))
	case n < 8384:
		return append(b, byte((n-192)>>8)+192, byte(n-192))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xFF), uint32(n))
}

// rawPacket is one packet of a certificate or secret key, still unparsed.
type rawPacket struct {
	tag  byte
	body []byte
	raw  []byte // header and body
}

// cutPacket takes the first packet off data. Only definite lengths are allowed:
// partial and indeterminate ones are for data packets (RFC 9580 4.2.1.4).
func cutPacket(data []byte) (p rawPacket, rest []byte, err error) {
	if len(data) < 2 || data[0]&0x80 == 0 {
		return p, nil, errFraming
	}
	var n, head uint64
	if data[0]&0x40 == 0 {
		p.tag = data[0] >> 2 & 0x0F
		octets := uint64(1) << (data[0] & 3)
		head = 1 + octets
		if octets > 4 || uint64(len(data)) < head {
			return p, nil, errFraming
		}
		for _, c := range data[1:head] {
			n = n<<8 | uint64(c)
		}
	} else {
		p.tag = data[0] & 0x3F
		n, head = cutLength(data[1:])
		if head == 0 {
			return p, nil, errFraming
		}
		head++
	}
	if n > uint64(len(data))-head {
		return p, nil, errFraming
	}
	p.raw = data[:head+n]
	p.body = data[head : head+n]
	return p, data[head+n:], nil
}

// cutLength reads a definite new-format length; octets is 0 if there is none.
func cutLength(b []byte) (n, octets uint64) {
	switch {
	case len(b) >= 1 && b[0] < 192:
		return uint64(b[0]), 1
	case len(b) >= 2 && b[0] < 224:
		return uint64(b[0]-192)<<8 + uint64(b[1]) + 192, 2
	case len(b) >= 5 && b[0] == 255:
		return uint64(binary.BigEndian.Uint32(b[1:])), 5
	}
	return 0, 0
}

// packetStream walks the packets of a message without keeping them. After next,
// Read gives the body of the current packet. Framing faults are errFraming;
// everything else comes from the reader below.
type packetStream struct {
	r       *bufio.Reader
	armor   *armorReader // below r; nil if the message is binary
	tag     byte
	left    int64 // octets left of the body, or of its current part
	partial bool  // another length follows when left is used up
	head    [6]byte
	nhead   int // octets of the header of the current packet, in head
}

// next skips what is left of the current packet and reads the next header.
// It returns io.EOF only at the boundary between packets.
func (s *packetStream) next() error {
	if _, err := s.skip(); err != nil {
		return err
	}
	c, err := s.r.ReadByte()
	if err != nil {
		return err
	}
	if c&0x80 == 0 {
		return errFraming
	}
	s.head[0], s.nhead = c, 1
	if c&0x40 != 0 {
		s.tag = c & 0x3F
		return s.length()
	}
	s.tag = c >> 2 & 0x0F
	if c&3 == 3 {
		return errFraming // indeterminate length: no packet of an encrypted message may have it
	}
	b, err := s.take(1 << (c & 3))
	if err != nil {
		return err
	}
	s.left, s.partial = 0, false
	for _, o := range b {
		s.left = s.left<<8 | int64(o)
	}
	return nil
}

// take reads n octets of header and remembers them.
func (s *packetStream) take(n int) ([]byte, error) {
	b := s.head[s.nhead : s.nhead+n]
	if _, err := io.ReadFull(s.r, b); err != nil {
		return nil, cutShort(err)
	}
	s.nhead += n
	return b, nil
}

// length reads a new-format length, definite or partial.
func (s *packetStream) length() error {
	b, err := s.take(1)
	if err != nil {
		return err
	}
	s.partial = false
	switch c := b[0]; {
	case c < 192:
		s.left = int64(c)
	case c < 224:
		if b, err = s.take(1); err != nil {
			return err
		}
		s.left = int64(c-192)<<8 + int64(b[0]) + 192
	case c < 255:
		s.left, s.partial = 1<<(c&0x1F), true
	default:
		if b, err = s.take(4); err != nil {
			return err
		}
		s.left = int64(binary.BigEndian.Uint32(b))
	}
	return nil
}

// continued moves to the next part of a packet with partial lengths; io.EOF at
// the end of the packet.
func (s *packetStream) continued() error {
	for s.left == 0 {
		if !s.partial {
			return io.EOF
		}
		s.nhead = 1
		if err := s.length(); err != nil {
			return err
		}
	}
	return nil
}

// Read reads from the body of the current packet.
func (s *packetStream) Read(p []byte) (int, error) {
	if err := s.continued(); err != nil {
		return 0, err
	}
	if int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.r.Read(p)
	s.left -= int64(n)
	if err == io.EOF {
		err = errFraming
	}
	return n, err
}

// skip discards the rest of the current packet and says how long it was.
func (s *packetStream) skip() (int64, error) {
	var total int64
	for {
		if err := s.continued(); err == io.EOF {
			return total, nil
		} else if err != nil {
			return total, err
		}
		// A part may be longer than an int of a 32-bit machine.
		n, err := s.r.Discard(int(min(s.left, 1<<30)))
		s.left -= int64(n)
		total += int64(n)
		if err != nil {
			return total, cutShort(err)
		}
	}
}

// body reads the whole body of a packet with a definite length of at most limit.
func (s *packetStream) body(limit int64) ([]byte, error) {
	if s.partial || s.left > limit {
		return nil, errFraming
	}
	b := make([]byte, s.left)
	if _, err := io.ReadFull(s, b); err != nil {
		return nil, cutShort(err)
	}
	return b, nil
}

// cutShort turns an end in the middle of a packet into a framing error.
func cutShort(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errFraming
	}
	return err
}
