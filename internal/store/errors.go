package store

import "errors"

// More errors that callers test for.
var (
	// ErrDiskFull: the database could not grow. Nothing was changed; try later.
	ErrDiskFull = errors.New("no space left for the database")
	// ErrIO: the disk under the database failed. Nothing was acknowledged.
	ErrIO = errors.New("database input or output error")
	// ErrBusy: another process held the database for longer than busyTimeout.
	ErrBusy = errors.New("database is locked by another process")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store is closed")
	// ErrNewer: the database was written by a later version of the program.
	ErrNewer = errors.New("database is newer than this program")
	// ErrAccess: the user that runs this may not read and write the database, or make
	// files beside it.
	ErrAccess = errors.New("no permission to read and write the database")
	// ErrDamaged: the file is no database, or one that was damaged.
	ErrDamaged = errors.New("the file is not a database, or is damaged")
	// ErrName: a mailbox cannot have this name.
	ErrName = errors.New("mailbox name is not allowed")
	// ErrKeyword: a keyword is no atom, is too long, or is one too many.
	ErrKeyword = errors.New("keyword is not allowed")
	// ErrInvalid: a message or row that contradicts itself.
	ErrInvalid = errors.New("invalid row")
	// ErrExhausted: the mailbox has no UIDs left, RFC 9051 2.3.1.1.
	ErrExhausted = errors.New("mailbox has no UIDs left")
)

// errConflict is what a broken UNIQUE or PRIMARY KEY constraint becomes.
var errConflict = errors.New("conflicting row")
