package keydir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/telemetry"
)

const (
	// maxSightings bounds the messages that wait to be learned from. Each is a few
	// hundred octets and a certificate of at most 7.5 KiB.
	maxSightings = 256
	// maxUnsaved bounds the peers whose times are newer in memory than in the store,
	// and saveEvery the time for which they are.
	maxUnsaved = 1000
	saveEvery  = 5 * time.Minute
	// learnDeadline is for one message, and lastSave for what waits when Run ends.
	learnDeadline = lookupDeadline
	lastSave      = 2 * time.Second
)

// PeerStore is where Autocrypt keeps the state of the peers. *store.Store is one.
type PeerStore interface {
	Peer(ctx context.Context, addressKey string) (store.Peer, error)
	SavePeers(ctx context.Context, peers []store.Peer) error
}

// AutocryptOptions are what an Autocrypt works with.
type AutocryptOptions struct {
	Store PeerStore
	// Hosted says whether a domain is ours: of its addresses nothing is learned.
	Hosted func(domain string) bool
	// Changed is told, after it is durable, that an address has another certificate than
	// before: Directory.Expire, for instance. Nil tells nobody.
	Changed func(context.Context, mail.Address) error
	Now     func() time.Time
	Log     *slog.Logger
}

// Autocrypt learns certificates from mail that comes in (Autocrypt Level 1), and is
// the source of those that it learned. It is safe for concurrent use.
//
// It keeps the standard's state of those peers who ever sent a certificate, by the
// standard's rules. Where it differs:
//
//   - A certificate counts only if it has a user ID for the address, or is of version 6
//     and has none at all, as for every other source. The standard calls user IDs
//     decorative. Any other keydata is as if the field were not there.
//   - Of a peer who never sent a certificate nothing is kept: who writes to our users
//     is nobody's business, and a recommendation needs it only if mail comes in months
//     after it was sent.
//   - There is no gossip. Autocrypt-Gossip counts only within an encrypted payload,
//     and that no server can read.
//
// Learning never delays or fails mail: what cannot be worked off is dropped, and the
// next message of that peer teaches the same.
type Autocrypt struct {
	AutocryptOptions
	sightings chan Sighting
	dropped   atomic.Int64

	// unsaved are states of which the store has all but the newest times. A message
	// that brings nothing new costs no commit then. Run alone uses it.
	unsaved map[string]store.Peer
}

// NewAutocrypt returns the source. It learns while Run runs.
func NewAutocrypt(o AutocryptOptions) *Autocrypt {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = telemetry.Discard()
	}
	if o.Hosted == nil {
		o.Hosted = func(string) bool { return false }
	}
	o.Store = &lanedPeers{PeerStore: o.Store}
	return &Autocrypt{AutocryptOptions: o, sightings: make(chan Sighting, maxSightings), unsaved: make(map[string]store.Peer)}
}

// Name implements Source.
func (*Autocrypt) Name() string { return "autocrypt" }

// Trust implements Source.
func (*Autocrypt) Trust() Trust { return Observed }

// Lookup implements Source. The certificate that was seen last is found however long
// ago that was; Detail says when, for explain.
func (a *Autocrypt) Lookup(ctx context.Context, address mail.Address) (Finding, error) {
	p, err := a.Store.Peer(ctx, address.Key())
	if errors.Is(err, store.ErrNotFound) {
		return Finding{Detail: "no certificate was seen in mail"}, nil
	}
	if err != nil {
		return Finding{}, err
	}
	c, err := seenCertificate(p.KeyData, address)
	if err != nil {
		// It could be read when it was learned.
		return Finding{Detail: "the certificate that was seen in mail cannot be read any more"}, nil
	}
	f := Finding{Certificates: []*pgp.Certificate{c}, Detail: "seen in mail of " + p.KeySeen.Format(time.DateOnly)}
	if (PeerState{LastSeen: p.LastSeen, KeySeen: p.KeySeen}).stale() {
		f.Detail += ", but not in newer mail up to " + p.LastSeen.Format(time.DateOnly)
	}
	return f, nil
}

// Peer returns what Autocrypt knows of an address, for Recommend. Its times may be
// behind by a few minutes.
func (a *Autocrypt) Peer(ctx context.Context, address mail.Address) (PeerState, error) {
	p, err := a.Store.Peer(ctx, address.Key())
	if errors.Is(err, store.ErrNotFound) {
		return PeerState{}, nil
	}
	if err != nil {
		return PeerState{}, err
	}
	c, err := seenCertificate(p.KeyData, address)
	return PeerState{
		Usable:   err == nil && c.UsableFor(pgp.Communication, a.Now()) == nil,
		LastSeen: p.LastSeen, KeySeen: p.KeySeen, Mutual: p.Mutual,
	}, nil
}

// seenCertificate reads keydata and takes out what is not about the address.
func seenCertificate(data []byte, address mail.Address) (*pgp.Certificate, error) {
	if len(data) == 0 || data[0]&0x80 == 0 {
		return nil, errors.New("keydata is not binary OpenPGP")
	}
	certs, err := pgp.ParseCertificates(data)
	if err != nil {
		return nil, err
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("%d certificates instead of one", len(certs))
	}
	return certs[0].Restrict(address.Key(), pgp.AllowNoUserID)
}

