package msgauth

import (
	"context"
	"net"
	"strings"

	"github.com/miekg/dns"
)

// A source answers questions; the errors are *net.DNSError.
type source interface {
	query(ctx context.Context, q question) (*answer, error)
	prefetch(q question)
}

// view is a source as a Resolver.
type view struct {
	source source
	// only4 leaves AAAA out: an IPv4 client is compared with IPv4 addresses
	// alone (RFC 7208 5), and half of the questions need not be asked.
	only4 bool
}

func (v view) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a, err := v.query(ctx, name, dns.TypeTXT)
	if err != nil {
		return nil, err
	}
	return a.txt, nil
}

func (v view) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	a, err := v.query(ctx, name, dns.TypeMX)
	if err != nil {
		return nil, err
	}
	return a.mx, nil
}

func (v view) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	if v.only4 {
		a, err := v.query(ctx, host, dns.TypeA)
		if err != nil {
			return nil, err
		}
		return a.ips, nil
	}
	if name, ok := canonicalName(host); ok {
		v.source.prefetch(question{name, dns.TypeAAAA})
	}
	a4, err4 := v.query(ctx, host, dns.TypeA)
	if err4 != nil && !isNotFound(err4) {
		return nil, err4
	}
	a6, err6 := v.query(ctx, host, dns.TypeAAAA)
	switch {
	case err6 == nil && err4 == nil:
		return append(a4.ips[:len(a4.ips):len(a4.ips)], a6.ips...), nil
	case err6 == nil:
		return a6.ips, nil
	case err4 == nil && isNotFound(err6):
		return a4.ips, nil
	}
	return nil, err6
}

func (v view) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	name, err := dns.ReverseAddr(addr)
	if err != nil {
		return nil, notFound(addr)
	}
	a, err := v.query(ctx, name, dns.TypePTR)
	if err != nil {
		return nil, err
	}
	return a.ptr, nil
}

func (v view) query(ctx context.Context, name string, qtype uint16) (*answer, error) {
	canonical, ok := canonicalName(name)
	if !ok {
		return nil, notFound(name)
	}
	return v.source.query(ctx, question{canonical, qtype})
}

// canonicalName returns the form in which names are asked for and remembered. It
// refuses what is no domain name on the wire (RFC 1035 2.3.4), and octets that
// the library would read as escapes or that no name worth asking for has: SPF
// macros can put anything in.
func canonicalName(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > 253 {
		return "", false
	}
	label, upper := 0, false
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '.':
			if label == 0 {
				return "", false
			}
			label = 0
			continue
		case c <= ' ' || c >= 0x7f || c == '\\':
			return "", false
		case c >= 'A' && c <= 'Z':
			upper = true
		}
		if label++; label > 63 {
			return "", false
		}
	}
	if label == 0 {
		return "", false
	}
	if upper {
		name = strings.ToLower(name)
	}
	return name, true
}

func notFound(name string) *net.DNSError {
	return &net.DNSError{Err: "no such record", Name: name, IsNotFound: true}
}

func isNotFound(err error) bool {
	e, ok := err.(*net.DNSError) // never wrapped, see Resolver
	return ok && e.IsNotFound
}

// memory is what a CachingResolver can answer without asking anybody. It notes
// whether it was asked for anything else, in which case what was found with it
// is worthless. It serves one goroutine.
type memory struct {
	resolver *CachingResolver
	missed   bool
}

func (m *memory) query(_ context.Context, q question) (*answer, error) {
	a, err, ok := m.resolver.recall(q)
	if !ok {
		m.missed = true
		return nil, m.resolver.busyErr
	}
	return a, err
}

func (m *memory) prefetch(question) {}
