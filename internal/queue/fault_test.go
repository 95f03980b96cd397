package queue

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"postern/internal/deliver"
	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/testkit"
)

// failing fails a call of the store.
type failing struct {
	*store.Store
	at *testkit.FailAt
}

func (f failing) ClaimOutgoing(ctx context.Context, c store.Claim) (store.Claimed, error) {
	if err := f.at.Call(); err != nil {
		return store.Claimed{}, err
	}
	return f.Store.ClaimOutgoing(ctx, c)
}

func (f failing) ClaimOverdue(ctx context.Context, o store.Overdue) ([]store.Group, error) {
	if err := f.at.Call(); err != nil {
		return nil, err
	}
	return f.Store.ClaimOverdue(ctx, o)
}

func (f failing) FinishOutgoing(ctx context.Context, o store.Finish) (int, error) {
	if err := f.at.Call(); err != nil {
		return 0, err
	}
	return f.Store.FinishOutgoing(ctx, o)
}

func (f failing) RenewOutgoing(ctx context.Context, g []store.Group, until time.Time) ([]store.ID, error) {
	if err := f.at.Call(); err != nil {
		return nil, err
	}
	return f.Store.RenewOutgoing(ctx, g, until)
}

func (f failing) TakeBackOutgoing(ctx context.Context, owner string, now time.Time) (int, error) {
	if err := f.at.Call(); err != nil {
		return 0, err
	}
	return f.Store.TakeBackOutgoing(ctx, owner, now)
}

func (f failing) CountOutgoing(ctx context.Context) (store.OutgoingCounts, error) {
	if err := f.at.Call(); err != nil {
		return store.OutgoingCounts{}, err
	}
	return f.Store.CountOutgoing(ctx)
}

func (f failing) Account(ctx context.Context, id store.ID) (store.Account, error) {
	if err := f.at.Call(); err != nil {
		return store.Account{}, err
	}
	return f.Store.Account(ctx, id)
}

// TestStoreErrors fails every call of the store once: each recipient still comes to its
// end, delivered once, or reported.
func TestStoreErrors(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		at := testkit.NewFailAt(n, errors.New("disk"))
		b := newBed(t)
		b.queue = New(b.options(failing{b.store, at}))
		b.setAnswer(func(_ context.Context, r deliver.Request) []deliver.Result {
			if r.Domain == "no.test" {
				return []deliver.Result{refusal(550, "5.1.1", "no")}
			}
			return []deliver.Result{{Status: deliver.Delivered}}
		})
		b.put(mail.Sealed, nil, "a@yes.test", "b@no.test")
		stop := b.run(b.queue)
		b.until(fmt.Sprintf("call %d", n), func() bool { return len(b.rows()) == 0 })
		b.put(mail.Sealed, func(o *store.Outgoing) { o.Created = b.clock.Now().Add(-6 * 24 * time.Hour) }, "c@yes.test")
		b.until(fmt.Sprintf("call %d, old", n), func() bool { return len(b.rows()) == 0 })
		stop()
		if b.attempts("yes.test")+len(b.handed()) < 3 || b.attempts("no.test") != 1 {
			t.Errorf("call %d: %d delivered, %d reports, %d refusals", n, b.attempts("yes.test"), len(b.handed()), b.attempts("no.test"))
		}
		if at.Calls() < n || n > 12 {
			return
		}
	}
}

// TestPanic: a carrier that panics, or answers of too few, has not delivered.
func TestPanic(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.setAnswer(func(_ context.Context, r deliver.Request) []deliver.Result {
		if r.Domain == "panic.test" {
			panic("nothing is as it should be")
		}
		return nil
	})
	b.put(mail.Sealed, nil, "a@panic.test", "b@none.test")
	b.run(b.queue)
	b.until("tried", func() bool { return b.attempts("panic.test") == 1 && b.attempts("none.test") == 1 })
	b.idle()
	for _, r := range b.rows() {
		if r.Attempts != 1 || r.Failures != 0 || !r.Due.After(b.clock.Now()) {
			t.Errorf("row %+v", r)
		}
	}
	b.setAnswer(all(deliver.Result{Status: deliver.Delivered}))
	b.clock.Advance(time.Hour)
	b.until("delivered", func() bool { return len(b.rows()) == 0 })
}

