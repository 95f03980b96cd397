package bridge

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"postern/internal/mail"
)

const (
	// chunkSize is the unit of memory a spool grows by, and of file I/O.
	chunkSize = 64 << 10
	// spoolInMemory is what one message may keep in memory before it goes to a file.
	spoolInMemory = 2 << 20
)

// spools hands out the memory and the places for the messages being worked on.
// Together they never hold more than the budget in memory; what does not fit goes to
// temporary files.
type spools struct {
	dir    string       // where temporary files are made
	budget atomic.Int64 // octets of memory still free
	chunks sync.Pool
}

// newSpools returns spools that use at most budget octets of memory together.
func newSpools(dir string, budget int64) *spools {
	s := &spools{dir: dir}
	s.budget.Store(budget)
	s.chunks.New = func() any { return new([chunkSize]byte) }
	return s
}

// take returns a chunk, or nil when the budget is used up.
func (s *spools) take() *[chunkSize]byte {
	if s.budget.Add(-chunkSize) < 0 {
		s.budget.Add(chunkSize)
		return nil
	}
	return s.chunks.Get().(*[chunkSize]byte)
}

func (s *spools) give(c *[chunkSize]byte) {
	clear(c[:]) // clear text does not linger in the pool
	s.chunks.Put(c)
	s.budget.Add(chunkSize)
}

// spool holds the octets of one message while it is worked on: in memory, or in a
// temporary file that has no name and is encrypted with a key that exists only in
// this struct (P2). It is written once, then read from any offset.
type spool struct {
	owner  *spools
	size   int64
	chunks []*[chunkSize]byte // the first octets
	file   *os.File           // what does not fit in memory, encrypted
	block  cipher.Block
	nonce  [aes.BlockSize]byte
	buf    *[chunkSize]byte // a file spool's one buffer
}

// fill reads r to io.EOF, calling seen for each piece in order, and returns
// mail.ErrTooBig as soon as there are more than limit octets.
func (s *spools) fill(r io.Reader, limit int64, seen func([]byte) error) (*spool, error) {
	sp := &spool{owner: s}
	for {
		buf, err := sp.room()
		if err != nil {
			sp.Close()
			return nil, err
		}
		n, err := r.Read(buf)
		if n > 0 {
			if sp.size+int64(n) > limit {
				sp.Close()
				return nil, mail.ErrTooBig
			}
			if err := seen(buf[:n]); err != nil {
				sp.Close()
				return nil, err
			}
			if err := sp.keep(buf[:n]); err != nil {
				sp.Close()
				return nil, err
			}
		}
		if err == io.EOF {
			return sp, nil
		}
		if err != nil {
			sp.Close()
			return nil, fmt.Errorf("read message: %w", err)
		}
	}
}

// room returns the space the next octets are read into.
func (sp *spool) room() ([]byte, error) {
	if sp.file != nil {
		return sp.buf[:], nil
	}
	if free := sp.inMemory() - sp.size; free > 0 {
		return sp.chunks[len(sp.chunks)-1][chunkSize-free:], nil
	}
	if sp.size < spoolInMemory {
		if c := sp.owner.take(); c != nil {
			sp.chunks = append(sp.chunks, c)
			return c[:], nil
		}
	}
	if err := sp.spill(); err != nil {
		return nil, err
	}
	return sp.buf[:], nil
}

// spill opens the temporary file for all octets from now on.
func (sp *spool) spill() error {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	_, _ = rand.Read(sp.nonce[:8])
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return fmt.Errorf("spool cipher: %w", err)
	}
	f, err := os.CreateTemp(sp.owner.dir, "spool-*")
	if err != nil {
		return spoolError("create spool file", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return fmt.Errorf("unlink spool file: %w", err)
	}
	sp.block, sp.file = block, f
	// Not from the budget: this buffer is what lets a message go on when it is spent.
	sp.buf = sp.owner.chunks.Get().(*[chunkSize]byte)
	return nil
}

