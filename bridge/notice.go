package bridge

import (
	"context"
	"fmt"
	"strings"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// afterwards sees to the owners of held copies.
// The message is durable by now: whatever fails here is logged and changes nothing.
func (t *transaction) afterwards(ctx context.Context, m *arrival, copies []mailCopy) {
	for _, c := range copies {
		if c.elsewhere {
			t.Metrics.BridgeOutgoing(c.level.String(), len(c.recipients))
			continue
		}
		for range c.recipients {
			t.Metrics.BridgeMessage(class(c.protection.Level()))
		}
		if c.protection.Level() != mail.Held {
			continue
		}
		for _, i := range c.recipients {
			if err := t.afterHolding(ctx, t.to[i]); err != nil {
				t.Log.Error("held copy", telemetry.KeyID, t.source.ID, telemetry.KeyError, err)
			}
		}
	}
}

// reportDelivered tells the sender of the recipients here who have the message, where that
// was asked for (RFC 3461 4.1). One whose copy is held does not have it.
func (t *transaction) reportDelivered(ctx context.Context, m *arrival, receipt mail.Receipt) {
	if t.Delivered == nil || t.submission == nil {
		return
	}
	c := &store.Outgoing{
		Source: t.source.ID, From: t.submission.sender.String(), EnvID: t.source.EnvID,
		RequireTLS: t.source.RequireTLS, Created: t.source.Time,
	}
	for i, r := range t.asked {
		if receipt.Placed[i].UID != 0 && r.Notify&mail.NotifySuccess != 0 {
			c.Rcpts = append(c.Rcpts, store.OutgoingRcpt{Address: r.Address.String(), Domain: r.Address.Domain, Notify: r.Notify, Original: r.Original})
		}
	}
	if len(c.Rcpts) == 0 {
		return
	}
	if err := t.Delivered(ctx, c, m.header); err != nil {
		t.Log.Error("report a delivery", telemetry.KeyID, t.source.ID, telemetry.KeyError, err)
	}
}

// class is the metrics' word for a level.
func class(l mail.Level) string {
	switch l {
	case mail.Sealed:
		return telemetry.ClassSealed
	case mail.EndToEnd:
		return telemetry.ClassEncrypted
	case mail.Held:
		return telemetry.ClassHeld
	}
	return telemetry.ClassNotice
}

// afterHolding tells the owner that a copy is held, unless their certificate came while
// the message did: the recipient was looked up before it, and whoever brought the
// certificate has released what was held until then.
func (t *transaction) afterHolding(ctx context.Context, r recipient) error {
	if answer, _ := t.lookUp(ctx, r.account); answer.Kind == mail.Found {
		_, err := t.Release(ctx)
		return err
	}
	return t.noticeHeld(ctx, r.account, r.answer.Reason)
}

// noticeHeld puts one notice into the account's INBOX if the copy just held is its
// only one. It contains nothing of the message, since it cannot be sealed either.
func (b *Bridge) noticeHeld(ctx context.Context, a store.Account, reason string) error {
	held, err := b.Store.HeldCount(ctx, a.ID)
	if err != nil {
		return fmt.Errorf("count held copies: %w", err)
	}
	if held != 1 {
		return nil
	}
	return b.Notify(ctx, a.Address, "Mail for you is waiting for your OpenPGP certificate", heldNotice(a.Address.String(), reason))
}

// Notify puts a notice of the gateway's own into an account's INBOX: sealed if the
// account has a certificate, else as it is, since it holds nothing of anybody's mail.
func (b *Bridge) Notify(ctx context.Context, to mail.Address, subject string, lines []string) error {
	now, id := b.Now(), b.Store.NewID().String()
	tr, err := b.Begin(ctx, mail.Source{Kind: mail.KindNotice, ID: id, Time: now})
	if err != nil {
		return err
	}
	defer tr.Abort()
	if err := tr.Rcpt(ctx, mail.Rcpt{Address: to}); err != nil {
		return err
	}
	header := []string{
		"From: Postern <postmaster@" + b.Hostname + ">",
		"To: " + to.String(),
		"Date: " + message.FormatDate(now),
		"Message-ID: <" + id + ".notice@" + b.Hostname + ">",
		"Subject: " + subject,
		"Auto-Submitted: auto-generated",
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=utf-8",
		"",
	}
	_, err = tr.Data(ctx, strings.NewReader(strings.Join(append(header, lines...), "\r\n")+"\r\n"))
	return err
}

// heldNotice is the text for the owner of held mail: plain words, and what to do.
func heldNotice(to, reason string) []string {
	return []string{
		"Mail for " + to + " has arrived, and this server has no certificate to seal it to",
		"(" + reason + "). It is kept encrypted until there is one, and is then delivered",
		"at once. Nothing is lost.",
		"",
		"To make a key on your own computer and hand in its certificate:",
		"",
		"    postern key new " + to,
		"    postern cert import " + to + " " + to + ".cert.asc",
		"",
		"The first command keeps the secret key with you. The second is run by whoever",
		"runs this server: give them the certificate file.",
	}
}
