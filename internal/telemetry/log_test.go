package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const canary = "alice.canary@secret.example"

type stringer struct{}

func (stringer) String() string { return "for " + canary }

type valuer struct{}

func (valuer) LogValue() slog.Value { return slog.StringValue(canary) }

type grouped struct{}

func (grouped) LogValue() slog.Value {
	return slog.GroupValue(slog.String("local", "alice.canary"), slog.String("domain", "secret.example"))
}

func lines(format string, addresses bool, log func(*slog.Logger)) string {
	var out bytes.Buffer
	log(NewLogger(&out, format, slog.LevelDebug, addresses))
	return out.String()
}

// No way of logging an address may get it through.
func TestNoAddressInLog(t *testing.T) {
	t.Parallel()
	ways := map[string]func(*slog.Logger){
		"from": func(l *slog.Logger) { l.Info("x", KeyFrom, canary) },
		"rcpt": func(l *slog.Logger) { l.Info("x", KeyRcpt, []string{canary}) },
		"account": func(l *slog.Logger) {
			l.Info("x", KeyAccount, struct{ Local, Domain string }{"alice.canary", "secret.example"})
		},
		"login":           func(l *slog.Logger) { l.Info("x", KeyLogin, "alice.canary") },
		"group value":     func(l *slog.Logger) { l.Info("x", KeyFrom, grouped{}) },
		"valuer":          func(l *slog.Logger) { l.Info("x", "other", valuer{}) },
		"stringer":        func(l *slog.Logger) { l.Info("x", "other", stringer{}) },
		"error":           func(l *slog.Logger) { l.Error("x", KeyError, fmt.Errorf("550 <%s>: %w", canary, errors.New("no"))) },
		"message":         func(l *slog.Logger) { l.Warn("no such user: " + canary) },
		"string":          func(l *slog.Logger) { l.Info("x", "other", "to=<"+canary+">,") },
		"within group":    func(l *slog.Logger) { l.WithGroup("g").Info("x", KeyFrom, canary) },
		"with":            func(l *slog.Logger) { l.With(KeyRcpt, canary).Info("x") },
		"quoted local":    func(l *slog.Logger) { l.Info("x", "other", `"alice.canary"@secret.example`) },
		"slice elsewhere": func(l *slog.Logger) { l.Info("x", "other", []string{"a", canary}) },
		"said": func(l *slog.Logger) {
			l.Info("x", KeyReply, Said{"550 <Alice.Canary@secret.example>: ALICE.CANARY is not here", canary})
		},
		"struct": func(l *slog.Logger) { l.Info("x", "other", struct{ A string }{canary}) },
	}
	for name, way := range ways {
		for _, format := range []string{"text", "json"} {
			got := lines(format, false, way)
			if strings.Contains(strings.ToLower(got), "alice.canary") || strings.Contains(got, "secret.example") {
				t.Errorf("%s, %s: the log shows the address: %s", name, format, got)
			}
			if !strings.Contains(got, "~") {
				t.Errorf("%s, %s: the log shows no hash either: %s", name, format, got)
			}
		}
	}
}

func TestAddressesOnRequest(t *testing.T) {
	t.Parallel()
	got := lines("text", true, func(l *slog.Logger) { l.Info("x", KeyFrom, canary, KeyIP, "192.0.2.1") })
	if !strings.Contains(got, canary) || !strings.Contains(got, "192.0.2.1") {
		t.Errorf("addresses were asked for: %s", got)
	}
	for _, format := range []string{"text", "json"} {
		got := lines(format, true, func(l *slog.Logger) { l.Info("x", KeyReply, Said{"no alice.canary here", canary}) })
		if !strings.Contains(got, `"no alice.canary here"`) {
			t.Errorf("%s: addresses were asked for: %s", format, got)
		}
	}
}

// What somebody said stays readable around the address that it is about.
func TestSaid(t *testing.T) {
	t.Parallel()
	h := newHider()
	for _, row := range []struct{ text, about, want string }{
		{"come again", canary, "come again"},
		{"no alice.canary here", canary, "no " + h.hash(canary) + " here"},
		{"a mailbox a is not", "a@b.example", h.hash("a@b.example") + " mailbox " + h.hash("a@b.example") + " is not"},
		{"nobody", "", "nobody"},
		{"nobody", `"x y"@b.example`, "nobody"},
		{"no x y here", `"x y"@b.example`, "no " + h.hash(`"x y"@b.example`) + " here"},
		{"no \xffabc here", "\xffabc@b.example", h.hash("no \xffabc here")},
		{"no xffabc here", "\xffabc@b.example", "no xffabc here"},
	} {
		if got := h.said(Said{row.text, row.about}).String(); got != row.want {
			t.Errorf("%q about %q: %q, want %q", row.text, row.about, got, row.want)
		}
	}
}

func TestSecretsNeverLogged(t *testing.T) {
	t.Parallel()
	for _, addresses := range []bool{true, false} {
		got := lines("text", addresses, func(l *slog.Logger) {
			l.Info("x", "subject", "CANARY", "password", []byte("CANARY"))
			l.WithGroup("secret").Info("x", "part", "CANARY")
		})
		if strings.Contains(got, "CANARY") {
			t.Errorf("addresses=%v: %s", addresses, got)
		}
	}
}

func TestHashesCorrelate(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := NewLogger(&out, "json", slog.LevelInfo, false)
	hashes := map[string]string{}
	for _, a := range []string{"Bob@example.org", "bob@example.org", "eve@example.org", ""} {
		out.Reset()
		l.Info("x", KeyFrom, a, KeyIP, "192.0.2.1", KeySize, 12)
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		hashes[a] = line[KeyFrom].(string)
		if line[KeySize] != 12.0 {
			t.Errorf("size = %v", line[KeySize])
		}
		if line[KeyIP] == "192.0.2.1" {
			t.Error("the IP address is shown")
		}
	}
	if hashes["Bob@example.org"] != hashes["bob@example.org"] || hashes["bob@example.org"] == hashes["eve@example.org"] {
		t.Errorf("hashes do not follow the addresses: %v", hashes)
	}
	if hashes[""] != "" {
		t.Error("the null reverse-path is hidden")
	}
	other := lines("json", false, func(l *slog.Logger) { l.Info("x", KeyFrom, "bob@example.org") })
	if strings.Contains(other, hashes["bob@example.org"]) {
		t.Error("two loggers share a salt")
	}
}

func TestLevelAndOrdinaryValues(t *testing.T) {
	t.Parallel()
	var level slog.LevelVar
	var out bytes.Buffer
	l := NewLogger(&out, "text", &level, false)
	l.Debug("hidden")
	level.Set(slog.LevelDebug)
	l.Debug("shown", KeyCode, "250 2.0.0", KeyError, errors.New("disk full"))
	got := out.String()
	if strings.Contains(got, "hidden") || !strings.Contains(got, `code="250 2.0.0" error="disk full"`) {
		t.Error(got)
	}
}

func FuzzScrub(f *testing.F) {
	f.Add("a@b c <d@e>", "x")
	f.Add(`"a b"@c`, "y@z")
	f.Add("@@@", "")
	h := newHider()
	f.Fuzz(func(t *testing.T, before, after string) {
		got := h.scrub(slog.StringValue(before + " <canary@secret.example> " + after)).String()
		if strings.Contains(got, "canary@secret") {
			t.Errorf("%q", got)
		}
	})
}
