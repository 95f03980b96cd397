package bridge

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
	"postern/keydir"
)

const strictPartners = `
[[rule]]
name = "partners"
when = 'recipient_domain == "partner.test"'
floor = "sealed"
`

// TestBccSharesNothing: whom To and Cc do not name has a ciphertext of their own, and
// nobody's key ids, gossip or Received tell of them.
func TestBccSharesNothing(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	all := []string{"bob@there.test", "dave@there.test", "secret@there.test", "hidden@there.test"}
	for _, a := range all {
		o.correspondent(a)
	}
	data := strings.Replace(letter("", "bob@there.test"), "\r\nSubject", "\r\nCc: Dave <DAVE@there.test>\r\nBcc: secret@there.test\r\nSubject", 1)
	o.mustSubmit(data, all...)
	copies := o.queued()
	if len(copies) != 3 {
		t.Fatalf("%d copies", len(copies))
	}
	for _, w := range copies {
		found := recipientsOf(t, w.raw)
		if len(found.Recipients) != len(w.to) {
			t.Errorf("%s: %+v", w.addresses(), found)
		}
		for _, a := range all {
			if _, named := slices.BinarySearch([]string{"bob@there.test", "dave@there.test"}, a); named == (len(w.to) == 2) && strings.Contains(w.addresses(), a) {
				payload := o.decrypt(a, w.raw)
				if strings.Count(payload, "Autocrypt-Gossip: addr=bob@") != 1 || strings.Count(payload, "Autocrypt-Gossip: addr=dave@") != 1 {
					t.Errorf("%s: gossip:\n%s", a, payload)
				}
				for _, text := range []string{payload, string(w.raw)} {
					if strings.Contains(text, "secret@") || strings.Contains(text, "hidden@") || strings.Contains(text, "Bcc:") || strings.Contains(text, "for <") {
						t.Errorf("the copy of %s tells of others:\n%s", w.addresses(), text)
					}
				}
			}
		}
		if strings.Contains(w.addresses(), "secret") && len(w.to) != 1 || len(w.to) == 2 && w.addresses() != "bob@there.test dave@there.test" {
			t.Errorf("shared by %s", w.addresses())
		}
	}
}

// TestRefusedNamesRecipients: one recipient who may not get it keeps it from all, and the
// sender is told who and why.
func TestRefusedNamesRecipients(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, withPolicy(t, strictPartners))
	o.correspondent("bob@there.test")
	_, err := o.submit(letter("", "x@y"), "bob@there.test", "a@partner.test", "b@partner.test")
	var e *mail.Error
	if !errors.As(err, &e) || e.Code != 550 || e.Enhanced != "5.7.5" || !strings.Contains(e.Text, "a@partner.test (") || !strings.Contains(e.Text, "b@partner.test (") || strings.Contains(e.Text, "bob@") {
		t.Fatalf("%v", err)
	}
	many := []string{}
	for _, c := range "abcdefghij" {
		many = append(many, string(c)+"@partner.test")
	}
	_, err = o.submit(letter("", "x@y"), many...)
	if !errors.As(err, &e) || !strings.HasSuffix(e.Text, "and 7 more") || len(e.Text) > 480 {
		t.Errorf("%v", err)
	}
	if n := len(o.queued()); n != 0 {
		t.Errorf("%d copies left", n)
	}
}

// TestMixed: split by default; refused for all, naming those without, if the policy says so.
func TestMixed(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.correspondent("bob@there.test")
	receipt := o.mustSubmit(letter("", "bob@there.test, dave@there.test"), "bob@there.test", "dave@there.test")
	if receipt.Outcomes[0].Level != mail.Sealed || receipt.Outcomes[1].Level != mail.Clear || len(o.queued()) != 2 {
		t.Errorf("%+v", receipt)
	}
	o = newOutbound(t, withPolicy(t, "[[rule]]\nname = \"all\"\nwhen = \"true\"\nfloor = \"clear\"\nmixed = \"refuse\"\n"))
	o.correspondent("bob@there.test")
	_, err := o.submit(letter("", "x@y"), "bob@there.test", "dave@there.test")
	if codeOf(err) != 550 || !strings.Contains(err.Error(), "not to dave@there.test") || strings.Contains(err.Error(), "bob@") {
		t.Errorf("%v", err)
	}
	// While it is not known whether it is mixed, it is deferred as a whole.
	o.source.set("eve@there.test", true)
	if _, err := o.submit(letter("", "x@y"), "bob@there.test", "eve@there.test"); codeOf(err) != 451 || !strings.Contains(err.Error(), "eve@there.test") {
		t.Errorf("%v", err)
	}
	if n := len(o.queued()); n != 0 {
		t.Errorf("%d copies left", n)
	}
	o.mustSubmit(letter("", "x@y"), "dave@there.test", "fred@there.test")
	o.mustSubmit(letter("", "x@y"), "bob@there.test")
}

