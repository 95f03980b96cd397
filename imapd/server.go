package imapd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postern/internal/auth"
	"postern/internal/cluster"
	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// Store is what this package needs of the store; *store.Store is one.
type Store interface {
	AccountByAddress(ctx context.Context, key string) (store.Account, error)
	Account(ctx context.Context, id store.ID) (store.Account, error)
	Mailboxes(ctx context.Context, account store.ID) ([]store.Mailbox, error)
	MailboxByName(ctx context.Context, account store.ID, name string) (store.Mailbox, error)
	CreateMailbox(ctx context.Context, account store.ID, m store.NewMailbox) (store.Mailbox, error)
	RenameMailbox(ctx context.Context, account store.ID, from, to string) error
	DeleteMailbox(ctx context.Context, account store.ID, name string) error
	Subscribe(ctx context.Context, account store.ID, name string, on bool) error
	View(ctx context.Context, mailbox store.ID) (*store.View, error)
	Messages(ctx context.Context, mailbox store.ID, r []store.Range, want store.Columns, each func(uid uint32, m *store.Message) error) error
	SetFlags(ctx context.Context, mailbox store.ID, uids []store.Range, op store.FlagOp, f store.Flags, keywords []string, unchangedSince uint64) ([]uint32, error)
	Expunge(ctx context.Context, mailbox store.ID, uids []store.Range) ([]uint32, error)
	Copy(ctx context.Context, from store.ID, uids []store.Range, to store.ID) (store.Copied, error)
	Move(ctx context.Context, from store.ID, uids []store.Range, to store.ID) (store.Copied, error)
}

// Limits bound what clients may use. A zero field gets its default.
type Limits struct {
	Connections int           // of all clients; default 2000
	PerIP       int           // of one IPv4 address or IPv6 /64; default 100
	PerAccount  int           // logged in to one account; default 16
	Handshake   time.Duration // of TLS; default 30 s
	LoginTime   time.Duration // from the greeting to the end of the login; default 2 min
	IdleTime    time.Duration // between commands, and in IDLE; default 35 min (RFC 9051 5.4: at least 30)
	StallTime   time.Duration // without an octet moving within a command or a response; default 2 min
	Grace       time.Duration // for commands in hand when the server stops; default 8 s
}

func (l Limits) withDefaults() Limits {
	number := func(n *int, def int) {
		if *n == 0 {
			*n = def
		}
	}
	span := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	number(&l.Connections, 2000)
	number(&l.PerIP, 100)
	number(&l.PerAccount, 16)
	span(&l.Handshake, 30*time.Second)
	span(&l.LoginTime, 2*time.Minute)
	span(&l.IdleTime, 35*time.Minute)
	span(&l.StallTime, 2*time.Minute)
	span(&l.Grace, 8*time.Second)
	return l
}

// Options is what a Server is made from. Store, Blobs, Auth, Acceptor, Cluster and
// NewID are required.
type Options struct {
	Store    Store
	Blobs    store.BlobOpener
	Auth     *auth.Authenticator
	Acceptor mail.Acceptor
	Cluster  cluster.Cluster
	// TLS is needed for STARTTLS and ServeTLS; nil means that there is none.
	TLS *tls.Config
	// AllowClearLogin lets clients log in without TLS. It is for loopback only.
	AllowClearLogin bool
	// MaxSize is the largest message that APPEND takes, in octets; 0 means 50 MiB.
	// Over 4 GiB cannot be advertised (RFC 7889).
	MaxSize int64
	// NewID names an APPEND in logs and trace fields.
	NewID  func() string
	Limits Limits
	// IdleCheck is how often a session in IDLE looks for changes although nobody said
	// that there are any: wake-ups may be lost (package cluster), and the removal of an
	// account sends none. Default 1 min.
	IdleCheck time.Duration
	Now       func() time.Time // nil: time.Now
	// Metrics counts connections, commands and logins; nil counts nothing.
	Metrics *telemetry.Metrics
	Log     *slog.Logger // nil: none
}

// Server serves IMAP. Its methods are safe for concurrent use.
type Server struct {
	o   Options
	log *slog.Logger

	mu       sync.Mutex
	total    int
	byIP     map[netip.Addr]int
	accounts map[store.ID]int
}

// New returns a Server. It panics if a required option is missing.
func New(o Options) *Server {
	if o.Store == nil || o.Blobs == nil || o.Auth == nil || o.Acceptor == nil || o.Cluster == nil || o.NewID == nil {
		panic("imapd: a required option is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxSize <= 0 {
		o.MaxSize = 50 << 20
	}
	if o.IdleCheck <= 0 {
		o.IdleCheck = time.Minute
	}
	o.MaxSize = min(o.MaxSize, math.MaxUint32)
	o.Limits = o.Limits.withDefaults()
	return &Server{o: o, log: o.Log, byIP: make(map[netip.Addr]int), accounts: make(map[store.ID]int)}
}

// Serve answers clients that begin in clear, with STARTTLS if there is a TLS
// configuration, until ctx ends. Then every client is told BYE as soon as its command
// is answered, and Serve returns when all are gone, after Limits.Grace at the latest.
// It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, nil)
}

