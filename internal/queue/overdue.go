package queue

import (
	"context"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// overdue tells the sender of a copy about recipients that are late, too late, or
// decided but not yet reported.
func (q *Queue) overdue(ctx context.Context, g store.Group) store.Finish {
	var f store.Finish
	byEvent := map[event][]reported{}
	now := q.Now()
	for _, r := range g.Rcpts {
		o := store.Outcome{Rcpt: r.ID, Claim: g.ID, Due: r.Due, Done: true}
		e, late := q.event(r, now)
		if late {
			byEvent[e] = append(byEvent[e], reported{len(f.Outcomes), r, r.Reply})
		} else { // the schedule has changed
			o.Done, o.Deadline = false, q.nextDeadline(r)
		}
		if e == eventDelayed {
			o.Done, o.Delayed, o.Deadline = false, true, r.Since.Add(q.Schedule.GiveUp)
		}
		f.Outcomes = append(f.Outcomes, o)
	}
	for e, rcpts := range byEvent {
		if e == eventExpired || e == eventCancelled {
			for _, r := range rcpts {
				q.became(g, r.rcpt, string(e), "")
				f.Audit = append(f.Audit, store.Audit{Time: now, Kind: "relay", Subject: g.Copy.Source, Detail: string(e)})
			}
		}
		q.reportAll(ctx, g, e, verdict(e), rcpts, &f)
	}
	return f
}

// event says of what the sender is to hear; false: of nothing yet.
func (q *Queue) event(r store.QueuedRcpt, now time.Time) (event, bool) {
	switch r.Verdict {
	case store.Cancelled:
		return eventCancelled, true
	case store.Failed:
		return eventFailed, true
	case store.Relayed:
		return eventRelayed, true
	}
	switch age := now.Sub(r.Since); {
	case age >= q.Schedule.GiveUp:
		return eventExpired, true
	case q.Schedule.Warn >= 0 && age >= q.Schedule.Warn && !r.Delayed:
		return eventDelayed, true
	}
	return "", false
}

func (q *Queue) nextDeadline(r store.QueuedRcpt) time.Time {
	if q.Schedule.Warn >= 0 && !r.Delayed {
		return r.Since.Add(min(q.Schedule.Warn, q.Schedule.GiveUp))
	}
	return r.Since.Add(q.Schedule.GiveUp)
}

// verdict is what is kept of an event until its report was handed in. A recipient that is
// only late is still tried, and one that is too late will be so the next time.
func verdict(e event) store.Verdict {
	switch e {
	case eventCancelled:
		return store.Cancelled
	case eventFailed:
		return store.Failed
	case eventRelayed:
		return store.Relayed
	}
	return store.Undecided
}

// reportAll reports those recipients whose sender wants it. If the report cannot be
// handed in they stay in the queue with the verdict, and it is tried again.
func (q *Queue) reportAll(ctx context.Context, g store.Group, e event, v store.Verdict, rcpts []reported, f *store.Finish) {
	var wanted []reported
	for _, r := range rcpts {
		if wants(r.rcpt.Notify, e) {
			wanted = append(wanted, r)
		}
	}
	if len(wanted) == 0 {
		return
	}
	err := q.report(ctx, g.Copy, e, wanted)
	if err == nil {
		return
	}
	q.Log.Error("hand in a report; it is tried again", telemetry.KeyPart, "queue", telemetry.KeyID, g.Copy.Source,
		telemetry.KeyReason, string(e), telemetry.KeyError, err)
	again := q.Schedule.First
	if permanent(err) { // until the operator does something
		again = q.Schedule.Last
	}
	for _, r := range wanted {
		o := &f.Outcomes[r.outcome]
		o.Done, o.Delayed, o.Verdict = false, false, v
		o.Deadline = q.Now().Add(jitter(again))
	}
}

// wants says whether the sender asked to hear of an event, RFC 3461 4.1. Without a wish
// that is of failure, and of delay too (RFC 3461 4.1 leaves the latter to us).
func wants(n mail.Notify, e event) bool {
	switch e {
	case eventRelayed:
		return n&mail.NotifySuccess != 0
	case eventDelayed:
		return n == 0 || n&mail.NotifyDelay != 0
	}
	return n == 0 || n&mail.NotifyFailure != 0
}
