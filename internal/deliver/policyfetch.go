package deliver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"postern/internal/dns"
)

const (
	httpsPort = 443
	// fetchPause is how long a domain whose policy could not be fetched is left alone
	// (RFC 8461 3.3).
	fetchPause = 5 * time.Minute
	maxFailed  = 10_000
)

// domainPolicy is what is known of a domain's policy. It is not changed.
type domainPolicy struct {
	policy  *policy // nil if there is none
	text    string
	unknown bool // nobody knows whether there is one
	fresh   bool // it was fetched just now
}

// policies finds the policies of domains. It is safe for concurrent use.
type policies struct {
	c         *Carrier
	transport *http.Transport
	ctx       context.Context // ends with close
	cancel    context.CancelFunc
	flying    sync.WaitGroup

	mu      sync.Mutex
	recent  map[string]recalled
	failed  map[string]time.Time // until when a domain is left alone
	flights map[string]*policyFlight
}

// policyFlight is a fetch that several deliveries wait for.
type policyFlight struct {
	done chan struct{}
	text []byte
	err  error
}

func newPolicies(c *Carrier) *policies {
	p := &policies{c: c, recent: map[string]recalled{}, failed: map[string]time.Time{}, flights: map[string]*policyFlight{}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.transport = &http.Transport{
		DialContext:            p.dial,
		TLSClientConfig:        &tls.Config{RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12, Time: c.Now},
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 only
		DisableCompression:     true,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 32 << 10,
	}
	return p
}

// close ends what is on its way and waits for it.
func (p *policies) close() {
	p.mu.Lock()
	p.cancel()
	p.mu.Unlock()
	p.flying.Wait()
}

// get returns what is known of a domain's policy, and asks where that is not enough.
// A failure is one of our own memory.
func (p *policies) get(ctx context.Context, domain string) (*domainPolicy, *failure) {
	r, err := p.recall(ctx, domain)
	if err != nil {
		return nil, later("4.3.0", "what is remembered of the domain's MTA-STS policy cannot be read").because(err)
	}
	now := p.c.Now()
	known := r.domainPolicy
	if known != nil && !now.Before(r.kept.Expires) {
		known = nil
	}
	if known != nil && now.Sub(r.kept.Used) > usedEvery {
		r.kept.Used = now
		p.save(ctx, domain, r.kept, known)
	}
	id, published, f := p.published(ctx, domain)
	switch {
	case known != nil && (f != nil || !published):
		return known, nil // RFC 8461 5.1: it holds until it expires
	case known != nil && id == r.kept.ID && now.Before(r.kept.Refresh):
		return known, nil
	case known == nil && f != nil:
		return &domainPolicy{unknown: true}, nil
	case !published:
		return &domainPolicy{}, nil
	}
	fetched, err := p.fetch(ctx, domain, id, now)
	if err == nil {
		return fetched, nil
	}
	if known != nil {
		return known, nil
	}
	return &domainPolicy{unknown: true}, nil
}

// published asks for the id of the domain's policy.
func (p *policies) published(ctx context.Context, domain string) (id string, ok bool, f *failure) {
	a, f := p.c.query(ctx, "_mta-sts."+domain, dns.TypeTXT)
	if f != nil {
		return "", false, f
	}
	id, ok = policyID(a.Texts())
	return id, ok, nil
}

// renew fetches a domain's policy although nothing says that it changed.
func (p *policies) renew(ctx context.Context, domain string, old *domainPolicy) (*domainPolicy, bool) {
	id, published, f := p.published(ctx, domain)
	if f != nil || !published {
		return old, false
	}
	renewed, err := p.fetch(ctx, domain, id, p.c.Now())
	if err != nil {
		return old, false
	}
	return renewed, renewed.text != old.text
}

var errLeftAlone = errors.New("the policy could not be fetched a short while ago")

// fetch gets a policy and remembers it, or that it could not be had. Deliveries that
// want the same one at the same time share it. used is when mail went by it last.
func (p *policies) fetch(ctx context.Context, domain, id string, used time.Time) (*domainPolicy, error) {
	p.mu.Lock()
	if p.c.Now().Before(p.failed[domain]) || p.ctx.Err() != nil {
		p.mu.Unlock()
		return nil, errLeftAlone
	}
	f := p.flights[domain]
	if f == nil {
		f = &policyFlight{done: make(chan struct{})}
		p.flights[domain] = f
		p.flying.Go(func() { p.fly(domain, f) })
	}
	p.mu.Unlock()
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if f.err != nil {
		return nil, f.err
	}
	parsed, err := parsePolicy(f.text)
	if err != nil {
		return nil, err
	}
	d := &domainPolicy{policy: parsed, text: string(f.text)}
	now := p.c.Now()
	p.save(ctx, domain, Policy{
		ID: id, Text: f.text, Fetched: now, Expires: now.Add(parsed.maxAge),
		Refresh: now.Add(min(refreshAfter, parsed.maxAge/2)), Used: used,
	}, d)
	fresh := *d
	fresh.fresh = true
	return &fresh, nil
}

// fly does not end with the context of whoever asked first: others may wait too.
func (p *policies) fly(domain string, f *policyFlight) {
	ctx, cancel := context.WithTimeout(p.ctx, p.c.Timeouts.Policy)
	defer cancel()
	f.text, f.err = p.download(ctx, domain)
	if f.err == nil {
		_, f.err = parsePolicy(f.text)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.flights, domain)
	delete(p.failed, domain)
	if f.err != nil {
		if len(p.failed) >= maxFailed {
			clear(p.failed)
		}
		p.failed[domain] = p.c.Now().Add(fetchPause)
	}
	close(f.done)
}

// download asks the domain's web server (RFC 8461 3.3): no redirects, no more than
// maxPolicy octets, nothing but text/plain.
func (p *policies) download(ctx context.Context, domain string) ([]byte, error) {
	host := "mta-sts." + domain
	request := (&http.Request{
		Method: http.MethodGet, Host: host, Header: http.Header{"User-Agent": {"Postern"}},
		URL: &url.URL{Scheme: "https", Host: host, Path: "/.well-known/mta-sts.txt"},
	}).WithContext(ctx)
	response, err := p.transport.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("fetch policy: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch policy: HTTP status %d", response.StatusCode)
	}
	if media, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || media != "text/plain" {
		return nil, fmt.Errorf("fetch policy: %w: not text/plain", errPolicy)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxPolicy+1))
	if err != nil {
		return nil, fmt.Errorf("fetch policy: %w", err)
	}
	return text, nil
}

// dial connects to a web server. What is checked is the address that is dialled.
func (p *policies) dial(ctx context.Context, _, hostport string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	found, f := p.c.addresses(ctx, host)
	if f != nil {
		return nil, f
	}
	port := p.c.PolicyPort
	if port == 0 {
		port = httpsPort
	}
	failed := error(errNoPublicAddress)
	for _, a := range found.list[:min(len(found.list), maxAddresses)] {
		if !p.c.AllowPrivate && !dns.IsPublic(a) {
			continue
		}
		conn, err := p.connect(ctx, netip.AddrPortFrom(a, port))
		if err == nil {
			return conn, nil
		}
		failed = err
	}
	return nil, failed
}

var errNoPublicAddress = errors.New("the host has no public address")

func (p *policies) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.c.Timeouts.Connect)
	defer cancel()
	return p.c.Connect(ctx, to)
}
