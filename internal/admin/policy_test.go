package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/pgp"
)

const rules = `
[[rule]]
name = "partners"
when = 'recipient_domain == "partner.test" && sender == "alice@here.test"'
floor = "sealed"
min_trust = "pinned"
refuse = "encrypted or not at all"

[[example]]
name = "a partner"
facts = { recipient = "bob@partner.test", sender = "alice@here.test" }
expect = { refused = true }
`

// withPolicy has the gateway load rules.
func (f *fixture) withPolicy(text string) string {
	f.t.Helper()
	file := write(f.t, filepath.Join(filepath.Dir(f.setup.Config), "policy.toml"), text)
	f.configure("file", `"policy.toml"`)
	return file
}

// explainOne is what Explain says of one recipient.
func (f *fixture) explainOne(from, to string) Explanation {
	f.t.Helper()
	list, err := f.Explain(f.t.Context(), from, []string{to})
	if err != nil || len(list) != 1 {
		f.t.Fatal(list, err)
	}
	return list[0]
}

func TestExplainDecides(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	setKey(t, f.setup.Config, "sources", "[]")
	f.withPolicy(rules)
	bob, err := pgp.GenerateKey("bob@partner.test", f.key.Certificate().Created())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ from, to, rule, level string }{
		{owner, "bob@partner.test", "partners", "refused"},
		{"", "bob@partner.test", "opportunistic", "clear"},
		{owner, "bob@there.test", "opportunistic", "clear"},
		{owner, owner, "local delivery", "sealed"},
		{owner, "alice+news@here.test", "local delivery", "sealed"},
		{owner, "postmaster@here.test", "local delivery", "sealed"},
		{owner, "nobody@here.test", "local delivery", "refused"},
		// The sender's words are in the address, and not part of it.
		{"Alice+require@here.test", "bob@partner.test", "partners", "refused"},
		{"alice+require@here.test", "bob@there.test", "opportunistic", "refused"},
		{"alice+clear@here.test", "bob@there.test", "opportunistic", "clear"},
		{"alice+news@here.test", "bob@partner.test", "opportunistic", "clear"},
	} {
		e := f.explainOne(row.from, row.to)
		if e.Decision.Rule != row.rule || e.Decision.Level != row.level {
			t.Errorf("%s to %s: %+v", row.from, row.to, e.Decision)
		}
	}
	if list, err := f.PinCertificate(t.Context(), "bob@partner.test", bob.Certificate().Armor()); err != nil || len(list) != 1 || list[0].Warning != "" {
		t.Fatal(list, err)
	}
	if list, err := f.PinCertificate(t.Context(), "carol@partner.test", bob.Certificate().Armor()); err != nil || !strings.Contains(list[0].Warning, "carol@partner.test") {
		t.Error(list, err)
	}
	e := f.explainOne(owner, "bob@partner.test")
	want := Decision{
		Level: "sealed", Rule: "partners", Floor: "sealed", Ceiling: "end-to-end", MinTrust: "pinned",
		NotKnown: "defer", Mixed: "split", HideSubject: true, Refusal: "encrypted or not at all",
	}
	if e.Decision != want {
		t.Errorf("%+v", e.Decision)
	}
	var text bytes.Buffer
	if err := (Explanations{e}).WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"bob@partner.test: sealed, can be encrypted to\n", "rule         partners", "from sealed to end-to-end", "encrypted or not at all"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("%q is not in\n%s", part, text.String())
		}
	}
	data, err := json.Marshal(e)
	if err != nil || !strings.Contains(string(data), `"decision":{"level":"sealed","rule":"partners"`) || !strings.Contains(string(data), `"address":"bob@partner.test"`) {
		t.Errorf("%s %v", data, err)
	}
	if _, err := f.Explain(t.Context(), "nobody", []string{owner}); !errors.Is(err, ErrUsage) {
		t.Error(err)
	}
	for _, from := range []string{"nobody@here.test", "postmaster@here.test", "bob@there.test", "alice+requir@here.test"} {
		if _, err := f.Explain(t.Context(), from, []string{owner}); err == nil || !strings.Contains(err.Error(), "no account here may send as "+from) {
			t.Errorf("%s: %v", from, err)
		}
	}
}

// What nobody knows is tried again by a client that has no other recipient; else it is
// held.
func TestExplainUnknown(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	f.configure("servers", `["127.0.0.1:1"]`)
	if e := f.explainOne(owner, "bob@there.test"); e.Decision.Level != "deferred" || e.Decision.NotKnown != "defer" {
		t.Errorf("%+v", e.Decision)
	}
	two, err := f.Explain(t.Context(), owner, []string{"bob@there.test", owner})
	if err != nil || two[0].Decision.Level != "held" || two[1].Decision.Level != "sealed" {
		t.Errorf("%+v %v", two, err)
	}
}

func TestTestPolicy(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	if _, err := TestPolicy(f.setup.Config, ""); err == nil || !strings.Contains(err.Error(), "policy.file") {
		t.Error(err)
	}
	file := f.withPolicy(rules)
	list, err := TestPolicy(f.setup.Config, "")
	if err != nil || len(list) != 1 || list.Err() != nil || list[0].Level != "refused" {
		t.Errorf("%+v %v", list, err)
	}
	other := write(t, filepath.Join(t.TempDir(), "other.toml"), strings.Replace(rules, "refused = true", "refused = false", 1))
	list, err = TestPolicy(f.setup.Config, other)
	if err != nil || list.Err() == nil {
		t.Errorf("%+v %v", list, err)
	}
	var text bytes.Buffer
	if err := list.WriteText(&text); err != nil || !strings.Contains(text.String(), `FAILED  line 9: a partner  rule "partners" decides: refused is "true", not "false"`) {
		t.Errorf("%s %v", text.String(), err)
	}
	if _, err := TestPolicy(f.setup.Config, file+".gone"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}

	// What does not load stops every command, and check says where.
	write(t, file, "[[rule]]\nname = 3\n")
	if _, err := TestPolicy(f.setup.Config, ""); err == nil || !strings.Contains(err.Error(), "policy.toml:2: ") {
		t.Error(err)
	}
	if _, err := Open(context.Background(), f.setup.Config); err == nil {
		t.Error("a gateway with a broken policy opens")
	}
	report := Check(t.Context(), f.setup.Config, CheckOptions{})
	if f := report.find("policy"); len(f) != 1 || f[0].State != Bad || !strings.Contains(f[0].Text, "policy.toml:2: ") {
		t.Errorf("%+v", report)
	}
	if len(report.find("database")) != 0 {
		t.Error("the data was opened with a broken policy")
	}
}
