package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrMalformed is wrapped when a client's message is not SCRAM. It says nothing
// about a password and is not held against anybody.
var ErrMalformed = errors.New("malformed SCRAM message")

// maxScram is the longest client message that is looked at, in octets.
const maxScram = 4096

// clientFirst is client-first-message of RFC 5802 7.
type clientFirst struct {
	gs2    string // gs2-header with its trailing comma, as it came
	flag   byte   // 'n', 'y' or 'p': gs2-cbind-flag
	cbName string // with 'p': the channel binding the client uses
	authz  string // authzid, or ""
	user   string
	nonce  string
	bare   string // client-first-message-bare, as it came
}

// clientFinal is client-final-message of RFC 5802 7.
type clientFinal struct {
	binding      []byte // cbind-input
	nonce        string
	proof        []byte
	withoutProof string // as it came
}

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

func parseClientFirst(b []byte) (m clientFirst, err error) {
	s := string(b)
	if err := plainText(b); err != nil {
		return m, err
	}
	flag, rest, ok1 := strings.Cut(s, ",")
	authz, bare, ok2 := strings.Cut(rest, ",")
	if !ok1 || !ok2 {
		return m, malformed("no gs2-header")
	}
	m.gs2, m.bare = s[:len(s)-len(bare)], bare
	if m.flag, m.cbName, err = parseFlag(flag); err != nil {
		return m, err
	}
	if authz != "" {
		name, ok := strings.CutPrefix(authz, "a=")
		if m.authz, err = saslName(name); !ok || err != nil {
			return m, malformed("bad authzid")
		}
	}
	// RFC 5802 5.1: "m" is reserved for extensions that must be understood.
	attrs := strings.Split(bare, ",")
	if len(attrs) < 2 || strings.HasPrefix(bare, "m=") {
		return m, malformed("unknown mandatory extension, or not enough attributes")
	}
	user, ok := strings.CutPrefix(attrs[0], "n=")
	if m.user, err = saslName(user); !ok || err != nil {
		return m, malformed("bad username")
	}
	if m.nonce, ok = strings.CutPrefix(attrs[1], "r="); !ok || !printable(m.nonce) {
		return m, malformed("bad nonce")
	}
	return m, extensions(attrs[2:])
}

// plainText checks what every message has to be. Control characters are refused
// at once: NUL is not allowed, and base64 decoders pass over line breaks.
func plainText(b []byte) error {
	if len(b) > maxScram || !utf8.Valid(b) || bytes.IndexFunc(b, unicode.IsControl) >= 0 {
		return malformed("too long, not UTF-8, or with control characters")
	}
	return nil
}

func parseFlag(s string) (flag byte, name string, err error) {
	if s == "n" || s == "y" {
		return s[0], "", nil
	}
	name, ok := strings.CutPrefix(s, "p=")
	if !ok || name == "" || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return 0, "", malformed("bad channel binding flag")
	}
	return 'p', name, nil
}

func parseClientFinal(b []byte) (m clientFinal, err error) {
	s := string(b)
	if err := plainText(b); err != nil {
		return m, err
	}
	// The proof is always last (RFC 5802 5.1).
	i := strings.LastIndex(s, ",p=")
	if i < 0 {
		return m, malformed("no proof")
	}
	m.withoutProof = s[:i]
	if m.proof, err = base64.StdEncoding.Strict().DecodeString(s[i+3:]); err != nil {
		return m, malformed("proof is not base64")
	}
	attrs := strings.Split(m.withoutProof, ",")
	if len(attrs) < 2 {
		return m, malformed("not enough attributes")
	}
	c, ok := strings.CutPrefix(attrs[0], "c=")
	if m.binding, err = base64.StdEncoding.Strict().DecodeString(c); !ok || err != nil {
		return m, malformed("bad channel binding")
	}
	if m.nonce, ok = strings.CutPrefix(attrs[1], "r="); !ok || !printable(m.nonce) {
		return m, malformed("bad nonce")
	}
	return m, extensions(attrs[2:])
}

// extensions checks optional attributes, which are ignored (RFC 5802 5.1).
func extensions(attrs []string) error {
	for _, a := range attrs {
		if len(a) < 3 || a[1] != '=' || (a[0]|0x20) < 'a' || (a[0]|0x20) > 'z' || a[0] == 'm' {
			return malformed("bad extension")
		}
	}
	return nil
}

// saslName undoes the escapes of a saslname: "=2C" is a comma, "=3D" an equals sign.
func saslName(s string) (string, error) {
	if s == "" {
		return "", malformed("empty name")
	}
	if !strings.Contains(s, "=") {
		return prepare(s), nil
	}
	if strings.Count(s, "=") != strings.Count(s, "=2C")+strings.Count(s, "=3D") {
		return "", malformed("bad escape")
	}
	return prepare(strings.NewReplacer("=2C", ",", "=3D", "=").Replace(s)), nil
}

// printable checks a nonce: printable ASCII without a comma, at least one.
func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == ',' {
			return false
		}
	}
	return s != ""
}
