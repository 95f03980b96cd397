package pgp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"

	"github.com/ProtonMail/go-crypto/ocb"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

const (
	seipd2Version = 2
	// seipd2ChunkOctet says 32 KiB, one sealChunk: 2^(octet+6).
	seipd2ChunkOctet = 9
	seipd2Salt       = 32
	aeadTag          = 16
	// seipd2Head is version, cipher, mode, chunk octet and salt.
	seipd2Head = 4 + seipd2Salt
)

// chooseSuite picks cipher and mode that everyone asks for: GCM, which is many
// times faster, before OCB, AES-256 before AES-128. AES-128 with OCB is what
// every reader of SEIPD version 2 has (RFC 9580 5.2.3.15).
func chooseSuite(preferences [][][2]uint8) packet.CipherSuite {
	for _, s := range []packet.CipherSuite{
		{Cipher: packet.CipherAES256, Mode: packet.AEADModeGCM},
		{Cipher: packet.CipherAES256, Mode: packet.AEADModeOCB},
		{Cipher: packet.CipherAES128, Mode: packet.AEADModeGCM},
	} {
		if everyoneLists(preferences, [2]uint8{uint8(s.Cipher), uint8(s.Mode)}) {
			return s
		}
	}
	return packet.CipherSuite{Cipher: packet.CipherAES128, Mode: packet.AEADModeOCB}
}

func everyoneLists(preferences [][][2]uint8, suite [2]uint8) bool {
	for _, p := range preferences {
		found := false
		for _, s := range p {
			found = found || s == suite
		}
		if !found {
			return false
		}
	}
	return true
}

// aead encrypts for SEIPD version 2 (RFC 9580 5.13.2).
type aead struct {
	armor *armorWriter
	mode  cipher.AEAD
	ad    [5]byte // type, version, cipher, mode, chunk octet
	nonce []byte  // its last eight octets are the number of the chunk
	chunks,
	octets uint64 // of plaintext, so far
}

// newAEAD writes the packet header and derives the message key.
func newAEAD(s *Sealing, a *armorWriter) (*aead, error) {
	e := &aead{armor: a, ad: [5]byte{0xC0 | tagSEIPD, seipd2Version,
		byte(s.suite.Cipher), byte(s.suite.Mode), seipd2ChunkOctet}}
	var salt [seipd2Salt]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, err
	}
	nonceSize := s.suite.Mode.IvLength()
	derived, err := hkdf.Key(sha256.New, s.key, salt[:], string(e.ad[:]), len(s.key)+nonceSize-8)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived[:len(s.key)])
	if err != nil {
		return nil, err
	}
	if s.suite.Mode == packet.AEADModeGCM {
		e.mode, err = cipher.NewGCM(block)
	} else {
		e.mode, err = ocb.NewOCB(block)
	}
	if err != nil {
		return nil, err
	}
	e.nonce = append(derived[len(s.key):len(derived):len(derived)], make([]byte, 8)...)

	plain := literalSize(s.size)
	chunks := (plain + sealChunk - 1) / sealChunk
	head := appendHeader(make([]byte, 0, 64), tagSEIPD, seipd2Head+plain+(chunks+1)*aeadTag)
	head = append(append(head, e.ad[1:]...), salt[:]...)
	_, err = a.Write(head)
	return e, err
}

func (e *aead) chunk(dst, src []byte, last bool) error {
	e.octets += uint64(len(src))
	dst = e.mode.Seal(dst[:0], e.nonce, src, e.ad[:])
	e.advance()
	if last {
		// An empty chunk whose associated data also has the length, so that nobody
		// can cut the message short.
		ad := binary.BigEndian.AppendUint64(e.ad[:len(e.ad):len(e.ad)], e.octets)
		dst = e.mode.Seal(dst, e.nonce, nil, ad)
	}
	_, err := e.armor.Write(dst)
	return err
}

func (e *aead) advance() {
	e.chunks++
	binary.BigEndian.PutUint64(e.nonce[len(e.nonce)-8:], e.chunks)
}
