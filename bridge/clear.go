package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
)

// clear makes a copy that leaves in clear. One that goes over verified TLS alone is the
// message as it is; any other is marked insecure, and gets the text that its order wants.
// It is signed, and then waits locked with a key of the gateway.
func (d *departure) clear(ctx context.Context, m *arrival, c mailCopy, o *store.Outgoing) error {
	text := message.Footed{Header: m.introduced()}
	if c.level == mail.Clear {
		text = d.marked(m, c)
	}
	head := slices.Concat(d.trace, text.Header.Bytes(), text.Header.End)
	sign := d.signer(m)
	if err := m.between(sign, text.Before, text.After); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	signed, err := sign.Fields(head)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	o.UTF8, o.Body = message.EightBit(head), m.body()
	if message.EightBit(text.Before) || message.EightBit(text.After) {
		o.Body = "8BITMIME"
	}
	return d.lock(ctx, m, o, slices.Concat(signed, head, text.Before), text.After)
}

// marked is the message marked insecure.
func (d *departure) marked(m *arrival, c mailCopy) message.Footed {
	h := m.introduced().With(message.NewField("Postern-Delivery", "insecure; reason="+c.reason))
	if c.order.Prefix != "" {
		h = message.PrefixSubject(h, c.order.Prefix)
	}
	if c.order.Footer == "" || message.IsSigned(h) {
		return message.Footed{Header: h}
	}
	return message.AddFooter(h, c.order.Footer, "postern_footer_"+d.source)
}

// hold keeps the message for a recipient of whom it is not known yet whether there is a
// certificate. It is what was submitted: nothing of ours is in it, and it is not signed.
func (d *departure) hold(ctx context.Context, m *arrival, c mailCopy, o *store.Outgoing) error {
	var err error
	o.Facts, err = json.Marshal(heldFacts{
		Order: c.order, Wish: c.wish, UTF8: d.utf8, Trace: d.trace, Gossip: d.gossip,
	})
	if err != nil {
		return fmt.Errorf("write facts: %w", err)
	}
	o.Body = m.body()
	h := m.introduced()
	return d.lock(ctx, m, o, slices.Concat(h.Bytes(), h.End), nil)
}

// lock writes the message's body between two texts, locked with a key of the gateway (P2).
func (d *departure) lock(ctx context.Context, m *arrival, o *store.Outgoing, before, after []byte) error {
	data, err := d.shared(ctx, func(w io.Writer) error {
		locked, err := d.Vault.Lock(w)
		if err != nil {
			return err
		}
		if err := m.between(locked, before, after); err != nil {
			return err
		}
		return locked.Close()
	})
	o.Locked = true
	o.Head, o.Blob = data.place(nil)
	return err
}

// between writes the message's body, and a text before and behind it.
func (m *arrival) between(w io.Writer, before, after []byte) error {
	if _, err := w.Write(before); err != nil {
		return err
	}
	if err := m.WriteRange(w, m.bodyStart); err != nil {
		return err
	}
	_, err := w.Write(after)
	return err
}
