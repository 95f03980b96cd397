package store

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

func testFlags(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	id := fill(t, s, a, 6).ID
	step := func(uids []Range, op FlagOp, f Flags, want string) {
		t.Helper()
		before := view(t, s, id)
		failed, err := s.SetFlags(ctx, id, uids, op, f, nil, 0)
		noError(t, err)
		if failed != nil {
			t.Errorf("failed %v", failed)
		}
		v, got := view(t, s, id), ""
		for i, e := range v.Entries {
			got += fmt.Sprintf("%d", e.Flags)
			changed := e.Flags != before.Entries[i].Flags
			if changed && e.ModSeq <= before.Mailbox.ModSeq || !changed && e.ModSeq != before.Entries[i].ModSeq {
				t.Errorf("entry %d: MODSEQ %d after %d", e.UID, e.ModSeq, before.Entries[i].ModSeq)
			}
		}
		if got != want {
			t.Errorf("flags %s, want %s", got, want)
		}
	}
	step([]Range{{5, 4}, {2, 2}}, FlagsAdd, Seen, "010110")
	step(all, FlagsAdd, Seen, "111111")
	step([]Range{{3, maxUID}}, FlagsRemove, Seen|Deleted, "110000")
	step([]Range{{2, 3}, {6, 9}}, FlagsReplace, Deleted, "188008")
	step([]Range{{2, 3}, {6, 9}}, FlagsReplace, Deleted, "188008")
	step(all, FlagsAdd, 1<<9, "188008") // no such flag
	if m := view(t, s, id).Mailbox; m.Unseen != 5 || m.Deleted != 3 {
		t.Errorf("mailbox %+v", m)
	}
	modseq := mailbox(t, s, a, "INBOX").ModSeq
	_, err := s.SetFlags(ctx, id, nil, FlagsReplace, 0, nil, 0)
	noError(t, err)
	_, err = s.SetFlags(ctx, id, []Range{{100, 200}}, FlagsReplace, 0, nil, 0)
	noError(t, err)
	if m := mailbox(t, s, a, "INBOX"); m.ModSeq != modseq {
		t.Errorf("MODSEQ %d without a change, was %d", m.ModSeq, modseq)
	}
	_, err = s.SetFlags(ctx, id+1, all, FlagsAdd, Seen, nil, 0)
	wantError(t, err, ErrNotFound)
}

func testFlagsSteps(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	const n = 2*flagStep + 100
	id := fill(t, s, a, n).ID
	var odd []Range
	for uid := uint32(1); uid <= n; uid += 2 {
		odd = append(odd, Range{uid, uid})
	}
	_, err := s.SetFlags(ctx, id, odd, FlagsAdd, Seen, nil, 0)
	noError(t, err)
	_, err = s.SetFlags(ctx, id, all, FlagsAdd, Flagged, nil, 0)
	noError(t, err)
	for _, e := range view(t, s, id).Entries {
		if e.Flags != Flagged|Flags(e.UID%2)*Seen {
			t.Fatalf("entry %d has flags %d", e.UID, e.Flags)
		}
	}
}

func testKeywords(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	id := fill(t, s, a, 2).ID
	step := func(op FlagOp, keywords []string, want string) {
		t.Helper()
		_, err := s.SetFlags(ctx, id, []Range{{1, 1}}, op, 0, keywords, 0)
		noError(t, err)
		if e := view(t, s, id).Entries; e[0].Keywords != want || e[1].Keywords != "" {
			t.Errorf("keywords %q, %q; want %q", e[0].Keywords, e[1].Keywords, want)
		}
	}
	step(FlagsAdd, []string{"Work", "$Junk"}, "$Junk Work")
	step(FlagsAdd, []string{"WORK", "a"}, "$Junk a Work")
	step(FlagsRemove, []string{"work", "none"}, "$Junk a")
	step(FlagsReplace, []string{"A", "z", "Z"}, "a z")
	step(FlagsReplace, nil, "")
	var many []string
	for i := range maxKeywords {
		many = append(many, fmt.Sprintf("k%02d", i))
	}
	step(FlagsAdd, many, join(many))
	_, err := s.SetFlags(ctx, id, []Range{{1, 1}}, FlagsAdd, 0, []string{"more"}, 0)
	wantError(t, err, ErrKeyword)
	step(FlagsReplace, nil, "")
	long := make([]byte, maxKeyword+1)
	for i := range long {
		long[i] = 'x'
	}
	for _, bad := range []string{"", "a b", `\Seen`, "a(", "a]", "ä", "a\x00", string(long)} {
		_, err := s.SetFlags(ctx, id, all, FlagsAdd, 0, []string{bad}, 0)
		wantError(t, err, ErrKeyword)
	}
	_, err = s.SetFlags(ctx, id, all, FlagsAdd, 0, append(many, "x"), 0)
	wantError(t, err, ErrKeyword)
}

