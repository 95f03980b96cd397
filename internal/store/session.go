package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"

	"modernc.org/sqlite"
)

// maxReaders bounds the read-only connections.
const maxReaders = 8

// session is one connection to the database with its prepared statements. It is
// used by one goroutine at a time. Statements run without a cancellable context,
// which would cost a goroutine each: all of them are short, and what reads many
// rows looks at its context between them.
type session struct {
	db       *sql.DB
	conn     *sql.Conn
	classify func(error) error
	fault    func() error // Options.Fault
	stmts    map[string]*sql.Stmt
}

func openSession(ctx context.Context, d dialect, dsn string, fault func() error) (*session, error) {
	connector, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		db.Close()
		return nil, d.classify(err)
	}
	return &session{db: db, conn: conn, classify: d.classify, fault: fault, stmts: map[string]*sql.Stmt{}}, nil
}

func (c *session) close() error {
	for _, st := range c.stmts {
		st.Close()
	}
	c.conn.Close()
	return c.db.Close()
}

// prepare is called for every statement, just before it runs.
func (c *session) prepare(query string) (*sql.Stmt, error) {
	if c.fault != nil {
		if err := c.fault(); err != nil {
			return nil, err
		}
	}
	st, ok := c.stmts[query]
	if ok {
		return st, nil
	}
	st, err := c.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, c.classify(err)
	}
	c.stmts[query] = st
	return st, nil
}

// exec runs a statement and returns how many rows it changed.
func (c *session) exec(query string, args ...any) (int64, error) {
	st, err := c.prepare(query)
	if err != nil {
		return 0, err
	}
	r, err := st.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, c.classify(err)
	}
	return r.RowsAffected()
}

// script runs several statements without arguments.
func (c *session) script(text string) error {
	_, err := c.conn.ExecContext(context.Background(), text)
	return c.classify(err)
}

// get reads one row, or returns ErrNotFound.
func (c *session) get(dest []any, query string, args ...any) error {
	st, err := c.prepare(query)
	if err != nil {
		return err
	}
	if err := st.QueryRowContext(context.Background(), args...).Scan(dest...); err != nil {
		return c.classify(err)
	}
	return nil
}

// scanner is the part of sql.Rows and sql.Row that reads one row.
type scanner interface{ Scan(dest ...any) error }

// each calls row for every row of the result. row returns errStop to end early.
func (c *session) each(row func(scanner) error, query string, args ...any) error {
	st, err := c.prepare(query)
	if err != nil {
		return err
	}
	rows, err := st.QueryContext(context.Background(), args...)
	if err != nil {
		return c.classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows); err == errStop {
			return nil
		} else if err != nil {
			return c.classify(err)
		}
	}
	if err := rows.Err(); err != nil {
		return c.classify(err)
	}
	return nil
}

// errStop ends each.
var errStop = fmt.Errorf("stop")

// readers is the pool of read-only connections. They are opened when needed, and
// the one used last is used next, so that few are.
type readers struct {
	open  func(context.Context) (*session, error)
	slots chan struct{}
	mu    sync.Mutex
	idle  []*session
	done  bool
}

func newReaders(open func(context.Context) (*session, error)) *readers {
	return &readers{open: open, slots: make(chan struct{}, maxReaders)}
}

// do runs f with a connection; f must not keep it.
func (p *readers) do(ctx context.Context, f func(*session) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.slots }()
	c, err := p.get(ctx)
	if err != nil {
		return err
	}
	defer p.put(c)
	return f(c)
}

func (p *readers) get(ctx context.Context) (*session, error) {
	p.mu.Lock()
	if p.done {
		p.mu.Unlock()
		return nil, ErrClosed
	}
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	c, err := p.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open read connection: %w", err)
	}
	return c, nil
}

func (p *readers) put(c *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		c.close()
		return
	}
	p.idle = append(p.idle, c)
}

// close ends the pool; it waits for the readers at work.
func (p *readers) close() error {
	p.mu.Lock()
	p.done = true
	p.mu.Unlock()
	for range maxReaders {
		p.slots <- struct{}{}
	}
	var err error
	for _, c := range p.idle {
		if e := c.close(); err == nil {
			err = e
		}
	}
	p.idle = nil
	for range maxReaders {
		<-p.slots
	}
	return err
}

// snapshot runs f within a transaction that sees one state of the database.
func (p *readers) snapshot(ctx context.Context, begin string, f func(*session) error) error {
	return p.do(ctx, func(c *session) error {
		if _, err := c.exec(begin); err != nil {
			return err
		}
		err := f(c)
		if _, e := c.exec("ROLLBACK"); err == nil {
			err = e
		}
		return err
	})
}
