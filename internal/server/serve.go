package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"postern/imapd"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/mail"
	"postern/internal/telemetry"
	"postern/smtpd"
)

// grace is how long a message on its way in may take to finish at shutdown. With
// the rest of the work it stays under the 10 s that an operator waits.
const grace = 7 * time.Second

// Addrs are the addresses that a running gateway listens on; nil where a front end is
// switched off.
type Addrs struct {
	MX, Submission, Submissions, IMAP, IMAPS, HTTPS, HKP, HTTP net.Addr
}

// Running is a gateway that serves.
type Running struct {
	Addrs Addrs

	gateway *Gateway
	lock    *os.File // of the data directory; nobody else serves it
	tls     certificates
	users   *auth.Authenticator // one for all front ends: failures count together
	stop    context.CancelFunc
	// stopping is closed when the parts were told to end.
	stopping <-chan struct{}
	ended    sync.WaitGroup
	mu       sync.Mutex
	failed   error
}

// ServeFile runs the gateway that a configuration file describes until ctx ends. SIGHUP
// makes it read the file and the TLS certificate again.
func ServeFile(ctx context.Context, path string, logTo io.Writer) error {
	// Before anything else: the default for SIGHUP is to end the process.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	if err := guardMemory(); err != nil {
		return err
	}
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	log, err := NewLogger(cfg, logTo)
	if err != nil {
		return err
	}
	g, err := Open(ctx, cfg, log)
	if err != nil {
		return err
	}
	r, err := g.Start(ctx)
	if err != nil {
		return errors.Join(err, g.Close())
	}
	for {
		select {
		case <-hangup:
			r.reloadFile(path)
		case <-ctx.Done():
			return r.Stop()
		case <-r.Done():
			return r.Stop()
		}
	}
}

// NewLogger returns the logger that a configuration asks for.
func NewLogger(cfg *config.Config, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	return telemetry.NewLogger(w, cfg.Log.Format, level, cfg.Log.Addresses), nil
}

// Start puts the front ends before the gateway. When it returns without an error all
// ports are open, and stay so until Stop, whatever becomes of ctx. After an error the
// gateway is still open.
func (g *Gateway) Start(ctx context.Context) (*Running, error) {
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Running{gateway: g, stop: cancel, stopping: serving.Done()}
	err := r.lockData()
	if err == nil {
		err = r.tls.load(g.Config.TLS)
	}
	if err == nil {
		g.openRequestKeys(g.Config.Domains)
		err = r.listen(serving)
	}
	if err != nil {
		cancel()
		r.ended.Wait()
		_ = r.lock.Close()
		return nil, err
	}
	r.run("watch", func() error { g.watch(serving); return nil })
	if g.Config.HTTPS.Publish && g.Config.HTTPS.Listen+g.Config.HTTPS.ListenHKP != "" {
		r.run("publication", func() error { g.Publication.Run(serving); return nil })
	}
	if g.Queue != nil {
		r.run("queue", func() error { return g.Queue.Run(serving) })
		r.run("policies", func() error { g.Carrier.RefreshPolicies(serving); return nil })
	}
	r.run("tidy", func() error { g.tidy(serving); return nil })
	r.run("directory", func() error { g.Directory.Run(serving); return nil })
	if g.Autocrypt != nil {
		r.run("autocrypt", func() error { g.Autocrypt.Run(serving); return nil })
	}
	r.run("enrolment", func() error { g.Enrolment.Run(serving); return nil })
	r.run("changes", func() error { g.tellChanges(serving); return nil })
	r.run("expiry", func() error { g.warnOwners(serving); return nil })
	g.Log.Info("serving", telemetry.KeyDomain, g.Config.Hostname)
	return r, nil
}

// errLocked says that another process serves the data.
var errLocked = errors.New("another postern serve is using it")

