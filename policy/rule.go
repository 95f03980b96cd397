package policy

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/file"

	"postern/internal/mail"
)

// Limits of what a rule adds to a message and says to a sender, in octets.
const (
	maxName   = 64
	maxPrefix = 40
	maxText   = 300 // a reply line of SMTP has at most 512, RFC 5321 4.5.3.1.5
	maxWhen   = 4096
)

// ruleEntry is a [[rule]] as it stands in the file. Empty strings and nil are absent.
type ruleEntry struct {
	Name        string `toml:"name"`
	When        string `toml:"when"`
	Floor       string `toml:"floor"`
	Ceiling     string `toml:"ceiling"`
	MinTrust    string `toml:"min_trust"`
	Unknown     string `toml:"unknown"`
	Mixed       string `toml:"mixed"`
	HideSubject *bool  `toml:"hide_subject"`
	Prefix      string `toml:"prefix"`
	Footer      string `toml:"footer"`
	Override    *bool  `toml:"override"`
	Refuse      string `toml:"refuse"`
}

// flaw is what is wrong with one key of an entry.
type flaw struct {
	key  string
	line int // within the key's value, from 1; 0 for the key itself
	text string
}

// flaws collects them.
type flaws []flaw

func (f *flaws) add(key, format string, args ...any) {
	*f = append(*f, flaw{key: key, text: fmt.Sprintf(format, args...)})
}

// compile makes the rule, or says what is wrong with it.
func (e *ruleEntry) compile() (rule, flaws) {
	var bad flaws
	o := mail.Order{
		Floor: bad.level("floor", e.Floor, mail.Refused), Ceiling: bad.level("ceiling", e.Ceiling, mail.EndToEnd),
		MinTrust: bad.trust(e.MinTrust), NotKnown: mail.Held, HideSubject: orTrue(e.HideSubject),
		Prefix: e.Prefix, Footer: e.Footer, Rule: e.Name, Refusal: e.Refuse,
	}
	switch e.Unknown {
	case "", "hold":
	case "defer":
		o.NotKnown = mail.Deferred
	default:
		bad.add("unknown", "%q is not allowed: it is \"defer\" or \"hold\"", e.Unknown)
	}
	switch e.Mixed {
	case "", "split":
	case "refuse":
		o.Mixed = mail.MixedRefuse
	default:
		bad.add("mixed", "%q is not allowed: it is \"split\" or \"refuse\"", e.Mixed)
	}
	o.NoCertificate = withoutCertificate(o.Floor)
	switch {
	case e.Floor == "" && e.Refuse == "":
		bad.add("floor", "it has to be set, to the weakest protection that is allowed; or refuse, to the text that refuses")
	case e.Floor == "" && e.Ceiling != "":
		bad.add("ceiling", "without floor this rule refuses, and nothing else matters")
	case o.Ceiling < o.Floor:
		bad.add("ceiling", "%q is weaker than the floor %q", e.Ceiling, e.Floor)
	}
	bad.text("name", e.Name, maxName, false)
	bad.text("prefix", e.Prefix, maxPrefix, false)
	bad.text("footer", e.Footer, maxText, false)
	bad.text("refuse", e.Refuse, maxText, true)
	switch e.Name {
	case "":
		bad.add("name", "it has to be set")
	case OpportunisticRule:
		bad.add("name", "%q is the name of the rule that is built in", e.Name)
	}
	r := rule{order: o, override: orTrue(e.Override)}
	bad.expression(&r, e.When)
	return r, bad
}

// withoutCertificate is what becomes of clear content that cannot be encrypted.
func withoutCertificate(floor mail.Level) mail.Level {
	switch floor {
	case mail.Clear, mail.TLSOnly:
		return floor
	}
	return mail.Refused
}

func orTrue(b *bool) bool { return b == nil || *b }

// level reads the name of a level of the ladder.
func (f *flaws) level(key, name string, absent mail.Level) mail.Level {
	switch name {
	case "":
		return absent
	case "domain", "pickup":
		f.add(key, "%q is not there yet: it will come with a later version", name)
		return absent
	}
	for _, l := range []mail.Level{mail.EndToEnd, mail.Sealed, mail.TLSOnly, mail.Clear} {
		if l.String() == name {
			return l
		}
	}
	f.add(key, "%q is not allowed: it is \"end-to-end\", \"sealed\", \"tls\" or \"clear\"", name)
	return absent
}

// trust reads the name of a step of trust.
func (f *flaws) trust(name string) mail.Trust {
	if name == "" {
		return mail.NoTrust
	}
	for t := mail.Unverified; t <= mail.Pinned; t++ {
		if t.String() == name {
			return t
		}
	}
	f.add("min_trust", "%q is not allowed: it is \"unverified\", \"observed\", \"published\", \"own\" or \"pinned\"", name)
	return mail.NoTrust
}

// text looks whether s can stand in a header field, a reply or the text of a message.
func (f *flaws) text(key, s string, most int, ascii bool) {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || ascii && r >= utf8.RuneSelf }
	switch {
	case len(s) > most:
		f.add(key, "it has %d octets: at most %d are allowed", len(s), most)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, odd):
		f.add(key, "it has to be one line without control characters%s", map[bool]string{true: ", in ASCII"}[ascii])
	}
}

// expression compiles when.
func (f *flaws) expression(r *rule, when string) {
	switch {
	case strings.TrimSpace(when) == "":
		f.add("when", "it has to be set; \"true\" is always so")
		return
	case len(when) > maxWhen:
		f.add("when", "it has %d octets: at most %d are allowed", len(when), maxWhen)
		return
	}
	l := &lint{facts: factNames()}
	program, err := expr.Compile(when, expr.Env(Facts{}), expr.AsBool(), expr.Patch(l),
		expr.DisableBuiltin("now")) // it would look at the clock
	var at *file.Error
	switch {
	case errors.As(err, &at):
		*f = append(*f, flaw{"when", at.Line, fmt.Sprintf("%s (column %d)", at.Message, at.Column+1)})
	case err != nil:
		f.add("when", "%v", err)
	case l.text != "":
		at := (&file.Error{Location: l.at}).Bind(file.NewSource(when))
		*f = append(*f, flaw{"when", at.Line, fmt.Sprintf("%s (column %d)", l.text, at.Column+1)})
	}
	r.when = program
}

// factNames are the names that an expression may use.
func factNames() map[string]bool {
	names := make(map[string]bool)
	for f := range reflect.TypeFor[Facts]().Fields() {
		names[f.Tag.Get("expr")] = f.Type.Kind() == reflect.String
	}
	return names
}
