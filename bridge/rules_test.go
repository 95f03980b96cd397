package bridge

import (
	"strings"
	"sync"
	"testing"

	"postern/internal/mail"
)

// Rules change between two transactions, never within the answer to one.
func TestSetRules(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	f.account("alice@new.test", true)
	if _, err := f.send(source(), plainMail, "alice@new.test"); codeOf(err) != 550 {
		t.Errorf("a domain that is not hosted: %v", err)
	}
	domains := []string{"here.test", "new.test"}
	f.SetRules(Rules{Domains: domains, KeepSubject: true, Postmaster: mail.Address{Local: "alice", Domain: "new.test"}})
	domains[1] = "changed.test" // the rules are a copy
	f.mustSend(plainMail, "alice@new.test")
	f.mustSend(plainMail, "postmaster@here.test")
	if n := len(f.stored("alice@new.test", "INBOX")); n != 2 {
		t.Errorf("%d messages, want that to alice and that to postmaster", n)
	}

	f.SetRules(Rules{Domains: []string{"new.test"}})
	if _, err := f.send(source(), plainMail, "alice@here.test"); codeOf(err) != 550 {
		t.Errorf("a domain that was taken away: %v", err)
	}
}

// A recipient that was accepted before the rules changed stays accepted.
func TestSetRulesWithinATransaction(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { f.SetRules(Rules{Domains: []string{"here.test"}}) })
		wg.Go(func() {
			if _, err := f.resolve(t.Context(), mail.Address{Local: "alice", Domain: "here.test"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	tr, err := f.Begin(t.Context(), source())
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Rcpt(t.Context(), mail.Rcpt{Address: parse(t, "alice@here.test")}); err != nil {
		t.Fatal(err)
	}
	f.SetRules(Rules{})
	if _, err := tr.Data(t.Context(), strings.NewReader(plainMail)); err != nil {
		t.Errorf("data after the rules changed: %v", err)
	}
}
