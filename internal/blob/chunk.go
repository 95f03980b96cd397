package blob

import "sync"

// chunk is a pooled buffer for octets, with one unit of room for a record's header
// before them and at least one for padding and tag behind.
type chunk struct {
	b    []byte
	pool *sync.Pool
}

// room returns how many octets the chunk takes.
func (c *chunk) room() int { return len(c.b) - 2*unit }

// free gives the chunk back. Nobody may use it after that. A nil chunk is none.
func (c *chunk) free() {
	if c != nil {
		c.pool.Put(c)
	}
}

// chunks are the pools by size. The sizes are four times apart: most mail fits the
// first two, and 200 writers of long blobs need no more than 200 of the third.
type chunks struct {
	pools [4]sync.Pool
}

const (
	smallestChunk = maxSmall >> 6 // 4 KiB
	// streamSize is the size of the chunk through which a large blob flows.
	streamSize = maxSmall >> 2 // 64 KiB
)

// get returns a chunk for at least n octets; n is at most maxSmall.
func (c *chunks) get(n int) *chunk {
	i, size := 0, smallestChunk
	for size < n {
		i, size = i+1, size<<2
	}
	if got, ok := c.pools[i].Get().(*chunk); ok {
		return got
	}
	return &chunk{b: make([]byte, size+2*unit), pool: &c.pools[i]}
}
