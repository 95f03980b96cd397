package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/keydir"
)

// CertificateInfo describes one certificate of one address.
type CertificateInfo struct {
	Address     string     `json:"address"`
	Fingerprint string     `json:"fingerprint"`
	Version     int        `json:"version"`
	Algorithm   string     `json:"algorithm"`
	UserIDs     []string   `json:"user_ids"`
	Created     time.Time  `json:"created"`
	Expires     *time.Time `json:"expires"` // until when mail can be sealed to it; nil: for ever
	Source      string     `json:"source"`
	Usable      bool       `json:"usable"`
	Problem     string     `json:"problem,omitempty"`
	// Warning is what does not keep the certificate from being used.
	Warning string `json:"warning,omitempty"`
}

// CertificateList is a list of certificates.
type CertificateList []CertificateInfo

// WriteText implements the human form.
func (l CertificateList) WriteText(w io.Writer) error {
	err := table(w, "ADDRESS\tFINGERPRINT\tALGORITHM\tEXPIRES\tSTATE", func(line func(string, ...any)) {
		for _, c := range l {
			line("%s\t%s\t%s\t%s\t%s", c.Address, c.Fingerprint, c.Algorithm, c.expires(), c.state())
		}
	})
	for _, c := range l {
		if c.Warning != "" && err == nil {
			_, err = fmt.Fprintf(w, "Note: %s: %s\n", c.Fingerprint, c.Warning)
		}
	}
	return err
}

