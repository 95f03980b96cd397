package pgp

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const (
	// sealChunk is how much payload is encrypted at a time, in octets. It is a
	// multiple of the cipher's block and small enough to stay in the cache.
	sealChunk = 32 << 10
	// sealSlack is room behind a chunk for what the format appends to it.
	sealSlack = 64
)

// Sealing is one message being sealed: one session key, one encryption, and any
// number of recipients who share it, each by session key packets of their own.
//
// Encrypt is called once. Wrap may be called at any time and from several
// goroutines; Head at any time; Tail after the writer of Encrypt was closed.
// Head + what Encrypt wrote + Tail is one armored OpenPGP message.
type Sealing struct {
	size    int64 // octets of payload
	purpose Purpose
	version int // of the SEIPD packet
	suite   packet.CipherSuite
	key     []byte // session key

	started bool
	closed  bool
	crc     uint32 // of the SEIPD packet, version 1 only
	octets  int64  // length of the SEIPD packet
}

// NewSealing prepares to seal a payload of size octets to certs; every
// certificate that Wrap will get later must be among them. All must be usable at
// now, else the error wraps the reason (see Usable).
//
// The format is SEIPD version 1 with AES-256, which every client reads. Version 2
// (AEAD) is used only if every certificate is of version 6 and asks for it: the
// feature bit of a v4 certificate is no evidence that its owner's programs can
// read it.
func NewSealing(certs []*Certificate, size int64, now time.Time) (*Sealing, error) {
	return NewSealingFor(Storage, certs, size, now)
}

// NewSealingFor is NewSealing for a purpose, which decides on the subkeys.
func NewSealingFor(p Purpose, certs []*Certificate, size int64, now time.Time) (*Sealing, error) {
	if len(certs) == 0 {
		return nil, ErrNoRecipients
	}
	if size < 0 || size > maxPacket-1<<20 {
		return nil, fmt.Errorf("seal %d octets: %w", size, ErrSize)
	}
	s := &Sealing{size: size, purpose: p, version: 2}
	suites := make([][][2]uint8, 0, len(certs))
	for _, c := range certs {
		r, err := c.chooseFor(p, now)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", c.KeyID(), err)
		}
		if c.Version() < 6 || !r.aead {
			s.version = 1
		}
		suites = append(suites, r.suites)
	}
	keySize := 32
	if s.version == 2 {
		s.suite = chooseSuite(suites)
		keySize = s.suite.Cipher.KeySize()
	}
	s.key = make([]byte, keySize)
	if _, err := rand.Read(s.key); err != nil {
		return nil, fmt.Errorf("make session key: %w", err)
	}
	return s, nil
}

// Version is the version of the SEIPD packet, 1 or 2.
func (s *Sealing) Version() int { return s.version }

// Lines is the number of lines of octets of armored data, as Encrypt writes them.
func Lines(octets int64) int64 { return (octets + lineWidth - 1) / lineWidth }

// cipher is the symmetric algorithm the session key is for.
func (s *Sealing) cipher() packet.CipherFunction {
	if s.version == 2 {
		return s.suite.Cipher
	}
	return packet.CipherAES256
}

// marker is a Marker packet (RFC 9580 5.8), which every reader skips.
var marker = [...]byte{0xC0 | tagMarker, 3, 'P', 'G', 'P'}

// Wrap returns the session key packets for one mailbox's certificates: PKESK
// version 3, or 6 with SEIPD version 2 (RFC 9580 10.3.2.1 forbids mixing).
// Its length is a multiple of 3, by Marker packets in front, so that in base64 it
// ends where the encrypted data begins.
func (s *Sealing) Wrap(certs []*Certificate, now time.Time) ([]byte, error) {
	b, err := s.wrap(certs, now)
	if err != nil {
		return nil, err
	}
	return padToQuantum(b), nil
}

