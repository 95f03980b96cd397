package smtpd

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"postern/internal/auth"
	"postern/internal/mail"
)

// Submission is what the submission server needs besides Options (RFC 6409).
type Submission struct {
	// Auth says who logs in; it must be set.
	Auth *auth.Authenticator
	// AllowClearLogin lets clients log in without TLS. It is for loopback only.
	AllowClearLogin bool
	// MessagesPerHour and RecipientsPerHour bound what one account may send, over all
	// its connections; 0 is no limit. Options.Cluster counts.
	MessagesPerHour, RecipientsPerHour int
}

// login is who has logged in on a connection.
type login struct {
	identity auth.Identity
	account  mail.Address
}

var (
	errNeedsTLS   = mail.Refuse(530, "5.7.0", "send STARTTLS first")     // RFC 3207 4
	errNeedsLogin = mail.Refuse(530, "5.7.0", "log in first: send AUTH") // RFC 4954 6
	errLoginGone  = mail.Refuse(421, "4.7.0", "your login does not hold any more: the password was changed or the account removed; log in again")
	errNoAuth     = errors.New("submission server without an authenticator")
)

// maxSubmission is the longest MAIL and RCPT on submission: 1022 octets as elsewhere,
// and what RFC 4954 (3) and RFC 3461 (4) add to MAIL and RCPT.
const maxSubmission = maxMailRcpt + 500 + 500

// NewSubmission returns the submission server: mail by accounts that log in, for
// whoever the Acceptor takes. It panics without Submission.Auth.
func NewSubmission(o Options, s Submission) *Server {
	if s.Auth == nil {
		panic(errNoAuth)
	}
	return newServer(o, frontEnd{kind: mail.KindSubmission, protocol: "ESMTP", maxEnvelope: maxSubmission, submission: &s})
}

// submissionKeywords are the lines of EHLO that only submission has.
func (c *conn) submissionKeywords() []string {
	lines := []string{"DSN"} // RFC 3461
	if c.mayLogIn() {
		lines = append(lines, "AUTH "+strings.Join(c.mechanisms(), " "))
	}
	return lines
}

// mayLogIn says whether passwords may be sent here.
func (c *conn) mayLogIn() bool { return c.tls != nil || c.front.submission.AllowClearLogin }

// mayMail answers MAIL on submission by somebody who has not logged in, or whose login
// does not hold any more: a connection may stay open for long after a password was
// changed because it was stolen.
func (c *conn) mayMail() bool {
	s := c.front.submission
	if s == nil {
		return true
	}
	c.rejected = true
	switch {
	case !c.mayLogIn():
		c.turnAway(errNeedsTLS)
		return false
	case c.login == nil:
		c.turnAway(errNeedsLogin)
		return false
	}
	err := s.Auth.Confirm(c.txContext(), c.login.identity)
	if errors.Is(err, auth.ErrRejected) {
		err = errLoginGone
	}
	if err != nil {
		c.refuse(err)
	}
	return err == nil
}

// turnAway refuses what a client should have known not to send, and ends the
// connection after too many.
func (c *conn) turnAway(e *mail.Error) {
	c.refuse(e)
	if c.faults++; over(c.faults, c.Limits.Errors) {
		c.tooMany("errors")
	}
}

// account is who has logged in; the zero value is nobody.
func (c *conn) account() mail.Address {
	if c.login == nil {
		return mail.Address{}
	}
	return c.login.account
}

// takeMessage counts a message against what the account may send.
func (c *conn) takeMessage() error {
	s := c.front.submission
	if s == nil || c.takeOfAccount("messages", s.MessagesPerHour) {
		return nil
	}
	return mail.Refuse(450, "4.7.1", fmt.Sprintf(
		"your account has sent its %d messages of this hour; try again in an hour at the latest", s.MessagesPerHour))
}

// takeRecipient counts a recipient against what the account may write to.
func (c *conn) takeRecipient() error {
	s := c.front.submission
	if s == nil || c.takeOfAccount("recipients", s.RecipientsPerHour) {
		return nil
	}
	return mail.Refuse(452, "4.7.1", fmt.Sprintf(
		"your account has written to its %d recipients of this hour; try again in an hour at the latest", s.RecipientsPerHour))
}

func (c *conn) takeOfAccount(what string, limit int) bool {
	return c.Cluster == nil || c.Cluster.Take("submission:"+what+":"+c.login.account.Key(), limit, time.Hour)
}

// parseMail reads the argument of MAIL with the parameters that are offered here.
func (c *conn) parseMail(arg string) (mail.Address, smtp.MailOptions, *mail.Error) {
	return parseMail(arg, offer{submission: c.front.submission != nil, requireTLS: c.tls != nil})
}

// parseRcpt reads the argument of RCPT likewise.
func (c *conn) parseRcpt(arg string) (mail.Rcpt, *mail.Error) {
	return parseRcpt(arg, c.PostmasterDomain, c.tx.utf8, offer{submission: c.front.submission != nil})
}