func testUnchangedSince(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	id := fill(t, s, a, 5).ID // MODSEQ 2 to 6
	_, err := s.SetFlags(ctx, id, []Range{{2, 2}}, FlagsAdd, Seen, nil, 0)
	noError(t, err) // 7
	failed, err := s.SetFlags(ctx, id, all, FlagsAdd, Flagged, nil, 5)
	noError(t, err)
	if !slices.Equal(failed, []uint32{2, 5}) {
		t.Errorf("failed %v", failed)
	}
	for _, e := range view(t, s, id).Entries {
		if want := e.UID != 2 && e.UID != 5; (e.Flags&Flagged != 0) != want {
			t.Errorf("entry %+v", e)
		}
	}
}

func testExpunge(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	id := fill(t, s, a, 6).ID
	if gone, err := s.Expunge(ctx, id, nil); err != nil || len(gone) != 0 {
		t.Fatalf("expunged %v, %v", gone, err)
	}
	_, err := s.SetFlags(ctx, id, []Range{{2, 4}, {6, 6}}, FlagsAdd, Deleted, nil, 0)
	noError(t, err)
	before := view(t, s, id)
	gone, err := s.Expunge(ctx, id, []Range{{3, 5}})
	noError(t, err)
	if !slices.Equal(gone, []uint32{3, 4}) {
		t.Errorf("expunged %v", gone)
	}
	middle := mailbox(t, s, a, "INBOX").ModSeq
	gone, err = s.Expunge(ctx, id, nil)
	noError(t, err)
	if !slices.Equal(gone, []uint32{2, 6}) {
		t.Errorf("expunged %v", gone)
	}
	after := view(t, s, id).Mailbox
	if after.Messages != 2 || after.Deleted != 0 || after.Unseen != 2 || after.UIDNext != 7 {
		t.Errorf("mailbox %+v", after)
	}
	for since, want := range map[uint64]string{0: "[{2 4} {6 6}]", before.Mailbox.ModSeq: "[{2 4} {6 6}]",
		middle: "[{2 2} {6 6}]", after.ModSeq: "[]", 1 << 63: "[]"} {
		ranges, err := s.ExpungedSince(ctx, id, since)
		noError(t, err)
		if got := fmt.Sprint(ranges); got != want {
			t.Errorf("expunged since %d: %s, want %s", since, got, want)
		}
	}
	dead, err := s.DeadBlobs(ctx, 100)
	noError(t, err)
	if len(dead) != 4 || used(t, s, a) != after.Size {
		t.Errorf("%d dead blobs, uses %d of %d", len(dead), used(t, s, a), after.Size)
	}
	_, err = s.Message(ctx, before.Entries[1].Message)
	wantError(t, err, ErrNotFound)
	// Somebody took the flag away between the search and the transaction.
	noError(t, s.write(ctx, func(tx *tx) error {
		b, err := tx.box(id)
		if err != nil {
			return err
		}
		gone, err := tx.expunge(b, all)
		if len(gone) != 0 {
			t.Errorf("expunged %v without the flag", gone)
		}
		return err
	}))
	_, err = s.Expunge(ctx, id+1, nil)
	wantError(t, err, ErrNotFound)
	_, err = s.ExpungedSince(ctx, id+1, 0)
	wantError(t, err, ErrNotFound)
}

func testExpungeSteps(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	const n = 2*expungeStep + 10
	id := fill(t, s, a, n).ID
	_, err := s.SetFlags(ctx, id, all, FlagsAdd, Deleted, nil, 0)
	noError(t, err)
	gone, err := s.Expunge(ctx, id, nil)
	noError(t, err)
	if len(gone) != n || !slices.IsSorted(gone) || len(view(t, s, id).Entries) != 0 || used(t, s, a) != 0 {
		t.Errorf("%d expunged, uses %d", len(gone), used(t, s, a))
	}
}