// WriteLong prints all that is known of each.
func (l CertificateList) WriteLong(w io.Writer) error {
	for i, c := range l {
		if i > 0 {
			fmt.Fprintln(w)
		}
		err := table(w, "", func(line func(string, ...any)) {
			line("Address:\t%s", c.Address)
			line("Fingerprint:\t%s", c.Fingerprint)
			line("Version:\t%d", c.Version)
			line("Algorithm:\t%s", c.Algorithm)
			line("User IDs:\t%s", strings.Join(c.UserIDs, ", "))
			line("Created:\t%s", c.Created.UTC().Format(time.DateTime))
			line("Expires:\t%s", c.expires())
			line("Source:\t%s", c.Source)
			line("State:\t%s", c.state())
			if c.Warning != "" {
				line("Note:\t%s", c.Warning)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c CertificateInfo) expires() string {
	if c.Expires == nil {
		return "never"
	}
	return c.Expires.UTC().Format(time.DateOnly)
}

func (c CertificateInfo) state() string {
	if c.Usable {
		return "usable"
	}
	return c.Problem
}

// ImportCertificates adds the certificates in data to an account. One that cannot be
// sealed to is refused, and then none is added. A newer form of a known one replaces
// it; if that form is revoked, mail is not sealed to it any more.
//
// Mail that was held for want of a certificate is sealed before it returns, by this
// process or by a server that runs beside it.
func (a *Admin) ImportCertificates(ctx context.Context, address string, data []byte) (CertificateList, error) {
	account, err := a.account(ctx, address)
	if err != nil {
		return nil, err
	}
	certs, err := pgp.ParseCertificates(data)
	if err != nil {
		return nil, err
	}
	if err := a.acceptable(ctx, account, certs, time.Now()); err != nil {
		return nil, err
	}
	list := CertificateList{}
	for _, c := range certs {
		row := store.Certificate{Address: account.Address.Key(), Fingerprint: c.Fingerprint(), Data: c.Data(), Source: operator}
		change := keydir.Change{Rule: ruleImported, New: row.Fingerprint}
		_, err := a.g.Store.AddCertificate(ctx, row)
		if errors.Is(err, store.ErrExists) {
			change.Old = row.Fingerprint
			_, err = a.g.Store.ReplaceCertificate(ctx, row)
		}
		if err == nil {
			err = a.record(ctx, row.Address, change)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, describe(account.Address, c, operator, time.Now()))
	}
	a.g.Directory.Forget()
	return list, a.releaseHeld(ctx, account)
}

// operator is the source of certificates that are imported here.
const operator = "operator"

// ruleImported is what the history of an own address says.
const ruleImported keydir.Rule = "imported for an account"

// record writes a change of an account's certificates into the history. It comes after
// the change: a record of what was never done would be worse than one that is missing.
func (a *Admin) record(ctx context.Context, address string, c keydir.Change) error {
	c.Address, c.Time, c.Source = address, time.Now(), operator
	detail, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	row := store.Audit{Time: c.Time, Kind: "certificate", Subject: address, Detail: string(detail)}
	if _, err := a.g.Store.Commit(ctx, store.Batch{Audit: []store.Audit{row}}); err != nil {
		return fmt.Errorf("write history: %w", err)
	}
	return nil
}

// acceptable refuses certificates that cannot be sealed to, but for the news that one
// the account has is revoked.
func (a *Admin) acceptable(ctx context.Context, account store.Account, certs []*pgp.Certificate, now time.Time) error {
	rows, err := a.g.Store.Certificates(ctx, account.Address.Key())
	if err != nil {
		return err
	}
	for _, c := range certs {
		err := c.Usable(now)
		known := slices.ContainsFunc(rows, func(r store.Certificate) bool { return r.Fingerprint == c.Fingerprint() })
		if err != nil && !(known && errors.Is(err, pgp.ErrRevoked)) {
			return fmt.Errorf("%s cannot be sealed to: %w", c.Fingerprint(), err)
		}
	}
	return nil
}

// releaseHeld seals the account's held mail. A server that runs does the same at the
// same time, so that what counts is what is left, not who did it.
func (a *Admin) releaseHeld(ctx context.Context, account store.Account) error {
	_, failed := a.g.Bridge.Release(ctx)
	if failed == nil || a.g.Directory.Own(ctx, account.Address).Kind != mail.Found {
		return nil
	}
	left, err := a.g.Store.HeldCount(ctx, account.ID)
	if err != nil || left > 0 {
		return fmt.Errorf("imported, but %d held messages are not sealed to it yet: %w", left, errors.Join(err, failed))
	}
	return nil
}

// describe describes a certificate and what can be done with it now.
func describe(owner mail.Address, c *pgp.Certificate, source string, now time.Time) CertificateInfo {
	info := CertificateInfo{
		Address: owner.String(), Fingerprint: c.Fingerprint(), Version: c.Version(), Algorithm: c.Algorithm(),
		UserIDs: append([]string{}, c.UserIDs()...), Created: c.Created(), Source: source, Usable: true,
	}
	at, expires := c.SubkeyExpires(now)
	if err := c.Usable(now); err != nil {
		info.Usable, info.Problem = false, err.Error()
		at, expires = c.Expires()
	}
	if expires {
		info.Expires = &at
	}
	if !c.HasAddress(owner.Key()) {
		info.Warning = "no user ID of this certificate names " + owner.String()
	}
	return info
}

// Certificates lists the certificates of one address, or of all with "".
func (a *Admin) Certificates(ctx context.Context, address string) (CertificateList, error) {
	var rows []store.Certificate
	var err error
	if address == "" {
		rows, err = a.g.Store.AllCertificates(ctx)
	} else {
		var account store.Account
		if account, err = a.account(ctx, address); err == nil {
			rows, err = a.g.Store.Certificates(ctx, account.Address.Key())
		}
	}
	if err != nil {
		return nil, err
	}
	list := CertificateList{}
	for _, row := range rows {
		owner, err := mail.ParseAddress(row.Address)
		if err != nil {
			return nil, fmt.Errorf("stored certificate %s: %w", row.Fingerprint, err)
		}
		certs, err := pgp.ParseCertificates(row.Data)
		if err != nil {
			list = append(list, CertificateInfo{Address: row.Address, Fingerprint: row.Fingerprint, UserIDs: []string{}, Source: row.Source, Problem: err.Error()})
			continue
		}
		for _, c := range certs {
			list = append(list, describe(owner, c, row.Source, time.Now()))
		}
	}
	return list, nil
}

// ShowCertificates returns the certificate with a fingerprint, or those of an address.
func (a *Admin) ShowCertificates(ctx context.Context, which string) (CertificateList, error) {
	if strings.Contains(which, "@") {
		list, err := a.Certificates(ctx, which)
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("%s has no certificate", which)
		}
		return list, err
	}
	all, err := a.Certificates(ctx, "")
	if err != nil {
		return nil, err
	}
	want := fingerprint(which)
	found := CertificateList{}
	for _, c := range all {
		if c.Fingerprint == want {
			found = append(found, c)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("there is no certificate %s (postern cert list names all)", want)
	}
	return found, nil
}

// ExportCertificates returns an account's certificates in armor.
func (a *Admin) ExportCertificates(ctx context.Context, address string) ([]byte, error) {
	account, err := a.account(ctx, address)
	if err != nil {
		return nil, err
	}
	rows, err := a.g.Store.Certificates(ctx, account.Address.Key())
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s has no certificate", account.Address)
	}
	var out []byte
	for _, row := range rows {
		certs, err := pgp.ParseCertificates(row.Data)
		if err != nil {
			return nil, fmt.Errorf("stored certificate %s: %w", row.Fingerprint, err)
		}
		for _, c := range certs {
			out = append(out, c.Armor()...)
		}
	}
	return out, nil
}

// RemoveCertificate removes one certificate of an account.
func (a *Admin) RemoveCertificate(ctx context.Context, address, which string) error {
	account, err := a.account(ctx, address)
	if err != nil {
		return err
	}
	want := fingerprint(which)
	err = a.g.Store.RemoveCertificate(ctx, account.Address.Key(), want)
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%s has no certificate %s (postern cert list %s names all)", account.Address, want, account.Address)
	}
	if err != nil {
		return err
	}
	return a.record(ctx, account.Address.Key(), keydir.Change{Rule: keydir.RuleRemoved, Old: want})
}

// WithoutCertificate says what becomes of an account's mail if none of its certificates
// can be used, and "" if one can.
func (a *Admin) WithoutCertificate(address string, certs CertificateList) string {
	if slices.ContainsFunc(certs, func(c CertificateInfo) bool { return c.Usable }) {
		return ""
	}
	fate := "held, encrypted to the gateway,"
	if a.g.Config.Seal.NoCertificate == "reject" {
		fate = "refused"
	}
	return fmt.Sprintf("%s has no usable certificate now: mail for it is %s from now on, until one is imported.", address, fate)
}

// fingerprint brings what people write into the form that is stored.
func fingerprint(s string) string {
	s = strings.ToUpper(strings.Join(strings.Fields(s), ""))
	return strings.TrimPrefix(s, "0X")
}
