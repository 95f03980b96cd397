package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"postern/internal/config"
	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/server"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// Sizes of what is measured, before they are scaled.
const (
	directorySize    = 1_000_000
	directorySamples = 5_000
	slowAddresses    = 10_000
	newDomains       = 50
)

// keydir measures how long the key directory takes to decide, and what it needs. The
// other side of its look-ups, hosts, DNS and Redis, is on the same cores.
func (b *bench) keydir(ctx context.Context) error {
	fmt.Println("| key directory | target | measured |")
	fmt.Println("|---|---|---|")
	for _, part := range []func(context.Context) error{b.decisions, b.sharedDecisions, b.slowDomain, b.manyDomains} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	fmt.Println()
	return ctx.Err()
}

// newConfig sets a gateway up that is not running, with a directory that asks only the
// hosts of w; nil asks nobody who is there.
func (b *bench) newConfig(ctx context.Context, w *web) (*config.Config, string, error) {
	p, err := b.setUp(ctx)
	if err != nil {
		return nil, "", err
	}
	cfg, err := config.Load(p.setup.Config)
	if err != nil {
		return nil, "", err
	}
	cfg.Directory.Sources = []string{"wkd"}
	if w != nil {
		cfg.DNS.Servers, cfg.Directory.CAFile, cfg.Directory.AllowPrivate = []string{w.dns}, w.caFile, true
	}
	return cfg, p.setup.Config, nil
}

// openGateway is newConfig, and opens it in this process.
func (b *bench) openGateway(ctx context.Context, w *web) (*server.Gateway, error) {
	cfg, _, err := b.newConfig(ctx, w)
	if err != nil {
		return nil, err
	}
	return server.Open(ctx, cfg, telemetry.Discard())
}

// decisions measures decisions from memory and from the store, with few certificates in
// it and with many, and how a server starts that has many.
func (b *bench) decisions(ctx context.Context) (err error) {
	cfg, file, err := b.newConfig(ctx, nil)
	if err != nil {
		return err
	}
	g, err := server.Open(ctx, cfg, telemetry.Discard())
	if err != nil {
		return err
	}
	few, many := directorySamples, b.count(directorySize)
	certs, err := someCertificates(64)
	if err != nil {
		return errors.Join(err, g.Close())
	}
	done := 0
	for _, n := range []int{few, max(many, few)} {
		if err := fill(ctx, g.Store, certs, done, n); err != nil {
			return errors.Join(err, g.Close())
		}
		done = n
		memory, times, err := decide(ctx, g, n)
		if err != nil {
			return errors.Join(err, g.Close())
		}
		fmt.Printf("| decision from memory, %s known | 5 µs | %d ns |\n", thousands(n), memory.Nanoseconds())
		fmt.Printf("| decision from the store, %s known | 100 µs | %d µs (p99 %d µs) |\n", thousands(n), at(times, 50).Microseconds(), at(times, 99).Microseconds())
	}
	if err := g.Close(); err != nil {
		return err
	}
	return b.startWith(ctx, file, done)
}

// address is the i-th that is known.
func address(i int) mail.Address {
	return mail.Address{Local: fmt.Sprint("p", i), Domain: fmt.Sprintf("d%d.test", i%50_000)}
}

func someCertificates(n int) ([]*pgp.Certificate, error) {
	certs := make([]*pgp.Certificate, n)
	for i := range certs {
		key, err := pgp.GenerateKey(address(i).String(), time.Now().Add(-time.Minute))
		if err != nil {
			return nil, err
		}
		certs[i] = key.Certificate()
	}
	return certs, nil
}

