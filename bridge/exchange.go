package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
)

// maxParents is how many of the messages that a reply names are looked for: In-Reply-To and
// the beginning of References, which the whole thread goes back to, and its end.
const maxParents = 200

// repliesToProtected says whether the message is a reply to one that was exchanged
// encrypted and that, with the sender's word, would not be allowed to be weaker.
func (t *transaction) repliesToProtected(ctx context.Context, m *arrival) (bool, error) {
	if t.submission.wish == "clear" || m.content == mail.ContentEncrypted {
		return false, nil
	}
	named := append(m.header.Values("In-Reply-To"), m.header.Values("References")...)
	parents := message.MessageIDs(strings.Join(named, " "))
	if len(parents) == 0 {
		return false, nil
	}
	if over := len(parents) - maxParents; over > 0 {
		parents = slices.Delete(parents, maxParents/2, maxParents/2+over)
	}
	// What waits for a certificate counts as what it is to become.
	found, err := t.Store.WasProtected(ctx, t.submission.account.ID, mail.Held, parents...)
	if err != nil {
		return false, fmt.Errorf("look for what is replied to: %w", err)
	}
	return found, nil
}

// neverWeaker is an order for a reply to an encrypted message, which may be quoted in it.
func neverWeaker(o mail.Order) mail.Order {
	if o.Floor == mail.Refused || o.Floor >= mail.Sealed {
		return o
	}
	o.Floor = mail.Sealed
	if o.NoCertificate != mail.Held {
		o.NoCertificate = mail.Refused
	}
	o.Refusal = "this replies to an encrypted message and cannot be encrypted to them: take out what is quoted and begin the subject with [clear], or leave them out"
	return o
}

// messageID returns the message's identifier, or "".
func (m *arrival) messageID() string {
	if ids := message.MessageIDs(m.header.Get("Message-ID")); len(ids) > 0 {
		return ids[0]
	}
	return ""
}

// remember adds to the batch how well the message was protected: for the sender the
// weakest of all its copies, for those who get it end-to-end that they did.
func (t *transaction) remember(m *arrival, copies []mailCopy, b *batch) {
	id := m.messageID()
	if id == "" || t.source.Kind != mail.KindSubmission && t.source.Kind != mail.KindMX {
		return
	}
	weakest := mail.EndToEnd
	for _, c := range copies {
		level := c.protection.Level()
		weakest = min(weakest, level)
		if level != mail.EndToEnd || c.elsewhere {
			continue
		}
		for _, i := range c.recipients {
			b.rows.Exchanges = append(b.rows.Exchanges, store.Exchange{
				Account: t.to[i].account.ID, Received: true, MessageID: id, Level: level,
			})
		}
	}
	if t.submission != nil {
		b.rows.Exchanges = append(b.rows.Exchanges, store.Exchange{Account: t.submission.account.ID, MessageID: id, Level: weakest})
	}
}

// sentBefore finds out whether what a client appends is its copy of a message that it
// submitted, which is then marked by how well that was protected.
func (t *transaction) sentBefore(ctx context.Context, m *arrival) error {
	id := m.messageID()
	if id == "" {
		return nil
	}
	for i := range t.to {
		level, err := t.Store.SentLevel(ctx, t.to[i].account.ID, id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for what was sent: %w", err)
		}
		t.to[i].keyword = keyword(level)
	}
	return nil
}

// keyword is the IMAP keyword for a level; what is undecided, or only protected on its
// way, has none.
func keyword(l mail.Level) string {
	switch l {
	case mail.Clear:
		return "$Insecure"
	case mail.Sealed:
		return "$Sealed"
	case mail.EndToEnd:
		return "$EndToEnd"
	}
	return ""
}
