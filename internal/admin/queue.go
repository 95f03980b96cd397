package admin

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"postern/internal/config"
	"postern/internal/mail"
	"postern/internal/store"
)

// QueueSelection names recipients of the queue: by the id of a recipient or of a copy, by
// their domain, or all; exactly one of them.
type QueueSelection struct {
	ID     string
	Domain string
	All    bool
}

func (s QueueSelection) selection() (store.Selection, error) {
	if (s.ID != "") == (s.Domain != "" || s.All) || s.Domain != "" && s.All {
		return store.Selection{}, usage("name one of: an id (postern queue list shows them), --domain, --all")
	}
	sel := store.Selection{All: s.All}
	if s.ID != "" {
		n, err := strconv.ParseInt(s.ID, 36, 64)
		if err != nil || n <= 0 {
			return store.Selection{}, usage("%q is no id of the queue", s.ID)
		}
		sel.ID = store.ID(n)
	}
	if s.Domain != "" {
		domain, err := mail.ParseDomain(s.Domain)
		if err != nil {
			return store.Selection{}, usage("%q: %v", s.Domain, err)
		}
		sel.Domain = strings.ToLower(domain)
	}
	return sel, nil
}

// QueuedRcpt describes one recipient that waits.
type QueuedRcpt struct {
	ID         string     `json:"id"`
	Copy       string     `json:"copy"`        // the copy's id, which its recipients share
	Source     string     `json:"transaction"` // the id of the message in logs and trace fields
	From       string     `json:"from"`
	Rcpt       string     `json:"recipient"`
	Domain     string     `json:"domain"`
	Protection string     `json:"protection"`
	Size       int64      `json:"size_octets"`
	Created    time.Time  `json:"created"`
	State      string     `json:"state"` // waiting, held, on-hold, in-hand, reporting
	Reason     string     `json:"reason"`
	Attempts   int        `json:"attempts"`
	Tried      *time.Time `json:"tried,omitempty"`
	Next       *time.Time `json:"next,omitempty"` // nil: not by itself
	// What the next hop said last.
	Code     int        `json:"code,omitempty"`
	Status   string     `json:"status,omitempty"`
	Text     string     `json:"text,omitempty"`
	Host     string     `json:"host,omitempty"`
	Owner    string     `json:"owner,omitempty"`
	Lease    *time.Time `json:"lease,omitempty"`
	Failures int        `json:"domain_failures,omitempty"` // in a row
	Backoff  *time.Time `json:"domain_backoff,omitempty"`
	Delayed  bool       `json:"sender_told_of_delay,omitempty"`
}

// Queue is what waits.
type Queue []QueuedRcpt

// Queue lists the selected recipients by age. With an id there has to be one.
func (a *Admin) Queue(ctx context.Context, s QueueSelection) (Queue, error) {
	sel, err := s.selection()
	if err != nil {
		return nil, err
	}
	list := Queue{}
	now := time.Now()
	err = a.g.Store.ListOutgoing(ctx, sel, func(q store.Queued) error {
		list = append(list, describeQueued(q, now))
		return nil
	})
	if err == nil && len(list) == 0 && s.ID != "" {
		err = fmt.Errorf("there is nothing with the id %s in the queue", s.ID)
	}
	return list, err
}

func describeQueued(q store.Queued, now time.Time) QueuedRcpt {
	r := QueuedRcpt{
		ID: q.ID.String(), Copy: q.Copy.String(), Source: q.Outgoing.Source, From: q.Outgoing.From, Rcpt: q.Address, Domain: q.Domain,
		Protection: q.Outgoing.Level.String(), Size: q.Outgoing.Size, Created: q.Outgoing.Created,
		Attempts: q.Attempts, Tried: timeOrNil(q.Tried),
		Code: q.Reply.Code, Status: q.Reply.Enhanced, Text: q.Reply.Text, Host: q.Reply.Host,
		Owner: q.Owner, Lease: timeOrNil(q.Lease), Failures: q.Failures, Backoff: timeOrNil(q.Backoff), Delayed: q.Delayed,
	}
	r.State, r.Reason = why(q, now)
	next := q.Due
	if !next.IsZero() && q.Backoff.After(next) {
		next = q.Backoff
	}
	if r.State != "in-hand" {
		r.Next = timeOrNil(next)
	}
	return r
}

