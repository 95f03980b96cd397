package telemetry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
)

// NewLogger returns a logger that writes to w, as "json" or, for any other format,
// as text.
//
// Unless addresses is true, values under the keys that hold addresses are replaced
// by a short hash such as "~3f9a2b7c41d0", and so is whatever looks like an address
// within any other text, a peer's reply quoted in an error for instance. The hash is
// salted at random for each logger: equal addresses are equal within one run of the
// process and cannot be guessed from outside it.
func NewLogger(w io.Writer, format string, level slog.Leveler, addresses bool) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: dropSecrets}
	if !addresses {
		o.ReplaceAttr = newHider().replace
	}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// Discard returns a logger that drops everything, for those who were given none.
func Discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func dropSecrets(groups []string, a slog.Attr) slog.Attr {
	if neverLogged(a.Key) || slices.ContainsFunc(groups, neverLogged) {
		a.Value = slog.StringValue("[dropped]")
	}
	return a
}

// hider replaces addresses by salted hashes.
type hider struct {
	salt [16]byte
	// addrSpec matches more than RFC 5322's addr-spec does: what is hidden in vain
	// does no harm.
	addrSpec *regexp.Regexp
}

func newHider() *hider {
	h := &hider{addrSpec: regexp.MustCompile(`("[^"\r\n]{0,64}"|[^\s<>()\[\],;:"'=]+)@[^\s<>(),;:"']+`)}
	rand.Read(h.salt[:]) // never fails: it would end the process
	return h
}

func (h *hider) replace(groups []string, a slog.Attr) slog.Attr {
	a = dropSecrets(groups, a)
	if holdsAddress(a.Key) || slices.ContainsFunc(groups, holdsAddress) {
		a.Value = slog.StringValue(h.hash(a.Value.String()))
		return a
	}
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = h.scrub(a.Value)
	case slog.KindAny:
		if said, ok := a.Value.Any().(Said); ok {
			a.Value = h.said(said)
			break
		}
		// What this prints is what the text handler would print; the JSON handler
		// keeps the value's own form unless there is something to hide in it.
		if strings.Contains(fmt.Sprintf("%+v", a.Value.Any()), "@") {
			a.Value = h.scrub(slog.StringValue(fmt.Sprintf("%+v", a.Value.Any())))
		}
	}
	return a
}

// hash returns "" for "", so that the null reverse-path stays visible as such.
func (h *hider) hash(s string) string {
	if s == "" || s == "<>" {
		return s
	}
	d := sha256.New()
	d.Write(h.salt[:])
	io.WriteString(d, strings.ToLower(s))
	return "~" + hex.EncodeToString(d.Sum(nil)[:6])
}

func (h *hider) scrub(v slog.Value) slog.Value {
	s := v.String()
	if strings.IndexByte(s, '@') < 0 {
		return v
	}
	return slog.StringValue(h.addrSpec.ReplaceAllStringFunc(s, h.hash))
}

// Said is what somebody said about a mail address: a next hop's reply for instance, which
// may repeat the address, or its local-part alone. Both are hidden unless addresses are
// asked for.
type Said struct{ Text, About string }

// MarshalText implements encoding.TextMarshaler, which both formats of the log ask.
func (s Said) MarshalText() ([]byte, error) { return []byte(s.Text), nil }

// said hides the address that a text is about, and every other.
func (h *hider) said(s Said) slog.Value {
	text := h.scrub(slog.StringValue(s.Text)).String()
	local := strings.Trim(s.About[:max(strings.LastIndexByte(s.About, '@'), 0)], `"`)
	if local == "" || !strings.Contains(strings.ToLower(text), strings.ToLower(local)) {
		return slog.StringValue(text)
	}
	pattern := regexp.QuoteMeta(local)
	if len(local) < 3 { // else it is within every other word
		pattern = `\b` + pattern + `\b`
	}
	find, err := regexp.Compile("(?i)" + pattern)
	if err != nil { // it is not UTF-8
		return slog.StringValue(h.hash(text))
	}
	return slog.StringValue(find.ReplaceAllLiteralString(text, h.hash(s.About)))
}
