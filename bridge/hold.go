package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/pgp"
	"postern/internal/store"
)

// facts are what sealing a held copy needs to know of its arrival, since the message
// itself no longer tells. They are kept beside the held copy, as JSON.
type facts struct {
	Rcpt       string             `json:"rcpt"`
	Trace      []byte             `json:"trace"`
	Provenance message.Provenance `json:"provenance"`
}

// held seals the message to the gateway's hold certificate, one copy of the octets
// for all the mailboxes that wait.
func (t *transaction) held(ctx context.Context, m *arrival, to []recipient, c mailCopy, b *batch) error {
	certs := []*pgp.Certificate{t.Vault.HoldCertificate()}
	h := m.introduced()
	sealing, data, err := t.write(ctx, m, certs, len(c.recipients), h.Bytes(), h.End)
	if err != nil {
		return err
	}
	wrapped, err := sealing.Wrap(certs, t.Now())
	if err != nil {
		return fmt.Errorf("wrap session key: %w", err)
	}
	head, blob := data.place(sealing.Head(wrapped))
	tail := sealing.Tail(wrapped)
	for _, i := range c.recipients {
		r := to[i]
		f, err := json.Marshal(facts{Rcpt: r.rcpt.Address.String(), Trace: t.trace(m, r), Provenance: t.provenance(m)})
		if err != nil {
			return fmt.Errorf("write facts: %w", err)
		}
		place := placeOf(r, t.Now())
		b.heldFor = append(b.heldFor, i)
		b.rows.Hold = append(b.rows.Hold, store.Held{
			ID: t.Store.NewID(), Account: r.account.ID, Reason: r.answer.Reason, Facts: f,
			Message: &store.Message{
				ID: t.Store.NewID(), Account: r.account.ID, Class: store.ClassSealed,
				Head: head, Blob: blob, Tail: tail,
				Size: int64(len(head)) + blob.Size + int64(len(tail)),
			},
			Protection: c.protection, Mailbox: place.mailbox,
			Flags: place.flags, Keywords: place.keywords, InternalDate: place.date,
		})
	}
	return nil
}

// Release seals every held copy whose owner has a usable certificate by now, and
// puts it where it belongs. It returns how many. One that fails stays held, is
// reported in the error, and keeps no other from being released.
func (b *Bridge) Release(ctx context.Context) (int, error) {
	b.releasing.Lock()
	defer b.releasing.Unlock()
	held, err := b.Store.HeldCopies(ctx, 0)
	if err != nil {
		return 0, fmt.Errorf("list held copies: %w", err)
	}
	n := 0
	var failed error
	for i := range held {
		done, err := b.release(ctx, &held[i])
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("release %v: %w", held[i].ID, err))
		} else if done {
			n++
		}
	}
	b.Metrics.BridgeHeld(len(held) - n)
	return n, failed
}

func (b *Bridge) release(ctx context.Context, h *store.Held) (bool, error) {
	account, err := b.Store.Account(ctx, h.Account)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil // removed a moment ago, and the copy with it
	}
	if err != nil {
		return false, fmt.Errorf("look up account: %w", err)
	}
	answer, certs := b.lookUp(ctx, account)
	p := mail.Protect(mail.Inbound(), mail.ContentClear, answer.Kind)
	if p.Level() != mail.Sealed {
		return false, nil
	}
	var f facts
	if err := json.Unmarshal(h.Facts, &f); err != nil {
		return false, fmt.Errorf("read facts: %w", err)
	}
	m, err := b.openHeld(ctx, h)
	if err != nil {
		return false, err
	}
	defer m.Close()
	f.Provenance.Recipient = f.Rcpt
	c, err := b.encrypt(ctx, m, f.Provenance, certs, 1)
	if err != nil {
		return false, err
	}
	msg, err := b.compose(c, m.header, f.Trace, recipient{account: account, certificates: certs})
	if err != nil {
		return false, err
	}
	batch := store.Batch{
		Deliveries: []store.Delivery{{
			Message: msg, Protection: p, Mailbox: h.Mailbox,
			Flags: h.Flags, Keywords: h.Keywords, InternalDate: h.InternalDate,
		}},
		Release: []store.ID{h.ID},
		Audit:   []store.Audit{{Time: b.Now(), Kind: "release", Subject: h.ID.String(), Detail: "sealed to " + fingerprints(certs)}},
	}
	return b.commitRelease(ctx, batch)
}

// commitRelease commits the release of one held copy. It reports false if somebody
// else has released it meanwhile: "cert import" does so in a process of its own, and
// the running server as soon as it sees the certificate.
func (b *Bridge) commitRelease(ctx context.Context, batch store.Batch) (bool, error) {
	placed, err := b.Store.Commit(ctx, batch)
	if placeGone(err) {
		// The mailbox was deleted while the mail for it was held.
		batch.Deliveries[0].Mailbox = 0
		placed, err = b.Store.Commit(ctx, batch)
	}
	if errors.Is(err, store.ErrNotFound) && !placeGone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("commit: %w", err)
	}
	b.wake(placed)
	return true, nil
}

// openHeld decrypts a held copy into a spool.
func (b *Bridge) openHeld(ctx context.Context, h *store.Held) (*arrival, error) {
	body, err := h.Message.Open(ctx, b.Blobs)
	if err != nil {
		return nil, fmt.Errorf("open held copy: %w", err)
	}
	defer body.Close()
	plain, err := b.Vault.OpenHeld(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		return nil, fmt.Errorf("decrypt held copy: %w", err)
	}
	return b.receiveHeld(plain)
}

// receiveHeld reads what was held, by now in clear, into a spool. There are no limits: it was
// accepted by those of its time, and has grown since by fields of ours.
func (b *Bridge) receiveHeld(plain io.Reader) (*arrival, error) {
	m, err := b.receive(plain, math.MaxInt64, math.MaxInt64)
	if err != nil {
		return nil, fmt.Errorf("read held copy: %w", err)
	}
	raw, err := m.Prefix(m.bodyStart)
	if err == nil {
		m.header, _, err = message.ParseHeaderLimit(raw, len(raw))
	}
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("parse held copy: %w", err)
	}
	return m, nil
}

func fingerprints(certs []*pgp.Certificate) string {
	s := ""
	for i, c := range certs {
		if i > 0 {
			s += " "
		}
		s += c.Fingerprint()
	}
	return s
}
