package store

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"postern/internal/mail"
)

// Errors that callers test for.
var (
	ErrNotFound    = errors.New("not found")
	ErrExists      = errors.New("already exists")
	ErrOverQuota   = errors.New("over quota")
	ErrUnprotected = errors.New("copy without a protection that may rest") // P3
	ErrNotEmpty    = errors.New("mailbox has children or is protected")
)

// ID names a row. Ids are made in Go, never repeat, and grow with time: 42 bits of
// milliseconds since 2024, then 21 bits that keep ids of one process in order.
type ID int64

// Account is a person's place here.
type Account struct {
	ID      ID
	Address mail.Address
	Quota   int64 // octets; 0 means none is set
	Used    int64 // octets of stored and held messages
	Created time.Time
	// Published says whether its certificates are given to whoever asks for its
	// address; see SetPublished.
	Published bool
}

// Credential is a SCRAM-SHA-256 credential (RFC 5802, RFC 7677); never a password.
type Credential struct {
	ID         ID
	Account    ID
	Label      string
	Human      bool // chosen by a person, so stretched
	Salt       []byte
	Iterations int
	StoredKey  []byte
	ServerKey  []byte
	Created    time.Time
	LastUsed   time.Time // zero: never; kept to the minute
}

// Certificate is an OpenPGP certificate as it was received.
type Certificate struct {
	ID          ID
	Address     string // mail.Address.Key of its owner
	Fingerprint string // upper-case hex
	Data        []byte // the original octets, binary
	Source      string // "operator" until the directory knows more sources
	Added       time.Time
}

// Flags is a set of IMAP system flags.
type Flags uint32

// The system flags of RFC 9051 2.3.2.
const (
	Seen Flags = 1 << iota
	Answered
	Flagged
	Deleted
	Draft
)

// Mailbox is a mailbox with its counters.
type Mailbox struct {
	ID          ID // also its MAILBOXID, RFC 8474
	Account     ID
	Name        string // UTF-8; levels are separated by "/"; INBOX is in capitals
	SpecialUse  string // RFC 6154 attribute such as `\Sent`, or ""
	Subscribed  bool
	UIDValidity uint32
	UIDNext     uint32
	ModSeq      uint64 // HIGHESTMODSEQ, RFC 7162; at least 1
	Messages    uint32
	Unseen      uint32
	Deleted     uint32
	Size        int64 // octets
}

// NewMailbox is what a mailbox is made from.
type NewMailbox struct {
	Name       string
	SpecialUse string
}

// Entry is one message in one mailbox.
type Entry struct {
	UID          uint32
	Flags        Flags
	ModSeq       uint64
	Message      ID     // EMAILID, RFC 8474
	Size         int64  // RFC822.SIZE, octets
	InternalDate int64  // microseconds since 1970
	Keywords     string // sorted, separated by one space, case kept
}

// View is a mailbox at one moment. It is shared and never changed.
type View struct {
	Mailbox Mailbox
	Entries []Entry // by UID
}

// Class says how a stored message came to be protected; it is what a label may claim.
type Class string

// The classes.
const (
	ClassSealed    Class = "sealed"
	ClassEncrypted Class = "encrypted"
	ClassNotice    Class = "notice"
)

// Blob names immutable octets outside the database and what they must hash to.
type Blob struct {
	Ref    string // the blob store's own name for the place
	Size   int64
	Digest [32]byte // SHA-256
}

// Message is one stored message. Its octets are Head, then the blob, then Tail:
// recipients of one message share the blob and differ in the rest.
type Message struct {
	ID      ID
	Account ID
	Class   Class
	Head    []byte // header section, and the part of the body that is this copy's own
	Blob    Blob
	Tail    []byte
	Size    int64 // of the whole
	// Envelope and Structure are what ENVELOPE and BODYSTRUCTURE need, in the
	// encoding of package message; the store does not look inside.
	Envelope  []byte
	Structure []byte
}

// Columns selects what Messages loads besides ID, Account, Class and Size.
type Columns uint8

// The selectable columns.
const (
	WantHead Columns = 1 << iota
	WantEnvelope
	WantStructure
	WantBody // Head, Blob and Tail
)

