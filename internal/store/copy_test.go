package store

import (
	"context"
	"slices"
	"testing"
)

func testCopy(t *testing.T, s *Store) {
	ctx := context.Background()
	a, b := newAccount(t, s, "alice@example.org"), newAccount(t, s, "bob@example.org")
	from, to := fill(t, s, a, 100).ID, create(t, s, a, "to")
	_, err := s.SetFlags(ctx, from, []Range{{3, 3}}, FlagsAdd, Seen|Deleted, []string{"x"}, 0)
	noError(t, err)
	copied, err := s.Copy(ctx, from, []Range{{90, 2}, {200, 300}}, to.ID)
	noError(t, err)
	if len(copied.Src) != 89 || copied.Src[0] != 2 || copied.Dst[0] != 1 || copied.Dst[88] != 89 ||
		copied.UIDValidity != to.UIDValidity {
		t.Errorf("copied %+v", copied)
	}
	src, dst := view(t, s, from), view(t, s, to.ID)
	if len(src.Entries) != 100 || dst.Mailbox.Unseen != 88 || dst.Mailbox.Deleted != 1 {
		t.Errorf("from %+v, to %+v", src.Mailbox, dst.Mailbox)
	}
	for i, e := range dst.Entries {
		o := src.Entries[i+1]
		if e.Message != o.Message || e.Flags != o.Flags || e.Keywords != o.Keywords ||
			e.InternalDate != o.InternalDate || e.Size != o.Size {
			t.Fatalf("copy %+v of %+v", e, o)
		}
	}
	if none, err := s.Copy(ctx, from, []Range{{500, 600}}, to.ID); err != nil || len(none.Src) != 0 {
		t.Errorf("copied %+v, %v", none, err)
	}
	_, err = s.Copy(ctx, from, all, mailbox(t, s, b, "INBOX").ID)
	wantError(t, err, ErrNotFound)
	_, err = s.Copy(ctx, 1, all, to.ID)
	wantError(t, err, ErrNotFound)
	// The last UID is given out, then no more: all or nothing.
	noError(t, s.write(ctx, func(t *tx) error {
		box, err := t.box(to.ID)
		box.UIDNext, box.dirty = maxUID-2, true
		t.wrote = true
		return err
	}))
	_, err = s.Copy(ctx, from, []Range{{1, 4}}, to.ID)
	wantError(t, err, ErrExhausted)
	copied, err = s.Copy(ctx, from, []Range{{1, 2}}, to.ID)
	noError(t, err)
	if !slices.Equal(copied.Dst, []uint32{maxUID - 2, maxUID - 1}) {
		t.Errorf("copied to %v", copied.Dst)
	}
	d := delivery(s, a)
	d.Mailbox = to.ID
	_, err = s.Commit(ctx, Batch{Deliveries: []Delivery{d}})
	wantError(t, err, ErrExhausted)
}

func testMove(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	from, to := fill(t, s, a, 10).ID, create(t, s, a, "to").ID
	before, total := view(t, s, from), used(t, s, a)
	moved, err := s.Move(ctx, from, []Range{{3, 4}, {9, 9}}, to)
	noError(t, err)
	if !slices.Equal(moved.Src, []uint32{3, 4, 9}) || !slices.Equal(moved.Dst, []uint32{1, 2, 3}) {
		t.Errorf("moved %+v", moved)
	}
	src, dst := view(t, s, from), view(t, s, to)
	if len(src.Entries) != 7 || len(dst.Entries) != 3 || dst.Entries[2].Message != before.Entries[8].Message {
		t.Errorf("from %+v, to %+v", src, dst)
	}
	gone, err := s.ExpungedSince(ctx, from, before.Mailbox.ModSeq)
	noError(t, err)
	if !slices.Equal(gone, []Range{{3, 4}, {9, 9}}) {
		t.Errorf("tombstones %v", gone)
	}
	// To the same mailbox: new UIDs, nothing lost.
	moved, err = s.Move(ctx, from, []Range{{1, 1}}, from)
	noError(t, err)
	v := view(t, s, from)
	if !slices.Equal(moved.Dst, []uint32{11}) || len(v.Entries) != 7 || v.Entries[6].Message != before.Entries[0].Message {
		t.Errorf("moved %+v, view %+v", moved, v)
	}
	if used(t, s, a) != total {
		t.Errorf("uses %d, before %d", used(t, s, a), total)
	}
}

func testUIDsNeverRepeat(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	id := mailbox(t, s, a, "INBOX").ID
	var lastUID uint32
	var lastModSeq uint64
	for range 20 {
		place, _ := deliver(t, s, a)
		_, err := s.SetFlags(ctx, id, all, FlagsAdd, Deleted, nil, 0)
		noError(t, err)
		_, err = s.Expunge(ctx, id, nil)
		noError(t, err)
		m := mailbox(t, s, a, "INBOX")
		if place.UID <= lastUID || m.UIDNext <= place.UID || m.ModSeq < lastModSeq+3 {
			t.Fatalf("UID %d after %d, %+v", place.UID, lastUID, m)
		}
		lastUID, lastModSeq = place.UID, m.ModSeq
	}
}
