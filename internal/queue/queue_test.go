package queue

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/deliver"
	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
	"postern/internal/testkit"
)

func TestDeliver(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.run(b.queue)
	b.put(mail.TLSOnly, func(o *store.Outgoing) {
		o.EnvID, o.Return, o.UTF8, o.RequireTLS = "env", "HDRS", true, true
		o.Rcpts[0].Notify, o.Rcpts[0].Original = mail.NotifyFailure, "rfc822;b@there.test"
	}, "b@there.test", "c@there.test")
	b.put(mail.Sealed, nil, "d@else.test")
	b.until("delivered", func() bool { return len(b.rows()) == 0 })
	for _, r := range b.requests {
		sealed := r.Domain == "else.test"
		if r.VerifiedTLS == sealed || r.RequireTLS == sealed || r.From != "alice@here.test" || r.Body != "7BIT" || r.Size != int64(len(original)) {
			t.Errorf("request %+v", r)
		}
		if !sealed && (len(r.Rcpts) != 2 || r.Rcpts[0].Original == "" || r.EnvID != "env" || r.Return != "HDRS" || !r.UTF8) {
			t.Errorf("request %+v", r)
		}
	}
	rows, err := b.store.AuditRows(t.Context(), "t1", 10)
	noError(t, err)
	if len(b.requests) != 2 || len(b.handed()) != 0 || len(rows) != 3 || !strings.Contains(rows[0].Detail, "TLS1.3") {
		t.Errorf("%d requests, %d reports, audit %+v", len(b.requests), len(b.handed()), rows)
	}
}

// TestRetry: a recipient is tried later each time, and refused in the end.
func TestRetry(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.setAnswer(func(_ context.Context, r deliver.Request) (results []deliver.Result) {
		for _, to := range r.Rcpts {
			if strings.HasPrefix(to.Address, "b@") {
				results = append(results, refusal(451, "4.7.1", "greylisted\r\nX: y"))
			} else {
				results = append(results, deliver.Result{Status: deliver.Delivered})
			}
		}
		return results
	})
	b.run(b.queue)
	b.put(mail.Sealed, nil, "b@there.test", "c@there.test")
	last := time.Duration(0)
	for n := 1; n <= 4; n++ {
		b.idle()
		rows := b.rows()
		if len(rows) != 1 || rows[0].Attempts != n || rows[0].Reply.Text != "greylisted X: y" || rows[0].Failures != 0 {
			t.Fatalf("rows %+v", rows)
		}
		wait := rows[0].Due.Sub(b.clock.Now())
		if wait < last || wait < 4*time.Minute*time.Duration(1<<(n-1)) || wait > 6*time.Minute*time.Duration(1<<(n-1)) {
			t.Errorf("after %d attempts it waits %v", n, wait)
		}
		last = wait
		b.clock.Advance(wait)
	}
	b.setAnswer(all(refusal(550, "5.1.1", "no such user")))
	b.until("refused", func() bool { return len(b.rows()) == 0 })
	got := b.handed()
	if len(got) != 1 || got[0].source.Kind != mail.KindDSN || !got[0].source.From.IsNull() || got[0].to[0].String() != "alice@here.test" ||
		!strings.Contains(got[0].text, "Action: failed\r\nStatus: 5.1.1\r\n") ||
		!strings.Contains(got[0].text, "Last-Attempt-Date: "+message.FormatDate(b.clock.Now())+"\r\n") || strings.Contains(got[0].text, "c@there.test") {
		t.Errorf("reports %+v", got)
	}
}

// TestUnreachedDomain: it backs off as one, others go on, and one group probes.
func TestUnreachedDomain(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.setAnswer(func(ctx context.Context, r deliver.Request) []deliver.Result {
		if r.Domain == "dead.test" {
			return all(downtime(r.Domain))(ctx, r)
		}
		return all(deliver.Result{Status: deliver.Delivered})(ctx, r)
	})
	b.put(mail.Sealed, nil, "a@dead.test")
	b.run(b.queue)
	b.idle()
	for range 30 {
		b.put(mail.Sealed, nil, "b@dead.test")
	}
	b.put(mail.Sealed, nil, "c@live.test")
	b.until("the others", func() bool { return b.attempts("live.test") == 1 })
	b.idle()
	if n := b.attempts("dead.test"); n != 1 {
		t.Errorf("tried %d times within the back-off", n)
	}
	for _, r := range b.rows() {
		if r.Failures != 1 || r.Reason != "mail server mx.dead.test cannot be reached" || !r.Backoff.After(b.clock.Now()) {
			t.Errorf("row %+v", r)
		}
	}
	b.clock.Advance(7 * time.Minute)
	b.idle()
	if n := b.attempts("dead.test"); n != 2 || b.rows()[0].Failures != 2 {
		t.Errorf("probed %d times: %+v", n-1, b.rows()[0])
	}
	b.setAnswer(all(deliver.Result{Status: deliver.Delivered}))
	b.clock.Advance(13 * time.Minute)
	b.until("all of it", func() bool { return len(b.rows()) == 0 })
	if n := b.attempts("dead.test"); n != 33 {
		t.Errorf("tried %d times", n)
	}
}

