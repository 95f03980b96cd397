package mail

import (
	"errors"
	"fmt"
)

// Error is a refusal that the peer may read. Public text and private cause are
// two fields: the peer never learns of paths, hosts or configuration.
type Error struct {
	// Code is the SMTP reply code, 4xx to try again, 5xx for good.
	Code int
	// Enhanced is the enhanced status code of RFC 3463, "5.1.1".
	Enhanced string
	// Text is one line for the peer that says what to do.
	Text string
	// Cause is for the log alone; it may be nil.
	Cause error
}

// Refuse returns an Error without a cause.
func Refuse(code int, enhanced, text string) *Error {
	return &Error{Code: code, Enhanced: enhanced, Text: text}
}

// Because returns a copy of e with its cause set.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%d %s %s: %v", e.Code, e.Enhanced, e.Text, e.Cause)
	}
	return fmt.Sprintf("%d %s %s", e.Code, e.Enhanced, e.Text)
}

func (e *Error) Unwrap() error { return e.Cause }

// Temporary says whether the same message may succeed later.
func (e *Error) Temporary() bool { return e.Code < 500 }

// AsError returns the Error in err's chain, or a bare 451 4.3.0 that keeps err as
// its cause: what is not understood is deferred, never lost and never explained
// to the peer.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: 451, Enhanced: "4.3.0", Text: "local error, try again later", Cause: err}
}

// The refusals that more than one room gives.
var (
	ErrNoSuchUser   = Refuse(550, "5.1.1", "no such recipient here")
	ErrOverQuota    = Refuse(552, "5.2.2", "mailbox is full")
	ErrTooBig       = Refuse(552, "5.3.4", "message is larger than this server accepts")
	ErrStorageFull  = Refuse(452, "4.3.1", "insufficient storage, try again later")
	ErrNoRecipients = Refuse(554, "5.5.1", "no valid recipients")
	ErrLineEnding   = Refuse(550, "5.5.2", "bare CR or LF is not allowed, RFC 5321 2.3.8")
	ErrNUL          = Refuse(550, "5.6.0", "NUL is not allowed in a message, RFC 5322 4")
)
