package imapd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"postern/internal/mail"
	"postern/internal/store"
)

func TestStore(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	for i := range 3 {
		e.deliver("INBOX", simple(fmt.Sprint(i)))
	}
	c, other := e.selected("INBOX"), e.selected("INBOX")
	for _, step := range []struct{ command, want string }{
		{`STORE 1 +FLAGS (\Seen $Label)`, `* FLAGS (\Seen \Answered \Flagged \Deleted \Draft $Label)|* 1 FETCH (FLAGS (\Seen $Label))`},
		{`STORE 1 -FLAGS ($label)`, `* 1 FETCH (FLAGS (\Seen))`},
		{`STORE 1:2 FLAGS \Flagged`, `* 1 FETCH (FLAGS (\Flagged))|* 2 FETCH (FLAGS (\Flagged))`},
		{`UID STORE 3 +FLAGS (\Answered)`, `* 3 FETCH (UID 3 FLAGS (\Answered))`},
		{`STORE 1:3 +FLAGS.SILENT (\Draft)`, ``},
		{`STORE 1 FLAGS ()`, `* 1 FETCH (FLAGS ())`},
		{`STORE 1 +FLAGS (\Recent)`, `* 1 FETCH (FLAGS ())`},
		{`UID STORE 99 +FLAGS (\Seen)`, ``},
	} {
		if got := sorted(c.ok("%s", step.command)); got != sorted(strings.Split(step.want, "|")) {
			t.Errorf("%s: %s, want %s", step.command, got, step.want)
		}
	}
	c.fails("NO [CANNOT]", `STORE 1 +FLAGS (\Nonsense)`)
	c.fails("NO [LIMIT]", `STORE 1 +FLAGS (%s)`, strings.Repeat("k", 200))
	// The other session hears what is different in the end: nothing of message 1.
	want := `* 2 FETCH (UID 2 FLAGS (\Flagged \Draft))|* 3 FETCH (UID 3 FLAGS (\Answered \Draft))`
	if got := sorted(other.ok("NOOP")); got != want {
		t.Errorf("other session: %s", got)
	}
	// A silent STORE still tells what somebody else did to the same message.
	other.ok(`STORE 1 +FLAGS.SILENT (\Flagged)`)
	if got := c.ok(`STORE 1 +FLAGS.SILENT (\Seen)`); len(got) != 1 || got[0] != `* 1 FETCH (FLAGS (\Seen \Flagged))` {
		t.Errorf("%q", got)
	}
}

func sorted(lines []string) string {
	lines = slices.Clone(lines)
	slices.Sort(lines)
	return strings.Trim(strings.Join(lines, "|"), "|")
}

