package bridge

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"postern/internal/mail"
	"postern/internal/store"
)

func TestSealedOpensToWhatArrived(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	receipt := f.mustSend(plainMail, "alice@here.test")
	if len(receipt.Placed) != 1 || receipt.Placed[0].UID != 1 || receipt.Placed[0].Mailbox != "INBOX" {
		t.Errorf("receipt %+v", receipt)
	}
	all := f.stored("alice@here.test", "INBOX")
	if len(all) != 1 {
		t.Fatalf("%d messages", len(all))
	}
	m := all[0]
	if m.Class != store.ClassSealed || m.Message.Size != int64(len(m.raw)) {
		t.Errorf("class %s, size %d of %d", m.Class, m.Message.Size, len(m.raw))
	}
	for _, secret := range []string{"canary", "secret subject"} {
		if bytes.Contains(m.raw, []byte(secret)) {
			t.Errorf("%q is in the stored message", secret)
		}
	}
	for _, want := range []string{"Return-Path: <bob@there.test>\r\n", "Received: from mx.there.test", "Authentication-Results: mail.here.test", "Subject: [...]\r\n", "From: Bob <bob@there.test>\r\n"} {
		if !bytes.Contains(m.raw, []byte(want)) {
			t.Errorf("%q is not in the stored message", want)
		}
	}
	o := f.open("alice@here.test", m.raw)
	if string(o.original) != plainMail {
		t.Errorf("opened:\n%s", o.original)
	}
	p := o.Provenance
	if p.Recipient != "alice@here.test" || p.TLS != "TLS1.3" || p.Class != "clear" || p.ID != "tx1" {
		t.Errorf("provenance %+v", p)
	}
	if !ed25519.Verify(f.Vault.PublicKey(), o.Signed, o.Signature) {
		t.Error("the provenance is not signed by the gateway")
	}
	if !bytes.HasPrefix(o.payload, []byte("Postern-Arrival:")) || !bytes.Contains(o.payload, []byte(`protected-headers="v1"`)) {
		t.Errorf("payload:\n%s", o.payload)
	}
	if len(f.woke) != 1 || f.woke[0] != m.mailboxTopic(t, f) {
		t.Errorf("woke %v", f.woke)
	}
}

func (s stored) mailboxTopic(t *testing.T, f *fixture) string {
	t.Helper()
	m, err := f.Store.MailboxByName(t.Context(), s.Account, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	return m.ID.Topic()
}

func TestRecipients(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	f.account("carol@here.test", true)
	for _, test := range []struct {
		to   string
		code int
	}{
		{"alice@here.test", 0},
		{"ALICE@HERE.TEST", 0},
		{"alice+lists@here.test", 0},
		{"postmaster@here.test", 0},
		{"Postmaster@mail.here.test", 0},
		{"nobody@here.test", 550},
		{"nobody+alice@here.test", 550},
		{"alice@elsewhere.test", 550},
		{"alice@mail.here.test", 550},
	} {
		_, err := f.send(source(), plainMail, test.to)
		if got := codeOf(err); got != test.code {
			t.Errorf("%s: %v, want %d", test.to, err, test.code)
		}
	}
	if n := len(f.stored("alice@here.test", "INBOX")); n != 5 {
		t.Errorf("%d messages, want 5", n)
	}
}

func codeOf(err error) int {
	var e *mail.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return -1
	}
	return 0
}

func TestSubAddressesAreOneMailbox(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	receipt := f.mustSend(plainMail, "alice@here.test", "alice+x@here.test", "alice+y@here.test")
	if n := len(f.stored("alice@here.test", "INBOX")); n != 1 {
		t.Errorf("%d copies", n)
	}
	for i, p := range receipt.Placed {
		if p.UID != 1 {
			t.Errorf("recipient %d: %+v", i, p)
		}
	}
}

