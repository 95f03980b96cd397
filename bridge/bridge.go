// Package bridge is the path of a message through the gateway. It implements the
// one door, mail.Acceptor, for SMTP in and out, IMAP APPEND, import, and the gateway's own
// notices and reports, and reads as the list of steps in transaction.Data: spool, parse,
// verify, decide, look up, plan, seal, commit, wake.
//
// Clear mail for an account leaves it only as OpenPGP ciphertext for the recipient's own
// certificate, or for the gateway's hold certificate until the recipient has one. Mail for
// elsewhere leaves it protected as far as it can be, at least as its order demands: passed
// through as the sender's software encrypted it, sealed by the gateway, or in clear, marked
// insecure, and locked with a key of the gateway until it is carried away (design: P1 to
// P3). It never writes clear text of a message to a disk or a log, never hands on what
// Protect did not decide, and answers without an error only when every copy is on stable
// storage (P4). If one recipient of a submitted message may not get it, nobody gets it, and
// the sender is told who and why.
//
// It knows nothing of SMTP replies or IMAP responses, and never holds a secret key:
// the gateway's own are in package vault.
//
//	bridge.go      Options, the door, and the steps in their order
//	spool.go       step 1: the octets, in memory or in an encrypted file
//	arrival.go     steps 2 and 3: parse and verify; trace fields
//	submit.go      what a client may submit, and what is added, removed and taken out
//	decide.go      steps 4 and 5 for what leaves: orders, answers, refusals, outcomes
//	lookup.go      look-ups that run while a message comes
//	recipient.go   who an address is; place.go where a copy goes
//	plan.go        step 6: recipients grouped into copies
//	seal.go        step 7 for mailboxes here; hold.go what waits for a certificate
//	leave.go       step 7 for elsewhere: sealed, passed through; clear.go in clear, held
//	reconsider.go  copies of the queue: opened, and decided anew
//	exchange.go    how well a message was protected: Sent copies and replies
//	learn.go       what is learned of certificates; notice.go notices to owners
package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/blob"
	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/msgauth"
	"postern/internal/store"
	"postern/internal/telemetry"
	"postern/internal/vault"
	"postern/keydir"
	"postern/policy"
)

// Options are what a Bridge works with. All fields are needed unless said otherwise.
type Options struct {
	Store     *store.Store
	Blobs     blob.Store
	Directory *keydir.Directory
	Vault     *vault.Vault
	Verifier  *msgauth.Verifier
	// Policy returns the rules for mail that leaves, which may change at any time. Nil is
	// policy.Default.
	Policy func() *policy.Policy
	// Signer signs what leaves by DKIM. Nil signs nothing.
	Signer *msgauth.Signer
	// Wake tells that a mailbox changed, or that something waits to leave (QueueTopic); it
	// must not block. Nil is allowed.
	Wake func(topic string)
	// Express has copies that leave taken in hand while they are committed, for lanes that
	// the queue has room for. Nil: all of them wait until the queue claims them.
	Express func(lanes []store.Lane, commit func(store.Express) ([]store.Group, error)) error
	// Learn is told what a committed message says of its author's certificate, if the
	// author's domain vouches for it; it must not block. Nil learns nothing.
	Learn func(keydir.Sighting)
	// LearnOwn is told the keydata of a committed message that an account submitted and
	// that carries Autocrypt for the account's own address; it must not block. Nil learns
	// nothing.
	LearnOwn func(account mail.Address, keyData []byte)
	// Delivered reports to the sender of a copy that is in mailboxes here, to those of its
	// recipients who are named in it; h is the message's header section. Nil reports nothing.
	Delivered func(ctx context.Context, c *store.Outgoing, h message.Header) error
	// Hostname names this server in trace fields and is the authserv-id of RFC 8601.
	Hostname string
	// Domains, Postmaster, KeepSubject and RejectWithoutCertificate are the Rules of the
	// beginning; SetRules puts others in their place.
	Domains                  []string
	Postmaster               mail.Address
	KeepSubject              bool
	RejectWithoutCertificate bool
	// MaxSize limits one message, in octets.
	MaxSize int64
	// SpoolDir is where the encrypted temporary files of large messages are made.
	SpoolDir string
	// SpoolMemory is how many octets of messages being worked on may be in memory.
	SpoolMemory int64
	// Now is the clock.
	Now func() time.Time
	Log *slog.Logger
	// Metrics may be nil.
	Metrics *telemetry.Metrics
}

