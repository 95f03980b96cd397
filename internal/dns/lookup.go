package dns

import (
	"context"
	"net"

	"github.com/miekg/dns"
)

// A Source answers questions as a *Resolver does.
type Source interface {
	// Query is described at Resolver.
	Query(ctx context.Context, name string, qtype uint16) (Answer, error)
	// Prefetch lets a question be on its way without waiting for it.
	Prefetch(name string, qtype uint16)
}

// Lookups gives a Source the methods of *net.Resolver, with their way of saying
// things: no records is an error whose IsNotFound is set, and that nobody knows is
// one with IsTemporary or IsTimeout. The errors are *net.DNSError, not wrapped.
// What is returned must not be changed.
type Lookups struct {
	Source Source
	// OnlyIPv4 leaves AAAA out: half of the questions, for those who need IPv4
	// addresses alone.
	OnlyIPv4 bool
}

// LookupTXT returns one element per TXT record, its strings joined.
func (l Lookups) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a, err := l.find(ctx, name, TypeTXT)
	if err != nil {
		return nil, err
	}
	return a.forms.txt, nil
}

// LookupMX returns the mail exchangers of a domain in the server's order.
func (l Lookups) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	a, err := l.find(ctx, name, TypeMX)
	if err != nil {
		return nil, err
	}
	return a.forms.mx, nil
}

// LookupIPAddr returns the addresses of a host. It fails if either of A and AAAA
// does.
func (l Lookups) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	if l.OnlyIPv4 {
		a, err := l.find(ctx, host, TypeA)
		if err != nil {
			return nil, err
		}
		return a.forms.ips, nil
	}
	l.Source.Prefetch(host, TypeAAAA)
	a4, err4 := l.find(ctx, host, TypeA)
	if err4 != nil && !err4.IsNotFound {
		return nil, err4
	}
	a6, err6 := l.find(ctx, host, TypeAAAA)
	switch {
	case err6 == nil && err4 == nil:
		ips := a4.forms.ips
		return append(ips[:len(ips):len(ips)], a6.forms.ips...), nil
	case err6 == nil:
		return a6.forms.ips, nil
	case err4 == nil && err6.IsNotFound:
		return a4.forms.ips, nil
	}
	return nil, err6
}

// LookupAddr returns the names of an IP address (PTR).
func (l Lookups) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		return nil, notFound(addr)
	}
	a, failed := l.find(ctx, name, TypePTR)
	if failed != nil {
		return nil, failed
	}
	return a.forms.ptr, nil
}

// find asks; no records is an error.
func (l Lookups) find(ctx context.Context, name string, qtype uint16) (Answer, *net.DNSError) {
	a, err := l.Source.Query(ctx, name, qtype)
	if err != nil {
		if e, ok := err.(*net.DNSError); ok { // as Source promises
			return Answer{}, e
		}
		return Answer{}, &net.DNSError{Err: err.Error(), Name: name, IsTemporary: true}
	}
	if len(a.Records) > 0 {
		return a, nil
	}
	if a.forms == nil || a.forms.none == nil {
		return Answer{}, notFound(name)
	}
	return Answer{}, a.forms.none
}

func notFound(name string) *net.DNSError {
	return &net.DNSError{Err: "no such record", Name: name, IsNotFound: true}
}

// LookupTXT is that of Lookups.
func (r *Resolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return Lookups{Source: r}.LookupTXT(ctx, name)
}

// LookupMX is that of Lookups.
func (r *Resolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	return Lookups{Source: r}.LookupMX(ctx, name)
}

// LookupIPAddr is that of Lookups.
func (r *Resolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	return Lookups{Source: r}.LookupIPAddr(ctx, host)
}

// LookupAddr is that of Lookups.
func (r *Resolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	return Lookups{Source: r}.LookupAddr(ctx, addr)
}
