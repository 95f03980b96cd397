package msgauth

import (
	"context"
	"net"

	"postern/internal/dns"
)

// Resolver looks names up in the DNS. *net.Resolver and *dns.Resolver are
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

func isNotFound(err error) bool {
	e, ok := err.(*net.DNSError) // never wrapped, see Resolver
	return ok && e.IsNotFound
}

func notFound(name string) *net.DNSError {
	return &net.DNSError{Err: "no such record", Name: name, IsNotFound: true}
}

// view is the resolver for this message's look-ups. An IPv4 client is compared
// with IPv4 addresses alone (RFC 7208 5), so half of the questions need not be
// asked.
func (c *check) view() Resolver {
	if c.caching == nil {
		return c.resolver
	}
	return dns.Lookups{Source: c.caching, OnlyIPv4: c.only4()}
}

func (c *check) only4() bool { return c.req.IP.Unmap().Is4() }

// memory is what a *dns.Resolver can answer without asking anybody. It notes
// whether it was asked for anything else, in which case what was found with it
// is worthless. It serves one goroutine.
type memory struct {
	resolver *dns.Resolver
	missed   bool
}

// Query implements dns.Source.
func (m *memory) Query(_ context.Context, name string, qtype uint16) (dns.Answer, error) {
	a, ok, err := m.resolver.Recall(name, qtype)
	if !ok {
		m.missed = true
		return dns.Answer{}, &net.DNSError{Err: "not remembered", IsTemporary: true}
	}
	return a, err
}

// Prefetch implements dns.Source.
func (m *memory) Prefetch(string, uint16) {}
