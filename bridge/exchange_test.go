package bridge

import (
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
)

// appendTo is alice's client, which keeps its copy of what it sent.
func (o *outbound) appendTo(mailbox, data string) stored {
	o.t.Helper()
	tr, err := o.Begin(o.t.Context(), mail.Source{Kind: mail.KindAppend, ID: "append1", Time: time.Now()})
	if err != nil {
		o.t.Fatal(err)
	}
	if err := tr.Rcpt(o.t.Context(), mail.Rcpt{Address: parse(o.t, "alice@here.test"), Into: &mail.Target{Mailbox: mailbox}}); err != nil {
		o.t.Fatal(err)
	}
	if _, err := tr.Data(o.t.Context(), strings.NewReader(data)); err != nil {
		o.t.Fatal(err)
	}
	all := o.stored("alice@here.test", mailbox)
	return all[len(all)-1]
}

// TestReplyNeverUndoesEncryption: whatever the way in which the first message was
// exchanged, an answer does not go in clear unless the sender says so.
func TestReplyNeverUndoesEncryption(t *testing.T) {
	t.Parallel()
	reply := func(header, subject string) string {
		return header + "From: alice@here.test\r\nTo: dave@there.test\r\nMessage-ID: <reply@here.test>\r\nSubject: " + subject + "\r\n\r\n> the canary sings\r\n"
	}
	const inReplyTo, references = "In-Reply-To: <1@here.test>\r\n", "References: <0@x>\r\n\t<1@here.test> <2@x>\r\n"
	for name, test := range map[string]struct {
		first  func(t *testing.T, o *outbound)
		header string
		code   int // without [clear]
	}{
		"sealed":                {func(t *testing.T, o *outbound) { o.mustSubmit(letter("", "x@y"), "bob@there.test") }, inReplyTo, 550},
		"sealed, by References": {func(t *testing.T, o *outbound) { o.mustSubmit(letter("", "x@y"), "bob@there.test") }, references, 550},
		"sealed, and a long thread": {func(t *testing.T, o *outbound) { o.mustSubmit(letter("", "x@y"), "bob@there.test") },
			"References: <0@x> <1@here.test>" + strings.Repeat("\r\n <2@x>", 300) + "\r\n", 550},
		"sealed, and named last": {func(t *testing.T, o *outbound) { o.mustSubmit(letter("", "x@y"), "bob@there.test") },
			"References:" + strings.Repeat("\r\n <2@x>", 300) + "\r\n <1@here.test>\r\n", 550},
		"sealed, in a second field": {func(t *testing.T, o *outbound) { o.mustSubmit(letter("", "x@y"), "bob@there.test") },
			"In-Reply-To: <2@x>\r\n" + inReplyTo, 550},
		"sealed to all":   {func(t *testing.T, o *outbound) { o.mustSubmit(letter("", "x@y"), "bob@there.test", "alice@here.test") }, inReplyTo, 550},
		"to one in clear": {func(t *testing.T, o *outbound) { o.mustSubmit(letter("", "x@y"), "bob@there.test", "dave@there.test") }, inReplyTo, 0},
		"in clear":        {func(t *testing.T, o *outbound) { o.mustSubmit(letter("", "x@y"), "dave@there.test") }, inReplyTo, 0},
		"never seen":      {func(*testing.T, *outbound) {}, inReplyTo, 0},
		"not a reply":     {func(t *testing.T, o *outbound) { o.mustSubmit(letter("", "x@y"), "bob@there.test") }, "", 0},
		"end-to-end, sent": {func(t *testing.T, o *outbound) {
			o.mustSubmit(o.encrypted(t, "bob@there.test"), "bob@there.test")
		}, inReplyTo, 550},
		"end-to-end, received": {func(t *testing.T, o *outbound) {
			if _, err := o.send(source(), strings.Replace(o.encrypted(t, "alice@here.test"), "alice@here.test>", "bob@there.test>", 1), "alice@here.test"); err != nil {
				t.Fatal(err)
			}
		}, inReplyTo, 550},
		"received in clear": {func(t *testing.T, o *outbound) {
			if _, err := o.send(source(), strings.Replace(plainMail, "1@there.test", "1@here.test", 1), "alice@here.test"); err != nil {
				t.Fatal(err)
			}
		}, inReplyTo, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOutbound(t)
			o.correspondent("bob@there.test")
			test.first(t, o)
			_, err := o.submit(reply(test.header, "Re: hello"), "dave@there.test", "bob@there.test")
			if codeOf(err) != test.code {
				t.Fatalf("%v", err)
			}
			if test.code == 0 {
				return
			}
			if text := err.Error(); !strings.Contains(text, "5.7.5") || !strings.Contains(text, "dave@there.test") || strings.Contains(text, "bob@") || !strings.Contains(text, "[clear]") {
				t.Errorf("%v", err)
			}
			// To whom it can be encrypted it goes, and the sender's word overrides.
			o.mustSubmit(reply(test.header, "Re: hello"), "bob@there.test")
			receipt := o.mustSubmit(reply(test.header, "[clear] Re: hello"), "dave@there.test")
			if receipt.Outcomes[0].Level != mail.Clear {
				t.Errorf("%+v", receipt.Outcomes)
			}
			// Others' accounts have nothing to do with it.
			o.account("carol@here.test", true)
			src := submissionSource()
			src.Account, src.From = parse(t, "carol@here.test"), parse(t, "carol@here.test")
			if _, err := o.send(src, strings.Replace(reply(test.header, "Re: hello"), "alice@", "carol@", 1), "dave@there.test"); err != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestHeldReplyStaysProtected: a reply that is held may be sealed later, and never goes in
// clear.
func TestHeldReplyStaysProtected(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.correspondent("bob@there.test")
	o.mustSubmit(letter("", "x@y"), "bob@there.test")
	w := heldOne(t, o, strings.Replace(letter("In-Reply-To: <1@here.test>\r\n", "x@y"), "<1@here.test>\r\n\r\n", "<2@here.test>\r\n\r\n", 1))
	o.source.set("eve@there.test", false)
	o.now = o.now.Add(2 * time.Minute)
	if err := o.Reconsider(t.Context(), w.Outgoing, w.to[0]); codeOf(err) != 550 {
		t.Errorf("%v", err)
	}
	for _, w := range o.queued() {
		if w.Level == mail.Clear {
			t.Errorf("in clear for %s", w.addresses())
		}
	}
}

// TestHeldChangesTheLevel: when what was held goes in clear, the message was sent in clear.
func TestHeldChangesTheLevel(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	w := heldOne(t, o, letter("", "x@y"))
	o.source.set("eve@there.test", false)
	o.now = o.now.Add(2 * time.Minute)
	if err := o.Reconsider(t.Context(), w.Outgoing, w.to[0]); err != nil {
		t.Fatal(err)
	}
	a, err := o.Store.AccountByAddress(t.Context(), "alice@here.test")
	if err != nil {
		t.Fatal(err)
	}
	if level, err := o.Store.SentLevel(t.Context(), a.ID, "1@here.test"); level != mail.Clear || err != nil {
		t.Errorf("%v, %v", level, err)
	}
	if m := o.appendTo("Sent", letter("", "x@y")); m.Keywords != "$Insecure" || m.Class != store.ClassSealed {
		t.Errorf("%q", m.Keywords)
	}
}
