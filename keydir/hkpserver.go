package keydir

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"postern/internal/pgp"
)

// hkp answers a request of the key server protocol (draft-ietf-openpgp-hkp-01); rest is
// what follows "/pks/".
func (e *exchange) hkp(rest string) {
	if v2, ok := strings.CutPrefix(rest, "v2/"); ok {
		e.hkp2(v2)
		return
	}
	switch rest {
	case "add", "replace", "delete":
		e.text(http.StatusNotImplemented, noUpload)
	case "lookup":
		if !e.readOnly() {
			e.lookup()
		}
	default:
		e.absent()
	}
}

// lookup answers version 1 of the protocol. Whether options=mr is given or not, the
// answer is for machines: there is no HTML here. Searches are exact, whether exact=on
// is given or not, and fingerprints are shown whole.
func (e *exchange) lookup() {
	q := e.r.URL.Query()
	op, search := q.Get("op"), strings.TrimSpace(q.Get("search"))
	if op != "get" && op != "index" && op != "vindex" {
		e.text(http.StatusNotImplemented, "op is get, index or vindex")
		return
	}
	if search == "" {
		e.text(http.StatusBadRequest, "search is missing")
		return
	}
	k, ok := e.search(search)
	switch {
	case !ok:
	case op == "get":
		e.found(k.armored(), e.fixed.armored)
	default:
		e.found(newContent(index(readable(k.certs), e.Now())), e.fixed.text)
	}
}

// search looks up what version 1 searches for: 0x and a fingerprint or key ID, or an
// address, which GnuPG may write as "=<address>" or "<address>". Key IDs of 32 bits
// name nobody.
func (e *exchange) search(text string) (pick, bool) {
	if hex, ok := strings.CutPrefix(strings.ToLower(text), "0x"); ok {
		if len(hex) == keyIDDigits {
			return e.byKeyID(hex)
		}
		return e.byFingerprint(hex)
	}
	text = strings.TrimPrefix(text, "=")
	if at := strings.LastIndexByte(text, '<'); at >= 0 && strings.HasSuffix(text, ">") {
		text = text[at+1 : len(text)-1]
	}
	return e.byIdentity(text)
}

// index lists certificates for machines, in version 1 of the protocol.
func index(certs []*pgp.Certificate, now time.Time) []byte {
	b := fmt.Appendf(nil, "info:1:%d\n", len(certs))
	for _, c := range certs {
		expires, flags := "", ""
		if at, ok := c.Expires(); ok {
			expires = fmt.Sprint(at.Unix())
		}
		switch err := c.Usable(now); {
		case errors.Is(err, pgp.ErrRevoked):
			flags = "r"
		case errors.Is(err, pgp.ErrExpired):
			flags = "e"
		}
		b = fmt.Appendf(b, "pub:%s:%d:%d:%d:%s:%s:%d\n", c.Fingerprint(), c.AlgorithmID(), c.Bits(),
			c.Created().Unix(), expires, flags, c.Version())
		for _, id := range c.UserIDs() {
			b = fmt.Appendf(b, "uid:%s:::\n", strings.ReplaceAll(url.PathEscape(id), ":", "%3A"))
		}
	}
	return b
}

// hkp2 answers version 2 of the protocol.
func (e *exchange) hkp2(rest string) {
	category, id := splitCategory(rest)
	look := e.category(category)
	if look == nil {
		// What takes certificates, or is not offered (sections 4.2, 5.1.7).
		e.text(http.StatusNotImplemented, noUpload)
		return
	}
	if e.readOnly() {
		return
	}
	if id == "" {
		e.text(http.StatusForbidden, "what is asked for is missing")
		return
	}
	k, ok := look(id)
	switch {
	case !ok:
	case category == "index":
		body, err := json.Marshal(describe(k.certs, e.Now()))
		if err != nil {
			e.failed(err)
			return
		}
		e.found(newContent(body), e.fixed.json)
	default:
		e.found(k.everything(), e.fixed.keys)
	}
}

// splitCategory splits the path into the category and what is looked for in it.
func splitCategory(rest string) (category, id string) {
	for _, c := range []string{"certs/by-vfingerprint", "certs/by-keyid", "certs/by-identity", "canonical", "index"} {
		if after, ok := strings.CutPrefix(rest, c); ok && (after == "" || after[0] == '/') {
			return c, strings.TrimPrefix(after, "/")
		}
	}
	return rest, ""
}

// category returns how version 2 looks up, or nil for what is not offered.
func (e *exchange) category(name string) func(string) (pick, bool) {
	switch name {
	case "certs/by-vfingerprint":
		return e.byVersionedFingerprint
	case "certs/by-keyid":
		return func(id string) (pick, bool) {
			k, ok := e.byKeyID(id)
			return k.onlyVersion4(e, ok)
		}
	case "certs/by-identity", "index":
		return e.byIdentity
	case "canonical":
		// What its own server says of an address, so nobody else's.
		return e.byHostedIdentity
	}
	return nil
}

// byVersionedFingerprint looks up an octet with the version and the fingerprint
// (section 5.1.2).
func (e *exchange) byVersionedFingerprint(hex string) (pick, bool) {
	if len(hex) < 2 || versionDigits(len(hex)-2) != hex[:2] {
		return e.noLookup(hex)
	}
	return e.byFingerprint(hex[2:])
}

// versionDigits is the version of a fingerprint of that many digits, or "".
func versionDigits(digits int) string {
	switch digits {
	case 40:
		return "04"
	case 64:
		return "06"
	}
	return ""
}

// certificateIndex is one entry of version 2's index (section 7.1.1).
type certificateIndex struct {
	Version     int           `json:"version"`
	Fingerprint string        `json:"fingerprint"` // lower-case hex
	Creation    string        `json:"creation"`    // RFC 3339 5.6
	Expiration  string        `json:"expiration,omitempty"`
	IsRevoked   bool          `json:"isRevoked"`
	Algorithm   algorithm     `json:"algorithm"`
	UserIDs     []userIDIndex `json:"userIDs"`
}

type algorithm struct {
	Code      int    `json:"code"`
	Name      string `json:"name"`
	BitLength int    `json:"bitLength"`
}

type userIDIndex struct {
	Text string `json:"uidString"`
}

// describe lists certificates for version 2's index.
func describe(certs []*pgp.Certificate, now time.Time) []certificateIndex {
	all := make([]certificateIndex, 0, len(certs))
	for _, c := range certs {
		x := certificateIndex{
			Version: c.Version(), Fingerprint: strings.ToLower(c.Fingerprint()),
			Creation:  c.Created().UTC().Format(time.RFC3339),
			IsRevoked: errors.Is(c.Usable(now), pgp.ErrRevoked),
			Algorithm: algorithm{c.AlgorithmID(), c.Algorithm(), c.Bits()},
			UserIDs:   []userIDIndex{},
		}
		if at, ok := c.Expires(); ok {
			x.Expiration = at.UTC().Format(time.RFC3339)
		}
		for _, id := range c.UserIDs() {
			x.UserIDs = append(x.UserIDs, userIDIndex{id})
		}
		all = append(all, x)
	}
	return all
}
