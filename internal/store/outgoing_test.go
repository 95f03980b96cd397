package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"postern/internal/mail"
)

// leaving returns a protection of each level that may leave.
func leaving(t testing.TB, level mail.Level) mail.Protection {
	t.Helper()
	var p mail.Protection
	switch level {
	case mail.EndToEnd:
		p = mail.Protect(mail.Order{Floor: mail.Clear}, mail.ContentEncrypted, mail.None)
	case mail.Sealed:
		p = sealed()
	default:
		p = mail.Protect(mail.Order{Floor: mail.Clear, NoCertificate: level}, mail.ContentClear, mail.None)
	}
	if p.Level() != level {
		t.Fatalf("level %v, want %v", p.Level(), level)
	}
	return p
}

// outgoing makes a sealed copy for recipients at domains.
func outgoing(t testing.TB, s *Store, a Account, level mail.Level, domains ...string) Outgoing {
	t.Helper()
	id := s.NewID()
	o := Outgoing{
		ID: id, Account: a.ID, Source: "t" + id.String(), From: a.Address.String(), Protection: leaving(t, level), Level: level,
		Head: fmt.Appendf(nil, "Message-ID: <%d@example.org>\r\n\r\n", id), Tail: []byte("tail"),
		Blob: Blob{Ref: fmt.Sprintf("segment-%d", id), Size: 2000}, Body: "7BIT", Locked: level < mail.Sealed,
		EnvID: "env", Return: "HDRS", Facts: []byte("facts"),
	}
	o.Blob.Digest = sha256.Sum256([]byte(o.Blob.Ref))
	o.Size = int64(len(o.Head)+len(o.Tail)) + o.Blob.Size
	for i, d := range domains {
		o.Rcpts = append(o.Rcpts, OutgoingRcpt{ID: s.NewID(), Address: fmt.Sprintf("r%d@%s", i, d), Domain: d,
			Notify: mail.NotifyFailure, Original: "rfc822;x@y"})
	}
	return o
}

func enqueue(t testing.TB, s *Store, a Account, level mail.Level, domains ...string) Outgoing {
	t.Helper()
	o := outgoing(t, s, a, level, domains...)
	_, err := s.Commit(context.Background(), Batch{Outgoing: []Outgoing{o}})
	noError(t, err)
	return o
}

// claim claims up to ten groups as of now plus later, for a minute.
func claim(t testing.TB, s *Store, later time.Duration, busy map[Lane]int) Claimed {
	t.Helper()
	now := time.Now().Add(later)
	c, err := s.ClaimOutgoing(context.Background(), Claim{Owner: "n1", Now: now, Until: now.Add(time.Minute), Limit: 10, PerLane: 2, Busy: busy})
	noError(t, err)
	return c
}

func finish(t testing.TB, s *Store, f Finish, lost int) {
	t.Helper()
	n, err := s.FinishOutgoing(context.Background(), f)
	noError(t, err)
	if n != lost {
		t.Errorf("%d outcomes lost, want %d", n, lost)
	}
}

// outcomes makes one outcome for each recipient of a group.
func outcomes(g Group, make Outcome) (all []Outcome) {
	for _, q := range g.Rcpts {
		make.Rcpt, make.Claim = q.ID, g.ID
		all = append(all, make)
	}
	return all
}

func liveBlobs(t testing.TB, s *Store) int {
	t.Helper()
	n := 0
	noError(t, s.Blobs(context.Background(), func(Blob) error { n++; return nil }))
	return n
}

func queued(t testing.TB, s *Store, sel Selection) (all []Queued) {
	t.Helper()
	noError(t, s.ListOutgoing(context.Background(), sel, func(q Queued) error { all = append(all, q); return nil }))
	return all
}