func (s *Sealing) wrap(certs []*Certificate, now time.Time) ([]byte, error) {
	if len(certs) == 0 {
		return nil, ErrNoRecipients
	}
	var b bytes.Buffer
	b.Grow(len(certs)*160 + 2*len(marker))
	done := make(map[string]bool, len(certs))
	for _, c := range certs {
		if s.version == 2 && c.Version() < 6 {
			return nil, fmt.Errorf("certificate %s: %w", c.KeyID(), ErrVersion)
		}
		r, err := c.chooseFor(s.purpose, now)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", c.KeyID(), err)
		}
		if done[string(r.key.Fingerprint)] {
			continue // the same subkey in an older copy of the same certificate
		}
		done[string(r.key.Fingerprint)] = true
		err = packet.SerializeEncryptedKeyAEAD(&b, r.key, s.cipher(), s.version == 2, s.key, nil)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: wrap session key: %w: %v", c.KeyID(), ErrAlgorithm, err)
		}
	}
	return b.Bytes(), nil
}

// padToQuantum puts Marker packets before pkesk until the length is a multiple of
// three. They stand first because that is where readers expect one.
func padToQuantum(pkesk []byte) []byte {
	if len(pkesk)%3 == 0 {
		return pkesk
	}
	b := make([]byte, 0, len(pkesk)+2*len(marker))
	for (len(b)+len(pkesk))%3 != 0 {
		b = append(b, marker[:]...)
	}
	return append(b, pkesk...)
}

// Head returns the begin line of the armor and the lines of pkesk, which is what
// Wrap returned.
func (s *Sealing) Head(pkesk []byte) []byte {
	b := make([]byte, 0, 64+(len(pkesk)/lineOctets+1)*lineWidth)
	return appendLines(appendArmorHead(b, typeMessage), pkesk)
}

// Tail returns the end of the armor: the checksum over pkesk and the encrypted
// data (none with SEIPD version 2, RFC 9580 6.1) and the end line. It panics if
// Encrypt has not been closed: what it returned would be wrong.
func (s *Sealing) Tail(pkesk []byte) []byte {
	if !s.closed {
		panic("pgp: Tail of a Sealing that is not closed")
	}
	crc := crc24Combine(crc24Update(crc24Init, pkesk), s.crc, s.octets)
	return appendArmorTail(make([]byte, 0, 64), typeMessage, s.version == 1, crc)
}

// Encrypt writes the armor lines of the SEIPD packet to w. The caller writes
// exactly the announced number of octets and calls Close, whose error is ErrSize
// if it was another number. What is written to w before Close succeeded is no
// complete message. Memory does not depend on the size.
func (s *Sealing) Encrypt(w io.Writer) (io.WriteCloser, error) { return s.encrypt(w, nil) }

// EncryptTo is Encrypt of a message that only certs read: it writes all of the armored
// message, with nothing in it but their session key packets and the SEIPD packet, which
// is what the strictest readers want. Head, Tail and Wrap are not for it.
func (s *Sealing) EncryptTo(w io.Writer, certs []*Certificate, now time.Time) (io.WriteCloser, error) {
	pkesk, err := s.wrap(certs, now)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(appendArmorHead(make([]byte, 0, 64), typeMessage)); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return s.encrypt(w, pkesk)
}

