package bridge

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/pgp"
	"postern/internal/store"
)

// TestHeldIsNotLimited: what was accepted by larger limits, or has grown over them by fields
// of ours, is released.
func TestHeldIsNotLimited(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.account("dave@here.test", false)
	header := strings.Repeat("X-Padding: "+strings.Repeat("x", 989)+"\r\n", maxHeader/1002)
	if _, err := o.submit(strings.Repeat("X:\r\n", message.MaxFields-8)+letter("", "x@y"), "dave@here.test"); codeOf(err) != 552 {
		t.Errorf("as many fields as can be read, before ours are added: %v", err)
	}
	o.mustSubmit(header+letter("", "x@y"), "dave@here.test")
	w := heldOne(t, o, header+letter("", "x@y"))
	o.giveKey("dave@here.test")
	o.source.set("eve@there.test", false)
	o.now = o.now.Add(2 * time.Minute)
	less := o.Options
	less.MaxSize = 1000
	b := New(less)
	if n, err := b.Release(t.Context()); n != 1 || err != nil {
		t.Errorf("released %d, %v", n, err)
	}
	if err := b.Reconsider(t.Context(), w.Outgoing, w.to[0]); err != nil {
		t.Errorf("%v", err)
	}
}

func TestHoldAndRelease(t *testing.T) {
	f := newFixture(t)
	a := f.account("alice@here.test", false)
	for range 3 {
		f.mustSend(plainMail, "alice@here.test")
	}
	f.noCanary()
	held, err := f.Store.HeldCopies(t.Context(), a.ID)
	if err != nil || len(held) != 3 {
		t.Fatalf("%d held, %v", len(held), err)
	}
	inbox := f.stored("alice@here.test", "INBOX")
	if len(inbox) != 1 || inbox[0].Class != store.ClassNotice {
		t.Fatalf("want one notice, got %d messages", len(inbox))
	}
	if !strings.Contains(string(inbox[0].raw), "waiting for your OpenPGP certificate") {
		t.Errorf("notice:\n%s", inbox[0].raw)
	}
	if n, err := f.Release(t.Context()); n != 0 || err != nil {
		t.Errorf("released %d without a certificate, %v", n, err)
	}

	f.giveKey("alice@here.test")
	if n, err := f.Release(t.Context()); n != 3 || err != nil {
		t.Fatalf("released %d, %v", n, err)
	}
	if n, err := f.Release(t.Context()); n != 0 || err != nil {
		t.Errorf("released %d twice, %v", n, err)
	}
	inbox = f.stored("alice@here.test", "INBOX")
	if len(inbox) != 4 {
		t.Fatalf("%d messages", len(inbox))
	}
	for _, m := range inbox[1:] {
		o := f.open("alice@here.test", m.raw)
		if string(o.original) != plainMail {
			t.Errorf("opened:\n%s", o.original)
		}
		// What was true when it arrived is stated, not what is true now.
		if o.Provenance.Recipient != "alice@here.test" || o.Provenance.TLS != "TLS1.3" || o.Provenance.ID != "tx1" {
			t.Errorf("provenance %+v", o.Provenance)
		}
		if !strings.Contains(string(m.Head), "Received: from mx.there.test") {
			t.Errorf("trace fields are lost:\n%s", m.Head)
		}
	}
	f.noCanary()
}

func TestHeldForTheOthersSealedForOne(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	carol := f.account("carol@here.test", false)
	dave := f.account("dave@here.test", false)
	receipt := f.mustSend(plainMail, "carol@here.test", "alice@here.test", "dave@here.test")
	if p := receipt.Placed; p[0].UID != 0 || p[1].UID != 1 || p[2].UID != 0 {
		t.Errorf("receipt %+v", p)
	}
	for _, a := range []store.Account{carol, dave} {
		if n, err := f.Store.HeldCount(t.Context(), a.ID); n != 1 || err != nil {
			t.Errorf("%d held, %v", n, err)
		}
	}
	f.open("alice@here.test", f.stored("alice@here.test", "INBOX")[0].raw)
}

