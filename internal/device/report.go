package device

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// Report says in words what an opened message's provenance proves.
type Report struct {
	Signature Verdict `json:"signature"`
	Statement string  `json:"statement"`
	// Arrival is what the statement says, by the names of its attributes. Nothing of
	// it is proved unless Signature is Verified.
	Arrival map[string]string `json:"arrival,omitempty"`
	Octets  int               `json:"octets"`
}

// Report describes the message.
func (o *Opened) Report() *Report {
	return &Report{Signature: o.Signature, Statement: o.statement(), Arrival: o.arrival(), Octets: len(o.Original)}
}

// arrival are the attributes of the statement that are set.
func (o *Opened) arrival() map[string]string {
	p := o.Provenance
	if p == nil {
		return nil
	}
	said := map[string]string{}
	set := func(name, value string) {
		if value != "" {
			said[name] = oneLine(value)
		}
	}
	// What this version does not know first, so that it cannot stand for anything else.
	for _, x := range p.Extra {
		set(x.Name, x.Value)
	}
	set("id", p.ID)
	set("rcpt", p.Recipient)
	set("time", p.Time.UTC().Format(time.RFC3339))
	set("tls", p.TLS)
	set("spf", p.SPF)
	set("dkim", p.DKIM)
	set("dmarc", p.DMARC)
	set("class", p.Class)
	set("key", p.Key)
	return said
}

// statement is one sentence. It never claims more than was checked.
func (o *Opened) statement() string {
	switch o.Signature {
	case NoStatement:
		return "no gateway states how this message arrived: it was encrypted before it came to one, or by other means"
	case Malformed:
		return "what claims to be a gateway's statement is damaged or was tampered with: do not trust it, it is left out"
	case Altered:
		return "the gateway's statement is about another content: do not trust it"
	case Forged:
		return "the statement is not signed by the given gateway key, but names the key " + oneLine(o.Provenance.Key) + ": do not trust it"
	case Verified:
		return "verified: " + o.sentence()
	}
	return "not verified (give the gateway's key): " + o.sentence()
}

// sentence is what the statement says, in words.
func (o *Opened) sentence() string {
	said := o.arrival()
	s := "arrived in clear"
	if via := said["via"]; via != "" {
		s = "stored in clear via " + via
	}
	if tls := said["tls"]; tls != "" {
		s += " over " + tls
	}
	s += " at " + o.Provenance.Time.UTC().Format("2006-01-02 15:04:05 UTC")
	if rcpt := said["rcpt"]; rcpt != "" {
		s += " for " + rcpt
	}
	var results []string
	for _, method := range []string{"spf", "dkim", "dmarc"} {
		if result := said[method]; result != "" {
			results = append(results, method+"="+result)
		}
	}
	if len(results) > 0 {
		s += " (" + strings.Join(results, ", ") + ")"
	}
	return s + ", then sealed; key " + said["key"]
}

// WriteText implements the human form.
func (r *Report) WriteText(w io.Writer) error {
	_, err := fmt.Fprintf(w, "Provenance: %s\n", r.Statement)
	return err
}

// Err is an error if there is a statement, or what claims to be one, and it must not be
// trusted.
func (o *Opened) Err() error {
	switch o.Signature {
	case Altered, Forged, Malformed:
		return fmt.Errorf("provenance: %s", o.Signature)
	}
	return nil
}

// Printable returns the message for a terminal: what could control one is replaced.
func (o *Opened) Printable() string {
	return replaceControls(strings.ReplaceAll(string(o.Original), "\r\n", "\n"), "\n\t")
}

// oneLine makes a value fit to stand in a line of ours, which it must not end.
func oneLine(s string) string { return replaceControls(s, "") }

// replaceControls replaces control characters but those in keep, line separators, and
// what changes the direction of text.
func replaceControls(s, keep string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(keep, r) {
			return r
		}
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return '?'
		}
		return r
	}, s)
}
