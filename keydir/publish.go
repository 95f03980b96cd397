package keydir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"postern/internal/cluster"
	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/telemetry"
)

const (
	// maxURL is the longest request target that is looked at: an address has at most
	// 254 octets, three times that when it is escaped, and may stand there twice.
	maxURL = 2048
	// askTime is how long the directory may ask others on behalf of a user.
	askTime = 5 * time.Second
	// rateWindow is what PublishOptions.Rate is counted in.
	rateWindow = time.Minute
)

// ErrLogin says that login and password do not belong together.
var ErrLogin = errors.New("login or password is wrong")

// ErrLoginWait says that too many attempts failed before this one.
type ErrLoginWait struct{ Wait time.Duration }

func (e *ErrLoginWait) Error() string { return fmt.Sprintf("log in again in %v", e.Wait) }

// Users says who is a user of this gateway.
type Users interface {
	// Login returns nil if the password is the login's, ErrLogin if not,
	// *ErrLoginWait if it was not looked at, and any other error if nobody knows.
	Login(ctx context.Context, ip netip.Addr, login, password string) error
}

// Finder answers look-ups. *Directory is one.
type Finder interface {
	Lookup(ctx context.Context, address mail.Address) Answer
}

// PublishOptions are what a Publisher works with.
type PublishOptions struct {
	// Publication is what is given out; nil publishes nothing at all.
	Publication *Publication
	// Submission is the address to which accounts of a domain hand in certificates by
	// mail, and what such mail is encrypted to: Web Key Service. Nil of either: there is
	// none.
	Submission func(domain string) (mail.Address, *pgp.Certificate)
	// Hostname is the gateway's own name; key servers are asked by it too.
	Hostname string
	// Hosted says whether a domain, in lower case with A-labels, is one of ours.
	Hosted func(domain string) bool
	// Rate is how many requests a minute one IPv4 address or IPv6 /64 may make; 0
	// means any number. They are counted in Rates.
	Rate  int
	Rates cluster.Rates
	// Users may ask about other people's addresses, which Finder answers. Nil of
	// either: nobody may.
	Users   Users
	Finder  Finder
	Now     func() time.Time   // nil: time.Now
	Log     *slog.Logger       // nil: none
	Metrics *telemetry.Metrics // nil: none
}

// Publisher is the web server's handler that gives out certificates: the Web Key
// Directory, the key server protocol HKP, and VKS, all of them for reading only.
//
// It takes requests for the hosted domains, their "openpgpkey." and "keys." names and
// the gateway's own name; without TLS only those of HKP. Whatever is not found gets the
// same answer to the octet. It never answers with HTML, never logs what it was asked,
// and looks at who asks only where an address of another domain is asked for by HKP or
// VKS.
type Publisher struct {
	PublishOptions
	fixed fixedFields
}

// fixedFields are header fields that are the same in many answers. They are shared
// and never changed.
type fixedFields struct {
	anyOrigin, nosniff, text, json, octets, keys, armored []string
	cached, brief, private                                []string

	policy *content
}

// NewPublisher returns the handler.
func NewPublisher(o PublishOptions) *Publisher {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = telemetry.Discard()
	}
	return &Publisher{PublishOptions: o, fixed: fixedFields{
		anyOrigin: []string{"*"}, nosniff: []string{"nosniff"},
		text: []string{"text/plain; charset=utf-8"}, json: []string{"application/json"},
		octets: []string{"application/octet-stream"}, keys: []string{"application/pgp-keys;armor=no"},
		armored: []string{"application/pgp-keys"},
		// A revocation has to get around, so an hour. Gateways remember on their own
		// that there was nothing.
		cached: []string{"public, max-age=3600"}, brief: []string{"public, max-age=60"},
		private: []string{"private, no-store"},
		policy:  newContent(nil),
	}}
}

// ServeHTTP implements http.Handler.
func (p *Publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e := &exchange{Publisher: p, w: w, r: r, protocol: "other"}
	defer e.recover()
	h := w.Header()
	// Browsers are clients as others are, and what is here is for everybody.
	h["Access-Control-Allow-Origin"] = p.fixed.anyOrigin
	h["X-Content-Type-Options"] = p.fixed.nosniff
	e.serve()
}

// exchange is one request and its answer.
type exchange struct {
	*Publisher
	w        http.ResponseWriter
	r        *http.Request
	protocol string
	private  bool // the answer is for this user only
}

func (e *exchange) serve() {
	if len(e.r.RequestURI) > maxURL {
		e.absent()
		return
	}
	if !e.allowed() {
		e.w.Header().Set("Retry-After", strconv.Itoa(int(rateWindow/time.Second)))
		e.text(http.StatusTooManyRequests, "too many requests")
		return
	}
	host, path := hostName(e.r.Host), e.r.URL.Path
	secure := e.r.TLS != nil
	asked, advanced := e.domainOf(host)
	if rest, ok := strings.CutPrefix(path, "/.well-known/openpgpkey/"); ok && asked != "" && secure {
		e.protocol = "wkd"
		e.wkd(asked, advanced, rest)
		return
	}
	if asked != "" || e.isKeyServer(host) {
		if rest, ok := strings.CutPrefix(path, "/pks/"); ok {
			e.protocol = "hkp"
			e.hkp(rest)
			return
		}
		if rest, ok := strings.CutPrefix(path, "/vks/v1/"); ok && secure {
			e.protocol = "vks"
			e.vks(rest)
			return
		}
	}
	e.absent()
}

