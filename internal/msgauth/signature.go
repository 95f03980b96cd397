package msgauth

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"postern/internal/dns"
	"postern/internal/mail"
)

// Limits on what a message may ask the DKIM verifier to do. The library copies
// and compares header fields in quadratic time, so its input is bounded here.
const (
	// MaxSignatures is how many signatures of one message are looked at.
	MaxSignatures = 5
	// MaxHeader is the largest header section, in octets, of which signatures
	// are verified, and the others go with it.
	MaxHeader       = 256 << 10
	maxHeaderLines  = 4000
	maxHeaderFields = 1000
	maxSignature    = 8 << 10 // octets of one DKIM-Signature field
	maxSignedFields = 100     // names in h=
)

const (
	signatureName = "DKIM-Signature"
	crlf          = "\r\n"
)

// A headerScan is what one pass over the header section finds.
type headerScan struct {
	signatures [][]byte // values of the first MaxSignatures DKIM-Signature fields
	count      int      // of all DKIM-Signature fields
	from       int      // number of From fields
	fields     int
	lines      int
}

// scanHeader finds the fields that matter here. It divides the section into
// fields and recognises names as the DKIM library does, so that the signatures
// found here and there are the same ones.
func scanHeader(b []byte) headerScan {
	var s headerScan
	for len(b) > 0 && !bytes.HasPrefix(b, []byte(crlf)) && b[0] != '\n' {
		end, lines := fieldEnd(b)
		s.lines += lines
		s.fields++
		s.field(b[:end])
		b = b[end:]
	}
	return s
}

// fieldEnd returns where the field that b begins with ends, continuation lines
// included.
func fieldEnd(b []byte) (end, lines int) {
	for {
		n := bytes.IndexByte(b[end:], '\n')
		lines++
		if n < 0 {
			return len(b), lines
		}
		end += n + 1
		if end == len(b) || b[end] != ' ' && b[end] != '\t' {
			return end, lines
		}
	}
}

func (s *headerScan) field(f []byte) {
	switch c := f[0]; {
	case c|0x20 == 'd' || c|0x20 == 'f':
	case c > ' ' && c < 0x7f:
		return // cannot be one of ours; what is left is odd and goes the long way
	}
	name, value, _ := bytes.Cut(f, []byte(":"))
	name = bytes.TrimSpace(name)
	if bytes.EqualFold(name, []byte(signatureName)) {
		s.count++
		if len(s.signatures) < MaxSignatures {
			s.signatures = append(s.signatures, value)
		}
	} else if bytes.EqualFold(name, []byte("From")) {
		s.from++
	}
}

// tooLarge says which limit the header section is over, or nothing.
func (s *headerScan) tooLarge(header []byte) string {
	switch {
	case len(header) > MaxHeader:
		return "header section too large"
	case s.lines > maxHeaderLines || s.fields > maxHeaderFields:
		return "too many header fields"
	}
	return ""
}

// A signature is one DKIM-Signature field on its way to a result.
type signature struct {
	DKIMResult         // Result is empty while it is not decided
	rawDomain   string // d= and s= as they stand, without white space
	rawSelector string
	identity    string // i=
	keyName     string // where the public key is
	key         string // the record found there, once it is
}

// parseSignature reads a DKIM-Signature field's value and decides, without any
// look-up, what can be decided (RFC 6376 6.1.1).
func parseSignature(value []byte, now time.Time) signature {
	var s signature
	if len(value) > maxSignature {
		return s.is(Policy, "signature field too large")
	}
	var tags [10]string
	names := [len(tags)]string{"v", "a", "b", "bh", "d", "s", "h", "i", "l", "x"}
	if !tagList(string(value), names[:], tags[:]) {
		return s.is(PermError, "malformed signature")
	}
	version, algorithm, sig, hash := tags[0], tags[1], tags[2], tags[3]
	s.rawDomain, s.rawSelector, s.identity = noSpace(tags[4]), noSpace(tags[5]), noSpace(tags[7])
	s.Algorithm = noSpace(algorithm)
	s.Start = noSpace(sig[:min(len(sig), 16)]) // enough for 8 characters however it is folded
	s.Start = s.Start[:min(len(s.Start), 8)]
	domain, err := mail.ParseDomain(s.rawDomain)
	if err != nil || !isDomain(domain) || !utf8.ValidString(s.rawDomain) {
		return s.is(PermError, "malformed domain")
	}
	s.Domain = domain
	name, ok := dns.CanonicalName(s.rawSelector + "._domainkey." + domain)
	if !ok || s.rawSelector == "" {
		return s.is(PermError, "malformed selector")
	}
	s.Selector, s.keyName = s.rawSelector, name
	switch {
	case version != "1" || sig == "" || hash == "":
		return s.is(PermError, "required tag missing")
	case s.Algorithm == "rsa-sha1": // RFC 8301 3.1
		return s.is(Policy, "rsa-sha1 is not accepted")
	case s.Algorithm != "rsa-sha256" && s.Algorithm != "ed25519-sha256":
		return s.is(PermError, "unknown algorithm")
	case tags[8] != "": // RFC 6376 8.2: what follows is anybody's
		return s.is(Policy, "body length tag is not accepted")
	case expired(tags[9], now):
		return s.is(PermError, "signature has expired")
	}
	return s.signedFields(tags[6])
}

func (s signature) is(r Result, reason string) signature {
	s.Result, s.Reason = r, reason
	return s
}

// signedFields refuses a signature that does not cover From (RFC 6376 5.4), or
// that names more fields than anybody signs.
func (s signature) signedFields(h string) signature {
	if strings.Count(h, ":") >= maxSignedFields {
		return s.is(Policy, "too many signed header fields")
	}
	for h != "" {
		var name string
		name, h, _ = strings.Cut(h, ":")
		if strings.EqualFold(strings.TrimSpace(name), "from") {
			return s
		}
	}
	return s.is(PermError, "From is not signed")
}

// expired reads the tag x=. A malformed one has expired.
func expired(x string, now time.Time) bool {
	if x == "" {
		return false
	}
	seconds, err := strconv.ParseInt(noSpace(x), 10, 64)
	return err != nil || now.Unix() > seconds
}

// tagList reads a tag=value list (RFC 6376 3.2) and puts the trimmed values of
// the named tags into values. It reports whether the list is well-formed and
// none of these tags occurs twice or is empty.
func tagList(s string, names, values []string) bool {
	for s != "" {
		var tag string
		tag, s, _ = strings.Cut(s, ";")
		name, value, ok := strings.Cut(tag, "=")
		name = strings.TrimSpace(name)
		if !ok {
			if name != "" {
				return false
			}
			continue
		}
		for i, n := range names {
			if n != name {
				continue
			}
			if values[i] != "" {
				return false
			}
			if values[i] = strings.TrimSpace(value); values[i] == "" {
				return false
			}
		}
	}
	return true
}

// noSpace removes the white space that folding may leave anywhere in a value.
func noSpace(s string) string {
	if !strings.ContainsAny(s, " \t\r\n") {
		return s
	}
	return strings.Join(strings.Fields(s), "")
}