// testOutgoingGate is P3 at the queue's door.
func testOutgoingGate(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	levels := []mail.Level{mail.Refused, mail.Deferred, mail.Notice, mail.Clear, mail.TLSOnly, mail.Held, mail.Sealed, mail.EndToEnd}
	protections := []mail.Protection{{}, mail.Protect(mail.Order{Floor: mail.Clear}, mail.ContentNotice, mail.None),
		mail.Protect(mail.Order{Floor: mail.Clear, NotKnown: mail.Deferred}, mail.ContentClear, mail.Unknown)}
	for _, l := range levels[3:] {
		protections = append(protections, leaving(t, l))
	}
	accepted := 0
	for _, p := range protections {
		for _, claimed := range levels {
			for _, locked := range []bool{false, true} {
				o := outgoing(t, s, a, mail.Sealed, "example.com")
				o.Protection, o.Level, o.Locked = p, claimed, locked
				_, err := s.Commit(ctx, Batch{Outgoing: []Outgoing{o}})
				may := p.MayLeave() && p.Level() == claimed
				open := claimed == mail.Sealed || claimed == mail.EndToEnd
				if want := may && (open || locked); want {
					accepted++
					noError(t, err)
				} else {
					wantError(t, err, ErrUnprotected)
				}
			}
		}
	}
	if n := len(queued(t, s, Selection{All: true})); n != accepted || n != 7 {
		t.Errorf("%d rows, %d accepted, want 7", n, accepted)
	}
}

func testOutgoingRefuses(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	for name, breaks := range map[string]func(*Outgoing){
		"no id":            func(o *Outgoing) { o.ID = 0 },
		"no account":       func(o *Outgoing) { o.Account = 0 },
		"no recipient":     func(o *Outgoing) { o.Rcpts = nil },
		"size":             func(o *Outgoing) { o.Size++ },
		"body":             func(o *Outgoing) { o.Body = "BINARYMIME" },
		"return":           func(o *Outgoing) { o.Return = "full" },
		"recipient's id":   func(o *Outgoing) { o.Rcpts[0].ID = 0 },
		"address":          func(o *Outgoing) { o.Rcpts[0].Address = "" },
		"domain":           func(o *Outgoing) { o.Rcpts[0].Domain = "" },
		"domain's case":    func(o *Outgoing) { o.Rcpts[0].Domain = "Example.com" },
		"blob without ref": func(o *Outgoing) { o.Blob.Ref = "" },
	} {
		o := outgoing(t, s, a, mail.Sealed, "example.com")
		breaks(&o)
		if _, err := s.Commit(ctx, Batch{Outgoing: []Outgoing{o}}); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			wantError(t, err, ErrInvalid)
		}
	}
	o := outgoing(t, s, a, mail.Sealed, "example.com")
	o.Account = 77
	wantError(t, second(s.Commit(ctx, Batch{Outgoing: []Outgoing{o}})), ErrNotFound)
	o = enqueue(t, s, a, mail.Sealed, "example.com")
	wantError(t, second(s.Commit(ctx, Batch{Outgoing: []Outgoing{o}})), ErrExists)
	wantError(t, second(s.Commit(ctx, Batch{Replaced: []ID{o.Rcpts[0].ID}})), ErrInvalid)
	wantError(t, second(s.Commit(ctx, Batch{Replaced: []ID{77}})), ErrNotFound)
	if len(queued(t, s, Selection{All: true})) != 1 || liveBlobs(t, s) != 1 {
		t.Error("a refused batch left something")
	}
}

