package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"postern/internal/testkit"
)

// terminal is a program in a terminal that nobody looks at but the test.
type terminal struct {
	t    testing.TB
	tmux []string
}

// newTerminal runs a command in a terminal.
func newTerminal(t testing.TB, env []string, command string) *terminal {
	t.Helper()
	tmux := testkit.Parts(t, "tmux")["tmux"]
	dir, err := os.MkdirTemp("", "tmux") // not t.TempDir: the socket must have a short name
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, tmux: []string{tmux, "-S", filepath.Join(dir, "s"), "-f", "/dev/null"}}
	cmd := exec.Command(tmux, append(term.tmux[1:], "new-session", "-d", "-x", "140", "-y", "50", command)...)
	cmd.Env = append(append(os.Environ(), "TERM=screen-256color"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v: %s", err, out)
	}
	t.Cleanup(func() {
		_, _, _ = tool(t, nil, tmux, append(term.tmux[1:], "kill-server")...) // it has ended already if all went well
		os.RemoveAll(dir)
	})
	return term
}

func (term *terminal) keys(keys ...string) {
	term.t.Helper()
	mustTool(term.t, nil, term.tmux[0], append(append(term.tmux[1:], "send-keys"), keys...)...)
}

func (term *terminal) screen() string {
	out, _, err := tool(term.t, nil, term.tmux[0], append(term.tmux[1:], "capture-pane", "-p")...)
	if err != nil {
		return "" // the program has ended
	}
	return string(out)
}

// wait waits until the screen shows all the words, and returns it.
func (term *terminal) wait(words ...string) string {
	term.t.Helper()
	var screen string
	if !soon(patience, func() bool {
		screen = term.screen()
		for _, w := range words {
			if !strings.Contains(screen, w) {
				return false
			}
		}
		return true
	}) {
		term.t.Fatalf("the screen does not show %q:\n%s", words, screen)
	}
	return screen
}

// Mutt lists sealed mail, opens it with the owner's key in GnuPG and shows its real
// subject; flags and removals come back.
func TestMutt(t *testing.T) {
	t.Parallel()
	mutt := testkit.Parts(t, "mutt")["mutt"]
	g := newGateway(t, options{})
	p := g.ownerGnuPG(t)
	g.deliver(
		text("the real subject of the first", "the secret text of the first"),
		text("the real subject of the second", "the secret text of the second"),
		[]byte("From: bob@example.net\r\nTo: alice@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMIME-Version: 1.0\r\n"+
			"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nthe text of the third\r\n"+
			"--m\r\nContent-Type: text/x-note; name=note.txt\r\nContent-Disposition: attachment; filename=note.txt\r\n\r\nattached\r\n--m--\r\n"),
	)
	home := t.TempDir()
	rc := writeFile(t, "muttrc", fmt.Appendf(nil, `set folder=imaps://%s@127.0.0.1:%d/ spoolfile=+INBOX record="" postponed=""
set imap_pass=%s ssl_force_tls=yes ssl_verify_host=yes certificate_file=%s
set crypt_use_gpgme=yes quit=yes delete=yes wait_key=no mark_old=no sleep_time=0 mail_check=0 timeout=1 confirmappend=no
set index_format="%%Z|%%f|%%s" move=no
`, strings.Replace(owner, "@", "%40", 1), g.base+993, g.password, g.tlsCert()))
	env := []string{"HOME=" + home, "GNUPGHOME=" + p.home}
	term := newTerminal(t, env, fmt.Sprintf("%s -n -F %s", mutt, rc))

	list := term.wait("bob@example.net", "[...]")
	if strings.Contains(list, "real subject") {
		t.Errorf("the list knows a subject:\n%s", list)
	}
	term.keys("=", "Enter")
	term.wait("Subject: the real subject of the first", "the secret text of the first")
	term.keys("i", "3", "Enter", "Enter")
	term.wait("Subject: Grüße", "the text of the third", "note.txt")
	term.keys("i", "2", "Enter", "d", "$")
	eventually(t, "mutt has removed the second", func() bool { return g.count(t, "INBOX") == 2 })
	term.keys("q")
	eventually(t, "mutt has ended", func() bool { return term.screen() == "" })
	all := g.mailbox(t, "INBOX")
	for _, m := range all {
		if !sameFlags(m.flags, []imap.Flag{imap.FlagSeen}) || m.uid == 2 {
			t.Errorf("UID %d has flags %v", m.uid, m.flags)
		}
	}
}