// lockData keeps a second process from serving the same data: sessions of the one would
// not see what changes in the other, and both would keep house. Commands take no lock.
func (r *Running) lockData() (err error) {
	r.lock, err = lock(filepath.Join(r.gateway.Config.DataDir, "serve.lock"))
	if errors.Is(err, errLocked) {
		return fmt.Errorf("data directory %s: %w: stop that one first", r.gateway.Config.DataDir, errLocked)
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// endpoint is one configured port.
type endpoint struct {
	key, addr string
	at        *net.Addr // where its address is told
	serve     func(context.Context, net.Listener) error
	listener  net.Listener
}

// listen opens every configured port and then serves them: if one cannot be had, no
// client has been answered.
func (r *Running) listen(ctx context.Context) error {
	c := r.gateway.Config
	r.users = r.authenticator()
	door := r.gateway.door()
	mx, submission, imap := smtpd.New(r.smtpOptions(door)), r.submission(door), r.imap()
	ends := []*endpoint{
		{key: "smtp.listen", addr: c.SMTP.Listen, at: &r.Addrs.MX, serve: mx.Serve},
		{key: "submission.listen", addr: c.Submission.Listen, at: &r.Addrs.Submission, serve: submission.Serve},
		{key: "submission.listen_tls", addr: c.Submission.ListenTLS, at: &r.Addrs.Submissions, serve: submission.ServeTLS},
		{key: "imap.listen", addr: c.IMAP.Listen, at: &r.Addrs.IMAP, serve: imap.Serve},
		{key: "imap.listen_tls", addr: c.IMAP.ListenTLS, at: &r.Addrs.IMAPS, serve: imap.ServeTLS},
		{key: "https.listen", addr: c.HTTPS.Listen, at: &r.Addrs.HTTPS, serve: r.serveHTTPS},
		{key: "https.listen_hkp", addr: c.HTTPS.ListenHKP, at: &r.Addrs.HKP, serve: r.serveHKP},
		{key: "http.listen", addr: c.HTTP.Listen, at: &r.Addrs.HTTP, serve: r.gateway.serveHTTP},
	}
	ends = slices.DeleteFunc(ends, func(e *endpoint) bool { return e.addr == "" })
	if err := openAll(ends); err != nil {
		return err
	}
	for _, e := range ends {
		*e.at = e.listener.Addr()
		r.gateway.Log.Info("listening", telemetry.KeyListener, e.key, telemetry.KeyAddr, e.listener.Addr().String())
		r.run(e.key, func() error { return e.serve(ctx, e.listener) })
	}
	return nil
}

// openAll opens all ports or none.
func openAll(ends []*endpoint) (err error) {
	for i, e := range ends {
		if e.listener, err = net.Listen("tcp", e.addr); err == nil {
			continue
		}
		for _, opened := range ends[:i] {
			opened.listener.Close()
		}
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%s: %w: a port below 1024 needs root or CAP_NET_BIND_SERVICE (configs/postern.service gives it)", e.key, err)
		}
		return fmt.Errorf("%s: %w", e.key, err)
	}
	return nil
}

// run runs one part; if it ends with an error the others end too.
func (r *Running) run(name string, part func() error) {
	r.ended.Go(func() {
		if err := part(); err != nil {
			r.mu.Lock()
			r.failed = errors.Join(r.failed, fmt.Errorf("%s: %w", name, err))
			r.mu.Unlock()
			r.gateway.Log.Error("part ended", telemetry.KeyPart, name, telemetry.KeyError, err)
			r.stop()
		}
	})
}

// submission makes the SMTP front end for our users. What they may send is counted by
// account and not by IP address.
func (r *Running) submission(door mail.Acceptor) *smtpd.Server {
	c := r.gateway.Config.Submission
	o := r.smtpOptions(door)
	o.Limits.MessageRate = -1
	return smtpd.NewSubmission(o, smtpd.Submission{
		Auth: r.users, AllowClearLogin: c.AllowClearLogin,
		MessagesPerHour: c.MessagesPerHour, RecipientsPerHour: c.RecipientsPerHour,
	})
}

// smtpOptions are those of the SMTP front ends for other servers and for our users.
func (r *Running) smtpOptions(door mail.Acceptor) smtpd.Options {
	g, c := r.gateway, r.gateway.Config
	return smtpd.Options{
		Acceptor: door, Hostname: c.Hostname, PostmasterDomain: c.Domains[0],
		TLS: r.tls.config(), MaxSize: int64(c.SMTP.MaxMessageSize),
		Limits: smtpd.Limits{
			Connections: c.SMTP.MaxConnections, ConnectionsPerIP: c.SMTP.MaxConnectionsPerIP,
			ConnectionRate: c.SMTP.ConnectionRate, MessageRate: c.SMTP.MessageRate,
			Recipients: c.SMTP.MaxRecipients,
		},
		Grace: grace, Cluster: g.Cluster,
		Metrics: g.Metrics, Log: g.Log, NewID: g.NewID, Now: g.now,
	}
}

// authenticator says who logs in.
func (r *Running) authenticator() *auth.Authenticator {
	g := r.gateway
	return auth.New(auth.Options{
		Directory: &logins{store: g.Store, now: g.now, log: g.Log},
		Secret:    g.Vault.Secret("auth salts"), Certificate: r.tls.leaf, Now: g.now, Log: g.Log,
	})
}

// imap makes the IMAP front end.
func (r *Running) imap() *imapd.Server {
	g, c := r.gateway, r.gateway.Config
	return imapd.New(imapd.Options{
		Store: g.Store, Blobs: g.Blobs, Auth: r.users, Acceptor: g.Bridge, Cluster: g.Cluster,
		TLS: r.tls.config(), MaxSize: int64(c.SMTP.MaxMessageSize),
		AllowClearLogin: c.IMAP.AllowClearLogin,
		Limits: imapd.Limits{
			Connections: c.IMAP.MaxConnections, PerIP: c.IMAP.MaxConnectionsPerIP,
			PerAccount: c.IMAP.MaxConnectionsPerAccount, Grace: grace,
		},
		Metrics: g.Metrics, Log: g.Log, NewID: g.NewID,
	})
}

// Done is closed when the gateway is stopping, be it because a part failed.
func (r *Running) Done() <-chan struct{} { return r.stopping }

// Stop ends the front ends, lets what is in hand finish, and closes everything. It
// returns what made a part fail, if one did.
func (r *Running) Stop() error {
	r.stop()
	r.ended.Wait()
	err := r.gateway.Close()
	_ = r.lock.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.failed, err)
}
