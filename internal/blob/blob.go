package blob

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors that callers test for; what is returned wraps one of them or the operating
// system's own.
var (
	// ErrNotFound means that there is no such blob: it was deleted, or never was.
	ErrNotFound = errors.New("no such blob")
	// ErrCorrupt means that the octets are not those that were committed.
	ErrCorrupt = errors.New("blob is corrupt")
	// ErrFull means that there is no room for the blob. Nothing of it is left.
	ErrFull = errors.New("no space left for the blob")
	// ErrRef means that the ref was not made by this store.
	ErrRef = errors.New("invalid blob ref")
	// ErrClosed means that the store, or this writer, was closed before.
	ErrClosed = errors.New("closed")
)

// Store keeps blobs. All methods are safe for concurrent use.
type Store interface {
	// Create begins a blob. Every Writer must be ended by Commit or Abort.
	Create(ctx context.Context) (Writer, error)

	// Open opens a committed blob: ErrNotFound, ErrRef, ErrCorrupt. What is open
	// stays readable when this process deletes the blob meanwhile.
	Open(ctx context.Context, ref string) (Reader, error)

	// Delete removes blobs. A blob that does not exist is no error, so that a
	// deletion can be repeated. It goes through all refs and returns the errors of
	// those that could not be removed, joined.
	Delete(ctx context.Context, refs []string) error

	// Sweep deletes the blobs that live does not know and that were committed more
	// than olderThan ago, and returns how many these were. They are left by a crash
	// between a blob and its row. Whoever calls it must let olderThan be longer than
	// a row may ever take to follow its blob plus the time for which the answers of
	// live are old; an hour is plenty. Live is called from one goroutine.
	Sweep(ctx context.Context, olderThan time.Duration, live func(ref string) bool) (removed int, err error)

	// Verify reads a blob and returns ErrNotFound, or ErrCorrupt if it does not have
	// this size and this SHA-256.
	Verify(ctx context.Context, ref string, size int64, digest [32]byte) error
}

// Writer takes the octets of one blob. It is used by one goroutine.
type Writer interface {
	// Write appends to the blob. After an error the blob can only be aborted.
	io.Writer
	// Commit makes the blob durable: when it returns without an error, the blob
	// survives the loss of power. When ctx ends first, the blob may be durable or
	// not, and nobody knows its ref: it will be swept.
	Commit(ctx context.Context) (Written, error)
	// Abort gives the blob up. After Commit it does nothing.
	Abort()
}

// Written is what a row must know of a committed blob.
type Written struct {
	// Ref names the blob to the store that made it. It is opaque, holds only
	// letters, digits, "/" and "-", and is at most 64 octets long.
	Ref string
	// Size is in octets.
	Size int64
	// Digest is the SHA-256 of the octets.
	Digest [32]byte
}

// Reader reads one blob. ReadAt may be called by several goroutines; Close only
// after they have returned.
type Reader = interface {
	io.ReaderAt
	io.Closer
}
