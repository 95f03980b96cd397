package keydir

import (
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/testkit"
)

// The rows of the table of changes that need certificates which change: GnuPG makes
// those as their owners do.

// at runs gpg at a time.
func (g *gnupg) at(t testing.TB, at time.Time, args ...string) []byte {
	t.Helper()
	return g.run(t, g.gpg, append([]string{"--batch", "--yes", "--status-fd", "1", "--passphrase", "", "--pinentry-mode", "loopback",
		"--faked-system-time", at.UTC().Format("20060102T150405!")}, args...)...)
}

// keyAt makes bob a key at a time, for some days as gpg writes them, and returns its
// fingerprint.
func (g *gnupg) keyAt(t testing.TB, at time.Time, days string) string {
	t.Helper()
	for line := range strings.Lines(string(g.at(t, at, "--quick-gen-key", "<bob@there.test>", "ed25519", "cert", days))) {
		if fingerprint, ok := strings.CutPrefix(line, "[GNUPG:] KEY_CREATED P "); ok {
			fingerprint = strings.TrimSpace(fingerprint)
			g.at(t, at, "--quick-add-key", fingerprint, "cv25519", "encr", days)
			return fingerprint
		}
	}
	t.Fatal("gpg made no key")
	return ""
}

// certificate is what a source has after its owner exported a key.
func (g *gnupg) certificate(t testing.TB, fingerprint string) *pgp.Certificate {
	t.Helper()
	certs, err := pgp.ParseFor(g.run(t, g.gpg, "--batch", "--export", fingerprint), bob.Key())
	if err != nil || len(certs) != 1 {
		t.Fatalf("%d certificates, %v", len(certs), err)
	}
	return certs[0]
}

// yesterday is when the keys of these tests are made.
func yesterday() time.Time { return testkit.NewClock().Now().Add(-24 * time.Hour) }

func TestChangeOfForm(t *testing.T) {
	t.Parallel()
	f, g := newDirectory(t), newGnuPG(t)
	k := g.keyAt(t, yesterday(), "5d")
	first := g.certificate(t, k)
	f.wkd.has("bob@there.test", first)
	f.want(f.Lookup(t.Context(), bob), mail.Found, first)

	g.at(t, yesterday().Add(time.Hour), "--quick-set-expire", k, "50d")
	g.at(t, yesterday().Add(time.Hour), "--quick-set-expire", k, "50d", "*")
	renewed := g.certificate(t, k)
	f.wkd.has("bob@there.test", renewed)
	f.want(f.again(), mail.Found, renewed)
	f.clock.Advance(20 * 24 * time.Hour)
	f.want(f.again(), mail.Found, renewed) // long after the first form's end

	// A source that still has the old form takes nothing back.
	f.wkd.has("bob@there.test", first)
	f.want(f.again(), mail.Found, renewed)
	if rules := f.rules(); len(rules) < 2 || rules[1] != RuleSamePrimary || slices.Contains(rules, RuleReplaced) {
		t.Errorf("history %q", rules)
	}
	f.wantTold()
}

