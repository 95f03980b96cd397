package wks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"postern/internal/mail"
	"postern/internal/telemetry"
	"postern/internal/vault"
	"postern/keydir"
)

// Local is the local-part of the service's addresses.
const Local = "key-submission"

// Address returns the service's address in a domain.
func Address(domain string) mail.Address { return mail.Address{Local: Local, Domain: domain} }

const (
	// maxRequest is the longest message that is looked at, in octets, and maxOpened what
	// it may become when it is opened.
	maxRequest = 1 << 20
	maxOpened  = 1 << 20
	// requestsPerHour is how many confirmations one account gets: anybody can ask for
	// them.
	requestsPerHour = 6
)

// Accounts says whether there is one. *store.Store's AccountByAddress makes one.
type Accounts func(ctx context.Context, address mail.Address) (bool, error)

// Cache remembers for a while, or forgets. cluster.Cluster is one.
type Cache interface {
	Get(ctx context.Context, key string) ([]byte, bool)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
	Invalidate(ctx context.Context, key string)
	Take(key string, limit int, window time.Duration) bool
}

// Options are what a Door works with. All are needed but Now and Log.
type Options struct {
	// Next is the door behind this one.
	Next     mail.Acceptor
	Requests *vault.Requests
	// Secret makes nonces; it is the same on all nodes.
	Secret   []byte
	Accounts Accounts
	Cache    Cache
	// Enrol takes a certificate that was confirmed.
	Enrol *keydir.Enrolment
	// Hostname names this server in what it sends.
	Hostname string
	NewID    func() string
	Now      func() time.Time
	Log      *slog.Logger
}

// Door is a mail.Acceptor that takes the service's mail, and passes on all other.
type Door struct{ Options }

// NewDoor returns the door.
func NewDoor(o Options) *Door {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = telemetry.Discard()
	}
	return &Door{o}
}

var (
	errAlone    = mail.Refuse(452, "4.5.3", "mail to the key submission service takes no other recipients, send it alone")
	errNoReport = mail.Refuse(550, "5.7.1", "the key submission service takes no reports")
)

// Begin implements mail.Acceptor.
func (d *Door) Begin(ctx context.Context, source mail.Source) (mail.Transaction, error) {
	next, err := d.Next.Begin(ctx, source)
	if err != nil || source.Kind != mail.KindMX && source.Kind != mail.KindSubmission {
		return next, err
	}
	return &transaction{Transaction: next, door: d, source: source}, nil
}

// transaction is one for the service, or the one behind it.
type transaction struct {
	mail.Transaction
	door   *Door
	source mail.Source
	domain string // of the service, if it is for that
	others int    // recipients of the one behind
}

// Rcpt implements mail.Transaction. An account of the service's name gets its mail.
func (t *transaction) Rcpt(ctx context.Context, r mail.Rcpt) error {
	if t.domain != "" {
		return errAlone
	}
	err := t.Transaction.Rcpt(ctx, r)
	if err == nil {
		t.others++
		return nil
	}
	if !errors.Is(err, mail.ErrNoSuchUser) || r.Address.Key() != Address(r.Address.Domain).Key() ||
		t.door.Requests.Certificate(r.Address.Domain) == nil {
		return err
	}
	switch {
	case t.source.From.IsNull():
		return errNoReport
	case t.others > 0:
		return errAlone
	}
	t.domain = r.Address.Domain
	return nil
}

// Data implements mail.Transaction.
func (t *transaction) Data(ctx context.Context, r io.Reader) (mail.Receipt, error) {
	if t.domain == "" {
		return t.Transaction.Data(ctx, r)
	}
	t.Transaction.Abort()
	b, err := io.ReadAll(io.LimitReader(r, maxRequest+1))
	if err != nil {
		return mail.Receipt{}, fmt.Errorf("read request: %w", err)
	}
	if len(b) > maxRequest {
		return mail.Receipt{}, mail.ErrTooBig
	}
	if err := t.door.take(ctx, t.source, t.domain, b); err != nil {
		return mail.Receipt{}, err
	}
	return mail.Receipt{ID: t.source.ID}, nil
}
