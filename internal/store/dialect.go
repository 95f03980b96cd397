package store

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// busyTimeout is how long a write waits for another process, in milliseconds.
const busyTimeout = 15000

// Cache sizes in KiB. The system's page cache holds the file anyway; these only
// save system calls, and an idle gateway is to stay small.
const (
	writeCache = 4096
	readCache  = 512
)

// walPages is the size of the write-ahead log, in pages of 4 KiB, at which it is
// written back into the database and begun anew. That costs two more fsyncs and
// a pause of some milliseconds, but a log that grows makes each fsync dearer:
// from 1,000 to 16,000 pages, 1,000 and 2,000 measured best with 10 writers and
// with 64.
const walPages = 2000

// dialect is what differs between databases.
type dialect struct {
	// types replaces the placeholders of the migration files.
	types *strings.Replacer
	// begin starts a transaction that writes, beginRead one that reads a
	// consistent state.
	begin, beginRead string
	// classify adds the sentinel that an error of the driver stands for.
	classify func(error) error
	// version returns a number that changes when another process commits.
	version string
	// verify lists statements whose rows, other than "ok", are damage.
	verify []string
}

func sqliteDialect() dialect {
	return dialect{
		types: strings.NewReplacer("{id}", "INTEGER", "{blob}", "BLOB",
			"{clustered}", "WITHOUT ROWID"),
		begin:     "BEGIN IMMEDIATE",
		beginRead: "BEGIN",
		classify:  classifySQLite,
		version:   "PRAGMA data_version",
		verify:    []string{"PRAGMA integrity_check(20)", "PRAGMA foreign_key_check"},
	}
}

// classifySQLite maps result codes, https://www.sqlite.org/rescode.html.
func classifySQLite(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case sqlite3.SQLITE_IOERR:
		return fmt.Errorf("%w: %w", ErrIO, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w: %w", ErrBusy, err)
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM:
		return fmt.Errorf("%w: %w", ErrAccess, err)
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case sqlite3.SQLITE_CONSTRAINT:
		switch e.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
			sqlite3.SQLITE_CONSTRAINT_ROWID:
			return fmt.Errorf("%w: %w", errConflict, err)
		}
	}
	return err
}

// sqliteDSN returns the data source name of a connection. secure_delete=FAST
// wipes what is deleted from pages that are written anyway; temp_store keeps
// sorting off the disk.
func sqliteDSN(path string, readOnly bool) string {
	q := url.Values{}
	pragma := func(name, value string) { q.Add("_pragma", name+"("+value+")") }
	pragma("busy_timeout", strconv.Itoa(busyTimeout))
	pragma("foreign_keys", "ON")
	pragma("temp_store", "MEMORY")
	pragma("trusted_schema", "OFF")
	cache := readCache
	if readOnly {
		pragma("query_only", "ON")
	} else {
		cache = writeCache
		pragma("journal_mode", "WAL")
		pragma("synchronous", "FULL")
		pragma("secure_delete", "FAST")
		pragma("wal_autocheckpoint", strconv.Itoa(walPages))
		pragma("journal_size_limit", strconv.Itoa(16<<20))
	}
	pragma("cache_size", strconv.Itoa(-cache))
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// createSQLite makes an empty database file that only its owner can read; the
// log and the shared memory take over its mode. A file that exists is left
// alone: closing any descriptor of it would drop the locks of this process.
func createSQLite(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrExist) {
		return path, nil
	}
	if err != nil {
		return "", err
	}
	return path, f.Close()
}
