package e2e

import (
	"bytes"
	"strings"
	"testing"
)

// Mail for an account without a certificate is held, its owner is told once, and it is
// sealed the moment a certificate arrives, while the server runs.
func TestHoldThenCertificate(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{withoutCertificate: true})
	mails := [][]byte{canaryMail(1), canaryMail(2), largeCanaryMail(3, 3<<20)}
	g.deliver(mails...)
	client := g.imap(t)
	appendMessage(t, client, "Sent", canaryMail(4))
	if err := client.Create("Box", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	appendMessage(t, client, "Box", canaryMail(5))
	if err := client.Delete("Box").Wait(); err != nil {
		t.Fatal(err)
	}

	notice := g.only(t, "INBOX")
	if !bytes.Contains(notice.raw, []byte("Subject: Mail for you is waiting")) || !bytes.Contains(notice.raw, []byte("postern key new "+owner)) {
		t.Errorf("the notice:\n%s", notice.raw)
	}
	if n := g.count(t, "Sent"); n != 0 {
		t.Errorf("Sent has %d messages", n)
	}
	if got := string(g.postern("account", "list")); !strings.Contains(got, owner) {
		t.Errorf("account list:\n%s", got)
	}
	searchTree(t, canaryNeedles(canary), g.dir, g.tmp).none(t, "held mail")
	g.restart()
	if n := g.count(t, "INBOX"); n != 1 {
		t.Fatalf("after a restart there are %d messages", n)
	}

	g.postern("cert", "import", owner, g.certFile)
	eventually(t, "the held mail is sealed", func() bool { return g.count(t, "INBOX") == 5 && g.count(t, "Sent") == 1 })
	p := g.ownerGnuPG(t)
	inbox := g.mailbox(t, "INBOX")
	if !bytes.Equal(inbox[0].raw, notice.raw) || inbox[0].uid != notice.uid {
		t.Error("the notice has changed")
	}
	var raw [][]byte
	for _, m := range inbox[1:] {
		raw = append(raw, m.raw)
		if i := len(raw); i < 4 && !bytes.Contains(m.raw, []byte("Received: from client.example.net")) {
			t.Errorf("message %d has lost its trace:\n%.500s", i, m.raw)
		}
	}
	raw = append(raw, g.only(t, "Sent").raw)
	// The mailbox that one of them was for is gone: it is in the INBOX.
	for i, original := range p.restored(raw...) {
		want := append(mails, canaryMail(5), canaryMail(4))[i]
		same(t, "held message", original, want)
	}
	searchTree(t, canaryNeedles(canary), g.dir, g.tmp).none(t, "released mail")
	g.stop()
	g.check()
}

// A certificate that arrives while a message does is not too late for it: the recipient
// was looked up before, so the message is held, but not for longer than a moment.
func TestCertificateArrivesDuringUpload(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{withoutCertificate: true})
	first, second, third := text("first", "held"), text("second", "after the import"), largeCanaryMail(1, 3<<20)
	g.deliver(first)
	c := g.smtp(t)
	c.begin()
	c.put(stuffed(third[:1<<20]))
	g.postern("cert", "import", owner, g.certFile)
	g.deliver(second)
	p := g.ownerGnuPG(t)
	contains := func(what ...[]byte) bool {
		var raw [][]byte
		for _, m := range g.mailbox(t, "INBOX") {
			if isSealed(m.raw) {
				raw = append(raw, m.raw)
			}
		}
		if len(raw) != len(what) {
			return false
		}
		for i, original := range p.restored(raw...) {
			if !bytes.Equal(original, what[i]) {
				return false
			}
		}
		return true
	}
	eventually(t, "what came before the end of the upload is sealed", func() bool { return contains(first, second) })
	c.put(stuffed(third[1<<20:]))
	c.must("250", ".\r\n")
	eventually(t, "the message that was on its way is sealed", func() bool { return contains(first, second, third) })
	g.stop()
	g.check()
}