// Learn takes note of a message. It returns at once.
func (a *Autocrypt) Learn(s Sighting) {
	select {
	case a.sightings <- s:
	default:
		a.dropped.Add(1)
	}
}

// Run learns until ctx ends, and then what waits already.
func (a *Autocrypt) Run(ctx context.Context) {
	save := time.NewTicker(saveEvery)
	defer save.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case s := <-a.sightings:
			a.learn(ctx, s)
		case <-save.C:
			a.save(ctx)
		}
	}
	a.finish(ctx)
}

// finish works off what waits.
func (a *Autocrypt) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSave)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case s := <-a.sightings:
			a.learn(ctx, s)
		default:
			a.save(ctx)
			return
		}
	}
}

// learn brings the state of one peer up to date. A new certificate or preference is
// saved at once, newer times alone with those of other peers.
func (a *Autocrypt) learn(ctx context.Context, s Sighting) {
	if s.From.IsNull() || a.Hosted(s.From.Domain) {
		return
	}
	// What was begun is ended, also when the gateway stops meanwhile.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), learnDeadline)
	defer cancel()
	key := s.From.Key()
	before, err := a.peer(ctx, key)
	if err != nil {
		a.Log.Warn("learn from mail", telemetry.KeyError, err)
		return
	}
	after := update(before, s)
	another := !bytes.Equal(before.KeyData, after.KeyData)
	if another {
		if _, err := seenCertificate(after.KeyData, s.From); err != nil {
			s.KeyData, another = nil, false
			after = update(before, s)
		}
	}
	switch {
	case len(after.KeyData) == 0:
	case another || before.Mutual != after.Mutual:
		a.keep(ctx, after, another, s.From)
	case !before.KeySeen.Equal(after.KeySeen) || !before.LastSeen.Equal(after.LastSeen):
		if a.unsaved[key] = after; len(a.unsaved) >= maxUnsaved {
			a.save(ctx)
		}
	}
}

// peer returns the state of a peer; nothing known is no error.
func (a *Autocrypt) peer(ctx context.Context, key string) (store.Peer, error) {
	if p, ok := a.unsaved[key]; ok {
		return p, nil
	}
	p, err := a.Store.Peer(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return store.Peer{Address: key}, nil
	}
	return p, err
}

// keep saves a state that brings something new.
func (a *Autocrypt) keep(ctx context.Context, p store.Peer, another bool, address mail.Address) {
	err := a.Store.SavePeers(ctx, []store.Peer{p})
	if err == nil {
		delete(a.unsaved, p.Address)
	}
	if err == nil && another && a.Changed != nil {
		err = a.Changed(ctx, address)
	}
	if err != nil {
		a.Log.Warn("learn from mail", telemetry.KeyError, err)
	}
}

// save saves the times that are only in memory.
func (a *Autocrypt) save(ctx context.Context) {
	if n := a.dropped.Swap(0); n > 0 {
		a.Log.Warn("not learned from mail: too much came at once", telemetry.KeyCount, n)
	}
	if len(a.unsaved) == 0 {
		return
	}
	peers := make([]store.Peer, 0, len(a.unsaved))
	for _, p := range a.unsaved {
		peers = append(peers, p)
	}
	if err := a.Store.SavePeers(ctx, peers); err != nil {
		a.Log.Warn("learn from mail", telemetry.KeyError, err)
	}
	// Saved or not: they are only times, and memory is bounded.
	clear(a.unsaved)
}

// Expire makes the next look-up of an address ask the sources again, because one of
// this trust has something new. An answer from a stronger source stays as it is.
func (d *Directory) Expire(ctx context.Context, address mail.Address, trust Trust) error {
	key := address.Key()
	if d.Hosted(address.Domain) {
		return nil
	}
	if err := d.landed(ctx, key); err != nil {
		return err
	}
	for range 3 {
		k, err := d.Store.Known(ctx, key)
		if errors.Is(err, store.ErrNotFound) {
			return nil // nobody has asked yet
		}
		if err != nil {
			return fmt.Errorf("expire answer: %w", err)
		}
		now := d.Now()
		if mail.Answer(k.Kind) == mail.Found && Trust(k.Trust) > trust || !now.Before(k.FreshUntil) {
			return nil
		}
		k.FreshUntil = now
		err = d.Store.Learn(ctx, store.Learned{Known: k, Was: k.Checked})
		if errors.Is(err, store.ErrExists) {
			continue // asked again meanwhile, perhaps before there was something new
		}
		if err != nil {
			return fmt.Errorf("expire answer: %w", err)
		}
		d.Drop(key)
		if d.Shared != nil {
			d.Shared.Invalidate(ctx, "answer:"+key)
		}
		return nil
	}
	return fmt.Errorf("expire answer: %w", store.ErrExists)
}

// landed waits for a look-up that is on its way: it may have asked before there was
// something new, and would write that down as fresh.
func (d *Directory) landed(ctx context.Context, key string) error {
	d.mu.Lock()
	f := d.flights[key]
	d.mu.Unlock()
	if f == nil {
		return nil
	}
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