// TestTLSOnly: what goes over verified TLS alone is locked too, and not marked insecure.
func TestTLSOnly(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, withPolicy(t, "[[rule]]\nname = \"tls\"\nwhen = \"true\"\nfloor = \"tls\"\nfooter = \"sent in clear\"\n"))
	receipt := o.mustSubmit(letter("", "bob@there.test"), "bob@there.test")
	w := o.one()
	if w.Level != mail.TLSOnly || !w.Locked || receipt.Outcomes[0].Level != mail.TLSOnly {
		t.Errorf("%v locked %v", w.Level, w.Locked)
	}
	if s := string(w.raw); strings.Contains(s, "Postern-Delivery") || !strings.HasSuffix(s, "\r\n\r\nthe canary sings\r\n") || strings.Contains(s, "footer") {
		t.Errorf("%s", s)
	}
	o.noCanary()
}

// TestMinTrust: a certificate that is trusted less than the order wants is none.
func TestMinTrust(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, withPolicy(t, "[[rule]]\nname = \"trust\"\nwhen = \"true\"\nfloor = \"sealed\"\nmin_trust = \"published\"\n"))
	o.source.trust = mail.Observed
	o.correspondent("bob@there.test")
	if _, err := o.submit(letter("", "x@y"), "bob@there.test"); codeOf(err) != 550 || !strings.Contains(err.Error(), "only observed") {
		t.Errorf("%v", err)
	}
}

// TestEndToEndOnly: where only the sender's own software is good enough, that is what the
// sender is told, and not that there is no certificate.
func TestEndToEndOnly(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, withPolicy(t, "[[rule]]\nname = \"e2e\"\nwhen = \"true\"\nfloor = \"end-to-end\"\n"))
	o.correspondent("bob@there.test")
	if _, err := o.submit(letter("", "x@y"), "bob@there.test"); codeOf(err) != 550 || !strings.Contains(err.Error(), "bob@there.test (only what your own software encrypts") {
		t.Errorf("%v", err)
	}
	o.mustSubmit(o.encrypted(t, "bob@there.test"), "bob@there.test")
}

// TestUnknownOne: the client keeps a message of one recipient of whom nothing is known.
func TestUnknownOne(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.source.set("bob@there.test", true)
	_, err := o.submit(letter("", "bob@there.test"), "bob@there.test")
	var e *mail.Error
	if !errors.As(err, &e) || e.Code != 451 || e.Enhanced != "4.7.5" || !strings.Contains(e.Text, "bob@there.test") {
		t.Errorf("%v", err)
	}
	if n := len(o.queued()); n != 0 {
		t.Errorf("%d copies left", n)
	}
}

// heldOne submits for bob, who has a certificate, and eve, of whom nothing is known.
func heldOne(t *testing.T, o *outbound, data string) waiting {
	t.Helper()
	o.correspondent("bob@there.test")
	o.source.set("eve@there.test", true)
	receipt := o.mustSubmit(data, "bob@there.test", "eve@there.test")
	if receipt.Outcomes[0].Level != mail.Sealed || receipt.Outcomes[1].Level != mail.Held || receipt.Outcomes[1].Reason == "" {
		t.Errorf("%+v", receipt.Outcomes)
	}
	w := o.copyFor("eve@there.test")
	if w.Level != mail.Held || !w.Locked || len(w.to) != 1 {
		t.Fatalf("%v locked %v for %s", w.Level, w.Locked, w.addresses())
	}
	o.noCanary()
	return w
}

