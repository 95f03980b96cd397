package imapd

import (
	"errors"
	"fmt"

	"github.com/emersion/go-sasl"

	"postern/internal/auth"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// maxFailures is how many logins may fail on one connection. What slows down those who
// guess is auth, which answers without delay when to come again: nothing waits here.
const maxFailures = 3

// Login implements imapserver.Session, for LOGIN and by way of Authenticate for PLAIN.
func (s *session) Login(username, password string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mayLogIn() {
		return s.loginResponse(errNeedsTLS)
	}
	id, err := s.server.o.Auth.Password(s.ctx, s.guard.ip, username, password)
	if err == nil {
		err = s.enter(id)
	}
	return s.loginFailed(err)
}

// mayLogIn says whether passwords may be sent here.
func (s *session) mayLogIn() bool {
	return s.guard.secure != nil || s.server.o.AllowClearLogin
}

// enter opens the account of who has logged in.
func (s *session) enter(id auth.Identity) error {
	account, err := s.server.o.Store.AccountByAddress(s.ctx, id.Login)
	if errors.Is(err, store.ErrNotFound) {
		return errAuthFailed // removed a moment ago
	}
	if err != nil {
		return fmt.Errorf("open account: %w", err)
	}
	if !s.server.enterAccount(account.ID) {
		return errTooManyLogins
	}
	s.account, s.loggedIn = account, true
	s.guard.authed.Store(true)
	s.guard.metrics.AuthAttempt(telemetry.AuthOK)
	return nil
}

// loginFailed counts failures and closes the connection after the last one's answer.
func (s *session) loginFailed(err error) error {
	if err == nil {
		return nil
	}
	var throttled *auth.ErrThrottled
	switch {
	case errors.Is(err, auth.ErrRejected):
		s.guard.metrics.AuthAttempt(telemetry.AuthRejected)
	case errors.As(err, &throttled):
		s.guard.metrics.AuthAttempt(telemetry.AuthThrottled)
	default:
		s.guard.metrics.AuthAttempt(telemetry.AuthError)
	}
	if s.failures++; s.failures >= maxFailures {
		s.guard.dismiss("Too many failed logins")
	}
	return s.loginResponse(err)
}

// AuthenticateMechanisms implements imapserver.SessionSASL. -PLUS is offered only
// where the connection can be bound.
func (s *session) AuthenticateMechanisms() []string {
	if !s.mayLogIn() {
		return nil
	}
	if s.server.o.Auth.Binds(s.guard.secure) {
		return []string{auth.ScramPlusName, auth.ScramName, sasl.Plain}
	}
	return []string{auth.ScramName, sasl.Plain}
}

// Authenticate implements imapserver.SessionSASL.
func (s *session) Authenticate(mech string) (sasl.Server, error) {
	if !s.mayLogIn() {
		return nil, s.loginResponse(errNeedsTLS)
	}
	a := s.server.o.Auth
	plus := mech == auth.ScramPlusName
	switch {
	case mech == sasl.Plain:
		return &exchange{session: s, mech: sasl.NewPlainServer(s.plain)}, nil
	case mech == auth.ScramName, plus && a.Binds(s.guard.secure):
		scram := a.SCRAM(s.ctx, s.guard.ip, s.guard.secure, plus)
		return &exchange{session: s, mech: scram, scram: scram}, nil
	}
	return nil, s.loginResponse(errMechanism)
}

func (s *session) plain(identity, username, password string) error {
	if identity != "" && identity != username {
		return errAuthorization
	}
	id, err := s.server.o.Auth.Password(s.ctx, s.guard.ip, username, password)
	if err != nil {
		return err
	}
	return s.enter(id)
}

// exchange is a SASL exchange as the engine sees it.
type exchange struct {
	session *session
	mech    sasl.Server
	scram   *auth.ScramServer // nil for PLAIN
}

// Next implements sasl.Server.
func (x *exchange) Next(response []byte) ([]byte, bool, error) {
	x.session.mu.Lock()
	defer x.session.mu.Unlock()
	challenge, done, err := x.mech.Next(response)
	if err == nil && done && x.scram != nil {
		err = x.session.enter(x.scram.Identity())
	}
	if err != nil {
		return nil, false, x.session.loginFailed(err)
	}
	if len(challenge) == 0 {
		// The engine writes an empty challenge that is not nil as "=", which is
		// for initial responses only (RFC 9051 6.2.2).
		challenge = nil
	}
	return challenge, done, nil
}
