package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
)

// How credentials are made.
const (
	AppIterations   = 4096    // RFC 7677 4: the least a server should use
	HumanIterations = 600_000 // OWASP's figure for PBKDF2-HMAC-SHA256
	MinHuman        = 12      // characters in a password that a person chooses

	saltSize    = 16
	maxPassword = 1024 // octets; longer ones are not looked at
)

// ErrWeak is wrapped by every error of CheckHuman.
var ErrWeak = errors.New("password is not good enough")

// Derive computes StoredKey and ServerKey of RFC 5802 3 from a password, with
// PBKDF2-HMAC-SHA256. It takes about 0.3 µs for each iteration.
func Derive(password string, salt []byte, iterations int) (stored, server []byte) {
	salted, err := pbkdf2.Key(sha256.New, prepare(password), salt, iterations, sha256.Size)
	if err != nil {
		// Only FIPS mode refuses, and only salts shorter than ours: a broken invariant.
		panic(fmt.Sprintf("auth: PBKDF2: %v", err))
	}
	client := mac(salted, []byte("Client Key"))
	h := sha256.Sum256(client)
	return h[:], mac(salted, []byte("Server Key"))
}

// prepare applies OpaqueString (RFC 8265 4.2). What the profile refuses stays as
// it is: it is no password of ours, and looking at it must cost the same.
func prepare(s string) string {
	if p, err := precis.OpaqueString.String(s); err == nil {
		return p
	}
	return s
}

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // never fails (crypto/rand since Go 1.24)
	return b
}

// An app password is 26 letters and digits in five groups. The alphabet of RFC
// 4648 has no 0, 1, 8 and 9, so nothing in it looks like anything else in it.
const (
	appAlphabet = "abcdefghijklmnopqrstuvwxyz234567"
	appLength   = 26
)

// NewAppPassword returns a password of 128 random bits, such as
// "k3v7q-x2mzn-4hdwa-tjb6e-y5rcpu". With SCRAM it must be given as it is shown;
// Password also takes it in capitals, with blanks, or without the dashes.
func NewAppPassword() string {
	b := base32.NewEncoding(appAlphabet).WithPadding(base32.NoPadding).EncodeToString(randomBytes(16))
	return group(b)
}

func group(s string) string {
	return s[:5] + "-" + s[5:10] + "-" + s[10:15] + "-" + s[15:20] + "-" + s[20:]
}

// appForm returns s as NewAppPassword would have shown it, if it can be one.
func appForm(s string) (string, bool) {
	if len(s) > 2*appLength {
		return "", false
	}
	s = strings.ToLower(strings.NewReplacer("-", "", " ", "").Replace(s))
	if len(s) != appLength || strings.Trim(s, appAlphabet) != "" {
		return "", false
	}
	return group(s), true
}

// sharedSalt returns the salt that the passwords of one kind among existing have, or a
// new random one if there are none.
func sharedSalt(existing []Credential, human bool) []byte {
	for i := range existing {
		if existing[i].Human == human && len(existing[i].Salt) >= saltSize {
			return bytes.Clone(existing[i].Salt)
		}
	}
	return randomBytes(saltSize)
}

// AppCredential makes the credential of a password from NewAppPassword. existing
// are all credentials the account has now.
func AppCredential(account, password string, existing []Credential) Credential {
	if p, ok := appForm(password); ok {
		password = p
	}
	c := Credential{Account: account, Salt: sharedSalt(existing, false), Iterations: AppIterations}
	c.StoredKey, c.ServerKey = Derive(password, c.Salt, c.Iterations)
	return c
}

// HumanCredential makes the credential of a password that a person chose, or
// returns an error that wraps ErrWeak. existing are all credentials the account has
// now. It takes a fifth of a second.
func HumanCredential(account, password string, existing []Credential) (Credential, error) {
	if err := CheckHuman(password, account); err != nil {
		return Credential{}, err
	}
	return stretched(account, password, existing, HumanIterations), nil
}

func stretched(account, password string, existing []Credential, iterations int) Credential {
	c := Credential{Account: account, Human: true, Salt: sharedSalt(existing, true), Iterations: iterations}
	c.StoredKey, c.ServerKey = Derive(password, c.Salt, c.Iterations)
	return c
}

// CheckHuman says whether a person may choose this password: at least MinHuman
// characters, none of them a control character, and not one of the first things
// anybody would try. personal are strings that must not make up the password:
// the address, a name. The error tells the person what is wrong.
func CheckHuman(password string, personal ...string) error {
	if !utf8.ValidString(password) || len(password) > maxPassword {
		return fmt.Errorf("%w: it must be UTF-8 and no longer than %d octets", ErrWeak, maxPassword)
	}
	if utf8.RuneCountInString(password) < MinHuman {
		return fmt.Errorf("%w: it has fewer than %d characters", ErrWeak, MinHuman)
	}
	if _, err := precis.OpaqueString.String(password); err != nil {
		return fmt.Errorf("%w: it has control characters", ErrWeak)
	}
	folded := fold(password)
	for _, p := range personal {
		local, _, _ := strings.Cut(p, "@")
		for _, own := range []string{fold(p), fold(local)} {
			if len(own) >= 3 && (folded == own || strings.Trim(folded, "0123456789") == own) {
				return fmt.Errorf("%w: it is your own name or address", ErrWeak)
			}
		}
	}
	if monotonous(strings.ToLower(password)) || obvious(folded) {
		return fmt.Errorf("%w: it is one of the first that anybody would try", ErrWeak)
	}
	return nil
}

// fold drops what people put between words and behind them, and capitals.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -_.,!?@#$*+", r) {
			return -1
		}
		return r
	}, strings.ToLower(s))
}

// monotonous finds repetitions of at most four octets, and runs up or down
// the alphabet or the digits.
func monotonous(s string) bool {
	for period := 1; period <= 4; period++ {
		if len(s) < period || strings.Repeat(s[:period], len(s)/period+1)[:len(s)] == s {
			return true
		}
	}
	steps := 0
	for i := 1; i < len(s); i++ {
		if d := int(s[i]) - int(s[i-1]); d == 1 || d == -1 || d == 0 {
			steps++
		}
	}
	return steps >= len(s)*3/4
}

// obvious says whether s is nothing but well-known passwords, keyboard rows and
// digits. It is no substitute for a list of leaked passwords; throttling is what
// stands against those.
func obvious(s string) bool {
	if s == "" {
		return false // signs only
	}
	for _, word := range strings.Fields(`
		correcthorsebatterystaple qwertyuiop qwertzuiop azertyuiop asdfghjkl zxcvbnm yxcvbnm
		password passwort passw0rd p4ssw0rd motdepasse contraseña administrator administrador
		letmein iloveyou welcome changeme trustno1 football baseball superman sunshine princess
		monkey dragon master shadow secret default qwerty qwertz admin postern mail geheim
		1qaz2wsx 3edc4rfv test login user guest root 1q2w3e4r 5t6y7u8i asdf abc`) {
		s = strings.ReplaceAll(s, word, "")
	}
	return strings.Trim(s, "0123456789") == ""
}
