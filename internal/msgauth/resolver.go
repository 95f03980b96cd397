package msgauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Resolver looks names up in the DNS. *net.Resolver and *CachingResolver are
// Resolvers. An error is a *net.DNSError, not wrapped: IsNotFound says that
// there is certainly no such record, IsTemporary or IsTimeout that nobody knows.
// Every method returns when ctx ends. What is returned must not be changed.
type Resolver interface {
	// LookupTXT returns one element per TXT record, its strings joined.
	LookupTXT(ctx context.Context, name string) ([]string, error)
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error)
	// LookupAddr returns the names of an IP address (PTR).
	LookupAddr(ctx context.Context, addr string) ([]string, error)
}

// Defaults of ResolverOptions.
const (
	DefaultTryTimeout = 800 * time.Millisecond
	resolvConf        = "/etc/resolv.conf"
	// maxOutstanding bounds the questions, and so the sockets, in use at once.
	maxOutstanding = 512
)

// ResolverOptions configure a CachingResolver. The zero value is usable.
type ResolverOptions struct {
	// Servers are recursive name servers, "ip", "ip:port" or "[ip]:port", in
	// the order of preference. Nil means those of /etc/resolv.conf, or
	// 127.0.0.1 if that file names none.
	Servers []string
	// Timeout is for one try; a question is tried twice. Zero means
	// DefaultTryTimeout, which lets both tries end within the default deadline
	// of a Verifier.
	Timeout time.Duration
	// Now is the clock for lifetimes and for the breaker; nil means time.Now.
	Now func() time.Time
}

// CachingResolver asks recursive name servers and remembers: answers for their
// TTL (5 s to 1 h), that there is nothing (by the SOA record, RFC 2308, 5 s to
// 5 min), and failures for a minute. Equal questions that are asked at the same
// time go out once.
//
// If several different domains in a row cannot be looked up it stops asking for
// 30 s and fails at once, so that a dead server costs no more time than a cached
// answer; then one question at a time goes out until one is answered.
//
// A failure is remembered for the name and type that failed and no wider: else
// anybody could make a healthy domain fail by naming a broken subdomain of it in
// a DKIM signature. It is safe for concurrent use.
type CachingResolver struct {
	servers []string
	timeout time.Duration
	now     func() time.Time
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	flying  sync.WaitGroup

	blockedErr *net.DNSError
	busyErr    *net.DNSError

	mu      sync.Mutex
	cache   cache
	breaker breaker
	flights map[question]*flight
	tripped chan struct{} // closed when the breaker trips; a new one when it closes
	prefer  int           // index of the server that answered last
	closed  bool
}

// NewResolver returns a resolver, or an error that names the server address
// that cannot be read. It sends nothing.
func NewResolver(o ResolverOptions) (*CachingResolver, error) {
	servers, err := serverAddresses(o.Servers)
	if err != nil {
		return nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTryTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &CachingResolver{
		servers:    servers,
		timeout:    o.Timeout,
		now:        o.Now,
		ctx:        ctx,
		cancel:     cancel,
		blockedErr: &net.DNSError{Err: "no name server answers", IsTemporary: true},
		busyErr:    &net.DNSError{Err: "too many look-ups at once", IsTemporary: true},
		flights:    make(map[question]*flight),
		tripped:    make(chan struct{}),
	}, nil
}

func serverAddresses(servers []string) ([]string, error) {
	if servers == nil {
		conf, err := dns.ClientConfigFromFile(resolvConf)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read %s: %w", resolvConf, err)
		}
		if err == nil {
			servers = conf.Servers
		}
	}
	if len(servers) == 0 {
		servers = []string{"127.0.0.1"}
	}
	addresses := make([]string, 0, len(servers))
	for _, s := range servers {
		if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
			addresses = append(addresses, netip.AddrPortFrom(ip, 53).String())
		} else if ap, err := netip.ParseAddrPort(s); err == nil {
			addresses = append(addresses, ap.String())
		} else {
			return nil, fmt.Errorf("name server %q is not an IP address with or without a port", s)
		}
	}
	return addresses, nil
}

// Close ends what is on its way and waits for it. Look-ups after Close that the
// cache cannot answer fail.
func (r *CachingResolver) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.flying.Wait()
}

// Tripped reports whether look-ups fail at once at this time because no name
// server answers.
func (r *CachingResolver) Tripped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.breaker.open
}

// LookupTXT implements Resolver.
func (r *CachingResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return view{source: r}.LookupTXT(ctx, name)
}

// LookupMX implements Resolver.
func (r *CachingResolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return view{source: r}.LookupMX(ctx, name)
}

// LookupIPAddr implements Resolver. It fails if either of A and AAAA does.
func (r *CachingResolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	return view{source: r}.LookupIPAddr(ctx, host)
}

// LookupAddr implements Resolver.
func (r *CachingResolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return view{source: r}.LookupAddr(ctx, addr)
}