// Seal returns data as one armored message to certs, as EncryptTo writes it. It is for
// what is small enough to be in memory twice.
func Seal(data []byte, certs []*Certificate, now time.Time) ([]byte, error) {
	s, err := NewSealing(certs, int64(len(data)), now)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w, err := s.EncryptTo(&b, certs, now)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// encrypt begins the SEIPD packet, behind the session key packets in front if there are
// any: then the end of the armor is written too.
func (s *Sealing) encrypt(w io.Writer, front []byte) (io.WriteCloser, error) {
	if s.started {
		return nil, errors.New("encrypt: called twice")
	}
	s.started = true
	a := &armorWriter{w: w, withCRC: s.version == 1, crc: crc24Init}
	e := &encrypter{s: s, armor: a, whole: front != nil, left: s.size, scratch: sealScratch.Get().(*scratchBuffers)}
	a.out = e.scratch.out[:]
	if _, err := a.Write(front); err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	var lead []byte
	var err error
	if s.version == 1 {
		e.chunks, lead, err = newMDC(s, a)
	} else {
		e.chunks, err = newAEAD(s, a)
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	e.n = copy(e.scratch.chunk[:], appendLiteralHeader(lead, s.size))
	return e, nil
}

// literalHeader is the fixed part of a Literal Data packet: binary, no file name,
// no date, which would only tell the reader what the sender did not (RFC 9580 5.9).
const literalHeader = 6

func appendLiteralHeader(b []byte, size int64) []byte {
	b = appendHeader(b, tagLiteral, literalHeader+size)
	return append(b, 'b', 0, 0, 0, 0, 0)
}

// literalSize is the length of the whole Literal Data packet.
func literalSize(size int64) int64 {
	return int64(len(appendLiteralHeader(nil, size))) + size
}

// chunker encrypts and authenticates the plaintext of one SEIPD packet.
type chunker interface {
	// chunk encrypts src into dst, which has sealSlack octets more, and writes it.
	// Every call but the last has sealChunk octets.
	chunk(dst, src []byte, last bool) error
}

// scratchBuffers is what one Encrypt needs, kept for the next.
type scratchBuffers struct {
	chunk [sealChunk + sealSlack]byte
	out   [armorBatchLines * lineWidth]byte
}

var sealScratch = sync.Pool{New: func() any { return new(scratchBuffers) }}

// encrypter cuts the payload into chunks. The chunk buffer holds plaintext only
// until it is full; it is then encrypted where it lies.
type encrypter struct {
	s       *Sealing
	armor   *armorWriter
	chunks  chunker
	scratch *scratchBuffers
	whole   bool  // the end of the armor is written here
	n       int   // octets in the chunk
	left    int64 // octets of payload still to come
	err     error
}

func (e *encrypter) Write(p []byte) (int, error) {
	if e.err == nil && int64(len(p)) > e.left {
		e.err = ErrSize
	}
	if e.err != nil {
		return 0, e.err
	}
	total := len(p)
	e.left -= int64(total)
	buf := e.scratch.chunk[:]
	for len(p) > 0 {
		// A chunk is written when more follows, because the last is different.
		if e.n == sealChunk {
			if e.err = e.chunks.chunk(buf, buf[:sealChunk], false); e.err != nil {
				return 0, e.err
			}
			e.n = 0
		}
		if e.n == 0 && len(p) > sealChunk {
			if e.err = e.chunks.chunk(buf, p[:sealChunk], false); e.err != nil {
				return 0, e.err
			}
			p = p[sealChunk:]
			continue
		}
		n := copy(buf[e.n:sealChunk], p)
		e.n += n
		p = p[n:]
	}
	return total, nil
}

// Close writes the last chunk and the integrity protection. It may be called
// again; only the first call does anything.
func (e *encrypter) Close() error {
	if e.scratch == nil {
		return e.err
	}
	if e.err == nil && e.left != 0 {
		e.err = ErrSize
	}
	buf := e.scratch.chunk[:]
	if e.err == nil {
		e.err = e.chunks.chunk(buf, buf[:e.n], true)
	}
	if e.err == nil {
		e.err = e.armor.Close()
	}
	if e.err == nil {
		e.s.crc, e.s.octets, e.s.closed = e.armor.crc, e.armor.octets, true
		if e.whole {
			_, e.err = e.armor.w.Write(appendArmorTail(make([]byte, 0, 64), typeMessage, e.armor.withCRC, e.armor.crc))
		}
	}
	clear(buf[:e.n]) // after a fault it may still be plaintext
	sealScratch.Put(e.scratch)
	e.scratch = nil
	e.armor.out = nil
	return e.err
}