// Rules are what may change while messages come in.
type Rules struct {
	// Domains are the hosted domains, in lower case with A-labels.
	Domains []string
	// Postmaster is the account that gets mail for postmaster where no account has
	// that name. Zero: the oldest account.
	Postmaster mail.Address
	// KeepSubject leaves the Subject readable outside of the sealed payload.
	KeepSubject bool
	// RejectWithoutCertificate refuses mail to an account that has no usable
	// certificate, instead of holding it.
	RejectWithoutCertificate bool
}

// Bridge accepts messages. It is safe for concurrent use.
type Bridge struct {
	Options
	rules  atomic.Pointer[Rules] // never changed after it was stored
	spools *spools

	// releasing keeps two releases from sealing the same held copy twice.
	releasing sync.Mutex
}

// QueueTopic is what Wake is told when something new waits to leave.
const QueueTopic = "queue"

// maxReceived is how many Received fields a message may have before it is a loop,
// RFC 5321 6.3.
const maxReceived = 50

// maxHeader limits the header section, in octets.
const maxHeader = 1 << 20

// Refusals that only the bridge gives.
var (
	errRelay         = mail.Refuse(550, "5.7.1", "relaying is not allowed: this server only takes mail for its own domains")
	errLoop          = mail.Refuse(554, "5.4.6", "mail loop: too many Received fields")
	errHeaderTooBig  = mail.Refuse(552, "5.3.4", "the header section is larger than this server accepts")
	errNoCertificate = mail.Refuse(550, "5.7.10", "the recipient has no OpenPGP certificate, and this server takes no mail for them until they have one")
	errNotNow        = mail.Refuse(451, "4.7.5", "the recipient's certificate cannot be looked up now, try again later")
	errFilledUp      = mail.Refuse(452, "4.2.2", "a recipient's mailbox has filled up just now, try again")
	errRemoved       = mail.Refuse(450, "4.2.1", "a recipient was removed just now, try again")
	errTooMuch       = mail.Refuse(552, "5.3.4", "the message is too large for so many recipients whom it does not name, each of whom gets it encrypted apart: name them in To or Cc, or send it to fewer at a time")
	errRefused       = mail.Refuse(550, "5.7.5", "the message cannot be protected as the recipient requires")
)

// New returns a bridge.
func New(o Options) *Bridge {
	if o.Policy == nil {
		standard := policy.Default()
		o.Policy = func() *policy.Policy { return standard }
	}
	b := &Bridge{Options: o, spools: newSpools(o.SpoolDir, o.SpoolMemory)}
	b.SetRules(Rules{
		Domains: o.Domains, Postmaster: o.Postmaster,
		KeepSubject: o.KeepSubject, RejectWithoutCertificate: o.RejectWithoutCertificate,
	})
	return b
}

// SetRules puts rules in the place of those before. A recipient that was accepted
// before stays accepted.
func (b *Bridge) SetRules(r Rules) {
	r.Domains = slices.Clone(r.Domains)
	b.rules.Store(&r)
}

