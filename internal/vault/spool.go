package vault

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// What waits in the queue in clear is locked: a format octet, 32 random octets, then
// chunks of AES-256-GCM, each 64 KiB of clear text and a tag, the last one marked as
// such, so that nothing can be cut off, added or put in another order. The key of each
// copy is derived from a secret of the vault and the random octets; the nonce counts.
const (
	lockFormat = 1
	lockSalt   = 32
	lockChunk  = 64 << 10
	lockTag    = 16
)

// ErrLocked: what was to be unlocked was changed, cut off, or locked by another vault.
var ErrLocked = errors.New("not locked by this gateway, or damaged")

// Lock encrypts what is written to it with a key of the gateway, for w. Close writes the
// end, and does not close w. Memory does not depend on the size.
func (v *Vault) Lock(w io.Writer) (io.WriteCloser, error) {
	head := make([]byte, 1+lockSalt)
	head[0] = lockFormat
	if _, err := rand.Read(head[1:]); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	seal, err := v.lockCipher(head[1:])
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if _, err := w.Write(head); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	return &locker{w: w, seal: seal}, nil
}

// Unlock reads what Lock wrote. Each chunk is verified before any of it is given out;
// whoever reads must take an error for the end of everything, since what came before it
// is a part of the message at best. Errors of damage wrap ErrLocked.
func (v *Vault) Unlock(r io.Reader) (io.Reader, error) {
	head := make([]byte, 1+lockSalt)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("unlock: %w", cutOff(err))
	}
	if head[0] != lockFormat {
		return nil, fmt.Errorf("unlock: %w", ErrLocked)
	}
	seal, err := v.lockCipher(head[1:])
	if err != nil {
		return nil, fmt.Errorf("unlock: %w", err)
	}
	return &unlocker{r: bufio.NewReaderSize(r, lockChunk+lockTag+1), seal: seal}, nil
}

// UnlockedSize is how many octets come out of Unlock of so many, or 0 if Lock never made
// that many.
func UnlockedSize(locked int64) int64 {
	sealed := locked - 1 - lockSalt
	chunks := (sealed + lockChunk + lockTag - 1) / (lockChunk + lockTag)
	return max(sealed-chunks*lockTag, 0)
}

// lockCipher makes the cipher of one copy.
func (v *Vault) lockCipher(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, v.spool, salt, "copy", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// lockNonce is the number of the chunk, and whether it is the last.
func lockNonce(n uint64, last bool) []byte {
	nonce := make([]byte, 12)
	binary.BigEndian.PutUint64(nonce[3:], n)
	if last {
		nonce[11] = 1
	}
	return nonce
}

type locker struct {
	w    io.Writer
	seal cipher.AEAD
	buf  []byte // clear text of the chunk at hand; becomes ciphertext where it lies
	n    uint64
	err  error
}

func (l *locker) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && l.err == nil {
		if len(l.buf) == lockChunk {
			l.chunk(false)
		}
		n := min(len(p), lockChunk-len(l.buf))
		l.buf = append(l.buf, p[:n]...)
		p = p[n:]
	}
	if l.err != nil {
		return 0, l.err
	}
	return total, nil
}

// chunk encrypts and writes what is in the buffer.
func (l *locker) chunk(last bool) {
	sealed := l.seal.Seal(l.buf[:0], lockNonce(l.n, last), l.buf, nil)
	l.n++
	if l.err == nil {
		_, l.err = l.w.Write(sealed)
	}
	l.buf = sealed[:0]
}

// Close writes the last chunk. A second call does nothing.
func (l *locker) Close() error {
	if l.seal != nil {
		l.chunk(true)
		l.seal = nil
	}
	return l.err
}

type unlocker struct {
	r    *bufio.Reader
	seal cipher.AEAD
	buf  []byte
	rest []byte // of the clear text
	n    uint64
	err  error
}

// Read implements io.Reader.
func (u *unlocker) Read(p []byte) (int, error) {
	for len(u.rest) == 0 {
		if u.err != nil {
			return 0, u.err
		}
		u.next()
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// next opens one chunk.
func (u *unlocker) next() {
	if u.buf == nil {
		u.buf = make([]byte, lockChunk+lockTag)
	}
	n, err := io.ReadFull(u.r, u.buf)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		u.err = fmt.Errorf("unlock: %w", err)
		return
	}
	_, err = u.r.Peek(1)
	if err != nil && err != io.EOF {
		u.err = fmt.Errorf("unlock: %w", err)
		return
	}
	last := err == io.EOF
	plain, err := u.seal.Open(u.buf[:0], lockNonce(u.n, last), u.buf[:n], nil)
	if err != nil {
		u.err = fmt.Errorf("unlock: %w", ErrLocked)
		return
	}
	u.n++
	u.rest = plain
	if last {
		u.err = io.EOF
	}
}

// cutOff turns an end that came too early into damage.
func cutOff(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrLocked
	}
	return err
}
