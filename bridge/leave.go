package bridge

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/pgp"
	"postern/internal/store"
)

// departure is what the copies of one message that leave have in common.
type departure struct {
	*Bridge
	account       store.ID
	source        string
	from          string // reverse-path
	envID, ret    string
	requireTLS    bool
	utf8          bool   // the client asked for SMTPUTF8
	trace, gossip []byte // fields of ours: outside, and inside of what is sealed
}

// departure is what the submitted message's copies have in common.
func (t *transaction) departure(m *arrival) *departure {
	return &departure{
		Bridge: t.Bridge, account: t.submission.account.ID, source: t.source.ID,
		from: t.submission.sender.String(), envID: t.source.EnvID, ret: t.source.Return,
		requireTLS: t.source.RequireTLS, utf8: t.source.UTF8,
		trace: t.received(), gossip: m.gossip,
	}
}

// leave makes one copy for recipients elsewhere, and its row in the queue.
func (t *transaction) leave(ctx context.Context, m *arrival, to []recipient, c mailCopy, b *batch) error {
	o, err := t.departure(m).copy(ctx, m, to, c)
	if err != nil {
		return err
	}
	b.rows.Outgoing = append(b.rows.Outgoing, *o)
	return nil
}

// record says of every recipient of a copy why it is what it is (P7): those of whom the
// same is to be said, together.
func (t *transaction) record(to []recipient, c mailCopy) (rows []store.Audit) {
	type reason struct{ rule, evidence string }
	var reasons []reason
	names := make(map[reason][]string)
	for _, i := range c.recipients {
		r := reason{to[i].order.Rule, to[i].evidence()}
		if names[r] == nil {
			reasons = append(reasons, r)
		}
		names[r] = append(names[r], to[i].rcpt.Address.String())
	}
	for _, r := range reasons {
		rows = append(rows, store.Audit{
			Time: t.Now(), Kind: "send", Subject: t.source.ID,
			Detail: fmt.Sprintf("%v for %s by rule %q; %s", c.level, strings.Join(names[r], ", "), r.rule, r.evidence),
		})
	}
	return rows
}

// evidence says in a few words what the decision rests on.
func (r *recipient) evidence() string {
	if r.answer.Kind == mail.Found {
		return fmt.Sprintf("certificate %s from %s, %v", r.answer.Fingerprint, r.answer.Source, r.answer.Trust)
	}
	if r.answer.Reason != "" {
		return r.answer.Reason
	}
	return "no certificate was looked for"
}

// copy makes a copy, and the row that names it.
func (d *departure) copy(ctx context.Context, m *arrival, to []recipient, c mailCopy) (*store.Outgoing, error) {
	o := &store.Outgoing{
		ID: d.Store.NewID(), Account: d.account, Source: d.source, From: d.from,
		Protection: c.protection, Level: c.level, Body: "7BIT",
		RequireTLS: d.requireTLS, EnvID: d.envID, Return: d.ret, Created: d.Now(),
	}
	for _, i := range c.recipients {
		r := &to[i].rcpt
		o.Rcpts = append(o.Rcpts, store.OutgoingRcpt{
			ID: d.Store.NewID(), Address: r.Address.String(), Domain: strings.ToLower(r.Address.Domain),
			Notify: r.Notify, Original: r.Original,
		})
	}
	var err error
	switch c.level {
	case mail.Sealed:
		err = d.seal(ctx, m, c, o)
	case mail.EndToEnd:
		err = d.passThrough(ctx, m, o)
	case mail.Clear, mail.TLSOnly:
		err = d.clear(ctx, m, c, o)
	case mail.Held:
		err = d.hold(ctx, m, c, o)
	default:
		err = errRefused
	}
	if err != nil {
		return nil, err
	}
	o.Size = int64(len(o.Head)) + o.Blob.Size + int64(len(o.Tail))
	o.UTF8 = d.utf8 && (o.UTF8 || c.utf8 || message.EightBit([]byte(d.from)))
	return o, nil
}

// signer begins the signatures of one copy, for the domain in From.
func (d *departure) signer(m *arrival) signature {
	if d.Signer == nil {
		return unsigned{}
	}
	for _, a := range message.Addresses(m.header.Get("From")) {
		if domain, err := mail.ParseDomain(a.Domain); err == nil {
			return d.Signer.Begin(domain)
		}
	}
	return unsigned{}
}

