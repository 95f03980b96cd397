package keydir

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Limits of a request.
const (
	// DefaultFetchTimeout is for one look-up at one host, redirects included, from
	// when it is its turn.
	DefaultFetchTimeout = 2 * time.Second
	httpsPort           = 443
	maxBody             = 1 << 20
	maxHeader           = 32 << 10
	maxDrain            = 16 << 10 // of a page that is not wanted, to use the connection again
	maxRedirects        = 3
	maxLifetime         = 30 * 24 * time.Hour
	userAgent           = "Postern"
)

// FetchOptions configure a Fetcher.
type FetchOptions struct {
	// Resolver is required.
	Resolver Resolver
	// Hosts share places among hosts; nil means some with the defaults.
	Hosts *Hosts
	// RootCAs are the certificate authorities that are believed; nil means the
	// system's.
	RootCAs *x509.CertPool
	// AllowPrivate allows hosts whose addresses are loopback, private or otherwise
	// not of the public Internet. Without it nobody can have us ask machines that
	// only we can reach.
	AllowPrivate bool
	// Port is dialled in place of 443, for tests and private networks; zero means 443.
	Port uint16
	// Timeout is for one look-up at one host, from when it is its turn. It may wait
	// as long again for that. Zero means DefaultFetchTimeout.
	Timeout time.Duration
	// Connect makes the connections, to addresses that were checked; nil means TCP.
	Connect func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
}

// Fetcher is the HTTP client that all sources share. It speaks HTTPS with GET and
// nothing else: TLS 1.2 or newer with a certificate that is valid for the name, no
// cookies, no credentials, no proxy (whatever the environment says), no compressed
// answers, answers of at most 1 MiB. It is safe for concurrent use.
//
// Redirects are followed up to three times, to https and the same port, within the
// domain that was asked and the names below it; and to any other host only if path
// and query stay what they were at first: so a domain can delegate its directory,
// and nobody can use us to send requests of their choice elsewhere. (The Web Key
// Directory draft says nothing of redirects; this is close to what GnuPG does.) No
// Referer goes along.
type Fetcher struct {
	transport *http.Transport
	hosts     *Hosts
	port      uint16
	timeout   time.Duration
}

// NewFetcher returns a Fetcher. It connects to nobody.
func NewFetcher(o FetchOptions) *Fetcher {
	if o.Hosts == nil {
		o.Hosts = NewHosts(HostsOptions{})
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultFetchTimeout
	}
	if o.Port == 0 {
		o.Port = httpsPort
	}
	if o.Connect == nil {
		tcp := &net.Dialer{Timeout: o.Timeout}
		o.Connect = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return tcp.DialContext(ctx, "tcp", to.String())
		}
	}
	d := &dialer{resolver: o.Resolver, allowPrivate: o.AllowPrivate, port: o.Port, connect: o.Connect, patience: resolutionDelay}
	return &Fetcher{
		hosts: o.Hosts, port: o.Port, timeout: o.Timeout,
		transport: &http.Transport{
			DialContext:            d.dial,
			TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(DefaultParallel)},
			TLSHandshakeTimeout:    o.Timeout,
			TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 only
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeader,
			MaxConnsPerHost:        4 * DefaultPerHost, // hosts that others redirect to
			MaxIdleConns:           DefaultParallel,
			MaxIdleConnsPerHost:    DefaultPerHost,
			IdleConnTimeout:        30 * time.Second,
		},
	}
}

// Close closes the connections that are idle.
func (f *Fetcher) Close() { f.transport.CloseIdleConnections() }

// reply is what a host answered.
type reply struct {
	status      int
	contentType string // media type, lower case, without parameters
	body        []byte // of status 200 only
	lifetime    time.Duration
	redirected  bool
}

