package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/deliver"
	"postern/internal/mail"
	"postern/internal/store"
)

// express puts a copy into the store by Express, and returns which lanes were granted.
func (b *bed) express(rcpt string) (granted int) {
	b.t.Helper()
	o := b.copyFor(mail.Sealed, nil, rcpt)
	lanes := []store.Lane{{Domain: o.Rcpts[0].Domain}}
	err := b.queue.Express(lanes, func(x store.Express) (groups []store.Group, err error) {
		granted = len(x.Lanes)
		_, groups, err = b.store.CommitExpress(context.Background(), store.Batch{Outgoing: []store.Outgoing{o}}, x)
		return groups, err
	})
	noError(b.t, err)
	return granted
}

// claims counts claims, and can keep them from happening.
type claims struct {
	*store.Store
	n atomic.Int32
}

func (c *claims) ClaimOutgoing(ctx context.Context, claim store.Claim) (store.Claimed, error) {
	c.n.Add(1)
	return c.Store.ClaimOutgoing(ctx, claim)
}

// TestExpress: what comes while the queue runs is carried without a claim, and recorded;
// before and after, nothing is taken in hand.
func TestExpress(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	counted := &claims{Store: b.store}
	b.queue = New(b.options(counted))
	if b.express("a@before.test") != 0 {
		t.Error("taken in hand before the queue ran")
	}
	stop := b.run(b.queue)
	b.until("the first", func() bool { return len(b.rows()) == 0 })
	before := counted.n.Load()
	for i := range 50 {
		for b.express(fmt.Sprintf("a@d%d.test", i%7)) == 0 {
			t.Fatal("not taken, though there is room")
		}
	}
	// Nobody wakes the queue.
	for deadline := time.Now().Add(20 * time.Second); len(b.rows()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not delivered: %+v", b.rows())
		}
	}
	if n := counted.n.Load() - before; n > 10 { // some were woken for before
		t.Errorf("%d claims for 50 messages", n)
	}
	stop()
	if b.express("a@after.test") != 0 {
		t.Error("taken in hand after the queue had ended")
	}
	if rows := b.rows(); len(rows) != 1 || rows[0].Owner != "" {
		t.Errorf("rows %+v", rows)
	}
}

// TestExpressBounds: together with claims no more is in hand than allowed, and what finds
// no room is claimed when there is; a commit that fails keeps no room.
func TestExpressBounds(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	o := b.options(b.store)
	o.Workers, o.PerDomain = 5, 2
	b.queue = New(o)
	var now, most atomic.Int32
	goOn := make(chan struct{})
	b.setAnswer(func(ctx context.Context, r deliver.Request) []deliver.Result {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		<-goOn
		return all(deliver.Result{Status: deliver.Delivered})(ctx, r)
	})
	b.run(b.queue)
	b.until("running", func() bool { b.queue.mu.Lock(); defer b.queue.mu.Unlock(); return b.queue.work != nil })
	failed := errors.New("failed")
	for range 10 {
		err := b.queue.Express([]store.Lane{{Domain: "x.test"}}, func(x store.Express) ([]store.Group, error) {
			if len(x.Lanes) != 1 {
				t.Fatal("no room")
			}
			return nil, failed
		})
		if !errors.Is(err, failed) {
			t.Fatal(err)
		}
	}
	var putting sync.WaitGroup
	var granted atomic.Int32
	for i := range 40 {
		putting.Go(func() { granted.Add(int32(b.express(fmt.Sprintf("a@d%d.test", i%8)))) })
	}
	putting.Wait()
	if n := granted.Load(); n == 0 || n > 5 || most.Load() > 5 {
		t.Errorf("%d granted, %d in hand", n, most.Load())
	}
	close(goOn)
	b.wakes.Wake(Topic) // as the bridge does for what was not granted
	for deadline := time.Now().Add(20 * time.Second); len(b.rows()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not delivered: %+v", b.rows())
		}
	}
	if most.Load() > 5 {
		t.Errorf("%d in hand", most.Load())
	}
}

