package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"postern/internal/config"
	"postern/internal/mail"
	"postern/internal/store"
)

// mailboxes are what every account begins with (RFC 6154).
func mailboxes() []store.NewMailbox {
	return []store.NewMailbox{
		{Name: "INBOX"},
		{Name: "Sent", SpecialUse: `\Sent`},
		{Name: "Drafts", SpecialUse: `\Drafts`},
		{Name: "Junk", SpecialUse: `\Junk`},
		{Name: "Trash", SpecialUse: `\Trash`},
		{Name: "Archive", SpecialUse: `\Archive`},
	}
}

// AddAccount makes an account with its mailboxes and an app password. An empty quota
// means the configuration's.
func (a *Admin) AddAccount(ctx context.Context, address, quota, label string) (*Password, error) {
	addr, err := newAddress(address, a.g.Config.Domains)
	if err != nil {
		return nil, err
	}
	size := a.g.Config.Store.Quota
	if quota != "" {
		if err := size.UnmarshalText([]byte(quota)); err != nil {
			return nil, usage("quota: %v", err)
		}
	}
	if err := checkLabel(label); err != nil {
		return nil, err
	}
	account, err := a.g.Store.CreateAccount(ctx, addr, int64(size), mailboxes())
	if errors.Is(err, store.ErrExists) {
		return nil, fmt.Errorf("there is an account %s already", addr)
	}
	if err != nil {
		return nil, err
	}
	made, err := a.newPassword(ctx, account, label)
	if err != nil {
		return nil, errors.Join(err, a.g.Store.RemoveAccount(ctx, account.ID))
	}
	return made, nil
}

// newAddress checks the address of an account to be.
func newAddress(address string, domains []string) (mail.Address, error) {
	addr, err := parseAddress(address)
	if err != nil {
		return mail.Address{}, err
	}
	if !slices.Contains(domains, addr.Domain) {
		return mail.Address{}, usage("%s is not one of the domains of the configuration, %v: add it there first", addr.Domain, domains)
	}
	if base, ok := addr.Base(); ok {
		return mail.Address{}, usage("%s is a sub-address: mail for it goes to %s without an account of its own", addr, base)
	}
	return addr, nil
}

// AccountInfo describes one account.
type AccountInfo struct {
	Address      string    `json:"address"`
	Created      time.Time `json:"created"`
	Used         int64     `json:"used_octets"`
	Quota        int64     `json:"quota_octets"` // 0: no limit
	Messages     int       `json:"messages"`
	Held         int       `json:"held"`
	Certificates int       `json:"usable_certificates"`
	Published    bool      `json:"published"`
}

// AccountList is a list of accounts.
type AccountList []AccountInfo

// WriteText implements the human form.
func (l AccountList) WriteText(w io.Writer) error {
	return table(w, "ACCOUNT\tMESSAGES\tHELD\tUSED\tQUOTA\tCERTIFICATES", func(line func(string, ...any)) {
		for _, a := range l {
			quota := "none"
			if a.Quota > 0 {
				quota = config.Size(a.Quota).String()
			}
			certificates := fmt.Sprint(a.Certificates)
			if !a.Published {
				certificates += " (not published)"
			}
			line("%s\t%d\t%d\t%s\t%s\t%s", a.Address, a.Messages, a.Held, config.Size(a.Used), quota, certificates)
		}
	})
}

// Accounts lists the accounts by address.
func (a *Admin) Accounts(ctx context.Context) (AccountList, error) {
	accounts, err := a.g.Store.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	list := AccountList{}
	for _, account := range accounts {
		info, err := a.describeAccount(ctx, account)
		if err != nil {
			return nil, err
		}
		list = append(list, info)
	}
	return list, nil
}

// Account describes one account.
func (a *Admin) Account(ctx context.Context, address string) (AccountInfo, error) {
	account, err := a.account(ctx, address)
	if err != nil {
		return AccountInfo{}, err
	}
	return a.describeAccount(ctx, account)
}

func (a *Admin) describeAccount(ctx context.Context, account store.Account) (AccountInfo, error) {
	boxes, err := a.g.Store.Mailboxes(ctx, account.ID)
	if err != nil {
		return AccountInfo{}, err
	}
	held, err := a.g.Store.HeldCount(ctx, account.ID)
	if err != nil {
		return AccountInfo{}, err
	}
	certs, _ := a.g.Directory.Own(ctx, account.Address).Certificates(time.Now())
	info := AccountInfo{
		Address: account.Address.String(), Created: account.Created, Used: account.Used, Quota: account.Quota,
		Held: held, Certificates: len(certs), Published: account.Published,
	}
	for _, m := range boxes {
		info.Messages += int(m.Messages)
	}
	return info, nil
}

// SetPublished says whether an account's certificates are given to whoever asks for its
// address.
func (a *Admin) SetPublished(ctx context.Context, address string, on bool) error {
	account, err := a.account(ctx, address)
	if err != nil {
		return err
	}
	return a.g.Store.SetPublished(ctx, account.ID, on)
}

// RemoveAccount removes an account with its passwords, certificates and mail.
func (a *Admin) RemoveAccount(ctx context.Context, address string) error {
	account, err := a.account(ctx, address)
	if err != nil {
		return err
	}
	return a.g.Store.RemoveAccount(ctx, account.ID)
}
