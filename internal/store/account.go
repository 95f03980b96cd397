package store

import (
	"context"
	"errors"
	"fmt"

	"postern/internal/mail"
)

const accountColumns = `id, local_part, domain, quota, used, created, published`

func scanAccount(r scanner, a *Account) error {
	var created int64
	err := r.Scan(&a.ID, &a.Address.Local, &a.Address.Domain, &a.Quota, &a.Used, &created, &a.Published)
	a.Created = fromMicros(created)
	return err
}

// CreateAccount makes an account with a quota in octets (0: none) and its
// mailboxes, subscribed; there is always an INBOX. ErrExists: the address has an
// account. ErrName, ErrExists: a mailbox's name is bad or named twice.
func (s *Store) CreateAccount(ctx context.Context, address mail.Address, quota int64, boxes []NewMailbox) (Account, error) {
	if address.IsNull() || quota < 0 {
		return Account{}, fmt.Errorf("create account: %w: no address, or a negative quota", ErrInvalid)
	}
	boxes = append([]NewMailbox{{Name: inboxName}}, boxes...)
	var made Account
	err := s.write(ctx, func(t *tx) error {
		a := Account{ID: s.NewID(), Address: address, Quota: quota, Created: fromMicros(micros(t.now)), Published: true}
		_, err := t.exec(`INSERT INTO accounts (id, address_key, local_part, domain, quota, used, created)
			VALUES ($1, $2, $3, $4, $5, 0, $6)`,
			a.ID, address.Key(), address.Local, address.Domain, quota, micros(a.Created))
		if errors.Is(err, errConflict) {
			return ErrExists
		}
		if err != nil {
			return err
		}
		for i, b := range boxes {
			_, err := t.createMailbox(a.ID, b, true)
			// The INBOX of the first turn may be listed once more.
			if i > 0 && errors.Is(err, ErrExists) && isInbox(b.Name) {
				continue
			}
			if err != nil {
				return err
			}
		}
		made = a
		return nil
	})
	if err != nil {
		return Account{}, fmt.Errorf("create account: %w", err)
	}
	return made, nil
}

func isInbox(name string) bool {
	n, err := CanonicalName(name)
	return err == nil && n == inboxName
}

// AccountByAddress returns the account whose address has this mail.Address.Key,
// or ErrNotFound.
func (s *Store) AccountByAddress(ctx context.Context, key string) (Account, error) {
	return s.oneAccount(ctx, `SELECT `+accountColumns+` FROM accounts
		WHERE address_key = $1 AND removed = 0`, key)
}

// Account returns an account by its id, or ErrNotFound.
func (s *Store) Account(ctx context.Context, id ID) (Account, error) {
	return s.oneAccount(ctx, `SELECT `+accountColumns+` FROM accounts
		WHERE id = $1 AND removed = 0`, id)
}

func (s *Store) oneAccount(ctx context.Context, query string, key any) (Account, error) {
	all, err := s.listAccounts(ctx, query, key)
	if err == nil && len(all) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Account{}, fmt.Errorf("read account: %w", err)
	}
	return all[0], nil
}

// Accounts returns all accounts in the order of their address keys.
func (s *Store) Accounts(ctx context.Context) ([]Account, error) {
	all, err := s.listAccounts(ctx, `SELECT `+accountColumns+` FROM accounts
		WHERE removed = 0 ORDER BY address_key`)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return all, nil
}

func (s *Store) listAccounts(ctx context.Context, query string, args ...any) (all []Account, err error) {
	err = s.read(ctx, func(c *session) error {
		return c.each(func(r scanner) error {
			var a Account
			err := scanAccount(r, &a)
			all = append(all, a)
			return err
		}, query, args...)
	})
	return all, err
}

// SetQuota sets an account's quota in octets; 0 means none.
func (s *Store) SetQuota(ctx context.Context, account ID, quota int64) error {
	if quota < 0 {
		return fmt.Errorf("set quota: %w: negative", ErrInvalid)
	}
	err := s.write(ctx, func(t *tx) error {
		if err := t.settle(); err != nil {
			return err
		}
		return t.must(`UPDATE accounts SET quota = $1 WHERE id = $2 AND removed = 0`, quota, account)
	})
	if err != nil {
		return fmt.Errorf("set quota: %w", err)
	}
	return nil
}

// RemoveAccount takes away an account with its credentials, the certificates of
// its address (whoever gets the address next must not be written to with them),
// its mailboxes, messages and held copies. The account is gone at once and its
// address free; the messages go in steps, which the next Open finishes should
// this one not.
func (s *Store) RemoveAccount(ctx context.Context, id ID) error {
	err := s.write(ctx, func(t *tx) error {
		if err := t.settle(); err != nil {
			return err
		}
		var key string
		err := t.get([]any{&key}, `SELECT address_key FROM accounts WHERE id = $1 AND removed = 0`, id)
		if err != nil {
			return err
		}
		// No address key has a space at its start.
		hidden := fmt.Sprintf(" removed %d", id)
		if err := t.must(`UPDATE accounts SET removed = 1, address_key = $1 WHERE id = $2`, hidden, id); err != nil {
			return err
		}
		for _, query := range []string{
			`DELETE FROM credentials WHERE account = $1`,
			`DELETE FROM exchanges WHERE account = $1`,
			`UPDATE mailboxes SET removed = 1 WHERE account = $1`,
		} {
			if _, err := t.exec(query, id); err != nil {
				return err
			}
		}
		_, err = t.exec(`DELETE FROM certificates WHERE address = $1`, key)
		return err
	})
	if err == nil {
		err = s.purgeAccount(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("remove account %v: %w", id, err)
	}
	return nil
}
