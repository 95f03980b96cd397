package imapd

import (
	"errors"
	"log/slog"
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

// The log gets what the engine says, not the form it says it in, nor what a client sent.
func TestEngineLog(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	l := engineLog{slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	l.Printf("handling %v command: %v", "SECRET", errors.New("secret"))
	l.Printf("failed to read command: %v", errors.New("secret"))
	l.Printf("panic handling command: %v\n%s", "index out of range", []byte("goroutine 1"))
	for _, want := range []string{`reason="handling command"`, `reason="failed to read command"`, `error="index out of range" stack="goroutine 1"`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in\n%s", want, b.String())
		}
	}
	if strings.ContainsAny(b.String(), "%!") || strings.Contains(strings.ToLower(b.String()), "secret") {
		t.Errorf("the log:\n%s", b.String())
	}
}
