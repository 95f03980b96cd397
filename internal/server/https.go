package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"postern/internal/auth"
	"postern/keydir"
)

// Bounds of the web server. What is asked has no body and a short head; what is
// answered is some kilobytes, after at most the time that a look-up takes.
const (
	headTime   = 5 * time.Second // also for the TLS handshake
	readTime   = 10 * time.Second
	writeTime  = 20 * time.Second
	idleTime   = time.Minute
	maxHead    = 8 << 10
	maxStreams = 50 // of one HTTP/2 connection at once
)

// serveHTTPS serves what the accounts publish and the MTA-STS policies, by HTTP/1.1 and HTTP/2.
func (r *Running) serveHTTPS(ctx context.Context, l net.Listener) error {
	return r.serveWeb(ctx, l, "https.listen", func(s *http.Server, l net.Listener) error { return s.ServeTLS(l, "", "") })
}

// serveHKP serves HKP without TLS. The handler sees to it that nothing else is.
func (r *Running) serveHKP(ctx context.Context, l net.Listener) error {
	return r.serveWeb(ctx, l, "https.listen_hkp", (*http.Server).Serve)
}

// serveWeb serves until ctx ends. Then it takes no new requests and lets those in hand
// finish.
func (r *Running) serveWeb(ctx context.Context, l net.Listener, name string, serve func(*http.Server, net.Listener) error) error {
	c := r.gateway.Config.HTTPS
	s := &http.Server{
		Handler: r.withMTASTS(r.publisher()), TLSConfig: r.tls.config(),
		ReadHeaderTimeout: headTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHead, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		// It would tell of every port scan, with the address. What matters is logged
		// by the handler and by gate.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		if s.Shutdown(patience) != nil {
			s.Close()
		}
	})
	err := serve(s, newGate(l, name, c.MaxConnections, c.MaxConnectionsPerIP, r.gateway.Log))
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return errors.Join(err, s.Close())
}

// publisher makes the handler.
func (r *Running) publisher() *keydir.Publisher {
	g, c := r.gateway, r.gateway.Config
	o := keydir.PublishOptions{
		Hostname: c.Hostname, Hosted: g.domains.has, Rate: c.HTTPS.RequestRate, Rates: g.Cluster,
		Users: webUsers{r.users}, Finder: g.Directory, Now: g.now, Log: g.Log, Metrics: g.Metrics,
	}
	if c.HTTPS.Publish {
		o.Publication, o.Submission = g.Publication, g.submissionAddress
	}
	return keydir.NewPublisher(o)
}

// webUsers lets users log in by HTTP with what they log in with by IMAP; failures count
// together.
type webUsers struct{ users *auth.Authenticator }

// Login implements keydir.Users.
func (u webUsers) Login(ctx context.Context, ip netip.Addr, login, password string) error {
	_, err := u.users.Password(ctx, ip, login, password)
	var throttled *auth.ErrThrottled
	switch {
	case errors.As(err, &throttled):
		return &keydir.ErrLoginWait{Wait: throttled.Wait}
	case errors.Is(err, auth.ErrRejected):
		return keydir.ErrLogin
	}
	return err
}
