package keydir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// The sources of certificates that accounts hand in by mail.
const (
	SourceAutocrypt = "autocrypt" // submitted mail that carries it
	SourceWKS       = "wks"       // Web Key Service, confirmed
)

// What the history says of certificates that accounts hand in.
const (
	RuleEnrolled Rule = "handed in by the account"
	RuleOffered  Rule = "handed in by the account; it waits for a person"
	RuleRemoved  Rule = "removed from an account" // by whoever runs the gateway
)

const (
	// maxHandedIn bounds what waits to be looked at; each is at most 7.5 KiB.
	maxHandedIn = 64
	// maxSeen bounds the accounts whose last certificate is remembered: most mail
	// carries one that was seen before, and that must not cost a look into the store.
	maxSeen = 10_000
	// historyDepth is how far back it is looked whether a certificate was announced.
	historyDepth = 200
)

// EnrolStore is where own users' certificates are kept. *store.Store is one.
type EnrolStore interface {
	AccountByAddress(ctx context.Context, key string) (store.Account, error)
	Certificates(ctx context.Context, addressKey string) ([]store.Certificate, error)
	AddCertificate(ctx context.Context, c store.Certificate, history ...store.Audit) (store.Certificate, error)
	ReplaceCertificate(ctx context.Context, c store.Certificate, history ...store.Audit) (store.Certificate, error)
	AuditRows(ctx context.Context, subject string, limit int) ([]store.Audit, error)
	Commit(ctx context.Context, b store.Batch) ([]store.Placed, error)
}

// Enrolled is what became of a certificate that an account handed in.
type Enrolled struct {
	Account     mail.Address
	Certificate *pgp.Certificate
	Source      string
	// Waits says that another certificate is in use, and a person has to decide.
	Waits bool
	// News says that this is the first time; only then somebody is told.
	News bool
}

// EnrolOptions are what an Enrolment works with.
type EnrolOptions struct {
	Store EnrolStore
	// Changed is called when an account has another certificate than before: to forget
	// what is remembered of it, and to seal what was held for want of one.
	Changed func(ctx context.Context, account mail.Address) error
	// Tell tells the owner. It comes after Changed, so that the notice is sealed.
	Tell func(ctx context.Context, e Enrolled) error
	Now  func() time.Time
	Log  *slog.Logger
}

// Enrolment takes the certificates that accounts hand in by mail. It is safe for
// concurrent use.
//
// The first one becomes the account's own. After that, only a newer form of one that
// the account has, and one that such a one has certified, are taken: with a stolen
// password somebody could hand in a key of his own, and read from then on what is
// sealed to the account. Anything else, and what a person has removed from the account
// before, is written down and told to the owner, and waits until whoever runs the gateway
// imports it.
type Enrolment struct {
	EnrolOptions
	waiting chan handedIn
	taking  sync.Mutex // one at a time, so that of two first ones one is the first

	mu   sync.Mutex
	seen map[string]string // keydata by account
	// untold is what owners could not be told of, by account. It is tried again when the
	// account hands in a certificate the next time, which most of its mail does.
	untold map[string]Enrolled
}

type handedIn struct {
	account mail.Address
	keyData []byte
}

// NewEnrolment returns an Enrolment.
func NewEnrolment(o EnrolOptions) *Enrolment {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = telemetry.Discard()
	}
	return &Enrolment{EnrolOptions: o, waiting: make(chan handedIn, maxHandedIn), seen: make(map[string]string), untold: make(map[string]Enrolled)}
}

// Learn takes note of the keydata of the only Autocrypt field for the account's own
// address, in mail that the account submitted. It returns at once; what is one too many
// comes again with the next mail.
func (e *Enrolment) Learn(account mail.Address, keyData []byte) {
	e.mu.Lock()
	known := e.seen[account.Key()] == string(keyData)
	e.mu.Unlock()
	if known || len(keyData) == 0 {
		return
	}
	select {
	case e.waiting <- handedIn{account, keyData}:
	default:
	}
}

// Run works off what Learn took note of, until ctx ends.
func (e *Enrolment) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-e.waiting:
			// What was begun is ended, also when the gateway stops meanwhile.
			once, cancel := context.WithTimeout(context.WithoutCancel(ctx), learnDeadline)
			e.learn(once, h)
			cancel()
		}
	}
}

