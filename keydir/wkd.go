package keydir

import (
	"bytes"
	"context"
	"crypto/sha1"
	"net/http"
	"net/url"
	"strings"
	"time"

	"postern/internal/dns"
	"postern/internal/mail"
)

// WKD finds certificates in the Web Key Directory of an address's own domain
// (draft-koch-openpgp-webkey-service-21). It is safe for concurrent use.
//
// The advanced method is used if openpgpkey.DOMAIN has an address, and the direct
// method only if it certainly has none: also where the name exists without one,
// which is how a domain with a wildcard record says that it has only the direct one.
// A host that does not answer is no reason to ask another.
//
// Who has a host named openpgpkey means to have a directory there, and only a proper
// answer of it counts. The host of the bare name is mostly there for something else,
// and if it shows that it keeps no directory, that is an answer: else there could be no
// mail to most domains. (1) means None unless a certificate was found in this domain's
// directory within a year: then it is not believed that there is none.
//
//	what comes back                                          advanced  direct
//	200, certificates for the address                        Found     Found
//	200, certificates, none survives, see survivors          None or Unknown
//	200, a web page (text/html)                              None      None (1)
//	200, armor where the draft wants binary                  Unknown   Unknown
//	200, anything else, or over a limit                      Unknown   Unknown
//	404 and 410                                              None      None
//	other 4xx but 408, 425 and 429                           Unknown   None (1)
//	other statuses                                           Unknown   Unknown
//	a redirect that is not followed                          Unknown   None (1)
//	an address that is not public                            Unknown   None (1)
//	every address refuses the connection                     Unknown   None (1)
//	no TLS, or a certificate that is not for this name, or
//	from nobody we believe                                   Unknown   None (1)
//	a certificate for this name that has expired             Unknown   Unknown
//	no answer in time, the connection broke                  Unknown   Unknown
//	DNS does not know                                        Unknown   Unknown
//	the name has no address                                  direct    None
//
// An address literal is None. Armor is refused because whoever publishes that means to
// publish a certificate that others cannot read either: silence would be wrong, and so
// would be clear text. A web page is what a site shows for whatever it does not have.
type WKD struct {
	fetcher  *Fetcher
	resolver Resolver
	domains  DomainStore
	now      func() time.Time
}

// NewWKD returns the source. The resolver finds out which method applies, and the store
// remembers which domains have a directory; nil remembers nothing.
func NewWKD(f *Fetcher, r Resolver, s DomainStore, now func() time.Time) *WKD {
	return &WKD{fetcher: f, resolver: r, domains: s, now: now}
}

// Name implements Source.
func (*WKD) Name() string { return "wkd" }

// Trust implements Source.
func (*WKD) Trust() Trust { return Published }

// Lookup implements Source.
func (w *WKD) Lookup(ctx context.Context, address mail.Address) (Finding, error) {
	if isLiteral(address) {
		return Finding{Detail: "an address literal has no directory"}, nil
	}
	if err := w.fetcher.hosts.Refuses("openpgpkey."+address.Domain, address.Domain); err != nil {
		return Finding{}, err // ten thousand of these cost little
	}
	where, err := w.locate(ctx, address)
	if err != nil {
		return Finding{}, err
	}
	if where.page == nil {
		return Finding{Detail: "the domain has no web server", Lifetime: where.lifetime}, nil
	}
	f, err := w.fetch(ctx, address, where)
	if err != nil {
		return Finding{}, prefixed(where.method, err)
	}
	f.Detail = where.method + ", " + f.Detail
	return f, nil
}

// fetch asks a host, and reads what it says.
func (w *WKD) fetch(ctx context.Context, address mail.Address, where place) (f Finding, err error) {
	settled := func(error) bool { return false }
	if where.direct {
		settled = func(err error) bool { return keepsNone(err, address.Domain) }
	}
	r, err := w.fetcher.get(ctx, address.Domain, where.page, settled)
	if err == nil {
		f, err = readWKD(r, address, where.direct)
	}
	switch {
	case err != nil && settled(err):
		return w.none(ctx, address.Domain, err)
	case len(f.Certificates) > 0:
		w.remember(ctx, address.Domain)
	}
	return f, err
}

// isLiteral says whether the domain is an address in brackets, or none at all.
func isLiteral(a mail.Address) bool { return a.Domain == "" || a.Domain[0] == '[' }

// prefixed says in front of an error's text which way was gone.
func prefixed(way string, err error) error {
	e, ok := err.(*SourceError)
	if !ok {
		return unknown(CauseConnect, err, "%s, failed", way)
	}
	copied := *e
	copied.Detail = way + ", " + e.Detail
	return &copied
}

// place is where to ask.
type place struct {
	method   string
	direct   bool
	page     *url.URL // nil if there is nobody to ask
	lifetime time.Duration
}

