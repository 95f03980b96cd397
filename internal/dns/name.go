package dns

import "strings"

// CanonicalName returns the form in which names are asked for and remembered. It
// refuses what is no domain name on the wire (RFC 1035 2.3.4), and octets that
// the library would read as escapes or that no name worth asking for has: SPF
// macros can put anything in.
func CanonicalName(name string) (string, bool) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > 253 {
		return "", false
	}
	label, upper := 0, false
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '.':
			if label == 0 {
				return "", false
			}
			label = 0
			continue
		case c <= ' ' || c >= 0x7f || c == '\\':
			return "", false
		case c >= 'A' && c <= 'Z':
			upper = true
		}
		if label++; label > 63 {
			return "", false
		}
	}
	if label == 0 {
		return "", false
	}
	if upper {
		name = strings.ToLower(name)
	}
	return name, true
}

// lastLabels returns the last n labels of a domain name.
func lastLabels(name string, n int) string {
	at := len(name)
	for ; n > 0 && at >= 0; n-- {
		at = strings.LastIndexByte(name[:at], '.')
	}
	return name[at+1:]
}
