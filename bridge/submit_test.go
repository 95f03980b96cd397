package bridge

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
)

// TestSubmitSealed: a recipient with a certificate gets the message encrypted, in the form
// that the strictest readers want, and with nothing in it that says more than the truth.
func TestSubmitSealed(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	k := o.correspondent("bob@there.test")
	data := letter("Bcc: nobody@there.test\r\nX-Mailer: test\r\nAutocrypt-Draft-State: _v=1\r\nPostern-Delivery: sealed\r\n", "bob@there.test")
	receipt := o.mustSubmit(data, "bob@there.test")
	if len(receipt.Outcomes) != 1 || receipt.Outcomes[0].Level != mail.Sealed || receipt.Placed[0].UID != 0 {
		t.Errorf("%+v", receipt)
	}
	w := o.one()
	if w.Level != mail.Sealed || w.Locked || w.Body != "7BIT" || w.UTF8 || w.From != "alice@here.test" || w.Source != "sub1" ||
		w.addresses() != "bob@there.test" || w.to[0].Domain != "there.test" {
		t.Errorf("%+v %+v", w.Outgoing, w.to)
	}
	if found := recipientsOf(t, w.raw); !found.Strict || len(found.Recipients) != 1 || !k.Certificate().HasKey(found.Recipients[0]) || found.SEIPDVersion != 1 {
		t.Errorf("%+v", found)
	}
	h := headerOf(t, w.raw)
	if s := h.Get("Subject"); s != "[...]" {
		t.Errorf("subject %q", s)
	}
	received := h.Get("Received")
	if !strings.HasPrefix(received, "by mail.here.test with ESMTPSA") || strings.Contains(string(w.raw), "192.0.2.99") || strings.Contains(string(w.raw), "laptop") {
		t.Errorf("the client is written out: %q", received)
	}
	payload := o.decrypt("bob@there.test", w.raw)
	for _, gone := range []string{"Postern-", `hp="`, "Bcc:", "Draft-State", "Gossip"} {
		if strings.Contains(payload, gone) || strings.Contains(string(w.raw), gone) {
			t.Errorf("%q is in\n%s", gone, payload)
		}
	}
	if !strings.HasSuffix(payload, "Message-ID: <1@here.test>\r\nContent-Type: text/plain; protected-headers=\"v1\"\r\n\r\nthe canary sings\r\n") ||
		!strings.Contains(payload, "Subject: a secret subject\r\n") || !strings.Contains(payload, "X-Mailer: test\r\n") {
		t.Errorf("payload:\n%s", payload)
	}
	o.noCanary()
	if !bytes.Contains(w.raw, []byte("Autocrypt: addr=alice@here.test;")) {
		t.Error("the sender's certificate is not in it")
	}
}

// TestSubmitAutocrypt: the field added is for the author, and can be encrypted to.
func TestSubmitAutocrypt(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.mustSubmit(strings.Replace(letter("", "bob@there.test"), "alice@here.test", "alice+list@here.test", 1), "bob@there.test")
	fields := message.AutocryptFields(headerOf(t, o.one().raw))
	if len(fields) != 1 || fields[0].Addr != "alice+list@here.test" || len(fields[0].KeyData) > 1000 {
		t.Fatalf("%+v", fields)
	}
	o = newOutbound(t)
	o.mustSubmit(letter("Autocrypt: addr=alice@here.test; keydata=AAAA\r\n", "bob@there.test"), "bob@there.test")
	if fields := message.AutocryptFields(headerOf(t, o.one().raw)); len(fields) != 1 || len(fields[0].KeyData) != 3 {
		t.Errorf("the client's own field was changed: %+v", fields)
	}
}

// TestSubmitOddGossip: an address cannot add attributes to what is said of others.
func TestSubmitOddGossip(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	odd := "\"x; addr=bob@there.test; y\"@there.test"
	o.correspondent("bob@there.test")
	o.keys[odd] = o.keys["bob@there.test"]
	o.source.set(parse(t, odd).Key(), false, o.keys[odd].Certificate())
	o.mustSubmit(letter("", odd, "bob@there.test"), odd, "bob@there.test")
	for _, w := range o.queued() {
		if p := o.decrypt("bob@there.test", w.raw); strings.Count(p, "Autocrypt-Gossip:") != 1 {
			t.Errorf("%s", p)
		}
	}
}

