package keydir

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
)

// keyIDDigits is the length of a key ID in hex.
const keyIDDigits = 16

// pick is what a look-up of HKP or VKS found: certificates, and their answers if they
// are ready.
type pick struct {
	certs []*pgp.Certificate
	page  *page // nil, or certs are all that is on it
}

// everything is all of it in binary.
func (k pick) everything() *content {
	if k.page != nil {
		return k.page.everything()
	}
	return newContent(concatenated(k.certs))
}

// armored is what all software can read of it, in armor.
func (k pick) armored() *content {
	if k.page != nil {
		return k.page.armored()
	}
	return newContent(pgp.Armor(readable(k.certs)))
}

// onlyVersion4 leaves out what must not be found by key ID (section 5.1.3).
func (k pick) onlyVersion4(e *exchange, ok bool) (pick, bool) {
	if !ok {
		return k, false
	}
	certs := slices.DeleteFunc(slices.Clone(k.certs), func(c *pgp.Certificate) bool { return c.Version() != 4 })
	if len(certs) == 0 {
		return e.noLookup("")
	}
	return pick{certs: certs}, true
}

// byIdentity looks up an address: one of ours among what is published, any other in
// the directory if a user asks. If it finds nothing it has answered.
func (e *exchange) byIdentity(id string) (pick, bool) {
	a, err := mail.ParseAddress(id)
	if err != nil {
		return e.noLookup(id)
	}
	if e.Hosted(a.Domain) {
		return e.hosted(a)
	}
	return e.elsewhere(a)
}

// byHostedIdentity is byIdentity for addresses of ours only.
func (e *exchange) byHostedIdentity(id string) (pick, bool) {
	a, err := mail.ParseAddress(id)
	if err != nil || !e.Hosted(a.Domain) {
		return e.noLookup(id)
	}
	return e.hosted(a)
}

func (e *exchange) hosted(a mail.Address) (pick, bool) {
	if e.Publication == nil {
		return e.noLookup("")
	}
	page, err := e.Publication.byAddress(e.r.Context(), a)
	if err != nil {
		e.failed(err)
		return pick{}, false
	}
	return pick{page.certs, page}, true
}

// byFingerprint looks up a fingerprint in hex among what is published.
func (e *exchange) byFingerprint(hex string) (pick, bool) {
	hex = strings.ToUpper(hex)
	return e.byKey(hex, func(c *pgp.Certificate) bool { return c.Fingerprint() == hex })
}

// byKeyID looks up a key ID of 16 digits among what is published.
func (e *exchange) byKeyID(hex string) (pick, bool) {
	hex = strings.ToUpper(hex)
	if len(hex) != keyIDDigits {
		return e.noLookup(hex)
	}
	// As if it were the end of a fingerprint.
	return e.byKey(strings.Repeat("0", 40-keyIDDigits)+hex, func(c *pgp.Certificate) bool { return c.KeyID() == hex })
}

// byKey looks among the certificates that have the key ID of a fingerprint. A
// certificate that several accounts share is there once with each address.
func (e *exchange) byKey(fingerprint string, match func(*pgp.Certificate) bool) (pick, bool) {
	id, ok := keyIDOf(fingerprint)
	if !ok || e.Publication == nil {
		return e.noLookup(fingerprint)
	}
	pages, err := e.Publication.byKeyID(e.r.Context(), id)
	if err != nil {
		e.failed(err)
		return pick{}, false
	}
	var k pick
	for _, page := range pages {
		if !e.Hosted(page.address.Domain) {
			continue
		}
		for _, c := range page.certs {
			if match(c) {
				k.certs = append(k.certs, c)
			}
		}
		if len(k.certs) == len(page.certs) && len(pages) == 1 {
			k.page = page
		}
	}
	if len(k.certs) == 0 {
		return e.noLookup(fingerprint)
	}
	return k, true
}

// elsewhere looks up an address of another domain, which takes a user: everybody else
// learns nothing, not even whether it is known.
func (e *exchange) elsewhere(a mail.Address) (pick, bool) {
	login, password, ok := e.r.BasicAuth()
	// Thunderbird sends a login without a password with every request, so that it is
	// not asked for one.
	if !ok || password == "" || e.r.TLS == nil || e.Users == nil || e.Finder == nil {
		return e.noLookup("")
	}
	e.private = true
	if err := e.Users.Login(e.r.Context(), e.address(), login, password); err != nil {
		e.refuseLogin(err)
		return pick{}, false
	}
	ctx, cancel := context.WithTimeout(e.r.Context(), askTime)
	defer cancel()
	answer := e.Finder.Lookup(ctx, a)
	switch answer.Kind {
	case mail.None:
		return e.noLookup("")
	case mail.Found:
		if certs, err := answer.Certificates(e.Now()); err == nil && len(certs) > 0 {
			return pick{certs: certs}, true
		}
	}
	e.unknown()
	return pick{}, false
}

func (e *exchange) refuseLogin(err error) {
	var wait *ErrLoginWait
	switch {
	case errors.Is(err, ErrLogin):
		e.w.Header().Set("WWW-Authenticate", `Basic realm="app password", charset="UTF-8"`)
		e.text(http.StatusUnauthorized, "login or password is wrong")
	case errors.As(err, &wait):
		e.w.Header().Set("Retry-After", strconv.Itoa(int((wait.Wait+time.Second-1)/time.Second)))
		e.text(http.StatusTooManyRequests, "too many failed logins")
	default:
		e.failed(err)
	}
}

// json sends a value with a status that is not 200.
func (e *exchange) json(status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		e.failed(err)
		return
	}
	h := e.w.Header()
	h["Content-Type"], h["Cache-Control"] = e.fixed.json, e.fixed.private
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	e.status(status)
	if e.r.Method != http.MethodHead {
		_, _ = e.w.Write(body)
	}
}
