package keydir

import (
	"slices"
	"strings"
	"testing"

	"postern/internal/mail"
)

// One test for each row of the table of changes.

func (f *fixture) wantRules(want ...Rule) {
	f.t.Helper()
	if got := f.rules(); !slices.Equal(got, want) {
		f.t.Errorf("history %q, want %q", got, want)
	}
}

func (f *fixture) wantTold(want ...Rule) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var got []Rule
	for _, c := range f.told {
		got = append(got, c.Rule)
	}
	if !slices.Equal(got, want) {
		f.t.Errorf("told %q, want %q", got, want)
	}
}

func TestChangeFirst(t *testing.T) {
	f := newDirectory(t)
	c := key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", c)
	f.want(f.Lookup(t.Context(), bob), mail.Found, c)
	f.wantRules(RuleFirst)
	f.wantTold()
}

func TestChangeNone(t *testing.T) {
	f := newDirectory(t)
	c := key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", c)
	f.want(f.Lookup(t.Context(), bob), mail.Found, c)
	f.want(f.again(), mail.Found, c)
	f.wantRules(RuleFirst)
	f.wantTold()
}

func TestChangeUnexplained(t *testing.T) {
	f := newDirectory(t)
	first, second := key(t, "bob@there.test").Certificate(), key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", first)
	f.want(f.Lookup(t.Context(), bob), mail.Found, first)
	f.wkd.has("bob@there.test", second)
	f.want(f.again(), mail.Found, second)
	f.want(f.again(), mail.Found, second)
	f.wantRules(RuleFirst, RuleReplaced)
	f.wantTold(RuleReplaced)
}

func TestChangeByAWeakerSource(t *testing.T) {
	f := newDirectory(t)
	first, second := key(t, "bob@there.test").Certificate(), key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", first)
	f.want(f.Lookup(t.Context(), bob), mail.Found, first)
	f.wkd.has("bob@there.test")
	f.peers.has("bob@there.test", second)
	f.want(f.again(), mail.Found, first)
	f.wantRules(RuleFirst, RuleWeaker)
	f.wantTold()
}

func TestChangeByAStrongerSource(t *testing.T) {
	f := newDirectory(t)
	first, second := key(t, "bob@there.test").Certificate(), key(t, "bob@there.test").Certificate()
	f.peers.has("bob@there.test", first)
	f.want(f.Lookup(t.Context(), bob), mail.Found, first)
	f.wkd.has("bob@there.test", second)
	a := f.again()
	f.want(a, mail.Found, second)
	if a.Trust != Published {
		t.Errorf("trust %v", a.Trust)
	}
	f.wantTold(RuleReplaced)
}

func TestChangePinned(t *testing.T) {
	f := newDirectory(t)
	pinned, other := key(t, "bob@there.test").Certificate(), key(t, "bob@there.test").Certificate()
	if err := f.Pin(t.Context(), bob, pinned); err != nil {
		t.Fatal(err)
	}
	f.want(f.Lookup(t.Context(), bob), mail.Found, pinned)
	f.wkd.has("bob@there.test", other)
	a := f.again()
	f.want(a, mail.Unknown, nil) // held: nobody decides but a person
	if a.Candidate != other.Fingerprint() {
		t.Errorf("candidate %q", a.Candidate)
	}
	f.want(f.again(), mail.Unknown, nil)
	f.wantTold(RuleAccepted, RulePinned) // once

	t.Run("reject", func(t *testing.T) {
		if err := f.Reject(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		f.want(f.Lookup(t.Context(), bob), mail.Found, pinned)
		f.want(f.again(), mail.Found, pinned) // and is not asked again
		f.wantRules(RuleAccepted, RulePinned, RuleRejected)
	})
	t.Run("accept", func(t *testing.T) {
		third := key(t, "bob@there.test").Certificate()
		f.wkd.has("bob@there.test", third)
		f.want(f.again(), mail.Unknown, nil)
		if err := f.Accept(t.Context(), bob); err != nil {
			t.Fatal(err)
		}
		f.want(f.Lookup(t.Context(), bob), mail.Found, third)
		if err := f.Accept(t.Context(), bob); err == nil {
			t.Error("accepted twice")
		}
	})
}

// A certificate that is not trusted enough is none, and what could be encrypted to before
// is never as if there had been none.
func TestAnswerUnder(t *testing.T) {
	f := newDirectory(t)
	c := key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", c)
	found := f.Lookup(t.Context(), bob)
	for _, row := range []struct {
		answer Answer
		least  Trust
		want   mail.Answer
		reason string
	}{
		{found, NoTrust, mail.Found, ""},
		{found, Published, mail.Found, ""},
		{found, Pinned, mail.None, "only published, and pinned is required"},
		{Answer{Kind: mail.None, Reason: "x"}, NoTrust, mail.None, "x"},
		{Answer{Kind: mail.None, Reason: "x", Lost: true}, NoTrust, mail.Unknown, "before and cannot now: x"},
		{Answer{Reason: "x"}, NoTrust, mail.Unknown, "x"},
	} {
		got, certs := row.answer.Under(row.least, f.clock.Now())
		if got.Kind != row.want || !strings.HasSuffix(got.Reason, row.reason) || (len(certs) == 1) != (row.want == mail.Found) {
			t.Errorf("%+v under %v: %+v, %d certificates", row.answer, row.least, got, len(certs))
		}
	}
	if got, certs := found.Under(NoTrust, f.clock.Now().AddDate(-1, 0, 0)); got.Kind != mail.Unknown || got.Reason == "" || certs != nil {
		t.Errorf("when it cannot be used: %+v", got)
	}
}

func TestChangeVanished(t *testing.T) {
	f := newDirectory(t)
	c := key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", c)
	f.want(f.Lookup(t.Context(), bob), mail.Found, c)
	f.wkd.has("bob@there.test")
	for range 29 {
		f.want(f.again(), mail.Found, c)
	}
	f.wantRules(RuleFirst, RuleVanished)
	for range 3 {
		f.again()
	}
	a := f.Lookup(t.Context(), bob)
	f.want(a, mail.None, nil)
	if !a.Lost {
		t.Error("encrypted before, cannot now: it is not said")
	}
	f.wantRules(RuleFirst, RuleVanished, RuleLost)
	f.wantTold(RuleLost)
}

func TestSourcesDownKeepTheKnown(t *testing.T) {
	f := newDirectory(t)
	c := key(t, "bob@there.test").Certificate()
	f.wkd.has("bob@there.test", c)
	f.want(f.Lookup(t.Context(), bob), mail.Found, c)
	f.wkd.fails(errDown)
	f.wkd.mu.Lock()
	delete(f.wkd.certs, "bob@there.test")
	f.wkd.mu.Unlock()
	for range 40 {
		f.want(f.again(), mail.Found, c)
	}
	f.wantRules(RuleFirst)
}

// TestP3UnknownIsNotNone: a source that cannot say never means that there is none.
func TestP3UnknownIsNotNone(t *testing.T) {
	f := newDirectory(t)
	f.wkd.fails(errDown)
	f.want(f.Lookup(t.Context(), bob), mail.Unknown, nil)
	f.wkd.has("bob@there.test")
	f.peers.fails(errDown)
	f.want(f.again(), mail.Unknown, nil)
	f.peers.has("bob@there.test")
	f.want(f.again(), mail.None, nil)
	// A certificate from the one is good although the other cannot say.
	c := key(t, "bob@there.test").Certificate()
	f.wkd.fails(errDown)
	f.peers.has("bob@there.test", c)
	f.want(f.again(), mail.Found, c)
}
