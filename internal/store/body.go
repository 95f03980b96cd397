package store

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Body reads the octets of one message: head, blob and tail as one. ReadAt may
// be called by several goroutines, Read by one.
type Body struct {
	head, tail []byte
	blob       BlobReader // nil: none
	blobSize   int64
	offset     int64
}

// Open opens the octets of a message that was loaded with its head, blob and
// tail (Message, or Messages with WantBody). The message may be used again, or
// change, while the body is open: only its slices must stay.
func (m *Message) Open(ctx context.Context, blobs BlobOpener) (*Body, error) {
	b, err := openBody(ctx, blobs, m.Head, m.Blob, m.Tail)
	if err != nil {
		return nil, fmt.Errorf("open blob of message %v: %w", m.ID, err)
	}
	return b, nil
}

// Open opens what is stored of a copy, as that of a message: what is Locked is still
// encrypted.
func (o *Outgoing) Open(ctx context.Context, blobs BlobOpener) (*Body, error) {
	b, err := openBody(ctx, blobs, o.Head, o.Blob, o.Tail)
	if err != nil {
		return nil, fmt.Errorf("open blob of outgoing copy %v: %w", o.ID, err)
	}
	return b, nil
}

func openBody(ctx context.Context, blobs BlobOpener, head []byte, blob Blob, tail []byte) (*Body, error) {
	b := &Body{head: head, tail: tail}
	if blob.Ref == "" {
		return b, nil
	}
	r, err := blobs.Open(ctx, blob.Ref)
	if err != nil {
		return nil, err
	}
	b.blob, b.blobSize = r, blob.Size
	return b, nil
}

// Size returns the number of octets.
func (b *Body) Size() int64 { return int64(len(b.head)) + b.blobSize + int64(len(b.tail)) }

// ReadAt implements io.ReaderAt. A blob that is shorter than its row says is
// io.ErrUnexpectedEOF.
func (b *Body) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read body: negative offset")
	}
	n := 0
	for n < len(p) {
		k, err := b.part(p[n:], off+int64(n))
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// part reads from the one of the three parts that off lies in.
func (b *Body) part(p []byte, off int64) (int, error) {
	head := int64(len(b.head))
	if off < head {
		return copy(p, b.head[off:]), nil
	}
	off -= head
	if off >= b.blobSize {
		off -= b.blobSize
		if off >= int64(len(b.tail)) {
			return 0, io.EOF
		}
		return copy(p, b.tail[off:]), nil
	}
	p = p[:min(int64(len(p)), b.blobSize-off)]
	n, err := b.blob.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, fmt.Errorf("read blob: %w", err)
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := b.ReadAt(p, b.offset)
	b.offset += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// Close closes the blob.
func (b *Body) Close() error {
	if b.blob == nil {
		return nil
	}
	return b.blob.Close()
}
