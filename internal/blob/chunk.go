package blob

import "sync"

// chunk is a pooled buffer for octets, with one unit of room for a record's header
// before them and at least one for padding and tag behind.
type chunk struct {
	b    []byte
	from *chunks
	kind int // index of its pool
}

// room returns how many octets the chunk takes.
func (c *chunk) room() int { return len(c.b) - 2*unit }

// free gives the chunk back. Nobody may use it after that. A nil chunk is none.
func (c *chunk) free() {
	if c == nil {
		return
	}
	c.from.pools[c.kind].Put(c)
	if c.kind == largest {
		<-c.from.taken
	}
}

// chunks are the pools by size. The sizes of all but the last are four times apart:
// most mail fits the first two. Of the last there are never more than maxLargest, so
// that 200 writers of long blobs stay modest; who gets none goes to a file at once.
type chunks struct {
	pools [largest + 1]sync.Pool
	taken chan struct{} // one for each chunk of the last size in use
}

const (
	smallestChunk = 4 << 10
	// streamSize is the size of the chunk through which a large blob flows.
	streamSize = 64 << 10
	largest    = 4 // 4 KiB, 16, 64, 256, and maxSmall
	maxLargest = 16
)

func newChunks() *chunks { return &chunks{taken: make(chan struct{}, maxLargest)} }

// get returns a chunk for at least n octets, or nil if the large ones are all in use; n
// is at most maxSmall.
func (c *chunks) get(n int) *chunk {
	i, size := 0, smallestChunk
	for size < n && i < largest {
		i, size = i+1, size<<2
	}
	if i == largest {
		size = maxSmall
		select {
		case c.taken <- struct{}{}:
		default:
			return nil
		}
	}
	if got, ok := c.pools[i].Get().(*chunk); ok {
		return got
	}
	return &chunk{b: make([]byte, size+2*unit), from: c, kind: i}
}