// testClaim follows one copy with three recipients at two domains.
func testClaim(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	o := enqueue(t, s, a, mail.Sealed, "one.example", "two.example", "one.example")
	got := claim(t, s, time.Second, nil)
	if len(got.Groups) != 2 || len(got.Groups[0].Rcpts)+len(got.Groups[1].Rcpts) != 3 {
		t.Fatalf("claimed %+v", got)
	}
	want := o
	want.Protection, want.Rcpts, want.Created = mail.Protection{}, nil, got.Groups[0].Copy.Created
	if !reflect.DeepEqual(*got.Groups[0].Copy, want) || time.Since(want.Created) > time.Minute {
		t.Errorf("copy %+v, want %+v", got.Groups[0].Copy, want)
	}
	if again := claim(t, s, time.Second, nil); len(again.Groups) != 0 || time.Until(again.Next) < 50*time.Second {
		t.Errorf("claimed twice: %+v", again)
	}
	one, two := got.Groups[0], got.Groups[1]
	if one.Domain != "one.example" {
		one, two = two, one
	}
	if len(one.Rcpts) != 2 || one.Rcpts[0].OutgoingRcpt != o.Rcpts[0] || two.Rcpts[0].OutgoingRcpt != o.Rcpts[1] {
		t.Errorf("recipients %+v, %+v", one.Rcpts, two.Rcpts)
	}
	// One delivered, one to be tried again, one left to its lease.
	reply := Reply{451, "4.7.1", "greylisted", "mx.one.example"}
	due := time.Now().Add(time.Hour)
	finish(t, s, Finish{Outcomes: []Outcome{
		{Rcpt: one.Rcpts[0].ID, Claim: one.ID, Done: true},
		{Rcpt: one.Rcpts[1].ID, Claim: one.ID, Due: due, Attempted: true, Reply: reply},
	}, Audit: []Audit{{Kind: "relay", Subject: "x"}}}, 0)
	rows := queued(t, s, Selection{ID: o.ID})
	if len(rows) != 2 || rows[1].Reply != reply || rows[1].Attempts != 1 || rows[1].Due.Unix() != due.Unix() ||
		rows[1].Owner != "" || rows[0].Owner != "n1" || rows[0].Outgoing.From != o.From {
		t.Errorf("rows %+v", rows)
	}
	// The lease of the other ends: it is due, and what its first owner says of it only
	// counts if it is delivered.
	got = claim(t, s, 5*time.Minute, nil)
	if len(got.Groups) != 1 || got.Groups[0].Rcpts[0].ID != two.Rcpts[0].ID || got.Groups[0].ID == two.ID {
		t.Fatalf("claimed %+v", got)
	}
	finish(t, s, Finish{Outcomes: outcomes(two, Outcome{Due: time.Now()})}, 1)
	if lost, err := s.RenewOutgoing(ctx, []Group{two, got.Groups[0]}, time.Now().Add(time.Hour)); err != nil || len(lost) != 1 {
		t.Errorf("lost %v, %v", lost, err)
	}
	if again := claim(t, s, 50*time.Minute, nil); len(again.Groups) != 0 {
		t.Errorf("a renewed lease ended: %+v", again)
	}
	finish(t, s, Finish{Outcomes: outcomes(two, Outcome{Done: true})}, 0)
	finish(t, s, Finish{Outcomes: outcomes(got.Groups[0], Outcome{Done: true})}, 1)
	if liveBlobs(t, s) != 1 {
		t.Error("the blob is gone while a recipient waits")
	}
	got = claim(t, s, 2*time.Hour, nil)
	finish(t, s, Finish{Outcomes: outcomes(got.Groups[0], Outcome{Done: true})}, 0)
	if liveBlobs(t, s) != 0 || len(queued(t, s, Selection{All: true})) != 0 {
		t.Error("something is left")
	}
	wantError(t, second(s.Outgoing(ctx, o.ID)), ErrNotFound)
}

