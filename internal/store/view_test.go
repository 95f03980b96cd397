package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func testView(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	id := fill(t, s, a, 100).ID
	first := view(t, s, id)
	if same := view(t, s, id); &same.Entries[0] != &first.Entries[0] {
		t.Error("nothing changed, but the entries were copied")
	}
	// The first append may move the entries to where there is room; the next
	// must not.
	deliver(t, s, a)
	second := view(t, s, id)
	deliver(t, s, a)
	third := view(t, s, id)
	if &second.Entries[0] != &third.Entries[0] {
		t.Error("new mail copied the entries")
	}
	if len(first.Entries) != 100 || len(second.Entries) != 101 || len(third.Entries) != 102 ||
		cap(second.Entries) != 101 {
		t.Errorf("lengths %d %d %d, capacity %d", len(first.Entries), len(second.Entries), len(third.Entries), cap(second.Entries))
	}
	_, err := s.SetFlags(ctx, id, []Range{{1, 1}}, FlagsAdd, Seen, nil, 0)
	noError(t, err)
	if view(t, s, id).Entries[0].Flags != Seen || third.Entries[0].Flags != 0 {
		t.Error("a view that was handed out changed, or a new one did not")
	}
	if _, err := s.View(ctx, id+1); err == nil {
		t.Error("view of no mailbox")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = s.View(ended, id)
	wantError(t, err, context.Canceled)
}

// testViewProperty compares views, brought up to date step by step, with fresh
// ones, and looks whether old ones stay as they were.
func testViewProperty(t *testing.T, s *Store) {
	ctx := context.Background()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	a := newAccount(t, s, "alice@example.org")
	boxes := []ID{mailbox(t, s, a, "INBOX").ID, create(t, s, a, "other").ID}
	type snapshot struct {
		view *View
		copy []Entry
	}
	var old []snapshot
	for step := range 300 {
		from, to := boxes[r.IntN(2)], boxes[r.IntN(2)]
		noError(t, randomOperation(ctx, s, a, r, from, to))
		if r.IntN(3) == 0 {
			continue // let changes pile up
		}
		for _, id := range boxes {
			v := view(t, s, id)
			fresh := freshView(t, s, id)
			if v.Mailbox != fresh.Mailbox || !slices.Equal(v.Entries, fresh.Entries) {
				t.Fatalf("step %d: view %+v, fresh %+v", step, v, fresh)
			}
			old = append(old, snapshot{v, slices.Clone(v.Entries)})
		}
	}
	for i, o := range old {
		if !slices.Equal(o.view.Entries, o.copy) {
			t.Fatalf("view %d has changed", i)
		}
	}
}

func randomOperation(ctx context.Context, s *Store, a Account, r *rand.Rand, from, to ID) error {
	box, err := s.Mailbox(ctx, from)
	if err != nil {
		return err
	}
	lo := r.Uint32N(box.UIDNext) + 1
	uids := []Range{{lo, lo + r.Uint32N(5)}, {r.Uint32N(box.UIDNext) + 1, r.Uint32N(box.UIDNext) + 1}}
	switch r.IntN(10) {
	case 0, 1, 2, 3:
		var b Batch
		for range r.IntN(5) + 1 {
			d := delivery(s, a)
			d.Mailbox, d.Flags = from, Flags(r.Uint32N(32))
			b.Deliveries = append(b.Deliveries, d)
		}
		_, err = s.Commit(ctx, b)
	case 4, 5, 6:
		_, err = s.SetFlags(ctx, from, uids, FlagOp(r.IntN(3)), Flags(r.Uint32N(32)),
			[]string{fmt.Sprintf("k%d", r.IntN(3))}, uint64(r.IntN(2))*box.ModSeq/2)
	case 7:
		_, err = s.Expunge(ctx, from, uids)
	case 8:
		_, err = s.Copy(ctx, from, uids[:1], to)
	default:
		_, err = s.Move(ctx, from, uids[:1], to)
	}
	return err
}

// freshView reads a whole mailbox anew.
func freshView(t *testing.T, s *Store, id ID) *View {
	t.Helper()
	slot := &viewSlot{}
	err := s.readers.snapshot(context.Background(), s.dialect.beginRead, func(c *session) error {
		return slot.catchUp(context.Background(), c, id)
	})
	noError(t, err)
	return &View{slot.mailbox, slot.entries}
}

// testViewConcurrent reads views while others write: each must agree with its
// own mailbox row, and what was committed before it must be in it.
func testViewConcurrent(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	id := mailbox(t, s, a, "INBOX").ID
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 40 {
				place, _ := deliver(t, s, a)
				if w == 0 && i%10 == 5 {
					if _, err := s.SetFlags(ctx, id, []Range{{place.UID, place.UID}}, FlagsAdd, Deleted, nil, 0); err != nil {
						t.Error(err)
					}
					if _, err := s.Expunge(ctx, id, nil); err != nil {
						t.Error(err)
					}
					continue
				}
				v, err := s.View(ctx, id)
				if err != nil {
					t.Error(err)
					return
				}
				n := searchUID(v.Entries, place.UID)
				if n == len(v.Entries) || v.Entries[n].UID != place.UID {
					t.Errorf("UID %d was delivered and is not in the view", place.UID)
				}
				var size int64
				var top uint64
				for _, e := range v.Entries {
					size += e.Size
					top = max(top, e.ModSeq)
				}
				if int(v.Mailbox.Messages) != len(v.Entries) || v.Mailbox.Size != size || top > v.Mailbox.ModSeq {
					t.Errorf("mailbox %+v with %d entries of %d octets", v.Mailbox, len(v.Entries), size)
				}
			}
		})
	}
	wg.Wait()
}

