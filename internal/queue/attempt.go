package queue

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	"postern/internal/deliver"
	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// breakOff is how long a carrier may take to return after its context has ended.
const breakOff = time.Second

// perform does what is to be done with a group, records it, and returns it. If that panics,
// as over a report, the group is tried again when its lease ends.
func (q *Queue) perform(ctx context.Context, g store.Group, do func(context.Context, store.Group) store.Finish) (f store.Finish) {
	defer func() {
		if p := recover(); p != nil {
			q.Log.Error("work", telemetry.KeyPart, "queue", telemetry.KeyID, g.Copy.ID.String(),
				telemetry.KeyError, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	f = do(ctx, g)
	q.finish(ctx, f)
	return f
}

// attempt has a group carried to its next hop, or decided anew if it is Held, and says
// what became of each recipient.
func (q *Queue) attempt(ctx context.Context, g store.Group) store.Finish {
	if g.Held {
		return q.reconsider(ctx, g)
	}
	results := q.carry(ctx, g)
	if ctx.Err() != nil && allRetry(results) { // the end of this process says nothing of the next hop
		return store.Finish{Outcomes: giveBack(g, q.Now())}
	}
	var f store.Finish
	if unreached(results) {
		n := g.Failures + 1
		f.Lanes = []store.LaneOutcome{{Lane: g.Lane, Failures: n, Until: q.Now().Add(jitter(q.Schedule.after(n))), Reason: results[0].Text}}
	} else if g.Failures > 0 && slices.ContainsFunc(results, answered) {
		f.Lanes = []store.LaneOutcome{{Lane: g.Lane}}
	}
	var failed, relayed []reported
	for i, r := range g.Rcpts {
		result := results[i]
		r.Tried = q.Now()
		o := store.Outcome{Rcpt: r.ID, Claim: g.ID, Attempted: true, Reply: reply(result)}
		became := telemetry.QueueDeferred
		switch result.Status {
		case deliver.Delivered:
			o.Done, became = true, telemetry.QueueDelivered
			if r.Notify&mail.NotifySuccess != 0 && !result.DSN {
				relayed = append(relayed, reported{len(f.Outcomes), r, o.Reply})
			}
		case deliver.Failed:
			o.Done, became = true, telemetry.QueueFailed
			failed = append(failed, reported{len(f.Outcomes), r, o.Reply})
		default:
			o.Due = q.Now()
			if len(f.Lanes) == 0 || f.Lanes[0].Failures == 0 { // else the domain's back-off holds
				o.Due = o.Due.Add(jitter(q.Schedule.after(r.Attempts + 1)))
			}
		}
		r.Reply = o.Reply
		q.became(g, r, became, result.TLS)
		f.Outcomes = append(f.Outcomes, o)
		f.Audit = append(f.Audit, q.audit(g, r, result)...)
	}
	q.reportAll(ctx, g, eventFailed, store.Failed, failed, &f)
	q.reportAll(ctx, g, eventRelayed, store.Relayed, relayed, &f)
	return f
}

// audit is the line of the record about a recipient that is done.
func (q *Queue) audit(g store.Group, r store.QueuedRcpt, result deliver.Result) []store.Audit {
	if result.Status == deliver.Retry {
		return nil
	}
	return []store.Audit{{
		Time: q.Now(), Kind: "relay", Subject: g.Copy.Source,
		Detail: fmt.Sprintf("%v %v to %s%s: %d %s", result.Status, g.Copy.Level, r.Domain, where(result), result.Code, plain(result.Enhanced)),
	}}
}

// where says in the record who gave a result, and over what TLS.
func where(r deliver.Result) (s string) {
	if r.Host != "" {
		s = " at " + plain(r.Host)
	}
	if r.TLS != "" {
		s += ", " + plain(r.TLS)
	}
	return s
}

// reply is what is kept of a result.
func reply(r deliver.Result) store.Reply {
	if !statusCode(r.Enhanced) {
		r.Enhanced = ""
	}
	return store.Reply{Code: r.Code, Enhanced: r.Enhanced, Text: plain(r.Text), Host: plain(r.Host)}
}

// carry calls the carrier and returns one result for each recipient, whatever it does:
// one that panics, or does not return when it has to, is Retry.
func (q *Queue) carry(ctx context.Context, g store.Group) []deliver.Result {
	done := make(chan []deliver.Result, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				q.Log.Error("delivery", telemetry.KeyPart, "queue", telemetry.KeyID, g.Copy.ID.String(),
					telemetry.KeyError, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
				done <- nil
			}
		}()
		done <- q.Carrier.Deliver(ctx, q.request(g))
	}()
	var results []deliver.Result
	select {
	case results = <-done:
	case <-ctx.Done():
		select {
		case results = <-done:
		case <-time.After(breakOff):
		}
	}
	if len(results) != len(g.Rcpts) {
		results = make([]deliver.Result, len(g.Rcpts))
		for i := range results {
			results[i] = deliver.Result{Code: 451, Enhanced: "4.3.0", Text: "the attempt ended without a result"}
		}
	}
	return results
}

// request is a group as the carrier knows it.
func (q *Queue) request(g store.Group) deliver.Request {
	c := g.Copy
	r := deliver.Request{
		Domain: g.Domain, From: c.From, Body: c.Body, UTF8: c.UTF8, EnvID: c.EnvID, Return: returned(c),
		RequireTLS: c.RequireTLS, VerifiedTLS: c.Level == mail.TLSOnly, Size: q.Size(c),
		Open: func(ctx context.Context) (io.ReadCloser, error) { return q.Open(ctx, c) },
	}
	for _, rcpt := range g.Rcpts {
		r.Rcpts = append(r.Rcpts, deliver.Rcpt{Address: rcpt.Address, Notify: rcpt.Notify, Original: rcpt.Original})
	}
	return r
}

// returned is how much of a copy a next hop may send back in a report, which goes we do
// not know how: of one that is or has to be protected, the header section alone.
func returned(c *store.Outgoing) string {
	if c.Level == mail.Clear && !c.RequireTLS {
		return c.Return
	}
	return "HDRS"
}

func allRetry(results []deliver.Result) bool {
	for _, r := range results {
		if r.Status != deliver.Retry {
			return false
		}
	}
	return true
}

// unreached reports whether nobody at the domain said anything about this message, so
// that other messages would fare no better: no host was found, or let us come as far as
// the message, or a host takes no mail now (421, RFC 5321 3.8).
func unreached(results []deliver.Result) bool {
	for _, r := range results {
		if r.Status != deliver.Retry || !r.Unreached && r.Code != 421 {
			return false
		}
	}
	return true
}

// answered says that a host of the domain had a say in a result.
func answered(r deliver.Result) bool { return r.Status == deliver.Delivered || r.TLS != "" }

// reconsider has each recipient of a Held copy decided anew. Those that were are gone
// from the queue. One that cannot leave, as is known by now, goes back to its sender.
func (q *Queue) reconsider(ctx context.Context, g store.Group) store.Finish {
	var f store.Finish
	var failed []reported
	for _, r := range g.Rcpts {
		err := q.decide(ctx, g, r)
		if err == nil {
			r.Reply = store.Reply{} // it said why it was held
			q.became(g, r, telemetry.QueueDecided, "")
			continue
		}
		o := store.Outcome{Rcpt: r.ID, Claim: g.ID, Due: q.Now()}
		if ctx.Err() == nil {
			o.Due = o.Due.Add(jitter(q.Schedule.Held))
			e := mail.AsError(err)
			o.Attempted, o.Reply = true, store.Reply{Enhanced: plain(e.Enhanced), Text: plain(e.Text)}
			if o.Done = permanent(err); o.Done {
				failed = append(failed, reported{len(f.Outcomes), r, o.Reply})
				f.Audit = append(f.Audit, store.Audit{Time: q.Now(), Kind: "relay", Subject: g.Copy.Source, Detail: "not sent to " + r.Domain + ", after it was held"})
				r.Reply = o.Reply
				q.became(g, r, telemetry.QueueFailed, "")
			} else {
				q.Metrics.QueueRecipient(telemetry.QueueDeferred)
			}
			q.Log.Debug("still held", telemetry.KeyPart, "queue", telemetry.KeyID, g.Copy.ID.String(), telemetry.KeyError, err)
		}
		f.Outcomes = append(f.Outcomes, o)
	}
	q.reportAll(ctx, g, eventFailed, store.Failed, failed, &f)
	return f
}

func (q *Queue) decide(ctx context.Context, g store.Group, r store.QueuedRcpt) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			q.Log.Error("decide anew", telemetry.KeyPart, "queue", telemetry.KeyID, g.Copy.ID.String(), telemetry.KeyError, err)
		}
	}()
	return q.Reconsider(ctx, g.Copy, r.OutgoingRcpt)
}