// keep records b, which lies where room said.
func (sp *spool) keep(b []byte) error {
	if sp.file != nil {
		off := sp.size - sp.inMemory()
		sp.xor(b, off)
		if _, err := sp.file.WriteAt(b, off); err != nil {
			return spoolError("write spool file", err)
		}
	}
	sp.size += int64(len(b))
	return nil
}

// spoolError tells a full disk, which the peer may know of, from other errors.
func spoolError(doing string, err error) error {
	wrapped := fmt.Errorf("%s: %w", doing, err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return mail.ErrStorageFull.Because(wrapped)
	}
	return wrapped
}

func (sp *spool) inMemory() int64 { return int64(len(sp.chunks)) * chunkSize }

// xor applies the key stream of the file's octets at off. AES-CTR: the key is used
// for this one file, each block of the stream once.
func (sp *spool) xor(b []byte, off int64) {
	iv := sp.nonce
	for i, block := 15, uint64(off)/aes.BlockSize; i >= 8; i-- {
		iv[i] = byte(block)
		block >>= 8
	}
	stream := cipher.NewCTR(sp.block, iv[:])
	if skip := off % aes.BlockSize; skip > 0 {
		var drop [aes.BlockSize]byte
		stream.XORKeyStream(drop[:skip], drop[:skip])
	}
	stream.XORKeyStream(b, b)
}

// Size returns the number of octets.
func (sp *spool) Size() int64 { return sp.size }

// ReadAt implements io.ReaderAt.
func (sp *spool) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("spool: negative offset")
	}
	n := 0
	for n < len(p) && off < sp.size {
		var m int
		if mem := sp.inMemory(); off < mem {
			chunk := sp.chunks[off/chunkSize][off%chunkSize:]
			m = copy(p[n:], chunk[:min(int64(len(chunk)), sp.size-off)])
		} else {
			want := p[n:min(int64(len(p)), int64(n)+sp.size-off)]
			var err error
			if m, err = sp.file.ReadAt(want, off-mem); m == 0 && err != nil {
				return n, fmt.Errorf("read spool file: %w", err)
			}
			sp.xor(want[:m], off-mem)
		}
		n += m
		off += int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Prefix returns the first n octets. The slice is valid until Close and must not be
// changed.
func (sp *spool) Prefix(n int64) ([]byte, error) {
	if n <= chunkSize && len(sp.chunks) > 0 {
		return sp.chunks[0][:n], nil
	}
	b := make([]byte, n)
	if _, err := sp.ReadAt(b, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// WriteRange writes the octets from off to the end to w, without copying those that
// are in memory.
func (sp *spool) WriteRange(w io.Writer, off int64) error {
	for mem := min(sp.inMemory(), sp.size); off < mem; {
		chunk := sp.chunks[off/chunkSize][off%chunkSize:]
		chunk = chunk[:min(int64(len(chunk)), mem-off)]
		if _, err := w.Write(chunk); err != nil {
			return err
		}
		off += int64(len(chunk))
	}
	if off >= sp.size {
		return nil
	}
	_, err := io.CopyBuffer(onlyWriter{w}, io.NewSectionReader(sp, off, sp.size-off), sp.buf[:])
	return err
}

// onlyWriter hides ReadFrom, so that io.CopyBuffer uses the buffer it is given.
type onlyWriter struct{ io.Writer }

// Reader returns a new reader over the whole message.
func (sp *spool) Reader() io.Reader { return io.NewSectionReader(sp, 0, sp.size) }

// Close gives everything back. The octets are gone after it.
func (sp *spool) Close() {
	for _, c := range sp.chunks {
		sp.owner.give(c)
	}
	sp.chunks = nil
	if sp.file != nil {
		sp.file.Close()
		clear(sp.buf[:])
		sp.owner.chunks.Put(sp.buf)
		sp.file, sp.buf, sp.block = nil, nil, nil
	}
}
