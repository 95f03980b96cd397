package deliver

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"postern/internal/dns"
	"postern/internal/mail"
	"postern/internal/telemetry"
)

// Status is what becomes of a recipient.
type Status uint8

// The statuses. The zero value is the one that loses nothing.
const (
	Retry     Status = iota // not now; it may have been delivered all the same
	Delivered               // the next hop has taken it over
	Failed                  // never: it is useless to try again
)

func (s Status) String() string {
	switch s {
	case Delivered:
		return "delivered"
	case Failed:
		return "failed"
	}
	return "retry"
}

// Request is one copy and those recipients of it that have the same domain.
type Request struct {
	// Domain is where the recipients are: in lower case with A-labels, or an address
	// literal in brackets.
	Domain string
	// From is the reverse-path; empty is the null reverse-path.
	From  string
	Rcpts []Rcpt
	// Size is that of the content in octets, as it is declared; 0 if not known.
	Size int64
	// Body is "7BIT" or "8BITMIME" (RFC 6152); UTF8 says that the header section needs
	// SMTPUTF8 (RFC 6531). Addresses that need it are seen here.
	Body string
	UTF8 bool
	// VerifiedTLS lets the copy go only over TLS that DANE or MTA-STS proved to be
	// with the right host. RequireTLS asks that of all further hops too (RFC 8689).
	RequireTLS, VerifiedTLS bool
	// EnvID and Return go to a next hop that sends reports (RFC 3461).
	EnvID, Return string
	// Open gives the content from its beginning: CRLF line endings, dots not stuffed.
	// It is called once for every transaction, when a recipient was accepted.
	Open func(context.Context) (io.ReadCloser, error)
}

// Rcpt is one recipient.
type Rcpt struct {
	Address  string
	Notify   mail.Notify // zero is not given
	Original string      // RFC 3461 4.2 ORCPT, decoded; empty is not given
}

// Result is what became of one recipient.
type Result struct {
	Status Status
	// Code and Enhanced are those of the next hop's reply, or of our own words.
	Code     int
	Enhanced string
	// Text is one line of printable ASCII.
	Text string
	// Host is the host that gave the reply; empty if the words are ours.
	Host string
	// TLS is that of the connection: "none", "TLS1.3", and if the host was proven
	// "TLS1.3 dane" or "TLS1.3 mta-sts". Empty if there was no connection.
	TLS string
	// DSN says that the next hop takes over the sender's wishes for reports.
	DSN bool
	// Unreached says of a Retry that no host let us come as far as this message: others
	// for the domain fare no better now. It is not said where a copy asks for more TLS
	// than others do and does not get it.
	Unreached bool

	said bool // the words are the next hop's reply
}

// Resolver is what is needed of the DNS. *dns.Resolver is one.
type Resolver interface {
	// Query is described at dns.Resolver.
	Query(ctx context.Context, name string, qtype uint16) (dns.Answer, error)
	// Prefetch lets a question be on its way without waiting for it.
	Prefetch(name string, qtype uint16)
	// Validates says whether any answer can be Secure. If not there is no DANE.
	Validates() bool
}

// Route sends the mail for a domain to a host of the operator's choice, in place of
// its mail exchangers. DANE holds for the host, MTA-STS does not: what has to go over
// verified TLS goes only if the host has TLSA records.
type Route struct {
	Domain string // "*" is all that no other route names
	Host   string // a name or an IP address, which may be a private one
	Port   uint16 // zero is that of Options
}

// Timeouts are those of RFC 5321 4.5.3.2, and some more. Each is for a whole reply or
// a whole block, so that octets that trickle in do not extend it. Zero is the default.
type Timeouts struct {
	Connect  time.Duration // TCP; 30 s
	Greeting time.Duration // 5 min
	Command  time.Duration // EHLO, STARTTLS, MAIL, RCPT, DATA; 5 min
	TLS      time.Duration // handshake; 1 min
	Block    time.Duration // writing 32 KiB of content; 3 min
	Final    time.Duration // the reply to the content; 10 min
	Quit     time.Duration // 2 s
	Policy   time.Duration // fetching an MTA-STS policy; 60 s (RFC 8461 3.3)
	Total    time.Duration // one Deliver; 1 h
}

