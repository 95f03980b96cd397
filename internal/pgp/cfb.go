package pgp

import (
	"crypto/cipher"
	"crypto/subtle"
)

// cfbEncrypter is cipher feedback over a 16-octet block cipher with an IV of
// zeros, as SEIPD version 1 uses it (RFC 9580 5.13.1, without resynchronisation).
//
// The encryption of each block waits for the one before, so what counts is how
// little stands between two calls of the cipher: the previous ciphertext block
// is used where it lies.
type cfbEncrypter struct {
	block  cipher.Block
	last   [16]byte // ciphertext block before the next
	stream [16]byte // scratch
}

// encrypt encrypts src into dst; they are the same memory or do not overlap.
// Only the last call may have a length that is no multiple of 16.
func (c *cfbEncrypter) encrypt(dst, src []byte) {
	key, last := c.stream[:], c.last[:]
	n := len(src) &^ 15
	for i := 0; i < n; i += 16 {
		c.block.Encrypt(key, last)
		last = dst[i : i+16 : i+16]
		subtle.XORBytes(last, src[i:i+16], key)
	}
	if n < len(src) {
		c.block.Encrypt(key, last)
		subtle.XORBytes(dst[n:], src[n:], key)
	}
	copy(c.last[:], last)
}