// testLanes is the back-off of a whole domain: nothing of it is due, one group probes,
// and others go on.
func testLanes(t *testing.T, s *Store) {
	a := newAccount(t, s, "alice@example.org")
	for range 5 {
		enqueue(t, s, a, mail.Sealed, "dead.example")
	}
	got := claim(t, s, time.Second, nil)
	if len(got.Groups) != 2 || got.Next != (time.Time{}) {
		t.Fatalf("%d groups of one lane, next %v", len(got.Groups), got.Next)
	}
	if more := claim(t, s, time.Second, map[Lane]int{got.Groups[0].Lane: 2}); len(more.Groups) != 0 {
		t.Errorf("claimed more than may be in hand: %+v", more)
	}
	until := time.Now().Add(time.Hour)
	down := LaneOutcome{got.Groups[0].Lane, 1, until, "no route"}
	for _, g := range got.Groups {
		finish(t, s, Finish{Outcomes: outcomes(g, Outcome{Due: time.Now(), Attempted: true}), Lanes: []LaneOutcome{down}}, 0)
	}
	enqueue(t, s, a, mail.Sealed, "dead.example")
	enqueue(t, s, a, mail.Sealed, "live.example")
	got = claim(t, s, time.Second, nil)
	if len(got.Groups) != 1 || got.Groups[0].Domain != "live.example" {
		t.Errorf("claimed %+v", got)
	}
	finish(t, s, Finish{Outcomes: outcomes(got.Groups[0], Outcome{Done: true})}, 0)
	if got = claim(t, s, time.Second, nil); len(got.Groups) != 0 || got.Next.Unix() != until.Unix() {
		t.Errorf("claimed %+v", got)
	}
	if rows := queued(t, s, Selection{Domain: "dead.example"}); len(rows) != 6 || rows[0].Reason != "no route" || rows[0].Backoff.Unix() != until.Unix() {
		t.Errorf("rows %+v", rows)
	}
	n, err := s.CountOutgoing(context.Background())
	noError(t, err)
	if n.Waiting != 6 || n.Domains != 1 || n.Unreached != 1 || n.Oldest.IsZero() {
		t.Errorf("counts %+v", n)
	}
	// One probes; when it comes through, all go on.
	got = claim(t, s, 2*time.Hour, nil)
	if len(got.Groups) != 1 || got.Groups[0].Failures != 1 || !got.Next.IsZero() {
		t.Fatalf("claimed %+v", got)
	}
	up := LaneOutcome{Lane: down.Lane}
	finish(t, s, Finish{Outcomes: outcomes(got.Groups[0], Outcome{Done: true}), Lanes: []LaneOutcome{up}}, 0)
	if got = claim(t, s, time.Second, nil); len(got.Groups) != 2 {
		t.Errorf("claimed %+v", got)
	}
}

// testFair: lanes with much to do leave room for others, though theirs came first.
func testFair(t *testing.T, s *Store) {
	a := newAccount(t, s, "alice@example.org")
	busy := map[Lane]int{}
	for _, domain := range []string{"a.example", "b.example", "c.example"} {
		for range 9 {
			enqueue(t, s, a, mail.Sealed, domain)
		}
		busy[Lane{Domain: domain}] = 3
	}
	enqueue(t, s, a, mail.Sealed, "d.example")
	take := func(limit int) (domains []string) {
		t.Helper()
		got, err := s.ClaimOutgoing(context.Background(), Claim{
			Owner: "n", Now: time.Now(), Until: time.Now().Add(time.Hour), Limit: limit, PerLane: 6, Busy: busy,
		})
		noError(t, err)
		for _, g := range got.Groups {
			domains = append(domains, g.Domain)
		}
		slices.Sort(domains)
		return domains
	}
	if got := take(1); !slices.Equal(got, []string{"d.example"}) {
		t.Errorf("one has room: %v", got)
	}
	busy[Lane{Domain: "a.example"}] = 5
	if got := take(5); !slices.Equal(got, []string{"a.example", "b.example", "b.example", "c.example", "c.example"}) {
		t.Errorf("five have room: %v", got)
	}
	if len(busy) != 3 || busy[Lane{Domain: "a.example"}] != 5 {
		t.Errorf("the claim changed what it was given: %v", busy)
	}
}

// testGroups: many recipients of one copy at one domain come in groups of a hundred.
func testGroups(t *testing.T, s *Store) {
	a := newAccount(t, s, "alice@example.org")
	domains := make([]string, 250)
	for i := range domains {
		domains[i] = "example.com"
	}
	enqueue(t, s, a, mail.EndToEnd, domains...)
	seen := map[ID]bool{}
	for _, want := range []int{100, 100, 50} {
		got, err := s.ClaimOutgoing(context.Background(), Claim{Owner: "n", Now: time.Now(), Until: time.Now().Add(time.Hour), Limit: 1, PerLane: 9})
		noError(t, err)
		if len(got.Groups) != 1 || len(got.Groups[0].Rcpts) != want {
			t.Fatalf("want %d, got %+v", want, got)
		}
		for _, q := range got.Groups[0].Rcpts {
			seen[q.ID] = true
		}
	}
	if len(seen) != 250 {
		t.Errorf("%d recipients", len(seen))
	}
	n, err := s.TakeBackOutgoing(context.Background(), "n", time.Now())
	noError(t, err)
	if n != 250 || len(claim(t, s, time.Second, nil).Groups) != 2 {
		t.Errorf("took back %d", n)
	}
}