// TestUnknownOfSeveral: it is held for the one, and decided anew when the source is back.
func TestUnknownOfSeveral(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer func(o *outbound)
		level  mail.Level // 0: it stays
		code   int
	}{
		"still unknown": {func(*outbound) {}, 0, 450},
		"found":         {func(o *outbound) { o.correspondent("eve@there.test") }, mail.Sealed, 0},
		"none":          {func(o *outbound) { o.source.set("eve@there.test", false) }, mail.Clear, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutbound(t)
			w := heldOne(t, o, letter("", "bob@there.test, eve@there.test"))
			test.answer(o)
			o.now = o.now.Add(2 * time.Minute) // what was not known is asked again
			if err := o.Reconsider(t.Context(), w.Outgoing, w.to[0]); codeOf(err) != test.code {
				t.Fatalf("%v", err)
			}
			again := o.copyFor("eve@there.test")
			if len(o.queued()) != 2 || test.code != 0 && again.ID != w.ID || test.code == 0 && again.Level != test.level {
				t.Fatalf("%d copies, %v", len(o.queued()), again.Level)
			}
			switch test.level {
			case mail.Sealed:
				if p := o.decrypt("eve@there.test", again.raw); !strings.HasSuffix(p, "\r\n\r\nthe canary sings\r\n") || !strings.Contains(p, "Subject: a secret subject") {
					t.Errorf("%s", p)
				}
				if again.Locked || strings.Count(string(again.raw), "Received:") != 1 {
					t.Errorf("%s", again.raw)
				}
			case mail.Clear:
				if h := headerOf(t, again.raw); h.Get("Postern-Delivery") != "insecure; reason=no-certificate" || !again.Locked || !strings.HasSuffix(string(again.raw), "the canary sings\r\n") {
					t.Errorf("%s", again.raw)
				}
			}
			told := o.stored("alice@here.test", "INBOX")
			if len(told) != map[mail.Level]int{mail.Clear: 1}[test.level] {
				t.Errorf("the sender is told %d times", len(told))
			}
			for _, m := range told {
				if text := string(o.open("alice@here.test", m.raw).original); !strings.Contains(text, "held for eve@there.test") || !strings.Contains(text, "(no certificate), and leaves in clear now: insecure.") {
					t.Errorf("%s", text)
				}
			}
			if test.code == 0 {
				if err := o.Reconsider(t.Context(), w.Outgoing, w.to[0]); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("reconsidered twice: %v", err)
				}
			}
			o.noCanary()
		})
	}
}

// TestToldOnce: of all the recipients of a message for whom it was held, one notice is made.
func TestToldOnce(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	to := []string{"a@there.test", "b@there.test", "c@there.test", "d@there.test"}
	for _, a := range to {
		o.source.set(a, true)
	}
	o.mustSubmit(letter("", "x@y"), to...)
	w := o.one()
	for i, a := range to {
		o.source.set(a, false)
		if i == 0 {
			o.correspondent(a)
		}
	}
	o.now = o.now.Add(2 * time.Minute)
	for _, r := range w.to {
		if err := o.Reconsider(t.Context(), w.Outgoing, r); err != nil {
			t.Fatal(err)
		}
	}
	if told := o.stored("alice@here.test", "INBOX"); len(told) != 1 {
		t.Errorf("told %d times", len(told))
	}
}

// TestUnknownDeferred: a policy may want the client to keep a message of several, too.
func TestUnknownDeferred(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, withPolicy(t, "[[rule]]\nname = \"later\"\nwhen = \"true\"\nfloor = \"clear\"\nunknown = \"defer\"\n"))
	o.correspondent("bob@there.test")
	o.source.set("eve@there.test", true)
	if _, err := o.submit(letter("", "x@y"), "bob@there.test", "eve@there.test"); codeOf(err) != 451 || !strings.Contains(err.Error(), "eve@there.test") || strings.Contains(err.Error(), "bob@") {
		t.Errorf("%v", err)
	}
	if n := len(o.queued()); n != 0 {
		t.Errorf("%d copies left", n)
	}
}

// TestHeldUnderAFloor: what may not go in clear does not, however long it was held.
func TestHeldUnderAFloor(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, withPolicy(t, "[[rule]]\nname = \"strict\"\nwhen = 'recipient == \"eve@there.test\"'\nfloor = \"sealed\"\nunknown = \"hold\"\n"))
	w := heldOne(t, o, letter("", "x@y"))
	o.source.set("eve@there.test", false)
	o.now = o.now.Add(2 * time.Minute)
	if err := o.Reconsider(t.Context(), w.Outgoing, w.to[0]); codeOf(err) != 550 {
		t.Errorf("%v", err)
	}
	if again := o.copyFor("eve@there.test"); again.ID != w.ID {
		t.Errorf("it left as %v", again.Level)
	}
}

// TestLostIsNeverClear: what could be encrypted to before and cannot now waits for a
// person's word.
func TestLostIsNeverClear(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.correspondent("bob@there.test")
	o.mustSubmit(letter("", "x@y"), "bob@there.test")
	o.source.set("bob@there.test", false)
	for _, later := range []time.Duration{25 * time.Hour, 32 * 24 * time.Hour} {
		o.now = o.now.Add(later)
		o.Directory.Forget()
		o.Directory.Lookup(t.Context(), parse(t, "bob@there.test")) // asks, and answers from what it had
		for deadline := time.Now().Add(10 * time.Second); o.Directory.Lookup(t.Context(), parse(t, "bob@there.test")).FreshUntil.Before(o.now); {
			if time.Now().After(deadline) {
				t.Fatal("the directory did not ask anew")
			}
			time.Sleep(time.Millisecond)
		}
	}
	if a := o.Directory.Lookup(t.Context(), parse(t, "bob@there.test")); !a.Lost {
		t.Fatalf("the directory does not say that it is lost: %+v", a)
	}
	if _, err := o.submit(letter("", "x@y"), "bob@there.test"); codeOf(err) != 451 || !strings.Contains(err.Error(), "could be encrypted to before") {
		t.Errorf("%v", err)
	}
	if r := o.mustSubmit(strings.Replace(letter("", "x@y"), "a secret", "[clear] a secret", 1), "bob@there.test"); r.Outcomes[0].Level != mail.Clear {
		t.Errorf("the sender's word: %+v", r.Outcomes)
	}
}

