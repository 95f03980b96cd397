package keydir

import (
	"slices"
	"time"

	"postern/internal/pgp"
)

// Action is what becomes of a certificate that a source offers.
type Action uint8

// The actions.
const (
	KeepKnown  Action = iota // what is offered is not used
	UseOffered               // it is used from now on
	MergeForms               // same primary key: both forms are merged and used
	HoldChange               // nothing is used until a person decides
)

// Rule names the row of the table of changes that decided; it is what the history and
// explain show.
type Rule string

// The rules, in the order of the table in the package comment.
const (
	RuleFirst       Rule = "first certificate"
	RuleSame        Rule = "unchanged"
	RuleSamePrimary Rule = "same primary key, new form"
	RulePinned      Rule = "another certificate than the pinned one"
	RuleWeaker      Rule = "a weaker source does not replace a stronger one"
	RuleSucceeds    Rule = "certified by the key it replaces"
	RuleDead        Rule = "the known one can no longer be used"
	RuleReplaced    Rule = "unexplained, from a source as good as the known one's"
	RuleVanished    Rule = "no longer published; the known one is kept"
	RuleLost        Rule = "could be encrypted to before, cannot now"
	RuleAccepted    Rule = "accepted by a person"
	RuleRejected    Rule = "rejected by a person"
)

// short is the rule's name in the metrics.
func (r Rule) short() string {
	switch r {
	case RuleFirst:
		return "first"
	case RuleSamePrimary:
		return "same_primary"
	case RulePinned:
		return "pinned"
	case RuleWeaker:
		return "weaker"
	case RuleSucceeds:
		return "succeeds"
	case RuleDead:
		return "dead"
	case RuleReplaced:
		return "replaced"
	case RuleVanished:
		return "vanished"
	case RuleLost:
		return "lost"
	case RuleAccepted:
		return "accepted"
	}
	return "rejected"
}

// Verdict is the outcome of one row.
type Verdict struct {
	Action Action
	Rule   Rule
	// Notify says that a person should be told once.
	Notify bool
}

// held is what is known of an address when something is offered.
type knownState struct {
	certificates []*pgp.Certificate
	trust        Trust
}

// offer is what a source says now.
type offer struct {
	certificate *pgp.Certificate
	trust       Trust
}

// judge decides what becomes of an offered certificate. It is pure: the table of
// changes as code.
func judge(known knownState, o offer, now time.Time) Verdict {
	if len(known.certificates) == 0 {
		return Verdict{UseOffered, RuleFirst, false}
	}
	for _, c := range known.certificates {
		if c.Fingerprint() != o.certificate.Fingerprint() {
			continue
		}
		if slices.Equal(c.Data(), o.certificate.Data()) {
			return Verdict{KeepKnown, RuleSame, false}
		}
		return Verdict{MergeForms, RuleSamePrimary, false}
	}
	switch {
	case known.trust == Pinned:
		return Verdict{HoldChange, RulePinned, true}
	case o.trust < known.trust && anyUsable(known.certificates, now):
		return Verdict{KeepKnown, RuleWeaker, false}
	case slices.ContainsFunc(known.certificates, func(c *pgp.Certificate) bool { return o.certificate.CertifiedBy(c, now) }):
		return Verdict{UseOffered, RuleSucceeds, true}
	case o.trust < known.trust:
		// The stronger source's certificate is dead; a weaker one may not step in for it
		// without a person.
		return Verdict{HoldChange, RuleWeaker, true}
	case !anyUsable(known.certificates, now):
		return Verdict{UseOffered, RuleDead, true}
	}
	return Verdict{UseOffered, RuleReplaced, true}
}

func anyUsable(certs []*pgp.Certificate, now time.Time) bool {
	return slices.ContainsFunc(certs, func(c *pgp.Certificate) bool { return c.UsableFor(pgp.Communication, now) == nil })
}