// get asks for a page at a host of the domain. Every answer is a reply but those
// that say that the server is not well (429, 5xx); those and everything else are a
// *SourceError. One that settled says is an answer too does not count against the host;
// nil stands for none.
func (f *Fetcher) get(ctx context.Context, domain string, page *url.URL, settled func(error) bool) (*reply, error) {
	waiting, cancel := context.WithTimeout(ctx, 2*f.timeout)
	defer cancel()
	var r *reply
	err := f.hosts.Do(waiting, page.Host, func(context.Context) error {
		asking, cancel := context.WithTimeout(ctx, f.timeout)
		defer cancel()
		var err error
		if r, err = f.follow(asking, domain, page); err != nil {
			err := f.classify(ctx, asking, err)
			if settled != nil && settled(err) {
				err.answered = true
			}
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// follow makes the request and those that redirects lead to.
func (f *Fetcher) follow(ctx context.Context, domain string, page *url.URL) (*reply, error) {
	first := page
	for hop := 0; ; hop++ {
		r, location, err := f.roundTrip(ctx, page)
		if err != nil || location == "" {
			if r != nil {
				r.redirected = hop > 0
			}
			return r, err
		}
		if hop == maxRedirects {
			return nil, answered(CauseRedirect, "redirected more than %d times", maxRedirects)
		}
		if page, err = f.redirect(domain, first, page, location); err != nil {
			return nil, err
		}
	}
}

// answered is an error of a question to a host that is well.
func answered(cause Cause, format string, args ...any) *SourceError {
	e := unknown(cause, nil, format, args...)
	e.answered = true
	return e
}

// redirect decides whether a redirect is followed, and to where.
func (f *Fetcher) redirect(domain string, first, from *url.URL, location string) (*url.URL, error) {
	to, err := from.Parse(location)
	if err != nil || to.Opaque != "" || to.Host == "" {
		return nil, answered(CauseRedirect, "redirected to what is no address")
	}
	if to.Scheme != "https" {
		return nil, answered(CauseRedirect, "redirected to a page without TLS")
	}
	if port := to.Port(); port != "" && port != strconv.Itoa(httpsPort) && port != strconv.Itoa(int(f.port)) {
		return nil, answered(CauseRedirect, "redirected to another port")
	}
	host := strings.ToLower(strings.TrimSuffix(to.Hostname(), "."))
	if host != domain && !strings.HasSuffix(host, "."+domain) {
		if to.EscapedPath() != first.EscapedPath() {
			return nil, answered(CauseRedirect, "redirected to another page of another domain")
		}
		to.RawQuery, to.ForceQuery = first.RawQuery, false
	}
	to.User, to.Fragment = nil, ""
	return to, nil
}

// roundTrip makes one request. location is set if the answer is a redirect.
func (f *Fetcher) roundTrip(ctx context.Context, page *url.URL) (r *reply, location string, err error) {
	request := (&http.Request{
		Method: http.MethodGet, URL: page, Host: page.Host,
		Header: http.Header{"User-Agent": {userAgent}},
	}).WithContext(ctx)
	response, err := f.transport.RoundTrip(request)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		_, _ = io.CopyN(io.Discard, response.Body, maxDrain)
		_ = response.Body.Close()
	}()
	r = &reply{status: response.StatusCode, lifetime: freshness(response.Header)}
	r.contentType, _, _ = mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case r.status == http.StatusOK:
		r.body, err = readBody(response)
		if err == nil {
			// A server may end its answer politely when it sees us hang up.
			err = ctx.Err()
		}
		return r, "", err
	case r.status == http.StatusTooManyRequests || r.status >= 500:
		e := unknown(CauseStatus, nil, "HTTP status %d", r.status)
		e.RetryAfter = retryAfter(response.Header)
		return nil, "", e
	case isRedirect(r.status):
		if location = response.Header.Get("Location"); location == "" {
			return nil, "", answered(CauseRedirect, "redirected to nowhere")
		}
	}
	return r, location, nil
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// readBody reads at most maxBody octets, none of them unpacked.
func readBody(response *http.Response) ([]byte, error) {
	if e := response.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return nil, answered(CauseContent, "the answer is compressed, which was not asked for")
	}
	if response.ContentLength > maxBody {
		return nil, unknown(CauseTooLarge, nil, "the answer is over %d KiB", maxBody>>10)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxBody {
		return nil, unknown(CauseTooLarge, nil, "the answer is over %d KiB", maxBody>>10)
	}
	return body, nil
}

// freshness is how long an answer says it is good for (RFC 9111 4.2.1); zero if it
// does not say.
func freshness(h http.Header) time.Duration {
	var age, life time.Duration
	for _, directive := range strings.Split(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			life = seconds(strings.Trim(value, `"`))
		}
	}
	age = seconds(h.Get("Age"))
	return max(0, life-age)
}

func retryAfter(h http.Header) time.Duration { return seconds(h.Get("Retry-After")) }

// seconds reads delta-seconds (RFC 9111 1.2.2), of which nobody needs very many.
func seconds(s string) time.Duration {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 63)
	if errors.Is(err, strconv.ErrRange) {
		return maxLifetime
	}
	if err != nil {
		return 0
	}
	return time.Duration(min(n, uint64(maxLifetime/time.Second))) * time.Second
}

// classify makes a *SourceError of whatever went wrong. asking is the context of
// the request and ctx that of who asked for it.
func (f *Fetcher) classify(ctx, asking context.Context, err error) *SourceError {
	var source *SourceError
	if errors.As(err, &source) && source.Cause != CauseTimeout {
		return source
	}
	if ctx.Err() != nil {
		return waitedInVain(ctx)
	}
	if source != nil {
		return source
	}
	var timeout net.Error
	if asking.Err() != nil || errors.As(err, &timeout) && timeout.Timeout() {
		return unknown(CauseTimeout, err, "no answer within %v", f.timeout)
	}
	if detail := tlsDetail(err); detail != "" {
		return unknown(CauseTLS, err, "TLS: %s", detail)
	}
	return unknown(CauseConnect, err, "the connection broke")
}

// tlsDetail says what is wrong with the peer's TLS without quoting it; "" if it is
// something else that is wrong.
func tlsDetail(err error) string {
	var (
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		alert     tls.AlertError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &name):
		return "the certificate is for another name"
	case errors.As(err, &authority):
		return "the certificate is from an unknown authority"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificate has expired or is not valid yet"
	case errors.As(err, &invalid), errors.As(err, &verify):
		return "the certificate is not valid"
	case errors.As(err, &record):
		return "the answer is not TLS"
	case errors.As(err, &alert):
		return fmt.Sprintf("handshake failed, alert %d", uint8(alert))
	case strings.HasPrefix(err.Error(), "tls: "), strings.HasPrefix(err.Error(), "remote error: tls: "):
		return "handshake failed"
	}
	return ""
}