// TestSubmitMissingFields: RFC 6409 8.
func TestSubmitMissingFields(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.mustSubmit("From: alice@here.test\r\nTo: bob@there.test\r\n\r\nhello\r\n", "bob@there.test")
	h := headerOf(t, o.one().raw)
	if _, err := message.ParseDate(h.Get("Date")); err != nil || h.Get("Message-ID") != "<sub1@mail.here.test>" {
		t.Errorf("%q %q", h.Get("Date"), h.Get("Message-ID"))
	}
}

// TestSubmitOwnAddresses: the sender must own the reverse-path, From and Sender.
func TestSubmitOwnAddresses(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.account("carol@here.test", true)
	for name, test := range map[string]struct {
		reversePath, header string
		code                int
		text                string
	}{
		"own":                  {"alice@here.test", "From: alice@here.test\r\n", 0, ""},
		"case":                 {"Alice@Here.Test", "From: ALICE@here.test\r\n", 0, ""},
		"sub-address":          {"alice+x@here.test", "From: A <alice+y@here.test>\r\nSender: alice+z@here.test\r\n", 0, ""},
		"null reverse-path":    {"", "From: alice@here.test\r\n", 0, ""},
		"nearly require":       {"alice+requier@here.test", "From: alice@here.test\r\n", 550, "nearly alice+require@here.test"},
		"nearly, in From":      {"alice@here.test", "From: alice+Required@here.test\r\n", 550, "nearly alice+require@here.test"},
		"another reverse-path": {"carol@here.test", "From: alice@here.test\r\n", 550, "the reverse-path must be your own address, alice@here.test or alice+anything@here.test"},
		"another From":         {"alice@here.test", "From: carol@here.test\r\n", 550, "the From field must be your own address"},
		"From elsewhere":       {"alice@here.test", "From: alice@there.test\r\n", 550, "From field must be"},
		"two authors":          {"alice@here.test", "From: alice@here.test, carol@here.test\r\n", 550, "From field must be"},
		"another Sender":       {"alice@here.test", "From: alice@here.test\r\nSender: carol@here.test\r\n", 550, "the Sender field must be"},
		"another Resent-From":  {"alice@here.test", "From: alice@here.test\r\nResent-From: carol@here.test\r\n", 550, "the Resent-From field must be"},
		"resent by oneself":    {"alice@here.test", "From: alice@here.test\r\nResent-From: alice+x@here.test\r\n", 0, ""},
		"no From":              {"alice@here.test", "", 550, "no From"},
		"empty From":           {"alice@here.test", "From: \r\n", 550, "no From"},
		"group From":           {"alice@here.test", "From: undisclosed:;\r\n", 550, "different addresses"},
		"two From fields":      {"alice@here.test", "From: alice@here.test\r\nFrom: carol@here.test\r\n", 550, "more than one From"},
		"From without domain":  {"alice@here.test", "From: alice\r\n", 550, "cannot be read"},
		"two From in one":      {"alice@here.test", "From: <alice@here.test> <carol@here.test>\r\n", 550, "different addresses"},
		"From behind From":     {"alice@here.test", "From: <alice@here.test> carol@here.test\r\n", 550, "different addresses"},
		"From as a name":       {"alice@here.test", "From: carol@here.test <alice@here.test>\r\n", 550, "From field must be"},
		"own From as a name":   {"alice@here.test", "From: alice@here.test <alice@here.test>\r\n", 0, ""},
		"From in quotes":       {"alice@here.test", "From: \"carol@here.test\" <alice@here.test>\r\n", 0, ""},
		"From as a group":      {"alice@here.test", "From: carol@here.test: alice@here.test;\r\n", 550, "different addresses"},
		"open bracket":         {"alice@here.test", "From: A <alice@here.test\r\n", 550, "different addresses"},
		"From in a comment":    {"alice@here.test", "From: (carol@here.test) alice@here.test\r\n", 0, ""},
		"From over a limit":    {"alice@here.test", "From: " + strings.Repeat("alice@here.test, ", 5000) + "carol@here.test\r\n", 550, "too long"},
		"Sender over a limit":  {"alice@here.test", "From: alice@here.test\r\nSender: " + strings.Repeat(" ", 200<<10) + "carol@here.test\r\n", 550, "too long"},
		"blank before colon":   {"alice@here.test", "From: alice@here.test\r\nFrom \t: carol@here.test\r\n", 550, "more than one From"},
	} {
		src := submissionSource()
		src.From = mail.Address{}
		if test.reversePath != "" {
			src.From = parse(t, test.reversePath)
		}
		_, err := o.send(src, test.header+"To: bob@there.test\r\n\r\nhello\r\n", "bob@there.test")
		if codeOf(err) != test.code || test.code != 0 && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	src := submissionSource()
	src.Account.Local = "nobody"
	if _, err := o.Begin(t.Context(), src); codeOf(err) != 550 {
		t.Errorf("an account that is gone: %v", err)
	}
}

// TestSubmitWishes: the sender's own words, in the address and in the subject.
func TestSubmitWishes(t *testing.T) {
	t.Parallel()
	require, clear := "alice+require@here.test", "alice+CLEAR@here.test"
	for name, test := range map[string]struct {
		reversePath, from, subject string
		to                         string // bob has a certificate, dave has none
		code                       int
		level                      mail.Level
		text                       string // of the error
	}{
		"nothing":                  {"", "", "hello", "bob", 0, mail.Sealed, ""},
		"require, can be had":      {require, "", "hello", "bob", 0, mail.Sealed, ""},
		"require, cannot":          {require, "", "hello", "dave", 550, 0, "dave@there.test (you asked for encryption"},
		"require in From, cannot":  {"", require, "hello", "dave", 550, 0, "dave@there.test"},
		"secure, cannot":           {"", "", "[secure] hello", "dave", 550, 0, "dave@there.test"},
		"clear":                    {"", clear, "hello", "bob", 0, mail.Clear, ""},
		"clear in the subject":     {"", "", "[clear] hello", "bob", 0, mail.Clear, ""},
		"contradiction":            {require, clear, "hello", "bob", 550, 0, "at the same time"},
		"contradiction in subject": {require, "", "hello [clear]", "bob", 550, 0, "at the same time"},
		"clear, quoted":            {"", `"alice+clear"@here.test`, "hello", "bob", 550, 0, "without quotes"},
		"clear, folded":            {"", "alice+clear\r\n @here.test", "hello", "bob", 550, 0, "cannot be read"},
		"near miss":                {"", "", "[secrue] hello", "dave", 550, 0, "[secure]"},
		"another word":             {"", "", "[list] hello", "dave", 0, mail.Clear, ""},
	} {
		o := newOutbound(t)
		o.correspondent("bob@there.test")
		src := submissionSource()
		if test.reversePath != "" {
			src.From = parse(t, test.reversePath)
		}
		from := "alice@here.test"
		if test.from != "" {
			from = test.from
		}
		receipt, err := o.send(src, "From: Alice <"+from+">\r\nReply-To: "+from+"\r\nAutocrypt: addr="+from+"; keydata=AAAA\r\n"+
			"Disposition-Notification-To: <"+from+">\r\nTo: x@y.test\r\nSubject: "+test.subject+"\r\n\r\nhello\r\n", test.to+"@there.test")
		if codeOf(err) != test.code || err != nil && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", name, err)
		}
		if test.code != 0 {
			if n := len(o.queued()); n != 0 {
				t.Errorf("%s: %d copies in the queue", name, n)
			}
			continue
		}
		if err != nil {
			continue
		}
		w := o.one()
		if receipt.Outcomes[0].Level != test.level || w.Level != test.level || w.From != "alice@here.test" {
			t.Errorf("%s: %+v, %v from %s", name, receipt.Outcomes[0], w.Level, w.From)
		}
		whole := strings.ToLower(string(w.raw))
		if test.level == mail.Sealed {
			whole += strings.ToLower(o.decrypt("bob@there.test", w.raw))
		}
		for _, gone := range []string{"+require", "+clear", "[secure]", "[clear]"} {
			if strings.Contains(whole, gone) {
				t.Errorf("%s: %q is in the copy:\n%s", name, gone, w.raw)
			}
		}
	}
}

