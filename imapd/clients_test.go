package imapd

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Real clients against the server. A program that is not installed skips its test,
// unless POSTERN_REQUIRE_PARTS=1 says that all must be there.

func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("POSTERN_REQUIRE_PARTS") == "1" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

func execute(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "TZ=Asia/Kathmandu")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// authority writes the server's certificate to a file.
func (e *env) authority(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	der := e.server.o.TLS.Certificates[0].Certificate[0]
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

func TestCurl(t *testing.T) {
	t.Parallel()
	curl := program(t, "curl")
	e := newEnv(t, nil)
	e.deliver("INBOX", simple("one"))
	e.deliver("INBOX", nested)
	ca := e.authority(t)
	base := []string{"-sS", "--cacert", ca, "-u", testLogin + ":" + testPassword}
	do := func(path string, args ...string) string {
		t.Helper()
		url := "imaps://localhost:" + port(e.secure) + "/" + path
		return execute(t, "", curl, append(append(append([]string{}, base...), args...), url)...)
	}
	if got := do("INBOX;UID=1"); got != simple("one") {
		t.Errorf("message: %q", got)
	}
	if got := do("INBOX;UID=2;SECTION=1"); got != "Gr=C3=BC=C3=9Fe\r\nzwei" {
		t.Errorf("section: %q", got)
	}
	if got := do("INBOX?SUBJECT%20one"); !strings.Contains(got, "* SEARCH 1") {
		t.Errorf("search: %q", got)
	}
	if got := do("", "-X", "CREATE fromcurl"); got != "" {
		t.Errorf("create: %q", got)
	}
	if got := do(""); !strings.Contains(got, "fromcurl") {
		t.Errorf("list: %q", got)
	}
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, []byte(simple("uploaded")), 0o600); err != nil {
		t.Fatal(err)
	}
	do("fromcurl", "-T", file)
	if got := do("fromcurl;UID=1"); got != simple("uploaded") {
		t.Errorf("uploaded: %q", got)
	}
	// The same by STARTTLS.
	got := execute(t, "", curl, append(base, "--ssl-reqd",
		"imap://localhost:"+port(e.clear)+"/INBOX;UID=1")...)
	if got != simple("one") {
		t.Errorf("STARTTLS: %q", got)
	}
}

func TestMbsync(t *testing.T) {
	t.Parallel()
	mbsync := program(t, "mbsync")
	e := newEnv(t, nil)
	for i := range 30 {
		e.deliver("INBOX", simple(fmt.Sprint("message-", i)))
	}
	e.deliver("INBOX", nested)
	dir := t.TempDir()
	rc := fmt.Sprintf(`IMAPAccount a
Host localhost
Port %s
User %s
Pass %s
SSLType IMAPS
CertificateFile %s
AuthMechs PLAIN

IMAPStore far
Account a

MaildirStore near
Path %s/
Inbox %s/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
Sync All
SyncState *
`, port(e.secure), testLogin, testPassword, e.authority(t), dir, dir)
	config := filepath.Join(dir, "rc")
	if err := os.WriteFile(config, []byte(rc), 0o600); err != nil {
		t.Fatal(err)
	}
	sync := func() { t.Helper(); execute(t, "", mbsync, "-c", config, "c") }
	sync()
	files, _ := filepath.Glob(filepath.Join(dir, "INBOX", "*", "*"))
	if len(files) != 31 {
		t.Fatalf("%d files of 31", len(files))
	}
	if same(t, files, nested) != 1 || same(t, files, simple("message-7")) != 1 {
		t.Error("messages came over changed")
	}
	// Upwards: one flag, one deletion, one new message, one new folder.
	if err := os.Remove(find(t, files, simple("message-3"))); err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(f string) bool { _, err := os.Stat(f); return err != nil })
	flagged := find(t, files, simple("message-4"))
	base := filepath.Base(strings.SplitN(flagged, ":2,", 2)[0])
	if err := os.Rename(flagged, filepath.Join(dir, "INBOX", "cur", base+":2,F")); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"INBOX/new", "local/cur", "local/new", "local/tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	unix := strings.ReplaceAll(simple("pushed"), "\r\n", "\n")
	if err := os.WriteFile(filepath.Join(dir, "INBOX", "new", "1.1.here"), []byte(unix), 0o600); err != nil {
		t.Fatal(err)
	}
	sync()
	c := e.selected("INBOX")
	if got := c.ok("SEARCH FLAGGED"); got[0] == "* SEARCH" {
		t.Error("flag did not arrive")
	}
	if got := c.ok("SEARCH SUBJECT message-3"); strings.Contains(got[0], " 4") && got[0] == "* SEARCH 4" {
		t.Errorf("deletion did not arrive: %q", got)
	}
	if m := e.mailbox("INBOX"); m.Messages != 31 || m.Deleted != 0 {
		t.Errorf("%+v", m)
	}
	if got := c.ok("FETCH * BODY.PEEK[TEXT]"); !strings.Contains(got[0], "body of pushed") {
		t.Errorf("%q", got)
	}
	e.mailbox("local")
}

