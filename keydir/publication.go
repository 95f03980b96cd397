package keydir

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/telemetry"
)

const (
	// listEvery is the least time between two readings of who publishes; after one
	// that took long, listRest times as long as it took.
	listEvery = 100 * time.Millisecond
	listRest  = 10
	listRetry = 5 * time.Second
	// pageLife is how long ready answers are used before they are made again, since
	// certificates expire by themselves.
	pageLife = 10 * time.Minute
	loadTime = 5 * time.Second
	// maxPages and maxPageOctets bound the ready answers in memory.
	maxPages      = 20_000
	maxPageOctets = 16 << 20
)

// Errors of a Publication. errAbsent is for certain; errNotReady is not.
var (
	errAbsent   = errors.New("nothing is published")
	errNotReady = errors.New("who publishes could not be read")
)

// PublishStore is where the accounts' certificates lie. *store.Store is one.
type PublishStore interface {
	Listed(ctx context.Context, each func(store.Listed) error) error
	PublishedCertificates(ctx context.Context, account store.ID) (mail.Address, []store.Certificate, error)
}

// Publication knows what the hosted accounts publish, and keeps ready answers for
// those that are asked for. It is safe for concurrent use.
//
// Who publishes something is known from memory alone, 16 octets for each hash and key
// ID: whether an address that is not found has no account, no certificate, or does
// not want to be found makes no difference in what is done, so none in the time it
// takes either.
type Publication struct {
	store PublishStore
	now   func() time.Time
	log   *slog.Logger
	seed  maphash.Seed

	listing atomic.Pointer[listing] // nil: could not be read yet
	failing atomic.Bool             // the last reading failed
	epoch   atomic.Uint64           // counts Forget calls
	stale   chan struct{}           // capacity 1: there is something to read
	turns   chan struct{}           // a turn to make answers, which costs verifying

	mu     sync.RWMutex
	pages  map[store.ID]*page
	octets int
}

// listing says which accounts publish something, by what they are asked for.
type listing struct {
	hashes []listed // of domain and WKD hash
	keyIDs []listed
}

type listed struct {
	key     uint64
	account store.ID
}

// NewPublication returns a Publication that knows nothing until Run reads who
// publishes. Now and log may be nil.
func NewPublication(s PublishStore, now func() time.Time, log *slog.Logger) *Publication {
	if now == nil {
		now = time.Now
	}
	if log == nil {
		log = telemetry.Discard()
	}
	p := &Publication{
		store: s, now: now, log: log, seed: maphash.MakeSeed(),
		stale: make(chan struct{}, 1), turns: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		pages: make(map[store.ID]*page),
	}
	p.stale <- struct{}{}
	return p
}

// Forget has everything read again. It is called whenever an account or a certificate
// may have changed. From then on no old certificate is given out; a new account is
// found as soon as Run has read the list.
func (p *Publication) Forget() {
	p.epoch.Add(1)
	select {
	case p.stale <- struct{}{}:
	default:
	}
}

// Run reads who publishes, now and after each Forget, until ctx ends.
func (p *Publication) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.stale:
		}
		start := time.Now()
		err := p.read(ctx)
		rest := max(listEvery, listRest*time.Since(start))
		if err != nil && ctx.Err() == nil {
			p.log.Error("list published certificates", telemetry.KeyError, err)
			p.Forget()
			rest = listRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
		}
	}
}

// read reads who publishes.
func (p *Publication) read(ctx context.Context) error {
	next := &listing{}
	var last store.ID
	err := p.store.Listed(ctx, func(l store.Listed) error {
		if l.Account != last {
			last = l.Account
			for _, hash := range hashesOf(l.Address) {
				next.hashes = append(next.hashes, listed{p.hashKey(l.Address.Domain, hash), l.Account})
			}
		}
		if id, ok := keyIDOf(l.Fingerprint); ok {
			next.keyIDs = append(next.keyIDs, listed{id, l.Account})
		}
		return ctx.Err()
	})
	p.failing.Store(err != nil)
	if err != nil {
		return err
	}
	for _, list := range [][]listed{next.hashes, next.keyIDs} {
		slices.SortFunc(list, func(a, b listed) int {
			return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.account, b.account))
		})
	}
	next.hashes, next.keyIDs = slices.Clip(next.hashes), slices.Clip(next.keyIDs)
	p.listing.Store(next)
	return nil
}

// hashesOf returns the WKD hashes that an address is asked for by. Local-parts here do
// not differ by case, but the hash lowers only ASCII.
func hashesOf(a mail.Address) []string {
	hashes := []string{WKDHash(a.Local)}
	if lower := WKDHash(strings.ToLower(a.Local)); lower != hashes[0] {
		hashes = append(hashes, lower)
	}
	return hashes
}