// TestSubmitLocal: an account here gets its copy sealed like any mail, and does not learn
// where the sender's client is.
func TestSubmitLocal(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.account("carol@here.test", true)
	dave := o.account("dave@here.test", false)
	receipt := o.mustSubmit(letter("", "carol@here.test, dave@here.test"), "carol@here.test", "dave@here.test")
	if receipt.Outcomes[0].Level != mail.Sealed || receipt.Outcomes[1].Level != mail.Held || receipt.Placed[0].UID != 1 {
		t.Errorf("%+v", receipt)
	}
	if n := len(o.queued()); n != 0 {
		t.Errorf("%d copies in the queue", n)
	}
	m := o.stored("carol@here.test", "INBOX")[0]
	opened := o.open("carol@here.test", m.raw)
	if !strings.HasSuffix(string(opened.original), "\r\n\r\nthe canary sings\r\n") || opened.Provenance.Class != "clear" {
		t.Errorf("%+v\n%s", opened.Provenance, opened.original)
	}
	if head := string(m.Head); strings.Contains(head, "192.0.2.99") || strings.Contains(head, "laptop") || !strings.Contains(head, "Received: by mail.here.test with ESMTPSA") {
		t.Errorf("%s", head)
	}
	if held, err := o.Store.HeldCount(t.Context(), dave.ID); held != 1 || err != nil {
		t.Errorf("%d held, %v", held, err)
	}
	if _, err := o.submit(letter("", "x"), "nobody@here.test"); codeOf(err) != 550 {
		t.Errorf("unknown user here: %v", err)
	}
	o.noCanary()
}

