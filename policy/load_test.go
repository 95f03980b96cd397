package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/mail"
)

// Each wrong file gets an error that names line and key and says what to do.
func TestParseErrors(t *testing.T) {
	t.Parallel()
	const ok = "[[rule]]\nname = \"a\"\nwhen = 'true'\n"
	for name, row := range map[string]struct{ text, want string }{
		"not TOML":            {ok + "floor = \n", "p.toml:4: "},
		"wrong type":          {ok + "floor = 3\n", "p.toml:4: rule.floor: incompatible types"},
		"unknown key":         {ok + "flor = \"clear\"\nfloor = \"clear\"\n", "p.toml:4: rule.flor: unknown key"},
		"unknown table":       {ok + "floor = \"clear\"\n[rules]\nx = 1\n", "p.toml:5: rules: unknown key"},
		"unknown fact":        {ok + "floor = \"clear\"\n[[example]]\nname = \"x\"\nfacts = { recipent = \"a@b\" }\n", "p.toml:7: example.facts.recipent: unknown key"},
		"no floor":            {ok, `p.toml:1: rule "a": floor: it has to be set`},
		"no name":             {"[[rule]]\nwhen = 'true'\nfloor = \"clear\"\n", `p.toml:1: rule "1": name: it has to be set`},
		"built-in name":       {"[[rule]]\nname = \"opportunistic\"\nwhen = 'true'\nfloor = \"clear\"\n", "p.toml:2: rule"},
		"same name":           {ok + "floor = \"clear\"\n" + ok + "floor = \"clear\"\n", `p.toml:6: rule "a": name: another rule is called "a"`},
		"no when":             {"[[rule]]\nname = \"a\"\nfloor = \"clear\"\n", `p.toml:1: rule "a": when: it has to be set`},
		"domain":              {ok + "floor = \"domain\"\n", `p.toml:4: rule "a": floor: "domain" is not there yet`},
		"pickup":              {ok + "floor = \"clear\"\nceiling = \"pickup\"\n", `p.toml:5: rule "a": ceiling: "pickup" is not there yet`},
		"level":               {ok + "floor = \"held\"\n", `p.toml:4: rule "a": floor: "held" is not allowed`},
		"ceiling below floor": {ok + "floor = \"sealed\"\nceiling = \"tls\"\n", `p.toml:5: rule "a": ceiling: "tls" is weaker than the floor "sealed"`},
		"ceiling alone":       {ok + "ceiling = \"tls\"\nrefuse = \"no\"\n", "p.toml:4: rule \"a\": ceiling: without floor"},
		"trust":               {ok + "floor = \"clear\"\nmin_trust = \"none\"\n", `p.toml:5: rule "a": min_trust: "none" is not allowed`},
		"unknown":             {ok + "floor = \"clear\"\nunknown = \"clear\"\n", `p.toml:5: rule "a": unknown: "clear" is not allowed: it is "defer" or "hold"`},
		"mixed":               {ok + "floor = \"clear\"\nmixed = \"hold\"\n", `p.toml:5: rule "a": mixed`},
		"footer of two lines": {ok + "floor = \"clear\"\nfooter = \"a\\nb\"\n", `p.toml:5: rule "a": footer: it has to be one line`},
		"long prefix":         {ok + "floor = \"clear\"\nprefix = \"" + strings.Repeat("x", 41) + "\"\n", `p.toml:5: rule "a": prefix: it has 41 octets`},
		"refuse not ASCII":    {ok + "refuse = \"n\u00f6\"\n", `p.toml:4: rule "a": refuse: it has to be one line without control characters, in ASCII`},
		"second rule":         {ok + "floor = \"clear\"\n[[rule]]\nname = \"b\"\nwhen = 'true'\nfloor = \"no\"\n", `p.toml:8: rule "b": floor`},

		"syntax":          {"[[rule]]\nname = \"a\"\nwhen = 'recipient =='\nfloor = \"clear\"\n", `p.toml:3: rule "a": when: `},
		"no such fact":    {"[[rule]]\nname = \"a\"\nwhen = 'recipent == \"x\"'\nfloor = \"clear\"\n", `p.toml:3: rule "a": when: unknown name recipent (column 1)`},
		"types":           {"[[rule]]\nname = \"a\"\nwhen = 'size > \"3\"'\nfloor = \"clear\"\n", `p.toml:3: rule "a": when: invalid operation: >`},
		"not a condition": {"[[rule]]\nname = \"a\"\nwhen = 'recipient'\nfloor = \"clear\"\n", `p.toml:3: rule "a": when: expected bool`},
		"clock":           {"[[rule]]\nname = \"a\"\nwhen = 'now().Year() > 3'\nfloor = \"clear\"\n", `p.toml:3: rule "a": when: unknown name now`},
		"third line":      {"[[rule]]\nname = \"a\"\nwhen = '''\ncalendar\n or x'''\nfloor = \"clear\"\n", `p.toml:5: rule "a": when: unknown name x (column 5)`},
		"upper case":      {"[[rule]]\nname = \"a\"\nwhen = 'recipient_domain == \"Partner.example\"'\nfloor = \"clear\"\n", `p.toml:3: rule "a": when: recipient_domain is always in lower case`},
		"upper case in":   {"[[rule]]\nname = \"a\"\nwhen = 'recipient in [\"a@b.example\", \"B@b.example\"]'\nfloor = \"clear\"\n", "recipient is always in lower case"},
		"U-label":         {"[[rule]]\nname = \"a\"\nwhen = 'recipient_domain endsWith \"b\u00fccher.example\"'\nfloor = \"clear\"\n", "A-labels"},
		"pattern":         {"[[rule]]\nname = \"a\"\nwhen = 'recipient_domain == \"*.example\"'\nfloor = \"clear\"\n", "is a domain"},
		"header name":     {"[[rule]]\nname = \"a\"\nwhen = 'header[\"X-Priority\"] == \"1\"'\nfloor = \"clear\"\n", `"x-priority"`},

		"example fails": {ok + "floor = \"clear\"\n[[example]]\nname = \"x\"\nfacts = { recipient = \"a@b\" }\nexpect = { level = \"sealed\", floor = \"sealed\" }\n",
			`p.toml:5: example "x": rule "a" decides: floor is "clear", not "sealed", level is "clear", not "sealed"`},
		"example refuses not": {ok + "floor = \"clear\"\n[[example]]\nname = \"x\"\nfacts = { recipient = \"a@b\" }\nexpect = { refused = true }\n",
			`refused is "false", not "true"`},
		"example without name":        {ok + "floor = \"clear\"\n[[example]]\nfacts = { recipient = \"a@b\" }\nexpect = { level = \"sealed\" }\n", `p.toml:5: example "1": name`},
		"example without recipient":   {ok + "floor = \"clear\"\n[[example]]\nname = \"x\"\nfacts = { size = 1 }\nexpect = { level = \"sealed\" }\n", `p.toml:7: example "x": facts: recipient has to be set`},
		"example without expectation": {ok + "floor = \"clear\"\n[[example]]\nname = \"x\"\nfacts = { recipient = \"a@b\" }\n", `p.toml:5: example "x": expect`},
		"example with odd level":      {ok + "floor = \"clear\"\n[[example]]\nname = \"x\"\nfacts = { recipient = \"a@b\" }\n[example.expect]\nlevel = \"best\"\n", `p.toml:8: example "x": expect.level`},
		"example with odd answer":     {ok + "floor = \"clear\"\n[[example]]\nname = \"x\"\ncertificate = \"no\"\nfacts = { recipient = \"a@b\" }\nexpect = { level = \"clear\" }\n", `p.toml:7: example "x": certificate`},
	} {
		p, err := Parse("p.toml", []byte(row.text))
		if err == nil || p != nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		}
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	if _, err := Load(filepath.Join(t.TempDir(), "none.toml")); err == nil {
		t.Error("no file")
	}
	file := filepath.Join(t.TempDir(), "mine.toml")
	if err := os.WriteFile(file, []byte("x = 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "mine.toml:1: x: unknown key") {
		t.Error(err)
	}
}

// An example's facts are completed: a domain need not be said twice.
func TestExamine(t *testing.T) {
	t.Parallel()
	_, results, err := Examine("p.toml", []byte("[[rule]]\nname = \"a\"\nwhen = 'recipient_domain == \"b.example\" && sender_domain == \"c.example\" && account == \"d@c.example\" && recipients == 1'\nfloor = \"sealed\"\n"+
		"[[example]]\nname = \"x\"\nfacts = { recipient = \"a@b.example\", sender = \"d@c.example\" }\ncertificate = \"unknown\"\nexpect = { level = \"deferred\" }\n"+
		"[[example]]\nname = \"y\"\nfacts = { recipient = \"a@b.example\", sender = \"d@c.example\" }\nexpect = { level = \"held\" }\n"))
	if err != nil || len(results) != 2 {
		t.Fatal(results, err)
	}
	if want := (Result{Name: "x", Line: 5, Rule: "a", Level: "deferred"}); results[0] != want {
		t.Errorf("%+v", results[0])
	}
	if want := (Result{Name: "y", Line: 10, Rule: "a", Level: "refused", Failure: `rule "a" decides: level is "refused", not "held"`}); results[1] != want {
		t.Errorf("%+v", results[1])
	}
}

// A file that loads decides: nothing that it says goes beyond the ladder.
func FuzzParse(f *testing.F) {
	data, err := os.ReadFile(shipped)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(data))
	f.Add("[[rule]]\nname = \"a\"\nwhen = '''\nheader[\"x\"] matches \"(\" or size in 1..3'''\nfloor = \"tls\"\n")
	f.Add("[[rule]]\nname = \"a\"\nwhen = 'let x = recipient; x ?? \"a\" | lower() == \"b\"'\nrefuse = \"no\"\n[[example]]\nfacts.recipient = \"a@b\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse("p.toml", []byte(text))
		if (p == nil) == (err == nil) {
			t.Fatalf("%v %v", p, err)
		}
		if err != nil {
			return
		}
		for _, facts := range []Facts{{}, {Recipient: "bob@example.net", RecipientDomain: "example.net", Wish: WishRequire, Recipients: 2}} {
			o := p.Decide(facts)
			if o.Rule == "" || o.Floor != mail.Refused && (o.Floor < mail.Clear || o.Ceiling < o.Floor) || strings.ContainsAny(o.Prefix+o.Footer+o.Refusal, "\r\n") {
				t.Errorf("%+v", o)
			}
		}
	})
}