// TestStop: at the end what is in hand may finish, what does not is broken off, and what
// cannot be broken off is given back; all of it is due for the next process.
func TestStop(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var begun sync.WaitGroup
	begun.Add(3)
	forever := make(chan struct{})
	t.Cleanup(func() { close(forever) })
	b.setAnswer(func(ctx context.Context, r deliver.Request) []deliver.Result {
		begun.Done()
		switch r.Domain {
		case "slow.test":
			time.Sleep(30 * time.Millisecond)
		case "context.test":
			<-ctx.Done()
			return all(deliver.Result{Code: 451, Enhanced: "4.4.7"})(ctx, r)
		case "deaf.test":
			<-forever
		}
		return all(deliver.Result{Status: deliver.Delivered})(ctx, r)
	})
	b.put(mail.Sealed, nil, "a@slow.test", "b@context.test", "c@deaf.test")
	stop := b.run(b.queue)
	begun.Wait()
	stop()
	rows := b.rows()
	if len(rows) != 2 {
		t.Fatalf("rows %+v", rows)
	}
	for _, r := range rows {
		if r.Owner != "" || r.Due.After(b.clock.Now()) || r.Attempts != 0 {
			t.Errorf("row %+v", r)
		}
	}
	b.setAnswer(all(deliver.Result{Status: deliver.Delivered}))
	b.queue = New(b.options(b.store))
	b.run(b.queue)
	b.until("delivered", func() bool { return len(b.rows()) == 0 })
}

// TestKilled: what a process had in hand that is no more is due for its successor at
// once, and for others when the lease ends.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, successor := range []string{"node1", "node2"} {
		b := newBed(t)
		b.put(mail.Sealed, nil, "a@there.test")
		now := b.clock.Now()
		got, err := b.store.ClaimOutgoing(t.Context(), store.Claim{Owner: "node1", Now: now, Until: now.Add(leaseTime), Limit: 9, PerLane: 9})
		if err != nil || len(got.Groups) != 1 {
			t.Fatal(got, err)
		}
		o := b.options(b.store)
		o.Owner = successor
		b.queue = New(o)
		b.run(b.queue)
		if successor == "node2" {
			b.idle()
			if n := b.attempts("there.test"); n != 0 {
				t.Errorf("took what another node has in hand, %d times", n)
			}
			b.clock.Advance(leaseTime)
		}
		b.until("delivered", func() bool { return len(b.rows()) == 0 })
	}
}

// cutOff is a store whose leases cannot be renewed.
type cutOff struct{ *store.Store }

func (cutOff) RenewOutgoing(context.Context, []store.Group, time.Time) ([]store.ID, error) {
	return nil, errors.New("no route to the database")
}

// TestLostLease: a delivery outlives its lease, as when a node could not reach the
// database; another node takes over. It is delivered twice at worst, which is counted.
func TestLostLease(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	goOn := make(chan struct{})
	b.setAnswer(func(ctx context.Context, r deliver.Request) []deliver.Result {
		<-goOn
		return all(refusal(451, "4.0.0", "late"))(ctx, r)
	})
	b.put(mail.Sealed, nil, "a@there.test")
	b.queue = New(b.options(cutOff{b.store}))
	stop := b.run(b.queue)
	b.until("in hand", func() bool { return b.attempts("there.test") == 1 })
	b.setAnswer(all(deliver.Result{Status: deliver.Delivered}))
	o := b.options(b.store)
	o.Owner = "node2"
	other := New(o)
	b.run(other)
	b.clock.Advance(leaseTime + time.Second)
	b.until("delivered", func() bool { return len(b.rows()) == 0 })
	close(goOn)
	stop()
	if n := b.attempts("there.test"); n != 2 {
		t.Errorf("%d attempts", n)
	}
	families, err := b.metrics.Gatherer().Gather()
	noError(t, err)
	for _, f := range families {
		if f.GetName() == "postern_queue_lost_total" && f.GetMetric()[0].GetCounter().GetValue() != 1 {
			t.Errorf("lost %v", f)
		}
	}
}

