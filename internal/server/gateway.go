// Package server puts the parts of the gateway together, starts them and stops them.
// It holds no logic of its own: what it decides is which part gets which other part,
// and when the work is done that nobody waits for.
//
//	gateway.go       the parts without the front ends
//	serve.go         the front ends: start, stop
//	reload.go        SIGHUP: domains, policy and TLS certificate of a running gateway
//	housekeeping.go  what is done from time to time
//	queue.go         mail that leaves
//	enrolment.go     certificates that accounts hand in by mail; wks.go asked for by clients
//	https.go         certificates for everybody; gate.go its connections
//	http.go          /livez, /readyz, /metrics
//	mtasts.go        our domains' MTA-STS policy, and the keys that mail is signed with
//	tls.go           the TLS certificate
//	accounts.go      accounts for package auth
package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"postern/bridge"
	"postern/internal/blob"
	"postern/internal/cluster"
	"postern/internal/config"
	"postern/internal/deliver"
	"postern/internal/dns"
	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/msgauth"
	"postern/internal/queue"
	"postern/internal/store"
	"postern/internal/telemetry"
	"postern/internal/vault"
	"postern/keydir"
	"postern/policy"
)

// spoolMemory is how much memory the messages being worked on may use together.
const spoolMemory = 48 << 20

// Gateway is all the parts but the front ends: what the command line works with, and
// what Start puts the front ends before.
type Gateway struct {
	// Config is what the gateway was opened with. Reload does not change it.
	Config  *config.Config
	Log     *slog.Logger
	Metrics *telemetry.Metrics
	Store   *store.Store
	Blobs   *blob.Files
	Vault   *vault.Vault
	// Signer signs what leaves by DKIM.
	Signer    *msgauth.Signer
	Cluster   cluster.Cluster
	Directory *keydir.Directory
	// Autocrypt learns certificates from mail; nil if it is no configured source.
	Autocrypt *keydir.Autocrypt
	// Enrolment takes the certificates that accounts hand in by mail.
	Enrolment *keydir.Enrolment
	// Publication is what the accounts publish.
	Publication *keydir.Publication
	Resolver    *dns.Resolver
	Bridge      *bridge.Bridge
	// Carrier and Queue are for mail that leaves.
	Carrier *deliver.Carrier
	Queue   *queue.Queue

	requests *vault.Requests

	domains domains
	policy  atomic.Pointer[policy.Policy]
	changes chan keydir.Change // to be told to a person
	now     func() time.Time
}

// Open opens the data of a configured gateway. It listens to nothing.
//
// There has to be a database: where there is none, a disk that is not mounted is more
// likely than a new gateway, and one without accounts would refuse everybody's mail
// for good.
func Open(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Gateway, error) {
	if err := checkOwner(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if _, err := os.Stat(databaseFile(cfg)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no database %s: is its disk mounted? (postern quickstart makes a new gateway)", databaseFile(cfg))
	} else if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("data directory: %w: run this as the user that the server runs as", err)
	} else if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return open(ctx, cfg, log, time.Now)
}

// Create is Open for a new gateway: it makes the data directory and the database. One
// that exists is refused with fs.ErrExist.
func Create(ctx context.Context, cfg *config.Config, log *slog.Logger) (*Gateway, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := checkOwner(filepath.Dir(cfg.DataDir)); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if _, err := os.Stat(databaseFile(cfg)); err == nil {
		return nil, fmt.Errorf("database %s: %w", databaseFile(cfg), fs.ErrExist)
	}
	return open(ctx, cfg, log, time.Now)
}

func databaseFile(cfg *config.Config) string { return filepath.Join(cfg.DataDir, "postern.db") }
func blobsDir(cfg *config.Config) string     { return filepath.Join(cfg.DataDir, "blobs") }

