package pgp

import "encoding/binary"

// CRC-24 of ASCII armor (RFC 9580 6.1.1). It protects against accidents of
// transport, nothing else.
const (
	crc24Init = 0xB704CE
	crc24Poly = 0x1864CFB
)

// crc24Tables[k][v] is the CRC of octet v followed by k zero octets, for
// slicing by 16. Read-only.
var crc24Tables = func() (t [16][256]uint32) {
	for v := range t[0] {
		c := uint32(v) << 16
		for range 8 {
			c <<= 1
			if c&0x1000000 != 0 {
				c ^= crc24Poly
			}
		}
		t[0][v] = c
	}
	for k := 1; k < len(t); k++ {
		for v, c := range t[k-1] {
			t[k][v] = c<<8&0xFFFFFF ^ t[0][c>>16]
		}
	}
	return t
}()

// crc24Update continues the CRC over p. It starts with crc24Init.
func crc24Update(crc uint32, p []byte) uint32 {
	t := &crc24Tables
	for len(p) >= 16 {
		a := binary.BigEndian.Uint64(p) ^ uint64(crc)<<40
		b := binary.BigEndian.Uint64(p[8:])
		crc = t[15][a>>56] ^ t[14][a>>48&255] ^ t[13][a>>40&255] ^ t[12][a>>32&255] ^
			t[11][a>>24&255] ^ t[10][a>>16&255] ^ t[9][a>>8&255] ^ t[8][a&255] ^
			t[7][b>>56] ^ t[6][b>>48&255] ^ t[5][b>>40&255] ^ t[4][b>>32&255] ^
			t[3][b>>24&255] ^ t[2][b>>16&255] ^ t[1][b>>8&255] ^ t[0][b&255]
		p = p[16:]
	}
	for _, v := range p {
		crc = crc<<8&0xFFFFFF ^ t[0][byte(crc>>16)^v]
	}
	return crc
}

// crc24Combine gives the CRC of A followed by B from the CRCs of both, each made
// from crc24Init, and the length of B in octets, in O(log lenB). The register
// after n more bits is r·xⁿ + f(B) over GF(2), so only the share of A's register
// has to be moved along.
func crc24Combine(a, b uint32, lenB int64) uint32 {
	power := uint32(1) // x^(8·lenB) modulo the polynomial
	square := uint32(1 << 8)
	for n := lenB; n > 0; n >>= 1 {
		if n&1 != 0 {
			power = crc24Multiply(power, square)
		}
		square = crc24Multiply(square, square)
	}
	return b ^ crc24Multiply(a^crc24Init, power)
}

// crc24Multiply multiplies two polynomials over GF(2) modulo the CRC's.
func crc24Multiply(a, b uint32) uint32 {
	var r uint32
	for i := 23; i >= 0; i-- {
		r <<= 1
		if r&0x1000000 != 0 {
			r ^= crc24Poly
		}
		if b>>i&1 != 0 {
			r ^= a
		}
	}
	return r
}