// testReplaced: a Held copy is decided anew, once, whoever tries.
func testReplaced(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	o := enqueue(t, s, a, mail.Held, "example.com", "example.com")
	got := claim(t, s, time.Second, nil)
	if len(got.Groups) != 1 || !got.Groups[0].Held || got.Groups[0].Copy.Level != mail.Held {
		t.Fatalf("claimed %+v", got)
	}
	n, err := s.CountOutgoing(ctx)
	noError(t, err)
	if n.Held != 2 || n.Waiting != 0 {
		t.Errorf("counts %+v", n)
	}
	noError(t, s.SetQuota(ctx, a.ID, 1))
	next := outgoing(t, s, a, mail.Sealed, "example.com")
	replace := Batch{Outgoing: []Outgoing{next}, Replaced: []ID{o.Rcpts[0].ID}}
	noError(t, second(s.Commit(ctx, replace)))
	replace.Outgoing[0] = outgoing(t, s, a, mail.Sealed, "example.com")
	wantError(t, second(s.Commit(ctx, replace)), ErrNotFound)
	// The other one turns out to be ours.
	noError(t, second(s.Commit(ctx, Batch{Deliveries: []Delivery{delivery(s, a)}, Replaced: []ID{o.Rcpts[1].ID}})))
	rows := queued(t, s, Selection{All: true})
	if len(rows) != 1 || rows[0].Copy != next.ID || liveBlobs(t, s) != 2 {
		t.Errorf("rows %+v", rows)
	}
}

func testOverdue(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	old := outgoing(t, s, a, mail.Sealed, "dead.example", "other.example")
	old.Created = time.Now().Add(-5 * time.Hour)
	noError(t, second(s.Commit(ctx, Batch{Outgoing: []Outgoing{old}})))
	enqueue(t, s, a, mail.Sealed, "dead.example")
	lane := Lane{Domain: "dead.example"}
	finish(t, s, Finish{Lanes: []LaneOutcome{{lane, 3, time.Now().Add(time.Hour), "no route"}}}, 0)
	overdue := func() []Group {
		t.Helper()
		g, err := s.ClaimOverdue(ctx, Overdue{Owner: "n", Now: time.Now(), Until: time.Now().Add(time.Minute), Limit: 10, Age: 4 * time.Hour})
		noError(t, err)
		return g
	}
	got := overdue()
	if len(got) != 1 || len(got[0].Rcpts) != 2 || got[0].Copy.ID != old.ID || got[0].Rcpts[0].Reply.Text != "no route" ||
		got[0].Rcpts[1].Reply != (Reply{}) {
		t.Fatalf("overdue %+v", got)
	}
	if more := overdue(); len(more) != 0 {
		t.Errorf("claimed twice: %+v", more)
	}
	all := outcomes(got[0], Outcome{Delayed: true, Deadline: time.Now().Add(time.Hour)})
	for i := range all {
		all[i].Due = got[0].Rcpts[i].Due
	}
	finish(t, s, Finish{Outcomes: all}, 0)
	rows := queued(t, s, Selection{ID: old.ID})
	if more := overdue(); len(more) != 0 || !rows[0].Delayed || !rows[0].Due.Equal(rows[0].Since.Add(5*time.Hour)) && time.Since(rows[0].Due) < 0 {
		t.Errorf("overdue %+v, rows %+v", more, rows)
	}
	finish(t, s, Finish{Outcomes: nil}, 0)
	// By its deadline.
	got = claim(t, s, time.Second, nil).Groups
	if len(got) != 1 || got[0].Domain != "other.example" {
		t.Fatalf("claimed %+v", got)
	}
	finish(t, s, Finish{Outcomes: outcomes(got[0], Outcome{Due: time.Now().Add(time.Hour), Deadline: time.Now().Add(-time.Second)})}, 0)
	if got = overdue(); len(got) != 1 || len(got[0].Rcpts) != 1 || !got[0].Rcpts[0].Delayed {
		t.Errorf("overdue %+v", got)
	}
}

