package queue

import (
	"context"
	"errors"
	"fmt"
	"io"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// event is of what a report tells; it is also the metrics' word.
type event string

const (
	eventFailed    event = "failed" // refused by the next hop
	eventExpired   event = telemetry.QueueExpired
	eventCancelled event = telemetry.QueueCancelled
	eventDelayed   event = "delayed"
	eventRelayed   event = "relayed"
	eventDelivered event = "delivered" // into a mailbox here
)

// reported is a recipient that a report is about, and its outcome's place in a Finish.
type reported struct {
	outcome int
	rcpt    store.QueuedRcpt
	reply   store.Reply
}

// maxHeader bounds the header section that a report quotes, in octets.
const maxHeader = 64 << 10

// report hands one report to the sender of a copy. nil: it is durable, or there is
// nobody to tell: the reverse-path is null (RFC 5321 4.5.5), or the account is gone,
// which is recorded in the log.
func (q *Queue) report(ctx context.Context, c *store.Outgoing, e event, rcpts []reported) error {
	if c.From == "" {
		q.Metrics.QueueReport("nobody")
		return nil
	}
	to, err := mail.ParseAddress(c.From)
	if err == nil {
		err = q.handIn(ctx, c, e, rcpts, to)
	}
	if permanent(err) {
		err = q.toAccount(ctx, c, e, rcpts, to, err)
	}
	if err != nil {
		q.Metrics.QueueReport("error")
		return err
	}
	return nil
}

// permanent says whether an address will never take a report.
func permanent(err error) bool {
	var refused *mail.Error
	return errors.Is(err, mail.ErrAddress) || errors.As(err, &refused) && !refused.Temporary()
}

// toAccount is for a reverse-path that takes no mail any more: the account's own address
// may.
func (q *Queue) toAccount(ctx context.Context, c *store.Outgoing, e event, rcpts []reported, tried mail.Address, cause error) error {
	a, err := q.Store.Account(ctx, c.Account)
	if errors.Is(err, store.ErrNotFound) {
		q.Log.Warn("a report is dropped: its account is gone", telemetry.KeyPart, "queue", telemetry.KeyID, c.Source,
			telemetry.KeyReason, string(e), telemetry.KeyCount, len(rcpts))
		q.Metrics.QueueReport("nobody")
		return nil
	}
	if err != nil {
		return err
	}
	if a.Address.Key() == tried.Key() {
		return cause
	}
	return q.handIn(ctx, c, e, rcpts, a.Address)
}

func (q *Queue) handIn(ctx context.Context, c *store.Outgoing, e event, rcpts []reported, to mail.Address) error {
	header, err := q.headerOf(ctx, c)
	if err != nil {
		// The report says all that matters without it.
		q.Log.Error("read a header section for a report", telemetry.KeyPart, "queue", telemetry.KeyID, c.Source, telemetry.KeyError, err)
	}
	return q.handInReport(ctx, c, e, rcpts, to, header)
}

// Delivered reports to the sender of a copy that mailboxes here have it, if they asked
// for that (RFC 3461 4.1). Of the copy, only what describes its envelope is looked at.
func (q *Queue) Delivered(ctx context.Context, c *store.Outgoing, h message.Header) error {
	var rcpts []reported
	for _, r := range c.Rcpts {
		if r.Notify&mail.NotifySuccess != 0 {
			rcpts = append(rcpts, reported{rcpt: store.QueuedRcpt{OutgoingRcpt: r}})
		}
	}
	if len(rcpts) == 0 || c.From == "" {
		return nil
	}
	to, err := mail.ParseAddress(c.From)
	if err != nil {
		return fmt.Errorf("reverse-path: %w", err)
	}
	return q.handInReport(ctx, c, eventDelivered, rcpts, to, h)
}

func (q *Queue) handInReport(ctx context.Context, c *store.Outgoing, e event, rcpts []reported, to mail.Address, h message.Header) error {
	d := dsn{
		Event: e, Hostname: q.Hostname, ID: q.NewID(), Now: q.Now(), GiveUp: q.Schedule.GiveUp,
		To: to, Copy: c, Rcpts: rcpts, Header: h,
	}
	// It goes by the same hops that the message was allowed to take (RFC 8689 4.3).
	tr, err := q.Acceptor.Begin(ctx, mail.Source{
		Kind: mail.KindDSN, ID: d.ID, Time: d.Now, UTF8: d.utf8(), RequireTLS: c.RequireTLS,
	})
	if err != nil {
		return fmt.Errorf("begin report: %w", err)
	}
	defer tr.Abort()
	if err := tr.Rcpt(ctx, mail.Rcpt{Address: to}); err != nil {
		return fmt.Errorf("report's recipient: %w", err)
	}
	if _, err := tr.Data(ctx, d.reader()); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	q.Metrics.QueueReport(string(e))
	return nil
}

// headerOf returns the fields of the header section of a copy as it would leave, and
// never an octet behind them.
func (q *Queue) headerOf(ctx context.Context, c *store.Outgoing) (message.Header, error) {
	r, err := q.Open(ctx, c)
	if err != nil {
		return message.Header{}, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxHeader))
	if err != nil {
		return message.Header{}, err
	}
	h, _, err := message.ParseHeaderLimit(b, maxHeader)
	if err != nil {
		return message.Header{}, err
	}
	if len(h.End) == 0 && len(b) == maxHeader && len(h.Fields) > 0 {
		h.Fields = h.Fields[:len(h.Fields)-1] // cut in two
	}
	return h, nil
}
