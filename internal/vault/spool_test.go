package vault

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func locked(t testing.TB, v *Vault, data []byte, piece int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := v.Lock(&out)
	if err != nil {
		t.Fatal(err)
	}
	for len(data) > 0 {
		n := min(piece, len(data))
		if _, err := w.Write(data[:n]); err != nil {
			t.Fatal(err)
		}
		data = data[n:]
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestUnlockedSize(t *testing.T) {
	t.Parallel()
	_, v := newVault(t)
	for _, size := range []int{0, 1, 1000, lockChunk - 1, lockChunk, lockChunk + 1, 3*lockChunk + 5} {
		if got := UnlockedSize(int64(len(locked(t, v, make([]byte, size), 4096)))); got != int64(size) {
			t.Errorf("%d: %d", size, got)
		}
	}
	for n := range int64(1 + lockSalt + lockTag) {
		if got := UnlockedSize(n); got != 0 {
			t.Errorf("of %d: %d", n, got)
		}
	}
}

func unlocked(v *Vault, data []byte) ([]byte, error) {
	r, err := v.Unlock(iotest.HalfReader(bytes.NewReader(data)))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestLock(t *testing.T) {
	t.Parallel()
	dir, v := newVault(t)
	again, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, other := newVault(t)
	for _, size := range []int{0, 1, 1000, lockChunk - 1, lockChunk, lockChunk + 1, 3*lockChunk + 5} {
		data := make([]byte, size)
		rand.Read(data)
		for _, piece := range []int{1 << 20, 7000} {
			l := locked(t, v, data, piece)
			if got, err := unlocked(again, l); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d octets: %v", size, err)
			}
			if size > 16 && bytes.Contains(l, data[:16]) {
				t.Error("clear text in what is locked")
			}
			if _, err := unlocked(other, l); !errors.Is(err, ErrLocked) {
				t.Errorf("another vault: %v", err)
			}
		}
	}
}

// TestLockDamage: whatever is changed, cut off, added or put in another order is found.
func TestLockDamage(t *testing.T) {
	t.Parallel()
	_, v := newVault(t)
	data := make([]byte, 3*lockChunk)
	rand.Read(data)
	l := locked(t, v, data, 1<<20)
	chunk := func(i int) []byte { return l[1+lockSalt+i*(lockChunk+lockTag):][:lockChunk+lockTag] }
	join := func(p ...[]byte) []byte { return bytes.Join(p, nil) }
	head := l[:1+lockSalt]
	for name, bad := range map[string][]byte{
		"nothing":        nil,
		"head only":      head,
		"cut head":       l[:10],
		"last cut off":   join(head, chunk(0), chunk(1)),
		"cut in a chunk": l[:len(l)-1],
		"octet added":    join(l, []byte{0}),
		"order":          join(head, chunk(1), chunk(0), chunk(2)),
		"twice":          join(head, chunk(0), chunk(0), chunk(1), chunk(2)),
		"format":         join([]byte{2}, l[1:]),
		"one bit":        append(append(bytes.Clone(l[:70000]), l[70000]^1), l[70001:]...),
		"salt":           append(append(bytes.Clone(l[:5]), l[5]^1), l[6:]...),
	} {
		if _, err := unlocked(v, bad); !errors.Is(err, ErrLocked) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v.Unlock(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}
