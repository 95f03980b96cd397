package bridge

import (
	"context"
	"fmt"
	"strings"
	"time"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
)

// afterwards tells the owners of held copies, once each time the first copy is held.
// The message is durable by now: whatever fails here is logged and changes nothing.
func (t *transaction) afterwards(ctx context.Context, m *arrival, copies []mailCopy) {
	for _, c := range copies {
		for range c.recipients {
			t.Metrics.BridgeMessage(c.protection.Level().String())
		}
		if c.protection.Level() != mail.Held {
			continue
		}
		for _, i := range c.recipients {
			if err := t.noticeHeld(ctx, t.to[i].account, t.to[i].answer.Reason); err != nil {
				t.Log.Error("held notice", "id", t.source.ID, "err", err)
			}
		}
	}
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
	now := b.Now()
	id := b.Store.NewID().String()
	tr, err := b.Begin(ctx, mail.Source{Kind: mail.KindNotice, ID: id, Time: now})
	if err != nil {
		return err
	}
	defer tr.Abort()
	if err := tr.Rcpt(ctx, mail.Rcpt{Address: a.Address}); err != nil {
		return err
	}
	_, err = tr.Data(ctx, strings.NewReader(heldNotice(b.Hostname, a.Address.String(), id, reason, now)))
	return err
}

// heldNotice is the text of the notice: plain words, and what to do.
func heldNotice(host, to, id, reason string, now time.Time) string {
	lines := []string{
		"From: Postern <postmaster@" + host + ">",
		"To: " + to,
		"Date: " + message.FormatDate(now),
		"Message-ID: <" + id + ".notice@" + host + ">",
		"Subject: Mail for you is waiting for your OpenPGP certificate",
		"Auto-Submitted: auto-generated",
		"MIME-Version: 1.0",
		"Content-Type: text/plain; charset=utf-8",
		"",
		"Mail for " + to + " has arrived, and this server has no certificate to seal it to",
		"(" + reason + "). It is kept encrypted until there is one, and is then delivered",
		"at once. Nothing is lost.",
		"",
		"To make a key on your own computer and hand in its certificate:",
		"",
		"    postern key new " + to + " --out my-key.asc",
		"    postern cert import " + to + " my-key.cert.asc",
		"",
		"The first command keeps the secret key with you. The second is run by whoever",
		"runs this server, or send them the certificate file.",
		"",
	}
	return strings.Join(lines, "\r\n")
}
