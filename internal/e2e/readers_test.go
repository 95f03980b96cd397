package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"postern/internal/testkit"
)

func TestCurlReads(t *testing.T) {
	t.Parallel()
	curl := testkit.Parts(t, "curl")["curl"]
	g := newGateway(t, options{})
	want := text("for curl", "to be read")
	g.deliver(want, text("another", "one"))
	p := g.ownerGnuPG(t)
	run := func(t *testing.T, url string, args ...string) []byte {
		t.Helper()
		return mustTool(t, nil, curl, append([]string{"--silent", "--show-error", "--cacert", g.tlsCert(), "--user", owner + ":" + g.password, "--url", url}, args...)...)
	}
	imaps := "imaps://" + g.at(993) + "/"
	stored := g.mailbox(t, "INBOX")

	t.Run("fetch", func(t *testing.T) {
		for _, url := range []string{imaps + "INBOX;UID=1", imaps + "INBOX;MAILINDEX=1"} {
			raw := run(t, url)
			same(t, url, raw, stored[0].raw)
			same(t, url+" opened", p.restored(raw)[0], want)
		}
		header := run(t, imaps+"INBOX;UID=1;SECTION=HEADER.FIELDS%20(FROM%20SUBJECT)")
		same(t, "HEADER.FIELDS", header, []byte("From: Bob <bob@example.net>\r\nSubject: [...]\r\n\r\n"))
	})
	t.Run("STARTTLS", func(t *testing.T) {
		raw := run(t, "imap://"+g.at(143)+"/INBOX;UID=1", "--ssl-reqd")
		same(t, "message", raw, stored[0].raw)
	})
	t.Run("no password in clear", func(t *testing.T) {
		out, _, err := tool(t, nil, curl, "--silent", "--user", owner+":"+g.password, "--url", "imap://"+g.at(143)+"/INBOX;UID=1")
		if err == nil || len(out) > 0 {
			t.Errorf("read without TLS: %q", out)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		out, _, err := tool(t, nil, curl, "--silent", "--cacert", g.tlsCert(), "--user", owner+":wrong", "--url", imaps+"INBOX;UID=1")
		if err == nil || len(out) > 0 {
			t.Errorf("read with a wrong password: %q", out)
		}
	})
	t.Run("AUTHENTICATE PLAIN", func(t *testing.T) {
		same(t, "message", run(t, imaps+"INBOX;UID=1", "--login-options", "AUTH=PLAIN"), stored[0].raw)
	})
	t.Run("search", func(t *testing.T) { // the first has been read
		for query, want := range map[string]string{
			"HEADER%20Message-ID%20" + fmt.Sprintf("%x", "for curl"): "* SEARCH 1\r\n",
			"FROM%20bob": "* SEARCH 1 2\r\n", "FROM%20eve": "* SEARCH\r\n", "UNSEEN": "* SEARCH 2\r\n", "SUBJECT%20curl": "* SEARCH\r\n",
		} {
			if got := run(t, imaps+"INBOX?"+query); string(got) != want {
				t.Errorf("%s: %q", query, got)
			}
		}
	})
	t.Run("append", func(t *testing.T) {
		run(t, imaps, "--request", "CREATE Uploaded")
		sent := text("by curl", "uploaded in clear")
		run(t, imaps+"Uploaded", "--upload-file", writeFile(t, "message", sent))
		same(t, "uploaded", p.restored(g.only(t, "Uploaded").raw)[0], sent)
	})
	t.Run("list", func(t *testing.T) {
		got := strings.ReplaceAll(string(run(t, imaps)), `"`, "")
		for _, use := range []string{`\Sent) / Sent`, `\Drafts) / Drafts`, `\Trash) / Trash`, `\Junk) / Junk`, `\Archive) / Archive`} {
			if !strings.Contains(got, use) {
				t.Errorf("no %s in\n%s", use, got)
			}
		}
	})
}

// mbsync synchronizes in both directions: mail, flags and removals.
func TestMbsync(t *testing.T) {
	t.Parallel()
	mbsync := testkit.Parts(t, "mbsync")["mbsync"]
	g := newGateway(t, options{})
	p := g.ownerGnuPG(t)
	for i := range 20 {
		g.deliver(text(fmt.Sprint("number ", i), "to be pulled"))
	}
	g.deliver(largeCanaryMail(1, 2<<20))
	dir := t.TempDir()
	rc := writeFile(t, "mbsyncrc", fmt.Appendf(nil, `IMAPAccount a
Host 127.0.0.1
Port %d
User %s
Pass %s
SSLType IMAPS
CertificateFile %s

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
`, g.base+993, owner, g.password, g.tlsCert(), dir, dir))
	sync := func() { t.Helper(); mustTool(t, nil, mbsync, "--quiet", "--config", rc, "c") }
	local := func(box string) []string {
		var all []string
		for _, sub := range []string{"new", "cur"} {
			files, _ := filepath.Glob(filepath.Join(dir, box, sub, "*"))
			all = append(all, files...)
		}
		slices.Sort(all)
		return all
	}

	sync()
	stored := g.mailbox(t, "INBOX")
	files := local("INBOX")
	if len(files) != 21 || len(stored) != 21 {
		t.Fatalf("pulled %d of %d", len(files), len(stored))
	}
	pulled := map[string]bool{}
	for _, f := range files {
		pulled[string(withoutTUID(bytes.ReplaceAll(readFile(t, f), []byte("\n"), []byte("\r\n"))))] = true
	}
	for _, m := range stored {
		if !pulled[string(m.raw)] {
			t.Errorf("UID %d was not pulled as it is", m.uid)
		}
	}
	for _, box := range []string{"Sent", "Drafts", "Junk", "Trash", "Archive"} {
		if _, err := os.Stat(filepath.Join(dir, box, "cur")); err != nil {
			t.Errorf("%s was not pulled: %v", box, err)
		}
	}

	// Push: new mail in two mailboxes (one of them new), a flag, a removal.
	draft := text("pushed by mbsync", "in clear on the device")
	put := func(box, name string) {
		for _, sub := range []string{"new", "cur", "tmp"} {
			if err := os.MkdirAll(filepath.Join(dir, box, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, box, "cur", name), bytes.ReplaceAll(draft, []byte("\r\n"), []byte("\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("Drafts", "1.1.host:2,DS")
	put("Private", "2.2.host:2,F")
	base := func(f string) string { name, _, _ := strings.Cut(filepath.Base(f), ":2,"); return name }
	if err := os.Rename(files[0], filepath.Join(dir, "INBOX", "cur", base(files[0])+":2,RS")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(files[1]); err != nil {
		t.Fatal(err)
	}
	uids := []imap.UID{uidInName(t, files[0]), uidInName(t, files[1])}
	sync()
	for box, flags := range map[string][]imap.Flag{"Drafts": {imap.FlagDraft, imap.FlagSeen}, "Private": {imap.FlagFlagged}} {
		m := g.only(t, box)
		if !sameFlags(m.flags, flags) {
			t.Errorf("%s has flags %v, not %v", box, m.flags, flags)
		}
		same(t, "pushed into "+box, withoutTUID(p.restored(m.raw)[0]), draft)
	}
	stored = g.mailbox(t, "INBOX")
	for _, m := range stored {
		if m.uid == uids[0] && !sameFlags(m.flags, []imap.Flag{imap.FlagAnswered, imap.FlagSeen}) {
			t.Errorf("flags %v were pushed", m.flags)
		}
		if m.uid == uids[1] {
			t.Error("a removal was not pushed")
		}
	}
	if len(stored) != 20 {
		t.Errorf("%d messages in the INBOX", len(stored))
	}

	// Pull: a flag and a removal by another client.
	c := g.imap(t)
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Store(imap.UIDSetNum(stored[5].uid), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Move(imap.UIDSetNum(stored[6].uid), "Archive").Wait(); err != nil {
		t.Fatal(err)
	}
	sync()
	files = local("INBOX")
	flagged := 0
	for _, f := range files {
		if strings.Contains(filepath.Base(f), ":2,F") {
			flagged++
		}
	}
	if len(files) != 19 || flagged != 1 || len(local("Archive")) != 1 {
		t.Errorf("pulled: %d files, %d flagged, %d in the archive", len(files), flagged, len(local("Archive")))
	}
}

// withoutTUID takes the field out by which mbsync finds what it has copied.
func withoutTUID(message []byte) (kept []byte) {
	for line := range bytes.Lines(message) {
		if !bytes.HasPrefix(line, []byte("X-TUID: ")) {
			kept = append(kept, line...)
		}
	}
	return kept
}

// uidInName reads the UID that mbsync notes in a file's name.
func uidInName(t *testing.T, file string) imap.UID {
	t.Helper()
	_, rest, ok := strings.Cut(filepath.Base(file), ",U=")
	var uid imap.UID
	if _, err := fmt.Sscan(strings.SplitN(strings.SplitN(rest, ":", 2)[0], ",", 2)[0], &uid); err != nil || !ok {
		t.Fatalf("no UID in the name %s", file)
	}
	return uid
}

func sameFlags(a, b []imap.Flag) bool {
	fold := func(flags []imap.Flag) []string {
		var s []string
		for _, f := range flags {
			s = append(s, strings.ToLower(string(f)))
		}
		slices.Sort(s)
		return s
	}
	return slices.Equal(fold(a), fold(b))
}
