package server

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"postern/internal/config"
	"postern/internal/deliver"
	"postern/internal/queue"
	"postern/internal/store"
)

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
		AllowPrivate: c.AllowPrivate, RootCAs: roots, Now: g.now, Metrics: g.Metrics, Log: g.Log,
	})
	warn := time.Duration(q.WarnAfter)
	if warn == 0 {
		warn = -1
	}
	g.Queue = queue.New(queue.Options{
		Store: g.Store, Carrier: g.Carrier, Open: b.OpenOutgoing, Reconsider: b.Reconsider, Acceptor: g.Bridge, Wakes: g.Cluster,
		Hostname: g.Config.Hostname, Owner: g.node(), Workers: q.Workers, PerDomain: q.PerDomain,
		Schedule: queue.Schedule{
			First: time.Duration(q.RetryFirst), Last: time.Duration(q.RetryLast), GiveUp: time.Duration(q.GiveUpAfter), Warn: warn,
		},
		Grace: grace - time.Second, Now: g.now, Log: g.Log, Metrics: g.Metrics, NewID: g.NewID,
	})
	return nil
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
