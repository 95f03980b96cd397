package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// heldFacts are what deciding anew needs of a copy that is held for a recipient
// elsewhere. They are kept beside it, as JSON.
type heldFacts struct {
	Order  mail.Order `json:"order"`
	Wish   string     `json:"wish,omitempty"`
	UTF8   bool       `json:"utf8,omitempty"`
	Trace  []byte     `json:"trace"`
	Gossip []byte     `json:"gossip,omitempty"`
}

// OpenOutgoing opens the octets of a copy as it leaves; what is locked is unlocked while
// it is read, and a chunk that was changed is an error.
func (b *Bridge) OpenOutgoing(ctx context.Context, o *store.Outgoing) (io.ReadCloser, error) {
	body, err := o.Open(ctx, b.Blobs)
	if err != nil {
		return nil, err
	}
	if !o.Locked {
		return body, nil
	}
	plain, err := b.Vault.Unlock(body)
	if err != nil {
		return nil, errors.Join(err, body.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{plain, body}, nil
}

// Reconsider decides anew on a copy that is held for a recipient elsewhere, by the order
// that it had, and puts what leaves in its place. An error means that it stays as it is:
// a *mail.Error of 4xx if it is still not known, of 5xx if it is known by now that it
// cannot leave.
func (b *Bridge) Reconsider(ctx context.Context, o *store.Outgoing, r store.OutgoingRcpt) error {
	var f heldFacts
	if err := json.Unmarshal(o.Facts, &f); err != nil {
		return fmt.Errorf("read facts: %w", err)
	}
	address, err := mail.ParseAddress(r.Address)
	if err != nil {
		return fmt.Errorf("recipient: %w", err)
	}
	to := recipient{
		rcpt:  mail.Rcpt{Address: address, Notify: r.Notify, Original: r.Original},
		order: f.Order, wish: f.Wish, elsewhere: true,
	}
	to.answer, to.certificates = b.Directory.Lookup(ctx, address).Under(f.Order.MinTrust, b.Now())
	c := plan(mail.ContentClear, []recipient{to})[0]
	switch {
	case c.level == mail.Held, c.level == mail.Deferred:
		return mail.Refuse(450, "4.7.5", "it is still not known whether it can be encrypted: "+to.answer.Reason)
	case !c.protection.MayLeave():
		return mail.Refuse(550, "5.7.5", "not sent: "+to.refusal())
	}
	rows, err := b.replacement(ctx, o, r, f, to, c)
	if err != nil {
		return err
	}
	tell := c.level < mail.Sealed && !b.toldWeak(ctx, o)
	if _, err := b.enter(ctx, rows); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	b.Metrics.BridgeOutgoing(c.level.String(), 1)
	if tell {
		// The reply to the message could not say so. It is decided by now, whatever fails.
		if err := b.noticeWeak(ctx, o, r.Address, c.level, to.why(c.level)); err != nil {
			b.Log.Error("tell of a copy in clear", telemetry.KeyID, o.Source, telemetry.KeyError, err)
		}
	}
	return nil
}

// afterHeld is in the record of what was held.
const afterHeld = ", after it was held; "

// toldWeak says whether the sender knows already that a copy of the message that was held
// leaves in clear: with a thousand recipients one notice is enough.
func (b *Bridge) toldWeak(ctx context.Context, o *store.Outgoing) bool {
	const newest = 200
	rows, err := b.Store.AuditRows(ctx, o.Source, newest)
	return err == nil && slices.ContainsFunc(rows, func(row store.Audit) bool {
		return strings.Contains(row.Detail, afterHeld) && !strings.HasPrefix(row.Detail, mail.Sealed.String())
	})
}

// noticeWeak tells the sender that a copy that was held leaves in clear after all.
func (b *Bridge) noticeWeak(ctx context.Context, o *store.Outgoing, recipient string, l mail.Level, why string) error {
	account, err := b.Store.Account(ctx, o.Account)
	if errors.Is(err, store.ErrNotFound) {
		return nil // removed meanwhile
	}
	if err != nil {
		return fmt.Errorf("look up account: %w", err)
	}
	return b.Notify(ctx, account.Address, "Your message is not encrypted for some of its recipients", []string{
		"Your message of " + message.FormatDate(o.Created) + ", queued as " + o.Source + ", was",
		"held for " + recipient + " because it was not known whether it can be",
		"encrypted to them. It cannot (" + why + "), and leaves in clear now: " + l.Called() + ".",
		"The same may be so for others for whom it was held.",
		"",
		"To have a message refused rather than sent in clear, begin its subject with [secure].",
	})
}

// replacement makes the copy that leaves of one that was held.
func (b *Bridge) replacement(ctx context.Context, o *store.Outgoing, r store.OutgoingRcpt, f heldFacts, to recipient, c mailCopy) (rows store.Batch, err error) {
	held, err := b.OpenOutgoing(ctx, o)
	if err != nil {
		return rows, err
	}
	defer held.Close()
	m, err := b.receiveHeld(held)
	if err != nil {
		return rows, err
	}
	defer m.Close()
	d := &departure{
		Bridge: b, account: o.Account, source: o.Source, from: o.From, envID: o.EnvID, ret: o.Return,
		requireTLS: o.RequireTLS, utf8: f.UTF8, trace: f.Trace, gossip: f.Gossip,
	}
	leaves, err := d.copy(ctx, m, []recipient{to}, c)
	if err != nil {
		return rows, err
	}
	leaves.Created = o.Created
	rows = store.Batch{
		Outgoing: []store.Outgoing{*leaves},
		Replaced: []store.ID{r.ID},
		Audit: []store.Audit{{
			Time: b.Now(), Kind: "send", Subject: o.Source,
			Detail: fmt.Sprintf("%v for %s by rule %q%s%s", c.level, r.Address, to.order.Rule, afterHeld, to.evidence()),
		}},
	}
	if id := m.messageID(); id != "" {
		rows.Exchanges = []store.Exchange{{Account: o.Account, MessageID: id, Level: c.level}}
	}
	return rows, nil
}
