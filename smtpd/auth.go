package smtpd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"postern/internal/auth"
	"postern/internal/mail"
	"postern/internal/telemetry"
)

// maxFailures is how many logins may fail on one connection. What slows down those who
// guess is auth, which answers without delay when to come again: nothing waits here.
const maxFailures = 3

var (
	errLogin     = mail.Refuse(535, "5.7.8", "login or password is wrong")
	errActAs     = mail.Refuse(535, "5.7.8", "nobody can act for another user here")
	errMechanism = mail.Refuse(504, "5.5.4", "mechanism not offered, see EHLO")
	errCancelled = mail.Refuse(501, "5.7.0", "cancelled")
	errResponse  = mail.Refuse(501, "5.5.2", "response cannot be read")
	errLongLine  = mail.Refuse(500, "5.5.6", "response too long") // RFC 4954 4
)

// mechanisms are what AUTH takes. -PLUS is offered only where the connection can be
// bound.
func (c *conn) mechanisms() []string {
	names := []string{auth.ScramName, sasl.Plain, sasl.Login}
	if c.front.submission.Auth.Binds(c.secure) {
		names = slices.Insert(names, 0, auth.ScramPlusName)
	}
	return names
}

// auth does AUTH (RFC 4954 4).
func (c *conn) auth(arg string) {
	name, initial, given := strings.Cut(arg, " ")
	name = strings.ToUpper(name)
	switch {
	case c.front.submission == nil:
		c.fault(502, "5.5.1", "no authentication on this port; it is for mail to our own users")
	case c.inData || c.tx.Transaction != nil:
		c.fault(503, "5.5.1", "not during a transaction")
	case !c.ordered(c.extended, "EHLO"):
	case !c.mayLogIn():
		c.turnAway(errNeedsTLS)
	case c.login != nil:
		c.fault(503, "5.5.1", "you are logged in already")
	case !slices.Contains(c.mechanisms(), name):
		c.turnAway(errMechanism)
	default:
		var response []byte // nil: there is no initial response
		if given {
			var err error
			if response, err = decodeResponse([]byte(initial)); err != nil {
				c.faultErr(errResponse)
				return
			}
		}
		c.exchange(c.mechanism(name), response)
	}
}

// exchange runs a SASL exchange to its end.
func (c *conn) exchange(mech mechanism, response []byte) {
	for {
		challenge, done, err := mech.Next(response)
		if err == nil && done {
			err = c.enter(mech.Identity())
		}
		if err != nil {
			c.loginFailed(err)
			return
		}
		if done {
			c.Metrics.AuthAttempt(telemetry.AuthOK)
			c.reply(235, "2.7.0", "logged in")
			return
		}
		if response = c.challenge(challenge); response == nil {
			return
		}
	}
}

// challenge sends a challenge and returns the response; nil if there is none, which is
// answered then.
func (c *conn) challenge(challenge []byte) []byte {
	c.out = append(c.out, "334 "...)
	c.out = base64.StdEncoding.AppendEncode(c.out, challenge)
	c.out = append(c.out, "\r\n"...)
	line, err := c.in.line()
	switch {
	case errors.Is(err, errLineTooLong):
		c.end = endRead
		c.faultErr(errLongLine)
		return nil
	case err != nil:
		c.broken(err)
		return nil
	case string(line) == "*":
		c.faultErr(errCancelled)
		return nil
	}
	response, err := base64.StdEncoding.Strict().DecodeString(string(line))
	if err != nil {
		c.faultErr(errResponse)
		return nil
	}
	return response
}

// decodeResponse reads an initial response; "=" is an empty one (RFC 4954 4).
func decodeResponse(b []byte) ([]byte, error) {
	if string(b) == "=" {
		return []byte{}, nil
	}
	return base64.StdEncoding.Strict().DecodeString(string(b))
}

// enter makes the connection that of who has logged in.
func (c *conn) enter(id auth.Identity) error {
	account, err := mail.ParseAddress(id.Login)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	c.login = &login{identity: id, account: account}
	return nil
}

// loginFailed answers a login that failed, and ends the connection after too many.
func (c *conn) loginFailed(err error) {
	var throttled *auth.ErrThrottled
	switch {
	case errors.Is(err, auth.ErrMalformed):
		c.faultErr(errResponse)
		return
	case errors.Is(err, auth.ErrRejected):
		c.Metrics.AuthAttempt(telemetry.AuthRejected)
		err = errLogin
	case errors.As(err, &throttled):
		c.Metrics.AuthAttempt(telemetry.AuthThrottled)
		wait := int(math.Ceil(throttled.Wait.Seconds()))
		err = mail.Refuse(454, "4.7.0", fmt.Sprintf("too many failed attempts, try again in %d s", wait))
	default:
		c.Metrics.AuthAttempt(telemetry.AuthError)
	}
	c.refuse(err)
	if c.failures++; c.failures >= maxFailures {
		c.tooMany("failed logins")
	}
}

// mechanism is the server's side of one exchange. Identity is valid when Next has said
// that the exchange is done.
type mechanism interface {
	sasl.Server
	Identity() auth.Identity
}

// mechanism returns that of a name of mechanisms.
func (c *conn) mechanism(name string) mechanism {
	a := c.front.submission.Auth
	switch name {
	case sasl.Plain:
		return &passwordMechanism{c: c, read: (*passwordMechanism).plain}
	case sasl.Login:
		return &passwordMechanism{c: c, read: (*passwordMechanism).login}
	}
	return a.SCRAM(c.txContext(), c.ip, c.secure, name == auth.ScramPlusName)
}

// passwordMechanism is one of those that carry the password itself.
type passwordMechanism struct {
	c    *conn
	read func(p *passwordMechanism, response []byte) (challenge []byte, done bool, err error)
	user string // of LOGIN, when it was asked for
	id   auth.Identity
}

// Next implements sasl.Server.
func (p *passwordMechanism) Next(response []byte) ([]byte, bool, error) { return p.read(p, response) }

// Identity implements mechanism.
func (p *passwordMechanism) Identity() auth.Identity { return p.id }

// plain is PLAIN (RFC 4616).
func (p *passwordMechanism) plain(response []byte) ([]byte, bool, error) {
	if response == nil {
		return nil, false, nil // client-first
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 {
		return nil, false, auth.ErrMalformed
	}
	actAs, user, password := string(parts[0]), string(parts[1]), string(parts[2])
	if actAs != "" && actAs != user {
		return nil, false, errActAs
	}
	return nil, true, p.verify(user, password)
}

// login is LOGIN (draft-murchison-sasl-login). The initial response, where there is
// one, is the user name.
func (p *passwordMechanism) login(response []byte) ([]byte, bool, error) {
	switch {
	case response == nil:
		return []byte("Username:"), false, nil
	case p.user == "" && len(response) == 0:
		return nil, false, auth.ErrMalformed
	case p.user == "":
		p.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, p.verify(p.user, string(response))
}

func (p *passwordMechanism) verify(user, password string) (err error) {
	p.id, err = p.c.front.submission.Auth.Password(p.c.txContext(), p.c.ip, user, password)
	return err
}
