package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// MaxAutocrypt is the greatest size of an Autocrypt or Autocrypt-Gossip field, in
// octets with its name and folding but without the last line ending (Autocrypt
// Level 1, "The Autocrypt Header"). A larger one is invalid.
const MaxAutocrypt = 10 << 10

// ErrAutocrypt is wrapped by every error of ParseAutocrypt.
var ErrAutocrypt = errors.New("invalid Autocrypt field")

// Autocrypt is the content of an Autocrypt or Autocrypt-Gossip field.
type Autocrypt struct {
	// Addr is the address as the field has it. That it is the author's is for the
	// caller to check: for another address the field is invalid.
	Addr string
	// Mutual is prefer-encrypt=mutual; no other value has a meaning.
	Mutual bool
	// KeyData is what claims to be a certificate, in binary. Nothing is known of it
	// but that it is not empty.
	KeyData []byte
}

// ParseAutocrypt reads a field of Autocrypt Level 1: addr and keydata once each,
// keydata last, prefer-encrypt at most once, and before keydata any attribute whose
// name begins with "_". Any other attribute is one that we would have to understand,
// so that the field is not for us.
func ParseAutocrypt(f Field) (Autocrypt, error) {
	if len(bytes.TrimRight(f.Raw, "\r\n")) > MaxAutocrypt {
		return Autocrypt{}, fmt.Errorf("%w: over %d octets", ErrAutocrypt, MaxAutocrypt)
	}
	var a Autocrypt
	preferred := false
	for rest, more := f.Value(), true; more; {
		var attribute string
		attribute, rest, more = strings.Cut(rest, ";")
		name, value, _ := strings.Cut(attribute, "=")
		name, value = strings.Trim(name, " \t"), strings.Trim(value, " \t")
		switch {
		case name == "keydata" && more:
			return Autocrypt{}, fmt.Errorf("%w: keydata is not last", ErrAutocrypt)
		case name == "keydata":
			return a.withKeyData(value)
		case name == "addr" && a.Addr == "" && value != "":
			a.Addr = value
		case name == "prefer-encrypt" && !preferred:
			a.Mutual, preferred = value == "mutual", true
		case strings.HasPrefix(name, "_"):
		default:
			return Autocrypt{}, fmt.Errorf("%w: an attribute that is unknown, twice there or empty", ErrAutocrypt)
		}
	}
	return Autocrypt{}, fmt.Errorf("%w: no keydata", ErrAutocrypt)
}

// withKeyData ends the parsing: keydata is the last attribute.
func (a Autocrypt) withKeyData(value string) (Autocrypt, error) {
	folded := strings.NewReplacer(" ", "", "\t", "")
	data, err := base64.StdEncoding.DecodeString(folded.Replace(value))
	if err != nil || len(data) == 0 {
		return Autocrypt{}, fmt.Errorf("%w: keydata is not base64", ErrAutocrypt)
	}
	if a.Addr == "" {
		return Autocrypt{}, fmt.Errorf("%w: no addr", ErrAutocrypt)
	}
	a.KeyData = data
	return a, nil
}

// AutocryptFields returns the content of the Autocrypt fields that can be read, in
// their order. Only one of those that are for the author may count; more than one
// are none.
func AutocryptFields(h Header) []Autocrypt {
	var all []Autocrypt
	for _, f := range h.Fields {
		if !f.Is("Autocrypt") {
			continue
		}
		if a, err := ParseAutocrypt(f); err == nil {
			all = append(all, a)
		}
	}
	return all
}

// SaysNothingOfAuthor reports whether a message is one that Autocrypt ignores because
// it was made by a machine in the author's name, which may have no access to the
// author's key: an automatic reply (RFC 3834) or a report (RFC 6522).
func SaysNothingOfAuthor(h Header) bool {
	for _, v := range h.Values("Auto-Submitted") {
		if keyword, _ := parseDisposition(v); keyword == "auto-replied" {
			return true
		}
	}
	typ, subtype, _ := parseMediaType(h.Get("Content-Type"))
	return typ == "multipart" && subtype == "report"
}
