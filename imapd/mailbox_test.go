package imapd

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"postern/internal/store"
)

func TestMailboxes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	c := e.login()
	c.ok("CREATE a/b/c")
	c.ok("CREATE kept/")
	c.ok(`CREATE Junk (USE (\Junk))`)
	c.fails("NO [USEATTR]", `CREATE all (USE (\All))`)
	c.fails("NO [ALREADYEXISTS]", "CREATE a/b")
	c.fails("NO", "CREATE INBOX")
	c.fails("NO [CANNOT]", `CREATE "a//b"`)
	c.ok("CREATE Entw&APw-rfe")
	c.ok("SUBSCRIBE a/b/c")
	c.fails("NO [NONEXISTENT]", "SUBSCRIBE nothing")
	c.ok("UNSUBSCRIBE nothing")

	contains(t, c.ok(`LIST "" ""`), `* LIST (\Noselect) "/" ""`)
	lines := c.ok(`LIST "" *`)
	for _, want := range []string{
		`* LIST (\HasNoChildren) "/" INBOX`, `* LIST (\HasChildren) "/" "a"`, `* LIST (\HasChildren) "/" "a/b"`,
		`* LIST (\HasNoChildren) "/" "a/b/c"`, `* LIST (\HasNoChildren \Junk) "/" "Junk"`,
		`* LIST (\HasNoChildren \Sent) "/" "Sent"`, `* LIST (\HasNoChildren) "/" "Entw&APw-rfe"`,
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is not in %q", want, lines)
		}
	}
	for command, want := range map[string]string{
		`LIST "" %`:                              "Entw&APw-rfe,INBOX,Junk,Sent,Trash,a,kept",
		`LIST "a" "/b"`:                          "",
		`LIST "a/" %`:                            "a/b",
		`LIST "" a/%`:                            "a/b",
		`LIST "" "a*c"`:                          "a/b/c",
		`LIST "" inbox`:                          "INBOX",
		`LIST "" (a* INBOX)`:                     "INBOX,a,a/b,a/b/c",
		`LIST (SPECIAL-USE) "" *`:                "Junk,Sent,Trash",
		`LIST (SUBSCRIBED) "" a*`:                "a/b/c",
		`LIST (SUBSCRIBED RECURSIVEMATCH) "" a`:  "a",
		`LSUB "" a*`:                             "a/b/c",
		`LIST "" * RETURN (SUBSCRIBED CHILDREN)`: "Entw&APw-rfe,INBOX,Junk,Sent,Trash,a,a/b,a/b/c,kept",
		`LIST "" "` + strings.Repeat("*a", 60) + `b" `:     "",
		`LIST "" "` + strings.Repeat("%", 60) + `"`:        "Entw&APw-rfe,INBOX,Junk,Sent,Trash,a,kept",
		`LIST (SUBSCRIBED) "" nothing RETURN (SUBSCRIBED)`: "",
	} {
		var names []string
		for _, l := range c.ok("%s", command) {
			name := l[strings.Index(l, `"/" `)+4:]
			name, _, _ = strings.Cut(name, " (")
			names = append(names, strings.Trim(name, `"`))
		}
		if got := strings.Join(names, ","); got != want {
			t.Errorf("%s: %s, want %s", command, got, want)
		}
	}
	contains(t, c.ok(`LIST (SUBSCRIBED RECURSIVEMATCH) "" a`), `(CHILDINFO ("SUBSCRIBED"))`)
	contains(t, c.ok(`LIST "" a/b/c RETURN (SUBSCRIBED)`), `\Subscribed`)

	c.ok("RENAME a/b x")
	c.fails("NO [NONEXISTENT]", "RENAME a/b y")
	c.fails("NO [ALREADYEXISTS]", "RENAME x Sent")
	contains(t, c.ok(`LIST "" x/*`), "x/c")
	c.fails("NO [HASCHILDREN]", "DELETE x")
	c.ok("DELETE x/c")
	c.ok("DELETE x")
	c.fails("NO [NONEXISTENT]", "DELETE x")
	c.fails("NO [CANNOT]", "DELETE inbox")
	contains(t, c.ok("NAMESPACE"), `* NAMESPACE (("" "/")) NIL NIL`)
}

