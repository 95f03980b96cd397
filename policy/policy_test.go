package policy

import (
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"postern/internal/mail"
)

const shipped = "../configs/policy.toml"

func parse(t testing.TB, text string) *Policy {
	t.Helper()
	p, err := Parse("policy.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestDecideAlone: what is for one recipient alone is never held, by whatever rule.
func TestDecideAlone(t *testing.T) {
	t.Parallel()
	p, err := Parse("p.toml", []byte("[[rule]]\nname = \"hold\"\nwhen = 'recipient startsWith \"h\"'\nfloor = \"clear\"\nunknown = \"hold\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"h@there.test", "x@there.test"} {
		if o := p.Decide(Facts{Recipient: to, Recipients: 1}); o.NotKnown != mail.Deferred {
			t.Errorf("%s alone: %v", to, o.NotKnown)
		}
		if o := p.Decide(Facts{Recipient: to, Recipients: 2}); o.NotKnown != mail.Held {
			t.Errorf("%s of two: %v", to, o.NotKnown)
		}
	}
	if o := p.Decide(Facts{Recipient: "h@there.test", Recipients: 1, Wish: "nonsense"}); o.NotKnown != mail.Refused {
		t.Errorf("an order that refuses: %+v", o)
	}
}

func TestDefault(t *testing.T) {
	t.Parallel()
	want := mail.Order{
		Floor: mail.Clear, Ceiling: mail.EndToEnd, NoCertificate: mail.Clear, NotKnown: mail.Held,
		HideSubject: true, Rule: OpportunisticRule,
	}
	for _, p := range []*Policy{Default(), new(Policy), parse(t, "")} {
		if got := p.Decide(Facts{Recipient: "bob@example.net"}); got != want {
			t.Errorf("%+v", got)
		}
	}
}

// The first rule that is true decides, and every key comes through.
func TestDecide(t *testing.T) {
	t.Parallel()
	p := parse(t, `
[[rule]]
name = "refused"
when = 'header["x-spam"] == "yes"'
refuse = "no"
[[rule]]
name = "full"
when = 'recipient_domain == "full.example" && size > 10 && recipients == 2'
floor = "tls"
ceiling = "sealed"
min_trust = "published"
unknown = "defer"
mixed = "refuse"
hide_subject = false
prefix = "[ümlaut]"
footer = "read by anybody"
refuse = "not today"
[[rule]]
name = "strong"
when = 'account == "alice@example.org" and not automatic'
floor = "end-to-end"
`)
	for name, row := range map[string]struct {
		facts Facts
		want  mail.Order
	}{
		"refused before all": {Facts{RecipientDomain: "full.example", Size: 11, Recipients: 2, Header: map[string]string{"x-spam": "yes"}},
			mail.Order{NoCertificate: mail.Refused, Ceiling: mail.EndToEnd, NotKnown: mail.Held, HideSubject: true, Rule: "refused", Refusal: "no"}},
		"full": {Facts{RecipientDomain: "full.example", Size: 11, Recipients: 2},
			mail.Order{Floor: mail.TLSOnly, Ceiling: mail.Sealed, MinTrust: mail.Published, NoCertificate: mail.TLSOnly, NotKnown: mail.Deferred,
				Mixed: mail.MixedRefuse, Prefix: "[ümlaut]", Footer: "read by anybody", Rule: "full", Refusal: "not today"}},
		"strong": {Facts{Account: "alice@example.org"},
			mail.Order{Floor: mail.EndToEnd, Ceiling: mail.EndToEnd, NoCertificate: mail.Refused, NotKnown: mail.Held, HideSubject: true, Rule: "strong"}},
		"none of them": {Facts{Account: "alice@example.org", Automatic: true, RecipientDomain: "full.example", Size: 10, Recipients: 2},
			mail.Order{Floor: mail.Clear, Ceiling: mail.EndToEnd, NoCertificate: mail.Clear, NotKnown: mail.Held, HideSubject: true, Rule: OpportunisticRule}},
	} {
		if got := p.Decide(row.facts); got != row.want {
			t.Errorf("%s:\n%+v, want\n%+v", name, got, row.want)
		}
	}
}

func TestWish(t *testing.T) {
	t.Parallel()
	p := parse(t, `
[[rule]]
name = "calendar"
when = 'calendar'
floor = "clear"
ceiling = "clear"
override = false
[[rule]]
name = "firm"
when = 'recipient == "firm@b.example"'
floor = "clear"
override = false
[[rule]]
name = "sealed"
when = 'recipient == "sealed@b.example"'
floor = "sealed"
ceiling = "sealed"
[[rule]]
name = "tls"
when = 'recipient == "tls@b.example"'
floor = "tls"
[[rule]]
name = "never"
when = 'recipient == "never@b.example"'
refuse = "never"
`)
	for _, row := range []struct {
		facts                Facts
		floor                mail.Level
		found, none, unknown mail.Level
	}{
		{Facts{Wish: WishRequire}, mail.Sealed, mail.Sealed, mail.Refused, mail.Held},
		{Facts{Wish: WishClear}, mail.Clear, mail.Clear, mail.Clear, mail.Clear},
		{Facts{Wish: "rubbish"}, mail.Refused, mail.Refused, mail.Refused, mail.Refused},
		{Facts{Wish: WishRequire, Calendar: true}, mail.Sealed, mail.Sealed, mail.Refused, mail.Held},
		{Facts{Wish: WishClear, Calendar: true}, mail.Refused, mail.Refused, mail.Refused, mail.Refused},
		{Facts{Wish: WishRequire, Recipient: "firm@b.example"}, mail.Sealed, mail.Sealed, mail.Refused, mail.Held},
		{Facts{Wish: WishClear, Recipient: "firm@b.example"}, mail.Refused, mail.Refused, mail.Refused, mail.Refused},
		{Facts{Wish: WishRequire, Recipient: "sealed@b.example"}, mail.Sealed, mail.Sealed, mail.Refused, mail.Held},
		{Facts{Wish: WishClear, Recipient: "sealed@b.example"}, mail.Refused, mail.Refused, mail.Refused, mail.Refused},
		{Facts{Wish: WishRequire, Recipient: "tls@b.example"}, mail.Sealed, mail.Sealed, mail.Refused, mail.Held},
		{Facts{Wish: WishClear, Recipient: "tls@b.example"}, mail.Refused, mail.Refused, mail.Refused, mail.Refused},
		{Facts{Recipient: "tls@b.example"}, mail.TLSOnly, mail.Sealed, mail.TLSOnly, mail.Held},
		{Facts{Wish: WishRequire, Recipient: "never@b.example"}, mail.Refused, mail.Refused, mail.Refused, mail.Refused},
		{Facts{Wish: WishClear, Recipient: "never@b.example"}, mail.Refused, mail.Refused, mail.Refused, mail.Refused},
	} {
		o := p.Decide(row.facts)
		found, none, unknown := Level(o, false, mail.Found), Level(o, false, mail.None), Level(o, false, mail.Unknown)
		if o.Floor != row.floor || found != row.found || none != row.none || unknown != row.unknown {
			t.Errorf("%+v: floor %v, %v %v %v, want %+v", row.facts, o.Floor, found, none, unknown, row)
		}
		if row.found == mail.Refused && o.Refusal == "" {
			t.Errorf("%+v: it is not said why", row.facts)
		}
	}
}

// An expression that cannot be worked out refuses, and no rule behind it is asked.
func TestRunTimeErrorRefuses(t *testing.T) {
	t.Parallel()
	for _, when := range []string{
		`int(header["x-number"]) > 3`,
		`size % (recipients - 1) == 0`,
		`split(recipient, "@")[7] == "x"`,
		`recipient matches header["x-pattern"]`,
		`len(map(1..9999999, #)) > 1`,
	} {
		p := parse(t, "[[rule]]\nname = \"odd\"\nwhen = '"+when+"'\nfloor = \"clear\"\n[[rule]]\nname = \"behind\"\nwhen = 'true'\nfloor = \"clear\"\n")
		o := p.Decide(Facts{Recipient: "bob@example.net", Recipients: 1, Header: map[string]string{"x-pattern": "("}})
		if o.Floor != mail.Refused || o.Rule != "odd" || !strings.Contains(o.Refusal, `"odd"`) {
			t.Errorf("%s: %+v", when, o)
		}
	}
}

// Whatever the facts and the rules, no order is weaker than its rule's floor, an order
// that was asked to be secure is never weaker than sealed, and nothing that an order
// lets go is weaker than its floor.
func TestFloorHolds(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	floors := map[string]mail.Level{"": mail.Refused, "clear": mail.Clear, "tls": mail.TLSOnly, "sealed": mail.Sealed, "end-to-end": mail.EndToEnd}
	tried := 0
	for range 3000 {
		var entries [3]ruleEntry
		p := new(Policy)
		for i := range entries {
			e := &entries[i]
			*e = ruleEntry{
				Name: string(rune('a' + i)), When: pick("calendar", "list", "wish == 'clear'", "recipients > 1", "true"),
				Floor: pick("", "clear", "tls", "sealed", "end-to-end"), Ceiling: pick("", "clear", "tls", "sealed", "end-to-end"),
				MinTrust: pick("", "observed", "pinned"), Unknown: pick("", "hold", "defer"), Refuse: pick("", "no"),
			}
			e.Override = new(bool)
			*e.Override = r.IntN(2) == 0
			rule, bad := e.compile()
			if len(bad) > 0 {
				break
			}
			p.rules = append(p.rules, rule)
		}
		for range 5 {
			f := Facts{Calendar: r.IntN(2) == 0, List: r.IntN(2) == 0, Recipients: r.IntN(3), Wish: pick("", WishRequire, WishClear)}
			o := p.Decide(f)
			floor := mail.Clear
			if o.Rule != OpportunisticRule {
				floor = floors[entries[o.Rule[0]-'a'].Floor]
			}
			if f.Wish == WishRequire && floor != mail.Refused {
				floor = max(floor, mail.Sealed)
			}
			refuses := o.Floor == mail.Refused
			if !refuses && (o.Floor < floor || o.Ceiling < o.Floor || floor == mail.Refused) {
				t.Fatalf("%+v\n%+v\n%+v", f, entries, o)
			}
			for _, a := range []mail.Answer{mail.Unknown, mail.None, mail.Found} {
				level := Level(o, false, a)
				if level != mail.Refused && level != mail.Deferred && level != mail.Held && level < floor {
					t.Fatalf("%v leaves as %v: %+v", f, level, o)
				}
				if refuses && level != mail.Refused {
					t.Fatalf("it leaves as %v: %+v", level, o)
				}
			}
			tried++
		}
	}
	if tried < 10000 {
		t.Errorf("only %d", tried)
	}
}

// The rules that the README shows load, and do what its example says.
func TestReadmePolicy(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for part := range strings.SplitSeq(string(data), "```toml\n") {
		text, _, fenced := strings.Cut(part, "\n```\n")
		if !fenced || !strings.Contains(text, "[[rule]]") {
			continue
		}
		shown++
		if _, err := Parse("README.md", []byte(text)); err != nil {
			t.Error(err)
		}
	}
	if shown == 0 {
		t.Error("no rules were found")
	}
}

func TestShippedPolicy(t *testing.T) {
	t.Parallel()
	p, err := Load(shipped)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(shipped)
	if err != nil {
		t.Fatal(err)
	}
	_, results, err := Examine("policy.toml", data)
	if err != nil {
		t.Fatal(err)
	}
	tried := make(map[string]bool)
	for _, r := range results {
		tried[r.Rule] = true
	}
	for _, r := range p.rules {
		if !tried[r.order.Rule] {
			t.Errorf("rule %q has no example", r.order.Rule)
		}
	}
	// The comment documents every fact and every key, in the words of the code.
	words := strings.Join(strings.Fields(strings.ReplaceAll(string(data), "\n#", " ")), " ")
	for f := range reflect.TypeFor[Facts]().Fields() {
		name := f.Tag.Get("expr")
		if name == "" || name != f.Tag.Get("toml") || !strings.Contains(words, name+" "+f.Tag.Get("doc")) {
			t.Errorf("the comment does not say of %s: %s", name, f.Tag.Get("doc"))
		}
	}
	for f := range reflect.TypeFor[ruleEntry]().Fields() {
		if name := f.Tag.Get("toml"); !strings.Contains(string(data), "\n#   "+name+" ") {
			t.Errorf("the comment does not document the key %s", name)
		}
	}
}

// Decide is asked once for every recipient of every message.
func BenchmarkDecide(b *testing.B) {
	p, err := Load(shipped)
	if err != nil {
		b.Fatal(err)
	}
	f := Facts{Account: "alice@example.org", Sender: "alice@example.org", SenderDomain: "example.org", Recipient: "bob@example.net", RecipientDomain: "example.net", Recipients: 3}
	b.ReportAllocs()
	for b.Loop() {
		if o := p.Decide(f); o.Rule != "default" {
			b.Fatal(o.Rule)
		}
	}
}
