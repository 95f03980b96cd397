package admin

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"postern/internal/auth"
	"postern/internal/store"
)

// maxLabel limits the name of a password, in characters.
const maxLabel = 64

// Password is a new app password, shown once.
type Password struct {
	Address  string `json:"address"`
	Label    string `json:"label"`
	Password string `json:"password"`
}

// WriteText implements the human form.
func (p *Password) WriteText(w io.Writer) error {
	_, err := fmt.Fprintf(w, "Account:   %s\nPassword:  %s   (%s; shown only now)\n", p.Address, p.Password, p.Label)
	return err
}

// NewPassword makes another app password.
func (a *Admin) NewPassword(ctx context.Context, address, label string) (*Password, error) {
	account, err := a.account(ctx, address)
	if err != nil {
		return nil, err
	}
	return a.newPassword(ctx, account, label)
}

func (a *Admin) newPassword(ctx context.Context, account store.Account, label string) (*Password, error) {
	existing, err := a.credentials(ctx, account, label)
	if err != nil {
		return nil, err
	}
	password := auth.NewAppPassword()
	made := auth.AppCredential(account.Address.Key(), password, existing)
	if err := a.addCredential(ctx, account, label, made); err != nil {
		return nil, err
	}
	return &Password{Address: account.Address.String(), Label: label, Password: password}, nil
}

// SetPassword adds a password that a person chose. It must have 12 characters or more.
func (a *Admin) SetPassword(ctx context.Context, address, label, password string) error {
	account, err := a.account(ctx, address)
	if err != nil {
		return err
	}
	existing, err := a.credentials(ctx, account, label)
	if err != nil {
		return err
	}
	made, err := auth.HumanCredential(account.Address.Key(), password, existing)
	if err != nil {
		return err
	}
	return a.addCredential(ctx, account, label, made)
}

// checkLabel refuses a name that could not be told from others in a list.
func checkLabel(label string) error {
	switch {
	case strings.TrimSpace(label) == "":
		return usage("give the password a --label, such as the device that uses it")
	case utf8.RuneCountInString(label) > maxLabel:
		return usage("the label has more than %d characters", maxLabel)
	case strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsPrint(r) }):
		return usage("the label %q has characters that cannot be shown", label)
	}
	return nil
}

// credentials returns the account's credentials if label is a new one among them.
func (a *Admin) credentials(ctx context.Context, account store.Account, label string) ([]auth.Credential, error) {
	if err := checkLabel(label); err != nil {
		return nil, err
	}
	rows, err := a.g.Store.Credentials(ctx, account.ID)
	if err != nil {
		return nil, err
	}
	var existing []auth.Credential
	for _, c := range rows {
		if c.Label == label {
			return nil, fmt.Errorf("%s has a password with the label %q already", account.Address, label)
		}
		existing = append(existing, auth.Credential{Human: c.Human, Salt: c.Salt, Iterations: c.Iterations})
	}
	return existing, nil
}

func (a *Admin) addCredential(ctx context.Context, account store.Account, label string, c auth.Credential) error {
	_, err := a.g.Store.AddCredential(ctx, store.Credential{
		Account: account.ID, Label: label, Human: c.Human, Salt: c.Salt, Iterations: c.Iterations,
		StoredKey: c.StoredKey, ServerKey: c.ServerKey,
	})
	return err
}

// PasswordInfo describes one password, never itself.
type PasswordInfo struct {
	Label    string     `json:"label"`
	Kind     string     `json:"kind"` // "app" or "own"
	Created  time.Time  `json:"created"`
	LastUsed *time.Time `json:"last_used"` // nil: never
}

// PasswordList is a list of passwords.
type PasswordList []PasswordInfo

// WriteText implements the human form.
func (l PasswordList) WriteText(w io.Writer) error {
	return table(w, "LABEL\tKIND\tCREATED\tLAST USED", func(line func(string, ...any)) {
		for _, p := range l {
			used := "never"
			if p.LastUsed != nil {
				used = p.LastUsed.UTC().Format(time.DateTime)
			}
			line("%s\t%s\t%s\t%s", p.Label, p.Kind, p.Created.UTC().Format(time.DateTime), used)
		}
	})
}

// Passwords lists an account's passwords, the oldest first.
func (a *Admin) Passwords(ctx context.Context, address string) (PasswordList, error) {
	account, err := a.account(ctx, address)
	if err != nil {
		return nil, err
	}
	rows, err := a.g.Store.Credentials(ctx, account.ID)
	if err != nil {
		return nil, err
	}
	list := PasswordList{}
	for _, c := range rows {
		info := PasswordInfo{Label: c.Label, Kind: "app", Created: c.Created}
		if c.Human {
			info.Kind = "own"
		}
		if !c.LastUsed.IsZero() {
			info.LastUsed = &c.LastUsed
		}
		list = append(list, info)
	}
	return list, nil
}

// RemovePassword removes the password with a label.
func (a *Admin) RemovePassword(ctx context.Context, address, label string) error {
	account, err := a.account(ctx, address)
	if err != nil {
		return err
	}
	if err := checkLabel(label); err != nil {
		return err
	}
	rows, err := a.g.Store.Credentials(ctx, account.ID)
	if err != nil {
		return err
	}
	for _, c := range rows {
		if c.Label == label {
			return a.g.Store.RemoveCredential(ctx, account.ID, c.ID)
		}
	}
	return fmt.Errorf("%s has no password with the label %q", account.Address, label)
}