// A small message is in the database with each copy, as long as that is not too much
// for all of them together.
func TestSmallMessagesAreInline(t *testing.T) {
	f := newFixture(t)
	var to []string
	for i := range 20 {
		to = append(to, fmt.Sprintf("a%d@here.test", i))
		f.account(to[i], true)
	}
	f.mustSend(plainMail, to[:2]...)
	f.mustSend(plainMail, to...)
	inbox := f.stored(to[0], "INBOX")
	if inbox[0].Blob.Ref != "" || inbox[1].Blob.Ref == "" {
		t.Errorf("blobs of a message to 2 and of one to 20: %q, %q", inbox[0].Blob.Ref, inbox[1].Blob.Ref)
	}
	for _, m := range inbox {
		if o := f.open(to[0], m.raw); o == nil {
			t.Error("cannot be opened")
		}
	}
}

func TestSharedCiphertextNamesNobody(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	f.account("carol@here.test", true)
	text := plainMail + strings.Repeat("nothing to see here\r\n", maxInline/20)
	f.mustSend(text, "alice@here.test", "carol@here.test")
	a, c := f.stored("alice@here.test", "INBOX")[0], f.stored("carol@here.test", "INBOX")[0]
	if a.Blob.Ref == "" || a.Blob.Ref != c.Blob.Ref {
		t.Error("the message was encrypted twice")
	}
	for _, s := range []struct {
		of    stored
		other string
	}{{a, "carol"}, {c, "alice"}} {
		header, _, _ := strings.Cut(string(s.of.Head), "\r\n\r\n")
		header = strings.ReplaceAll(header, "To: alice@here.test\r\n", "") // what the sender wrote
		if strings.Contains(header, s.other) {
			t.Errorf("a copy names the other recipient:\n%s", header)
		}
	}
	for address, s := range map[string]stored{"alice@here.test": a, "carol@here.test": c} {
		o := f.open(address, s.raw)
		if string(o.original) != text || o.Provenance.Recipient != "" {
			t.Errorf("%s: %+v\n%s", address, o.Provenance, o.original)
		}
	}
}

func TestQuota(t *testing.T) {
	f := newFixture(t)
	a := f.account("alice@here.test", true)
	if err := f.Store.SetQuota(t.Context(), a.ID, 4000); err != nil {
		t.Fatal(err)
	}
	src := source()
	src.Size = 5000
	if _, err := f.send(src, plainMail, "alice@here.test"); !errors.Is(err, mail.ErrOverQuota) {
		t.Errorf("declared size over quota: %v", err)
	}
	big := plainMail + strings.Repeat("x", 5000) + "\r\n"
	if _, err := f.send(source(), big, "alice@here.test"); codeOf(err) != 552 {
		t.Errorf("size over quota: %v", err)
	}
	f.mustSend(plainMail, "alice@here.test")
}

// One full mailbox must not keep a message from its other recipients, nor for ever.
func TestFullMailboxBlocksNobodyElse(t *testing.T) {
	f := newFixture(t)
	for _, held := range []bool{false, true} {
		full, other := "full@here.test", "other@here.test"
		if held {
			full, other = "heldfull@here.test", "heldother@here.test"
		}
		a := f.account(full, !held)
		f.account(other, true)
		if err := f.Store.SetQuota(t.Context(), a.ID, 100); err != nil {
			t.Fatal(err)
		}
		if _, err := f.send(source(), plainMail, full); codeOf(err) != 552 {
			t.Errorf("held %v: alone: %v", held, err)
		}
		f.mustSend(plainMail, full, other)
		if n := len(f.stored(other, "INBOX")); n != 1 {
			t.Errorf("held %v: %d messages of the other", held, n)
		}
		// It was one message: the next RCPT refuses the full one, and no other.
		tr, err := f.Begin(t.Context(), source())
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Abort()
		if err := tr.Rcpt(t.Context(), mail.Rcpt{Address: parse(t, full)}); !errors.Is(err, mail.ErrOverQuota) {
			t.Errorf("held %v: the full one's RCPT: %v", held, err)
		}
		if err := tr.Rcpt(t.Context(), mail.Rcpt{Address: parse(t, other)}); err != nil {
			t.Errorf("held %v: the other's RCPT: %v", held, err)
		}
	}
}