func TestCopyMoveExpunge(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	for i := range 5 {
		e.deliver("INBOX", simple(fmt.Sprint(i)))
	}
	validity := e.mailbox("Sent").UIDValidity
	c, other := e.selected("INBOX"), e.selected("INBOX")
	if _, tagged := c.do("COPY 1,3:4 Sent"); !strings.HasPrefix(tagged, fmt.Sprintf("OK [COPYUID %d 1,3:4 1:3]", validity)) {
		t.Error(tagged)
	}
	if _, tagged := c.do("UID COPY 99 Sent"); tagged != "OK COPY completed" {
		t.Error(tagged)
	}
	c.fails("NO [TRYCREATE]", "COPY 1 nothing")
	c.fails("NO [TRYCREATE]", "UID MOVE 1 nothing")
	got := c.ok("MOVE 2,4 Sent")
	want := []string{fmt.Sprintf("* OK [COPYUID %d 2,4 4:5] COPY completed", validity), "* 4 EXPUNGE", "* 2 EXPUNGE"}
	if !slices.Equal(got, want) {
		t.Errorf("MOVE: %q", got)
	}
	c.ok(`STORE 1:3 +FLAGS.SILENT (\Deleted)`)
	if got := c.ok("UID EXPUNGE 3:4"); !slices.Equal(got, []string{"* 2 EXPUNGE"}) {
		t.Errorf("UID EXPUNGE: %q", got)
	}
	if got := c.ok("EXPUNGE"); !slices.Equal(got, []string{"* 2 EXPUNGE", "* 1 EXPUNGE"}) {
		t.Errorf("EXPUNGE: %q", got)
	}
	if got := other.ok("NOOP"); !slices.Equal(got, []string{"* 5 EXPUNGE", "* 4 EXPUNGE", "* 3 EXPUNGE", "* 2 EXPUNGE", "* 1 EXPUNGE"}) {
		t.Errorf("other session: %q", got)
	}
	if got := c.ok("COPY * Sent"); len(got) != 0 {
		t.Errorf("COPY of nothing: %q", got)
	}
	c.ok("SELECT Sent")
	if got := c.ok("MOVE 1 Sent"); !slices.Equal(got[:2], []string{fmt.Sprintf("* OK [COPYUID %d 1 6] COPY completed", validity), "* 1 EXPUNGE"}) {
		t.Errorf("MOVE into itself: %q", got)
	}
	if got := c.ok("UID SEARCH ALL"); got[0] != "* SEARCH 2 3 4 5 6" {
		t.Errorf("%q", got)
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(o *Options) { o.MaxSize = 100_000 })
	c := e.selected("Sent")
	validity := e.mailbox("Sent").UIDValidity
	text := simple("draft")
	tag := c.start("APPEND Sent (\\Seen \\Draft $Label) \" 3-Feb-2026 01:02:03 +0200\" {%d+}\r\n%s", len(text), text)
	lines, tagged := c.until(tag)
	if !strings.HasPrefix(tagged, fmt.Sprintf("OK [APPENDUID %d 1]", validity)) {
		t.Error(tagged)
	}
	contains(t, lines, "* 1 EXISTS")
	got := c.ok("FETCH 1 (FLAGS INTERNALDATE BODY.PEEK[])")[0]
	if !strings.Contains(got, `FLAGS (\Seen \Draft $Label) INTERNALDATE " 2-Feb-2026 23:02:03 +0000"`) || !strings.Contains(got, text) {
		t.Error(got)
	}
	c.fails("NO [TRYCREATE]", "APPEND nothing {3+}\r\nabc")
	c.fails("NO [CANNOT]", "APPEND Sent (\\Nonsense) {3+}\r\nabc")
	c.fails("NO [TOOBIG]", "APPEND Sent {100001}")
	c.fails("NO [CANNOT]", "APPEND Sent {0}")
	c.ok("NOOP")
	for err, want := range map[error]string{
		mail.ErrOverQuota: "NO [OVERQUOTA]", mail.ErrTooBig: "NO [TOOBIG]", mail.ErrStorageFull: "NO [UNAVAILABLE]",
		mail.Refuse(452, "4.2.2", "full"): "NO [OVERQUOTA]", store.ErrOverQuota: "NO [OVERQUOTA]", store.ErrDiskFull: "NO [UNAVAILABLE] insufficient storage",
		mail.ErrNUL: "NO [CANNOT]", errors.New("secret path /var/lib"): "NO [UNAVAILABLE]",
	} {
		e.accept.mu.Lock()
		e.accept.refuse = fmt.Errorf("data: %w", err)
		e.accept.mu.Unlock()
		if _, tagged := c.do("APPEND Sent {3+}\r\nabc"); !strings.HasPrefix(tagged, want) || strings.Contains(tagged, "/var") {
			t.Errorf("%v: %s", err, tagged)
		}
	}
}

// fullStore is a store whose changes fail.
type fullStore struct {
	Store
	err error
}

func (s fullStore) Copy(context.Context, store.ID, []store.Range, store.ID) (store.Copied, error) {
	return store.Copied{}, fmt.Errorf("copy: %w", s.err)
}

func (s fullStore) Move(context.Context, store.ID, []store.Range, store.ID) (store.Copied, error) {
	return store.Copied{}, fmt.Errorf("move: %w", s.err)
}

func (s fullStore) CreateMailbox(context.Context, store.ID, store.NewMailbox) (store.Mailbox, error) {
	return store.Mailbox{}, fmt.Errorf("create: %w", s.err)
}