// signature takes the body of a copy as it leaves, and gives the fields that go on top of
// its header section. *msgauth.Signing is one.
type signature interface {
	io.Writer
	Fields(header []byte) ([]byte, error)
}

// unsigned is no signature.
type unsigned struct{}

func (unsigned) Write(p []byte) (int, error)   { return len(p), nil }
func (unsigned) Fields([]byte) ([]byte, error) { return nil, nil }

// shared keeps what is written: in the copy's row, or in a blob if it is large.
func (d *departure) shared(ctx context.Context, write func(io.Writer) error) (shared, error) {
	w := d.newShared(ctx, 1)
	defer w.Abort()
	if err := write(w); err != nil {
		return shared{}, fmt.Errorf("write content: %w", err)
	}
	return w.Commit()
}

// seal encrypts the message once, to all the copy's recipients, and signs it on the way.
func (d *departure) seal(ctx context.Context, m *arrival, c mailCopy, o *store.Outgoing) error {
	start, now := d.Now(), d.Now()
	h := m.introduced()
	fields, _ := message.PayloadHeader(h)
	size := int64(len(d.gossip)+len(fields)) + m.Size() - m.bodyStart
	sealing, err := pgp.NewSealingFor(pgp.Communication, c.certificates, size, now)
	if err != nil {
		return fmt.Errorf("start sealing: %w", err)
	}
	outer := message.Outer{
		Prepend:     append(slices.Clone(d.trace), h.Only("Autocrypt", "Auto-Submitted", "Sender")...),
		KeepSubject: !c.order.HideSubject, Boundary: sealedBoundary + d.source,
	}
	head := message.OuterHeader(h, outer)
	var end message.HeaderEnd
	n, _ := end.Feed(head)
	sign := d.signer(m)
	if _, err := sign.Write(head[n:]); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	data, err := d.shared(ctx, func(w io.Writer) error {
		plain, err := sealing.EncryptTo(io.MultiWriter(w, sign), c.certificates, now)
		if err != nil {
			return err
		}
		for _, part := range [][]byte{d.gossip, fields} {
			if _, err := plain.Write(part); err != nil {
				return err
			}
		}
		if err := m.WriteRange(plain, m.bodyStart); err != nil {
			return err
		}
		return plain.Close()
	})
	if err != nil {
		return err
	}
	o.Tail = message.ClosingBoundary(outer)
	if _, err := sign.Write(o.Tail); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	signed, err := sign.Fields(head[:n])
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	o.UTF8 = message.EightBit(head[:n])
	o.Head, o.Blob = data.place(append(signed, head...))
	d.Metrics.BridgeSeal(d.Now().Sub(start))
	return nil
}

// passThrough takes a message that the sender's software encrypted as it is, octet for
// octet, with our Received on top. Only the framing of OpenPGP is changed, if a strict
// receiver would refuse it; what was encrypted, and what was signed in it, is not.
func (d *departure) passThrough(ctx context.Context, m *arrival, o *store.Outgoing) error {
	head := slices.Concat(d.trace, m.header.Bytes(), m.header.End)
	sign := d.signer(m)
	data, err := d.shared(ctx, func(w io.Writer) error {
		out := io.MultiWriter(w, sign)
		if !m.needsReframing() {
			return m.WriteRange(out, m.bodyStart)
		}
		c := m.candidate
		if _, err := io.Copy(out, io.NewSectionReader(m, m.bodyStart, c.Offset-m.bodyStart)); err != nil {
			return err
		}
		if err := pgp.Reframe(out, c.Reader(m), m.found); err != nil {
			return err
		}
		return m.WriteRange(out, c.Offset+c.Length)
	})
	if err != nil {
		return err
	}
	signed, err := sign.Fields(head)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	o.UTF8 = message.EightBit(head)
	o.Head, o.Blob = data.place(append(signed, head...))
	o.Body = m.body()
	return nil
}

// needsReframing says whether a strict receiver would refuse the ciphertext for its
// framing, and that can be helped without touching anything around it.
func (m *arrival) needsReframing() bool {
	if m.candidate.Kind != message.PGPMIME || m.found.Strict {
		return false
	}
	switch m.candidate.TransferEncoding {
	case "", "7bit", "8bit":
		return true
	}
	return false
}

// body is the body type of the message, RFC 6152.
func (m *arrival) body() string {
	if m.eightBit {
		return "8BITMIME"
	}
	return "7BIT"
}
