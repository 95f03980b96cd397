package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/keydir"
)

// recipient is one mailbox, or one address elsewhere, that the message goes to, with all
// that is known when its copy is planned.
type recipient struct {
	rcpt    mail.Rcpt
	account store.Account // zero for an address elsewhere
	mailbox store.ID      // zero: the INBOX
	order   mail.Order
	answer  keydir.Answer
	// certificates are the usable ones; empty unless the answer is mail.Found.
	certificates []*pgp.Certificate
	// keyword marks what a client appends, by what is known of it; "" for none.
	keyword string

	// elsewhere says that it is no mailbox of ours, and lookup brings what is known of it.
	elsewhere bool
	lookup    <-chan keydir.Answer
	// visible says that To or Cc name it.
	visible bool
	// wish is what the sender asked for, see policy.Facts.
	wish string
}

// resolve finds the account that an address belongs to: the address itself, the
// address without its sub-address (RFC 5233), or the postmaster (RFC 5321 4.5.1).
func (b *Bridge) resolve(ctx context.Context, a mail.Address) (store.Account, error) {
	postmaster := strings.EqualFold(a.Local, "postmaster")
	if !slices.Contains(b.rules.Load().Domains, a.Domain) && !(postmaster && a.Domain == b.Hostname) {
		return store.Account{}, errRelay
	}
	account, err := b.Store.AccountByAddress(ctx, a.Key())
	if base, ok := a.Base(); errors.Is(err, store.ErrNotFound) && ok {
		account, err = b.Store.AccountByAddress(ctx, base.Key())
	}
	if errors.Is(err, store.ErrNotFound) && postmaster {
		account, err = b.postmaster(ctx)
	}
	if errors.Is(err, store.ErrNotFound) {
		return store.Account{}, mail.ErrNoSuchUser
	}
	if err != nil {
		return store.Account{}, fmt.Errorf("look up account: %w", err)
	}
	return account, nil
}

// Account returns the address of the account that mail to an address of ours is for. The
// error is mail.ErrNoSuchUser if there is none.
func (b *Bridge) Account(ctx context.Context, a mail.Address) (mail.Address, error) {
	account, err := b.resolve(ctx, a)
	return account.Address, err
}

// postmaster returns the account that answers for this server.
func (b *Bridge) postmaster(ctx context.Context) (store.Account, error) {
	if p := b.rules.Load().Postmaster; !p.IsNull() {
		return b.Store.AccountByAddress(ctx, p.Key())
	}
	accounts, err := b.Store.Accounts(ctx)
	if err != nil {
		return store.Account{}, err
	}
	if len(accounts) == 0 {
		return store.Account{}, store.ErrNotFound
	}
	return accounts[0], nil
}

// lookUp asks the directory for an account's certificates: those that can be sealed to
// at this moment.
func (b *Bridge) lookUp(ctx context.Context, a store.Account) (keydir.Answer, []*pgp.Certificate) {
	answer := b.Directory.Own(ctx, a.Address)
	if answer.Kind != mail.Found {
		return answer, nil
	}
	certs, err := answer.Certificates(b.Now())
	if err != nil {
		return keydir.Answer{Kind: mail.None, Reason: err.Error()}, nil
	}
	return answer, certs
}