// A full disk is temporary and the operator's; a used up quota is the user's (RFC 5530 3).
func TestFull(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]string{
		store.ErrOverQuota: "NO [OVERQUOTA] quota is used up",
		fmt.Errorf("%w: /var/lib", store.ErrDiskFull): "NO [UNAVAILABLE] insufficient storage, try again later",
		fmt.Errorf("%w: /var/lib", store.ErrIO):       "NO [UNAVAILABLE] local error, try again later",
	} {
		e := newEnv(t, func(o *Options) { o.Store = fullStore{o.Store, err} })
		e.deliver("INBOX", simple("x"))
		c := e.selected("INBOX")
		for _, command := range []string{"COPY 1 Sent", "MOVE 1 Sent", "CREATE x"} {
			c.fails(want, "%s", command)
		}
		if failed := strings.Contains(e.logs.String(), "imap command failed"); failed == (err == store.ErrOverQuota) {
			t.Errorf("%v: log: %s", err, e.logs)
		}
	}
}

func TestAppendStreams(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	cl := e.imap(nil)
	text := simple("big") + strings.Repeat("0123456789abcdef\r\n", 100_000)
	cmd := cl.Append("INBOX", int64(len(text)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen}})
	for rest := text; len(rest) > 0; {
		n := min(len(rest), 10_000)
		if _, err := cmd.Write([]byte(rest[:n])); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := cmd.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := cmd.Wait()
	if err != nil || data.UID != 1 {
		t.Fatalf("%+v, %v", data, err)
	}
	if size := e.mailbox("INBOX").Size; size != int64(len(text)) {
		t.Errorf("%d octets arrived of %d", size, len(text))
	}
}

func TestIdle(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.deliver("INBOX", simple("one"))
	c, other := e.selected("INBOX"), e.selected("INBOX")
	tag := c.start("IDLE")
	if s := c.line(); !strings.HasPrefix(s, "+ ") {
		t.Fatal(s)
	}
	e.deliver("INBOX", simple("two"))
	began := time.Now() // durable and announced
	if s := c.line(); s != "* 2 EXISTS" || time.Since(began) > 100*time.Millisecond {
		t.Errorf("%s after %v", s, time.Since(began))
	}
	other.ok(`STORE 1 +FLAGS.SILENT (\Flagged)`)
	if s := c.line(); s != `* 1 FETCH (UID 1 FLAGS (\Flagged))` {
		t.Error(s)
	}
	other.ok(`STORE 2 +FLAGS.SILENT (\Deleted)`)
	c.line()
	other.ok("EXPUNGE")
	if s := c.line(); s != "* 2 EXPUNGE" {
		t.Error(s)
	}
	c.send("done\r\n")
	if lines, tagged := c.until(tag); len(lines) != 0 || !strings.HasPrefix(tagged, "OK") {
		t.Errorf("%q %s", lines, tagged)
	}
	tag = c.start("IDLE")
	c.line()
	c.send("NOOP\r\n")
	if _, tagged := c.until(tag); !strings.HasPrefix(tagged, "BAD") {
		t.Error(tagged)
	}
	c.ok("NOOP")
	c.ok("UNSELECT")
	tag = c.start("IDLE") // without a mailbox it only waits
	c.line()
	c.send("DONE\r\n")
	c.until(tag)
}

// What happens between SELECT and IDLE is told when IDLE begins (the engine's own
// tracker loses it).
func TestIdleLosesNothing(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	c := e.selected("INBOX")
	e.deliver("INBOX", simple("before"))
	tag := c.start("IDLE")
	c.line()
	if s := c.line(); s != "* 1 EXISTS" {
		t.Error(s)
	}
	c.send("DONE\r\n")
	c.until(tag)
	// The same as a race, at all distances from the command.
	n := 1
	for round := range 40 {
		tag := c.start("IDLE")
		delivered := make(chan struct{})
		go func() {
			time.Sleep(time.Duration(round) * 50 * time.Microsecond)
			e.deliver("INBOX", simple("race"))
			close(delivered)
		}()
		n++
		for want := fmt.Sprintf("* %d EXISTS", n); ; {
			if s := c.line(); s == want {
				break
			}
		}
		<-delivered
		c.send("DONE\r\n")
		c.until(tag)
	}
}