// TestLookupsRunAtOnce: the recipients are looked up in parallel, from RCPT on, and what
// is not known in time is held.
func TestLookupsEnd(t *testing.T) {
	t.Parallel()
	never := make(chan keydir.Answer)
	over := make(chan struct{})
	close(over)
	if a := await(never, over); a.Kind != mail.Unknown {
		t.Errorf("%+v", a)
	}
	ready := make(chan keydir.Answer, 1)
	ready <- keydir.Answer{Kind: mail.None}
	if a := await(ready, over); a.Kind != mail.None {
		t.Errorf("an answer that is there was not taken: %+v", a)
	}
	o := newOutbound(t)
	tr, err := o.Begin(t.Context(), submissionSource())
	if err != nil {
		t.Fatal(err)
	}
	l := tr.(*transaction).submission.lookups
	tr.Abort()
	for range 2 * lookupsAtOnce {
		if a := <-l.start(parse(t, "bob@there.test")); a.Kind == mail.Found {
			t.Errorf("%+v", a)
		}
	}
}

// TestSubmitFacts: what the policy is told of a message.
func TestSubmitFacts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ when, header, body string }{
		"account":     {`account == "alice@here.test" && sender == "alice+x@here.test" && sender_domain == "here.test"`, "From: alice+x@here.test\r\n", "hello\r\n"},
		"recipient":   {`recipient == "bob@there.test" && recipient_domain == "there.test" && recipients == 1`, "From: alice@here.test\r\n", ""},
		"list":        {`list && !automatic && !calendar`, "From: alice@here.test\r\nList-Id: <x.y>\r\n", ""},
		"automatic":   {`automatic && !list`, "From: alice@here.test\r\nAuto-Submitted: auto-generated\r\n", ""},
		"calendar":    {`calendar`, "From: alice@here.test\r\nContent-Type: text/calendar\r\n", "BEGIN:VCALENDAR\r\n"},
		"invitation":  {`calendar`, "From: alice@here.test\r\nContent-Type: multipart/alternative; boundary=x\r\n", "--x\r\n\r\na\r\n--x\r\nContent-Type: text/calendar\r\n\r\nb\r\n--x--\r\n"},
		"signed":      {`signed && !encrypted`, "From: alice@here.test\r\nContent-Type: multipart/signed; boundary=x\r\n", ""},
		"sensitivity": {`sensitivity == "private"`, "From: alice@here.test\r\nSensitivity: Private\r\n", ""},
		"header":      {`header["x-classification"] == "Internal"`, "From: alice@here.test\r\nX-Classification: Internal\r\nX-Classification: second\r\n", ""},
		"wish":        {`wish == "require"`, "From: alice+require@here.test\r\n", ""},
	} {
		o := newOutbound(t, withPolicy(t, "[[rule]]\nname = \"it\"\nwhen = '"+test.when+"'\nrefuse = \"the rule holds\"\n"))
		if _, err := o.submit(test.header+"\r\n"+test.body, "bob@there.test"); codeOf(err) != 550 || !strings.Contains(err.Error(), "the rule holds") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHideSubject: the outer subject is the policy's business.
func TestHideSubject(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, withPolicy(t, "[[rule]]\nname = \"open\"\nwhen = \"true\"\nfloor = \"clear\"\nhide_subject = false\n"))
	o.correspondent("bob@there.test")
	o.mustSubmit(letter("", "bob@there.test"), "bob@there.test")
	if s := headerOf(t, o.one().raw).Get("Subject"); s != "a secret subject" {
		t.Errorf("%q", s)
	}
}

// TestSealedKeepsWhatOthersNeed: an automatic reply must be known as one without opening it.
func TestSealedKeepsWhatOthersNeed(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.correspondent("bob@there.test")
	o.mustSubmit(letter("Auto-Submitted: auto-replied\r\nSender: alice+bot@here.test\r\nIn-Reply-To: <x@y>\r\n", "bob@there.test"), "bob@there.test")
	h := headerOf(t, o.one().raw)
	for _, name := range []string{"Auto-Submitted", "Sender", "In-Reply-To", "From", "To", "Date", "Message-ID", "Autocrypt"} {
		if len(h.Values(name)) != 1 {
			t.Errorf("%s: %q", name, h.Values(name))
		}
	}
	if message.CountReceived(h) != 1 {
		t.Error("Received")
	}
}