func (t Timeouts) withDefaults() Timeouts {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&t.Connect, 30*time.Second)
	set(&t.Greeting, 5*time.Minute)
	set(&t.Command, 5*time.Minute)
	set(&t.TLS, time.Minute)
	set(&t.Block, 3*time.Minute)
	set(&t.Final, 10*time.Minute)
	set(&t.Quit, 2*time.Second)
	set(&t.Policy, time.Minute)
	set(&t.Total, time.Hour)
	return t
}

// Options configure a Carrier. Resolver is required, and Hostname outside of tests.
type Options struct {
	// Hostname is what we call ourselves in EHLO. A mail exchanger of that name, or one
	// of Names, is us.
	Hostname string
	Names    []string
	Resolver Resolver
	Routes   []Route
	// Port is dialled in place of 25; zero is 25. TLSA records are looked up for it.
	Port uint16
	// AllowPrivate allows mail exchangers whose addresses are loopback, private or
	// otherwise not of the public Internet. Without it nobody can have us speak to
	// machines that only we can reach.
	AllowPrivate bool
	// RootCAs are the authorities that are believed where MTA-STS holds; nil is the
	// system's.
	RootCAs *x509.CertPool
	// Policies remembers MTA-STS policies; nil is memory that is lost at a restart.
	Policies Cache
	// PolicyPort is dialled in place of 443 for policies; zero is 443.
	PolicyPort uint16
	Timeouts   Timeouts
	// MaxMessages is how many messages go over one connection; 0 is 100, less than 0
	// lets no connection be used again. Idle is how long one is kept; 0 is 20 s.
	MaxMessages int
	Idle        time.Duration
	// Connect makes the connections to addresses that were checked; nil is TCP.
	Connect func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Now is the clock for the lifetimes of policies and the dates of certificates;
	// nil is time.Now.
	Now     func() time.Time
	Metrics *telemetry.Metrics
	// Log is for what an operator wants to know of other people's TLS; nil discards it.
	// It gets domains, never an address of a person.
	Log *slog.Logger
}

// Limits of what is tried and kept.
const (
	defaultPort     = 25
	maxHosts        = 10 // of a domain
	maxAddresses    = 4  // of a host
	maxTried        = 12 // addresses in one Deliver
	maxRcpts        = 100
	defaultMessages = 100
	defaultIdle     = 20 * time.Second
	blockSize       = 32 << 10
)

// Carrier carries copies to their next hops. It is safe for concurrent use.
type Carrier struct {
	Options
	names    map[string]bool
	routes   map[string]Route
	pool     *pool
	policies *policies
	blocks   sync.Pool // *[blockSize]byte
}

// New returns a Carrier. It connects to nobody.
func New(o Options) *Carrier {
	o.Timeouts = o.Timeouts.withDefaults()
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	if o.Port == 0 {
		o.Port = defaultPort
	}
	if o.MaxMessages == 0 {
		o.MaxMessages = defaultMessages
	}
	if o.Idle <= 0 {
		o.Idle = defaultIdle
	}
	if o.Connect == nil {
		o.Connect = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", to.String())
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = telemetry.Discard()
	}
	if o.Policies == nil {
		o.Policies = NewMemory(0)
	}
	c := &Carrier{Options: o, names: map[string]bool{}, routes: map[string]Route{}, pool: newPool(o.Idle)}
	for _, n := range append([]string{o.Hostname}, o.Names...) {
		if name, ok := dns.CanonicalName(n); ok {
			c.names[name] = true
		}
	}
	for _, r := range o.Routes {
		c.routes[strings.ToLower(r.Domain)] = r
	}
	c.policies = newPolicies(c)
	c.blocks.New = func() any { return new([blockSize]byte) }
	return c
}

// Close ends the connections that are idle. Deliveries on their way are not cut
// short; that is what their contexts are for.
func (c *Carrier) Close() {
	c.pool.close()
	c.policies.close()
}

// Deliver carries a copy to its next hop and returns one result for each recipient,
// in their order. It returns when ctx ends; what has no answer by then is Retry.
func (c *Carrier) Deliver(ctx context.Context, r Request) []Result {
	ctx, cancel := context.WithTimeout(ctx, c.Timeouts.Total)
	defer cancel()
	d := &delivery{Carrier: c, Request: r, ctx: ctx, results: make([]Result, len(r.Rcpts))}
	d.run()
	for i, result := range d.results {
		d.results[i].Unreached = result.Status == Retry && !d.reached && !d.own
		tls := result.TLS
		if result.Status != Delivered {
			tls = ""
		}
		c.Metrics.Delivery(result.Status.String(), tls)
	}
	return d.results
}
