package smtpd

import (
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"postern/internal/mail"
)

// Limits of RFC 3461 4.2 and 4.4, in octets of the encoded value.
const (
	maxEnvID = 100
	maxORCPT = 500
)

// parseReturn reads RET (RFC 3461 4.3).
func parseReturn(value string) (smtp.DSNReturn, bool) {
	r := smtp.DSNReturn(strings.ToUpper(value))
	return r, r == smtp.DSNReturnFull || r == smtp.DSNReturnHeaders
}

// parseEnvID reads ENVID (RFC 3461 4.4).
func parseEnvID(value string) (string, bool) {
	if len(value) > maxEnvID {
		return "", false
	}
	id, ok := decodeXtext(value)
	return id, ok && id != "" && printableASCII(id)
}

// parseNotify reads NOTIFY (RFC 3461 4.1). NEVER stands alone.
func parseNotify(value string) (n mail.Notify, ok bool) {
	for word := range strings.SplitSeq(value, ",") {
		var event mail.Notify
		switch strings.ToUpper(word) {
		case "NEVER":
			event = mail.NotifyNever
		case "SUCCESS":
			event = mail.NotifySuccess
		case "FAILURE":
			event = mail.NotifyFailure
		case "DELAY":
			event = mail.NotifyDelay
		}
		if event == 0 || n&event != 0 {
			return 0, false
		}
		n |= event
	}
	return n, n&mail.NotifyNever == 0 || bits.OnesCount8(uint8(n)) == 1
}

// parseORCPT reads ORCPT (RFC 3461 4.2): the type of the address and the decoded
// address. RFC 6533 3 adds the type utf-8, which has an escape of its own.
func parseORCPT(value string) (string, bool) {
	kind, address, ok := strings.Cut(value, ";")
	if !ok || len(value) > maxORCPT || !keyword(kind) || address == "" {
		return "", false
	}
	kind = strings.ToLower(kind)
	if kind == "utf-8" {
		if address, ok = decodeUnicode(address); !ok {
			return "", false
		}
		return kind + ";" + address, !strings.ContainsFunc(address, unprintable)
	}
	address, ok = decodeXtext(address)
	return kind + ";" + address, ok && printableASCII(address)
}

// decodeXtext reads xtext (RFC 3461 4): "+" and two hexadecimal digits are an octet.
func decodeXtext(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '=' || c <= ' ' || c > '~':
			return "", false
		case c != '+':
			b.WriteByte(c)
		case i+2 >= len(s):
			return "", false
		default:
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", false
			}
			b.WriteByte(byte(n))
			i += 2
		}
	}
	return b.String(), true
}

// decodeUnicode reads utf-8-addr-xtext and utf-8-addr-unitext (RFC 6533 3): "\x{41}" is
// the character of that number.
func decodeUnicode(s string) (string, bool) {
	if !utf8.ValidString(s) {
		return "", false
	}
	var b strings.Builder
	for {
		plain, rest, escaped := strings.Cut(s, `\x{`)
		if strings.ContainsAny(plain, `\+=`) {
			return "", false
		}
		b.WriteString(plain)
		if !escaped {
			return b.String(), true
		}
		digits, rest, closed := strings.Cut(rest, "}")
		n, err := strconv.ParseUint(digits, 16, 32)
		if !closed || err != nil || !utf8.ValidRune(rune(n)) || n > utf8.MaxRune {
			return "", false
		}
		b.WriteRune(rune(n))
		s = rest
	}
}

// unprintable finds what could end a line or steer a terminal.
func unprintable(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029'
}

func printableASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
