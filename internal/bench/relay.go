package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/emersion/go-smtp"

	"postern/internal/config"
	"postern/internal/store"
)

// relayer takes mail from clients and hands it on to a sink.
type relayer interface {
	connect() (*smtp.Client, error)
	// waiting returns how many messages are in its queue.
	waiting(ctx context.Context) (int, error)
	cpu() (time.Duration, error)
	stop() error
}

// relayTarget is a Postfix that relays everything to the sink. All of it is for one next
// hop: with the limits that Postfix sets by default to what it has open there, and with
// its pause for clients that are faster than it delivers, it would be slower.
const relayTarget = `relayhost = [127.0.0.1]:%d
default_destination_concurrency_limit = 100
initial_destination_concurrency = 100
in_flow_delay = 0
`

// relayVia are the servers that relay to a sink: Postfix, the same with a milter that
// signs, Postern, and Postern without keys to sign with.
func (b *bench) relayVia(k *sink) [4]func(context.Context) (relayer, error) {
	target := fmt.Sprintf(relayTarget, k.port)
	return [...]func(context.Context) (relayer, error){
		func(context.Context) (relayer, error) {
			return b.newPostfix(target, "")
		},
		func(ctx context.Context) (relayer, error) {
			return b.newSigningPostfix(ctx, target)
		},
		func(ctx context.Context) (relayer, error) {
			return b.newRelay(ctx, correspondentDomains*perDomain, "*="+k.addr())
		},
		func(ctx context.Context) (relayer, error) {
			p, err := b.setUpRelay(ctx, correspondentDomains*perDomain, "*="+k.addr())
			if err != nil {
				return nil, err
			}
			if err := os.RemoveAll(filepath.Join(p.config.KeysDir, "dkim")); err != nil {
				return nil, err
			}
			return p, p.start(ctx)
		},
	}
}

// relay measures mail that clients submit and that is carried to a next hop, beside
// Postfix doing the same in clear.
func (b *bench) relay(ctx context.Context) (err error) {
	k, err := startSink(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.stop()) }()
	fmt.Println("| submit and relay | Postfix, clear | Postern, sealed | rate | CPU |")
	fmt.Println("|---|---|---|---|---|")
	l := load{"2 KB, 10 connections", 2000, 10, b.count(20_000)}
	var rates, cpus [4][]float64
	for range b.pairs {
		for i, start := range b.relayVia(k) {
			s, err := start(ctx)
			if err != nil {
				return err
			}
			warm := l
			warm.count = max(l.count/10, l.conns)
			_, err = carried(ctx, s, k, warm)
			var r result
			if err == nil {
				r, err = carried(ctx, s, k, l)
			}
			if err := errors.Join(err, s.stop()); err != nil {
				return err
			}
			rates[i], cpus[i] = append(rates[i], r.rate), append(cpus[i], r.cpu)
		}
	}
	for _, row := range []struct {
		name        string
		theirs, own int
	}{
		{"Postern signs by DKIM, Postfix does not", 0, 2},
		{"both sign", 1, 2},
		{"neither signs", 0, 3},
	} {
		i, j := row.theirs, row.own
		fmt.Printf("| %s, %s | %.0f/s, %.2f ms | %.0f/s, %.2f ms | %.1f × | %.2f × |\n", l.name, row.name,
			median(rates[i]), median(cpus[i]), median(rates[j]), median(cpus[j]),
			median(rates[j])/median(rates[i]), median(cpus[j])/median(cpus[i]))
	}
	fmt.Println()
	return nil
}

// carried sends a load and waits until all of it has arrived and the queue is empty. The
// rate is that from the first submission to the last arrival.
func carried(ctx context.Context, s relayer, k *sink, l load) (result, error) {
	before, _ := k.received()
	waiting, err := s.waiting(ctx) // there may be some that never goes
	if err != nil {
		return result{}, err
	}
	used, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	start := time.Now()
	if err := submit(ctx, l, s.connect); err != nil {
		return result{}, err
	}
	last, err := k.wait(ctx, before+l.count)
	if err != nil {
		return result{}, err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		n, err := s.waiting(ctx)
		if err != nil {
			return result{}, err
		}
		if n <= waiting {
			break
		}
		if time.Now().After(deadline) {
			return result{}, fmt.Errorf("%d messages are still in the queue", n)
		}
	}
	after, err := s.cpu()
	if n, _ := k.received(); n != before+l.count {
		return result{}, fmt.Errorf("%d messages of %d arrived", n-before, l.count)
	}
	return result{
		rate: float64(l.count) / last.Sub(start).Seconds(),
		cpu:  (after - used).Seconds() * 1000 / float64(l.count),
	}, err
}

// relayGateway is a gateway that relays, and its store as another process sees it.
type relayGateway struct {
	*postern
	config *config.Config
	store  *store.Store // nil until start
}

// newRelay starts a gateway that knows n correspondents and has routes.
func (b *bench) newRelay(ctx context.Context, n int, routes ...string) (*relayGateway, error) {
	p, err := b.setUpRelay(ctx, n, routes...)
	if err != nil {
		return nil, err
	}
	return p, p.start(ctx)
}

// setUpRelay is newRelay without the start.
func (b *bench) setUpRelay(ctx context.Context, n int, routes ...string) (*relayGateway, error) {
	p, err := b.setUp(ctx)
	if err != nil {
		return nil, err
	}
	list := ""
	for _, r := range routes {
		list += fmt.Sprintf("%q, ", r)
	}
	if err := configure(p.setup.Config, map[string]string{"routes": "[" + list + "]"}); err != nil {
		return nil, err
	}
	cfg, err := config.Load(p.setup.Config)
	if err != nil {
		return nil, err
	}
	g := &relayGateway{postern: p, config: cfg}
	return g, g.change(ctx, func(s *store.Store) error { return introduce(ctx, s, n) })
}

// change works on the store of a gateway that does not run.
func (g *relayGateway) change(ctx context.Context, f func(*store.Store) error) error {
	s, err := g.openStore(ctx)
	if err != nil {
		return err
	}
	return errors.Join(f(s), s.Close())
}

func (g *relayGateway) openStore(ctx context.Context) (*store.Store, error) {
	return store.Open(ctx, store.Options{Path: filepath.Join(g.config.DataDir, "postern.db")})
}

func (g *relayGateway) start(ctx context.Context) (err error) {
	if err := g.postern.start(ctx); err != nil {
		return err
	}
	g.store, err = g.openStore(ctx)
	return err
}

func (g *relayGateway) waiting(ctx context.Context) (int, error) {
	n, err := g.store.CountOutgoing(ctx)
	return n.Waiting, err
}

func (g *relayGateway) stop() error { return errors.Join(g.store.Close(), g.postern.stop()) }