// content reads a Maildir file without what mbsync adds, with CRLF.
func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.SplitSeq(string(b), "\n") {
		if !strings.HasPrefix(line, "X-TUID:") {
			out = append(out, line)
		}
	}
	return strings.ReplaceAll(strings.Join(out, "\n"), "\n", "\r\n")
}

func same(t *testing.T, files []string, want string) int {
	n := 0
	for _, f := range files {
		if content(t, f) == want {
			n++
		}
	}
	return n
}

func find(t *testing.T, files []string, want string) string {
	t.Helper()
	for _, f := range files {
		if content(t, f) == want {
			return f
		}
	}
	t.Fatal("no such file")
	return ""
}

const imaplibScript = `
import imaplib, ssl, sys, time
port, clear, ca, login, password = sys.argv[1:6]
ctx = ssl.create_default_context(cafile=ca)
m = imaplib.IMAP4_SSL("localhost", int(port), ssl_context=ctx)
print(m.login(login, password))
print(m.select("INBOX"))
typ, data = m.search(None, "SUBJECT", '"one"')
assert data[0] == b"1", data
typ, data = m.fetch("1", "(FLAGS RFC822)")
assert data[0][1].startswith(b"From: Bob"), data
typ, data = m.append("Sent", r"(\Seen)", imaplib.Time2Internaldate(time.time()), b"Subject: from python\nX: y\n\nline\n")
assert typ == "OK", data
typ, data = m.store("1", "+FLAGS", r"(\Deleted)")
assert b"Deleted" in data[0], data
assert m.expunge()[0] == "OK"
assert m.uid("SEARCH", None, "ALL")[1] == [b"2"], m.uid("SEARCH", None, "ALL")
assert m.create('"with space"')[0] == "OK"
assert b'"with space"' in b" ".join(m.list()[1])
assert m.namespace()[0] == "OK"
assert m.status("Sent", "(MESSAGES UIDNEXT)")[1] == [b'"Sent" (MESSAGES 1 UIDNEXT 2)'], m.status("Sent", "(MESSAGES UIDNEXT)")
assert m.noop()[0] == "OK" and m.check()[0] == "OK" and m.close()[0] == "OK"
assert m.logout()[0] == "BYE"
m = imaplib.IMAP4("localhost", int(clear))
assert m.starttls(ctx)[0] == "OK"
m.authenticate("PLAIN", lambda _: ("\0" + login + "\0" + password).encode())
assert m.select("INBOX", readonly=True)[0] == "OK"
m.logout()
print("all good")
`

func TestImaplib(t *testing.T) {
	t.Parallel()
	python := program(t, "python3")
	e := newEnv(t, nil)
	e.deliver("INBOX", simple("one"))
	e.deliver("INBOX", simple("two"))
	out := execute(t, "", python, "-c", imaplibScript, port(e.secure), port(e.clear), e.authority(t), testLogin, testPassword)
	if !strings.Contains(out, "all good") {
		t.Error(out)
	}
}

// What mutt asks when it opens a mailbox, and that it shows it.
func TestMutt(t *testing.T) {
	t.Parallel()
	mutt := program(t, "mutt")
	program(t, "script") // gives mutt a terminal
	e := newEnv(t, nil)
	e.deliver("INBOX", simple("one"))
	dir := t.TempDir()
	rc := fmt.Sprintf("set imap_user=%s imap_pass=%s ssl_force_tls=yes ssl_starttls=yes certificate_file=%s ssl_ca_certificates_file=%s\n"+
		"set folder=imaps://localhost:%s/ spoolfile=imaps://localhost:%s/INBOX copy=no confirmappend=no delete=yes quit=yes sort=date sleep_time=0\n"+
		"push '<tag-pattern>~A<enter><tag-prefix><copy-message>=Trash<enter><quit>'\n",
		testLogin, testPassword, e.authority(t), e.authority(t), port(e.secure), port(e.secure))
	config := filepath.Join(dir, "muttrc")
	if err := os.WriteFile(config, []byte(rc), 0o600); err != nil {
		t.Fatal(err)
	}
	execute(t, "", "script", "-qec", fmt.Sprintf("TERM=xterm %s -n -F %s", mutt, config), "/dev/null")
	if m := e.mailbox("Trash"); m.Messages != 1 {
		t.Errorf("mutt copied %d messages", m.Messages)
	}
}
