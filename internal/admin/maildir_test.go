package admin

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"postern/internal/store"
)

func TestUTF7(t *testing.T) {
	t.Parallel()
	for plain, coded := range map[string]string{
		"Sent": "Sent", "Entwürfe": "Entw&APw-rfe", "R&D": "R&-D", "台北": "&U,BTFw-", "日本語": "&ZeVnLIqe-",
		"a b~!": "a b~!", "😀": "&2D3eAA-", "": "", "&": "&-", "ü&ü": "&APw-&-&APw-", "v1.2": "v1&AC4-2", "Gelöschte Elemente": "Gel&APY-schte Elemente",
	} {
		if got := encodeUTF7(plain); got != coded {
			t.Errorf("%q is encoded %q, want %q", plain, got, coded)
		}
		if got, err := decodeUTF7(coded); got != plain || err != nil {
			t.Errorf("%q is decoded %q, %v", coded, got, err)
		}
	}
	for _, bad := range []string{"&", "&APw", "&A-", "&APw=-", "&!!!!-", "&2D0-", "a\xff"} {
		if got, err := decodeUTF7(bad); err == nil {
			t.Errorf("%q is decoded %q", bad, got)
		}
	}
}

func FuzzUTF7(f *testing.F) {
	f.Add("Entwürfe")
	f.Add("&APw-")
	f.Add("a.b/c")
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := decodeUTF7(s); err == nil && !utf8.ValidString(got) {
			t.Fatalf("%q is decoded %q", s, got)
		}
		if !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError) {
			return
		}
		coded := encodeUTF7(s)
		if got, err := decodeUTF7(coded); got != s || err != nil {
			t.Fatalf("%q is encoded %q and decoded %q, %v", s, coded, got, err)
		}
		if strings.ContainsFunc(coded, func(r rune) bool { return r < ' ' || r > '~' || r == '.' }) {
			t.Fatalf("%q is encoded %q", s, coded)
		}
	})
}

// Every mailbox gets a folder of its own, and comes back from it.
func TestFolders(t *testing.T) {
	t.Parallel()
	for mailbox, want := range map[string]string{
		"INBOX": ".", "Sent": ".Sent", "Lists/go-nuts": ".Lists.go-nuts", "v1.2/x": ".v1&AC4-2.x",
		"INBOX/old": ".INBOX.old", "Entwürfe/R&D": ".Entw&APw-rfe.R&-D", "..": ".&AC4ALg-", "a b": ".a b",
	} {
		got := folder("/m", mailbox)
		if rel, err := filepath.Rel("/m", got); err != nil || rel != want {
			t.Errorf("%q: %q, want %q", mailbox, rel, want)
		}
		if filepath.Dir(got) != "/m" && mailbox != "INBOX" {
			t.Errorf("%q leads out of the Maildir: %s", mailbox, got)
		}
		if mailbox == "INBOX" {
			continue
		}
		if back, err := folderName(filepath.Base(got)); err != nil || back != mailbox {
			t.Errorf("%q came back as %q, %v", mailbox, back, err)
		}
	}
	for folder, want := range map[string]string{
		".Entw&rfe": "Entw&rfe", ".inbox.x": "INBOX/x", ".a&AC8-b": "a&AC8-b", ".Grün": "Grün",
	} {
		if got, err := folderName(folder); got != want || err != nil {
			t.Errorf("%q: %q, %v", folder, got, err)
		}
	}
	for _, bad := range []string{".", "..", ".a..b", ".a\x01", ".&AAo-", ".\xff"} {
		if got, err := folderName(bad); err == nil {
			t.Errorf("%q: %q", bad, got)
		}
	}
}

func TestMaildirFlags(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"1.x.host": nil, "1.x.host:2,": nil, "1.x.host:2,S": {`\Seen`}, "1.x:2,DFPRST": {`\Draft`, `\Flagged`, "$Forwarded", `\Answered`, `\Seen`, `\Deleted`},
		"1.x,S=1234:2,FSab": {`\Flagged`, `\Seen`}, "1.x:1,S": nil,
	} {
		if got := maildirFlags(name); !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	for want, got := range map[string]string{
		"":       maildirLetters(0, ""),
		"DFRST":  maildirLetters(store.Draft|store.Flagged|store.Answered|store.Seen|store.Deleted, "other"),
		"P":      maildirLetters(0, "$Junk $forwarded"),
		"FPS":    maildirLetters(store.Seen|store.Flagged, "$Forwarded"),
		"S":      maildirLetters(store.Seen, "$ForwardedNot"),
		"DFPRST": maildirLetters(31, "$Forwarded"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// seen is what a walk visits: mailbox, file and flags.
func seen(t *testing.T, dir, mailbox string) ([]string, error) {
	t.Helper()
	var all []string
	err := walkMaildir(dir, mailbox, func(m old) error {
		r, err := m.open()
		if err != nil {
			return err
		}
		defer r.Close()
		all = append(all, m.mailbox+" "+filepath.Base(m.where)+" "+strings.Join(m.flags, " "))
		return nil
	})
	return all, err
}

func TestWalkMaildir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{
		"cur/2.b:2,S", "cur/1.a:2,", "new/3.c", "tmp/4.d", "cur/.hidden", "dovecot-uidlist",
		".Sent/cur/5.e:2,FS", ".Lists.go/new/6.f", ".Entw&APw-rfe/cur/7.g:2,D",
	} {
		write(t, filepath.Join(dir, name), "A: b\n\n")
	}
	if err := os.Mkdir(filepath.Join(dir, "cur", "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "cur", "8.link")); err != nil {
		t.Fatal(err)
	}
	got, err := seen(t, dir, "")
	want := []string{"INBOX 1.a:2, ", `INBOX 2.b:2,S \Seen`, "INBOX 3.c ", `Entwürfe 7.g:2,D \Draft`, "Lists/go 6.f ", `Sent 5.e:2,FS \Flagged \Seen`}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	got, err = seen(t, dir, "Old")
	want = []string{"Old 1.a:2, ", `Old 2.b:2,S \Seen`, "Old 3.c ", `Old/Entwürfe 7.g:2,D \Draft`, "Old/Lists/go 6.f ", `Old/Sent 5.e:2,FS \Flagged \Seen`}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := seen(t, t.TempDir(), ""); err == nil {
		t.Error("an empty directory was taken for a Maildir")
	}
	write(t, filepath.Join(dir, ".a..b", "cur", "9"), "")
	if _, err := seen(t, dir, ""); err == nil || !strings.Contains(err.Error(), ".a..b") {
		t.Errorf("a folder that can be no mailbox: %v", err)
	}
}
