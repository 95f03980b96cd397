package auth

import (
	"context"
	"fmt"
)

// Confirm says whether a login that was accepted a while ago still holds: ErrRejected if
// the account or the password is gone, another error if that could not be found out.
func (a *Authenticator) Confirm(ctx context.Context, id Identity) error {
	creds, err := a.o.Directory.Credentials(ctx, id.Login)
	if err != nil {
		return fmt.Errorf("look up credentials: %w", err)
	}
	for _, c := range creds {
		// An account that was removed and made again under its old name has other ids.
		if c.ID == id.Credential && c.Account == id.Login {
			return nil
		}
	}
	return ErrRejected
}
