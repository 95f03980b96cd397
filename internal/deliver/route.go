package deliver

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/dns"
)

// hop is a host that the mail of a domain may be given to.
type hop struct {
	host       string     // in lower case without a dot at the end; of a literal, the address
	literal    netip.Addr // if the host is an address
	port       uint16
	secure     bool // nobody but the domain, or the operator, can have named the host
	exchanger  bool // it is an MX of the domain: MTA-STS may hold for it
	configured bool // the operator named it
	names      []string
	preference uint16
}

// route finds the hosts of the domain, in the order in which they are tried.
func (d *delivery) route() ([]hop, *failure) {
	if r, ok := d.configured(); ok {
		h := hop{host: strings.ToLower(strings.TrimSuffix(r.Host, ".")), port: r.Port, secure: true, configured: true}
		if h.port == 0 {
			h.port = d.Port
		}
		if a, err := netip.ParseAddr(strings.Trim(r.Host, "[]")); err == nil {
			h.literal = a
		}
		return []hop{h}, nil
	}
	if strings.HasPrefix(d.Domain, "[") {
		return d.literal()
	}
	domain, ok := dns.CanonicalName(d.Domain)
	if !ok {
		return nil, never("5.1.2", "the recipient's domain is not a domain name")
	}
	return d.exchangers(domain)
}

func (d *delivery) configured() (Route, bool) {
	r, ok := d.routes[strings.ToLower(d.Domain)]
	if !ok {
		r, ok = d.routes["*"]
	}
	return r, ok
}

// literal reads an address literal (RFC 5321 4.1.3).
func (d *delivery) literal() ([]hop, *failure) {
	text := strings.Trim(d.Domain, "[]")
	if len(text) > 5 && strings.EqualFold(text[:5], "IPv6:") {
		text = text[5:]
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return nil, never("5.1.2", "the recipient's address literal cannot be read")
	}
	return []hop{{host: a.String(), literal: a, port: d.Port}}, nil
}

// exchangers are the hosts of the domain's MX records, or the domain itself if it has
// none (RFC 5321 5.1).
func (d *delivery) exchangers(domain string) ([]hop, *failure) {
	a, f := d.query(domain, dns.TypeMX)
	switch {
	case f != nil:
		return nil, f
	case a.NXDomain:
		return nil, never("5.1.2", "the recipient's domain does not exist")
	case len(a.Records) == 0:
		return []hop{{host: domain, port: d.Port, secure: a.Secure, exchanger: true}}, nil
	case nullMX(a.Records):
		return nil, never("5.1.10", "the recipient's domain accepts no mail")
	}
	names := []string{domain}
	if a.Name != domain {
		names = append(names, a.Name) // RFC 7672 3.2.2
	}
	var hops []hop
	for _, rr := range a.Records {
		mx, ok := rr.(*dns.MX)
		if !ok {
			continue
		}
		if host, ok := dns.CanonicalName(mx.Mx); ok {
			hops = append(hops, hop{host: host, port: d.Port, secure: a.Secure, exchanger: true, names: names, preference: mx.Preference})
		}
	}
	if len(hops) == 0 {
		return nil, never("5.4.4", "the recipient's domain names no mail server that can exist")
	}
	rand.Shuffle(len(hops), func(i, j int) { hops[i], hops[j] = hops[j], hops[i] })
	slices.SortStableFunc(hops, func(a, b hop) int { return int(a.preference) - int(b.preference) })
	if hops = d.beforeUs(hops); len(hops) == 0 {
		return nil, never("5.4.6", "mail for the domain loops back to this server, which does not serve it")
	}
	return hops[:min(len(hops), maxHosts)], nil
}

// nullMX is a domain's word that it accepts no mail (RFC 7505).
func nullMX(records []dns.RR) bool {
	mx, ok := records[0].(*dns.MX)
	return ok && len(records) == 1 && mx.Mx == "."
}

// beforeUs cuts off the hosts that are no nearer to the domain than we are: they would
// give the mail to us (RFC 5321 5.1).
func (d *delivery) beforeUs(hops []hop) []hop {
	us := slices.IndexFunc(hops, func(h hop) bool { return d.names[h.host] })
	if us < 0 {
		return hops
	}
	return slices.DeleteFunc(hops, func(h hop) bool { return h.preference >= hops[us].preference })
}
