package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"testing/iotest"
)

func testMessages(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	var batch Batch
	for range 10 {
		batch.Deliveries = append(batch.Deliveries, delivery(s, a))
	}
	batch.Deliveries[4].Message.Blob = Blob{}
	batch.Deliveries[4].Message.Size -= 2000
	placed, err := s.Commit(ctx, batch)
	noError(t, err)
	for want := Columns(0); want < 16; want++ {
		var got []uint32
		err := s.Messages(ctx, placed[0].Mailbox, []Range{{9, 20}, {2, 5}}, want, func(uid uint32, m *Message) error {
			got = append(got, uid)
			o := *batch.Deliveries[uid-1].Message
			if want&WantEnvelope == 0 {
				o.Envelope = nil
			}
			if want&WantStructure == 0 {
				o.Structure = nil
			}
			if want&(WantHead|WantBody) == 0 {
				o.Head = nil
			}
			if want&WantBody == 0 {
				o.Tail, o.Blob = nil, Blob{}
			}
			for _, p := range []*[]byte{&m.Envelope, &m.Structure, &m.Head, &m.Tail} {
				if len(*p) == 0 {
					*p = nil
				}
			}
			if !reflect.DeepEqual(*m, o) {
				t.Errorf("columns %b: message %+v, want %+v", want, *m, o)
			}
			return nil
		})
		noError(t, err)
		if fmt.Sprint(got) != "[2 3 4 5 9 10]" {
			t.Errorf("UIDs %v", got)
		}
	}
	stop := errors.New("enough")
	n := 0
	err = s.Messages(ctx, placed[0].Mailbox, all, 0, func(uint32, *Message) error {
		n++
		return stop
	})
	if !errors.Is(err, stop) || n != 1 {
		t.Errorf("%d calls, %v", n, err)
	}
}

func testMessagesPages(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	id := fill(t, s, a, 2*pageRows+10).ID
	// A page ends by octets too: these two do not fit into one.
	big := Batch{Deliveries: []Delivery{delivery(s, a), delivery(s, a), delivery(s, a)}}
	for i := range big.Deliveries {
		m := big.Deliveries[i].Message
		m.Head = bytes.Repeat([]byte{byte('a' + i)}, pageOctets)
		m.Size = int64(len(m.Head)+len(m.Tail)) + m.Blob.Size
	}
	_, err := s.Commit(ctx, big)
	noError(t, err)
	last := uint32(0)
	err = s.Messages(ctx, id, all, WantHead, func(uid uint32, m *Message) error {
		if uid != last+1 {
			return fmt.Errorf("UID %d after %d", uid, last)
		}
		last = uid
		if i := int(uid) - 2*pageRows - 11; i >= 0 && !bytes.Equal(m.Head, big.Deliveries[i].Message.Head) {
			return fmt.Errorf("UID %d has the wrong head", uid)
		}
		// The store can be used from within, and what vanishes is passed over.
		_, err := s.Message(ctx, m.ID)
		return err
	})
	noError(t, err)
	if last != 2*pageRows+13 {
		t.Errorf("last UID %d", last)
	}
}

// memoryBlobs is a BlobOpener.
type memoryBlobs map[string][]byte

type memoryBlob struct {
	*bytes.Reader
	closed *int
}

func (b memoryBlob) Close() error { *b.closed++; return nil }

func (m memoryBlobs) Open(_ context.Context, ref string) (BlobReader, error) {
	data, ok := m[ref]
	if !ok {
		return nil, ErrNotFound
	}
	return memoryBlob{bytes.NewReader(data), new(int)}, nil
}

func TestBody(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	blobs := memoryBlobs{"b": []byte("0123456789")}
	for _, c := range []struct {
		m    Message
		want string
	}{
		{Message{Head: []byte("head:"), Blob: Blob{Ref: "b", Size: 10}, Tail: []byte(":tail")}, "head:0123456789:tail"},
		{Message{Head: []byte("head"), Tail: []byte("tail")}, "headtail"},
		{Message{Blob: Blob{Ref: "b", Size: 10}}, "0123456789"},
		{Message{Blob: Blob{Ref: "b", Size: 4}, Tail: []byte("x")}, "0123x"},
		{Message{}, ""},
	} {
		b, err := c.m.Open(ctx, blobs)
		noError(t, err)
		if b.Size() != int64(len(c.want)) {
			t.Errorf("size %d of %q", b.Size(), c.want)
		}
		if err := iotest.TestReader(struct {
			io.Reader
			io.ReaderAt
		}{b, b}, []byte(c.want)); err != nil {
			t.Error(err)
		}
		for lo := range len(c.want) {
			for hi := lo; hi <= len(c.want); hi++ {
				p := make([]byte, hi-lo)
				if n, err := b.ReadAt(p, int64(lo)); n != hi-lo || err != nil || string(p) != c.want[lo:hi] {
					t.Errorf("ReadAt(%d:%d) of %q = %q, %v", lo, hi, c.want, p[:n], err)
				}
			}
		}
		noError(t, b.Close())
	}
	// A blob that is too short is an error, never a shorter message.
	short := Message{Blob: Blob{Ref: "b", Size: 11}, Tail: []byte("x")}
	b, err := short.Open(ctx, blobs)
	noError(t, err)
	got, err := io.ReadAll(b)
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != 10 {
		t.Errorf("read %q, %v", got, err)
	}
	_, err = (&Message{Blob: Blob{Ref: "none", Size: 1}}).Open(ctx, blobs)
	wantError(t, err, ErrNotFound)
}
