package keydir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// Lifetimes of answers. What a source says of its own answer counts only where it is
// shorter.
const (
	foundFor   = 24 * time.Hour
	noneFor    = time.Hour
	unknownFor = time.Minute
	// keepVanished is how long a certificate is used on that its source no longer has.
	keepVanished = 30 * 24 * time.Hour
	// lookupDeadline is for all sources of one look-up together.
	lookupDeadline = 5 * time.Second
)

// maxMemory bounds the answers in memory; the store has them all.
const maxMemory = 20_000

// Store is where the directory remembers. *store.Store is one.
type Store interface {
	AccountByAddress(ctx context.Context, key string) (store.Account, error)
	Certificates(ctx context.Context, addressKey string) ([]store.Certificate, error)
	Known(ctx context.Context, addressKey string) (store.Known, error)
	StaleKnown(ctx context.Context, before, askedSince time.Time, limit int) ([]store.Known, error)
	HeldKnown(ctx context.Context) ([]store.Known, error)
	Learn(ctx context.Context, l store.Learned) error
	AuditRows(ctx context.Context, subject string, limit int) ([]store.Audit, error)
}

// Shared is what the nodes of a cluster share and may lose: a cache of answers and the
// right to be the one that asks. Nil is a node alone; cluster.Cluster is one.
type Shared interface {
	Get(ctx context.Context, key string) ([]byte, bool)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
	Invalidate(ctx context.Context, key string)
	Lease(ctx context.Context, key string, ttl time.Duration) (release func(), ok bool)
	Wait(ctx context.Context, key string) bool
}

// Options are what a Directory works with.
type Options struct {
	Store Store
	// Hosted says whether a domain is ours: its addresses are asked of nobody else.
	Hosted func(domain string) bool
	// Sources are asked in this order.
	Sources []Source
	Shared  Shared // nil: a node alone
	// Notify tells a person, once, of a change; nil tells nobody. It must not block.
	Notify  func(Change)
	Now     func() time.Time
	Log     *slog.Logger
	Metrics *telemetry.Metrics
}

// Change is what a person is told, and what the history keeps.
type Change struct {
	Address string    `json:"address"`
	Time    time.Time `json:"time"`
	Rule    Rule      `json:"rule"`
	Source  string    `json:"source"`
	Old     string    `json:"old,omitempty"` // fingerprint
	New     string    `json:"new,omitempty"` // fingerprint
	Held    bool      `json:"held,omitempty"`
}

// Directory answers look-ups. It is safe for concurrent use.
type Directory struct {
	Options

	mu      sync.Mutex
	known   map[string]Answer  // by mail.Address.Key
	flights map[string]*flight // look-ups on their way
	epoch   uint64             // counts Forget calls, so that a stale read is not remembered

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	flying sync.WaitGroup
}

// flight is one look-up that several callers wait for.
type flight struct {
	done   chan struct{}
	answer Answer
}

// New returns a directory.
func New(o Options) *Directory {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = telemetry.Discard()
	}
	if o.Hosted == nil {
		o.Hosted = func(string) bool { return false }
	}
	o.Store = &lanedStore{Store: o.Store}
	d := &Directory{Options: o, known: make(map[string]Answer), flights: make(map[string]*flight)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Close ends the look-ups that are on their way and waits for them, so that the store can
// be closed. What is not remembered by then is Unknown.
func (d *Directory) Close() {
	d.mu.Lock()
	d.cancel()
	d.mu.Unlock()
	d.flying.Wait()
}

// Lookup says whether mail to an address can be encrypted, and with which certificate.
// What is remembered and fresh is answered at once. A certificate that is remembered
// and still usable is answered at once too, and asked for again behind the caller's
// back. Otherwise the sources are asked, once for all who wait, at most until ctx ends:
// then the answer is Unknown.
func (d *Directory) Lookup(ctx context.Context, address mail.Address) Answer {
	if a, ok := d.Remembered(address); ok {
		return a
	}
	key := address.Key()
	now := d.Now()
	a, ok := d.fromMemory(key)
	from := "memory"
	if !ok {
		a, ok = d.fromStore(ctx, address, key)
		from = "store"
	}
	fresh := ok && now.Before(a.FreshUntil) || d.Hosted(address.Domain)
	var f *flight
	if !fresh {
		f = d.join(address, key, d.look)
	}
	if fresh || ok && a.Kind == mail.Found && d.stillUsable(a, now) {
		d.Metrics.KeydirKnown(from, word(a.Kind))
		return a
	}
	select {
	case <-f.done:
		return f.answer
	case <-ctx.Done():
		return Answer{Kind: mail.Unknown, Reason: "the sources did not answer in time", Checked: now}
	}
}

// Remembered is Lookup where that need not wait for anything: what it returns is in memory
// and fresh.
func (d *Directory) Remembered(address mail.Address) (Answer, bool) {
	a, ok := d.fromMemory(address.Key())
	if !ok || !d.Now().Before(a.FreshUntil) && !d.Hosted(address.Domain) {
		return Answer{}, false
	}
	d.Metrics.KeydirKnown("memory", word(a.Kind))
	return a, true
}

// stillUsable says whether a remembered certificate may be used while it is asked for
// again.
func (d *Directory) stillUsable(a Answer, now time.Time) bool {
	_, err := a.Certificates(now)
	return err == nil
}

func (d *Directory) fromMemory(key string) (Answer, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, ok := d.known[key]
	return a, ok
}

// remember puts an answer into memory, unless what it was read from may have changed
// meanwhile.
func (d *Directory) remember(key string, a Answer, epoch uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoch != epoch {
		return
	}
	if len(d.known) >= maxMemory {
		// Any of them: the store answers in its place in microseconds.
		for k := range d.known {
			delete(d.known, k)
			if len(d.known) < maxMemory*9/10 {
				break
			}
		}
	}
	d.known[key] = a
}

func (d *Directory) currentEpoch() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.epoch
}

