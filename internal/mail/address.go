package mail

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of RFC 5321 4.5.3.1, in octets.
const (
	maxLocal   = 64
	maxDomain  = 255
	maxAddress = 254
)

// ErrAddress is wrapped by every error of ParseAddress.
var ErrAddress = errors.New("invalid address")

// Address is an addr-spec (RFC 5321 4.1.2, RFC 6531). The zero value is the null
// reverse-path "<>".
type Address struct {
	// Local is the local-part without quotes, its case kept.
	Local string
	// Domain is in lower case with A-labels, or an address literal in brackets.
	Domain string
}

// ParseAddress reads local-part "@" domain, where the local-part may be a
// quoted-string. It refuses control characters, line and paragraph separators,
// invalid UTF-8, an empty part and anything over the limits of RFC 5321 4.5.3.1.
// Comments and display names are not part of an addr-spec and are refused.
func ParseAddress(s string) (Address, error) {
	// The canonical form may be shorter; nothing sensible is twice as long.
	if len(s) > 2*maxAddress || !utf8.ValidString(s) {
		return Address{}, fmt.Errorf("%w: too long or not UTF-8", ErrAddress)
	}
	if strings.IndexFunc(s, control) >= 0 {
		return Address{}, fmt.Errorf("%w: control character", ErrAddress)
	}
	local, rest, err := cutLocal(s)
	if err != nil {
		return Address{}, err
	}
	domain, err := ParseDomain(rest)
	if err != nil {
		return Address{}, err
	}
	if len(local) > maxLocal {
		return Address{}, fmt.Errorf("%w: local-part over %d octets", ErrAddress, maxLocal)
	}
	a := Address{Local: local, Domain: domain}
	if len(a.String()) > maxAddress {
		return Address{}, fmt.Errorf("%w: over %d octets", ErrAddress, maxAddress)
	}
	return a, nil
}

// control finds what could end a line or steer a terminal.
func control(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029'
}

// cutLocal splits s behind the local-part and its "@".
func cutLocal(s string) (local, domain string, err error) {
	if strings.HasPrefix(s, `"`) {
		return cutQuoted(s)
	}
	at := strings.LastIndexByte(s, '@')
	if at <= 0 {
		return "", "", fmt.Errorf("%w: no local-part or no @", ErrAddress)
	}
	local = s[:at]
	for _, atom := range strings.Split(local, ".") {
		if atom == "" || strings.IndexFunc(atom, notAtext) >= 0 {
			return "", "", fmt.Errorf("%w: local-part is not a dot-string", ErrAddress)
		}
	}
	return local, s[at+1:], nil
}

func cutQuoted(s string) (local, domain string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == '"':
			if b.Len() == 0 || !strings.HasPrefix(s[i+1:], "@") {
				return "", "", fmt.Errorf("%w: bad quoted local-part", ErrAddress)
			}
			return b.String(), s[i+2:], nil
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("%w: quote not closed", ErrAddress)
}

func notAtext(r rune) bool {
	switch {
	case r >= utf8.RuneSelf:
		return control(r)
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
}

// ParseDomain returns a domain in lower case with A-labels (RFC 5890), or an
// address literal (RFC 5321 4.1.3) as it is.
func ParseDomain(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%w: not UTF-8", ErrAddress)
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") && len(s) > 2 {
		if strings.IndexFunc(s[1:len(s)-1], func(r rune) bool {
			return r <= ' ' || r >= 0x7f || strings.ContainsRune(`[]\<>"`, r)
		}) >= 0 {
			return "", fmt.Errorf("%w: bad address literal", ErrAddress)
		}
		return s, nil
	}
	d, ok := asciiDomain(s)
	if !ok {
		var err error
		if d, err = idna.Lookup.ToASCII(s); err != nil {
			return "", fmt.Errorf("%w: bad domain", ErrAddress)
		}
		if d, ok = asciiDomain(d); !ok {
			return "", fmt.Errorf("%w: bad domain", ErrAddress)
		}
	}
	return d, nil
}

// asciiDomain lower-cases s and says whether it is a sequence of LDH labels.
// Underscores are allowed: they occur in real host names.
func asciiDomain(s string) (string, bool) {
	if s == "" || len(s) > maxDomain {
		return "", false
	}
	s = strings.ToLower(s)
	for _, label := range strings.Split(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return "", false
			}
		}
	}
	return s, true
}

// IsNull reports whether a is the null reverse-path.
func (a Address) IsNull() bool { return a == Address{} }

// String returns the addr-spec, its local-part quoted where RFC 5321 needs it,
// so that it can be written into a command or a header field. The null
// reverse-path is the empty string.
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	for _, atom := range strings.Split(a.Local, ".") {
		if atom == "" || strings.IndexFunc(atom, notAtext) >= 0 {
			q := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(a.Local)
			return `"` + q + `"@` + a.Domain
		}
	}
	return a.Local + "@" + a.Domain
}

// Key is the form in which accounts and certificates are looked up: everything
// in lower case. RFC 5321 lets local-parts differ by case; no hosted account does.
func (a Address) Key() string {
	if a.IsNull() {
		return ""
	}
	return strings.ToLower(a.Local) + "@" + a.Domain
}

// Base returns the address without its sub-address (RFC 5233): alice+x becomes
// alice. ok says whether there was one.
func (a Address) Base() (base Address, ok bool) {
	local, _, ok := strings.Cut(a.Local, "+")
	if !ok || local == "" {
		return a, false
	}
	return Address{Local: local, Domain: a.Domain}, true
}
