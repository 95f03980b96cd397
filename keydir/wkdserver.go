package keydir

import (
	"errors"
	"net/url"
	"strings"
	"unicode/utf8"

	"postern/internal/mail"
	"postern/internal/pgp"
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
	if e.service(domain, rest) {
		return
	}
	hash, ok := strings.CutPrefix(rest, "hu/")
	if !ok || !isHash(hash) || !sameLocal(e.r.URL.RawQuery, hash) || e.Publication == nil {
		e.absent()
		return
	}
	page, err := e.Publication.byHash(e.r.Context(), domain, hash)
	if errors.Is(err, errAbsent) && e.serviceKey(domain, hash) {
		return
	}
	if err != nil {
		e.failed(err)
		return
	}
	e.found(page.binary, e.fixed.octets)
}

// service answers for the files of the directory that are about no certificate.
func (e *exchange) service(domain, file string) bool {
	if file != "policy" && file != "submission-address" {
		return false
	}
	address, c := e.submission(domain)
	switch {
	case file == "submission-address" && c == nil:
		e.absent()
	case file == "submission-address": // section 4.1
		e.found(newContent([]byte(address.String()+"\n")), e.fixed.text)
	case c == nil:
		// Section 4.5: it has to be there, and may be empty. There is nothing special
		// about this directory.
		e.found(e.fixed.policy, e.fixed.text)
	default:
		e.found(newContent([]byte("submission-address: "+address.String()+"\n")), e.fixed.text)
	}
	return true
}

// serviceKey answers for what mail to the submission address is encrypted to.
func (e *exchange) serviceKey(domain, hash string) bool {
	address, c := e.submission(domain)
	if c == nil || WKDHash(address.Local) != hash {
		return false
	}
	e.found(newContent(c.Data()), e.fixed.octets)
	return true
}

func (e *exchange) submission(domain string) (mail.Address, *pgp.Certificate) {
	if e.Submission == nil || e.Publication == nil {
		return mail.Address{}, nil
	}
	return e.Submission(domain)
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