// why says in what state a recipient is, and why it waits.
func why(q store.Queued, now time.Time) (state, reason string) {
	said := q.Reply.Text
	if q.Reply.Host != "" {
		said = strings.Join(strings.Fields(fmt.Sprintf("%s says: %d %s %s", q.Reply.Host, q.Reply.Code, q.Reply.Enhanced, said)), " ")
	}
	switch {
	case q.Lease.After(now):
		return "in-hand", "with " + q.Owner + " until " + q.Lease.UTC().Format(time.DateTime) + " at least"
	case q.OnHold:
		return "on-hold", "held by the operator: postern queue release"
	case q.Verdict == store.Cancelled:
		return "reporting", "removed by the operator; its sender is to be told"
	case q.Verdict == store.Failed:
		return "reporting", said + "; its sender is to be told"
	case q.Verdict == store.Relayed:
		return "reporting", "delivered; its sender is to be told"
	case q.Outgoing.Level == mail.Held:
		return "held", orText(said, "it is decided anew when a certificate is found")
	case q.Failures > 0 && q.Backoff.After(now):
		return "waiting", fmt.Sprintf("%s was not reached %s: %s", q.Domain, times(q.Failures, " in a row"), q.Reason)
	}
	return "waiting", orText(said, "not tried yet")
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// times says how often in words; more is added if it is more than once.
func times(n int, more string) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times" + more
}

// WriteText implements the human form. All times are UTC.
func (l Queue) WriteText(w io.Writer) error {
	return table(w, "ID\tCREATED\tFROM\tTO\tPROTECTION\tSTATE\tTRIED\tNEXT\tREASON", func(line func(string, ...any)) {
		for _, r := range l {
			line("%s\t%s\t<%s>\t<%s>\t%s\t%s\t%d\t%s\t%s", r.ID, r.Created.UTC().Format(time.DateTime), r.From, r.Rcpt, r.Protection, r.State,
				r.Attempts, next(r), r.Reason)
		}
	})
}

func next(r QueuedRcpt) string {
	if r.Next == nil {
		return "-"
	}
	return r.Next.UTC().Format(time.DateTime)
}

// WriteLong writes all that is known of each.
func (l Queue) WriteLong(w io.Writer) error {
	for i, r := range l {
		if i > 0 {
			fmt.Fprintln(w)
		}
		err := table(w, "", func(line func(string, ...any)) {
			line("Recipient:\t<%s> (id %s)", r.Rcpt, r.ID)
			line("From:\t<%s>", r.From)
			line("Message:\ttransaction %s, copy %s, %v, %s", r.Source, r.Copy, config.Size(r.Size), r.Protection)
			line("Since:\t%s UTC", r.Created.UTC().Format(time.DateTime))
			line("State:\t%s: %s", r.State, r.Reason)
			when := next(r)
			if r.Next != nil {
				when += " UTC"
			}
			line("Next:\t%s", when)
			tried := "never"
			if r.Tried != nil {
				tried = fmt.Sprintf("%s, last at %s UTC", times(r.Attempts, ""), r.Tried.UTC().Format(time.DateTime))
			}
			line("Tried:\t%s", tried)
			if r.Host != "" {
				line("Last reply:\t%s", strings.Join(strings.Fields(fmt.Sprintf("%s %d %s %s", r.Host, r.Code, r.Status, r.Text)), " "))
			}
			if r.Delayed {
				line("Sender:\tknows that it is late")
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// QueueChange is how many recipients were changed, and how.
type QueueChange struct {
	What  string `json:"change"`
	Count int    `json:"recipients"`
}

// WriteText implements the human form.
func (c QueueChange) WriteText(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s: %d\n", c.What, c.Count)
	return err
}

// RetryQueue has recipients tried now; a running server begins at once.
func (a *Admin) RetryQueue(ctx context.Context, s QueueSelection) (QueueChange, error) {
	return a.changeQueue(ctx, "to be tried now", s, a.g.Store.RetryOutgoing)
}

// HoldQueue has recipients left alone until they are released.
func (a *Admin) HoldQueue(ctx context.Context, s QueueSelection) (QueueChange, error) {
	return a.changeQueue(ctx, "on hold", s, a.g.Store.HoldOutgoing)
}

// ReleaseQueue lets recipients go on, and has copies that wait for a certificate decided
// anew.
func (a *Admin) ReleaseQueue(ctx context.Context, s QueueSelection) (QueueChange, error) {
	return a.changeQueue(ctx, "released", s, a.g.Store.ReleaseOutgoing)
}

// RemoveQueue takes recipients out of the queue. Their senders are told, by the running
// server or the next one; silently, they are gone at once and nobody is told, which is
// only done if it is confirmed.
func (a *Admin) RemoveQueue(ctx context.Context, s QueueSelection, silent, confirmed bool) (QueueChange, error) {
	if !silent {
		return a.changeQueue(ctx, "to be given back to their senders", s, a.g.Store.CancelOutgoing)
	}
	if !confirmed {
		return QueueChange{}, usage("--silent loses mail and tells nobody: confirm it with --yes")
	}
	return a.changeQueue(ctx, "removed", s, a.g.Store.RemoveOutgoing)
}

func (a *Admin) changeQueue(ctx context.Context, what string, s QueueSelection,
	change func(context.Context, store.Selection) (int, error)) (QueueChange, error) {
	sel, err := s.selection()
	if err != nil {
		return QueueChange{}, err
	}
	n, err := change(ctx, sel)
	if err == nil && n == 0 && s.ID != "" {
		if _, err := a.Queue(ctx, s); err != nil {
			return QueueChange{}, err
		}
	}
	return QueueChange{what, n}, err
}