// testOperator walks through what the operator can do.
func testOperator(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	o := enqueue(t, s, a, mail.Sealed, "example.com", "example.com", "example.net")
	change := func(f func(context.Context, Selection) (int, error), sel Selection, want int) {
		t.Helper()
		n, err := f(ctx, sel)
		noError(t, err)
		if n != want {
			t.Errorf("changed %d, want %d", n, want)
		}
		noError(t, s.Check(ctx))
	}
	wantError(t, second(s.HoldOutgoing(ctx, Selection{})), ErrInvalid)
	change(s.HoldOutgoing, Selection{ID: 77}, 0)
	// On hold while it is in hand: finished, but not tried again.
	inHand := claim(t, s, time.Second, nil).Groups
	change(s.HoldOutgoing, Selection{Domain: "example.com"}, 2)
	change(s.ReleaseOutgoing, Selection{Domain: "example.com"}, 2)
	if again := claim(t, s, time.Second, nil); len(again.Groups) != 0 {
		t.Errorf("claimed twice: %+v", again)
	}
	change(s.HoldOutgoing, Selection{All: true}, 3)
	for _, g := range inHand {
		finish(t, s, Finish{Outcomes: outcomes(g, Outcome{Due: time.Now(), Attempted: true}),
			Lanes: []LaneOutcome{{g.Lane, 1, time.Now().Add(time.Hour), "down"}}}, 0)
	}
	change(s.RetryOutgoing, Selection{All: true}, 0)
	if got := claim(t, s, time.Hour*1000, nil); len(got.Groups) != 0 || !got.Next.IsZero() {
		t.Errorf("claimed what is on hold: %+v", got)
	}
	if n, err := s.CountOutgoing(ctx); err != nil || n.OnHold != 3 || n.Waiting != 0 {
		t.Errorf("counts %+v, %v", n, err)
	}
	change(s.ReleaseOutgoing, Selection{ID: o.Rcpts[0].ID}, 1)
	change(s.ReleaseOutgoing, Selection{ID: o.Rcpts[0].ID}, 0)
	if got := claim(t, s, time.Second, nil); len(got.Groups) != 0 {
		t.Errorf("claimed in spite of the back-off: %+v", got)
	}
	change(s.RetryOutgoing, Selection{ID: o.Rcpts[0].ID}, 1)
	if got := claim(t, s, time.Second, nil); len(got.Groups) != 1 || len(got.Groups[0].Rcpts) != 1 {
		t.Errorf("claimed %+v", got)
	}
	change(s.CancelOutgoing, Selection{ID: o.ID}, 3)
	overdue := Overdue{Owner: "n", Now: time.Now(), Until: time.Now().Add(time.Minute), Limit: 10, Age: time.Hour}
	got, err := s.ClaimOverdue(ctx, overdue)
	noError(t, err)
	if len(got) != 1 || len(got[0].Rcpts) != 2 || got[0].Rcpts[0].Verdict != Cancelled { // one is in hand
		t.Errorf("overdue %+v", got)
	}
	change(s.RemoveOutgoing, Selection{ID: o.Rcpts[1].ID}, 1)
	change(s.RemoveOutgoing, Selection{ID: o.ID}, 2)
	if liveBlobs(t, s) != 0 {
		t.Error("the blob stayed")
	}
	// Release has a Held copy decided at once.
	enqueue(t, s, a, mail.Held, "example.com")
	g := claim(t, s, time.Second, nil).Groups[0]
	finish(t, s, Finish{Outcomes: outcomes(g, Outcome{Due: time.Now().Add(time.Hour)})}, 0)
	change(s.ReleaseOutgoing, Selection{All: true}, 1)
	if got := claim(t, s, time.Second, nil); len(got.Groups) != 1 {
		t.Errorf("claimed %+v", got)
	}
}

// testRemovedAccount: what it sent is still carried.
func testRemovedSender(t *testing.T, s *Store) {
	a := newAccount(t, s, "alice@example.org")
	enqueue(t, s, a, mail.Sealed, "example.com")
	noError(t, s.RemoveAccount(context.Background(), a.ID))
	if got := claim(t, s, time.Second, nil); len(got.Groups) != 1 {
		t.Errorf("claimed %+v", got)
	}
}

