package queue

import (
	"context"
	"fmt"
	"testing"
	"time"

	"postern/internal/deliver"
	"postern/internal/mail"
)

// TestHangingHopsGiveWay: next hops that hang, more of them than there are workers, do not
// keep others' mail waiting, and have no end of workers either.
func TestHangingHopsGiveWay(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	o := b.options(b.store)
	o.Workers, o.PerDomain = 3, 2
	b.queue = New(o)
	b.queue.slowAfter = 20 * time.Millisecond
	over := make(chan struct{})
	var now, most int
	b.setAnswer(func(ctx context.Context, r deliver.Request) []deliver.Result {
		if r.Domain != "good.test" {
			b.mu.Lock()
			now++
			most = max(most, now)
			b.mu.Unlock()
			<-over
			b.mu.Lock()
			now--
			b.mu.Unlock()
		}
		return all(deliver.Result{Status: deliver.Delivered})(ctx, r)
	})
	for i := range 6 {
		for range 2 {
			b.put(mail.Sealed, nil, fmt.Sprintf("a@hangs%d.test", i))
		}
	}
	b.run(b.queue)
	hanging := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return now
	}
	b.until("all hang", func() bool { return hanging() == 12 })
	b.put(mail.Sealed, nil, "a@good.test")
	b.until("the good one is delivered", func() bool { return b.attempts("good.test") == 1 })
	for i := range 10 {
		b.put(mail.Sealed, nil, fmt.Sprintf("a@more%d.test", i))
	}
	b.until("as many hang as may", func() bool { return hanging() == mostInHand*o.Workers })
	looked := 0
	b.until("it was looked for more", func() bool { looked++; return looked > 10 })
	close(over)
	b.until("all are delivered", func() bool { return len(b.rows()) == 0 })
	b.until("no place is taken", func() bool {
		b.queue.mu.Lock()
		defer b.queue.mu.Unlock()
		return len(b.queue.busy) == 0 && b.queue.slow == 0
	})
	if most != mostInHand*o.Workers {
		t.Errorf("%d at once", most)
	}
}