// Forget drops what is in memory, so that the next look-up asks the store. It is called
// whenever another process may have changed it.
func (d *Directory) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.known)
	d.epoch++
}

// Drop drops one address from memory: another node has learned something.
func (d *Directory) Drop(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, key)
	d.epoch++
}

// Invalidated drops what another node says has changed; an empty key means everything.
func (d *Directory) Invalidated(key string) {
	if address, ok := strings.CutPrefix(key, "answer:"); ok {
		d.Drop(address)
	} else if key == "" {
		d.Forget()
	}
}

// look asks for an address, unless that was done between its caller's look into the
// memory and its turn.
func (d *Directory) look(ctx context.Context, address mail.Address, key string) Answer {
	if a, ok := d.fromMemory(key); ok && d.Now().Before(a.FreshUntil) {
		return a
	}
	return d.ask(ctx, address, key)
}

// join returns the look-up that is on its way for an address, and starts one by find if
// there is none. It goes on when its first caller has gone.
func (d *Directory) join(address mail.Address, key string, find func(context.Context, mail.Address, string) Answer) *flight {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f, ok := d.flights[key]; ok {
		return f
	}
	f := &flight{done: make(chan struct{})}
	if d.ctx.Err() != nil {
		f.answer = Answer{Kind: mail.Unknown, Reason: "the server is stopping", Checked: d.Now()}
		close(f.done)
		return f
	}
	d.flights[key] = f
	d.flying.Go(func() {
		ctx, cancel := context.WithTimeout(d.ctx, lookupDeadline)
		defer cancel()
		f.answer = find(ctx, address, key)
		d.mu.Lock()
		delete(d.flights, key)
		d.mu.Unlock()
		close(f.done)
	})
	return f
}

// fromStore reads what is remembered of an address.
func (d *Directory) fromStore(ctx context.Context, address mail.Address, key string) (Answer, bool) {
	epoch := d.currentEpoch()
	if d.Hosted(address.Domain) {
		a := d.own(ctx, key)
		if a.Kind != mail.Unknown {
			d.remember(key, a, epoch)
		}
		return a, true
	}
	k, err := d.Store.Known(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return Answer{}, false
	}
	if err != nil {
		return Answer{Kind: mail.Unknown, Reason: fmt.Sprintf("read directory: %v", err)}, false
	}
	a, err := d.answerOf(ctx, k)
	if err != nil {
		return Answer{Kind: mail.Unknown, Reason: err.Error()}, false
	}
	d.remember(key, a, epoch)
	return a, true
}

// answerOf makes an answer of a remembered row.
func (d *Directory) answerOf(ctx context.Context, k store.Known) (Answer, error) {
	a := Answer{
		Kind: mail.Answer(k.Kind), Source: k.Source, Trust: Trust(k.Trust), Fingerprint: k.Fingerprint,
		Reason: k.Reason, Checked: k.Checked, FreshUntil: k.FreshUntil,
		Lost: mail.Answer(k.Kind) == mail.None && k.Fingerprint != "", Candidate: k.Candidate,
	}
	if a.Candidate != "" {
		a.Kind, a.Reason = mail.Unknown, "another certificate waits for a decision: postern cert accept or reject"
		return a, nil
	}
	if a.Kind != mail.Found {
		return a, nil
	}
	rows, err := d.Store.Certificates(ctx, k.Address)
	if err != nil {
		return Answer{}, fmt.Errorf("read certificates: %w", err)
	}
	a.parsed = &parsed{}
	for _, row := range rows {
		if row.Fingerprint == k.Fingerprint {
			a.parsed.rows = append(a.parsed.rows, row)
		}
	}
	if len(a.parsed.rows) == 0 {
		return Answer{}, fmt.Errorf("certificate %s is missing", k.Fingerprint)
	}
	return a, nil
}
