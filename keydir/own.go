package keydir

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
)

// ownFor is how long an own account's answer is fresh: for ever, since Forget is called
// when it changes.
const ownFor = 100 * 365 * 24 * time.Hour

// Own looks up a hosted account's certificates. A certificate that cannot be used
// now (expired, revoked, no encryption subkey) is left out; if none remains the
// answer is None and says why. A store that fails gives Unknown.
func (d *Directory) Own(ctx context.Context, address mail.Address) Answer {
	key := address.Key()
	a, ok := d.fromMemory(key)
	if !ok {
		epoch := d.currentEpoch()
		if a = d.own(ctx, key); a.Kind != mail.Unknown {
			d.remember(key, a, epoch)
		}
	}
	if a.Kind == mail.Found {
		// Remembered as long as it lies in the store; whether it is usable is asked
		// at each use.
		if _, err := a.Certificates(d.Now()); err != nil {
			return Answer{Kind: mail.None, Reason: err.Error(), Trust: a.Trust, Checked: a.Checked, FreshUntil: a.FreshUntil}
		}
	}
	return a
}

// own reads an account's certificates from the store.
func (d *Directory) own(ctx context.Context, key string) Answer {
	rows, err := d.Store.Certificates(ctx, key)
	if err != nil {
		return Answer{Kind: mail.Unknown, Reason: fmt.Sprintf("read certificates: %v", err)}
	}
	now := d.Now()
	a := Answer{Trust: Own, Source: "own", Checked: now, FreshUntil: now.Add(ownFor)}
	if len(rows) == 0 {
		a.Kind, a.Reason = mail.None, "no certificate"
		if _, err := d.Store.AccountByAddress(ctx, key); errors.Is(err, store.ErrNotFound) {
			a.Reason = "no such account"
		}
		return a
	}
	a.Kind, a.Fingerprint, a.parsed = mail.Found, rows[0].Fingerprint, &parsed{rows: rows, lenient: true}
	return a
}
