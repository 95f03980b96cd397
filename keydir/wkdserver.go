package keydir

import (
	"net/url"
	"strings"
	"unicode/utf8"
)

// wkd answers a request to a Web Key Directory (draft-koch-openpgp-webkey-service-21):
// rest is what follows "/.well-known/openpgpkey/". With the advanced method it begins
// with the domain.
func (e *exchange) wkd(domain string, advanced bool, rest string) {
	if e.readOnly() {
		return
	}
	if advanced {
		of, after, ok := strings.Cut(rest, "/")
		if !ok || !strings.EqualFold(of, domain) {
			e.absent()
			return
		}
		rest = after
	}
	if rest == "policy" {
		// Section 4.5: it has to be there, and may be empty. There is nothing special
		// about this directory.
		e.found(e.fixed.policy, e.fixed.text)
		return
	}
	hash, ok := strings.CutPrefix(rest, "hu/")
	if !ok || !isHash(hash) || !sameLocal(e.r.URL.RawQuery, hash) || e.Publication == nil {
		e.absent()
		return
	}
	page, err := e.Publication.byHash(e.r.Context(), domain, hash)
	if err != nil {
		e.failed(err)
		return
	}
	e.found(page.binary, e.fixed.octets)
}

// sameLocal says whether the parameter l, the local-part, fits the hash. It need not
// be there.
//
// QUIRK: one that is not UTF-8 says nothing; Thunderbird's escape() makes such of
// letters outside of ASCII, though its hash is right.
func sameLocal(query, hash string) bool {
	for query != "" {
		var param string
		param, query, _ = strings.Cut(query, "&")
		value, ok := strings.CutPrefix(param, "l=")
		if !ok {
			continue
		}
		// In a query "+" would be a space. Clients mean what it is: no local-part of
		// theirs has a space.
		local, err := url.PathUnescape(value)
		return err != nil || !utf8.ValidString(local) || WKDHash(local) == hash
	}
	return true
}
