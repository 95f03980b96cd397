package msgauth

import (
	"net/url"
	"strings"
)

// A record is a DMARC Policy Record (RFC 9989 4.7), as far as a receiver that
// sends no reports needs it.
type record struct {
	p, sp, np string // none, quarantine, reject, or empty if absent
	strictSPF bool   // aspf=s
	strictKey bool   // adkim=s
	psd       byte   // 'y', 'n' or 'u'
	testing   bool   // t=y
	// invalid is set if p, sp or np holds something else.
	invalid bool
	// reports is set if rua holds at least one URI.
	reports bool
}

// maxRecord bounds the octets of a record that are read.
const maxRecord = 8 << 10

// parseRecord reads the text of a TXT record. ok is false if it is no DMARC
// Policy Record. Unknown tags and values that cannot be read are ignored in
// favour of the defaults (RFC 9989 4.8); of a tag that is repeated the first
// counts.
func parseRecord(txt string) (r record, ok bool) {
	if len(txt) > maxRecord {
		return record{}, false
	}
	version, rest, _ := strings.Cut(txt, ";")
	name, value, _ := strings.Cut(version, "=")
	// The tag comes first and without white space before it; only the value is
	// case-sensitive.
	if !strings.EqualFold(strings.TrimRight(name, " \t"), "v") || strings.Trim(value, " \t") != "DMARC1" {
		return record{}, false
	}
	r.psd = 'u'
	var seen tagSet
	for rest != "" {
		var tag string
		tag, rest, _ = strings.Cut(rest, ";")
		name, value, found := strings.Cut(tag, "=")
		if found {
			r.set(strings.ToLower(strings.Trim(name, " \t")), strings.Trim(value, " \t"), &seen)
		}
	}
	return r, true
}

// tagSet notes which tags were there, one bit each.
type tagSet uint8

func (s *tagSet) first(bit tagSet) bool {
	before := *s
	*s |= bit
	return before&bit == 0
}

func (r *record) set(name, value string, seen *tagSet) {
	switch name {
	case "p":
		r.request(&r.p, value, seen.first(1))
	case "sp":
		r.request(&r.sp, value, seen.first(2))
	case "np":
		r.request(&r.np, value, seen.first(4))
	case "aspf":
		if seen.first(8) {
			r.strictSPF = strings.EqualFold(value, "s")
		}
	case "adkim":
		if seen.first(16) {
			r.strictKey = strings.EqualFold(value, "s")
		}
	case "psd":
		if v := strings.ToLower(value); seen.first(32) && (v == "y" || v == "n") {
			r.psd = v[0]
		}
	case "t":
		if seen.first(64) {
			r.testing = strings.EqualFold(value, "y")
		}
	case "rua":
		if seen.first(128) {
			r.reports = hasURI(value)
		}
	}
}

func (r *record) request(tag *string, value string, first bool) {
	if !first {
		return
	}
	switch v := strings.ToLower(value); v {
	case "none", "quarantine", "reject":
		*tag = v
	default:
		r.invalid = true
	}
}

func hasURI(list string) bool {
	for uri := range strings.SplitSeq(list, ",") {
		if u, err := url.Parse(strings.TrimSpace(uri)); err == nil && u.Scheme != "" && u.Opaque+u.Host != "" {
			return true
		}
	}
	return false
}

// usable reports whether the record may be applied: one whose policy cannot be
// read counts as p=none if it asks for reports, and else not at all (RFC 9989
// 4.10.1). Without p= it is p=none (4.7).
func (r record) usable() (record, bool) {
	if r.invalid {
		r.p, r.sp, r.np = "none", "", ""
		return r, r.reports
	}
	if r.p == "" {
		r.p = "none"
	}
	return r, true
}