// TestExpressStop: the end waits for what is being committed, and gives back what it
// cannot finish.
func TestExpressStop(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.setAnswer(func(ctx context.Context, r deliver.Request) []deliver.Result {
		<-ctx.Done()
		return all(deliver.Result{Code: 451, Enhanced: "4.4.7"})(ctx, r)
	})
	stop := b.run(b.queue)
	b.until("running", func() bool { b.queue.mu.Lock(); defer b.queue.mu.Unlock(); return b.queue.work != nil })
	o := b.copyFor(mail.Sealed, nil, "a@there.test")
	noError(t, b.queue.Express([]store.Lane{{Domain: "there.test"}}, func(x store.Express) ([]store.Group, error) {
		ended := make(chan struct{})
		go func() { defer close(ended); stop() }()
		b.until("stopping", func() bool { b.queue.mu.Lock(); defer b.queue.mu.Unlock(); return b.queue.work == nil })
		select {
		case <-ended:
			t.Error("ended during a commit")
		default:
		}
		_, groups, err := b.store.CommitExpress(context.Background(), store.Batch{Outgoing: []store.Outgoing{o}}, x)
		return groups, err
	}))
	stop()
	if rows := b.rows(); len(rows) != 1 || rows[0].Owner != "" || rows[0].Due.After(b.clock.Now()) || rows[0].Attempts != 0 {
		t.Errorf("rows %+v", rows)
	}
}

// TestExpressTurn: nothing gets ahead of what waits for room.
func TestExpressTurn(t *testing.T) {
	t.Parallel()
	x, y := store.Lane{Domain: "x.test"}, store.Lane{Domain: "y.test"}
	one := []store.Group{{Lane: x}}
	for name, test := range map[string]struct {
		got  []store.Group
		room int
		busy map[store.Lane]int
		want []store.Lane
	}{
		"nothing waits":                     {nil, 9, map[store.Lane]int{}, []store.Lane{x, y}},
		"all that was due was claimed":      {one, 9, map[store.Lane]int{}, []store.Lane{x, y}},
		"more may be due":                   {one, 1, map[store.Lane]int{}, nil},
		"more may be due for one":           {one, 9, map[store.Lane]int{x: 1}, []store.Lane{y}},
		"one was not reached the last time": {[]store.Group{{Lane: x, Failures: 1}}, 9, map[store.Lane]int{}, []store.Lane{y}},
	} {
		o := newBed(t).options(nil)
		o.PerDomain = 2
		q := New(o)
		q.open(t.Context())
		q.full(test.got, test.room, test.busy)
		granted, _, end := q.reserve([]store.Lane{x, y})
		if !slices.Equal(granted.Lanes, test.want) || q.short != (len(test.want) < 2) {
			t.Errorf("%s: granted %v", name, granted.Lanes)
		}
		end()
	}
	// Who is refused for want of room is waited for, too.
	o := newBed(t).options(nil)
	o.PerDomain = 1
	q := New(o)
	q.open(t.Context())
	_, _, first := q.reserve([]store.Lane{x})
	second, _, end := q.reserve([]store.Lane{x, y})
	end()
	first()
	third, _, end := q.reserve([]store.Lane{x})
	end()
	if !slices.Equal(second.Lanes, []store.Lane{y}) || len(third.Lanes) != 0 || !q.short {
		t.Errorf("granted %v, then %v", second.Lanes, third.Lanes)
	}
}

// TestExpressTooLate: what took so long to commit that somebody else may have it in hand
// by now is not carried once more.
func TestExpressTooLate(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.run(b.queue)
	b.until("running", func() bool { b.queue.mu.Lock(); defer b.queue.mu.Unlock(); return b.queue.work != nil })
	o := b.copyFor(mail.Sealed, nil, "a@there.test")
	noError(t, b.queue.Express([]store.Lane{{Domain: "there.test"}}, func(x store.Express) ([]store.Group, error) {
		_, groups, err := b.store.CommitExpress(context.Background(), store.Batch{Outgoing: []store.Outgoing{o}}, x)
		if len(groups) != 1 {
			t.Errorf("%d groups", len(groups))
		}
		b.clock.Advance(leaseTime)
		b.until("it was claimed", func() bool { return b.attempts("there.test") == 1 })
		return groups, err
	}))
	b.until("delivered", func() bool { return len(b.rows()) == 0 })
	b.queue.workers.Wait()
	if n := b.attempts("there.test"); n != 1 {
		t.Errorf("carried %d times", n)
	}
}
