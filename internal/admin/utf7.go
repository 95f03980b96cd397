package admin

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Maildir++ names its folders in the modified UTF-7 of RFC 3501 5.1.3, and separates
// their levels by dots. A dot within a level, for which there is no rule, is encoded
// as if it were not ASCII: that comes back as it was.

// utf7Encoding is base64 with "," for "/" and without padding.
func utf7Encoding() *base64.Encoding {
	return base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)
}

// encodeUTF7 encodes all but printable ASCII, and the dot.
func encodeUTF7(s string) string {
	var b strings.Builder
	var run []rune
	flush := func() {
		if len(run) == 0 {
			return
		}
		var units []byte
		for _, u := range utf16.Encode(run) {
			units = append(units, byte(u>>8), byte(u))
		}
		b.WriteString("&" + utf7Encoding().EncodeToString(units) + "-")
		run = run[:0]
	}
	for _, r := range s {
		if r < ' ' || r > '~' || r == '.' {
			run = append(run, r)
			continue
		}
		flush()
		b.WriteRune(r)
		if r == '&' {
			b.WriteByte('-')
		}
	}
	flush()
	return b.String()
}

var errUTF7 = errors.New("not modified UTF-7")

// decodeUTF7 takes printable ASCII and UTF-8 as they are.
func decodeUTF7(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", errUTF7
	}
	var b strings.Builder
	for {
		plain, rest, coded := strings.Cut(s, "&")
		b.WriteString(plain)
		if !coded {
			return b.String(), nil
		}
		var text string
		var ok bool
		if text, s, ok = strings.Cut(rest, "-"); !ok {
			return "", errUTF7
		}
		if text == "" {
			b.WriteByte('&')
			continue
		}
		octets, err := utf7Encoding().Strict().DecodeString(text)
		if err != nil || len(octets)%2 != 0 {
			return "", errUTF7
		}
		units := make([]uint16, len(octets)/2)
		for i := range units {
			units[i] = uint16(octets[2*i])<<8 | uint16(octets[2*i+1])
		}
		for _, r := range utf16.Decode(units) {
			if r == utf8.RuneError {
				return "", errUTF7 // half of a surrogate pair
			}
			b.WriteRune(r)
		}
	}
}