// isHash says whether s has the form of a WKD hash.
func isHash(s string) bool {
	return len(s) == 32 && strings.Trim(s, "ybndrfg8ejkmcpqxot1uwisza345h769") == ""
}

// hashKey is what an account is found by. Two that collide are told apart by their
// pages; nobody can make them collide on purpose, because the seed is secret.
func (p *Publication) hashKey(domain, hash string) uint64 {
	var h maphash.Hash
	h.SetSeed(p.seed)
	h.WriteString(domain)
	h.WriteByte('/')
	h.WriteString(hash)
	return h.Sum64()
}

// keyIDOf is the key ID of a fingerprint (RFC 9580 5.5.4): its last eight octets in
// version 4, its first in version 6.
func keyIDOf(fingerprint string) (uint64, bool) {
	digits := ""
	switch len(fingerprint) {
	case 40:
		digits = fingerprint[24:]
	case 64:
		digits = fingerprint[:16]
	}
	id, err := strconv.ParseUint(digits, 16, 64)
	return id, err == nil
}

// byHash returns the page of the account with this WKD hash. The error is errAbsent if
// there is none, for certain; any other error means that it is not known.
func (p *Publication) byHash(ctx context.Context, domain, hash string) (*page, error) {
	l, err := p.list()
	if err != nil {
		return nil, err
	}
	pages, err := p.find(ctx, l.hashes, p.hashKey(domain, hash), func(page *page) bool {
		return page.address.Domain == domain && slices.Contains(page.hashes, hash)
	})
	if err != nil {
		return nil, err
	}
	return pages[0], nil
}

// byAddress is byHash for an address.
func (p *Publication) byAddress(ctx context.Context, a mail.Address) (*page, error) {
	return p.byHash(ctx, a.Domain, WKDHash(strings.ToLower(a.Local)))
}

// byKeyID returns the pages of all accounts that have a certificate with this key ID.
func (p *Publication) byKeyID(ctx context.Context, id uint64) ([]*page, error) {
	l, err := p.list()
	if err != nil {
		return nil, err
	}
	return p.find(ctx, l.keyIDs, id, func(*page) bool { return true })
}

// list returns the current listing.
func (p *Publication) list() (*listing, error) {
	if l := p.listing.Load(); l != nil {
		return l, nil
	}
	return nil, errNotReady
}

// maxFound bounds the accounts that share a key ID, and so the answer.
const maxFound = 20

// find returns the pages of the accounts listed under a key that match.
func (p *Publication) find(ctx context.Context, list []listed, key uint64, match func(*page) bool) ([]*page, error) {
	var found []*page
	at, _ := slices.BinarySearchFunc(list, key, func(l listed, key uint64) int { return cmp.Compare(l.key, key) })
	for ; at < len(list) && list[at].key == key && len(found) < maxFound; at++ {
		page, err := p.page(ctx, list[at].account)
		if errors.Is(err, errAbsent) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if match(page) {
			found = append(found, page)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	if p.failing.Load() {
		return nil, errNotReady // there may be somebody new
	}
	return nil, errAbsent
}

// page returns the ready answers of an account, made now if need be.
func (p *Publication) page(ctx context.Context, account store.ID) (*page, error) {
	if page := p.ready(account); p.fresh(page) {
		return page.orAbsent()
	}
	select {
	case p.turns <- struct{}{}:
		defer func() { <-p.turns }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to read certificates: %w", context.Cause(ctx))
	}
	old := p.ready(account)
	if p.fresh(old) { // somebody else was faster
		return old.orAbsent()
	}
	// The answer is for all who ask next, so the first one's going does not matter.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTime)
	defer cancel()
	epoch := p.epoch.Load()
	address, rows, err := p.store.PublishedCertificates(ctx, account)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	made := newPage(address, rows, epoch, p.now(), old)
	p.keep(account, made)
	return made.orAbsent()
}

// orAbsent tells a page with nothing on it, of an account that was taken away since
// the list was read, or whose certificates are not for its address.
func (p *page) orAbsent() (*page, error) {
	if len(p.certs) == 0 {
		return nil, errAbsent
	}
	return p, nil
}

func (p *Publication) ready(account store.ID) *page {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.pages[account]
}

func (p *Publication) fresh(page *page) bool {
	return page != nil && page.epoch == p.epoch.Load() && p.now().Before(page.until)
}

func (p *Publication) keep(account store.ID, page *page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(account)
	for id := range p.pages { // any of them, until there is room
		if len(p.pages) < maxPages && p.octets+page.size <= maxPageOctets {
			break
		}
		p.drop(id)
	}
	p.pages[account] = page
	p.octets += page.size
}

func (p *Publication) drop(account store.ID) {
	if old, ok := p.pages[account]; ok {
		p.octets -= old.size
		delete(p.pages, account)
	}
}
