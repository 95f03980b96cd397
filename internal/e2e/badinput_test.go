package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// The rows of the table of bad input in package smtpd whose outcome is not the SMTP
// server's alone, from the wire to what the owner opens.
func TestBadInput(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{})
	p := g.ownerGnuPG(t)
	nested := func(levels int) []byte {
		var b bytes.Buffer
		b.WriteString("From: bob@example.net\r\nSubject: deep\r\n")
		for i := range levels {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		b.WriteString("Content-Type: text/plain\r\n\r\nat the bottom\r\n")
		for i := levels - 1; i >= 0; i-- {
			fmt.Fprintf(&b, "--b%d--\r\n", i)
		}
		return b.Bytes()
	}
	parts := []byte("From: bob@example.net\r\nSubject: wide\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		strings.Repeat("--b\r\nContent-Type: text/plain; name=x\r\n\r\npart\r\n", 5000) + "--b--\r\n")
	tests := []struct {
		name    string
		message []byte
		reply   string
	}{
		{"long-header", []byte("From: bob@example.net\r\n" + strings.Repeat("X-Long: "+strings.Repeat("x", 900)+"\r\n", 11_600) + "\r\nbody\r\n"), "552 5.3.4"},
		{"many-parts", parts, "250"},
		{"many-parts-claiming-encryption", bytes.Replace(parts, []byte("multipart/mixed"), []byte("multipart/encrypted; protocol=\"application/pgp-encrypted\""), 1), "250"},
		{"deep-nesting", nested(200), "250"},
		{"long-line", []byte("From: bob@example.net\r\nSubject: long\r\n\r\n" + strings.Repeat("y", 1<<20) + "\r\nend\r\n"), "250"},
		{"eight-bit-header", []byte("From: B\xf6b <bob@example.net>\r\nTo: Zo\xc3\xab <alice@example.org>\r\nSubject: raw \xff\xfe octets\r\nX-\xe4: x\r\n\r\nbody\r\n"), "250"},
		{"no-from", []byte("Subject: no From\r\nDate: Mon, 2 Mar 2026 11:00:00 +0000\r\n\r\nbody\r\n"), "250"},
		{"no-date", []byte("From: bob@example.net\r\nSubject: no Date\r\n\r\nbody\r\n"), "250"},
		{"empty-message", nil, "250"},
		{"no-header-section", []byte("just a line\r\nand another\r\n"), "250"},
		{"only-blank-lines", []byte("\r\n\r\n\r\n"), "250"},
		{"loop", []byte(strings.Repeat("Received: from a by b; Mon, 2 Mar 2026 11:00:00 +0000\r\n", 51) + "From: bob@example.net\r\n\r\nbody\r\n"), "554 5.4.6"},
		{"many-recipients-in-To", []byte("From: bob@example.net\r\nTo: " + strings.Repeat("someone@example.com,\r\n ", 20_000) + "last@example.com\r\n\r\nbody\r\n"), "250"},
	}
	c := g.smtp(t)
	var accepted []int
	for i, tt := range tests {
		got := c.send(tt.message)
		if !strings.HasPrefix(got, tt.reply) {
			t.Errorf("%s: %s, not %s", tt.name, got, tt.reply)
		}
		if strings.HasPrefix(got, "250") {
			accepted = append(accepted, i)
		}
	}
	c.must("221", "QUIT\r\n") // none of these ends the connection
	stored := g.mailbox(t, "INBOX")
	if len(stored) != len(accepted) {
		t.Fatalf("accepted %d, stored %d", len(accepted), len(stored))
	}
	var raw [][]byte
	for _, m := range stored {
		raw = append(raw, m.raw)
	}
	for i, original := range p.restored(raw...) {
		same(t, tests[accepted[i]].name, original, tests[accepted[i]].message)
	}
}

// A message to as many recipients as the server takes: all of them sub-addresses, so it
// is one copy. One recipient more is put off, and harms nobody.
func TestThousandRecipients(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{})
	c := g.smtp(t)
	c.must("250", "MAIL FROM:<"+sender+">\r\n")
	for i := range 1000 {
		c.must("250", fmt.Sprintf("RCPT TO:<alice+%d@example.org>\r\n", i))
	}
	c.must("452 4.5.3", "RCPT TO:<"+owner+">\r\n")
	message := text("to a thousand", "that are one")
	c.must("354", "DATA\r\n")
	c.must("250", string(message)+".\r\n")
	same(t, "message", g.ownerGnuPG(t).restored(g.only(t, "INBOX").raw)[0], message)
}

// What breaks off leaves nothing behind but what was complete.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{})
	message := text("broken off", "a line")
	for _, size := range []int{0, 10, len(message) - 2, len(message)} {
		c := g.smtp(t)
		c.begin()
		c.put(message[:size])
		c.Close() // truncated-data
	}
	c := g.smtp(t)
	c.begin()
	c.put(append(message, ".\r\n"...))
	c.Close() // lost-before-reply
	eventually(t, "the complete message is stored", func() bool { return g.count(t, "INBOX") > 0 })
	g.deliver(text("last", "the others would have come before it"))
	all := g.mailbox(t, "INBOX")
	if len(all) != 2 {
		t.Fatalf("%d messages, not 2", len(all))
	}
	same(t, "lost before the reply", g.ownerGnuPG(t).restored(all[0].raw)[0], message)
}

// Smuggling: nothing behind a bare line end is taken for a command, by the real program.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{})
	for _, end := range []string{"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r\n", "\r\n.\r", "\r\r\n.\r\n", "\x00\r\n.\r\n"} {
		c := g.smtp(t)
		c.begin()
		c.put([]byte("From: bob@example.net\r\n\r\nbody" + end +
			"MAIL FROM:<ceo@example.org>\r\nRCPT TO:<" + owner + ">\r\nDATA\r\nFrom: ceo@example.org\r\n\r\nsmuggled\r\n.\r\n"))
		if got := c.reply(); !strings.HasPrefix(got, "550 5.") {
			t.Errorf("%q: %s", end, got)
		}
		if more, err := c.tryReply(); err == nil {
			t.Errorf("%q: one reply more: %s", end, more)
		}
	}
	if n := g.count(t, "INBOX"); n != 0 {
		t.Errorf("%d messages were stored", n)
	}
}
