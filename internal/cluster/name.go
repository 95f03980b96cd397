package cluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// names makes the names of what lies in Redis, and the frames of values. A name is
// the prefix, what it is, and a hash of the key that only the nodes can compute:
//
//	postern:v:…   a cached value, or the mark of an invalidation
//	postern:l:…   a lease: its owner's token
//	postern:r:…   a rate counter
//	postern:p     nothing ever; it is deleted to see whether Redis can be written
//	postern       the channel of notices
//
// Every command and script has one key, so Redis Cluster needs no hash tags.
type names struct {
	prefix string
	secret []byte
}

func (n names) channel() string { return n.prefix }
func (n names) probe() string   { return n.prefix + ":p" }

// value names a cached value. Values lie under other names after Redis was started
// again or another one took over, which era tells: what it then brings back from its
// disk, or from a replica that lagged behind, may have been invalidated since.
func (n names) value(era, key string) string { return n.prefix + ":v:" + n.hash("value", era, key) }
func (n names) lease(key string) string      { return n.prefix + ":l:" + n.hash("lease", "", key) }
func (n names) rate(key string) string       { return n.prefix + ":r:" + n.hash("rate", "", key) }

func (n names) hash(kind, era, key string) string {
	return base64.RawURLEncoding.EncodeToString(n.sum(kind, era, key)[:18])
}

// sum is a MAC of three strings, of which only the last may hold a zero octet.
func (n names) sum(kind, era, last string) []byte {
	h := hmac.New(sha256.New, n.secret)
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write([]byte(era))
	h.Write([]byte{0})
	h.Write([]byte(last))
	return h.Sum(nil)
}

// A frame is how a value lies in Redis: version, kind, MAC, value. The MAC covers the
// name too, so that neither rubbish nor a value of another key is ever taken for this
// one's; with a secret nobody but the nodes can make one.
const (
	valueMark = "P\x01v"
	// heldMark is the whole frame that an invalidation leaves for HoldOff.
	heldMark  = "P\x01i"
	macSize   = 16
	frameSize = len(valueMark) + macSize // besides the value
)

// seal returns the frame of a value that is to lie under name.
func (n names) seal(name string, value []byte) []byte {
	frame := make([]byte, frameSize, frameSize+len(value))
	copy(frame, valueMark)
	frame = append(frame, value...)
	copy(frame[len(valueMark):], n.mac(name, value))
	return frame
}

// open returns the value of a frame, a part of it, or false if it is none.
func (n names) open(name string, frame []byte) ([]byte, bool) {
	if len(frame) < frameSize || len(frame) > frameSize+MaxValue || string(frame[:len(valueMark)]) != valueMark {
		return nil, false
	}
	value := frame[frameSize:]
	return value, hmac.Equal(frame[len(valueMark):frameSize], n.mac(name, value))
}

func (n names) mac(name string, value []byte) []byte {
	h := hmac.New(sha256.New, n.secret)
	h.Write([]byte("frame\x00"))
	h.Write([]byte(name))
	h.Write([]byte{0})
	h.Write(value)
	return h.Sum(nil)[:macSize]
}