// TestLate: one report after some hours, one in the end, each for all recipients.
func TestLate(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.setAnswer(all(downtime("dead.test")))
	b.put(mail.Sealed, nil, "a@dead.test", "b@other.test")
	b.put(mail.Sealed, notify(mail.NotifyNever), "never@dead.test")
	b.put(mail.Sealed, notify(mail.NotifyFailure), "failure@dead.test")
	b.put(mail.Sealed, func(o *store.Outgoing) { o.From = "" }, "null@dead.test")
	b.run(b.queue)
	told := func(address, action string) (n int) {
		for _, r := range b.handed() {
			n += strings.Count(r.text, "Final-Recipient: rfc822; "+address+"\r\nAction: "+action+"\r\n")
		}
		return n
	}
	b.clock.Advance(5 * time.Hour)
	b.until("told of the delay", func() bool { return told("a@dead.test", "delayed") == 1 && told("b@other.test", "delayed") == 1 })
	b.clock.Advance(24 * time.Hour)
	b.idle()
	b.clock.Advance(4 * 24 * time.Hour)
	b.until("given up", func() bool { return len(b.rows()) == 0 })
	for address, want := range map[string][2]int{
		"a@dead.test": {1, 1}, "b@other.test": {1, 1}, "failure@dead.test": {0, 1}, "never@dead.test": {}, "null@dead.test": {},
	} {
		if got := [2]int{told(address, "delayed"), told(address, "failed")}; got != want {
			t.Errorf("%s: told %v, want %v", address, got, want)
		}
	}
	for _, r := range b.handed() {
		if strings.Contains(r.text, "Action: failed") && !strings.Contains(r.text, "Status: 4.4.7\r\n") ||
			strings.Contains(r.text, "Action: delayed") && !strings.Contains(r.text, "Will-Retry-Until:") {
			t.Errorf("report %s", r.text)
		}
	}
}

// TestOneReport: recipients of several domains who become late together are in one.
func TestOneReport(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.put(mail.Sealed, func(o *store.Outgoing) { o.Created = b.clock.Now().Add(-6 * 24 * time.Hour) }, "a@one.test", "b@two.test", "c@two.test")
	ctx, cancel := context.WithCancel(t.Context())
	b.queue.takeLate(ctx, ctx, make(chan struct{}, 1))
	b.queue.workers.Wait()
	cancel()
	if got := b.handed(); len(got) != 1 || strings.Count(got[0].text, "Action: failed") != 3 || len(b.rows()) != 0 {
		t.Errorf("reports %+v", got)
	}
}

// TestSuccess: reported unless the next hop does.
func TestSuccess(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.setAnswer(func(_ context.Context, r deliver.Request) []deliver.Result {
		return []deliver.Result{{Status: deliver.Delivered, Code: 250, Enhanced: "2.0.0", Host: "mx", DSN: r.Domain == "knows.test"}}
	})
	b.put(mail.Sealed, notify(mail.NotifySuccess), "a@knows.test")
	b.put(mail.Sealed, notify(mail.NotifySuccess|mail.NotifyFailure), "b@knowsnot.test")
	b.put(mail.Sealed, nil, "c@knowsnot.test")
	b.run(b.queue)
	b.until("delivered", func() bool { return len(b.rows()) == 0 })
	got := b.handed()
	if len(got) != 1 || !strings.Contains(got[0].text, "Final-Recipient: rfc822; b@knowsnot.test\r\nAction: relayed\r\nStatus: 2.0.0") {
		t.Errorf("reports %+v", got)
	}
}