// fill makes the addresses from..to known. The certificates are real but others' own:
// nobody looks at their user IDs any more.
func fill(ctx context.Context, s *store.Store, certs []*pgp.Certificate, from, to int) error {
	const writers = 512 // as many as two transactions take
	errs := make([]error, writers)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := from + w; i < to && errs[w] == nil; i += writers {
				c := certs[i%len(certs)]
				errs[w] = s.Learn(ctx, knownRow(address(i), c, mail.Found, time.Now(), 24*time.Hour))
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

func knownRow(a mail.Address, c *pgp.Certificate, kind mail.Answer, checked time.Time, fresh time.Duration) store.Learned {
	return store.Learned{
		Known: store.Known{
			Address: a.Key(), Kind: uint8(kind), Source: "wkd", Trust: 3, Fingerprint: c.Fingerprint(),
			Checked: checked, FreshUntil: checked.Add(fresh), Asked: checked,
		},
		Certificates: []store.Certificate{{Address: a.Key(), Fingerprint: c.Fingerprint(), Data: c.Data(), Source: "wkd"}},
	}
}

// decide looks up random addresses of those that are known: one again and again, and
// many that are not in memory.
func decide(ctx context.Context, g *server.Gateway, known int) (memory time.Duration, times []time.Duration, err error) {
	for range directorySamples {
		a := address(rand.IntN(known))
		g.Directory.Drop(a.Key())
		start := time.Now()
		answer := g.Directory.Lookup(ctx, a)
		times = append(times, time.Since(start))
		if answer.Kind != mail.Found {
			return 0, nil, fmt.Errorf("a known address: %s", answer.Reason)
		}
	}
	slices.Sort(times)
	const again = 500_000
	a := address(known - 1)
	start := time.Now()
	for range again {
		if g.Directory.Lookup(ctx, a).Kind != mail.Found {
			return 0, nil, errors.New("a known address is not found")
		}
	}
	return time.Since(start) / again, times, nil
}

// startWith measures how the real program starts on a directory of that size.
func (b *bench) startWith(ctx context.Context, file string, known int) error {
	s, err := b.startOn(ctx, file)
	if err != nil {
		return err
	}
	fmt.Printf("| start with %s known | 2 s | %.2f s |\n", thousands(known), s.took.Seconds())
	fmt.Printf("| resident memory with %s known | 200 MiB | %d MiB (peak %d MiB) |\n", thousands(known), s.rss/mib, s.peak/mib)
	return nil
}

// sharedDecisions measures decisions that another node has made, by Redis. Without
// redis-server it says so.
func (b *bench) sharedDecisions(ctx context.Context) (err error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		fmt.Println("| decision from Redis | p99 400 µs | not measured: no redis-server |")
		return nil
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	redis := exec.Command(program, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", b.dir)
	if err := redis.Start(); err != nil {
		return err
	}
	defer func() {
		_ = redis.Process.Signal(syscall.SIGTERM)
		_ = redis.Wait()
	}()
	if err := waitPort(ctx, fmt.Sprint("127.0.0.1:", port)); err != nil {
		return err
	}
	var nodes [2]*server.Gateway
	keys := ""
	for i := range nodes {
		cfg, _, err := b.newConfig(ctx, nil)
		if err != nil {
			return err
		}
		cfg.Cluster.Driver, cfg.Cluster.URL = "redis", fmt.Sprint("redis://127.0.0.1:", port)
		keys = cmp.Or(keys, cfg.KeysDir)
		cfg.KeysDir = keys
		if nodes[i], err = server.Open(ctx, cfg, telemetry.Discard()); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, nodes[i].Close()) }()
	}
	times, err := askNode(ctx, nodes[0], nodes[1], b.count(directorySamples))
	if err != nil {
		return err
	}
	fmt.Printf("| decision from Redis, by another node | p99 400 µs | %d µs (p99 %d µs) |\n", at(times, 50).Microseconds(), at(times, 99).Microseconds())
	return nil
}

// askNode lets one node know addresses, and looks them up at another whose own answers
// are old. The two have stores of their own, so that the answer can only come by Redis.
func askNode(ctx context.Context, one, other *server.Gateway, n int) (times []time.Duration, err error) {
	certs, err := someCertificates(16)
	if err != nil {
		return nil, err
	}
	for i := range n {
		c := certs[i%len(certs)]
		if err := one.Directory.Pin(ctx, address(i), c); err != nil {
			return nil, err
		}
		if err := other.Store.Learn(ctx, knownRow(address(i), c, mail.Unknown, time.Now().Add(-time.Hour), time.Minute)); err != nil {
			return nil, err
		}
	}
	for i := range n {
		start := time.Now()
		a := other.Directory.Lookup(ctx, address(i))
		times = append(times, time.Since(start))
		if a.Kind != mail.Found {
			return nil, fmt.Errorf("the other node's answer did not come: %s", a.Reason)
		}
	}
	slices.Sort(times)
	return times, nil
}

// slowDomain looks up addresses of quick hosts, first alone, then while ten thousand of
// a slow one are asked for.
func (b *bench) slowDomain(ctx context.Context) (err error) {
	w, err := newWeb(filepath.Join(b.dir, "slow"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.host("slow.test", 1900*time.Millisecond); err != nil {
		return err
	}
	n := b.count(newDomains * 4)
	var addresses []mail.Address
	for i := range 2 * n {
		domain := fmt.Sprintf("quick%d.test", i)
		a := mail.Address{Local: "u", Domain: domain}
		if err := errors.Join(w.host(domain, 0), w.add(a)); err != nil {
			return err
		}
		addresses = append(addresses, a)
	}
	g, err := b.openGateway(ctx, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	alone, err := oneByOne(ctx, g, addresses[:n])
	if err != nil {
		return err
	}
	loading, stop := context.WithCancel(ctx)
	var crowd sync.WaitGroup
	for i := range b.count(slowAddresses) {
		crowd.Go(func() { g.Directory.Lookup(loading, mail.Address{Local: fmt.Sprint("u", i), Domain: "slow.test"}) })
	}
	beside, err := oneByOne(ctx, g, addresses[n:])
	stop()
	crowd.Wait()
	if err != nil {
		return err
	}
	time.Sleep(3 * time.Second) // look-ups go on when nobody waits
	fmt.Printf("| new addresses of quick domains, one by one | | %.1f ms (p99 %.1f ms) |\n", ms(at(alone, 50)), ms(at(alone, 99)))
	fmt.Printf("| the same beside %s of a domain that takes 2 s | 50 ms more | %.1f ms (p99 %.1f ms, at most %.1f ms) |\n",
		thousands(b.count(slowAddresses)), ms(at(beside, 50)), ms(at(beside, 99)), ms(at(beside, 100)))
	return nil
}

// oneByOne looks addresses up that can be found.
func oneByOne(ctx context.Context, g *server.Gateway, addresses []mail.Address) (times []time.Duration, err error) {
	for _, a := range addresses {
		start := time.Now()
		answer := g.Directory.Lookup(ctx, a)
		times = append(times, time.Since(start))
		if answer.Kind != mail.Found {
			return nil, fmt.Errorf("an address of a quick domain: %s", answer.Reason)
		}
	}
	slices.Sort(times)
	return times, nil
}

// manyDomains looks up all recipients of one mail at once: two at each of fifty domains
// that nobody has asked for, each of which takes 300 ms.
func (b *bench) manyDomains(ctx context.Context) error {
	var times []float64
	for run := range b.pairs {
		took, err := b.oneMail(ctx, run)
		if err != nil {
			return err
		}
		times = append(times, took.Seconds())
	}
	fmt.Printf("| 100 recipients of %d new domains that take 300 ms each | 1 s | %.2f s |\n", newDomains, median(times))
	return nil
}

func (b *bench) oneMail(ctx context.Context, run int) (took time.Duration, err error) {
	w, err := newWeb(filepath.Join(b.dir, fmt.Sprint("mail", run)))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	var addresses []mail.Address
	for i := range newDomains {
		domain := fmt.Sprintf("new%d.test", i)
		if err := w.host(domain, 300*time.Millisecond); err != nil {
			return 0, err
		}
		for _, local := range []string{"one", "two"} {
			addresses = append(addresses, mail.Address{Local: local, Domain: domain})
		}
	}
	for _, a := range addresses {
		if err := w.add(a); err != nil {
			return 0, err
		}
	}
	g, err := b.openGateway(ctx, w)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	missing := make([]error, len(addresses))
	var all sync.WaitGroup
	start := time.Now()
	for i, a := range addresses {
		all.Go(func() {
			if answer := g.Directory.Lookup(ctx, a); answer.Kind != mail.Found {
				missing[i] = fmt.Errorf("a recipient: %s", answer.Reason)
			}
		})
	}
	all.Wait()
	return time.Since(start), errors.Join(missing...)
}

// at returns a percentile of sorted times.
func at(sorted []time.Duration, percent int) time.Duration {
	return sorted[min(len(sorted)*percent/100, len(sorted)-1)]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// thousands writes a number for people.
func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
