package config

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Route is where mail for a domain goes in place of its mail servers.
type Route struct {
	Domain string // in lower case with A-labels; "*" is all others
	Host   string // a name or an IP address
	Port   uint16 // 0: that of delivery.port
}

// ParseRoute reads DOMAIN=HOST or DOMAIN=HOST:PORT. An IPv6 address is in brackets if a
// port follows.
func ParseRoute(s string) (Route, error) {
	domain, to, ok := strings.Cut(s, "=")
	r := Route{Domain: aLabels(domain), Host: to}
	if !ok || r.Domain != "*" && !isDomain(r.Domain) {
		return Route{}, errors.New("it is not DOMAIN=HOST, DOMAIN=HOST:PORT or *=HOST")
	}
	if host, port, err := net.SplitHostPort(to); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Route{}, errors.New("its port is not a number from 1 to 65535")
		}
		r.Host, r.Port = host, uint16(n)
	}
	r.Host = strings.TrimSuffix(strings.TrimPrefix(r.Host, "["), "]")
	if _, err := netip.ParseAddr(r.Host); err != nil {
		if r.Host = aLabels(r.Host); !isDomain(r.Host) {
			return Route{}, errors.New("its host is not a name or an IP address")
		}
	}
	return r, nil
}
