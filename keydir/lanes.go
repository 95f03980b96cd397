package keydir

import (
	"context"
	"strings"
	"sync"

	"postern/internal/store"
)

// laneWidth is how many reads of the store go on at once for one domain. With more, a
// crowd of one domain takes all cores, and everybody else's look-up waits longer.
const laneWidth = 1

// lanes keeps thousands of addresses of one domain, all asked for at once, from standing
// before everybody else where the store is read: each domain waits in a lane of its own.
// The zero value is usable.
type lanes struct {
	mu       sync.Mutex
	byDomain map[string]*lane
}

type lane struct {
	slots chan struct{}
	users int // that are in it or wait for it
}

// do calls f when it is its turn in the lane of an address's domain.
func (l *lanes) do(ctx context.Context, addressKey string, f func() error) error {
	domain := addressKey[strings.LastIndexByte(addressKey, '@')+1:]
	l.mu.Lock()
	x := l.byDomain[domain]
	if x == nil {
		x = &lane{slots: make(chan struct{}, laneWidth)}
		if l.byDomain == nil {
			l.byDomain = make(map[string]*lane)
		}
		l.byDomain[domain] = x
	}
	x.users++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if x.users--; x.users == 0 {
			delete(l.byDomain, domain)
		}
	}()
	select {
	case x.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-x.slots }()
	return f()
}

// lanedStore is a Store whose reads of one address go by lanes.
type lanedStore struct {
	Store
	lanes lanes
}

// Known implements Store.
func (s *lanedStore) Known(ctx context.Context, addressKey string) (k store.Known, err error) {
	err = s.lanes.do(ctx, addressKey, func() error {
		k, err = s.Store.Known(ctx, addressKey)
		return err
	})
	return k, err
}

// Certificates implements Store.
func (s *lanedStore) Certificates(ctx context.Context, addressKey string) (all []store.Certificate, err error) {
	err = s.lanes.do(ctx, addressKey, func() error {
		all, err = s.Store.Certificates(ctx, addressKey)
		return err
	})
	return all, err
}

// lanedPeers is a PeerStore whose reads go by lanes.
type lanedPeers struct {
	PeerStore
	lanes lanes
}

// Peer implements PeerStore.
func (s *lanedPeers) Peer(ctx context.Context, addressKey string) (p store.Peer, err error) {
	err = s.lanes.do(ctx, addressKey, func() error {
		p, err = s.PeerStore.Peer(ctx, addressKey)
		return err
	})
	return p, err
}
