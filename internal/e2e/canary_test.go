package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"
)

// canary is what a mail says that nobody but its reader may learn.
const canary = "The Canary Sings at Midnight, Zürich"

// canaryMail says it in every place that is not in clear by design.
func canaryMail(n int) []byte {
	coded := base64.StdEncoding.EncodeToString([]byte(fmt.Sprint(strings.Repeat("x", n%3), canary, " at the end of a line")))
	return fmt.Appendf(nil, "From: Bob <%s>\r\nTo: Alice <%s>\r\nSubject: %s\r\nX-Note: %s\r\nMessage-ID: <canary-%d@example.net>\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n%s in the preamble\r\n"+
		"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n"+
		"--b\r\nContent-Type: application/pdf; name=\"%s.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n--b--\r\n",
		sender, owner, canary, canary, n, canary, canary, canary, coded)
}

// largeCanaryMail says it on and on, for so many octets.
func largeCanaryMail(n, octets int) []byte {
	b := canaryMail(n)
	line := []byte(canary + " and again, in a line of a large attachment that nobody has encoded\r\n")
	return append(b, bytes.Repeat(line, octets/len(line))...)
}

// No octet of a message in clear reaches a disk: not while it arrives, not when it is
// stored, not by a crash, not in the log.
func TestP2_NoClearTextAtRest(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{config: map[string]string{"log.level": `"debug"`}})
	needles := canaryNeedles(canary)
	clean := func(when string) {
		t.Helper()
		f := searchTree(t, needles, g.dir, g.tmp)
		f.none(t, when+", on disk")
		open := &found{files: 1}
		unlinked := int64(0)
		if g.cmd != nil {
			open, unlinked = searchOpenFiles(t, g.pid(), needles)
			open.none(t, when+", in open files")
		}
		log := &found{}
		log.look("log", []byte(g.log.String()), needles)
		log.none(t, when)
		t.Logf("%s: searched %d files with %d octets, and %d octets of files without a name", when, f.files, f.octets, unlinked)
	}

	g.fillWithCanaries(t)
	clean("after deliveries")

	// Four large messages on their way.
	const large = 30 << 20
	conns := make([]*smtpConn, 4)
	for i := range conns {
		conns[i] = g.smtp(t)
		conns[i].begin()
		conns[i].put(stuffed(largeCanaryMail(100+i, large)))
	}
	eventually(t, "the large messages lie in spool files", func() bool {
		_, unlinked := searchOpenFiles(t, g.pid(), nil)
		return unlinked > int64(len(conns))*large*9/10
	})
	clean("with large messages in flight")

	// Two of them end, and are sealed while we look.
	finish := func(c *smtpConn) {
		c.put([]byte(".\r\n"))
		if got := c.reply(); !strings.HasPrefix(got, "250") {
			t.Errorf("large message: %s", got)
		}
	}
	var sealing sync.WaitGroup
	sealing.Go(func() { finish(conns[0]); finish(conns[1]) })
	clean("while large messages are sealed")
	sealing.Wait()
	clean("after large messages")

	// The others never do.
	conns[2].put([]byte(".\r\n"))
	g.kill()
	clean("after kill -9")
	g.start()
	clean("after the restart")
	g.deliver(canaryMail(999))
	clean("after more mail")

	// That the mail was there, and says what was searched for.
	p := g.ownerGnuPG(t)
	opened := 0
	for _, m := range g.mailbox(t, "INBOX") {
		if bytes.Contains(m.raw, []byte("Message-ID: <canary-")) {
			if len(m.raw) > large || opened == 0 {
				if payload := p.open(m.raw)[0]; !bytes.Contains(payload, []byte(canary)) {
					t.Errorf("UID %d does not say %q", m.uid, canary)
				}
			}
			opened++
		}
	}
	if opened < 10 {
		t.Errorf("only %d messages with a canary", opened)
	}
	clean("after reading")
	g.stop()
	clean("after the stop")
}

// fillWithCanaries brings canaries in by every way there is: SMTP, refused in the middle,
// held, APPEND, a broken APPEND, import.
func (g *gateway) fillWithCanaries(t *testing.T) {
	t.Helper()
	for i := range 6 {
		g.deliver(canaryMail(i))
	}
	g.postern("account", "add", "carol@example.org")
	if got := g.smtp(t).send(canaryMail(6), "carol@example.org", owner); !strings.HasPrefix(got, "250") {
		t.Fatal(got)
	}
	c := g.smtp(t)
	c.begin()
	c.put(canaryMail(7))
	c.Close() // in the middle of DATA
	c = g.smtp(t)
	c.begin()
	c.put([]byte("X-Big: " + strings.Repeat(canary+"\r\n ", 60_000) + "\r\n\r\n.\r\n"))
	if got := c.reply(); !strings.HasPrefix(got, "552") {
		t.Errorf("a huge header section: %s", got)
	}
	c = g.smtp(t)
	c.begin()
	c.put([]byte(canary + "\nbare LF\r\n.\r\n"))
	if got := c.reply(); !strings.HasPrefix(got, "550") {
		t.Errorf("bare LF: %s", got)
	}
	client := g.imap(t)
	appendMessage(t, client, "Drafts", canaryMail(8))
	mbox := filepath.Join(t.TempDir(), "mbox")
	text := "From bob Mon Mar  2 11:00:00 2026\n" + strings.ReplaceAll(string(canaryMail(9)), "\r\n", "\n") + "\n"
	if err := os.WriteFile(mbox, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g.postern("import", owner, mbox)
}

func appendMessage(t testing.TB, c *imapclient.Client, mailbox string, message []byte) {
	t.Helper()
	cmd := c.Append(mailbox, int64(len(message)), nil)
	if _, err := cmd.Write(message); err != nil {
		t.Fatal("APPEND: ", err)
	}
	if err := cmd.Close(); err != nil {
		t.Fatal("APPEND: ", err)
	}
	if _, err := cmd.Wait(); err != nil {
		t.Fatal("APPEND: ", err)
	}
}
