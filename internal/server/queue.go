package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"postern/internal/config"
	"postern/internal/deliver"
	"postern/internal/queue"
	"postern/internal/store"
	"postern/internal/vault"
)

// maxHeld is how long a copy that waits for a certificate is left alone at most, before it
// is decided anew.
const maxHeld = 5 * time.Minute

// opener is what the queue needs of the bridge besides its door.
type opener interface {
	OpenOutgoing(context.Context, *store.Outgoing) (io.ReadCloser, error)
	Reconsider(context.Context, *store.Outgoing, store.OutgoingRcpt) error
}

// openQueue makes the carrier and the queue. Neither does anything until Start.
func (g *Gateway) openQueue(b opener) error {
	roots, err := rootCAs(g.Config.Delivery.CAFile)
	if err != nil {
		return fmt.Errorf("delivery: %w", err)
	}
	c, q := g.Config.Delivery, g.Config.Queue
	g.Carrier = deliver.New(deliver.Options{
		Hostname: g.Config.Hostname, Resolver: g.Resolver, Routes: routes(c.Routes), Port: uint16(c.Port), PolicyPort: uint16(c.PolicyPort),
		AllowPrivate: c.AllowPrivate, RootCAs: roots, Policies: policies{g.Store}, Now: g.now, Metrics: g.Metrics, Log: g.Log,
	})
	warn := time.Duration(q.WarnAfter)
	if warn == 0 {
		warn = -1
	}
	g.Queue = queue.New(queue.Options{
		Store: g.Store, Carrier: g.Carrier, Open: b.OpenOutgoing, Size: size, Reconsider: b.Reconsider, Acceptor: g.Bridge, Wakes: g.Cluster,
		Hostname: g.Config.Hostname, Owner: g.node(), Workers: q.Workers, PerDomain: q.PerDomain,
		Schedule: queue.Schedule{
			First: time.Duration(q.RetryFirst), Last: time.Duration(q.RetryLast), GiveUp: time.Duration(q.GiveUpAfter), Warn: warn,
			Held: min(time.Duration(q.RetryFirst), maxHeld),
		},
		Grace: grace - time.Second, Now: g.now, Log: g.Log, Metrics: g.Metrics, NewID: g.NewID,
	})
	return nil
}

// size is that of a copy as it leaves.
func size(o *store.Outgoing) int64 {
	if o.Locked {
		return vault.UnlockedSize(o.Size)
	}
	return o.Size
}

// policies keeps other domains' MTA-STS policies in the store. It is a deliver.Cache.
type policies struct{ store *store.Store }

// Load implements deliver.Cache.
func (p policies) Load(ctx context.Context, domain string) (deliver.Policy, bool, error) {
	kept, err := p.store.STSPolicy(ctx, domain)
	if errors.Is(err, store.ErrNotFound) {
		return deliver.Policy{}, false, nil
	}
	return deliver.Policy(kept), err == nil, err
}

// Save implements deliver.Cache.
func (p policies) Save(ctx context.Context, domain string, kept deliver.Policy) error {
	return p.store.PutSTSPolicy(ctx, domain, store.STSPolicy(kept))
}

// Due implements deliver.Cache.
func (p policies) Due(ctx context.Context, now, since time.Time, limit int) ([]string, error) {
	return p.store.DueSTSPolicies(ctx, now, since, limit)
}

// express hands what leaves to the queue.
func (g *Gateway) express(lanes []store.Lane, commit func(store.Express) ([]store.Group, error)) error {
	return g.Queue.Express(lanes, commit)
}

// node is a name that this gateway has again after it was restarted, and no other has.
func (g *Gateway) node() string {
	host, err := os.Hostname()
	if err != nil {
		host = g.Config.Hostname
	}
	return host + ":" + g.Config.DataDir
}

func routes(configured []string) (all []deliver.Route) {
	for _, s := range configured {
		r, err := config.ParseRoute(s)
		if err != nil {
			continue // validated when it was loaded
		}
		all = append(all, deliver.Route{Domain: r.Domain, Host: r.Host, Port: r.Port})
	}
	return all
}