// testQueueProperty plays random steps of several owners against a model: nobody gets
// what another has in hand, nothing is lost, the blob lives as long as one row.
func testQueueProperty(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	now := time.Now().Add(time.Hour)
	type row struct {
		copy  ID
		lease time.Time
	}
	model := map[ID]row{}
	var hand []Group
	domains := []string{"a.example", "b.example", "c.example"}
	steps := map[int]func(){
		0: func() {
			var to []string
			for range 1 + r.IntN(4) {
				to = append(to, domains[r.IntN(3)])
			}
			o := enqueue(t, s, a, []mail.Level{mail.Sealed, mail.Clear, mail.Held}[r.IntN(3)], to...)
			for _, q := range o.Rcpts {
				model[q.ID] = row{copy: o.ID}
			}
		},
		1: func() {
			until := now.Add(time.Duration(r.IntN(90)) * time.Second)
			got, err := s.ClaimOutgoing(ctx, Claim{Owner: "n", Now: now, Until: until, Limit: 1 + r.IntN(4), PerLane: 1 + r.IntN(3)})
			noError(t, err)
			for _, g := range got.Groups {
				for _, q := range g.Rcpts {
					if m, ok := model[q.ID]; !ok || m.lease.After(now) || g.Copy.ID != m.copy {
						t.Fatalf("row %v claimed, model %+v", q.ID, m)
					}
					model[q.ID] = row{g.Copy.ID, until}
				}
			}
			hand = append(hand, got.Groups...)
		},
		2: func() {
			if len(hand) == 0 {
				return
			}
			i := r.IntN(len(hand))
			g := hand[i]
			hand = append(hand[:i:i], hand[i+1:]...)
			f := Finish{Outcomes: outcomes(g, Outcome{Done: r.IntN(2) == 0, Due: now.Add(time.Duration(r.IntN(100)) * time.Second)})}
			if r.IntN(3) == 0 {
				f.Lanes = []LaneOutcome{{g.Lane, r.IntN(2), now.Add(time.Minute), "x"}}
			}
			_, err := s.FinishOutgoing(ctx, f)
			noError(t, err)
			for _, o := range f.Outcomes {
				if o.Done {
					delete(model, o.Rcpt)
				} else if m, ok := model[o.Rcpt]; ok {
					rows := queued(t, s, Selection{ID: o.Rcpt})
					model[o.Rcpt] = row{m.copy, rows[0].Lease}
				}
			}
		},
		3: func() { now = now.Add(time.Duration(r.IntN(60)) * time.Second) },
		4: func() {
			sel := Selection{Domain: domains[r.IntN(3)]}
			f := []func(context.Context, Selection) (int, error){s.HoldOutgoing, s.ReleaseOutgoing, s.RetryOutgoing}[r.IntN(3)]
			_, err := f(ctx, sel)
			noError(t, err)
		},
	}
	for range 300 {
		steps[r.IntN(len(steps))]()
		rows := queued(t, s, Selection{All: true})
		copies := map[ID]bool{}
		for _, q := range rows {
			copies[q.Copy] = true
			if _, ok := model[q.ID]; !ok {
				t.Fatalf("row %v came back", q.ID)
			}
		}
		if len(rows) != len(model) || liveBlobs(t, s) != len(copies) {
			t.Fatalf("%d rows, %d in the model, %d blobs for %d copies", len(rows), len(model), liveBlobs(t, s), len(copies))
		}
	}
	noError(t, s.Check(ctx))
	// All of it can be brought to its end.
	_, err := s.ReleaseOutgoing(ctx, Selection{All: true})
	noError(t, err)
	now = now.Add(24 * time.Hour)
	for range 1000 {
		got, err := s.ClaimOutgoing(ctx, Claim{Owner: "n", Now: now, Until: now.Add(time.Hour), Limit: 50, PerLane: 50})
		noError(t, err)
		if len(got.Groups) == 0 {
			break
		}
		for _, g := range got.Groups {
			finish(t, s, Finish{Outcomes: outcomes(g, Outcome{Done: true}), Lanes: []LaneOutcome{{Lane: g.Lane}}}, 0)
		}
	}
	if n := len(queued(t, s, Selection{All: true})); n != 0 || liveBlobs(t, s) != 0 {
		t.Errorf("%d rows and %d blobs are left", n, liveBlobs(t, s))
	}
}