func TestChangeRevoked(t *testing.T) {
	t.Parallel()
	f, g := newDirectory(t), newGnuPG(t)
	k := g.keyAt(t, yesterday(), "never")
	first := g.certificate(t, k)
	f.wkd.has("bob@there.test", first)
	f.want(f.Lookup(t.Context(), bob), mail.Found, first)

	revocation := g.home + "/revoke.asc"
	c := g.command(t.Context(), g.gpg, "--no-tty", "--command-fd", "0", "--pinentry-mode", "loopback", "--output", revocation,
		"--faked-system-time", yesterday().Add(time.Hour).UTC().Format("20060102T150405!"), "--gen-revoke", k)
	c.Stdin = strings.NewReader("y\n1\n\ny\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	g.run(t, g.gpg, "--batch", "--import", revocation)
	f.wkd.has("bob@there.test", g.certificate(t, k))
	a := f.again()
	f.want(a, mail.None, nil)
	if !a.Lost {
		t.Error("encrypted before, cannot now: it is not said")
	}
	f.again()
	f.wantRules(RuleFirst, RuleLost) // once
	f.wantTold(RuleLost)
	// A form without the revocation does not bring it back.
	f.wkd.has("bob@there.test", first)
	f.want(f.again(), mail.None, nil)
}

// TestFirstIsUnusable: who never had a certificate that can be used has none, and mail to
// them does not wait for ever; one that is dated in the future is waited for.
func TestFirstIsUnusable(t *testing.T) {
	t.Parallel()
	g := newGnuPG(t)
	expired := g.certificate(t, g.keyAt(t, yesterday(), "seconds=3600"))
	fresh := key(t, "bob@there.test").Certificate()
	signs := newGnuPG(t)
	signs.at(t, yesterday(), "--quick-gen-key", "<bob@there.test>", "ed25519", "sign", "never")
	for name, test := range map[string]struct {
		c    *pgp.Certificate
		want mail.Answer
		lost bool
	}{
		"expired":    {expired, mail.None, false},
		"only signs": {signs.certificate(t, "bob@there.test"), mail.None, false},
		"the future": {fresh, mail.None, true},
	} {
		f := newDirectory(t)
		if name == "the future" {
			f.clock.Set(yesterday())
		}
		f.wkd.has("bob@there.test", test.c)
		a := f.Lookup(t.Context(), bob)
		f.want(a, test.want, nil)
		if a.Lost != test.lost || a.Reason == "" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	// Its owner makes it longer.
	f := newDirectory(t)
	f.wkd.has("bob@there.test", expired)
	f.want(f.Lookup(t.Context(), bob), mail.None, nil)
	good := key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", good)
	f.want(f.again(), mail.Found, good)
	f.wantRules(RuleFirst)
}

func TestChangeExpired(t *testing.T) {
	t.Parallel()
	f, g := newDirectory(t), newGnuPG(t)
	c := g.certificate(t, g.keyAt(t, yesterday(), "3d"))
	f.wkd.has("bob@there.test", c)
	f.want(f.Lookup(t.Context(), bob), mail.Found, c)
	f.clock.Advance(3 * 24 * time.Hour)
	a := f.again()
	f.want(a, mail.None, nil)
	if !a.Lost {
		t.Error("encrypted before, cannot now: it is not said")
	}
	f.again()
	f.wantRules(RuleFirst, RuleLost)
	f.wantTold(RuleLost)
}

// TestAskedBeforeItExpires: a correspondent's certificate is asked for again when it
// ends, however fresh the answer would be, and a bit before.
func TestAskedBeforeItExpires(t *testing.T) {
	t.Parallel()
	f, g := newDirectory(t), newGnuPG(t)
	k := g.keyAt(t, yesterday(), "2d") // ends in a day
	first := g.certificate(t, k)
	f.clock.Advance(20 * time.Hour)
	f.wkd.has("bob@there.test", first)
	a := f.Lookup(t.Context(), bob)
	f.want(a, mail.Found, first)
	if left := a.FreshUntil.Sub(f.clock.Now()); left > 4*time.Hour {
		t.Fatalf("fresh for %v", left)
	}
	g.at(t, yesterday().Add(44*time.Hour), "--quick-set-expire", k, "20d")
	g.at(t, yesterday().Add(44*time.Hour), "--quick-set-expire", k, "20d", "*")
	f.wkd.has("bob@there.test", g.certificate(t, k))
	f.clock.Advance(3*time.Hour + time.Minute) // an hour before
	f.refresh(t.Context())
	f.want(f.Lookup(t.Context(), bob), mail.Found, first)
	if n := f.wkd.count(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	f.clock.Advance(2 * time.Hour) // past the end of the first form
	f.want(f.Lookup(t.Context(), bob), mail.Found, first)
	f.wantTold()
}

func TestChangeCertified(t *testing.T) {
	t.Parallel()
	g := newGnuPG(t)
	oldKey, newKey := g.keyAt(t, yesterday(), "3d"), g.keyAt(t, yesterday(), "never")
	g.at(t, yesterday(), "--local-user", oldKey, "--quick-sign-key", newKey)
	first, second := g.certificate(t, oldKey), g.certificate(t, newKey)
	for name, wait := range map[string]time.Duration{"usable": 0, "expired": 3 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newDirectory(t)
			f.wkd.has("bob@there.test", first)
			f.want(f.Lookup(t.Context(), bob), mail.Found, first)
			f.clock.Advance(wait)
			f.wkd.has("bob@there.test", second)
			f.want(f.again(), mail.Found, second)
			f.wantRules(RuleFirst, RuleSucceeds)
			f.wantTold(RuleSucceeds)
		})
	}
	t.Run("by a weaker source, expired", func(t *testing.T) {
		t.Parallel()
		f := newDirectory(t)
		f.wkd.has("bob@there.test", first)
		f.want(f.Lookup(t.Context(), bob), mail.Found, first)
		f.clock.Advance(3 * 24 * time.Hour)
		f.wkd.has("bob@there.test")
		f.peers.has("bob@there.test", second)
		f.want(f.again(), mail.Found, second)
		f.wantRules(RuleFirst, RuleSucceeds)
	})
}

func TestChangeOfTheDead(t *testing.T) {
	t.Parallel()
	g := newGnuPG(t)
	first := g.certificate(t, g.keyAt(t, yesterday(), "3d"))
	second := key(t, "bob@there.test").Certificate()
	known := func(t *testing.T) *fixture {
		f := newDirectory(t)
		f.wkd.has("bob@there.test", first)
		f.want(f.Lookup(t.Context(), bob), mail.Found, first)
		f.clock.Advance(3 * 24 * time.Hour)
		return f
	}
	t.Run("another", func(t *testing.T) {
		t.Parallel()
		f := known(t)
		f.wkd.has("bob@there.test", second)
		f.want(f.again(), mail.Found, second)
		f.wantRules(RuleFirst, RuleDead)
		f.wantTold(RuleDead)
	})
	t.Run("another from a weaker source", func(t *testing.T) {
		t.Parallel()
		f := known(t)
		f.wkd.has("bob@there.test")
		f.peers.has("bob@there.test", second)
		a := f.again()
		f.want(a, mail.Unknown, nil) // held
		if a.Candidate != second.Fingerprint() {
			t.Errorf("candidate %q", a.Candidate)
		}
		f.want(f.again(), mail.Unknown, nil)
		f.wantRules(RuleFirst, RuleWeaker)
		f.wantTold(RuleWeaker) // once
		if err := f.Accept(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		f.want(f.Lookup(t.Context(), bob), mail.Found, second)
	})
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		f := known(t)
		f.wkd.has("bob@there.test")
		a := f.again()
		f.want(a, mail.None, nil)
		if !a.Lost {
			t.Error("encrypted before, cannot now: it is not said")
		}
		f.again()
		f.wantRules(RuleFirst, RuleLost)
		f.wantTold(RuleLost)
	})
	t.Run("the sources cannot say", func(t *testing.T) {
		t.Parallel()
		f := known(t)
		f.wkd.fails(errDown)
		f.want(f.again(), mail.Unknown, nil) // never clear
		f.wantRules(RuleFirst)
	})
}
