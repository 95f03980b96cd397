package deliver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"postern/internal/dns"
)

// query asks the DNS. Where there is a server that validates, only its word counts.
func (c *Carrier) query(ctx context.Context, name string, qtype uint16) (dns.Answer, *failure) {
	if _, ok := dns.CanonicalName(name); !ok {
		return dns.Answer{NXDomain: true}, nil
	}
	a, err := c.Resolver.Query(ctx, name, qtype)
	if err != nil {
		return dns.Answer{}, later("4.4.3", "the DNS has no answer for the recipient's domain or mail servers").because(err)
	}
	if c.Resolver.Validates() && !a.Validated {
		return dns.Answer{}, later("4.4.3", "the name server that validates DNSSEC does not answer")
	}
	return a, nil
}

func (d *delivery) query(name string, qtype uint16) (dns.Answer, *failure) {
	return d.Carrier.query(d.ctx, name, qtype)
}

// addresses are where a host is.
type addresses struct {
	list   []netip.Addr
	secure bool   // all of list
	name   string // the host, or what aliases make of it
}

// addresses looks up both families and takes from them in turn. What of the two
// cannot be looked up does not matter if the other can.
func (d *delivery) addresses(h hop) (addresses, *failure) {
	if h.literal.IsValid() {
		return d.reachable(h, addresses{list: []netip.Addr{h.literal}})
	}
	found, f := d.Carrier.addresses(d.ctx, h.host)
	if f != nil {
		return addresses{}, f
	}
	return d.reachable(h, found)
}

func (c *Carrier) addresses(ctx context.Context, host string) (addresses, *failure) {
	c.Resolver.Prefetch(host, dns.TypeAAAA)
	a4, f4 := c.query(ctx, host, dns.TypeA)
	a6, f6 := c.query(ctx, host, dns.TypeAAAA)
	found := addresses{list: alternate(a6.Addrs(), a4.Addrs()), name: host, secure: true}
	for _, a := range []dns.Answer{a4, a6} {
		if len(a.Records) > 0 {
			found.name, found.secure = a.Name, found.secure && a.Secure
		}
	}
	switch {
	case len(found.list) > 0:
		return found, nil
	case f4 != nil:
		return found, f4
	case f6 != nil:
		return found, f6
	}
	return found, never("5.4.4", "mail server %s has no address", host)
}

// alternate takes from both in turn, so that none has to time out before the other.
func alternate(a, b []netip.Addr) []netip.Addr {
	var all []netip.Addr
	for i := range max(len(a), len(b)) {
		if i < len(a) {
			all = append(all, a[i])
		}
		if i < len(b) {
			all = append(all, b[i])
		}
	}
	return all
}

// reachable leaves out what nobody may have us connect to, and what is too much.
func (d *delivery) reachable(h hop, found addresses) (addresses, *failure) {
	if !d.AllowPrivate && !h.configured {
		found.list = slices.DeleteFunc(slices.Clone(found.list), func(a netip.Addr) bool { return !dns.IsPublic(a) })
	}
	if len(found.list) == 0 {
		return found, never("5.4.4", "mail server %s has only addresses that are loopback, private or reserved", h.host)
	}
	found.list = found.list[:min(len(found.list), maxAddresses)]
	return found, nil
}

// dial connects within the time for it.
func (d *delivery) dial(h hop, a netip.Addr) (net.Conn, *failure) {
	ctx, cancel := context.WithTimeout(d.ctx, d.Timeouts.Connect)
	defer cancel()
	conn, err := d.Connect(ctx, netip.AddrPortFrom(a, h.port))
	if err != nil {
		return nil, later("4.4.1", "mail server %s cannot be reached on port %d%s", h.host, h.port, whyNot(err)).because(err)
	}
	return conn, nil
}

// whyNot says why there is no connection, as far as whoever looks at the queue can do
// something about it: a port that a provider has closed shows as silence.
func whyNot(err error) string {
	var slow net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return ": nobody listens there"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return ": there is no way to its address"
	case errors.As(err, &slow) && slow.Timeout():
		return ": no answer in time"
	}
	return ""
}