// locate finds out which method applies (section 3.1).
func (w *WKD) locate(ctx context.Context, address mail.Address) (place, error) {
	domain := address.Domain
	base := "/.well-known/openpgpkey/"
	for _, p := range []struct{ method, host, path string }{
		{"advanced method", "openpgpkey." + domain, base + domain + "/hu/"},
		{"direct method", domain, base + "hu/"},
	} {
		exists, lifetime, err := w.hasAddress(ctx, p.host)
		if err != nil {
			return place{}, prefixed(p.method, err)
		}
		if exists {
			hash := WKDHash(address.Local)
			return place{method: p.method, direct: p.host == domain, page: &url.URL{Scheme: "https", Host: p.host, Path: p.path + hash,
				RawQuery: "l=" + percentEncode(address.Local)}}, nil
		}
		if p.host == domain {
			return place{lifetime: lifetime}, nil
		}
	}
	return place{}, nil // not reached
}

// hasAddress says whether a host has an address, for certain. lifetime is how long
// it is known that it has none.
func (w *WKD) hasAddress(ctx context.Context, host string) (exists bool, lifetime time.Duration, err error) {
	w.resolver.Prefetch(host, dns.TypeAAAA)
	var failed error
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		a, err := w.resolver.Query(ctx, host, qtype)
		switch {
		case err != nil:
			failed = err
		case len(a.Records) > 0:
			return true, 0, nil
		case a.NXDomain:
			return false, a.TTL, nil
		case lifetime == 0 || a.TTL < lifetime:
			lifetime = a.TTL
		}
	}
	if failed != nil {
		return false, 0, dnsError(ctx, failed)
	}
	return false, lifetime, nil
}

// readWKD decides what a reply says.
func readWKD(r *reply, address mail.Address, direct bool) (Finding, error) {
	f := Finding{Lifetime: r.lifetime}
	switch {
	case r.status == http.StatusNotFound || r.status == http.StatusGone:
		f.Detail = statusText(r.status)
		return f, nil
	case r.status/100 == 4 && r.status != http.StatusRequestTimeout && r.status != http.StatusTooEarly:
		e := answered(CauseStatus, "HTTP status %d", r.status)
		e.Err = errNoDirectory
		return Finding{}, e
	case r.status != http.StatusOK:
		return Finding{}, answered(CauseStatus, "HTTP status %d", r.status)
	case isPage(r) && direct:
		e := answered(CauseContent, "a web page and no certificate")
		e.Err = errNoDirectory
		return Finding{}, e
	case isPage(r):
		f.Detail = "a web page and no certificate"
		return f, nil
	case isArmored(r.body):
		return Finding{}, answered(CauseContent, "the certificate is in ASCII armor, which the directory's standard forbids")
	case len(r.body) == 0:
		return Finding{}, answered(CauseContent, "an empty answer")
	}
	certs, detail, err := survivors(r.body, address)
	if err != nil {
		return Finding{}, err
	}
	f.Certificates, f.Detail = certs, detail
	if len(certs) > 0 {
		f.Detail = "found"
	}
	return f, nil
}

func statusText(status int) string {
	if status == http.StatusGone {
		return "410"
	}
	return "404"
}

// isPage says whether it is what web servers show to people. The draft wants any
// Content-Type to be accepted, so this alone does not decide.
func isPage(r *reply) bool {
	if r.contentType != "text/html" && r.contentType != "application/xhtml+xml" {
		return false
	}
	packet := len(r.body) > 0 && r.body[0]&0x80 != 0 && !bytes.HasPrefix(r.body, []byte("\xEF\xBB\xBF"))
	return !packet && !isArmored(r.body)
}

// isArmored says whether the body is text that has armor in it.
func isArmored(body []byte) bool {
	return len(body) > 0 && body[0]&0x80 == 0 && bytes.Contains(body, []byte("-----BEGIN PGP"))
}

// zbase32 is the alphabet of Z-Base-32 (RFC 6189 5.1.6).
const zbase32 = "ybndrfg8ejkmcpqxot1uwisza345h769"

// WKDHash is the name under which a Web Key Directory keeps the certificates of a
// local-part: SHA-1 of it with ASCII letters in lower case and nothing else changed,
// in Z-Base-32; 32 characters (section 3.1).
func WKDHash(local string) string {
	lower := []byte(local)
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' {
			lower[i] = c + 'a' - 'A'
		}
	}
	sum := sha1.Sum(lower)
	hash := make([]byte, 0, 32)
	for i := 0; i < len(sum); i += 5 {
		group := uint64(sum[i])<<32 | uint64(sum[i+1])<<24 | uint64(sum[i+2])<<16 | uint64(sum[i+3])<<8 | uint64(sum[i+4])
		for shift := 35; shift >= 0; shift -= 5 {
			hash = append(hash, zbase32[group>>shift&31])
		}
	}
	return string(hash)
}

// percentEncode writes everything but the unreserved characters of RFC 3986 2.3 as
// octets.
func percentEncode(s string) string {
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}
