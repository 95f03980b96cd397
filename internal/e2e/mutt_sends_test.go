package e2e

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"postern/internal/testkit"
)

// Mutt sends a mail from its menu, in clear or encrypted by itself, and puts a copy into
// Sent, which says how well the mail was protected. (With a body on its standard input
// Mutt sends in clear whatever it is told: that is why somebody must press the keys.)
func TestMuttSends(t *testing.T) {
	t.Parallel()
	mutt := testkit.Parts(t, "mutt")["mutt"]
	o := newOutpost(t, options{})
	mine, theirs := o.ownerGnuPG(t), newGnuPG(t)
	certificate := theirs.makeKey("carol@example.net", "future-default", "default", "never")
	o.pin(t, "carol@example.net", certificate)
	mine.run(certificate, "--import")
	mine.run([]byte(theirs.fingerprint("carol@example.net")+":6:\n"), "--import-ownertrust")
	mine.run([]byte(mine.fingerprint(owner)+":6:\n"), "--import-ownertrust")
	p := o.tap(t, 465)
	at := strings.Replace(owner, "@", "%40", 1) + "@127.0.0.1"
	rc := fmt.Sprintf(`set folder=imaps://%s:%d/ spoolfile=+INBOX record=+Sent postponed="" from=%s realname=Alice
set imap_pass=%s smtp_url=smtps://%s:%d/ smtp_pass=%s smtp_authenticators=plain ssl_force_tls=yes ssl_verify_host=yes certificate_file=%s
set editor=true abort_unmodified=no copy=yes fcc_clear=no crypt_use_gpgme=yes quit=yes sleep_time=0 wait_key=no charset=utf-8 send_charset=utf-8
`, at, o.base+993, owner, o.password, at, p.port(), o.password, o.tlsCert())
	body := writeFile(t, "body", []byte("Schöne Grüße,\n.\nFrom the start of a line \n"))
	note := writeFile(t, "note.txt", []byte("attached\n"))
	// send has Mutt send a mail, and waits until its copy is in Sent.
	send := func(t *testing.T, more, subject string, to ...string) (sent stored, submitted []byte) {
		t.Helper()
		before := len(p.submitted())
		term := newTerminal(t, []string{"HOME=" + t.TempDir(), "GNUPGHOME=" + mine.home},
			fmt.Sprintf("%s -n -F %s -s '%s' -i %s -a %s -- %s", mutt, writeFile(t, "muttrc", []byte(rc+more)), subject, body, note, strings.Join(to, " ")))
		term.wait("To: " + to[0])
		term.keys("Enter")
		term.wait("Subject: " + subject)
		term.keys("Enter")
		term.wait("y:Send", "A     2 ", "Subject: "+subject)
		term.keys("y")
		if screen := ""; !soon(patience, func() bool { screen = term.screen(); return screen == "" }) {
			t.Fatalf("mutt has not ended:\n%s", screen)
		}
		all := o.mailbox(t, "Sent")
		submissions := p.submitted()
		if len(all) != before+1 || len(submissions) != before+1 {
			t.Fatalf("%d messages were submitted, %d are in Sent", len(submissions), len(all))
		}
		return all[before], submissions[before]
	}

	t.Run("to who has a certificate", func(t *testing.T) {
		sent, submitted := send(t, "", "Grüße 1", "carol@example.net")
		m := o.left(t, "carol@example.net", 0)
		leftSealed(t, m.Content, theirs.open([]byte(m.Content))[0], submitted)
		wantSent(t, mine, sent, "$Sealed", "Grüße,\r\n.\r\nFrom")
	})
	t.Run("to one without, too", func(t *testing.T) {
		sent, submitted := send(t, "", "Grüße 2", "carol@example.net", "dave@example.net")
		m := o.left(t, "carol@example.net", 1)
		leftSealed(t, m.Content, theirs.open([]byte(m.Content))[0], submitted)
		leftMarked(t, o.left(t, "dave@example.net", 0).Content, submitted)
		wantSent(t, mine, sent, "$Insecure", "Grüße,\r\n.\r\nFrom")
	})
	t.Run("encrypted by Mutt", func(t *testing.T) {
		sent, submitted := send(t, "set crypt_autoencrypt=yes pgp_self_encrypt=yes pgp_default_key="+mine.fingerprint(owner)+"\n", "Grüße 3", "carol@example.net")
		m := o.left(t, "carol@example.net", 2)
		was, is := keysOf(string(submitted), theirs), keysOf(m.Content, theirs)
		if len(was) != 2 || !slices.Equal(was, is) {
			t.Errorf("it left encrypted to %q, and Mutt encrypted it to %q", is, was)
		}
		header, _, _ := cutHeader([]byte(m.Content))
		wantHeader, _, _ := cutHeader(submitted)
		same(t, "header section", without(header, "DKIM-Signature", "Received"), wantHeader)
		opened := theirs.open([]byte(m.Content), submitted) // packets may have got another frame
		same(t, "what is in it", opened[0], opened[1])
		if !bytes.Contains(opened[0], []byte("Schöne Grüße,")) {
			t.Errorf("carol opens\n%s", opened[0])
		}
		wantSent(t, mine, sent, "$EndToEnd", "Schöne Grüße,")
	})
}

// wantSent requires that the copy of what was sent is closed to the server, opens for
// its owner, and is marked.
func wantSent(t *testing.T, p *gnupg, sent stored, keyword imap.Flag, words string) {
	t.Helper()
	var marks []imap.Flag
	for _, f := range sent.flags {
		if strings.HasPrefix(string(f), "$") {
			marks = append(marks, f)
		}
	}
	if !sameFlags(marks, []imap.Flag{keyword}) {
		t.Errorf("the copy in Sent has the flags %q, not %s", sent.flags, keyword)
	}
	if bytes.Contains(sent.raw, []byte(words)) {
		t.Errorf("the copy in Sent is in clear:\n%s", sent.raw)
	}
	if text := p.open(sent.raw)[0]; !bytes.Contains(text, []byte(words)) {
		t.Errorf("the copy in Sent is\n%s", text)
	}
}
