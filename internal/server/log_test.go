package server

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
)

// The log says nothing of who writes to whom, about what, or from where, not even when
// it says all it can: not when mail is taken, nor when it is refused.
func TestLogHasNoAddressesOrSubjects(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		c := newConfig(t)
		c.Log.Level, c.Log.Format = "debug", format
		g, r, log := serve(t, c)

		mails(t, r) // held
		addCertificate(t, g)
		g.Directory.Forget()
		g.release(t.Context())
		mails(t, r) // sealed
		wrongLogins(t, r)
		session(t, r)
		if err := g.Store.Close(); err != nil { // and when all goes wrong
			t.Fatal(err)
		}
		if err := send(r, "bob@there.test", owner, hello); err == nil {
			t.Error("accepted with the store closed")
		}
		if _, err := login(r, owner, password); err == nil {
			t.Error("logged in with the store closed")
		}
		_ = r.Stop()

		text := log.String()
		if n := strings.Count(text, "\n"); n < 20 {
			t.Errorf("%s: only %d lines: was anything logged?\n%s", format, n, text)
		}
		for _, secret := range []string{
			"alice", "bob", "mallory", "postmaster@", "there.test", "elsewhere.test", "Zanzibar", "canary", "elephants", "127.0.0.3", "c2V2ZW4",
		} {
			for line := range strings.Lines(text) {
				if strings.Contains(strings.ToLower(line), strings.ToLower(secret)) {
					t.Errorf("%s: %q is in the log: %s", format, secret, line)
				}
			}
		}
	}
}

// dial connects from an address that can be told from ours.
func dial(t *testing.T, addr net.Addr) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3)}}
	c, err := d.DialContext(context.Background(), "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// mails sends one message that is taken and several that are not.
func mails(t *testing.T, r *Running) {
	t.Helper()
	for _, m := range []struct{ from, to, text string }{
		{"bob@there.test", owner, hello},
		{"", "alice+x@here.test", hello},
		{"bob@there.test", "mallory@here.test", hello},
		{"bob@there.test", "mallory@elsewhere.test", hello},
		{"bob@there.test", owner, "Subject: Zanzibar\nbare LF: the canary sings\n"},
		{"bob@there.test", owner, strings.Repeat("Received: from bob.there.test\r\n", 60) + hello},
		{"bob@there.test", owner, "Subject: Zanzibar" + strings.Repeat("\r\n x", 1<<20) + "\r\n\r\n"},
	} {
		c := smtp.NewClient(dial(t, r.Addrs.MX))
		_ = c.SendMail(m.from, []string{m.to}, strings.NewReader(m.text))
		c.Close()
	}
	raw := dial(t, r.Addrs.MX)
	defer raw.Close()
	_, _ = raw.Write([]byte("EHLO bob.there.test\r\nMAIL FROM:<bob@there.test> X=alice\r\nVRFY alice@here.test\r\nXYZZY alice\r\n" +
		"MAIL FROM:<bob@there.test>\r\nRCPT TO:<alice@here.test>\r\nDATA\r\nSubject: Zanzibar\n.\nbare\r\n.\r\n"))
	if tcp, ok := raw.(*net.TCPConn); ok {
		tcp.CloseWrite()
	}
	var b [4096]byte
	for err := error(nil); err == nil; {
		_, err = raw.Read(b[:])
	}
}

func wrongLogins(t *testing.T, r *Running) {
	t.Helper()
	for _, l := range [][2]string{{owner, "seven pink elephants"}, {"mallory@here.test", password}, {"mallory", "x"}} {
		if c, err := login(r, l[0], l[1]); err == nil {
			c.Close()
			t.Errorf("%s logged in", l[0])
		}
	}
}

// session reads, appends and searches by IMAP.
func session(t *testing.T, r *Running) {
	t.Helper()
	c, err := login(r, owner, password)
	if err != nil {
		// Too many wrong ones before: it is the throttle's turn to be logged.
		return
	}
	defer c.Close()
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	a := c.Append("INBOX", int64(len(hello)), nil)
	_, _ = a.Write([]byte(hello))
	_ = a.Close()
	_, _ = a.Wait()
	_ = c.Create("Zanzibar/alice", nil).Wait()
	_ = c.Logout().Wait()
}
