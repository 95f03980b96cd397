package mail

import (
	"context"
	"io"
	"net/netip"
	"time"
)

// Kind says by which front end a message comes in.
type Kind uint8

// The kinds of source. The zero value is none of them and is refused.
const (
	KindMX         Kind = iota + 1 // SMTP from anybody, RFC 5321
	KindAppend                     // IMAP APPEND by the mailbox's owner
	KindImport                     // the operator's import of old mail
	KindNotice                     // the gateway's own notice to an account
	KindSubmission                 // SMTP by an account that logged in, RFC 6409
	KindDSN                        // a report on an account's mail by the queue, RFC 3464
)

// Source is what is known of a message before its first byte: the envelope's
// reverse-path and the facts of the connection.
type Source struct {
	Kind Kind
	// ID names the transaction in logs, replies, Received and the provenance.
	ID string
	// From is the reverse-path; the zero value is the null reverse-path.
	From Address
	// RemoteIP is the peer; invalid for sources that are not a network peer.
	RemoteIP netip.Addr
	// Helo is what the peer called itself, already validated.
	Helo string
	// Protocol is the with-protocol-type of Received, RFC 3848: ESMTP, ESMTPS.
	Protocol string
	// TLS is nil on a connection in clear.
	TLS *TLS
	// Size is the declared size in octets (RFC 1870), 0 if not declared.
	Size int64
	// UTF8 is set by SMTPUTF8, RFC 6531.
	UTF8 bool
	// Account is who logged in, for KindSubmission alone.
	Account Address
	// RequireTLS asks for verified TLS on every hop, RFC 8689.
	RequireTLS bool
	// EnvID and Return are the sender's wishes for reports, RFC 3461 4.3 and 4.4: EnvID is
	// decoded xtext, Return is "", "FULL" or "HDRS".
	EnvID, Return string
	// Time is when the transaction began.
	Time time.Time
}

// TLS describes a connection's encryption for trace fields and the provenance.
type TLS struct {
	Version string // "TLS1.3"
	Cipher  string // "TLS_AES_128_GCM_SHA256"
}

// Rcpt is one recipient of a transaction.
type Rcpt struct {
	Address Address
	// Into is set for APPEND and import, which name the mailbox; SMTP leaves it
	// nil and the copy goes to the INBOX.
	Into *Target
	// Notify is when the sender wants a report, RFC 3461 4.1; zero is the default,
	// failure alone.
	Notify Notify
	// Original is the recipient as the sender's system knew it, RFC 3461 4.2, as
	// "rfc822;" and the decoded address; empty if not given.
	Original string
}

// Notify is a set of events that a sender wants to be told of.
type Notify uint8

// The events of RFC 3461 4.1.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// Target is the place and the properties that APPEND and import ask for.
type Target struct {
	Mailbox string
	Flags   []string
	// InternalDate is when the message is said to have arrived; zero means now.
	InternalDate time.Time
}

// Receipt is handed out only after the message is durable.
type Receipt struct {
	// ID is the transaction's.
	ID string
	// Placed has one element per stored copy, in the order of the recipients;
	// a held copy, and one that leaves, has a zero UID.
	Placed []Placed
	// Outcomes say what each recipient gets, in their order; only for KindSubmission.
	Outcomes []Outcome
}

// Outcome is what becomes of one recipient's copy of a submitted message.
type Outcome struct {
	Recipient Address
	Level     Level
	// Reason says in a few words why it is not more: "no certificate".
	Reason string
}

// Placed says where one copy lies.
type Placed struct {
	Account     string
	Mailbox     string
	UIDValidity uint32
	UID         uint32
}

// Acceptor is the one door into the gateway: for MX, submission, IMAP APPEND, import,
// reports and notices alike. Begin may refuse with an *Error.
type Acceptor interface {
	Begin(ctx context.Context, source Source) (Transaction, error)
}

// Transaction is one message on its way in: Rcpt once or more, then Data once.
// It is used by one goroutine. A transaction that is not brought to the end of
// Data must be aborted; Abort after Data does nothing.
type Transaction interface {
	// Rcpt adds a recipient, or returns an *Error for this recipient alone.
	Rcpt(ctx context.Context, r Rcpt) error
	// Data reads the message, CRLF line endings and dots unstuffed, to io.EOF. A nil error
	// means that every copy is on stable storage (P4). Any error means that none
	// is. The reader's own error is returned wrapped.
	Data(ctx context.Context, message io.Reader) (Receipt, error)
	Abort()
}
