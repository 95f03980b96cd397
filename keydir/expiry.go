package keydir

import (
	"context"
	"fmt"
	"slices"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
)

// Expiring is an own account's certificate that will soon be unusable, at a time at
// which its owner is to be warned.
type Expiring struct {
	Address     mail.Address
	Fingerprint string
	At          time.Time
	Days        int // which of the warnings this is: 30, 7 or 1
}

// warnDays are how many days before the end an owner is warned.
func warnDays() []int { return []int{30, 7, 1} }

// OwnStore is what warnings need. *store.Store is one.
type OwnStore interface {
	Accounts(ctx context.Context) ([]store.Account, error)
	Certificates(ctx context.Context, addressKey string) ([]store.Certificate, error)
	AuditRows(ctx context.Context, subject string, limit int) ([]store.Audit, error)
	Commit(ctx context.Context, b store.Batch) ([]store.Placed, error)
}

// WarnOwners calls warn for each certificate of an own account whose end is near and
// whose owner was not told so yet, and remembers that they were. An account that has
// another certificate which lasts longer is not warned. It is called once a day.
func WarnOwners(ctx context.Context, s OwnStore, now time.Time, warn func(Expiring) error) error {
	accounts, err := s.Accounts(ctx)
	if err != nil {
		return fmt.Errorf("list accounts: %w", err)
	}
	for _, a := range accounts {
		e, err := expiring(ctx, s, a, now)
		if err != nil {
			return err
		}
		if e == nil {
			continue
		}
		if err := warn(*e); err != nil {
			return fmt.Errorf("warn: %w", err)
		}
		_, err = s.Commit(ctx, store.Batch{Audit: []store.Audit{{Time: now, Kind: "expiry", Subject: a.Address.Key(), Detail: e.mark()}}})
		if err != nil {
			return fmt.Errorf("remember warning: %w", err)
		}
	}
	return nil
}

// mark names one warning in the record.
func (e *Expiring) mark() string {
	return fmt.Sprintf("%s %d days before %s", e.Fingerprint, e.Days, e.At.UTC().Format(time.DateOnly))
}

// expiring returns the warning that is due for an account, or nil.
func expiring(ctx context.Context, s OwnStore, a store.Account, now time.Time) (*Expiring, error) {
	rows, err := s.Certificates(ctx, a.Address.Key())
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	var last *Expiring
	for _, r := range rows {
		certs, err := pgp.ParseCertificates(r.Data)
		if err != nil {
			continue // check says so
		}
		for _, c := range certs {
			if c.Usable(now) != nil {
				continue
			}
			at, ends := c.SubkeyExpires(now)
			if !ends {
				return nil, nil
			}
			if last == nil || at.After(last.At) {
				last = &Expiring{Address: a.Address, Fingerprint: c.Fingerprint(), At: at}
			}
		}
	}
	if last == nil {
		return nil, nil
	}
	days := warnDays()
	slices.Reverse(days)
	at := slices.IndexFunc(days, func(d int) bool { return last.At.Sub(now) <= time.Duration(d)*24*time.Hour })
	if at < 0 {
		return nil, nil
	}
	last.Days = days[at]
	told, err := s.AuditRows(ctx, a.Address.Key(), 1000)
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	if slices.ContainsFunc(told, func(t store.Audit) bool { return t.Kind == "expiry" && t.Detail == last.mark() }) {
		return nil, nil
	}
	return last, nil
}
