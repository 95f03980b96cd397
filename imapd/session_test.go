package imapd

import (
	"strings"
	"testing"
)

func TestFirstContact(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.deliver("INBOX", simple("one"))
	c := e.dial(true)
	greeting := c.line()
	if !strings.HasPrefix(greeting, "* OK [CAPABILITY IMAP4rev2 IMAP4rev1") || strings.Contains(greeting, "STARTTLS") {
		t.Errorf("greeting: %s", greeting)
	}
	c.ok("LOGIN %s %s", testLogin, testPassword)
	lines := c.ok("SELECT INBOX")
	contains(t, lines, "* 1 EXISTS")
	lines = c.ok("FETCH 1 (UID FLAGS ENVELOPE BODY[])")
	contains(t, lines, "body of one")
	contains(t, lines, `\Seen`)
	c.ok("LOGOUT")
	c.ends()
}