// TestSubmitLocalRequire: held is encrypted to the gateway, which is less than what who asks
// for encryption wants.
func TestSubmitLocalRequire(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.account("carol@here.test", true)
	dave := o.account("dave@here.test", false)
	require := strings.Replace(letter("", "x@y"), "a secret", "[secure] a secret", 1)
	_, err := o.submit(require, "carol@here.test", "dave@here.test")
	if codeOf(err) != 550 || !strings.Contains(err.Error(), "dave@here.test (you asked for encryption") || strings.Contains(err.Error(), "carol@") {
		t.Errorf("%v", err)
	}
	if held, err := o.Store.HeldCount(t.Context(), dave.ID); held != 0 || err != nil {
		t.Errorf("%d held, %v", held, err)
	}
	if r := o.mustSubmit(require, "carol@here.test"); r.Outcomes[0].Level != mail.Sealed {
		t.Errorf("%+v", r.Outcomes)
	}
}

// TestSubmitLocalAutocrypt: who is here learns the sender's certificate too, at once or when
// what was held for them is sealed.
func TestSubmitLocalAutocrypt(t *testing.T) {
	t.Parallel()
	var learned [][]byte
	o := newOutbound(t, func(o *Options) {
		o.LearnOwn = func(_ mail.Address, keyData []byte) { learned = append(learned, keyData) }
	})
	o.account("carol@here.test", true)
	o.account("dave@here.test", false)
	o.mustSubmit(letter("", "x@y"), "carol@here.test", "dave@here.test")
	o.giveKey("dave@here.test")
	if n, err := o.Release(t.Context()); n != 1 || err != nil {
		t.Fatalf("released %d, %v", n, err)
	}
	for _, a := range []string{"carol@here.test", "dave@here.test"} {
		all := o.stored(a, "INBOX")
		opened := o.open(a, all[len(all)-1].raw)
		if fields := message.AutocryptFields(headerOf(t, opened.original)); len(fields) != 1 || fields[0].Addr != "alice@here.test" {
			t.Errorf("%s: %+v in\n%s", a, fields, opened.original)
		}
	}
	if len(learned) != 0 {
		t.Error("what the gateway added was taken for the client's word")
	}
}

// TestSubmitRecipientTwice: one copy, one row, and an outcome for each time.
func TestSubmitRecipientTwice(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.correspondent("bob@there.test")
	receipt := o.mustSubmit(letter("", "bob@there.test"), "bob@there.test", "alice@here.test", "bob@there.test")
	if len(receipt.Outcomes) != 3 || len(receipt.Placed) != 3 || receipt.Outcomes[2].Level != mail.Sealed || receipt.Placed[1].UID == 0 {
		t.Errorf("%+v", receipt)
	}
	if w := o.one(); len(w.to) != 1 {
		t.Errorf("%+v", w.to)
	}
}

