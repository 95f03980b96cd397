package server

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"

	"postern/internal/config"
	"postern/internal/msgauth"
	"postern/internal/vault"
)

// MTASTS returns the policy by which others deliver to our domains (RFC 8461 3.2), the
// same for all of them, and the id that tells when it changed. The mode none takes back
// what was said before.
func MTASTS(c *config.Config) (text, id string) {
	age := "86400" // a day: testing is to be got out of as fast as into
	if c.HTTPS.MTASTS == "enforce" {
		age = "1209600"
	}
	text = "version: STSv1\r\nmode: " + c.HTTPS.MTASTS + "\r\nmx: " + c.Hostname + "\r\nmax_age: " + age + "\r\n"
	digest := sha256.Sum256([]byte(text))
	return text, hex.EncodeToString(digest[:16]) // 32 letters and digits at most
}

// mtaSTSHost is before the domain in the name of the host that is asked for its policy.
const mtaSTSHost = "mta-sts."

// withMTASTS serves the policy of every hosted domain, by TLS alone, and leaves what
// else is asked to next.
func (r *Running) withMTASTS(next http.Handler) http.Handler {
	text, _ := MTASTS(r.gateway.Config)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		host, _, _ := strings.Cut(strings.ToLower(req.Host), ":")
		domain, ok := strings.CutPrefix(host, mtaSTSHost)
		if !ok || req.TLS == nil || req.URL.Path != "/.well-known/mta-sts.txt" || !r.gateway.domains.has(domain) {
			next.ServeHTTP(w, req)
			return
		}
		if req.Method != http.MethodGet && req.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, text) // whoever does not wait for it asks again
	})
}

// loadSigning reads the keys that mail is signed with.
func loadSigning(c *config.Config) ([]msgauth.SigningKey, error) {
	keys, err := vault.LoadDKIM(c.KeysDir)
	if err != nil {
		return nil, err
	}
	var all []msgauth.SigningKey
	for _, k := range keys.Active() {
		all = append(all, msgauth.SigningKey{Domain: k.Domain, Selector: k.Selector, Key: k})
	}
	return all, nil
}
