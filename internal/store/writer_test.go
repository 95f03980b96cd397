package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// stall keeps the writer busy until the returned function is called, so that
// operations gather.
func stall(t *testing.T, s *Store) func() {
	t.Helper()
	started, release := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.write(context.Background(), func(*tx) error {
			close(started)
			<-release
			return nil
		})
	}()
	<-started
	return func() {
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// waiting returns when n operations are in the queue.
func waiting(t *testing.T, s *Store, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.writer.mu.Lock()
		got := len(s.writer.queue)
		s.writer.mu.Unlock()
		if got == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d operations wait, want %d", got, n)
		}
	}
}

func TestGroupSharesOneTransaction(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	a := newAccount(t, s, "alice@example.org")
	goOn := stall(t, s)
	before := s.Stats()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { deliver(t, s, a) })
	}
	waiting(t, s, 50)
	goOn()
	wg.Wait()
	if n := s.Stats().Transactions - before.Transactions; n != 1 {
		t.Errorf("50 deliveries took %d transactions", n)
	}
	if m := mailbox(t, s, a, "INBOX"); m.Messages != 50 || m.UIDNext != 51 || m.ModSeq != 51 {
		t.Errorf("mailbox %+v", m)
	}
}

// TestBadNeighbour puts operations that fail, before and after they have written,
// and one that breaks the connection, into a group with good ones.
func TestBadNeighbour(t *testing.T) {
	t.Parallel()
	failure := errors.New("failure")
	for name, bad := range map[string]func(*tx) error{
		"before writing": func(*tx) error { return failure },
		"after writing": func(t *tx) error {
			if _, err := t.exec(`DELETE FROM entries`); err != nil {
				return err
			}
			return failure
		},
		"after counting": func(t *tx) error {
			for _, b := range t.boxes {
				t.change(b)
				b.count(7, 0, 7)
			}
			t.wrote = true
			return failure
		},
		"transaction ended": func(t *tx) error {
			if _, err := t.exec(`ROLLBACK`); err != nil {
				return err
			}
			return failure
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openTemp(t)
			a := newAccount(t, s, "alice@example.org")
			deliver(t, s, a)
			goOn := stall(t, s)
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					if i%5 == 4 {
						if err := s.write(context.Background(), bad); !errors.Is(err, failure) {
							t.Errorf("error is %v", err)
						}
						return
					}
					deliver(t, s, a)
				})
			}
			waiting(t, s, 20)
			goOn()
			wg.Wait()
			if v := view(t, s, mailbox(t, s, a, "INBOX").ID); len(v.Entries) != 17 || v.Mailbox.Messages != 17 {
				t.Errorf("%d entries, %+v", len(v.Entries), v.Mailbox)
			}
		})
	}
}

func TestContextEndsWhileWaiting(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	a := newAccount(t, s, "alice@example.org")
	goOn := stall(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- second(s.Commit(ctx, Batch{Deliveries: []Delivery{delivery(s, a)}}))
	}()
	waiting(t, s, 1)
	cancel()
	wantError(t, <-done, context.Canceled) // while the writer is still busy
	goOn()
	deliver(t, s, a)
	if m := mailbox(t, s, a, "INBOX"); m.Messages != 1 {
		t.Errorf("an operation that was given up has run: %+v", m)
	}
	// Once begun, its outcome counts, whatever became of the context.
	ctx, cancel = context.WithCancel(context.Background())
	noError(t, s.write(ctx, func(t *tx) error {
		cancel()
		_, err := t.exec(`UPDATE mailboxes SET subscribed = subscribed`)
		return err
	}))
	wantError(t, second(s.Commit(ctx, Batch{})), context.Canceled)
}

// TestDiskFull lets the database not grow: the error says so, everything goes on
// as soon as there is room again, and small operations even before.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := openTemp(t)
	a := newAccount(t, s, "alice@example.org")
	fill(t, s, a, 50)
	limit := func(pages int) {
		t.Helper()
		pragma := fmt.Sprintf("PRAGMA max_page_count = %d", pages)
		noError(t, s.write(ctx, func(t *tx) error {
			open := s.writer.open // a connection that replaces this one has the same limit
			s.writer.open = func(ctx context.Context) (*session, error) {
				c, err := open(ctx)
				if err == nil {
					err = c.script(pragma)
				}
				return c, err
			}
			return t.session.script(pragma)
		}))
	}
	limit(1) // means: as large as it is
	big := func() Batch {
		d := delivery(s, a)
		d.Message.Head = make([]byte, 1<<20)
		d.Message.Size += 1<<20 - int64(len(message(s, a).Head))
		d.Message.Size = int64(len(d.Message.Head)) + d.Message.Blob.Size + int64(len(d.Message.Tail))
		return Batch{Deliveries: []Delivery{d}}
	}
	wantError(t, second(s.Commit(ctx, big())), ErrDiskFull)
	goOn := stall(t, s)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if i == 3 {
				if _, err := s.Commit(ctx, big()); !errors.Is(err, ErrDiskFull) {
					t.Errorf("error is %v", err)
				}
				return
			}
			if _, err := s.CreateMailbox(ctx, a.ID, NewMailbox{Name: fmt.Sprint("small", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	waiting(t, s, 8)
	goOn()
	wg.Wait()
	limit(1 << 30)
	noError(t, second(s.Commit(ctx, big())))
	if m := mailbox(t, s, a, "INBOX"); m.Messages != 51 || m.UIDNext != 52 {
		t.Errorf("mailbox %+v", m)
	}
}

// TestLostConnection closes the write connection under the writer.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	a := newAccount(t, s, "alice@example.org")
	err := s.write(context.Background(), func(t *tx) error { return t.session.close() })
	if err == nil {
		t.Error("commit on a closed connection succeeded")
	}
	deliver(t, s, a)
}

func TestClose(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := openTemp(t)
	a := newAccount(t, s, "alice@example.org")
	goOn := stall(t, s)
	done := make(chan error, 1)
	go func() { done <- second(s.Commit(ctx, Batch{Deliveries: []Delivery{delivery(s, a)}})) }()
	waiting(t, s, 1)
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	goOn()
	noError(t, <-done)
	noError(t, <-closed)
	_, err := s.Commit(ctx, Batch{})
	wantError(t, err, ErrClosed)
	_, err = s.Account(ctx, a.ID)
	wantError(t, err, ErrClosed)
	noError(t, s.Close())
}

func TestNewID(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return at
	}
	m := idMaker{now: clock}
	first := m.next()
	if got := int64(first >> idSequenceBits); got != at.UnixMilli()-idEpoch {
		t.Errorf("id of millisecond %d", got)
	}
	at = at.Add(-time.Hour) // a clock that is set back
	if next := m.next(); next <= first {
		t.Errorf("id %d after %d", next, first)
	}
	var wg sync.WaitGroup
	ids := make([][]ID, 4)
	for w := range ids {
		wg.Go(func() {
			for range 5000 {
				ids[w] = append(ids[w], m.next())
			}
		})
	}
	wg.Wait()
	seen := map[ID]bool{}
	for _, list := range ids {
		for i, id := range list {
			if seen[id] || i > 0 && id <= list[i-1] {
				t.Fatalf("id %d repeats or falls", id)
			}
			seen[id] = true
		}
	}
	// Other processes in the same millisecond begin elsewhere.
	other := idMaker{now: clock}
	third := idMaker{now: clock}
	if other.next() == third.next() {
		t.Error("two makers gave the same first id")
	}
}
