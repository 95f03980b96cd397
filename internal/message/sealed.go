package message

// SealedStructure is the structure of a sealed message that lies in three pieces:
// head (OuterHeader and the start of the armor), a blob of bodyOctets octets that
// holds bodyLines LFs, and tail (the end of the armor and ClosingBoundary). It is
// what Scan makes of the three in one, without looking at the blob. head must end
// with a whole line and the blob must not hold a line that begins with "--",
// which base64 armor never does.
func SealedStructure(head []byte, bodyOctets, bodyLines int64, tail []byte) *Part {
	joined := make([]byte, 0, len(head)+len(tail))
	joined = append(append(joined, head...), tail...)
	root := ScanBytes(joined, Limits{})
	root.insert(int64(len(head)), bodyOctets, bodyLines)
	return root
}

// insert makes room for octets at the offset at in every part that encloses it.
func (p *Part) insert(at, octets, lines int64) {
	p.Walk(func(p *Part) {
		if p.BodyStart <= at && p.BodyEnd >= at {
			p.Lines += lines
			p.BodyEnd += octets
		}
	})
}