// A level above a mailbox that is none itself is shown, so that it can be opened.
func TestListOfMissingLevels(t *testing.T) {
	t.Parallel()
	tr := newTree([]store.Mailbox{{Name: "a/b/c", Subscribed: true}, {Name: "z"}})
	var got []string
	for _, l := range tr.list([]string{"%"}, &imap.ListOptions{}) {
		got = append(got, fmt.Sprint(l.name, tr.attributes(l, &imap.ListOptions{})))
	}
	want := []string{`a[\NonExistent \Noselect \HasChildren]`, `z[\HasNoChildren]`}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(o *Options) { o.MaxSize = 1000 })
	one := e.deliver("INBOX", simple("one"))
	e.deliver("INBOX", simple("two"))
	c := e.selected("INBOX")
	c.ok(`STORE 1 FLAGS (\Seen \Deleted)`)
	want := fmt.Sprintf("* STATUS INBOX (MESSAGES 2 UIDNEXT 3 UIDVALIDITY %d UNSEEN 1 DELETED 1 SIZE %d APPENDLIMIT 1000 RECENT 0)",
		one.UIDValidity, len(simple("one"))+len(simple("two")))
	if lines := c.ok("STATUS inbox (MESSAGES UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE APPENDLIMIT RECENT)"); lines[0] != want {
		t.Errorf("got %s\nwant %s", lines[0], want)
	}
	contains(t, c.ok(`LIST "" INBOX RETURN (STATUS (MESSAGES UNSEEN))`), "* STATUS INBOX (MESSAGES 2 UNSEEN 1)")
	c.fails("NO [NONEXISTENT]", "STATUS nothing (MESSAGES)")
	contains(t, c.ok("CAPABILITY"), "APPENDLIMIT=1000")
}

func TestSelect(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	for i := range 3 {
		if _, err := e.place("INBOX", []byte(simple(fmt.Sprint(i))), store.Flags(i&1)^1, []string{"$Sealed"}, e.account.Created); err != nil {
			t.Fatal(err)
		}
	}
	c := e.login()
	lines, tagged := c.do("SELECT inbox")
	if !strings.HasPrefix(tagged, "OK [READ-WRITE]") {
		t.Error(tagged)
	}
	for _, want := range []string{"* 3 EXISTS", "* 0 RECENT", "[UNSEEN 2]", "[UIDNEXT 4]",
		`* FLAGS (\Seen \Answered \Flagged \Deleted \Draft $Sealed)`, `[PERMANENTFLAGS (\Seen \Answered \Flagged \Deleted \Draft $Sealed \*)]`} {
		contains(t, lines, want)
	}
	lines, tagged = c.do("EXAMINE INBOX")
	if !strings.HasPrefix(tagged, "OK [READ-ONLY]") {
		t.Error(tagged)
	}
	contains(t, lines, "[CLOSED]")
	contains(t, lines, "[PERMANENTFLAGS ()]")
	c.fails("NO [NONEXISTENT]", "SELECT nothing")
	c.fails("BAD", "FETCH 1 FLAGS") // a failed SELECT leaves none selected
}

func TestExamineIsReadOnly(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.deliver("INBOX", simple("one"))
	c := e.selected("INBOX")
	c.ok(`STORE 1 +FLAGS (\Deleted)`)
	c.ok("EXAMINE INBOX")
	c.fails("NO [NOPERM]", `STORE 1 FLAGS ()`)
	c.fails("NO [NOPERM]", "EXPUNGE")
	c.fails("NO [NOPERM]", "UID EXPUNGE 1")
	c.fails("NO [NOPERM]", "MOVE 1 Sent")
	c.ok("COPY 1 Sent")
	c.ok("CLOSE")
	if lines := c.ok("STATUS INBOX (MESSAGES)"); lines[0] != "* STATUS INBOX (MESSAGES 1)" {
		t.Error(lines)
	}
	c.ok("SELECT INBOX")
	c.ok("UNSELECT")
	c.ok("SELECT INBOX")
	if lines := c.ok("CLOSE"); len(lines) != 0 {
		t.Errorf("CLOSE tells %q", lines)
	}
	if lines := c.ok("STATUS INBOX (MESSAGES)"); lines[0] != "* STATUS INBOX (MESSAGES 0)" {
		t.Error(lines)
	}
}