// open opens one part after the other; if one fails those before it are closed.
func open(ctx context.Context, cfg *config.Config, log *slog.Logger, now func() time.Time) (_ *Gateway, err error) {
	g := &Gateway{Config: cfg, Log: log, Metrics: telemetry.NewMetrics(), changes: make(chan keydir.Change, maxChanges), now: now}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Close())
		}
	}()
	rules, err := loadPolicy(cfg)
	if err != nil {
		return nil, err
	}
	g.policy.Store(rules)
	if g.Vault, err = vault.Open(cfg.KeysDir); err != nil {
		return nil, fmt.Errorf("open keys: %w", err)
	}
	keys, err := loadSigning(cfg)
	if err != nil {
		return nil, fmt.Errorf("open keys: %w", err)
	}
	g.Signer = msgauth.NewSigner(keys...)
	g.requests = vault.NewRequests(cfg.KeysDir)
	spool := filepath.Join(cfg.DataDir, "spool")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if g.Store, err = store.Open(ctx, store.Options{Path: databaseFile(cfg), Now: now, Log: log}); err != nil {
		return nil, err
	}
	if g.Blobs, err = blob.OpenFiles(blobsDir(cfg), blob.Options{Now: now, Log: log, Metrics: g.Metrics}); err != nil {
		return nil, fmt.Errorf("open blobs: %w", err)
	}
	if g.Resolver, err = openResolver(cfg, now); err != nil {
		return nil, err
	}
	if g.Cluster, err = g.openCluster(ctx); err != nil {
		return nil, err
	}
	g.domains.set(cfg.Domains)
	g.Autocrypt = g.newAutocrypt()
	if g.Directory, err = g.openDirectory(); err != nil {
		return nil, err
	}
	g.Publication = keydir.NewPublication(g.Store, now, log)
	g.Enrolment = g.newEnrolment()
	g.Bridge = bridge.New(g.bridgeOptions(spool))
	g.Bridge.SetRules(bridgeRules(cfg))
	if err := g.openQueue(g.Bridge); err != nil {
		return nil, err
	}
	return g, nil
}

// OpenResolver opens what a gateway asks the DNS by, for those who need no more of it.
func OpenResolver(cfg *config.Config) (*dns.Resolver, error) { return openResolver(cfg, time.Now) }

func openResolver(cfg *config.Config, now func() time.Time) (*dns.Resolver, error) {
	r, err := dns.New(dns.Options{Servers: orDefault(cfg.DNS.Servers), Validating: orDefault(cfg.DNS.Validating), Now: now})
	if err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	return r, nil
}

// orDefault returns nil, which means the system's name servers, or those of them on
// loopback, where none are configured.
func orDefault(servers []string) []string {
	if len(servers) == 0 {
		return nil
	}
	return servers
}

func (g *Gateway) bridgeOptions(spool string) bridge.Options {
	c := g.Config
	o := bridge.Options{
		Store: g.Store, Blobs: g.Blobs, Directory: g.Directory, Vault: g.Vault,
		Verifier: msgauth.NewVerifier(msgauth.Options{Resolver: g.Resolver, Deadline: time.Duration(c.DNS.Timeout), Now: g.now}),
		LearnOwn: g.Enrolment.Learn,
		Delivered: func(ctx context.Context, c *store.Outgoing, h message.Header) error {
			return g.Queue.Delivered(ctx, c, h)
		},
		Policy: g.Policy, Signer: g.Signer,
		Wake: g.Cluster.Wake, Express: g.express, Hostname: c.Hostname,
		MaxSize: int64(c.SMTP.MaxMessageSize), SpoolDir: spool, SpoolMemory: spoolMemory,
		Now: g.now, Log: g.Log, Metrics: g.Metrics,
	}
	if g.Autocrypt != nil {
		o.Learn = g.Autocrypt.Learn
	}
	return o
}

// bridgeRules are what a configuration says to the bridge and may say anew while it runs.
func bridgeRules(c *config.Config) bridge.Rules {
	var postmaster mail.Address
	if c.Postmaster != "" {
		postmaster, _ = mail.ParseAddress(c.Postmaster) // validated when it was loaded
	}
	return bridge.Rules{
		Domains: c.Domains, Postmaster: postmaster,
		KeepSubject: c.Seal.Subject == "keep", RejectWithoutCertificate: c.Seal.NoCertificate == "reject",
	}
}

// loadPolicy reads the rules for mail that leaves, or returns the built-in ones.
func loadPolicy(c *config.Config) (*policy.Policy, error) {
	if c.Policy.File == "" {
		return policy.Default(), nil
	}
	return policy.Load(c.Policy.File)
}

// Policy returns the rules for mail that leaves as they were loaded last.
func (g *Gateway) Policy() *policy.Policy { return g.policy.Load() }

// NewID returns a new id for transactions and logs.
func (g *Gateway) NewID() string { return g.Store.NewID().String() }

// Close closes all parts that were opened.
func (g *Gateway) Close() error {
	var errs []error
	if g.Carrier != nil {
		g.Carrier.Close()
	}
	if g.Directory != nil {
		g.Directory.Close() // its look-ups need what follows
	}
	if g.Resolver != nil {
		g.Resolver.Close()
	}
	if g.Cluster != nil {
		errs = append(errs, g.Cluster.Close())
	}
	if g.Store != nil {
		errs = append(errs, g.Store.Close())
	}
	if g.Blobs != nil {
		errs = append(errs, g.Blobs.Close())
	}
	return errors.Join(errs...)
}
