package policy

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/mail"
)

// exampleEntry is an [[example]] as it stands in the file.
type exampleEntry struct {
	Name  string `toml:"name"`
	Facts Facts  `toml:"facts"`
	// Certificate is what the key directory answers: found, none (also if absent) or
	// unknown.
	Certificate string `toml:"certificate"`
	Expect      expect `toml:"expect"`
}

// expect is what an order has to be. Absent keys are not looked at.
type expect struct {
	Rule        string  `toml:"rule"`
	Floor       string  `toml:"floor"`
	Ceiling     string  `toml:"ceiling"`
	MinTrust    string  `toml:"min_trust"`
	Unknown     string  `toml:"unknown"`
	Mixed       string  `toml:"mixed"`
	HideSubject *bool   `toml:"hide_subject"`
	Prefix      *string `toml:"prefix"`
	Footer      *string `toml:"footer"`
	// Level is what becomes of the copy; Refused is short for the level refused.
	Level   string `toml:"level"`
	Refused *bool  `toml:"refused"`
}

// Result is what one example of a policy file came to.
type Result struct {
	Name string `json:"name"`
	Line int    `json:"line"`
	// Failure says what came instead of what was expected; empty if it was as expected.
	Failure string `json:"failure,omitempty"`
	// Rule decided, and Level is what becomes of the copy.
	Rule  string `json:"rule"`
	Level string `json:"level"`
}

// answers are the answers of the key directory by their names.
func answers() map[string]mail.Answer {
	return map[string]mail.Answer{"": mail.None, "none": mail.None, "found": mail.Found, "unknown": mail.Unknown}
}

// check looks for what no order can be.
func (e *exampleEntry) check() (bad flaws) {
	if e.Name == "" {
		bad.add("name", "it has to be set")
	}
	bad.text("name", e.Name, maxText, false)
	if e.Facts.Recipient == "" {
		bad.add("facts", "recipient has to be set")
	}
	if _, ok := answers()[e.Certificate]; !ok {
		bad.add("certificate", "%q is not allowed: it is \"found\", \"none\" or \"unknown\"", e.Certificate)
	}
	bad.level("expect.floor", e.Expect.Floor, 0)
	bad.level("expect.ceiling", e.Expect.Ceiling, 0)
	if levels := []string{"", "refused", "deferred", "clear", "tls", "held", "sealed", "end-to-end"}; !slices.Contains(levels, e.Expect.Level) {
		bad.add("expect.level", "%q is not allowed: it is \"%s\"", e.Expect.Level, strings.Join(levels[1:], `", "`))
	}
	if e.Expect == (expect{}) {
		bad.add("expect", "it has to say something: floor, ceiling, level, refused ...")
	}
	return bad
}

// run decides on the example and compares.
func (e *exampleEntry) run(p *Policy) Result {
	f := e.Facts
	f.complete()
	o := p.Decide(f)
	level := Level(o, f.Encrypted, answers()[e.Certificate])
	r := Result{Name: e.Name, Rule: o.Rule, Level: level.String()}
	var other []string
	for _, c := range []struct{ key, want, got string }{
		{"rule", e.Expect.Rule, o.Rule},
		{"floor", e.Expect.Floor, o.Floor.String()},
		{"ceiling", e.Expect.Ceiling, o.Ceiling.String()},
		{"min_trust", e.Expect.MinTrust, o.MinTrust.String()},
		{"unknown", e.Expect.Unknown, map[bool]string{true: "defer", false: "hold"}[o.NotKnown == mail.Deferred]},
		{"mixed", e.Expect.Mixed, map[bool]string{true: "refuse", false: "split"}[o.Mixed == mail.MixedRefuse]},
		{"hide_subject", show(e.Expect.HideSubject), fmt.Sprint(o.HideSubject)},
		{"prefix", show(e.Expect.Prefix), o.Prefix},
		{"footer", show(e.Expect.Footer), o.Footer},
		{"level", e.Expect.Level, level.String()},
		{"refused", show(e.Expect.Refused), fmt.Sprint(level == mail.Refused)},
	} {
		if c.want != "" && c.want != c.got {
			other = append(other, fmt.Sprintf("%s is %q, not %q", c.key, c.got, c.want))
		}
	}
	if len(other) > 0 {
		r.Failure = fmt.Sprintf("rule %q decides: %s", o.Rule, strings.Join(other, ", "))
	}
	return r
}

func show[T any](v *T) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(*v)
}

// Level is what becomes of a copy by an order, for a message that the sender's own
// software encrypted or not, and what the key directory answers.
func Level(o mail.Order, encrypted bool, a mail.Answer) mail.Level {
	content := mail.ContentClear
	if encrypted {
		content = mail.ContentEncrypted
	}
	return mail.Protect(o, content, a).Level()
}
