package admin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"postern/internal/config"
	"postern/internal/mail"
	"postern/keydir"
	"postern/policy"
)

// Examples are what the examples of a policy file came to.
type Examples []policy.Result

// TestPolicy loads a policy file and runs its examples. With an empty file it is the one
// that the configuration at path names. An example that fails is no error here.
func TestPolicy(path, file string) (Examples, error) {
	if file == "" {
		cfg, err := config.Load(path)
		if err != nil {
			return nil, err
		}
		if file = cfg.Policy.File; file == "" {
			return nil, errors.New("the configuration names no policy file (policy.file): the built-in rule decides, and there is nothing to test")
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	_, results, err := policy.Examine(filepath.Base(file), data)
	return append(Examples{}, results...), err
}

// WriteText implements the human form.
func (l Examples) WriteText(w io.Writer) error {
	if len(l) == 0 {
		_, err := fmt.Fprintln(w, "The file loads, and has no examples.")
		return err
	}
	return table(w, "", func(line func(string, ...any)) {
		for _, e := range l {
			if e.Failure != "" {
				line("%s\tline %d: %s\t%s", "FAILED", e.Line, e.Name, e.Failure)
			} else {
				line("%s\tline %d: %s\t%s by rule %q", Fine, e.Line, e.Name, e.Level, e.Rule)
			}
		}
	})
}

// Err is an error if an example failed.
func (l Examples) Err() error {
	failed := 0
	for _, e := range l {
		if e.Failure != "" {
			failed++
		}
	}
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d examples failed", failed, len(l))
}

// Decision is what the policy wants for one recipient, and what comes of it. The levels
// are the names of the ladder.
type Decision struct {
	// Level is what would become of a copy that is in clear so far: also "refused",
	// "deferred" or "held".
	Level string `json:"level"`
	Rule  string `json:"rule"`
	// Floor and Ceiling are empty where the rule refuses.
	Floor       string `json:"floor,omitempty"`
	Ceiling     string `json:"ceiling,omitempty"`
	MinTrust    string `json:"min_trust,omitempty"`
	NotKnown    string `json:"unknown,omitempty"` // "defer" or "hold"
	Mixed       string `json:"mixed,omitempty"`   // "split" or "refuse"
	HideSubject bool   `json:"hide_subject"`
	Prefix      string `json:"prefix,omitempty"`
	Footer      string `json:"footer,omitempty"`
	Refusal     string `json:"refusal,omitempty"`
}

// decide says what would become of an ordinary message to an address elsewhere.
func (a *Admin) decide(f policy.Facts, to mail.Address, e keydir.Explanation) Decision {
	f.Recipient, f.RecipientDomain = to.Key(), to.Domain
	return newDecision(a.g.Policy().Decide(f), e)
}

// decideHere is decide for an account of ours.
func (a *Admin) decideHere(e keydir.Explanation) Decision {
	o := mail.Inbound()
	o.HideSubject = a.g.Config.Seal.Subject != "keep"
	if a.g.Config.Seal.NoCertificate == "reject" {
		o.NoCertificate, o.NotKnown = mail.Refused, mail.Deferred
	}
	return newDecision(o, e)
}

// newDecision describes an order, and what comes of it with the directory's answer.
func newDecision(o mail.Order, e keydir.Explanation) Decision {
	answer, _ := e.Result.Under(o.MinTrust, time.Now())
	d := Decision{
		Level: policy.Level(o, false, answer.Kind).String(), Rule: o.Rule,
		HideSubject: o.HideSubject, Prefix: o.Prefix, Footer: o.Footer, Refusal: o.Refusal,
	}
	if o.Floor == mail.Refused {
		return d
	}
	d.Floor, d.Ceiling = o.Floor.String(), mail.EndToEnd.String()
	if o.Ceiling != 0 {
		d.Ceiling = o.Ceiling.String()
	}
	if o.MinTrust != mail.NoTrust {
		d.MinTrust = o.MinTrust.String()
	}
	d.NotKnown, d.Mixed = "hold", "split"
	if o.NotKnown == mail.Deferred {
		d.NotKnown = "defer"
	}
	if o.Mixed == mail.MixedRefuse {
		d.Mixed = "refuse"
	}
	return d
}

// lines writes the decision for people.
func (d Decision) lines(line func(string, ...any)) {
	line("  rule\t%s", d.Rule)
	if d.Floor != "" {
		line("  protection\tfrom %s to %s; mixed recipients: %s; nobody knows of a certificate: %s", d.Floor, d.Ceiling, d.Mixed, d.NotKnown)
	}
	if d.MinTrust != "" {
		line("  trust\tat least %s", d.MinTrust)
	}
	if d.Refusal != "" {
		line("  if refused\t%s", d.Refusal)
	}
}

// policy looks at the rules for mail that leaves, and says whether they load.
func (r *Report) policy(cfg *config.Config) bool {
	if cfg.Policy.File == "" {
		r.add("policy", Fine, "built in: encrypted if it can be, else in clear and marked")
		return true
	}
	if _, err := policy.Load(cfg.Policy.File); err != nil {
		r.add("policy", Bad, "%v", err)
		return false
	}
	r.add("policy", Fine, "%s", cfg.Policy.File)
	return true
}