func TestMergeEntries(t *testing.T) {
	t.Parallel()
	entries := func(uids ...uint32) (e []Entry) {
		for _, u := range uids {
			e = append(e, Entry{UID: u, ModSeq: 1})
		}
		return e
	}
	for name, c := range map[string]struct {
		base    []Entry
		changed []Entry
		gone    []Range
		want    []uint32
	}{
		"nothing":         {},
		"first":           {nil, entries(1, 2), nil, []uint32{1, 2}},
		"append":          {entries(1, 2), entries(3), nil, []uint32{1, 2, 3}},
		"all gone":        {entries(1, 2), nil, []Range{{1, maxUID}}, nil},
		"between":         {entries(1, 3, 5), entries(4), []Range{{2, 3}}, []uint32{1, 4, 5}},
		"last gone":       {entries(1, 3, 5), entries(6), []Range{{5, 5}}, []uint32{1, 3, 6}},
		"several":         {entries(1, 2, 3, 4, 5, 6), entries(3, 7), []Range{{2, 2}, {4, 5}, {9, 9}}, []uint32{1, 3, 6, 7}},
		"gone before":     {entries(10, 11), entries(11), []Range{{1, 9}}, []uint32{10, 11}},
		"range over some": {entries(1, 2, 8, 9), entries(8), []Range{{2, 7}}, []uint32{1, 8, 9}},
	} {
		for i := range c.changed {
			c.changed[i].ModSeq = 2
		}
		var got []uint32
		for _, e := range mergeEntries(c.base, c.changed, c.gone) {
			got = append(got, e.UID)
			isNew := slices.ContainsFunc(c.changed, func(x Entry) bool { return x.UID == e.UID })
			if isNew != (e.ModSeq == 2) {
				t.Errorf("%s: entry %+v", name, e)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestViewsAreBounded(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	s.views = newViews(100_000) // octets
	a := newAccount(t, s, "alice@example.org")
	var boxes []ID
	for i := range 10 {
		boxes = append(boxes, create(t, s, a, fmt.Sprint("box", i)).ID)
	}
	inbox := fill(t, s, a, 500).ID
	for _, id := range boxes {
		_, err := s.Copy(context.Background(), inbox, all, id)
		noError(t, err)
		view(t, s, id)
		view(t, s, boxes[0]) // in use, so it stays
	}
	if s.views.octets > s.views.limit || len(s.views.slots) < 2 || s.views.slots[boxes[0]] == nil {
		t.Errorf("%d views of %d octets", len(s.views.slots), s.views.octets)
	}
	var sum int64
	for _, slot := range s.views.slots {
		sum += slot.octets
	}
	if sum != s.views.octets {
		t.Errorf("octets %d, counted %d", sum, s.views.octets)
	}
	s.DropViews()
	if len(view(t, s, boxes[9]).Entries) != 500 {
		t.Error("view after all were dropped")
	}
}
