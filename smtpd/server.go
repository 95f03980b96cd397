package smtpd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/mail"
	"postern/internal/telemetry"
)

// The defaults of Options.
const (
	DefaultMaxSize = 50 << 20
	DefaultGrace   = 8 * time.Second
)

// Rates is what this package needs of the cluster: a counter that says whether
// one more event of key fits into limit events per window.
type Rates interface {
	Take(key string, limit int, window time.Duration) bool
}

// Options configures a Server. Only Acceptor and Hostname must be set.
type Options struct {
	// Acceptor is the door every message goes through; without one every
	// transaction is deferred.
	Acceptor mail.Acceptor
	// Hostname is the server's own name in the banner and in EHLO.
	Hostname string
	// PostmasterDomain completes the bare <Postmaster>; empty means Hostname.
	PostmasterDomain string
	// TLS offers STARTTLS; nil does not.
	TLS *tls.Config
	// MaxSize is the size of the largest message in octets; 0 is DefaultMaxSize.
	MaxSize int64
	// Limits bounds what peers may use; its zero value is the defaults.
	Limits Limits
	// Grace is how long a message on its way in may take to finish after the
	// context of Serve is cancelled; 0 is DefaultGrace.
	Grace time.Duration
	// Cluster counts rates; nil counts none.
	Cluster Rates
	// Metrics counts connections, messages and refusals; nil counts nothing.
	Metrics *telemetry.Metrics
	// Log is for events; nil discards them. No mail address is ever logged, and
	// of the peer only the IP address under its own key, which the logger hides.
	Log *slog.Logger
	// NewID names sessions and transactions; nil takes random names.
	NewID func() string
	// Now is the clock for Source.Time and durations; nil is time.Now. Network
	// deadlines always follow the system's clock.
	Now func() time.Time
}

// frontEnd is what tells one SMTP service from another; all of them run on the
// same loop.
type frontEnd struct {
	kind        mail.Kind
	protocol    string // of the banner
	maxEnvelope int    // the longest MAIL and RCPT, in octets without CRLF
	submission  *Submission
}

// Server is an SMTP server. It is safe for concurrent use; several listeners may
// be served at once and share the limits.
type Server struct {
	Options
	front frontEnd
	gate  gate
	small sync.Pool // *connBuffers
	large sync.Pool // *[largeBuffer]byte
}

// New returns the MX server: mail from anybody for recipients the Acceptor knows.
func New(o Options) *Server {
	return newServer(o, frontEnd{kind: mail.KindMX, protocol: "ESMTP", maxEnvelope: maxMailRcpt})
}

func newServer(o Options, front frontEnd) *Server {
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	if o.PostmasterDomain == "" {
		o.PostmasterDomain = o.Hostname
	}
	if o.MaxSize <= 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.Grace <= 0 {
		o.Grace = DefaultGrace
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.NewID == nil {
		o.NewID = rand.Text
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Limits = o.Limits.withDefaults()
	s := &Server{Options: o, front: front}
	s.gate.perIP = make(map[netip.Prefix]int)
	s.small.New = func() any { return new(connBuffers) }
	s.large.New = func() any { return new([largeBuffer]byte) }
	return s
}

// serving is one call of Serve with its connections.
type serving struct {
	*Server
	implicit bool // TLS from the first octet (RFC 8314 3)
	// ctx is for transactions: it outlives the context of Serve by the grace.
	ctx     context.Context
	closing atomic.Bool // no new commands
	cutting atomic.Bool // the grace is over
	ended   sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// Serve accepts connections from l until ctx is cancelled, then closes l, tells
// idle connections 421, lets messages on their way in finish for at most
// Options.Grace, cuts the rest, and returns nil when the last connection has
// ended. Any other error of the listener is returned, after the same steps.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, false)
}

// ServeTLS is Serve for clients that begin with TLS (RFC 8314 3.3). Options.TLS must
// be set.
func (s *Server) ServeTLS(ctx context.Context, l net.Listener) error {
	if s.TLS == nil {
		return errors.New("serve SMTP over TLS: no TLS configuration")
	}
	return s.serve(ctx, l, true)
}

func (s *Server) serve(ctx context.Context, l net.Listener, implicit bool) error {
	txctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	v := &serving{Server: s, implicit: implicit, ctx: txctx, open: make(map[net.Conn]struct{})}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	err := v.accept(ctx, l)
	if stop() {
		l.Close()
	}
	v.drain(cancel)
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("accept connection: %w", err)
}

// accept runs until the listener fails for good.
func (v *serving) accept(ctx context.Context, l net.Listener) error {
	var delay time.Duration
	for {
		nc, err := l.Accept()
		if err == nil {
			delay = 0
			v.admit(nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return err
		}
		var ne net.Error
		if !errors.As(err, &ne) {
			return err
		}
		// Out of descriptors, most likely: what is open goes on, and ends.
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		v.Log.Warn("accept failed", telemetry.KeyError, err, telemetry.KeyDuration, delay)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		}
	}
}

// admit starts a connection, or turns it away before anything is spent on it.
func (v *serving) admit(nc net.Conn) {
	ip := remoteIP(nc)
	if err := v.enter(ip); err != nil {
		v.refuseConn(nc, err)
		return
	}
	v.mu.Lock()
	v.open[nc] = struct{}{}
	v.mu.Unlock()
	v.Metrics.SMTPConnection(1)
	v.ended.Go(func() {
		defer v.leave(nc, ip)
		newConn(v, nc, ip).serve()
	})
}

func (v *serving) leave(nc net.Conn, ip netip.Addr) {
	v.mu.Lock()
	delete(v.open, nc)
	v.mu.Unlock()
	v.gate.leave(v.gateKey(ip))
	v.Metrics.SMTPConnection(-1)
}

// cutTime is what is left for a last reply when the grace is over.
const cutTime = 500 * time.Millisecond

// drain ends all connections; it returns when they have ended. A read that waits
// is woken by a deadline in the past. Every reader sets its deadline first and
// looks at closing and cutting afterwards, so none is missed.
func (v *serving) drain(cancel context.CancelFunc) {
	wake := func(nc net.Conn) { nc.SetReadDeadline(time.Unix(1, 0)) }
	v.closing.Store(true)
	v.each(wake)
	cut := time.AfterFunc(v.Grace, func() {
		cancel()
		v.cutting.Store(true)
		v.each(wake)
	})
	end := time.AfterFunc(v.Grace+cutTime, func() {
		v.each(func(nc net.Conn) { nc.Close() })
	})
	v.ended.Wait()
	cut.Stop()
	end.Stop()
}

func (v *serving) each(f func(net.Conn)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for nc := range v.open {
		f(nc)
	}
}

// remoteIP returns the peer's address; it is invalid if the peer has none.
func remoteIP(nc net.Conn) netip.Addr {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