// Delivery places one message in one mailbox.
type Delivery struct {
	Message      *Message // ID, Account and all content set by the caller
	Protection   mail.Protection
	Mailbox      ID // zero: the account's INBOX
	Flags        Flags
	Keywords     []string
	InternalDate time.Time
}

// Held is a copy that waits for its owner's certificate, sealed to the gateway.
type Held struct {
	ID      ID
	Account ID
	Message *Message // its octets are OpenPGP to the gateway's hold certificate
	Reason  string   // "no certificate", "expired", ...
	// Facts is what sealing needs when the certificate comes, in the bridge's encoding.
	Facts        []byte
	Protection   mail.Protection
	Mailbox      ID
	Flags        Flags
	Keywords     []string
	InternalDate time.Time
}

// Outgoing is a copy that waits to be carried to its next hops, RFC 5321 4.5.4. Its
// octets are Head, the blob, and Tail, as those of a Message.
type Outgoing struct {
	ID      ID
	Account ID     // the sender's
	Source  string // the transaction it came by
	From    string // reverse-path; empty is the null reverse-path
	// Protection is what was decided; Level is what of it is kept.
	Protection mail.Protection
	Level      mail.Level
	Head       []byte
	Blob       Blob
	Tail       []byte
	// Size is that of what is stored, in octets.
	Size int64
	// Locked says that what is stored is not the copy itself, but encrypted with a key of
	// the gateway: so is everything weaker than Sealed, and what is Held.
	Locked bool
	// Body is "7BIT" or "8BITMIME" (RFC 6152); UTF8 says that the copy needs SMTPUTF8.
	Body       string
	UTF8       bool
	RequireTLS bool
	EnvID      string // RFC 3461
	Return     string // "", "FULL", "HDRS"
	// Facts is what deciding a Held copy anew needs, in the bridge's encoding.
	Facts   []byte
	Created time.Time
	Rcpts   []OutgoingRcpt
}

// OutgoingRcpt is one recipient of an Outgoing: what is retried and reported by itself.
type OutgoingRcpt struct {
	ID       ID
	Address  string // as it is given to the next hop
	Domain   string // in lower case with A-labels, or an address literal
	Notify   mail.Notify
	Original string // RFC 3461 ORCPT, decoded
}

// Audit is one line of the record of decisions and changes.
type Audit struct {
	Time    time.Time
	Kind    string // "deliver", "hold", "certificate", ...
	Subject string // an id or an address
	Detail  string
}

// Batch is what is committed together: all of it or nothing.
type Batch struct {
	Deliveries []Delivery
	Hold       []Held
	Release    []ID // held copies that Deliveries replace
	Outgoing   []Outgoing
	// Replaced are recipients of the queue whose Held copy Deliveries or Outgoing replace.
	Replaced  []ID
	Exchanges []Exchange
	Audit     []Audit
	// Overshoot lets an account whose quota is not used up yet go over it with this
	// batch: its recipient was accepted, and must not refuse the others' mail.
	Overshoot bool
}

// Placed says where a delivery went.
type Placed struct {
	Mailbox     ID
	Name        string
	UIDValidity uint32
	UID         uint32
}

// Range is a range of UIDs, both ends included.
type Range struct{ Lo, Hi uint32 }

// FlagOp is how SetFlags changes flags.
type FlagOp uint8

// The flag operations of STORE.
const (
	FlagsReplace FlagOp = iota
	FlagsAdd
	FlagsRemove
)

// Copied is the COPYUID of RFC 4315: Src[i] became Dst[i].
type Copied struct {
	UIDValidity uint32
	Src, Dst    []uint32
}

// BlobOpener opens the octets of a blob. blob.Store is one.
type BlobOpener interface {
	Open(ctx context.Context, ref string) (BlobReader, error)
}

// BlobReader reads a blob; several goroutines may call ReadAt. It is an alias so
// that a blob store need not know this package to return one.
type BlobReader = interface {
	io.ReaderAt
	io.Closer
}

// Topic is the name under which changes of a mailbox are announced to the sessions
// that look at it.
func (id ID) Topic() string { return "mailbox:" + strconv.FormatInt(int64(id), 10) }

func (id ID) String() string { return strconv.FormatInt(int64(id), 36) }
