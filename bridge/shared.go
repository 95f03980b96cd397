package bridge

import (
	"context"
	"fmt"

	"postern/internal/blob"
	"postern/internal/store"
)

// maxInline is how many octets the copies of a message may add to the database
// together instead of being a blob. One durable write less halves the time that a small
// message waits; large ones would be written twice, into the log of the database and
// out of it.
const maxInline = 12 << 10

// shared is what the copies of a message have in common: a blob, or, if it is small,
// octets that each copy carries in its own head.
type shared struct {
	inline []byte
	blob   store.Blob
}

func (s shared) size() int64 { return int64(len(s.inline)) + s.blob.Size }

// place puts the octets behind a copy's head.
func (s shared) place(head []byte) ([]byte, store.Blob) { return append(head, s.inline...), s.blob }

// sharedWriter takes octets for a number of copies. It becomes a blob as soon as they
// are too many for the database.
type sharedWriter struct {
	ctx    context.Context
	blobs  blob.Store
	limit  int
	inline []byte
	w      blob.Writer // nil while inline
}

func (b *Bridge) newShared(ctx context.Context, copies int) *sharedWriter {
	return &sharedWriter{ctx: ctx, blobs: b.Blobs, limit: maxInline / max(copies, 1)}
}

// Write implements io.Writer.
func (s *sharedWriter) Write(p []byte) (int, error) {
	if s.w == nil {
		if len(s.inline)+len(p) <= s.limit {
			s.inline = append(s.inline, p...)
			return len(p), nil
		}
		w, err := s.blobs.Create(s.ctx)
		if err != nil {
			return 0, fmt.Errorf("create blob: %w", err)
		}
		s.w = w
		if _, err := w.Write(s.inline); err != nil {
			return 0, err
		}
		s.inline = nil
	}
	return s.w.Write(p)
}

// Commit returns what was written; a blob is durable then, and what is inline will be
// with the rows that carry it.
func (s *sharedWriter) Commit() (shared, error) {
	if s.w == nil {
		return shared{inline: s.inline}, nil
	}
	written, err := s.w.Commit(s.ctx)
	if err != nil {
		return shared{}, fmt.Errorf("commit blob: %w", err)
	}
	return shared{blob: store.Blob(written)}, nil
}

// Abort gives up what was written. After Commit it does nothing.
func (s *sharedWriter) Abort() {
	if s.w != nil {
		s.w.Abort()
	}
}
