package cluster

import (
	"encoding/binary"
	"errors"
)

// What a notice says.
const (
	noticeBeat      = 'b' // nothing: its sender hears whether it can hear
	noticeWake      = 'w' // wake the topics named
	noticeWakeAll   = 'W' // wake all topics
	noticeForget    = 'i' // the keys named were invalidated
	noticeForgetAll = 'I' // anything may have been
	noticeReleased  = 'l' // the leases named, by their hashes, were given back
)

const (
	noticeVersion = "P\x01"
	noticeHead    = len(noticeVersion) + nodeSize + 1
	nodeSize      = 8
	// maxNotice bounds a notice, and maxName a name in it. A longer key or topic
	// is not named: all are meant then.
	maxNotice = 32 << 10
	maxName   = 1 << 10
)

var errNotice = errors.New("not a notice")

// notice is what nodes tell each other through the channel: version, the sender, what
// it is, and names, each after its length. It says only that something should be
// looked at again, so a false one costs time and nothing else.
type notice struct {
	from  [nodeSize]byte
	kind  byte
	names []string
}

// encode returns the notice as it is sent. All of its names have to be short enough,
// and together leave it below maxNotice.
func (n notice) encode() []byte {
	b := make([]byte, 0, noticeHead+64)
	b = append(b, noticeVersion...)
	b = append(b, n.from[:]...)
	b = append(b, n.kind)
	for _, name := range n.names {
		b = binary.AppendUvarint(b, uint64(len(name)))
		b = append(b, name...)
	}
	return b
}

// parseNotice reads what came from the channel.
func parseNotice(s string) (n notice, err error) {
	if len(s) < noticeHead || len(s) > maxNotice || s[:len(noticeVersion)] != noticeVersion {
		return n, errNotice
	}
	copy(n.from[:], s[len(noticeVersion):])
	n.kind = s[noticeHead-1]
	for rest := []byte(s[noticeHead:]); len(rest) > 0; {
		length, used := binary.Uvarint(rest)
		if used <= 0 || length > maxName || length > uint64(len(rest)-used) {
			return notice{}, errNotice
		}
		end := used + int(length)
		n.names = append(n.names, string(rest[used:end]))
		rest = rest[end:]
	}
	return n, nil
}

// nameSize is what a name takes in a notice, at most.
func nameSize(name string) int { return len(name) + 2 }
