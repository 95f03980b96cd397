package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// maxLogin is the longest login that is looked at, in octets. An address has at
// most 254 (RFC 5321 4.5.3.1); the rest is for escapes.
const maxLogin = 512

// Password says who login and password belong to. It is for mechanisms that carry
// the password itself, LOGIN and PLAIN, and so only for connections under TLS. It
// returns ErrRejected, *ErrThrottled, or another error if the answer could not be
// found out; in that case nothing is held against anybody.
func (a *Authenticator) Password(ctx context.Context, ip netip.Addr, login, password string) (Identity, error) {
	cred, err := a.password(ctx, ip, login, password)
	a.record(ctx, ip, "password", result(err), cred.ID)
	if err != nil {
		return Identity{}, err
	}
	a.o.Directory.Used(ctx, cred)
	return Identity{Login: cred.Account, Credential: cred.ID}, nil
}

func result(err error) string {
	var throttled *ErrThrottled
	switch {
	case err == nil:
		return "accepted"
	case errors.Is(err, ErrDowngrade):
		return "downgrade"
	case errors.Is(err, ErrRejected):
		return "rejected"
	case errors.As(err, &throttled):
		return "throttled"
	}
	return "failed"
}

func (a *Authenticator) password(ctx context.Context, ip netip.Addr, login, password string) (Credential, error) {
	creds, try, err := a.lookUp(ctx, ip, login)
	if err != nil {
		return Credential{}, err
	}
	d := derivation{a: a, try: try}
	cred, wait, err := d.verify(ctx, login, password, creds)
	switch {
	case err == nil:
		try.succeed()
	case errors.Is(err, ErrRejected):
		try.fail()
		if wait > 0 {
			// The same for everybody, whether or not a password was left out.
			err = &ErrThrottled{Wait: wait}
		}
	}
	return cred, err
}

// lookUp fetches what is needed to judge an attempt, or refuses it.
func (a *Authenticator) lookUp(ctx context.Context, ip netip.Addr, login string) ([]Credential, attempt, error) {
	var creds []Credential
	account := ""
	if login != "" && len(login) <= maxLogin {
		var err error
		if creds, err = a.o.Directory.Credentials(ctx, login); err != nil {
			return nil, attempt{}, fmt.Errorf("look up credentials: %w", err)
		}
		account = accountKey(login)
	}
	if len(creds) > 0 {
		// Not the login: an account has many spellings, and each would be counted anew.
		account = creds[0].Account
	}
	try := a.throttle.attempt(ip, account)
	if all, _ := try.waits(); all > 0 {
		return nil, try, &ErrThrottled{Wait: all}
	}
	return creds, try, nil
}

// derivation derives a password's StoredKey, once for each salt.
type derivation struct {
	a    *Authenticator
	try  attempt
	done []derived
}

type derived struct {
	password, salt string
	iterations     int
	stored         []byte
}

// verify finds the credential that password belongs to. wait is how much longer
// passwords that could be guessed are not looked at. If it finds none it has derived
// once for app passwords and, unless there is a wait, once for chosen ones.
func (d *derivation) verify(ctx context.Context, login, password string, creds []Credential) (_ Credential, wait time.Duration, _ error) {
	if len(password) > maxPassword {
		return Credential{}, 0, ErrRejected
	}
	chosen := password
	if p, ok := appForm(password); ok {
		password = p
	}
	if c, ok := d.a.verified.find(password, creds); ok {
		return c, 0, nil
	}
	salt := d.a.fakeSalt(login)
	found, err := d.first(ctx, password, creds, false, fake{salt, AppIterations})
	if err == nil && found == nil {
		if _, wait = d.try.waits(); wait == 0 {
			found, err = d.first(ctx, chosen, creds, true, fake{salt, d.a.stretch})
		}
	}
	if err != nil {
		return Credential{}, 0, err
	}
	if found == nil {
		return Credential{}, wait, ErrRejected
	}
	d.a.verified.add(password, *found)
	return *found, 0, nil
}

// fake is what is derived where there is nothing to compare with.
type fake struct {
	salt       []byte
	iterations int
}

// first returns the first credential of the kind that the password belongs to, or nil.
// Without one of that kind it does the work all the same.
func (d *derivation) first(ctx context.Context, password string, creds []Credential, human bool, none fake) (*Credential, error) {
	tried := false
	for i := range creds {
		c := &creds[i]
		if c.Human != human || c.Iterations <= 0 || len(c.Salt) == 0 {
			continue
		}
		tried = true
		stored, err := d.stored(ctx, password, c.Salt, c.Iterations)
		if err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare(stored, c.StoredKey) == 1 {
			return c, nil
		}
	}
	if !tried {
		_, err := d.stored(ctx, password, none.salt, none.iterations)
		return nil, err
	}
	return nil, nil
}

func (d *derivation) stored(ctx context.Context, password string, salt []byte, iterations int) ([]byte, error) {
	for _, e := range d.done {
		if e.iterations == iterations && e.salt == string(salt) && e.password == password {
			return e.stored, nil
		}
	}
	turn := d.a.quick
	if iterations > quickIterations {
		turn = d.a.slow
	}
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to verify a password: %w", context.Cause(ctx))
	}
	// Others may have failed while this one waited for its turn: a thousand
	// attempts at once are not a thousand free guesses.
	all, guessable := d.try.waits()
	if iterations > quickIterations {
		all = max(all, guessable)
	}
	if all > 0 {
		return nil, &ErrThrottled{Wait: all}
	}
	stored, _ := Derive(password, salt, iterations)
	d.done = append(d.done, derived{password: password, salt: string(salt), iterations: iterations, stored: stored})
	return stored, nil
}

// fakeSalt is the salt of a login that does not exist: like a real one it is the
// same each time and in each spelling.
func (a *Authenticator) fakeSalt(login string) []byte {
	return mac(a.o.Secret, []byte("salt\x00"), []byte(accountKey(login)))[:saltSize]
}
