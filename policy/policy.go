// Package policy decides how one recipient's copy of a message that leaves is to be
// protected: Facts go in, a complete mail.Order comes out. The rules are those of a
// file, policy.toml: an ordered list, of which the first whose expression is true
// decides. Where none is, mail is encrypted if it can be, and else goes marked.
//
//	policy.go   Policy and Decide
//	facts.go    what a rule may know of a message
//	load.go     reads a file: what does not type-check does not load
//	rule.go     one rule of the file, and what it may say
//	lint.go     comparisons that could never be true
//	example.go  the examples of the file, run whenever it is loaded
//
// Deciding does no input or output, looks at no clock, and never fails: where an
// expression cannot be worked out, the order refuses. The package never looks for a
// certificate and never encrypts; what becomes of an order is for mail.Protect.
package policy

import (
	"fmt"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"

	"postern/internal/mail"
)

// The wishes of a sender, as Facts.Wish has them.
const (
	WishRequire = "require" // refuse it rather than send it weaker than sealed
	WishClear   = "clear"   // send it in clear this time
)

// OpportunisticRule is the name of the rule that decides where no other does.
const OpportunisticRule = "opportunistic"

// Policy is a list of rules. It does not change and may be used by many at once. The
// zero value has no rules and is the same as Default.
type Policy struct {
	rules []rule
}

// rule is one rule that was loaded.
type rule struct {
	when     *vm.Program
	order    mail.Order
	override bool // the sender's words may loosen it
}

// Default returns the policy without rules: every recipient gets what can be had for
// them, and the rest goes in clear and marked.
func Default() *Policy { return &Policy{} }

// opportunistic is the rule that decides where no other does.
func opportunistic() rule {
	return rule{override: true, order: mail.Order{
		Floor: mail.Clear, Ceiling: mail.EndToEnd, NoCertificate: mail.Clear, NotKnown: mail.Held,
		HideSubject: true, Rule: OpportunisticRule,
	}}
}

// Decide returns the order for one recipient: that of the first rule that is true,
// and in it what the sender wished. The order is never weaker than the rule's floor.
// Where a rule cannot be worked out, the rules behind it are not asked and the order
// refuses. A message for one recipient alone is never held: the sender's program keeps it
// and tries again.
func (p *Policy) Decide(f Facts) mail.Order {
	o := p.decide(f)
	if f.Recipients == 1 && o.NotKnown == mail.Held {
		o.NotKnown = mail.Deferred
	}
	return o
}

func (p *Policy) decide(f Facts) mail.Order {
	f.Sensitivity = strings.ToLower(strings.TrimSpace(f.Sensitivity)) // RFC 4021 2.1.55 does not care for case
	for i := range p.rules {
		r := &p.rules[i]
		yes, err := r.holds(&f)
		if err != nil {
			return mail.Order{Rule: r.order.Rule, Refusal: fmt.Sprintf("rule %q of this server's policy cannot be worked out for this message; tell whoever runs the server", r.order.Rule)}
		}
		if yes {
			return r.wished(f.Wish)
		}
	}
	r := opportunistic()
	return r.wished(f.Wish)
}

// Require returns an order, which must not be one that refuses, as WishRequire makes it.
func Require(o mail.Order) mail.Order {
	if o.Floor < mail.Sealed {
		o.Floor, o.NoCertificate = mail.Sealed, mail.Refused
		o.Refusal = "you asked for encryption, and it cannot be had for this recipient"
	}
	if o.Ceiling < mail.Sealed {
		o.Ceiling = mail.EndToEnd
	}
	return o
}

// holds says whether the rule's expression is true.
func (r *rule) holds(f *Facts) (bool, error) {
	out, err := expr.Run(r.when, f)
	if err != nil {
		return false, err
	}
	yes, ok := out.(bool)
	if !ok {
		return false, fmt.Errorf("it is %T, not true or false", out)
	}
	return yes, nil
}

// wished returns the rule's order with the sender's wish in it. A rule that refuses
// does so whatever is wished.
func (r *rule) wished(wish string) mail.Order {
	o := r.order
	switch {
	case o.Floor == mail.Refused || wish == "":
	case wish == WishRequire:
		return Require(o)
	case wish != WishClear:
		return mail.Order{Rule: o.Rule, Refusal: "it is not known how the sender wants this message protected"}
	case o.Floor > mail.Clear || !r.override:
		return mail.Order{Rule: o.Rule, Refusal: "mail to this recipient may not be sent in clear at the sender's wish; send it again without asking for that"}
	default:
		o.Ceiling, o.NoCertificate = mail.Clear, mail.Clear
	}
	return o
}
