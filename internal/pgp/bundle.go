package pgp

import (
	"strconv"
	"strings"
)

// Armor returns several certificates in one block of ASCII armor, as key servers give
// them. Nil of none.
func Armor(certs []*Certificate) []byte {
	if len(certs) == 0 {
		return nil
	}
	var data []byte
	version := 6
	for _, c := range certs {
		data = append(data, c.data...)
		version = min(version, c.material.version)
	}
	return armored(typePublicKey, data, version)
}

// AlgorithmID is the number of the primary key's algorithm (RFC 9580 9.1).
func (c *Certificate) AlgorithmID() int { return int(c.material.algorithm) }

// Bits is the size of the primary key as key servers tell it: that of the modulus or
// of the curve.
func (c *Certificate) Bits() int {
	name := c.material.name
	if strings.HasSuffix(name, "25519") {
		return 256 // the field has 255, but all software says 256
	}
	n, _ := strconv.Atoi(name[strings.LastIndexAny(name, " -d")+1:])
	return n
}
