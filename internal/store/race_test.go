package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
)

// testRace lets writers and readers loose on the same mailboxes. The store's
// Check at the end says whether the counters survived.
func testRace(t *testing.T, s *Store) {
	ctx := context.Background()
	a, b := newAccount(t, s, "alice@example.org"), newAccount(t, s, "bob@example.org")
	boxes := []ID{mailbox(t, s, a, "INBOX").ID, create(t, s, a, "other").ID}
	noError(t, s.SetQuota(ctx, b.ID, 1)) // every delivery to b fails
	uids := make(chan uint32, 10_000)
	var wg sync.WaitGroup
	for w := range 8 {
		r := rand.New(rand.NewPCG(uint64(w), 7))
		wg.Go(func() {
			for range 30 {
				if err := randomOperation(ctx, s, a, r, boxes[r.IntN(2)], boxes[r.IntN(2)]); err != nil {
					t.Error(err)
				}
				placed, err := s.Commit(ctx, Batch{Deliveries: []Delivery{delivery(s, a)}})
				if err != nil {
					t.Error(err)
					return
				}
				uids <- placed[0].UID
				_, err = s.Commit(ctx, Batch{Deliveries: []Delivery{delivery(s, b)}})
				if !errors.Is(err, ErrOverQuota) {
					t.Errorf("over quota: %v", err)
				}
			}
		})
		wg.Go(func() {
			for range 30 {
				v, err := s.View(ctx, boxes[w%2])
				if err != nil {
					t.Error(err)
					return
				}
				err = s.Messages(ctx, boxes[w%2], []Range{{1, v.Mailbox.UIDNext}}, WantEnvelope,
					func(uint32, *Message) error { return nil })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(uids)
	seen := map[uint32]bool{}
	for uid := range uids {
		if seen[uid] {
			t.Errorf("UID %d was given out twice", uid)
		}
		seen[uid] = true
	}
}