// Begin starts a transaction: the MAIL of RFC 5321.
func (b *Bridge) Begin(ctx context.Context, source mail.Source) (mail.Transaction, error) {
	if source.Kind == 0 {
		return nil, errors.New("source of no kind")
	}
	if source.Size > b.MaxSize {
		return nil, mail.ErrTooBig
	}
	t := &transaction{Bridge: b, source: source}
	if source.Kind == mail.KindSubmission {
		var err error
		if t.submission, err = b.submit(ctx, source); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// transaction is one message on its way in.
type transaction struct {
	*Bridge
	source mail.Source
	// asked are the recipients as they were given; at says which of to each one is.
	asked []mail.Rcpt
	at    []int
	to    []recipient
	// submission is nil unless an account that logged in sends the message.
	submission *submission
}

// Rcpt implements mail.Transaction.
func (t *transaction) Rcpt(ctx context.Context, r mail.Rcpt) error {
	account, err := t.resolve(ctx, r.Address)
	if t.submission != nil && errors.Is(err, errRelay) {
		t.addElsewhere(r)
		return nil
	}
	if err != nil {
		return err
	}
	if account.Quota > 0 && account.Used+t.need() > account.Quota {
		return mail.ErrOverQuota
	}
	mailbox, err := t.mailbox(ctx, account, r.Into)
	if err != nil {
		return err
	}
	t.asked = append(t.asked, r)
	for i := range t.to {
		// alice@ and alice+list@ are one mailbox, which gets one copy.
		if known := &t.to[i]; known.account.ID == account.ID && known.rcpt.Into == nil && r.Into == nil {
			t.at = append(t.at, i)
			return nil
		}
	}
	answer, certs := t.lookUp(ctx, account)
	order := t.order()
	if err := refusal(mail.Protect(order, mail.ContentEncrypted, answer.Kind)); err != nil {
		return err
	}
	if t.rules.Load().RejectWithoutCertificate && t.source.Kind == mail.KindMX && answer.Kind == mail.None {
		return errNoCertificate
	}
	t.at = append(t.at, len(t.to))
	t.to = append(t.to, recipient{rcpt: r, account: account, mailbox: mailbox, order: order, answer: answer, certificates: certs})
	return nil
}

// need is how many octets a mailbox has to have room for before the message is seen.
func (t *transaction) need() int64 {
	if t.source.Kind == mail.KindMX && t.source.Size > 0 {
		// Sealing adds armor to the octets, and the readable header section and the wrapped
		// session keys before them.
		return t.source.Size + t.source.Size*2/5 + 4<<10
	}
	return max(t.source.Size, 1)
}

// order is what the operator wants for mail that comes to rest here.
func (t *transaction) order() mail.Order {
	o := mail.Inbound()
	if t.rules.Load().RejectWithoutCertificate && t.source.Kind != mail.KindDSN {
		o.NoCertificate = mail.Refused
		o.NotKnown = mail.Deferred
	}
	return o
}

// refusal is the error for a protection that is none.
func refusal(p mail.Protection) error {
	switch {
	case p.MayRest():
		return nil
	case p.Level() == mail.Deferred:
		return errNotNow
	default:
		return errRefused
	}
}

// Data implements mail.Transaction: the whole path, in order.
func (t *transaction) Data(ctx context.Context, r io.Reader) (mail.Receipt, error) {
	if len(t.to) == 0 {
		return mail.Receipt{}, mail.ErrNoRecipients
	}
	m, err := t.receive(r, t.MaxSize, maxHeader)
	if err != nil {
		return mail.Receipt{}, err
	}
	defer m.Close()
	defer t.Abort()
	if err := t.parse(m); err != nil {
		return mail.Receipt{}, err
	}
	m.verdict = t.verify(ctx, m)
	if err := t.decide(ctx, m); err != nil {
		return mail.Receipt{}, err
	}
	copies := plan(m.content, t.to)
	if err := t.refused(m, copies); err != nil {
		return mail.Receipt{}, err
	}
	batch, err := t.seal(ctx, m, t.to, copies)
	if err != nil {
		return mail.Receipt{}, err
	}
	t.remember(m, copies, batch)
	placed, err := t.commit(ctx, batch.rows)
	if err != nil {
		return mail.Receipt{}, err
	}
	t.wake(placed)
	t.learn(m)
	t.afterwards(ctx, m, copies)
	receipt := t.receipt(batch, placed, copies)
	t.reportDelivered(ctx, m, receipt)
	return receipt, nil
}

// Abort implements mail.Transaction. Nothing outlives a transaction that did not
// reach the end of Data, and no look-up one that did.
func (t *transaction) Abort() {
	t.to, t.asked = nil, nil
	if t.submission != nil {
		t.submission.lookups.cancel()
	}
}

// commit makes the rows durable, or none of them. Only a sole recipient's full mailbox
// refuses the message for good: one of several, which RCPT found to have room, goes over
// its quota instead, and the next RCPT refuses it alone.
func (t *transaction) commit(ctx context.Context, rows store.Batch) ([]store.Placed, error) {
	rows.Overshoot = t.source.Kind == mail.KindMX && len(t.to) > 1
	placed, err := t.enter(ctx, rows)
	if err != nil {
		// The blobs are orphans now; the sweep takes them.
		return nil, t.storeError("commit", err)
	}
	return placed, nil
}

// storeError turns what the store or the blobs say into what a peer may read. What is
// true of one recipient among several is temporary: it refuses all of them, and at the
// next attempt RCPT refuses that one alone.
func (t *transaction) storeError(doing string, err error) error {
	wrapped := fmt.Errorf("%s: %w", doing, err)
	several := len(t.to) > 1
	switch {
	case errors.Is(err, store.ErrOverQuota) && several:
		return errFilledUp.Because(wrapped)
	case errors.Is(err, store.ErrOverQuota):
		return mail.ErrOverQuota.Because(wrapped)
	case t.source.Kind == mail.KindMX && placeGone(err) && several:
		return errRemoved.Because(wrapped)
	case t.source.Kind == mail.KindMX && placeGone(err):
		return mail.ErrNoSuchUser.Because(wrapped)
	case errors.Is(err, store.ErrDiskFull), errors.Is(err, blob.ErrFull):
		return mail.ErrStorageFull.Because(wrapped)
	}
	return wrapped
}

// placeGone says whether the store failed for an account or a mailbox that is not there
// any more. What came by SMTP goes to the INBOX, which goes only with its account.
func placeGone(err error) bool {
	return errors.Is(err, store.ErrNotFound) && errors.As(err, new(*store.AccountError))
}

// wake tells the sessions that look at the changed mailboxes.
func (b *Bridge) wake(placed []store.Placed) {
	if b.Wake == nil {
		return
	}
	for _, p := range placed {
		b.Wake(p.Mailbox.Topic())
	}
}

// enter commits rows. What of them leaves is carried at once, as far as the queue has
// room; of the rest it is told.
func (b *Bridge) enter(ctx context.Context, rows store.Batch) (placed []store.Placed, err error) {
	waiting := 0
	commit := func(x store.Express) (groups []store.Group, err error) {
		placed, groups, err = b.Store.CommitExpress(ctx, rows, x)
		for _, g := range groups {
			waiting -= len(g.Rcpts)
		}
		return groups, err
	}
	for i := range rows.Outgoing {
		waiting += len(rows.Outgoing[i].Rcpts)
	}
	if b.Express == nil || waiting == 0 {
		_, err = commit(store.Express{})
	} else {
		err = b.Express(lanes(rows.Outgoing), commit)
	}
	if err == nil && waiting > 0 && b.Wake != nil {
		b.Wake(QueueTopic)
	}
	return placed, err
}

// lanes are those of the groups that copies make.
func lanes(copies []store.Outgoing) (all []store.Lane) {
	for i := range copies {
		if copies[i].Level == mail.Held {
			continue
		}
		first := len(all)
		for _, r := range copies[i].Rcpts {
			if l := (store.Lane{Domain: r.Domain}); !slices.Contains(all[first:], l) {
				all = append(all, l)
			}
		}
	}
	return all
}

// mailbox finds the mailbox that APPEND or import names; zero is the INBOX.
func (b *Bridge) mailbox(ctx context.Context, a store.Account, into *mail.Target) (store.ID, error) {
	if into == nil {
		return 0, nil
	}
	m, err := b.Store.MailboxByName(ctx, a.ID, into.Mailbox)
	if err != nil {
		return 0, fmt.Errorf("look up mailbox: %w", err)
	}
	return m.ID, nil
}

// receipt says where each recipient's copy lies, in the order in which they were given.
func (t *transaction) receipt(b *batch, placed []store.Placed, copies []mailCopy) mail.Receipt {
	byRecipient := make([]mail.Placed, len(t.to))
	for i, p := range placed {
		r := b.deliveredTo[i]
		byRecipient[r] = mail.Placed{Account: t.to[r].account.Address.Key(), Mailbox: p.Name, UIDValidity: p.UIDValidity, UID: p.UID}
	}
	receipt := mail.Receipt{ID: t.source.ID, Placed: make([]mail.Placed, len(t.asked))}
	for i, r := range t.at {
		receipt.Placed[i] = byRecipient[r]
	}
	if t.submission != nil {
		receipt.Outcomes = t.outcomes(copies)
	}
	return receipt
}
