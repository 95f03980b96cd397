package keydir

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"postern/internal/dns"
)

// Resolver is what the sources need of the DNS. *dns.Resolver is one.
type Resolver interface {
	// Query is described at dns.Resolver.
	Query(ctx context.Context, name string, qtype uint16) (dns.Answer, error)
	// Prefetch lets a question be on its way without waiting for it.
	Prefetch(name string, qtype uint16)
	// Validates says whether any answer can be Secure.
	Validates() bool
}

// Limits of a connection.
const (
	maxAddresses    = 4                      // of a host that are tried
	nextAddress     = 250 * time.Millisecond // before the next one is tried too (RFC 8305 5)
	resolutionDelay = 50 * time.Millisecond  // for AAAA once A is there (RFC 8305 3)
)

// dialer connects to hosts by name. What is checked is the address that is dialled,
// and nothing resolves the name between the check and the dial.
type dialer struct {
	resolver     Resolver
	allowPrivate bool
	port         uint16 // dialled for 443
	connect      func(context.Context, netip.AddrPort) (net.Conn, error)
	patience     time.Duration // resolutionDelay
}

// dial connects to "host:port". Its errors are *SourceErrors.
func (d *dialer) dial(ctx context.Context, _, hostport string) (net.Conn, error) {
	host, portText, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, unknown(CauseAddress, err, "not a host and a port")
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port != httpsPort && uint16(port) != d.port {
		return nil, unknown(CauseAddress, err, "port %d is not one that is asked", port)
	}
	addresses, err := d.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		return nil, unknown(CauseDNS, nil, "the host has no address")
	}
	if !d.allowPrivate {
		addresses = slices.DeleteFunc(addresses, func(a netip.Addr) bool { return !dns.IsPublic(a) })
		if len(addresses) == 0 {
			return nil, unknown(CauseAddress, nil, "the host's address is loopback, private or reserved")
		}
	}
	return d.race(ctx, addresses[:min(len(addresses), maxAddresses)])
}

// race dials one address after the other, without waiting long for any.
func (d *dialer) race(ctx context.Context, addresses []netip.Addr) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn net.Conn
		err  error
	}
	results := make(chan result, len(addresses))
	timer := time.NewTimer(0)
	defer timer.Stop()
	var failed error
	started, ended := 0, 0
	for {
		select {
		case <-timer.C:
			if started < len(addresses) {
				to := netip.AddrPortFrom(addresses[started], d.port)
				started++
				go func() {
					conn, err := d.connect(ctx, to)
					results <- result{conn, err}
				}()
				timer.Reset(nextAddress)
			}
		case r := <-results:
			ended++
			if r.err == nil {
				go func() { // the others, if any still come
					for range started - ended {
						if late := <-results; late.err == nil {
							_ = late.conn.Close()
						}
					}
				}()
				return r.conn, nil
			}
			failed = worse(failed, r.err)
			if ended == len(addresses) {
				return nil, connectError(ctx, failed)
			}
			timer.Reset(0)
		}
	}
}

// worse is the one of two failures that leaves more open. That an address refuses is
// certain, and that we have no way to one of its kind, IPv6 mostly, says nothing.
func worse(a, b error) error {
	weight := func(err error) int {
		switch {
		case err == nil:
			return 0
		case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EAFNOSUPPORT):
			return 1
		case errors.Is(err, syscall.ECONNREFUSED):
			return 2
		}
		return 3
	}
	if weight(b) > weight(a) {
		return b
	}
	return a
}

func connectError(ctx context.Context, err error) error {
	var timeout net.Error
	if ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout() {
		return unknown(CauseTimeout, err, "no connection in time")
	}
	return unknown(CauseConnect, err, "no connection")
}

// addresses are those of a host, both families in turn. None, without an error,
// means that it certainly has none. What of the two families cannot be looked up
// does not matter if the other can.
func (d *dialer) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	type result struct {
		answer dns.Answer
		err    error
	}
	ask := func(qtype uint16) <-chan result {
		c := make(chan result, 1)
		go func() {
			a, err := d.resolver.Query(ctx, host, qtype)
			c <- result{a, err}
		}()
		return c
	}
	six := ask(dns.TypeAAAA)
	a4, err4 := d.resolver.Query(ctx, host, dns.TypeA)
	var r6 result
	if len(a4.Records) > 0 {
		select {
		case r6 = <-six:
		case <-time.After(d.patience):
		}
	} else {
		r6 = <-six
	}
	found := alternate(r6.answer.Addrs(), a4.Addrs())
	if len(found) == 0 && (err4 != nil || r6.err != nil) {
		return nil, dnsError(ctx, errors.Join(err4, r6.err))
	}
	return found, nil
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

// dnsError says why nobody knows, without the name that was asked for.
func dnsError(ctx context.Context, err error) *SourceError {
	if ctx.Err() != nil {
		return unknown(CauseTimeout, err, "no answer from DNS in time")
	}
	detail := "no answer from DNS"
	var e *net.DNSError
	if errors.As(err, &e) && e.Err != "" {
		detail = "DNS: " + e.Err
	}
	return unknown(CauseDNS, err, "%s", detail)
}