// TestHeld: asked now and then, at once when the operator says so, given up in the end.
func TestHeld(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	var asked atomic.Int32
	var found atomic.Bool
	b.decide = func(ctx context.Context, o *store.Outgoing, r store.OutgoingRcpt) error {
		asked.Add(1)
		if !found.Load() || r.Address == "never@there.test" {
			return mail.Refuse(451, "4.7.0", "no certificate").Because(errTest)
		}
		p := mail.Protect(mail.Order{Floor: mail.Clear}, mail.ContentClear, mail.Found)
		next := store.Outgoing{ID: b.store.NewID(), Account: o.Account, Protection: p, Level: mail.Sealed, Created: o.Created,
			Rcpts: []store.OutgoingRcpt{{ID: b.store.NewID(), Address: r.Address, Domain: r.Domain}}}
		_, err := b.store.Commit(ctx, store.Batch{Outgoing: []store.Outgoing{next}, Replaced: []store.ID{r.ID}})
		return err
	}
	b.put(mail.Held, nil, "a@there.test", "never@there.test")
	b.run(b.queue)
	b.idle()
	if n := asked.Load(); n != 2 {
		t.Fatalf("asked %d times", n)
	}
	if r := b.rows()[0]; r.Reply.Text != "no certificate" || r.Attempts != 1 || r.Due.Sub(b.clock.Now()) > 6*time.Minute {
		t.Errorf("row %+v", r)
	}
	if n, err := b.store.ReleaseOutgoing(t.Context(), store.Selection{All: true}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	b.idle()
	if n := asked.Load(); n != 4 {
		t.Errorf("asked %d times after a release", n)
	}
	found.Store(true)
	b.clock.Advance(7 * time.Minute)
	b.until("delivered", func() bool { return b.attempts("there.test") == 1 && len(b.rows()) == 1 })
	b.clock.Advance(5 * 24 * time.Hour)
	b.until("given up", func() bool { return len(b.rows()) == 0 })
	got := b.handed()
	if n := len(got); n == 0 || !strings.Contains(got[n-1].text, "publish an OpenPGP certificate") || !strings.Contains(got[n-1].text, "Status: 4.4.7") {
		t.Errorf("reports %+v", got)
	}
}

// TestHeldForNothing: of what cannot leave, as is known by now, the sender hears at once.
func TestHeldForNothing(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.decide = func(context.Context, *store.Outgoing, store.OutgoingRcpt) error {
		return mail.Refuse(550, "5.7.5", "not sent: there is no certificate for a@there.test")
	}
	b.put(mail.Held, nil, "a@there.test")
	b.run(b.queue)
	b.until("given back", func() bool { return len(b.rows()) == 0 })
	if got := b.handed(); len(got) != 1 || !strings.Contains(got[0].text, "Action: failed\r\nStatus: 5.7.5\r\n") ||
		!strings.Contains(got[0].text, "not sent: there is no certificate") {
		t.Errorf("reports %+v", got)
	}
}

// TestReturn: a next hop is never asked to send back what had to be protected.
func TestReturn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		level      mail.Level
		requireTLS bool
		ret, want  string
	}{
		{mail.Clear, false, "FULL", "FULL"}, {mail.Clear, false, "", ""}, {mail.Clear, true, "FULL", "HDRS"},
		{mail.TLSOnly, false, "FULL", "HDRS"}, {mail.Sealed, false, "FULL", "HDRS"}, {mail.EndToEnd, false, "", "HDRS"},
	} {
		o := &store.Outgoing{Level: c.level, RequireTLS: c.requireTLS, Return: c.ret}
		if got := New(newBed(t).options(nil)).request(store.Group{Copy: o}).Return; got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

// TestCancel: the operator gives a message back.
func TestCancel(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.setAnswer(all(refusal(450, "4.2.1", "later")))
	o := b.put(mail.Clear, nil, "a@there.test")
	b.run(b.queue)
	b.idle()
	if n, err := b.store.CancelOutgoing(t.Context(), store.Selection{ID: o.ID}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	b.until("given back", func() bool { return len(b.rows()) == 0 })
	got := b.handed()
	if len(got) != 1 || !strings.Contains(got[0].text, "Whoever runs this mail server") || strings.Contains(got[0].text, "canary") {
		t.Errorf("reports %+v", got)
	}
}

// TestReportRefused: nothing is lost, and nothing tried again, until the report is in.
func TestReportRefused(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.refuse = func(mail.Source, mail.Address) error { return mail.ErrStorageFull }
	b.setAnswer(func(_ context.Context, r deliver.Request) []deliver.Result {
		if r.Rcpts[0].Notify == mail.NotifySuccess {
			return []deliver.Result{{Status: deliver.Delivered, Host: "mx"}}
		}
		return []deliver.Result{refusal(550, "5.1.1", "no such user")}
	})
	b.put(mail.Sealed, nil, "a@there.test")
	b.put(mail.Sealed, notify(mail.NotifySuccess), "b@there.test")
	b.run(b.queue)
	b.until("verdicts", func() bool {
		rows := b.rows()
		return len(rows) == 2 && rows[0].Verdict == store.Failed && rows[1].Verdict == store.Relayed
	})
	b.clock.Advance(time.Hour)
	b.idle()
	if len(b.rows()) != 2 || len(b.requests) != 2 {
		t.Errorf("rows %+v, %d attempts", b.rows(), len(b.requests))
	}
	b.mu.Lock()
	b.refuse = nil
	b.mu.Unlock()
	b.clock.Advance(time.Hour)
	b.until("told", func() bool { return len(b.rows()) == 0 })
	if len(b.handed()) != 2 || len(b.requests) != 2 {
		t.Errorf("%d reports, %d attempts", len(b.handed()), len(b.requests))
	}
}

// TestReportTo: a reverse-path that is gone, and an account that is.
func TestReportTo(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.refuse = func(_ mail.Source, to mail.Address) error {
		if to.Local != "alice" {
			return mail.ErrNoSuchUser
		}
		return nil
	}
	b.setAnswer(all(refusal(550, "5.1.1", "no such user")))
	b.put(mail.Sealed, func(o *store.Outgoing) { o.From = "alias@here.test" }, "a@there.test")
	b.run(b.queue)
	b.until("told", func() bool { return len(b.rows()) == 0 })
	if got := b.handed(); len(got) != 1 || got[0].to[0].Local != "alice" {
		t.Errorf("reports %+v", got)
	}
	tries := 0
	b.mu.Lock()
	b.refuse = func(mail.Source, mail.Address) error { tries++; return mail.ErrNoSuchUser }
	b.mu.Unlock()
	b.put(mail.Sealed, nil, "b@there.test")
	b.until("kept", func() bool { rows := b.rows(); return len(rows) == 1 && rows[0].Verdict == store.Failed })
	b.clock.Advance(time.Hour)
	b.idle()
	b.mu.Lock()
	if tries != 1 {
		t.Errorf("a report that is refused for good was handed in %d times within an hour", tries)
	}
	b.mu.Unlock()
	noError(t, b.store.RemoveAccount(t.Context(), b.account.ID))
	b.clock.Advance(4 * time.Hour)
	b.until("dropped", func() bool { return len(b.rows()) == 0 })
}

// TestBounds: no more in hand than allowed, of all and of one domain.
func TestBounds(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	o := b.options(b.store)
	o.Workers, o.PerDomain = 5, 2
	b.queue = New(o)
	var now, most, slow, mostSlow atomic.Int32
	b.setAnswer(func(ctx context.Context, r deliver.Request) []deliver.Result {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		if r.Domain == "slow.test" {
			mostSlow.Store(max(mostSlow.Load(), slow.Add(1)))
			defer slow.Add(-1)
		}
		time.Sleep(2 * time.Millisecond)
		return all(deliver.Result{Status: deliver.Delivered})(ctx, r)
	})
	for i := range 40 {
		b.put(mail.Sealed, nil, "a@slow.test", "b@"+string(rune('a'+i%8))+".test")
	}
	b.run(b.queue)
	b.until("delivered", func() bool { return len(b.rows()) == 0 })
	if most.Load() > 5 || mostSlow.Load() > 2 || most.Load() < 3 {
		t.Errorf("%d in hand, %d of one domain", most.Load(), mostSlow.Load())
	}
}

// TestSleeps: without work the store is left alone.
func TestSleeps(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.setAnswer(all(downtime("dead.test")))
	for range 5 {
		b.put(mail.Sealed, nil, "a@dead.test")
	}
	b.run(b.queue)
	b.idle()
	counted := testkit.NewFailAt(0, nil)
	q := New(b.options(failing{b.store, counted}))
	stop := b.run(q)
	time.Sleep(300 * time.Millisecond)
	stop()
	if n := counted.Calls(); n > 8 {
		t.Errorf("%d calls of the store while there was nothing to do", n)
	}
}
