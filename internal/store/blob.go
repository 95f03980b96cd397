package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// useBlob makes a row for a blob, or finds it and counts the new references. A
// blob that is known with another size or digest is refused: one of the two
// would be read as the other.
func (t *tx) useBlob(b *newBlob) error {
	b.id = t.store.NewID()
	n, err := t.exec(`INSERT INTO blobs (id, ref, size, digest, refs, dead) VALUES ($1, $2, $3, $4, $5, 0)
		ON CONFLICT (ref) DO NOTHING`, b.id, b.Ref, b.Size, b.Digest[:], b.refs)
	if err == nil && n == 0 {
		err = t.get([]any{&b.id}, `UPDATE blobs SET refs = refs + $1
			WHERE ref = $2 AND size = $3 AND digest = $4 RETURNING id`, b.refs, b.Ref, b.Size, b.Digest[:])
		if errors.Is(err, ErrNotFound) {
			err = fmt.Errorf("%w: known with another size or digest", ErrInvalid)
		}
	}
	if err != nil {
		return fmt.Errorf("use blob %q: %w", b.Ref, err)
	}
	return nil
}

// dropCopies takes away copies of messages. A message without copies goes, its
// octets no longer count against the quota, and a blob that no message needs any
// more is dead from now on.
func (t *tx) dropCopies(gone map[ID]int) error {
	for id, n := range gone {
		var copies int
		var size int64
		var account, blob ID
		t.wrote = true
		err := t.get([]any{&copies, &size, &account, &blob}, `UPDATE messages SET copies = copies - $1
			WHERE id = $2 RETURNING copies, size, account, blob`, n, id)
		if err != nil {
			return fmt.Errorf("drop copies of message %v: %w", id, err)
		}
		if copies > 0 {
			continue
		}
		if err := t.deleteMessage(id, blob); err != nil {
			return fmt.Errorf("delete message %v: %w", id, err)
		}
		a, err := t.account(account)
		if errors.Is(err, ErrNotFound) { // being removed: nobody counts any more
			continue
		}
		if err != nil {
			return err
		}
		t.charge(a, -size)
	}
	return nil
}

func (t *tx) deleteMessage(id, blob ID) error {
	if err := t.must(`DELETE FROM messages WHERE id = $1`, id); err != nil { // octets go with it
		return err
	}
	return t.dropBlob(blob)
}

// dropBlob takes away one reference to a blob, if there is one.
func (t *tx) dropBlob(blob ID) error {
	if blob == 0 {
		return nil
	}
	err := t.must(`UPDATE blobs SET refs = refs - 1, dead = $1 WHERE id = $2`, micros(t.now), blob)
	if err != nil {
		return fmt.Errorf("drop blob %v: %w", blob, err)
	}
	return nil
}

// blobPage is how many blobs Blobs reads at a time.
const blobPage = 500

// Blobs calls each for every blob that a message, a held copy or an outgoing one needs. It sees
// no one moment: a blob that comes or goes meanwhile may be left out. each may
// use the store.
func (s *Store) Blobs(ctx context.Context, each func(Blob) error) error {
	last := ID(-1)
	for {
		var page []Blob
		err := s.read(ctx, func(c *session) error {
			return c.each(func(r scanner) error {
				var b Blob
				var sum []byte
				err := r.Scan(&last, &b.Ref, &b.Size, &sum)
				copy(b.Digest[:], sum)
				page = append(page, b)
				return err
			}, `SELECT id, ref, size, digest FROM blobs WHERE id > $1 AND refs > 0 ORDER BY id LIMIT $2`,
				last, blobPage)
		})
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, b := range page {
			if err := each(b); err != nil {
				return err
			}
		}
		if len(page) < blobPage {
			return nil
		}
	}
}

// DeadBlobs returns at most limit refs of blobs that no row needs any more, the
// one that died first first.
func (s *Store) DeadBlobs(ctx context.Context, limit int) ([]string, error) {
	return s.DeadBlobsBefore(ctx, s.now().Add(time.Hour), limit)
}

// DeadBlobsBefore returns only refs of blobs that died before a time, so that
// whoever had just looked up a message can still read it.
func (s *Store) DeadBlobsBefore(ctx context.Context, before time.Time, limit int) ([]string, error) {
	var refs []string
	err := s.read(ctx, func(c *session) error {
		return c.each(func(r scanner) error {
			var ref string
			err := r.Scan(&ref)
			refs = append(refs, ref)
			return err
		}, `SELECT ref FROM blobs WHERE refs = 0 AND dead < $1 ORDER BY dead LIMIT $2`, micros(before), limit)
	})
	if err != nil {
		return nil, fmt.Errorf("list dead blobs: %w", err)
	}
	return refs, nil
}

// ForgetBlobs removes the rows of dead blobs, after their octets were deleted. A
// ref that is unknown or not dead is left alone.
func (s *Store) ForgetBlobs(ctx context.Context, refs []string) error {
	const step = 500 // rows in one transaction, so that deliveries need not wait long
	for len(refs) > 0 {
		n := min(step, len(refs))
		err := s.write(ctx, func(t *tx) error {
			for _, ref := range refs[:n] {
				if _, err := t.exec(`DELETE FROM blobs WHERE ref = $1 AND refs = 0`, ref); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("forget blobs: %w", err)
		}
		refs = refs[n:]
	}
	return nil
}

// MoveBlob records that the octets of a blob now lie at another ref. ErrNotFound:
// no live blob has the old one, so the copy is not needed. ErrExists: the new ref
// is taken.
func (s *Store) MoveBlob(ctx context.Context, oldRef, newRef string) error {
	err := s.write(ctx, func(t *tx) error {
		err := t.must(`UPDATE blobs SET ref = $1 WHERE ref = $2 AND refs > 0`, newRef, oldRef)
		if errors.Is(err, errConflict) {
			return ErrExists
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("move blob: %w", err)
	}
	return nil
}
