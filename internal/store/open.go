package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"
)

// Options says where the database is.
type Options struct {
	// Path is the database file; its directory must exist. Two more files lie
	// beside it while it is open.
	Path string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log may be nil.
	Log *slog.Logger
	// Fault lets tests have the disk fail: it is asked before each statement, and its
	// error is that statement's. It must be safe for concurrent use. Nil fails nothing.
	Fault func() error
}

// Store is the open database. Its methods may be called by any goroutine.
type Store struct {
	dialect dialect
	now     func() time.Time
	log     *slog.Logger
	ids     idMaker
	writer  *writer
	readers *readers
	views   *views

	stop  context.CancelFunc // ends the background work
	after sync.WaitGroup
}

// Open opens the database, creates it if there is none, and brings its schema up
// to date. Several processes may have it open at once. A database that cannot be
// used is refused, with what to do about it: ErrNewer, ErrAccess, ErrDamaged.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w%s", o.Path, err, remedy(err))
	}
	return s, nil
}

// remedy is what somebody can do who reads that a database cannot be opened.
func remedy(err error) string {
	switch {
	case errors.Is(err, ErrNewer):
		return ": run that version of the program, or a later one"
	case errors.Is(err, ErrAccess), errors.Is(err, fs.ErrPermission):
		return ": run this as the user that the server runs as, and make that user the owner of the file, of those beside it and of their directory"
	case errors.Is(err, ErrDamaged):
		return ": put a backup in its place"
	}
	return ""
}

func open(ctx context.Context, o Options) (*Store, error) {
	path, err := createSQLite(o.Path)
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	s := &Store{dialect: sqliteDialect(), now: o.Now, log: o.Log, ids: idMaker{now: o.Now}}
	openWriter := func(ctx context.Context) (*session, error) {
		return openSession(ctx, s.dialect, sqliteDSN(path, false), o.Fault)
	}
	w, err := openPatiently(ctx, openWriter)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	if err := migrate(w, s.dialect, s.now(), s.log); err != nil {
		w.close()
		return nil, err
	}
	s.writer = newWriter(s, w, openWriter)
	s.readers = newReaders(func(ctx context.Context) (*session, error) {
		return openSession(ctx, s.dialect, sqliteDSN(path, true), o.Fault)
	})
	s.views = newViews(viewOctets)
	bg, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.after.Go(func() { s.purgeRemoved(bg) })
	return s, nil
}

// openPatiently opens a connection while another process may be creating the
// same database. Two that switch it to WAL at the same moment wait for each
// other; SQLite then fails one of them at once, whatever busy_timeout says.
func openPatiently(ctx context.Context, open func(context.Context) (*session, error)) (*session, error) {
	deadline := time.Now().Add(busyTimeout * time.Millisecond)
	for {
		c, err := open(ctx)
		if err == nil || !errors.Is(err, ErrBusy) || time.Now().After(deadline) {
			return c, err
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Close waits for the operations in hand and closes the database. Operations
// that come later fail with ErrClosed.
func (s *Store) Close() error {
	s.stop()
	s.after.Wait()
	err := s.writer.close()
	// The write connection goes last: the last one to close writes the log back.
	if e := s.readers.close(); err == nil {
		err = e
	}
	if e := s.writer.release(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// read runs f with a read-only connection.
func (s *Store) read(ctx context.Context, f func(*session) error) error {
	return s.readers.do(ctx, f)
}

// write runs f in a durable transaction. f may run more than once and must set
// all its results anew each time.
func (s *Store) write(ctx context.Context, f func(*tx) error) error {
	return s.writer.do(ctx, f)
}

// Stats are counters since Open.
type Stats struct {
	Operations   uint64 // writes asked for
	Transactions uint64 // durable transactions that served them, one fsync each
}

// Stats returns how many operations shared how many transactions.
func (s *Store) Stats() Stats {
	return Stats{s.writer.operations.Load(), s.writer.transactions.Load()}
}

// Changed reports whether another process has committed since the last call, or
// since Open for the first one.
func (s *Store) Changed(ctx context.Context) (bool, error) {
	changed, err := s.writer.changed(ctx)
	if err != nil {
		return false, fmt.Errorf("ask for the data version: %w", err)
	}
	return changed, nil
}
