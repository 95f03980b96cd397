package admin

import (
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
)

// Whoever looks at the queue reads why a recipient waits, and who said so.
func TestDescribeQueued(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	tried := func(q store.Queued, attempts int) store.Queued {
		q.Attempts, q.Tried, q.Due = attempts, now.Add(-time.Minute), now.Add(time.Minute)
		return q
	}
	reply := store.Queued{}
	reply.Reply = store.Reply{Code: 451, Enhanced: "4.7.1", Text: "come back later", Host: "mx.there.test"}
	ours := store.Queued{Outgoing: store.Outgoing{Level: mail.Held}}
	ours.Reply = store.Reply{Enhanced: "4.7.5", Text: "nobody knows"}
	down := store.Queued{Failures: 1, Reason: "cannot be reached", Backoff: now.Add(time.Hour)}
	down.Domain = "there.test"
	again := down
	again.Failures = 3
	for _, row := range []struct {
		q    store.Queued
		want []string
		not  string
	}{
		{store.Queued{}, []string{"waiting: not tried yet", "Tried:      never", "Next:       -\n"}, "Last reply"},
		{tried(reply, 1), []string{"waiting: mx.there.test says: 451 4.7.1 come back later", "once, last at 2026-05-04 11:59:00 UTC",
			"Next:        2026-05-04 12:01:00 UTC", "Last reply:  mx.there.test 451 4.7.1 come back later"}, ""},
		{tried(ours, 2), []string{"held: nobody knows", "2 times, last at"}, "Last reply"},
		{tried(down, 1), []string{"there.test was not reached once: cannot be reached", "2026-05-04 13:00:00 UTC"}, ""},
		{tried(again, 1), []string{"was not reached 3 times in a row"}, ""},
	} {
		var text strings.Builder
		if err := (Queue{describeQueued(row.q, now)}).WriteLong(&text); err != nil {
			t.Fatal(err)
		}
		for _, want := range row.want {
			if !strings.Contains(text.String(), want) {
				t.Errorf("%q is missing in\n%s", want, text.String())
			}
		}
		if row.not != "" && strings.Contains(text.String(), row.not) {
			t.Errorf("%q is in\n%s", row.not, text.String())
		}
	}
}