// TestSubmitLoop: a message that has gone round is refused.
func TestSubmitLoop(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	if _, err := o.submit(strings.Repeat("Received: by x; date\r\n", maxReceived+1)+letter("", "bob@there.test"), "bob@there.test"); codeOf(err) != 554 {
		t.Errorf("%v", err)
	}
}

// TestSubmitEnvelope: what the client asks for reports is kept.
func TestSubmitEnvelope(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	src := submissionSource()
	src.EnvID, src.Return, src.RequireTLS, src.UTF8 = "envelope", "HDRS", true, true
	tr, err := o.Begin(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"bob@there.test", "jörg@there.test"} {
		if err := tr.Rcpt(t.Context(), mail.Rcpt{Address: parse(t, a), Notify: mail.NotifySuccess, Original: "rfc822;" + a}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tr.Data(t.Context(), strings.NewReader(letter("", "bob@there.test")+"gr\xC3\xBC\xC3\x9Fe\r\n")); err != nil {
		t.Fatal(err)
	}
	all := o.queued()
	if len(all) != 2 {
		t.Fatalf("%d copies: an address in UTF-8 must not keep the others from leaving", len(all))
	}
	for _, w := range all {
		if w.EnvID != "envelope" || w.Return != "HDRS" || !w.RequireTLS || w.Body != "8BITMIME" ||
			w.UTF8 != (w.addresses() == "jörg@there.test") || w.to[0].Notify != mail.NotifySuccess || w.to[0].Original != "rfc822;"+w.addresses() {
			t.Errorf("%+v %+v", w.Outgoing, w.to)
		}
	}
}

// TestSubmitReportsDelivery: who asks for it is told that a mailbox here has the message, and
// nothing of one whose copy is held, or is carried elsewhere.
func TestSubmitReportsDelivery(t *testing.T) {
	t.Parallel()
	var told []string
	o := newOutbound(t, func(o *Options) {
		o.Delivered = func(_ context.Context, c *store.Outgoing, h message.Header) error {
			for _, r := range c.Rcpts {
				told = append(told, fmt.Sprint(c.From, c.EnvID, h.Get("Message-ID"), r.Address, r.Original))
			}
			return nil
		}
	})
	o.account("carol@here.test", true)
	o.account("dave@here.test", false)
	src := submissionSource()
	src.EnvID = "envelope"
	tr, err := o.Begin(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	for address, notify := range map[string]mail.Notify{
		"carol+x@here.test": mail.NotifySuccess | mail.NotifyFailure, "dave@here.test": mail.NotifySuccess,
		"alice@here.test": mail.NotifyFailure, "bob@there.test": mail.NotifySuccess,
	} {
		if err := tr.Rcpt(t.Context(), mail.Rcpt{Address: parse(t, address), Notify: notify, Original: "rfc822;x@y"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tr.Data(t.Context(), strings.NewReader(letter("", "x@y"))); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0] != "alice@here.testenvelope<1@here.test>carol+x@here.testrfc822;x@y" {
		t.Errorf("%q", told)
	}
}

// TestSubmitWakesQueue: after the commit, and only if something waits there.
func TestSubmitWakesQueue(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.mustSubmit(letter("", "alice@here.test"), "alice@here.test")
	o.mustSubmit(letter("", "bob@there.test"), "bob@there.test")
	n := 0
	for _, topic := range o.woke {
		if topic == QueueTopic {
			n++
		}
	}
	if n != 1 {
		t.Errorf("woke %v", o.woke)
	}
}

// TestReport: a report on somebody's mail is sealed to them, or held, like any mail.
func TestReport(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, func(o *Options) { o.RejectWithoutCertificate = true })
	dave := o.account("dave@here.test", false)
	src := mail.Source{Kind: mail.KindDSN, ID: "dsn1", Time: o.now}
	if _, err := o.send(src, plainMail, "alice@here.test", "dave@here.test"); err != nil {
		t.Fatal(err)
	}
	m := o.stored("alice@here.test", "INBOX")[0]
	if m.Class != store.ClassSealed || string(o.open("alice@here.test", m.raw).original) != plainMail {
		t.Errorf("class %s", m.Class)
	}
	if n, err := o.Store.HeldCount(t.Context(), dave.ID); n != 1 || err != nil {
		t.Errorf("%d held, %v", n, err)
	}
	o.noCanary()
}
