package bridge

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"time"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/pgp"
	"postern/internal/store"
)

// batch is what step 8 commits, and which recipient each row is for.
type batch struct {
	rows store.Batch
	// deliveredTo[i] and heldFor[i] are the recipients of rows.Deliveries[i] and rows.Hold[i].
	deliveredTo, heldFor []int
}

// seal is step 7: one ciphertext for each copy, in the blob store, and the rows that
// will name it.
func (t *transaction) seal(ctx context.Context, m *arrival, to []recipient, copies []mailCopy) (*batch, error) {
	b := &batch{}
	for _, c := range copies {
		var err error
		switch level := c.protection.Level(); {
		case c.elsewhere:
			err = t.leave(ctx, m, to, c, b)
		case level == mail.Sealed:
			err = t.sealed(ctx, m, to, c, b)
		case level == mail.Held:
			err = t.held(ctx, m, to, c, b)
		case level == mail.EndToEnd, level == mail.Notice:
			err = t.asItIs(ctx, m, to, c, b)
		default:
			err = refusal(c.protection)
		}
		if err != nil {
			return nil, t.storeError("seal", err)
		}
		if t.submission != nil {
			b.rows.Audit = append(b.rows.Audit, t.record(to, c)...)
		}
	}
	return b, nil
}

// sealed encrypts the message once and wraps its session key for each mailbox.
func (t *transaction) sealed(ctx context.Context, m *arrival, to []recipient, c mailCopy, b *batch) error {
	start := t.Now()
	p := t.provenance(m)
	if len(c.recipients) == 1 {
		// Shared octets name nobody: recipients must not learn of each other.
		p.Recipient = to[c.recipients[0]].rcpt.Address.String()
	}
	s, err := t.encrypt(ctx, m, p, c.certificates, len(c.recipients))
	if err != nil {
		return err
	}
	for _, i := range c.recipients {
		msg, err := t.compose(s, m.header, t.trace(m, to[i]), to[i])
		if err != nil {
			return err
		}
		b.deliver(i, to[i], msg, c.protection, t.Now())
	}
	t.Metrics.BridgeSeal(t.Now().Sub(start))
	return nil
}

// ciphertext is the encrypted part of a message that several mailboxes share.
type ciphertext struct {
	sealing *pgp.Sealing
	data    shared
	id      string
}

// encrypt writes provenance, header fields and the untouched rest of the message as
// one ciphertext for a number of copies.
func (b *Bridge) encrypt(ctx context.Context, m *arrival, p message.Provenance, certs []*pgp.Certificate, copies int) (*ciphertext, error) {
	fields, how := message.PayloadHeader(m.introduced())
	p.ContentType = how
	p.Head = sha256.Sum256(fields)
	p.Body = m.bodyDigest
	p.Key = b.Vault.KeyID()
	statement := p.Field(b.Vault.Sign)
	sealing, data, err := b.write(ctx, m, certs, copies, statement, fields)
	if err != nil {
		return nil, err
	}
	return &ciphertext{sealing: sealing, data: data, id: p.ID}, nil
}

// write seals head and then the message's rest to the certificates. What it writes is
// the armored encrypted data, without the packets that wrap its session key.
func (b *Bridge) write(ctx context.Context, m *arrival, certs []*pgp.Certificate, copies int, head ...[]byte) (*pgp.Sealing, shared, error) {
	size := m.Size() - m.bodyStart
	for _, h := range head {
		size += int64(len(h))
	}
	sealing, err := pgp.NewSealing(certs, size, b.Now())
	if err != nil {
		return nil, shared{}, fmt.Errorf("start sealing: %w", err)
	}
	w := b.newShared(ctx, copies)
	defer w.Abort()
	plain, err := sealing.Encrypt(w)
	if err != nil {
		return nil, shared{}, fmt.Errorf("encrypt: %w", err)
	}
	for _, h := range head {
		if _, err := plain.Write(h); err != nil {
			return nil, shared{}, fmt.Errorf("encrypt: %w", err)
		}
	}
	if err := m.WriteRange(plain, m.bodyStart); err != nil {
		return nil, shared{}, fmt.Errorf("encrypt: %w", err)
	}
	if err := plain.Close(); err != nil {
		return nil, shared{}, fmt.Errorf("encrypt: %w", err)
	}
	data, err := w.Commit()
	return sealing, data, err
}

