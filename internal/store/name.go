package store

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of mailbox names.
const (
	maxName  = 255 // octets of UTF-8
	maxDepth = 16  // levels
)

const inboxName = "INBOX"

// CanonicalName returns a mailbox name as it is stored: INBOX, which is known in
// any case (RFC 9051 5.1), in capitals, also as the first level of others, and
// without the "/" at the end by which CREATE announces children (6.3.4). Names
// with control characters, empty levels, more than 16 levels or 255 octets are
// refused with ErrName.
func CanonicalName(name string) (string, error) {
	name = strings.TrimSuffix(name, "/")
	switch {
	case name == "":
		return "", fmt.Errorf("%w: empty", ErrName)
	case len(name) > maxName:
		return "", fmt.Errorf("%w: over %d octets", ErrName, maxName)
	case !utf8.ValidString(name):
		return "", fmt.Errorf("%w: not UTF-8", ErrName)
	case strings.IndexFunc(name, unprintable) >= 0:
		return "", fmt.Errorf("%w: control character", ErrName)
	}
	levels := strings.Split(name, "/")
	if len(levels) > maxDepth {
		return "", fmt.Errorf("%w: over %d levels", ErrName, maxDepth)
	}
	for _, level := range levels {
		if level == "" {
			return "", fmt.Errorf("%w: empty level", ErrName)
		}
	}
	if len(levels[0]) == len(inboxName) && strings.EqualFold(levels[0], inboxName) {
		name = inboxName + name[len(inboxName):]
	}
	return name, nil
}

// unprintable also finds the line and paragraph separators that RFC 5198 2 and
// RFC 9051 5.1 forbid, and the replacement of what was not UTF-8.
func unprintable(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError
}

// parents returns the names above name, the topmost first.
func parents(name string) []string {
	var above []string
	for i, c := range name {
		if c == '/' {
			above = append(above, name[:i])
		}
	}
	return above
}

// under reports whether name is below top.
func under(name, top string) bool {
	return len(name) > len(top) && name[len(top)] == '/' && name[:len(top)] == top
}
