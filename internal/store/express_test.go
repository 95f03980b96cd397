package store

import (
	"context"
	"reflect"
	"testing"
	"time"

	"postern/internal/mail"
)

// testExpress: what is taken in hand while it is committed is as if it had been claimed,
// and the rest waits.
func testExpress(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	enqueue(t, s, a, mail.Sealed, "dead.example") // which keeps its lane
	finish(t, s, Finish{Lanes: []LaneOutcome{{Lane{Domain: "dead.example"}, 1, time.Now().Add(time.Hour), "down"}}}, 0)

	var many []string
	for range MaxGroup + 1 {
		many = append(many, "many.example")
	}
	one := outgoing(t, s, a, mail.Sealed, "two.example", "one.example", "two.example", "dead.example", "none.example")
	other := outgoing(t, s, a, mail.Clear, append(many, "one.example", "one.example")...)
	held := outgoing(t, s, a, mail.Held, "one.example")
	until := time.Now().Add(time.Minute).Truncate(time.Microsecond).UTC()
	lanes := []Lane{{Domain: "one.example"}, {Domain: "two.example"}, {Domain: "two.example"}, {Domain: "dead.example"}, {Domain: "many.example"}, {Domain: "absent.example"}}
	_, groups, err := s.CommitExpress(ctx, Batch{Outgoing: []Outgoing{held, one, other}}, Express{Owner: "n1", Until: until, Lanes: lanes})
	noError(t, err)
	want := []struct {
		domain string
		copy   Outgoing
		rcpts  []OutgoingRcpt
	}{
		{"two.example", one, []OutgoingRcpt{one.Rcpts[0], one.Rcpts[2]}},
		{"one.example", one, one.Rcpts[1:2]},
		{"many.example", other, other.Rcpts[:MaxGroup]},
	}
	if len(groups) != len(want) {
		t.Fatalf("%d groups", len(groups))
	}
	rows := map[ID]Queued{}
	for _, q := range queued(t, s, Selection{All: true}) {
		rows[q.ID] = q
	}
	for i, w := range want {
		g := groups[i]
		if g.Lane != (Lane{Domain: w.domain}) || g.Copy.ID != w.copy.ID || len(g.Rcpts) != len(w.rcpts) {
			t.Fatalf("group %d: %v of %v, %d recipients", i, g.Lane, g.Copy.ID, len(g.Rcpts))
		}
		for j, q := range g.Rcpts {
			if !reflect.DeepEqual(q.OutgoingRcpt, w.rcpts[j]) || !reflect.DeepEqual(q, rows[q.ID].QueuedRcpt) {
				t.Errorf("recipient\n%+v, stored\n%+v", q, rows[q.ID].QueuedRcpt)
			}
			delete(rows, q.ID)
		}
	}
	if groups[0].Copy != groups[1].Copy {
		t.Error("two groups of one copy do not share it")
	}
	for _, q := range rows {
		if q.Owner != "" || !q.Lease.IsZero() {
			t.Errorf("taken, and not handed out: %+v", q)
		}
	}

	// What was handed out is what a claim would have given.
	finish(t, s, Finish{Outcomes: append(outcomes(groups[0], Outcome{Due: time.Now()}), outcomes(groups[1], Outcome{Due: time.Now()})...)}, 0)
	for _, g := range claim(t, s, time.Second, nil).Groups {
		if g.Copy.ID == one.ID && !reflect.DeepEqual(g.Copy, groups[0].Copy) {
			t.Errorf("claimed\n%+v, handed out\n%+v", g.Copy, groups[0].Copy)
		}
	}
	// A lease that ends gives the recipients to whoever asks.
	found := 0
	for range 20 {
		for _, g := range claim(t, s, 2*time.Minute, nil).Groups {
			if g.Domain == "many.example" {
				found += len(g.Rcpts)
			}
			finish(t, s, Finish{Outcomes: outcomes(g, Outcome{Done: true})}, 0)
		}
	}
	if found != MaxGroup+1 {
		t.Errorf("%d of %d recipients were claimed in the end", found, MaxGroup+1)
	}
	noError(t, s.Check(ctx))
}