// ServeTLS is Serve for clients that begin with TLS (RFC 8314).
func (s *Server) ServeTLS(ctx context.Context, l net.Listener) error {
	if s.o.TLS == nil {
		return errors.New("serve IMAP over TLS: no TLS configuration")
	}
	return s.serve(ctx, l, s.o.TLS)
}

func (s *Server) serve(ctx context.Context, l net.Listener, implicit *tls.Config) error {
	r := s.newRun(ctx, implicit)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	err := r.accept(ctx, l)
	_ = l.Close()
	r.drain()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve IMAP: %w", err)
}

// accept takes connections until the listener is closed.
func (r *run) accept(ctx context.Context, l net.Listener) error {
	var delay time.Duration
	for {
		conn, err := l.Accept()
		if err == nil {
			delay = 0
			r.admit(conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) || ctx.Err() != nil {
			return err
		}
		// Out of descriptors, most likely: others will be closed.
		delay = min(max(2*delay, 5*time.Millisecond), time.Second)
		r.s.log.Warn("imap accept", telemetry.KeyError, err)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

// run is one listener at work, with its own pair of engines: one for connections in
// clear, one for those inside TLS, which advertise different capabilities.
type run struct {
	s        *Server
	ctx      context.Context // outlives that of Serve until the grace is over
	cancel   context.CancelFunc
	implicit *tls.Config
	clear    engine
	secure   engine
	conns    sync.WaitGroup
	engines  sync.WaitGroup

	mu       sync.Mutex
	guards   map[*guard]struct{}
	pending  map[net.Conn]struct{} // in their handshake
	stopping bool
}

func (s *Server) newRun(ctx context.Context, implicit *tls.Config) *run {
	r := &run{
		s: s, implicit: implicit,
		guards:  make(map[*guard]struct{}),
		pending: make(map[net.Conn]struct{}),
	}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	// The engine of connections in clear needs a TLS configuration to advertise
	// STARTTLS, but the guard never lets it use that.
	r.clear = r.newEngine(s.o.TLS, s.o.AllowClearLogin)
	r.secure = r.newEngine(nil, true)
	return r
}

// engine is an imapserver with a listener that is fed by hand.
type engine struct {
	server *imapserver.Server
	feed   *feed
}

func (r *run) newEngine(config *tls.Config, login bool) engine {
	e := engine{feed: &feed{conns: make(chan net.Conn), done: make(chan struct{})}}
	e.server = imapserver.New(&imapserver.Options{
		NewSession:   r.newSession,
		Caps:         capabilities(),
		Logger:       engineLog{r.s.log},
		TLSConfig:    config,
		InsecureAuth: login,
	})
	r.engines.Go(func() { _ = e.server.Serve(e.feed) }) // ends when feed does, without error
	return e
}

// capabilities are those that the engine does not add by itself.
func capabilities() imap.CapSet {
	set := make(imap.CapSet)
	for _, c := range []imap.Cap{
		imap.CapIMAP4rev1, imap.CapIMAP4rev2, imap.CapNamespace, imap.CapUIDPlus,
		imap.CapESearch, imap.CapSearchRes, imap.CapListExtended, imap.CapListStatus,
		imap.CapMove, imap.CapStatusSize, imap.CapBinary, imap.CapChildren,
		imap.CapSpecialUse, imap.CapCreateSpecialUse,
	} {
		set[c] = struct{}{}
	}
	return set
}

// feed is a net.Listener whose connections come from admit.
type feed struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Accept implements net.Listener.
func (f *feed) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (f *feed) Close() error {
	f.once.Do(func() { close(f.done) })
	return nil
}

// Addr implements net.Listener.
func (f *feed) Addr() net.Addr { return &net.TCPAddr{} }

// engineLog passes on what the engine reports. What it fills into its texts can be what
// a client sent, so only panics are written out.
type engineLog struct{ log *slog.Logger }

// Printf implements imapserver.Logger.
func (l engineLog) Printf(format string, args ...any) {
	if strings.HasPrefix(format, "panic") && len(args) == 2 {
		l.log.Error("imap engine panic", telemetry.KeyError, fmt.Sprint(args[0]), telemetry.KeyStack, fmt.Sprintf("%s", args[1]))
		return
	}
	l.log.Debug("imap engine", telemetry.KeyReason, withoutVerbs(format))
}

// withoutVerbs is what a format string says without its arguments.
func withoutVerbs(format string) string {
	words := strings.Fields(strings.NewReplacer("%v", "", "%s", "", "%d", "", "%q", "").Replace(format))
	return strings.TrimRight(strings.Join(words, " "), ": ")
}
