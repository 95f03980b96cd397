package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// maxGroup bounds how many operations share one transaction.
const maxGroup = 256

// The states of an operation. Only one of the writer and the caller wins the
// step away from opWaiting.
const (
	opWaiting int32 = iota
	opStarted
	opAbandoned
)

// operation is one write that waits for its transaction.
type operation struct {
	run   func(*tx) error
	state atomic.Int32
	err   error
	done  chan struct{}
}

// writer owns the only write connection. Its goroutine takes all operations that
// wait, runs them in one transaction, and answers them after COMMIT: one fsync
// for all. While it works the next ones gather; a single operation finds the
// writer idle and waits for nobody.
//
// An operation that fails before it has changed anything is left out. If one
// fails later, or the COMMIT does, everything is rolled back and each operation
// runs again in a transaction of its own, so that none is harmed by another.
type writer struct {
	store *Store
	open  func(context.Context) (*session, error)

	mu     sync.Mutex
	queue  []*operation
	closed bool
	wake   chan struct{} // capacity 1
	ended  chan struct{}

	// Used by the goroutine alone, and by release after it ended.
	session *session
	tx      tx
	spare   []*operation

	operations, transactions atomic.Uint64

	// What Changed compares with.
	dataSession *session
	dataVersion int64
}

func newWriter(s *Store, c *session, open func(context.Context) (*session, error)) *writer {
	w := &writer{
		store:   s,
		open:    open,
		wake:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
		session: c,
	}
	w.tx.init(s)
	// A statement that sees the newest state, so that Changed starts from here.
	w.noteVersion()
	go w.loop()
	return w
}

// do runs f in a transaction and returns after it is durable. If ctx ends before
// f was begun, f never runs; after that its outcome is reported in any case.
func (w *writer) do(ctx context.Context, f func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	op := &operation{run: f, done: make(chan struct{})}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return ErrClosed
	}
	w.queue = append(w.queue, op)
	w.mu.Unlock()
	w.operations.Add(1)
	w.signal()
	select {
	case <-op.done:
		return op.err
	case <-ctx.Done():
		if op.state.CompareAndSwap(opWaiting, opAbandoned) {
			return ctx.Err()
		}
		<-op.done
		return op.err
	}
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// close refuses new operations and waits for those in the queue.
func (w *writer) close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
	<-w.ended
	return nil
}

// release closes the connection, after close.
func (w *writer) release() error {
	if w.session == nil {
		return nil
	}
	err := w.session.close()
	w.session = nil
	return err
}

func (w *writer) loop() {
	defer close(w.ended)
	for {
		// Those who were answered a moment ago have one turn to come back, which costs
		// nothing when nobody is there: else they and those who came meanwhile would
		// take turns, in groups of half the size.
		runtime.Gosched()
		group, closed := w.take()
		switch {
		case len(group) > 0:
			w.serve(group)
		case closed:
			return
		default:
			<-w.wake
		}
	}
}

// take returns the operations that wait, at most maxGroup.
func (w *writer) take() (group []*operation, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.queue), maxGroup)
	group = append(w.spare[:0], w.queue[:n]...)
	rest := copy(w.queue, w.queue[n:])
	clear(w.queue[rest:])
	w.queue = w.queue[:rest]
	w.spare = group
	return group, w.closed
}

// serve brings every operation of the group to its end.
func (w *writer) serve(group []*operation) {
	defer clear(group) // nothing stays reachable while the writer is idle
	if err := w.begin(); err != nil {
		for _, op := range group {
			if op.state.CompareAndSwap(opWaiting, opStarted) {
				op.finish(err)
			}
		}
		return
	}
	// Only now: a caller may give up for as long as another process is in the way.
	started := group[:0]
	for _, op := range group {
		if op.state.CompareAndSwap(opWaiting, opStarted) {
			started = append(started, op)
		}
	}
	if err := w.together(started); err != nil {
		w.oneByOne(started, err)
	}
	for _, op := range started {
		close(op.done)
	}
}

func (op *operation) finish(err error) {
	op.err = err
	close(op.done)
}

