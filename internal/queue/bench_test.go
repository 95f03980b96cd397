package queue

import (
	"context"
	"fmt"
	"testing"
	"time"

	"postern/internal/deliver"
	"postern/internal/mail"
	"postern/internal/store"
)

// BenchmarkQueue is what the queue itself costs: copies to a carrier that takes 2 ms, all
// for one domain, or for a hundred. With dead, 20,000 more wait for domains that nobody
// reaches.
func BenchmarkQueue(b *testing.B) {
	for _, c := range []struct {
		domains, dead int
	}{{1, 0}, {100, 0}, {100, 20000}} {
		b.Run(fmt.Sprintf("domains=%d/dead=%d", c.domains, c.dead), func(b *testing.B) {
			bed := newBed(b)
			bed.clock.Set(time.Now())
			bed.setAnswer(func(ctx context.Context, r deliver.Request) []deliver.Result {
				if r.Domain == "dead.test" {
					return all(downtime(r.Domain))(ctx, r)
				}
				time.Sleep(2 * time.Millisecond)
				return all(deliver.Result{Status: deliver.Delivered})(ctx, r)
			})
			fill := func(n int, domain func(int) string) {
				for i := 0; i < n; {
					var batch store.Batch
					for ; i < n && len(batch.Outgoing) < 500; i++ {
						p := mail.Protect(mail.Order{Floor: mail.Sealed}, mail.ContentClear, mail.Found)
						batch.Outgoing = append(batch.Outgoing, store.Outgoing{ID: bed.store.NewID(), Account: bed.account.ID, Protection: p,
							Level: mail.Sealed, Head: make([]byte, 2000), Size: 2000, From: "alice@here.test",
							Rcpts: []store.OutgoingRcpt{{ID: bed.store.NewID(), Address: "x", Domain: domain(i)}}})
					}
					_, err := bed.store.Commit(context.Background(), batch)
					noError(b, err)
				}
			}
			fill(c.dead, func(int) string { return "dead.test" })
			fill(b.N, func(i int) string { return fmt.Sprintf("d%d.test", i%c.domains) })
			b.ResetTimer()
			bed.run(bed.queue)
			for n, err := bed.store.CountOutgoing(context.Background()); n.Waiting > c.dead; n, err = bed.store.CountOutgoing(context.Background()) {
				noError(b, err)
				time.Sleep(time.Millisecond)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "recipients/s")
		})
	}
}
