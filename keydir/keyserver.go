package keydir

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"postern/internal/mail"
)

// KeyServer finds certificates on a key server, by one of the protocols that there
// are. Whom we write to is told to whoever runs it, and anybody may have put there
// what is found: Unverified. It is safe for concurrent use.
//
//	vks   GET /vks/v1/by-email/ADDRESS, as keys.openpgp.org has it
//	hkp   GET /pks/lookup?op=get&options=mr&exact=on&search=ADDRESS
//	      (draft-ietf-openpgp-hkp-01, version 1)
//	hkp2  GET /pks/v2/certs/by-identity/ADDRESS (version 2)
//
// 404 means None; what does not is as for WKD, but armor is what versions 1 answer
// with, and text/html is Unknown: a key server has no pages there.
type KeyServer struct {
	fetcher  *Fetcher
	protocol string
	base     *url.URL
}

// NewKeyServer returns the source for a server given as "vks://HOST",
// "hkps://HOST" or "hkps2://HOST", optionally with a port; all of them are spoken
// over HTTPS. A port that the fetcher does not dial makes every look-up fail.
func NewKeyServer(f *Fetcher, server string) (*KeyServer, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("key server %q: not a URL", server)
	}
	protocol := map[string]string{"vks": "vks", "hkps": "hkp", "hkps2": "hkp2"}[u.Scheme]
	if protocol == "" {
		return nil, fmt.Errorf("key server %q: begins with neither vks://, hkps:// nor hkps2://", server)
	}
	if u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("key server %q: only a host, and a port, may follow", server)
	}
	if p := u.Port(); p != "" && p != strconv.Itoa(int(f.port)) && p != strconv.Itoa(httpsPort) {
		return nil, fmt.Errorf("key server %q: only port %d is asked", server, f.port)
	}
	return &KeyServer{fetcher: f, protocol: protocol, base: &url.URL{Scheme: "https", Host: strings.ToLower(u.Host)}}, nil
}

// Name implements Source: "vks" or "hkp".
func (k *KeyServer) Name() string { return strings.TrimSuffix(k.protocol, "2") }

// Trust implements Source.
func (*KeyServer) Trust() Trust { return Unverified }

// Host is the server that is asked.
func (k *KeyServer) Host() string { return k.base.Host }

// Lookup implements Source.
func (k *KeyServer) Lookup(ctx context.Context, address mail.Address) (Finding, error) {
	if isLiteral(address) {
		return Finding{Detail: "not asked for an address literal"}, nil
	}
	r, err := k.fetcher.get(ctx, k.base.Hostname(), k.page(address), nil)
	if err != nil {
		return Finding{}, err
	}
	f := Finding{Lifetime: r.lifetime}
	switch {
	case r.status == http.StatusNotFound || r.status == http.StatusGone:
		f.Detail = statusText(r.status)
		return f, nil
	case r.status != http.StatusOK:
		return Finding{}, answered(CauseStatus, "HTTP status %d", r.status)
	case r.contentType == "text/html" || len(r.body) == 0:
		return Finding{}, answered(CauseContent, "a web page or nothing, and no certificate")
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

// page is what is asked for.
func (k *KeyServer) page(address mail.Address) *url.URL {
	u := *k.base
	escaped := percentEncode(address.String())
	switch k.protocol {
	case "vks":
		u.Path, u.RawPath = "/vks/v1/by-email/"+address.String(), "/vks/v1/by-email/"+escaped
	case "hkp2":
		u.Path, u.RawPath = "/pks/v2/certs/by-identity/"+address.String(), "/pks/v2/certs/by-identity/"+escaped
	default:
		u.Path, u.RawQuery = "/pks/lookup", "op=get&options=mr&exact=on&search="+escaped
	}
	return &u
}