// together runs the group within the transaction that was begun. An error means
// that nothing of it happened; the outcome of each operation is in op.err.
func (w *writer) together(group []*operation) error {
	for _, op := range group {
		w.tx.wrote = false
		op.err = op.run(&w.tx)
		w.tx.writes = w.tx.writes || w.tx.wrote
		if op.err != nil && w.tx.wrote {
			w.rollback()
			return op.err
		}
	}
	err := w.tx.flush()
	if err == nil {
		_, err = w.session.exec("COMMIT")
	}
	if err != nil {
		w.rollback()
		return fmt.Errorf("commit: %w", err)
	}
	if w.tx.writes {
		w.transactions.Add(1)
	}
	return nil
}

// oneByOne runs each operation in a transaction of its own.
func (w *writer) oneByOne(group []*operation, cause error) {
	if len(group) == 1 {
		group[0].err = cause
		return
	}
	for i, op := range group {
		if op.err = w.begin(); op.err == nil {
			// A new slice of one: its error is that operation's own.
			op.err = firstError(w.together(group[i:i+1]), op)
		}
	}
}

// firstError prefers what ended the transaction to what the operation said.
func firstError(err error, op *operation) error {
	if err != nil {
		return err
	}
	return op.err
}

// begin starts a transaction, on a new connection if the last one was given up.
func (w *writer) begin() error {
	if w.session == nil {
		c, err := w.open(context.Background())
		if err != nil {
			return fmt.Errorf("open write connection: %w", err)
		}
		w.session = c
	}
	if _, err := w.session.exec(w.store.dialect.begin); err != nil {
		if !errors.Is(err, ErrBusy) {
			w.drop()
		}
		return fmt.Errorf("begin transaction: %w", err)
	}
	w.tx.begin(w.session)
	return nil
}

// rollback ends the transaction. SQLite has ended it already after some errors;
// then, or if anything else is wrong, the connection is given up.
func (w *writer) rollback() {
	w.tx.forget()
	if _, err := w.session.exec("ROLLBACK"); err != nil {
		w.drop()
	}
}

func (w *writer) drop() {
	w.session.close()
	w.session = nil
}

// tx is a transaction in the hands of one operation after another. The counters
// of mailboxes, accounts and lanes are read once, changed in memory, and written by
// flush, once for the whole group.
type tx struct {
	*session
	store    *Store
	now      time.Time
	wrote    bool // the operation in hand has changed something
	writes   bool // any operation has
	boxes    map[ID]*boxState
	inboxes  map[ID]*boxState // by account
	accounts map[ID]*accountState
	lanes    map[Lane]*laneState
}

func (t *tx) init(s *Store) {
	t.store = s
	t.boxes = map[ID]*boxState{}
	t.inboxes = map[ID]*boxState{}
	t.accounts = map[ID]*accountState{}
	t.lanes = map[Lane]*laneState{}
}

func (t *tx) begin(c *session) {
	t.forget()
	t.session, t.writes = c, false
	t.now = t.store.now()
}

// exec runs a statement that changes rows.
func (t *tx) exec(query string, args ...any) (int64, error) {
	t.wrote = true
	return t.session.exec(query, args...)
}

// must is exec for a statement that has to find its row.
func (t *tx) must(query string, args ...any) error {
	before := t.wrote
	n, err := t.exec(query, args...)
	if err == nil && n == 0 {
		t.wrote = before
		return ErrNotFound
	}
	return err
}

// changed asks the write connection whether any other one has committed; its own
// commits do not count, and they are all that this process makes.
func (w *writer) changed(ctx context.Context) (bool, error) {
	var changed bool
	err := w.do(ctx, func(*tx) error {
		var err error
		changed, err = w.noteVersion()
		return err
	})
	return changed, err
}

// noteVersion remembers the data version and says whether it differs from the
// last one. A new connection counts from somewhere else, so it says yes.
func (w *writer) noteVersion() (bool, error) {
	var v int64
	if err := w.session.get([]any{&v}, w.store.dialect.version); err != nil {
		return false, err
	}
	changed := v != w.dataVersion || w.session != w.dataSession
	w.dataVersion, w.dataSession = v, w.session
	return changed, nil
}
