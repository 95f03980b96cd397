package pgp

import (
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// addressKey finds the mail address in a user ID, which is by convention
// "Name (comment) <address>" or the bare address (RFC 9580 5.11), in the form in
// which addresses are looked up: all lower case, the domain in A-labels. It returns
// "" if there is none.
func addressKey(text string) string {
	address := strings.TrimSpace(text)
	if strings.HasSuffix(address, ">") {
		open := strings.LastIndexByte(address, '<')
		if open < 0 {
			return ""
		}
		address = address[open+1 : len(address)-1]
	}
	at := strings.LastIndexByte(address, '@')
	if at <= 0 || strings.ContainsAny(address, " \t\r\n<>()") {
		return ""
	}
	local, domain := address[:at], strings.ToLower(address[at+1:])
	if strings.IndexFunc(domain, func(r rune) bool { return r > unicode.MaxASCII }) >= 0 {
		var err error
		if domain, err = idna.Lookup.ToASCII(domain); err != nil {
			return ""
		}
	}
	if domain == "" {
		return ""
	}
	return strings.ToLower(local) + "@" + domain
}

// printable makes text from outside fit for a terminal: no control characters, no
// direction overrides, valid UTF-8.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
