package imapd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-sasl"

	"postern/internal/auth"
	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// status makes a refusal with a response code of RFC 5530 and a text for the client.
func status(typ imap.StatusResponseType, code imap.ResponseCode, text string) *imap.Error {
	return &imap.Error{Type: typ, Code: code, Text: text}
}

func no(code imap.ResponseCode, text string) *imap.Error {
	return status(imap.StatusResponseTypeNo, code, text)
}

// errorText is a refusal that is always the same. It is an error of its own so that the
// files without glue need not know status responses.
type errorText struct {
	typ  imap.StatusResponseType
	code imap.ResponseCode
	text string
}

func (e *errorText) Error() string { return e.text }

func refusal(code imap.ResponseCode, text string) error {
	return &errorText{imap.StatusResponseTypeNo, code, text}
}

// The refusals of this package.
var (
	errBadFlag         = refusal(imap.ResponseCodeCannot, "only the system flags may begin with a backslash")
	errTooManyKeywords = refusal(imap.ResponseCodeLimit, "too many keywords in one command")
	errKeyword         = refusal(imap.ResponseCodeLimit, "a keyword is too long, or one too many")
	errExhausted       = refusal(imap.ResponseCodeLimit, "mailbox has no UIDs left, use another one")
	errNoSuchNumber    = error(&errorText{imap.StatusResponseTypeBad, "", "no message has that sequence number"})
	errReadOnly        = refusal(imap.ResponseCodeNoPerm, "mailbox was opened by EXAMINE, nothing can be changed")
	errBodySearch      = refusal(imap.ResponseCodeCannot, "only ciphertext is stored here, so bodies cannot be searched: search on your own device")
	errSearchTooWide   = refusal(imap.ResponseCodeLimit, "search has too many keys")
	errFetchTooWide    = refusal(imap.ResponseCodeLimit, "too many sections in one FETCH")
	errUnknownCTE      = refusal(imap.ResponseCodeUnknownCTE, "content transfer encoding is not known")
	errGone            = refusal("EXPUNGEISSUED", "some of the messages have been expunged")
	errDamaged         = refusal(imap.ResponseCodeCorruption, "a message cannot be read, its mailbox needs the administrator")
	errMailboxName     = refusal(imap.ResponseCodeCannot, "not a valid mailbox name")
	errInbox           = refusal(imap.ResponseCodeCannot, "INBOX cannot be deleted or created")
	errNoMailbox       = refusal(imap.ResponseCodeNonExistent, "no such mailbox")
	errTryCreate       = refusal(imap.ResponseCodeTryCreate, "no such mailbox")
	errMailboxExists   = refusal(imap.ResponseCodeAlreadyExists, "mailbox exists already")
	errChildren        = refusal(imap.ResponseCodeHasChildren, "mailbox has others below it, or may not be removed")
	errSpecialUse      = refusal("USEATTR", "only one of \\Archive, \\Drafts, \\Junk, \\Sent, \\Trash can be given to a mailbox")
	errAuthFailed      = refusal(imap.ResponseCodeAuthenticationFailed, "login or password is wrong")
	errMechanism       = refusal(imap.ResponseCodeCannot, "mechanism is not offered")
	errNeedsTLS        = refusal(imap.ResponseCodePrivacyRequired, "log in over TLS only")
	errAuthorization   = refusal(imap.ResponseCodeAuthorizationFailed, "nobody may act for somebody else")
	errTooManyLogins   = refusal(imap.ResponseCodeLimit, "too many connections of this account")
	errSASL            = error(&errorText{imap.StatusResponseTypeBad, "", "malformed response"})
	errOverQuota       = refusal(imap.ResponseCodeOverQuota, "quota is used up")
	errEmptyMessage    = refusal(imap.ResponseCodeCannot, "a message cannot be empty")
)

// response turns what went wrong into what the client is told: nothing about hosts,
// paths or configuration. The cause of what is not the client's doing goes to the log.
// Every error of a session's method passes through it, so that the engine never sees
// one that is not a status response.
func (s *session) response(what string, err error) error {
	if err == nil {
		return nil
	}
	s.checkAccount() // the engine polls only behind what succeeded
	var (
		ready  *imap.Error
		fixed  *errorText
		refuse *mail.Error
	)
	switch {
	case errors.Is(err, errHungUp):
		s.log.Debug("imap client gone", telemetry.KeyCommand, what)
		return no(imap.ResponseCodeUnavailable, "connection failed")
	case errors.As(err, &ready):
		return ready
	case errors.As(err, &fixed):
		return status(fixed.typ, fixed.code, fixed.text)
	case errors.As(err, &refuse):
		if refuse.Temporary() {
			s.log.Warn("imap command deferred", telemetry.KeyCommand, what, telemetry.KeyError, err)
		}
		return no(deliveryCode(refuse), refuse.Text)
	case errors.As(storeRefusal(err), &fixed):
		return status(fixed.typ, fixed.code, fixed.text)
	case errors.Is(err, context.Canceled):
		return no(imap.ResponseCodeUnavailable, "server is shutting down")
	}
	s.log.Error("imap command failed", telemetry.KeyCommand, what, telemetry.KeyError, err)
	if errors.Is(err, store.ErrDiskFull) {
		return no(imap.ResponseCodeUnavailable, mail.ErrStorageFull.Text)
	}
	return no(imap.ResponseCodeUnavailable, "local error, try again later")
}

// storeRefusal is what a client is told of an error of the store that is not a failure.
func storeRefusal(err error) error {
	switch {
	case errors.Is(err, store.ErrOverQuota):
		return errOverQuota
	case errors.Is(err, store.ErrNotFound):
		return errNoMailbox
	case errors.Is(err, store.ErrExists):
		return errMailboxExists
	case errors.Is(err, store.ErrNotEmpty):
		return errChildren
	case errors.Is(err, store.ErrName):
		return errMailboxName
	case errors.Is(err, store.ErrKeyword):
		return errKeyword
	case errors.Is(err, store.ErrExhausted):
		return errExhausted
	}
	return nil
}

// deliveryCode finds the response code for a refusal of the one door.
func deliveryCode(e *mail.Error) imap.ResponseCode {
	switch {
	case strings.HasSuffix(e.Enhanced, ".2.2"): // RFC 3463: mailbox full, for good or for now
		return imap.ResponseCodeOverQuota
	case e.Enhanced == mail.ErrTooBig.Enhanced:
		return imap.ResponseCodeTooBig
	case e.Temporary():
		return imap.ResponseCodeUnavailable
	}
	return imap.ResponseCodeCannot
}

// loginResponse is response for LOGIN and AUTHENTICATE.
func (s *session) loginResponse(err error) error {
	var throttled *auth.ErrThrottled
	switch {
	case errors.Is(err, auth.ErrRejected):
		err = errAuthFailed
	case errors.As(err, &throttled):
		wait := int(math.Ceil(throttled.Wait.Seconds()))
		err = no(imap.ResponseCodeLimit, fmt.Sprintf("too many failed attempts, try again in %d s", wait))
	case errors.Is(err, auth.ErrMalformed), errors.Is(err, sasl.ErrUnexpectedClientResponse):
		err = errSASL
	}
	return s.response("LOGIN", err)
}