// hostName returns the name that was asked for in the form of Hosted, without a port.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// domainOf returns the domain that a host name stands for in the Web Key Directory,
// and by which of its methods; "" if by none.
func (e *exchange) domainOf(host string) (domain string, advanced bool) {
	if d, ok := strings.CutPrefix(host, "openpgpkey."); ok && e.Hosted(d) {
		return d, true
	}
	if e.Hosted(host) {
		return host, false
	}
	return "", false
}

// isKeyServer says whether key servers are asked by this name.
func (e *exchange) isKeyServer(host string) bool {
	d, ok := strings.CutPrefix(host, "keys.")
	return ok && e.Hosted(d) || host == e.Hostname
}

// allowed counts the request of whoever makes it.
func (e *exchange) allowed() bool {
	if e.Rate <= 0 || e.Rates == nil {
		return true
	}
	return e.Rates.Take("https "+network(e.address()), e.Rate, rateWindow)
}

// address is the client's.
func (e *exchange) address() netip.Addr {
	at, _ := netip.ParseAddrPort(e.r.RemoteAddr)
	return at.Addr().Unmap()
}

// network is what one client can have many addresses of.
func network(ip netip.Addr) string {
	if ip.Is6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			return p.Addr().String()
		}
	}
	return ip.String()
}

// readOnly answers what does not read, and reports whether it did.
func (e *exchange) readOnly() bool {
	switch e.r.Method {
	case http.MethodGet, http.MethodHead:
		return false
	case http.MethodOptions:
		e.options()
	default:
		e.w.Header().Set("Allow", readMethods)
		e.text(http.StatusMethodNotAllowed, "this server is for reading only")
	}
	return true
}

const readMethods = "GET, HEAD, OPTIONS"

// options answers browsers that ask before they send fields of their own, and clients
// that ask what there is.
func (e *exchange) options() {
	h := e.w.Header()
	h.Set("Allow", readMethods)
	h.Set("Access-Control-Allow-Methods", readMethods)
	h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-None-Match, X-OpenPGP-Padding")
	h.Set("Access-Control-Max-Age", "86400")
	h.Set("Content-Length", "0")
	e.status(http.StatusOK)
}

// found sends what was found. It allows 304 (RFC 9110 13.1.2).
func (e *exchange) found(c *content, mediaType []string) {
	h := e.w.Header()
	h["Etag"] = c.etag
	h["Cache-Control"] = e.fixed.cached
	if e.private {
		h["Cache-Control"] = e.fixed.private
	}
	if given := e.r.Header.Get("If-None-Match"); given != "" && matches(given, c.etag[0]) {
		e.status(http.StatusNotModified)
		return
	}
	h["Content-Type"] = mediaType
	h["Content-Length"] = c.length
	e.status(http.StatusOK)
	if e.r.Method != http.MethodHead {
		_, _ = e.w.Write(c.body) // whoever has gone needs no answer
	}
}

// matches compares with a list of entity tags, weakly.
func matches(given, tag string) bool {
	if strings.TrimSpace(given) == "*" {
		return true
	}
	for one := range strings.SplitSeq(given, ",") {
		if strings.TrimPrefix(strings.TrimSpace(one), "W/") == tag {
			return true
		}
	}
	return false
}

// failed answers an error of a look-up.
func (e *exchange) failed(err error) {
	if errors.Is(err, errAbsent) {
		e.absent()
		return
	}
	if !errors.Is(err, errNotReady) && !errors.Is(err, context.Canceled) {
		e.Log.Error("answer a look-up", telemetry.KeyError, err)
	}
	e.unknown()
}

// absent is the one answer for everything that is not found.
func (e *exchange) absent() { e.text(http.StatusNotFound, "not found") }

// unknown says that nobody knows: it must not be taken for "not found".
func (e *exchange) unknown() {
	e.w.Header().Set("Retry-After", "30")
	e.text(http.StatusServiceUnavailable, "it is not known at present: try again")
}

// text sends a line of text. The header fields are the same for the same status.
func (e *exchange) text(status int, line string) {
	body := line + "\n"
	h := e.w.Header()
	h["Content-Type"] = e.fixed.text
	h["Cache-Control"] = e.fixed.brief
	if status != http.StatusNotFound || e.private {
		h["Cache-Control"] = e.fixed.private
	}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	e.status(status)
	if e.r.Method != http.MethodHead {
		_, _ = e.w.Write([]byte(body))
	}
}

func (e *exchange) status(code int) {
	e.Metrics.KeydirPublished(e.protocol, resultOf(code))
	e.w.WriteHeader(code)
}

// resultOf is what a status means to those who count.
func resultOf(status int) string {
	switch status {
	case http.StatusOK:
		return telemetry.PublishedFound
	case http.StatusNotModified:
		return telemetry.PublishedUnchanged
	case http.StatusNotFound:
		return telemetry.PublishedAbsent
	case http.StatusServiceUnavailable:
		return telemetry.PublishedUnknown
	case http.StatusTooManyRequests:
		return telemetry.PublishedLimited
	case http.StatusUnauthorized:
		return telemetry.PublishedDenied
	}
	return "refused"
}

// recover ends the connection instead of the process, and keeps the client's address
// out of the log, where net/http would write it.
func (e *exchange) recover() {
	if v := recover(); v != nil {
		if v != http.ErrAbortHandler {
			e.Log.Error("panic while answering", telemetry.KeyError, fmt.Sprint(v))
		}
		panic(http.ErrAbortHandler)
	}
}
