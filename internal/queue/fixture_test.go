package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/cluster"
	"postern/internal/deliver"
	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/telemetry"
	"postern/internal/testkit"
)

const original = "From: alice@here.test\r\nMessage-ID: <one@here.test>\r\nSubject: [...]\r\n" +
	"Content-Type: text/plain\r\n\r\nthe canary sings\r\n"

// bed is a queue over a real store, with a carrier and a door that the test plays.
type bed struct {
	t       testing.TB
	clock   *testkit.Clock
	store   *store.Store
	account store.Account
	wakes   *cluster.Memory
	metrics *telemetry.Metrics
	queue   *Queue

	mu       sync.Mutex
	requests []deliver.Request
	answer   func(ctx context.Context, r deliver.Request) []deliver.Result
	decide   func(context.Context, *store.Outgoing, store.OutgoingRcpt) error
	refuse   func(mail.Source, mail.Address) error // of reports
	reports  []handed
}

// handed is a report as it was handed in.
type handed struct {
	source mail.Source
	to     []mail.Address
	text   string
}

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{t: t, clock: testkit.NewClock(), wakes: cluster.NewMemory(nil), metrics: telemetry.NewMetrics()}
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "postern.db"), Now: b.clock.Now})
	noError(t, err)
	t.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	b.store = s
	a, _ := mail.ParseAddress("alice@here.test")
	b.account, err = s.CreateAccount(t.Context(), a, 0, nil)
	noError(t, err)
	b.answer = all(deliver.Result{Status: deliver.Delivered, Code: 250, Host: "mx.there.test", TLS: "TLS1.3"})
	b.queue = New(b.options(s))
	return b
}

func (b *bed) options(s Store) Options {
	return Options{
		Store: s, Carrier: b, Acceptor: b, Wakes: b.wakes, Hostname: "mail.here.test", Owner: "node1",
		Open: func(context.Context, *store.Outgoing) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(original)), nil
		},
		Reconsider: func(ctx context.Context, o *store.Outgoing, r store.OutgoingRcpt) error { return b.decide(ctx, o, r) },
		Size:       func(o *store.Outgoing) int64 { return o.Size },
		Now:        b.clock.Now, Metrics: b.metrics, NewID: func() string { return b.store.NewID().String() },
		Grace: 100 * time.Millisecond,
	}
}

// all answers the same of each recipient.
func all(r deliver.Result) func(context.Context, deliver.Request) []deliver.Result {
	return func(_ context.Context, req deliver.Request) (results []deliver.Result) {
		for range req.Rcpts {
			results = append(results, r)
		}
		return results
	}
}

// Deliver implements Carrier.
func (b *bed) Deliver(ctx context.Context, r deliver.Request) []deliver.Result {
	b.mu.Lock()
	b.requests = append(b.requests, r)
	answer := b.answer
	b.mu.Unlock()
	return answer(ctx, r)
}

func (b *bed) setAnswer(f func(context.Context, deliver.Request) []deliver.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = f
}

// attempts returns how often a domain was tried.
func (b *bed) attempts(domain string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.requests {
		if r.Domain == domain {
			n++
		}
	}
	return n
}

func (b *bed) handed() []handed {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]handed(nil), b.reports...)
}

// Begin implements mail.Acceptor.
func (b *bed) Begin(_ context.Context, source mail.Source) (mail.Transaction, error) {
	return &reporting{bed: b, handed: handed{source: source}}, nil
}

type reporting struct {
	bed *bed
	handed
}

func (r *reporting) Rcpt(_ context.Context, rcpt mail.Rcpt) error {
	r.bed.mu.Lock()
	defer r.bed.mu.Unlock()
	if r.bed.refuse != nil {
		if err := r.bed.refuse(r.source, rcpt.Address); err != nil {
			return err
		}
	}
	r.to = append(r.to, rcpt.Address)
	return nil
}

func (r *reporting) Data(_ context.Context, message io.Reader) (mail.Receipt, error) {
	text, err := io.ReadAll(message)
	r.text = string(text)
	r.bed.mu.Lock()
	defer r.bed.mu.Unlock()
	r.bed.reports = append(r.bed.reports, r.handed)
	return mail.Receipt{}, err
}

func (r *reporting) Abort() {}

// run starts the queue; the function returned ends it, and may be called once more.
func (b *bed) run(q *Queue) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := q.Run(ctx); err != nil {
			b.t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	b.t.Cleanup(stop)
	return stop
}

// until wakes the queue until the condition holds.
func (b *bed) until(what string, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%s: not within 20 s; rows %+v", what, b.rows())
		}
		b.wakes.Wake(Topic)
	}
}

// idle waits until nothing is in hand, so that all that was due has been tried.
func (b *bed) idle() {
	b.t.Helper()
	quiet := 0
	b.until("idle", func() bool {
		if quiet++; len(b.queue.inHand()) > 0 {
			quiet = 0
		}
		for _, r := range b.rows() {
			if !r.OnHold && r.Verdict == store.Undecided && !r.Due.After(b.clock.Now()) && !r.Backoff.After(b.clock.Now()) {
				quiet = 0
			}
		}
		return quiet > 5
	})
}

func (b *bed) rows() (rows []store.Queued) {
	b.t.Helper()
	noError(b.t, b.store.ListOutgoing(context.Background(), store.Selection{All: true}, func(q store.Queued) error {
		rows = append(rows, q)
		return nil
	}))
	return rows
}

// put puts a copy for recipients into the queue; change may be nil.
func (b *bed) put(level mail.Level, change func(*store.Outgoing), rcpts ...string) store.Outgoing {
	b.t.Helper()
	o := b.copyFor(level, change, rcpts...)
	_, err := b.store.Commit(context.Background(), store.Batch{Outgoing: []store.Outgoing{o}})
	noError(b.t, err)
	b.wakes.Wake(Topic)
	return o
}

// copyFor is a copy that is not in the queue yet.
func (b *bed) copyFor(level mail.Level, change func(*store.Outgoing), rcpts ...string) store.Outgoing {
	order, content, answer := mail.Order{Floor: mail.Clear, NoCertificate: level}, mail.ContentClear, mail.None
	if level == mail.Sealed {
		answer = mail.Found
	}
	p := mail.Protect(order, content, answer)
	o := store.Outgoing{ID: b.store.NewID(), Account: b.account.ID, Source: "t1", From: "alice@here.test", Protection: p, Level: level,
		Locked: level != mail.Sealed, Head: []byte(original), Size: int64(len(original)), Body: "7BIT"}
	for _, r := range rcpts {
		_, domain, _ := strings.Cut(r, "@")
		o.Rcpts = append(o.Rcpts, store.OutgoingRcpt{ID: b.store.NewID(), Address: r, Domain: domain})
	}
	if change != nil {
		change(&o)
	}
	return o
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var errTest = errors.New("no certificate")

func notify(n mail.Notify) func(*store.Outgoing) {
	return func(o *store.Outgoing) {
		for i := range o.Rcpts {
			o.Rcpts[i].Notify = n
		}
	}
}

func refusal(code int, enhanced, text string) deliver.Result {
	status := deliver.Failed
	if code < 500 {
		status = deliver.Retry
	}
	return deliver.Result{Status: status, Code: code, Enhanced: enhanced, Text: text, Host: "mx.there.test"}
}

// downtime is what the carrier says of a domain that cannot be reached.
func downtime(domain string) deliver.Result {
	return deliver.Result{Status: deliver.Retry, Code: 451, Enhanced: "4.4.1", Text: fmt.Sprintf("mail server mx.%s cannot be reached", domain), Unreached: true}
}