// change sends a message, and changes something between its RCPTs and its commit.
func (f *fixture) change(do func() error, to ...string) error {
	f.t.Helper()
	r, w := io.Pipe()
	go func() {
		_, err := io.WriteString(w, plainMail)
		w.CloseWithError(errors.Join(err, do()))
	}()
	_, err := f.sendFrom(source(), r, to...)
	return err
}

// What happens to a recipient after RCPT: alone the refusal is for good, among several
// it is for now, because at the next attempt RCPT refuses that one alone.
func TestRecipientChangesAfterRcpt(t *testing.T) {
	f := newFixture(t)
	f.account("carol@here.test", true)
	remove := func(a store.Account) func() error {
		return func() error { return f.Store.RemoveAccount(t.Context(), a.ID) }
	}
	fill := func(a store.Account) func() error {
		return func() error {
			f.mustSend(plainMail, a.Address.String())
			return f.Store.SetQuota(t.Context(), a.ID, 500)
		}
	}
	for name, test := range map[string]struct {
		withKey    bool
		change     func(store.Account) func() error
		alone      *mail.Error
		codeOfMany int
	}{
		"removed":            {true, remove, mail.ErrNoSuchUser, 450},
		"removed while held": {false, remove, mail.ErrNoSuchUser, 450},
		"filled up":          {true, fill, mail.ErrOverQuota, 452},
	} {
		alone := f.account("alone@here.test", test.withKey)
		err := f.change(test.change(alone), "alone@here.test")
		var e *mail.Error
		if !errors.As(err, &e) || e.Enhanced != test.alone.Enhanced || e.Code != test.alone.Code || e.Cause == nil {
			t.Errorf("%s, alone: %v", name, err)
		}
		many := f.account("many@here.test", test.withKey)
		if err := f.change(test.change(many), "carol@here.test", "many@here.test"); codeOf(err) != test.codeOfMany {
			t.Errorf("%s, among several: %v", name, err)
		}
		_ = f.Store.RemoveAccount(t.Context(), alone.ID)
		_ = f.Store.RemoveAccount(t.Context(), many.ID)
	}
	if n := len(f.stored("carol@here.test", "INBOX")); n != 0 {
		t.Errorf("%d messages were stored and refused", n)
	}
}

// RCPT sees with the declared size that there is no room for what sealing makes of it.
func TestQuotaCountsSealing(t *testing.T) {
	f := newFixture(t)
	a := f.account("alice@here.test", true)
	if err := f.Store.SetQuota(t.Context(), a.ID, 100_000); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int64]int{68_000: 0, 69_000: 552} {
		src := source()
		src.Size = size
		tr, err := f.Begin(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		if err := tr.Rcpt(t.Context(), mail.Rcpt{Address: a.Address}); codeOf(err) != want {
			t.Errorf("%d: %v", size, err)
		}
		tr.Abort()
	}
	// The estimate is one: what it lets in fits.
	body := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 67_000/72)
	src := source()
	src.Size = int64(len(plainMail) + len(body))
	if _, err := f.send(src, plainMail+body, "alice@here.test"); err != nil {
		t.Errorf("a message that RCPT let in: %v", err)
	}
}

func TestLimits(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxSize = 3 << 20 })
	f.account("alice@here.test", true)
	received := strings.Repeat("Received: by loop.test; Mon, 23 Nov 2026 10:00:00 +0000\r\n", maxReceived+1)
	for name, test := range map[string]struct {
		data string
		code int
	}{
		"loop":          {received + plainMail, 554},
		"header":        {strings.Repeat("X-Filler: "+strings.Repeat("x", 900)+"\r\n", 1300) + plainMail, 552},
		"no header end": {strings.Repeat("X-Filler: "+strings.Repeat("x", 900)+"\r\n", 1300), 552},
		"size":          {plainMail + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 50_000), 552},
	} {
		if _, err := f.send(source(), test.data, "alice@here.test"); codeOf(err) != test.code {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(f.stored("alice@here.test", "INBOX")); n != 0 {
		t.Errorf("%d messages were stored", n)
	}
}
