package pgp

import (
	"crypto/aes"
	"crypto/rand"
	"crypto/sha1"
	"hash"
)

const (
	seipd1Version = 1
	seipd1Prefix  = aes.BlockSize + 2 // a random block, its last two octets again
	mdcSize       = 2 + sha1.Size
)

// mdc encrypts for SEIPD version 1: CFB over a random prefix, the Literal Data
// packet and a Modification Detection Code (RFC 9580 5.13.1). SHA-1 is what the
// format prescribes; that collisions of it can be made does not help against it.
type mdc struct {
	armor *armorWriter
	cfb   cfbEncrypter
	sha   hash.Hash
}

// newMDC writes the packet header. lead is what must come before the payload in
// the first chunk.
func newMDC(s *Sealing, a *armorWriter) (m *mdc, lead []byte, err error) {
	block, err := aes.NewCipher(s.key)
	if err != nil {
		return nil, nil, err
	}
	head := appendHeader(make([]byte, 0, 8), tagSEIPD, 1+seipd1Prefix+literalSize(s.size)+mdcSize)
	if _, err = a.Write(append(head, seipd1Version)); err != nil {
		return nil, nil, err
	}
	lead = make([]byte, seipd1Prefix, seipd1Prefix+16)
	if _, err := rand.Read(lead[:aes.BlockSize]); err != nil {
		return nil, nil, err
	}
	copy(lead[aes.BlockSize:], lead[aes.BlockSize-2:aes.BlockSize])
	return &mdc{armor: a, cfb: cfbEncrypter{block: block}, sha: sha1.New()}, lead, nil
}

func (m *mdc) chunk(dst, src []byte, last bool) error {
	m.sha.Write(src)
	if last {
		trailer := [2]byte{0xC0 | tagMDC, sha1.Size}
		m.sha.Write(trailer[:])
		n := len(src) // src is the beginning of dst
		src = append(dst[:n], trailer[:]...)
		src = m.sha.Sum(src)
	}
	dst = dst[:len(src)]
	m.cfb.encrypt(dst, src)
	_, err := m.armor.Write(dst)
	return err
}
