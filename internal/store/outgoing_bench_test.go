package store

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"postern/internal/mail"
)

// fillQueue puts n copies with one recipient each into the queue, a fifth of them for
// one domain and the rest for a thousand others.
func fillQueue(b *testing.B, s *Store, a Account, n int) {
	b.Helper()
	for i := 0; i < n; {
		var batch Batch
		for range 1000 {
			domain := fmt.Sprintf("d%d.example", i%1000)
			if i%5 == 0 {
				domain = "dead.example"
			}
			batch.Outgoing = append(batch.Outgoing, outgoing(b, s, a, mail.Sealed, domain))
			i++
		}
		if _, err := s.Commit(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkQueue measures with 500,000 recipients waiting, of which 100,000 are for a
// domain that was not reached.
func BenchmarkQueue(b *testing.B) {
	ctx := context.Background()
	path := filepath.Join(b.TempDir(), "postern.db")
	s, err := Open(ctx, Options{Path: path})
	noError(b, err)
	a := newAccount(b, s, "alice@example.org")
	fillQueue(b, s, a, 500_000)
	down := []LaneOutcome{{Lane{Domain: "dead.example"}, 1, time.Now().Add(time.Hour), "down"}}
	_, err = s.FinishOutgoing(ctx, Finish{Lanes: down})
	noError(b, err)
	claim := func(b *testing.B, limit int) Claimed {
		now := time.Now()
		got, err := s.ClaimOutgoing(ctx, Claim{Owner: "n", Now: now, Until: now.Add(time.Hour), Limit: limit, PerLane: 2})
		noError(b, err)
		if len(got.Groups) == 0 {
			b.Fatal("nothing is due")
		}
		return got
	}
	for _, limit := range []int{1, 10, 50} {
		b.Run(fmt.Sprintf("claim=%d", limit), func(b *testing.B) {
			for b.Loop() {
				claim(b, limit)
			}
		})
	}
	b.Run("claim and finish=10", func(b *testing.B) {
		for b.Loop() {
			var f Finish
			for _, g := range claim(b, 10).Groups {
				f.Outcomes = append(f.Outcomes, outcomes(g, Outcome{Done: true})...)
			}
			if lost, err := s.FinishOutgoing(ctx, f); err != nil || lost > 0 {
				b.Fatal(lost, err)
			}
		}
	})
	b.Run("fail the dead domain", func(b *testing.B) {
		for b.Loop() {
			noError(b, second(s.FinishOutgoing(ctx, Finish{Lanes: down})))
		}
	})
	b.Run("overdue", func(b *testing.B) {
		for b.Loop() {
			now := time.Now()
			noError(b, second(s.ClaimOverdue(ctx, Overdue{Owner: "n", Now: now, Until: now.Add(time.Hour), Limit: 100, Age: time.Hour})))
		}
	})
	b.Run("count", func(b *testing.B) {
		for b.Loop() {
			noError(b, second(s.CountOutgoing(ctx)))
		}
	})
	b.Run("take back", func(b *testing.B) {
		noError(b, second(s.TakeBackOutgoing(ctx, "n", time.Now())))
		for b.Loop() {
			noError(b, second(s.TakeBackOutgoing(ctx, "n", time.Now())))
		}
	})
	noError(b, s.Close())
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s, err := Open(ctx, Options{Path: path})
			noError(b, err)
			noError(b, s.Close())
		}
	})
}