func (e *Enrolment) learn(ctx context.Context, h handedIn) {
	c, err := seenCertificate(h.keyData, h.account)
	if err == nil {
		_, err = e.Take(ctx, h.account, c, SourceAutocrypt)
	}
	if err != nil {
		e.Log.Warn("certificate of an account was not taken", telemetry.KeyError, err)
		if !errors.Is(err, ErrUnusable) && c != nil {
			return // the store may do better the next time
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, waits := e.untold[h.account.Key()]; waits {
		return
	}
	if len(e.seen) >= maxSeen {
		clear(e.seen)
	}
	e.seen[h.account.Key()] = string(h.keyData)
}

// Take makes a certificate, already restricted to the account's address, that account's
// own, or writes down that it waits. It returns when both are durable. ErrUnusable: it
// cannot be encrypted to. store.ErrNotFound: there is no such account.
func (e *Enrolment) Take(ctx context.Context, address mail.Address, c *pgp.Certificate, source string) (Enrolled, error) {
	e.taking.Lock()
	defer e.taking.Unlock()
	result := Enrolled{Account: address, Certificate: c, Source: source}
	account, err := e.Store.AccountByAddress(ctx, address.Key())
	if err != nil {
		return result, fmt.Errorf("take certificate: %w", err)
	}
	result.Account = account.Address
	rows, err := e.Store.Certificates(ctx, account.Address.Key())
	if err != nil {
		return result, fmt.Errorf("take certificate: %w", err)
	}
	if err := e.decide(ctx, rows, &result); err != nil {
		return result, fmt.Errorf("take certificate: %w", err)
	}
	e.tell(ctx, result)
	return result, nil
}

// tell tells an owner what is new, and what could not be told before. The certificate is
// taken by now, and that nobody could be told does not undo it.
func (e *Enrolment) tell(ctx context.Context, news Enrolled) {
	key := news.Account.Key()
	e.mu.Lock()
	before, waits := e.untold[key]
	delete(e.untold, key)
	e.mu.Unlock()
	for _, told := range []struct {
		Enrolled
		wanted bool
	}{{before, waits}, {news, news.News}} {
		if !told.wanted || e.Tell == nil {
			continue
		}
		if err := e.Tell(ctx, told.Enrolled); err != nil {
			e.Log.Error("tell of a certificate", telemetry.KeyError, err)
			e.mu.Lock()
			if len(e.untold) < maxSeen {
				e.untold[key] = told.Enrolled
			}
			e.mu.Unlock()
		}
	}
}

// decide takes the certificate, or has it wait.
func (e *Enrolment) decide(ctx context.Context, rows []store.Certificate, r *Enrolled) error {
	now, c := e.Now(), r.Certificate
	var known []*pgp.Certificate
	for _, row := range rows {
		certs, err := pgp.ParseCertificates(row.Data)
		if err != nil {
			return fmt.Errorf("stored certificate %s: %w", row.Fingerprint, err)
		}
		if row.Fingerprint == c.Fingerprint() {
			return e.merge(ctx, row, certs[0], r)
		}
		known = append(known, certs...)
	}
	if err := c.Usable(now); err != nil {
		return fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	succeeds := false
	for _, old := range known {
		succeeds = succeeds || old.Usable(now) == nil && c.CertifiedBy(old, now)
	}
	history, err := e.history(ctx, r.Account)
	if err != nil {
		return err
	}
	removed := func(h Change) bool { return h.Rule == RuleRemoved && h.Old == c.Fingerprint() }
	switch {
	case len(known) > 0 && !succeeds:
		return e.wait(ctx, history, known[0].Fingerprint(), r)
	case slices.ContainsFunc(history, removed):
		return e.wait(ctx, history, "", r)
	}
	row := store.Certificate{Address: r.Account.Key(), Fingerprint: c.Fingerprint(), Data: c.Data(), Source: r.Source}
	change := Change{Rule: RuleEnrolled, New: c.Fingerprint()}
	if succeeds {
		change.Rule = RuleSucceeds
	}
	entry, err := e.entry(change, r)
	if err != nil {
		return err
	}
	if _, err := e.Store.AddCertificate(ctx, row, entry); err != nil {
		return err
	}
	r.News = true
	e.changed(ctx, r)
	return nil
}

// merge takes what is new in another form of a certificate that the account has.
func (e *Enrolment) merge(ctx context.Context, row store.Certificate, known *pgp.Certificate, r *Enrolled) error {
	merged, err := pgp.Merge(known, r.Certificate)
	if err != nil {
		return err
	}
	r.Certificate = merged
	if string(merged.Data()) == string(row.Data) {
		return nil
	}
	row.Data = merged.Data()
	entry, err := e.entry(Change{Rule: RuleSamePrimary, Old: row.Fingerprint, New: row.Fingerprint}, r)
	if err != nil {
		return err
	}
	if _, err := e.Store.ReplaceCertificate(ctx, row, entry); err != nil {
		return err
	}
	e.changed(ctx, r)
	return nil
}

// wait writes down once that the certificate waits.
func (e *Enrolment) wait(ctx context.Context, history []Change, inUse string, r *Enrolled) error {
	r.Waits = true
	offered := func(h Change) bool { return h.Rule == RuleOffered && h.New == r.Certificate.Fingerprint() }
	if slices.ContainsFunc(history, offered) {
		return nil
	}
	r.News = true
	return e.record(ctx, Change{Rule: RuleOffered, Old: inUse, New: r.Certificate.Fingerprint(), Held: true}, r)
}

// history is what is written down of an account's certificates.
func (e *Enrolment) history(ctx context.Context, account mail.Address) (all []Change, err error) {
	rows, err := e.Store.AuditRows(ctx, account.Key(), historyDepth)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		var c Change
		if row.Kind == "certificate" && json.Unmarshal([]byte(row.Detail), &c) == nil {
			all = append(all, c)
		}
	}
	return all, nil
}

// changed puts what is in the store by now to use.
func (e *Enrolment) changed(ctx context.Context, r *Enrolled) {
	if e.Changed == nil {
		return
	}
	// What is held stays held if this fails, and is tried again by itself.
	if err := e.Changed(ctx, r.Account); err != nil {
		e.Log.Error("use a new certificate", telemetry.KeyError, err)
	}
}

func (e *Enrolment) record(ctx context.Context, c Change, r *Enrolled) error {
	entry, err := e.entry(c, r)
	if err != nil {
		return err
	}
	if _, err := e.Store.Commit(ctx, store.Batch{Audit: []store.Audit{entry}}); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

// entry is what the history says of a change.
func (e *Enrolment) entry(c Change, r *Enrolled) (store.Audit, error) {
	c.Address, c.Time, c.Source = r.Account.Key(), e.Now(), r.Source
	detail, err := json.Marshal(c)
	if err != nil {
		return store.Audit{}, fmt.Errorf("write history: %w", err)
	}
	return store.Audit{Time: c.Time, Kind: "certificate", Subject: c.Address, Detail: string(detail)}, nil
}