func TestRejectWithoutCertificate(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.RejectWithoutCertificate = true })
	f.account("alice@here.test", false)
	if _, err := f.send(source(), plainMail, "alice@here.test"); codeOf(err) != 550 {
		t.Errorf("no certificate: %v", err)
	}
	f.giveKey("alice@here.test")
	f.mustSend(plainMail, "alice@here.test")
}

func TestAppendIsSealed(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	date := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	src := mail.Source{Kind: mail.KindAppend, ID: "append1", Time: time.Now()}
	tr, err := f.Begin(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	into := &mail.Target{Mailbox: "Sent", Flags: []string{`\Seen`, "$Work", `\Bogus`}, InternalDate: date}
	if err := tr.Rcpt(t.Context(), mail.Rcpt{Address: parse(t, "alice@here.test"), Into: into}); err != nil {
		t.Fatal(err)
	}
	receipt, err := tr.Data(t.Context(), strings.NewReader(plainMail))
	if err != nil {
		t.Fatal(err)
	}
	if p := receipt.Placed[0]; p.Mailbox != "Sent" || p.UID != 1 || p.UIDValidity == 0 {
		t.Errorf("placed %+v", p)
	}
	m := f.stored("alice@here.test", "Sent")[0]
	if m.Flags != store.Seen || m.Keywords != "$Work" || m.InternalDate != date.UnixMicro() {
		t.Errorf("entry %+v", m.Entry)
	}
	if strings.Contains(string(m.raw), "Received:") {
		t.Error("an appended message got trace fields")
	}
	if o := f.open("alice@here.test", m.raw); string(o.original) != plainMail {
		t.Errorf("opened:\n%s", o.original)
	}
}

func TestEncryptedMailIsPassedThrough(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	f.mustSend(plainMail, "alice@here.test")
	sealed := f.stored("alice@here.test", "INBOX")[0].raw
	// Another gateway's sealed mail is, to this one, mail that its sender encrypted.
	f.mustSend(string(sealed), "alice@here.test")
	again := f.stored("alice@here.test", "INBOX")[1]
	if again.Class != store.ClassEncrypted || !strings.HasSuffix(string(again.raw), string(sealed[strings.Index(string(sealed), "From: "):])) {
		t.Errorf("class %s:\n%s", again.Class, again.raw)
	}
	// One that only claims to be encrypted is sealed.
	fake := strings.Replace(string(sealed), "-----BEGIN PGP MESSAGE-----", "-----BEGIN PGP MESSAGES----", 1)
	f.mustSend(fake, "alice@here.test")
	if m := f.stored("alice@here.test", "INBOX")[2]; m.Class != store.ClassSealed {
		t.Errorf("a false claim was believed: %s", m.Class)
	}
}

// clientForms are the bodies and their media types that programs put around armor.
func clientForms(armor string) map[string]string {
	const typ = `Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b` + "\r\n"
	control := "--b\r\nContent-Type: application/pgp-encrypted\r\n"
	headers := func(lines string) string {
		return strings.Replace(armor, "-----BEGIN PGP MESSAGE-----\r\n", "-----BEGIN PGP MESSAGE-----\r\n"+lines, 1)
	}
	return map[string]string{
		"Thunderbird": typ + "\r\nThis is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\r\n" + control +
			"Content-Description: PGP/MIME version identification\r\n\r\nVersion: 1\r\n\r\n--b\r\n" +
			"Content-Type: application/octet-stream; name=\"encrypted.asc\"\r\nContent-Description: OpenPGP encrypted message\r\n" +
			"Content-Disposition: inline; filename=\"encrypted.asc\"\r\n\r\n" + armor + "\r\n--b--\r\n",
		"Mutt": typ + "Content-Disposition: inline\r\n\r\n\r\n" + control + "Content-Disposition: attachment\r\n\r\nVersion: 1\r\n\r\n--b\r\n" +
			"Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=\"msg.asc\"\r\n\r\n" + armor + "\r\n--b--\r\n",
		"KMail": typ + "Content-Transfer-Encoding: 7Bit\r\n\r\nThis is a multi-part message in MIME format.\r\n\r\n" + control +
			"Content-Disposition: attachment\r\nContent-Transfer-Encoding: 7Bit\r\n\r\nVersion: 1\r\n--b\r\n" +
			"Content-Type: application/octet-stream\r\nContent-Disposition: inline; filename=\"msg.asc\"\r\nContent-Transfer-Encoding: 7Bit\r\n\r\n" +
			headers("Version: GnuPG v2\r\n") + "\r\n--b--\r\n\r\n",
		"Delta Chat": typ + "\r\n\r\n" + control + "Content-Description: PGP/MIME version identification\r\nContent-Transfer-Encoding: 7bit\r\n\r\n" +
			"Version: 1\r\n\r\n--b\r\nContent-Type: application/octet-stream; name=\"encrypted.asc\"\r\n" +
			"Content-Description: OpenPGP encrypted message\r\nContent-Disposition: inline; filename=\"encrypted.asc\";\r\n" +
			"Content-Transfer-Encoding: 7bit\r\n\r\n" + armor + "\r\n--b--\r\n",
		"Proton": typ + "\r\nThis is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\r\n" + control +
			"Content-Description: PGP/MIME version identification\r\n\r\nVersion: 1\r\n\r\n--b\r\n" +
			"Content-Type: application/octet-stream; name=\"encrypted.asc\"\r\n\r\n" +
			headers("Version: ProtonMail\r\nComment: https://protonmail.com\r\n") + "\r\n--b--",
		"Mailvelope": typ + "\r\n" + control + "Content-Description: PGP/MIME Versions Identification\r\n\r\nVersion: 1\r\n\r\n--b\r\n" +
			"Content-Type: application/octet-stream; name=encrypted.asc\r\n\r\n" +
			headers("Version: Mailvelope v5.2.0\r\nComment: https://mailvelope.com\r\n") + "--b--\r\n",
		"Python": typ + "MIME-Version: 1.0\r\n\r\n" + control + "MIME-Version: 1.0\r\n\r\nVersion: 1\r\n--b\r\n" +
			"Content-Type: application/octet-stream\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
			base64.StdEncoding.EncodeToString([]byte(armor)) + "\r\n--b--\r\n",
	}
}

// TestCiphertextStandsAlone: what clients send encrypted is stored as it came; with one
// line of clear text anywhere in its body it is a mail in clear, and is sealed.
func TestCiphertextStandsAlone(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	f.mustSend(plainMail, "alice@here.test")
	sealed := string(f.stored("alice@here.test", "INBOX")[0].raw)
	from := strings.Index(sealed, "-----BEGIN PGP MESSAGE-----")
	_, tail, _ := strings.Cut(sealed[from:], "-----END PGP MESSAGE-----\r\n")
	armor := sealed[from : len(sealed)-len(tail)]
	var want []store.Class
	var sent []string
	send := func(class store.Class, mail string) {
		f.mustSend(mail, "alice@here.test")
		want, sent = append(want, class), append(sent, mail)
	}
	const head = "From: bob@there.test\r\nTo: alice@here.test\r\nSubject: ...\r\n"
	for name, form := range clientForms(armor) {
		send(store.ClassEncrypted, head+form)
		body := strings.Index(form, "\r\n\r\n") + 4
		for at := body; at <= len(form); at++ {
			if at == body || form[at-1] == '\n' {
				send(store.ClassSealed, head+form[:at]+"Dear Alice, in clear: "+name+"\r\n"+form[at:])
			}
		}
	}
	for i, m := range f.stored("alice@here.test", "INBOX")[1:] {
		if m.Class != want[i] {
			t.Errorf("class %s instead of %s:\n%s", m.Class, want[i], sent[i])
		}
	}
}

func TestSealedToAllCertificates(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", true)
	first := f.keys["alice@here.test"]
	second, err := pgp.GenerateKey("alice@here.test", time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	f.importCertificate("alice@here.test", second.Certificate())
	f.mustSend(plainMail, "alice@here.test")
	raw := f.stored("alice@here.test", "INBOX")[0].raw
	for _, k := range []*pgp.SecretKey{first, second} {
		f.keys["alice@here.test"] = k
		if o := f.open("alice@here.test", raw); string(o.original) != plainMail {
			t.Errorf("opened:\n%s", o.original)
		}
	}
}

// The command line and the running server are two processes over the same data: both
// release when a certificate is imported, and neither fails for the other.
func TestReleaseByTwoAtOnce(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", false)
	const n = 20
	for range n {
		f.mustSend(plainMail, "alice@here.test")
	}
	f.giveKey("alice@here.test")
	o := f.Options
	o.Wake = nil // the fixture's is for one bridge
	type result struct {
		n   int
		err error
	}
	results := make(chan result, 2)
	for _, b := range []*Bridge{New(o), New(o)} {
		go func() {
			n, err := b.Release(t.Context())
			results <- result{n, err}
		}()
	}
	one, two := <-results, <-results
	if one.err != nil || two.err != nil || one.n+two.n != n {
		t.Errorf("%+v and %+v", one, two)
	}
	if inbox := f.stored("alice@here.test", "INBOX"); len(inbox) != n+1 {
		t.Errorf("%d messages", len(inbox))
	}
}

func TestReleaseIntoDeletedMailbox(t *testing.T) {
	f := newFixture(t)
	a := f.account("alice@here.test", false)
	if _, err := f.Store.CreateMailbox(t.Context(), a.ID, store.NewMailbox{Name: "Box"}); err != nil {
		t.Fatal(err)
	}
	tr, err := f.Begin(t.Context(), mail.Source{Kind: mail.KindAppend, ID: "append1", Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Rcpt(t.Context(), mail.Rcpt{Address: parse(t, "alice@here.test"), Into: &mail.Target{Mailbox: "Box"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Data(t.Context(), strings.NewReader(plainMail)); err != nil {
		t.Fatal(err)
	}
	if err := f.Store.DeleteMailbox(t.Context(), a.ID, "Box"); err != nil {
		t.Fatal(err)
	}
	f.giveKey("alice@here.test")
	if n, err := f.Release(t.Context()); n != 1 || err != nil {
		t.Errorf("released %d, %v", n, err)
	}
	inbox := f.stored("alice@here.test", "INBOX")
	if o := f.open("alice@here.test", inbox[len(inbox)-1].raw); string(o.original) != plainMail {
		t.Errorf("opened:\n%s", o.original)
	}
}

// The recipient is looked up at RCPT. If the certificate comes before the message ends,
// the copy is held all the same, but nobody else would release it.
func TestCertificateComesDuringTheMessage(t *testing.T) {
	f := newFixture(t)
	f.account("alice@here.test", false)
	tr, err := f.Begin(t.Context(), source())
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Rcpt(t.Context(), mail.Rcpt{Address: parse(t, "alice@here.test")}); err != nil {
		t.Fatal(err)
	}
	f.giveKey("alice@here.test")
	if _, err := tr.Data(t.Context(), strings.NewReader(plainMail)); err != nil {
		t.Fatal(err)
	}
	inbox := f.stored("alice@here.test", "INBOX")
	if len(inbox) != 1 || inbox[0].Class != store.ClassSealed {
		t.Fatalf("%d messages in the INBOX", len(inbox))
	}
	if o := f.open("alice@here.test", inbox[0].raw); string(o.original) != plainMail {
		t.Errorf("opened:\n%s", o.original)
	}
}
