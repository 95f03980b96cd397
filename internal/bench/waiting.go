package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
)

// Sizes of what waits, before they are scaled.
const (
	waitingMessages = 500_000
	waitingDead     = 100_000
	waitingDomains  = 1000
	deadDomain      = "dead.test"
)

// waiting measures a gateway in whose queue very much waits.
func (b *bench) waiting(ctx context.Context) error {
	fmt.Println("| queue | target | measured |")
	fmt.Println("|---|---|---|")
	if err := b.longQueue(ctx); err != nil {
		return err
	}
	if err := b.deadDomain(ctx); err != nil {
		return err
	}
	fmt.Println()
	return nil
}

// enqueue puts n messages of 2 KB with one recipient each into the queue, for the domains
// that it is told.
func enqueue(ctx context.Context, s *store.Store, n int, domain func(i int) string) error {
	a, err := s.AccountByAddress(ctx, owner)
	if err != nil {
		return err
	}
	sealed := mail.Protect(mail.Order{Floor: mail.Sealed}, mail.ContentClear, mail.Found)
	head := bytes.Repeat([]byte("nobody reads this.\r\n"), 100)
	for i := 0; i < n && ctx.Err() == nil; {
		var batch store.Batch
		for ; i < n && len(batch.Outgoing) < 1000; i++ {
			batch.Outgoing = append(batch.Outgoing, store.Outgoing{
				ID: s.NewID(), Account: a.ID, Source: fmt.Sprint("bench-", i), From: owner, Protection: sealed, Level: mail.Sealed,
				Head: head, Size: int64(len(head)), Body: "7BIT",
				Rcpts: []store.OutgoingRcpt{{ID: s.NewID(), Address: fmt.Sprintf("r%d@%s", i, domain(i)), Domain: domain(i)}},
			})
		}
		if _, err := s.Commit(ctx, batch); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// leaveAlone has domains left alone for a day, as if they had not been reached.
func leaveAlone(ctx context.Context, s *store.Store, domains ...string) error {
	var f store.Finish
	for _, d := range domains {
		f.Lanes = append(f.Lanes, store.LaneOutcome{Lane: store.Lane{Domain: d}, Failures: 1, Until: time.Now().Add(24 * time.Hour), Reason: "down"})
	}
	_, err := s.FinishOutgoing(ctx, f)
	return err
}

// longQueue measures claims of a long queue, of which a fifth is for one domain that is
// down, and the start of the program with it.
func (b *bench) longQueue(ctx context.Context) error {
	n := b.count(waitingMessages)
	g, err := b.setUpRelay(ctx, 0)
	if err != nil {
		return err
	}
	var claims []time.Duration
	err = g.change(ctx, func(s *store.Store) (err error) {
		live := make([]string, waitingDomains)
		for i := range live {
			live[i] = correspondent(i).Domain + fmt.Sprint(i)
		}
		err = enqueue(ctx, s, n, func(i int) string {
			if i%5 == 0 {
				return deadDomain
			}
			return live[i%waitingDomains]
		})
		if err == nil {
			err = leaveAlone(ctx, s, deadDomain)
		}
		if err == nil {
			claims, err = timeClaims(ctx, s, b.count(2000)/10)
		}
		// The program is to wait, too.
		return errors.Join(err, leaveAlone(ctx, s, live...))
	})
	if err != nil {
		return err
	}
	fmt.Printf("| claim of 10 messages, %s wait | 2 ms | %.2f ms (p99 %.2f ms) |\n", thousands(n), at(claims, 50).Seconds()*1000, at(claims, 99).Seconds()*1000)
	var took, rss, peak []float64
	for range b.pairs {
		r, err := b.startOn(ctx, g.setup.Config)
		if err != nil {
			return err
		}
		took, rss, peak = append(took, r.took.Seconds()), append(rss, float64(r.rss)/mib), append(peak, float64(r.peak)/mib)
	}
	fmt.Printf("| start with %s waiting | 3 s | %.2f s |\n", thousands(n), median(took))
	fmt.Printf("| resident memory with %s waiting | 300 MiB | %.0f MiB (peak %.0f MiB) |\n", thousands(n), median(rss), median(peak))
	return g.remove()
}

// timeClaims claims ten messages at a time, which the claimer then keeps.
func timeClaims(ctx context.Context, s *store.Store, n int) (times []time.Duration, err error) {
	for range n {
		start := time.Now()
		got, err := s.ClaimOutgoing(ctx, store.Claim{Owner: "bench", Now: start, Until: start.Add(24 * time.Hour), Limit: 10, PerLane: 20})
		times = append(times, time.Since(start))
		if err != nil || len(got.Groups) == 0 {
			return nil, errors.Join(err, errors.New("nothing was claimed"))
		}
	}
	slices.Sort(times)
	return times, nil
}

// deadDomain measures mail for domains that can be reached, with and without very much
// mail waiting for one that cannot, and that is tried again as often as can be set.
func (b *bench) deadDomain(ctx context.Context) (err error) {
	k, err := startSink(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.stop()) }()
	nobody, err := freePort()
	if err != nil {
		return err
	}
	n := b.count(waitingDead)
	var rates, cpus [2][]float64
	for range b.pairs {
		for i, dead := range []int{0, n} {
			r, err := b.besideDead(ctx, k, nobody, dead)
			if err != nil {
				return err
			}
			rates[i], cpus[i] = append(rates[i], r.rate), append(cpus[i], r.cpu)
		}
	}
	fmt.Printf("| other mail, %s waiting for a dead domain | 0.9 × | %.2f × (%.0f/s, %.2f ms; else %.0f/s, %.2f ms) |\n", thousands(n),
		median(rates[1])/median(rates[0]), median(rates[1]), median(cpus[1]), median(rates[0]), median(cpus[0]))
	return nil
}

func (b *bench) besideDead(ctx context.Context, k *sink, nobody, dead int) (r result, err error) {
	g, err := b.setUpRelay(ctx, correspondentDomains*perDomain, "*="+k.addr(), fmt.Sprintf("%s=127.0.0.1:%d", deadDomain, nobody))
	if err == nil {
		err = configure(g.setup.Config, map[string]string{"retry_first": `"1s"`, "retry_last": `"1s"`})
	}
	if err == nil {
		err = g.change(ctx, func(s *store.Store) error {
			return enqueue(ctx, s, dead, func(int) string { return deadDomain })
		})
	}
	if err == nil {
		err = g.start(ctx)
	}
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	l := load{"", 2000, 10, b.count(10_000)}
	warm := l
	warm.count = max(l.count/10, l.conns)
	if _, err := carried(ctx, g, k, warm); err != nil {
		return r, err
	}
	return carried(ctx, g, k, l)
}
