package store

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/mail"
)

// queueChild puts copies into the queue from some goroutines, and claims and finishes
// from others, until it is killed. It prints "+ id" after a recipient is acknowledged and
// "- id" before it is finished, as delivered then.
func queueChild(path string, _ int) error {
	ctx := context.Background()
	s, err := Open(ctx, Options{Path: path})
	if err != nil {
		return err
	}
	defer s.Close()
	a, err := s.AccountByAddress(ctx, "alice@example.org")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				if err := queueStep(ctx, s, a, w, i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	return <-errs
}

func queueStep(ctx context.Context, s *Store, a Account, worker, i int) error {
	if worker < 2 {
		o := Outgoing{ID: s.NewID(), Account: a.ID, Protection: sealed(), Level: mail.Sealed, Blob: Blob{Ref: s.NewID().String(), Size: 1}, Size: 1}
		for n := range 1 + i%3 {
			o.Rcpts = append(o.Rcpts, OutgoingRcpt{ID: s.NewID(), Address: "x", Domain: fmt.Sprintf("d%d.example", (i+n)%7)})
		}
		if _, err := s.Commit(ctx, Batch{Outgoing: []Outgoing{o}}); err != nil {
			return err
		}
		for _, r := range o.Rcpts {
			fmt.Fprintf(os.Stdout, "+ %d\n", r.ID)
		}
		return nil
	}
	now := time.Now()
	got, err := s.ClaimOutgoing(ctx, Claim{Owner: "child", Now: now, Until: now.Add(time.Hour), Limit: 3, PerLane: 3})
	if err != nil {
		return err
	}
	var f Finish
	for _, g := range got.Groups {
		done := rand.IntN(3) == 0
		for _, q := range g.Rcpts {
			if done {
				fmt.Fprintf(os.Stdout, "- %d\n", q.ID)
			}
			f.Outcomes = append(f.Outcomes, Outcome{Rcpt: q.ID, Claim: g.ID, Done: done, Due: now, Attempted: true})
		}
	}
	lost, err := s.FinishOutgoing(ctx, f)
	if err == nil && lost > 0 {
		err = fmt.Errorf("%d lost", lost)
	}
	return err
}

// TestKillQueue kills a process that fills and empties the queue, again and again: what
// it acknowledged and did not deliver is there, and can be claimed by who comes after.
func TestKillQueue(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "postern.db")
	s := openFile(t, path)
	newAccount(t, s, "alice@example.org")
	noError(t, s.Close())
	waits := map[ID]bool{}
	delivered := map[ID]bool{}
	for range 6 {
		cmd, out := startChild(t, path, 0, storeChild+"_QUEUE=1")
		n, after := 0, 50+rand.IntN(400)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n++; n == after {
				noError(t, cmd.Process.Kill())
			}
			var id ID
			if _, err := fmt.Sscanf(lines.Text(), "+ %d", &id); err == nil {
				waits[id] = true
			} else if _, err := fmt.Sscanf(lines.Text(), "- %d", &id); err == nil {
				delivered[id] = true
			}
		}
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("child ended with %v", err)
		}
		s, err := Open(ctx, Options{Path: path})
		noError(t, err)
		noError(t, s.Check(ctx))
		there := map[ID]bool{}
		for _, q := range queued(t, s, Selection{All: true}) {
			there[q.ID] = true
		}
		for id := range waits {
			if !there[id] && !delivered[id] {
				t.Errorf("recipient %v was acknowledged and is gone", id)
			}
		}
		_, err = s.TakeBackOutgoing(ctx, "child", time.Now())
		noError(t, err)
		for _, q := range queued(t, s, Selection{All: true}) {
			if q.Owner != "" || q.Due.After(time.Now()) {
				t.Errorf("recipient %v is with %q until %v", q.ID, q.Owner, q.Due)
			}
		}
		noError(t, s.Close())
	}
	if len(waits) < 100 || len(delivered) == 0 {
		t.Errorf("%d acknowledged, %d delivered", len(waits), len(delivered))
	}
}