// TestSlept: what this node has in hand is its own, however long the machine slept.
func TestSlept(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	goOn := make(chan struct{})
	b.setAnswer(func(ctx context.Context, r deliver.Request) []deliver.Result {
		if r.Domain == "slow.test" {
			<-goOn
		}
		return all(deliver.Result{Status: deliver.Delivered})(ctx, r)
	})
	b.put(mail.Sealed, nil, "a@slow.test")
	b.run(b.queue)
	b.until("in hand", func() bool { return b.attempts("slow.test") == 1 })
	b.clock.Advance(5 * time.Hour) // it is late by now, too
	b.put(mail.Sealed, nil, "b@there.test")
	b.until("delivered", func() bool { return b.attempts("there.test") == 1 && len(b.rows()) == 1 })
	b.until("looked for", func() bool { return b.rows()[0].Lease.After(b.clock.Now()) })
	close(goOn)
	b.until("delivered", func() bool { return len(b.rows()) == 0 })
	if n := b.attempts("slow.test"); n != 1 || len(b.handed()) != 0 {
		t.Errorf("%d attempts, reports %+v", n, b.handed())
	}
}

// TestPanickingReport: one message that is too much for us does not end everything.
func TestPanickingReport(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.setAnswer(func(ctx context.Context, r deliver.Request) []deliver.Result {
		if r.Domain == "no.test" {
			return all(refusal(550, "5.1.1", "no"))(ctx, r)
		}
		return all(deliver.Result{Status: deliver.Delivered})(ctx, r)
	})
	b.refuse = func(mail.Source, mail.Address) error { panic("what a report") }
	b.put(mail.Sealed, nil, "a@no.test")
	b.run(b.queue)
	b.until("tried", func() bool { return b.attempts("no.test") == 1 })
	b.put(mail.Sealed, nil, "b@there.test")
	b.until("delivered", func() bool { return len(b.rows()) == 1 })
	b.mu.Lock()
	b.refuse = nil
	b.mu.Unlock()
	b.clock.Advance(leaseTime)
	b.until("told", func() bool { return len(b.rows()) == 0 && len(b.handed()) == 1 })
}

// TestTwoNodes: nodes that share a store deliver everything once, and take over from one
// another.
func TestTwoNodes(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	path := filepath.Join(t.TempDir(), "postern.db")
	open := func() *store.Store {
		s, err := store.Open(t.Context(), store.Options{Path: path, Now: b.clock.Now})
		noError(t, err)
		t.Cleanup(func() { s.Close() })
		return s
	}
	b.store = open()
	var err error
	b.account, err = b.store.CreateAccount(t.Context(), b.account.Address, 0, nil)
	noError(t, err)
	const messages = 80
	for i := range messages {
		b.put(mail.Sealed, nil, fmt.Sprintf("%d@d%d.test", i, i%7), fmt.Sprintf("%d@other.test", i))
	}
	var nodes []*Queue
	for n := range 2 {
		o := b.options(open())
		o.Owner = fmt.Sprintf("node%d", n)
		nodes = append(nodes, New(o))
	}
	stop := b.run(nodes[0])
	b.run(nodes[1])
	b.until("some", func() bool { return len(b.rows()) < messages })
	stop()
	b.until("delivered", func() bool { return len(b.rows()) == 0 })
	seen := map[string]int{}
	for _, r := range b.requests {
		for _, to := range r.Rcpts {
			seen[to.Address]++
		}
	}
	for address, n := range seen {
		if n != 1 {
			t.Errorf("%s: %d times", address, n)
		}
	}
	if len(seen) != 2*messages {
		t.Errorf("%d recipients", len(seen))
	}
}