// compose makes one mailbox's message around the shared ciphertext: the readable
// header section, the session key wrapped for this mailbox, and the end.
func (b *Bridge) compose(c *ciphertext, h message.Header, trace []byte, r recipient) (*store.Message, error) {
	wrapped, err := c.sealing.Wrap(r.certificates, b.Now())
	if err != nil {
		return nil, fmt.Errorf("wrap session key: %w", err)
	}
	outer := message.Outer{Prepend: trace, KeepSubject: b.rules.Load().KeepSubject, Boundary: sealedBoundary + c.id}
	head := append(message.OuterHeader(h, outer), c.sealing.Head(wrapped)...)
	tail := append(c.sealing.Tail(wrapped), message.ClosingBoundary(outer)...)
	top := message.SealedStructure(head, c.data.size(), pgp.Lines(c.data.size()), tail)
	return b.row(r.account.ID, store.ClassSealed, head, c.data, tail, top), nil
}

// row makes the store's message.
func (b *Bridge) row(account store.ID, class store.Class, head []byte, data shared, tail []byte, top *message.Part) *store.Message {
	h, _, _ := message.ParseHeader(head)
	envelope := message.EnvelopeOf(h)
	head, blob := data.place(head)
	return &store.Message{
		ID: b.Store.NewID(), Account: account, Class: class,
		Head: head, Blob: blob, Tail: tail,
		Size:      int64(len(head)) + blob.Size + int64(len(tail)),
		Envelope:  envelope.Append(nil),
		Structure: top.Append(nil),
	}
}

// asItIs stores a message that is ciphertext already, or the gateway's own notice:
// our trace fields on top, every other octet untouched.
func (t *transaction) asItIs(ctx context.Context, m *arrival, to []recipient, c mailCopy, b *batch) error {
	data, err := t.copyRest(ctx, m, len(c.recipients))
	if err != nil {
		return err
	}
	class := store.ClassEncrypted
	if c.protection.Level() == mail.Notice {
		class = store.ClassNotice
	}
	for _, i := range c.recipients {
		head := append(append(t.trace(m, to[i]), m.header.Bytes()...), m.header.End...)
		whole := &joined{head: head, rest: m.spool, from: m.bodyStart}
		top, err := message.Scan(whole, whole.Size(), message.Limits{})
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		b.deliver(i, to[i], t.row(to[i].account.ID, class, head, data, nil, top), c.protection, t.Now())
	}
	return nil
}

// copyRest stores what follows the header section as it came.
func (t *transaction) copyRest(ctx context.Context, m *arrival, copies int) (shared, error) {
	w := t.newShared(ctx, copies)
	defer w.Abort()
	if err := m.WriteRange(w, m.bodyStart); err != nil {
		return shared{}, fmt.Errorf("write blob: %w", err)
	}
	return w.Commit()
}

// joined is a message whose header section was replaced.
type joined struct {
	head []byte
	rest *spool
	from int64
}

func (j *joined) Size() int64 { return int64(len(j.head)) + j.rest.Size() - j.from }

// ReadAt implements io.ReaderAt.
func (j *joined) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	if off < int64(len(j.head)) {
		n = copy(p, j.head[off:])
		if n == len(p) {
			return n, nil
		}
	}
	m, err := j.rest.ReadAt(p[n:], off+int64(n)-int64(len(j.head))+j.from)
	return n + m, err
}

var _ io.ReaderAt = (*joined)(nil)

// deliver adds a delivery for recipient i.
func (b *batch) deliver(i int, r recipient, m *store.Message, p mail.Protection, now time.Time) {
	place := placeOf(r, now)
	b.deliveredTo = append(b.deliveredTo, i)
	b.rows.Deliveries = append(b.rows.Deliveries, store.Delivery{
		Message: m, Protection: p, Mailbox: place.mailbox,
		Flags: place.flags, Keywords: place.keywords, InternalDate: place.date,
	})
}
