package dns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Defaults of Options.
const (
	DefaultTryTimeout = 800 * time.Millisecond
	resolvConf        = "/etc/resolv.conf"
	// maxOutstanding bounds the questions, and so the sockets, in use at once.
	maxOutstanding = 512
)

// Options configure a Resolver. The zero value is usable.
type Options struct {
	// Servers are recursive name servers, "ip", "ip:port" or "[ip]:port", in
	// the order of preference. Nil means those of /etc/resolv.conf, or
	// 127.0.0.1 if that file names none.
	Servers []string
	// Validating are those of Servers whose AD bit is believed: they validate
	// DNSSEC, and nobody can come between. Nil means those on loopback; an empty
	// list means none. They are asked before the others, which are asked only if
	// none of them says anything at all.
	Validating []string
	// Timeout is for one try; a question is tried twice. Zero means
	// DefaultTryTimeout, which lets both tries end within the deadline of 2 s that
	// verifying a message has.
	Timeout time.Duration
	// Now is the clock for lifetimes and for the breaker; nil means time.Now.
	Now func() time.Time
}

// Resolver asks recursive name servers and remembers: answers for their
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
type Resolver struct {
	servers    []server // those that validate first
	validating int      // how many do
	timeout    time.Duration
	now        func() time.Time
	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	flying     sync.WaitGroup

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

// New returns a resolver, or an error that names the server address
// that cannot be read. It sends nothing.
func New(o Options) (*Resolver, error) {
	servers, validating, err := readServers(o.Servers, o.Validating)
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
	return &Resolver{
		servers:    servers,
		validating: validating,
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

// server is a recursive name server.
type server struct {
	addr      string // "ip:port"
	validates bool   // its AD bit is believed
}

// readServers returns the servers, first those that validate, and their number.
func readServers(addresses, trusted []string) (servers []server, validating int, err error) {
	all, err := serverAddresses(addresses)
	if err != nil {
		return nil, 0, err
	}
	var believed []string
	if len(trusted) > 0 {
		if believed, err = serverAddresses(trusted); err != nil {
			return nil, 0, err
		}
	}
	for _, b := range believed {
		if !slices.Contains(all, b) {
			return nil, 0, fmt.Errorf("name server %q is to be trusted with DNSSEC but is not one of those that are asked", b)
		}
	}
	var others []server
	for _, addr := range all {
		s := server{addr: addr, validates: slices.Contains(believed, addr)}
		if trusted == nil {
			ap, err := netip.ParseAddrPort(addr)
			s.validates = err == nil && ap.Addr().Unmap().IsLoopback()
		}
		if s.validates {
			servers = append(servers, s)
		} else {
			others = append(others, s)
		}
	}
	return append(servers, others...), len(servers), nil
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
func (r *Resolver) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.flying.Wait()
}

// Validates reports whether there is a server that is trusted to validate DNSSEC;
// without one no answer is ever Secure.
func (r *Resolver) Validates() bool { return r.validating > 0 }

// Tripped reports whether look-ups fail at once at this time because no name
// server answers.
func (r *Resolver) Tripped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.breaker.open
}