// UIDs and UIDVALIDITY survive a restart.
func TestRestart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "postern.db")
	e := newEnvAt(t, path, nil)
	e.deliver("INBOX", simple("one"))
	e.deliver("INBOX", simple("two"))
	c := e.selected("INBOX")
	c.ok(`STORE 2 +FLAGS (\Deleted)`)
	c.ok("EXPUNGE")
	before := c.ok("STATUS INBOX (UIDVALIDITY UIDNEXT)")[0]
	e.stop()
	if err := e.store.Close(); err != nil {
		t.Fatal(err)
	}
	e = newEnvAt(t, path, nil)
	c = e.login()
	if after := c.ok("STATUS INBOX (UIDVALIDITY UIDNEXT)")[0]; after != before {
		t.Errorf("before %s, after %s", before, after)
	}
	if p := e.deliver("INBOX", simple("three")); p.UID != 3 {
		t.Errorf("UID %d was used before", p.UID)
	}
}

// A mailbox that is deleted under a session ends that session with a BYE.
func TestDeletedUnderSession(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.login().ok("CREATE doomed")
	c, idle := e.selected("doomed"), e.selected("doomed")
	idle.start("IDLE")
	idle.line()
	e.login().ok("DELETE doomed")
	if left := idle.ends(); !strings.HasPrefix(left, "* BYE") {
		t.Errorf("idle: %q", left)
	}
	c.ok("NOOP")
	if left := c.ends(); !strings.HasPrefix(left, "* BYE") {
		t.Errorf("%q", left)
	}
}

// The sessions of an account that is removed end with a BYE: what watches within its
// interval or when woken, all others with their next command, whatever becomes of that.
func TestAccountRemovedUnderSession(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(o *Options) { o.IdleCheck = 20 * time.Millisecond; o.Limits.PerAccount = 100 })
	e.deliver("INBOX", simple("x"))
	inbox := e.mailbox("INBOX")
	idle := map[string]*client{"no mailbox": e.login(), "a mailbox": e.selected("INBOX")}
	for _, c := range idle {
		c.start("IDLE")
		c.line()
	}
	outside, inside := map[string]*client{}, map[string]*client{}
	for _, command := range []string{"NOOP", `LIST "" *`, "STATUS INBOX (MESSAGES)", "SELECT INBOX", "CREATE x", "DELETE Sent",
		"RENAME Sent x", "SUBSCRIBE Sent", "UNSUBSCRIBE Sent", "APPEND Sent {3+}\r\nabc", "IDLE"} {
		outside[command] = e.login()
	}
	for _, command := range []string{"NOOP", "FETCH 1 BODY[]", `STORE 1 +FLAGS (\Seen)`, "COPY 1 Sent", "MOVE 1 Sent", "EXPUNGE",
		"SEARCH ALL", "CLOSE", "UNSELECT", `LIST "" *`, "APPEND Sent {3+}\r\nabc", "SELECT Sent", "IDLE"} {
		inside[command] = e.selected("INBOX")
	}
	if err := e.store.RemoveAccount(t.Context(), e.account.ID); err != nil {
		t.Fatal(err)
	}
	for name, c := range idle {
		if left := c.ends(); !strings.HasPrefix(left, "* BYE Account was removed") {
			t.Errorf("IDLE with %s: %q", name, left)
		}
	}
	// Somebody else gets the address: nothing of theirs is to be seen.
	old := e.account.ID
	e.openAccount()
	if e.account.ID == old || e.mailbox("INBOX").ID == inbox.ID {
		t.Fatal("it is the same account")
	}
	for _, clients := range []map[string]*client{outside, inside} {
		for command, c := range clients {
			c.start("%s", command)
			if left := c.ends(); !strings.Contains(left, "* BYE Account was removed\r\n") {
				t.Errorf("%s: %q", command, left)
			}
		}
	}
	if stored, _ := e.accept.appends(); stored != 0 {
		t.Errorf("%d messages stored", stored)
	}
	e.login().ok("SELECT INBOX")
}

func TestMatchName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "a/b", true}, {"%", "a/b", false}, {"%", "a", true}, {"%/%", "a/b", true}, {"a*", "a", true},
		{"a%b", "a/b", false}, {"a*b", "a/b", true}, {"", "", true}, {"", "a", false}, {"inbox", "INBOX", true},
		{"Inbox/%", "INBOX/x", true}, {"%x", "abx", true}, {"*a*b*", "xaxxbx", true}, {"*a*b*", "xbxxax", false},
		{"ab", "abc", false}, {"abc", "ab", false}, {"inboxes", "INBOXes", false},
	} {
		if got := matchName(c.pattern, c.name); got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.name, got)
		}
	}
}
