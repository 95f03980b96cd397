package server

import (
	"context"
	"log/slog"
	"time"

	"postern/internal/auth"
	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// logins lets package auth read accounts from the store.
type logins struct {
	store *store.Store
	now   func() time.Time
	log   *slog.Logger
}

// Credentials implements auth.Directory. A login is an account's address.
func (l *logins) Credentials(ctx context.Context, login string) ([]auth.Credential, error) {
	a, err := mail.ParseAddress(login)
	if err != nil {
		return nil, nil
	}
	rows, err := l.store.CredentialsOf(ctx, a.Key())
	if err != nil {
		return nil, err
	}
	creds := make([]auth.Credential, len(rows))
	for i, c := range rows {
		creds[i] = auth.Credential{
			ID: int64(c.ID), Account: a.Key(), Human: c.Human, Salt: c.Salt,
			Iterations: c.Iterations, StoredKey: c.StoredKey, ServerKey: c.ServerKey,
		}
	}
	return creds, nil
}

// Used implements auth.Directory. That the time of last use is lost is no reason to
// refuse a login.
func (l *logins) Used(ctx context.Context, c auth.Credential) {
	if err := l.store.UseCredential(ctx, store.ID(c.ID), l.now()); err != nil {
		l.log.Warn("record last use", telemetry.KeyError, err)
	}
}
