package admin

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/store"
)

// mailOf is a small message, with CRLF line endings.
func mailOf(subject string) string {
	return "From: bob@there.test\r\nTo: alice@here.test\r\nSubject: " + subject + "\r\n\r\nhello\r\n"
}

func lf(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }

func TestImportMbox(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	path := write(t, filepath.Join(t.TempDir(), "old.mbox"), from+lf(mailOf("one"))+"\n"+from+lf(mailOf("two"))+">From the start\n\n")
	dry, err := f.Import(t.Context(), ImportOptions{Address: owner, Path: path, DryRun: true})
	if err != nil || dry.Imported != 2 || !dry.DryRun || dry.Held != 0 || len(f.mailbox("INBOX")) != 0 {
		t.Fatalf("%+v, %v", dry, err)
	}
	if out := text(t, dry); !strings.Contains(out, "Would import 2 messages") || !strings.Contains(out, "INBOX  2") {
		t.Error(out)
	}
	r, err := f.Import(t.Context(), ImportOptions{Address: owner, Path: path})
	if err != nil || r.Imported != 2 || r.Octets != dry.Octets || r.ByBox["INBOX"] != 2 || len(r.Failed) != 0 || r.Held != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	got := f.mailbox("INBOX")
	if len(got) != 2 || got[0].original != mailOf("one") || got[1].original != mailOf("two")+"From the start\r\n" {
		t.Fatalf("%+v", got)
	}
	if at := time.UnixMicro(got[0].InternalDate).UTC(); !at.Equal(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)) || got[0].Flags != 0 {
		t.Errorf("%v, flags %v", at, got[0].Flags)
	}
	into, err := f.Import(t.Context(), ImportOptions{Address: "ALICE@here.test", Path: path, Mailbox: "Old/2026"})
	if err != nil || into.ByBox["Old/2026"] != 2 || len(f.mailbox("Old/2026")) != 2 {
		t.Errorf("%+v, %v", into, err)
	}
}

func TestImportMaildir(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	dir := filepath.Join(t.TempDir(), "Maildir")
	date := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, subject := range map[string]string{"cur/1.a:2,FS": "one", "new/2.b": "two", ".Entw&APw-rfe/cur/3.c:2,DP": "three"} {
		path := write(t, filepath.Join(dir, name), lf(mailOf(subject)))
		if err := os.Chtimes(path, date, date); err != nil {
			t.Fatal(err)
		}
	}
	r, err := f.Import(t.Context(), ImportOptions{Address: owner, Path: dir})
	if err != nil || r.Imported != 3 || r.ByBox["INBOX"] != 2 || r.ByBox["Entwürfe"] != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	inbox, drafts := f.mailbox("INBOX"), f.mailbox("Entwürfe")
	if len(inbox) != 2 || inbox[0].original != mailOf("one") || inbox[0].Flags != store.Flagged|store.Seen || inbox[1].Flags != 0 {
		t.Errorf("%+v", inbox)
	}
	if len(drafts) != 1 || drafts[0].original != mailOf("three") || drafts[0].Flags != store.Draft || drafts[0].Keywords != "$Forwarded" || drafts[0].InternalDate != date.UnixMicro() {
		t.Errorf("%+v", drafts)
	}
}

// A message that is refused is named, and keeps no other out.
func TestImportGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	f.configure("max_message_size", `"64KiB"`)
	huge := lf(mailOf("huge")) + strings.Repeat(strings.Repeat("x", 70)+"\n", 2000)
	path := write(t, filepath.Join(t.TempDir(), "mbox"), from+lf(mailOf("one"))+"\n"+from+huge+"\n"+from+lf(mailOf("three"))+"\n")
	r, err := f.Import(t.Context(), ImportOptions{Address: owner, Path: path})
	if err == nil || r.Imported != 2 || len(r.Failed) != 1 || !strings.Contains(r.Failed[0], "message 2") || !strings.Contains(r.Failed[0], "larger") {
		t.Fatalf("%+v, %v", r, err)
	}
	if got := f.mailbox("INBOX"); len(got) != 2 || got[1].original != mailOf("three") {
		t.Errorf("%d messages", len(got))
	}
	if out := text(t, r); !strings.Contains(out, "Not imported: "+path+": message 2") {
		t.Error(out)
	}
}

// A full mailbox ends the import: what follows would fare no better.
func TestImportOverQuota(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	account, err := f.account(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.g.Store.SetQuota(t.Context(), account.ID, 5000); err != nil {
		t.Fatal(err)
	}
	path := write(t, filepath.Join(t.TempDir(), "mbox"), strings.Repeat(from+lf(mailOf("x"))+"\n", 20))
	r, err := f.Import(t.Context(), ImportOptions{Address: owner, Path: path})
	if err == nil || !strings.Contains(err.Error(), "full") || r.Imported == 0 || r.Imported == 20 || len(r.Failed) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestImportWithoutCertificateIsHeld(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	path := write(t, filepath.Join(t.TempDir(), "mbox"), from+lf(mailOf("one"))+"\n")
	r, err := f.Import(t.Context(), ImportOptions{Address: owner, Path: path, Mailbox: "Archive"})
	if err != nil || r.Imported != 1 || r.Held != 1 || !strings.Contains(text(t, r), "postern cert import") {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := f.ImportCertificates(t.Context(), owner, f.key.Certificate().Armor()); err != nil {
		t.Fatal(err)
	}
	if got := f.mailbox("Archive"); len(got) != 1 || got[0].original != mailOf("one") {
		t.Errorf("%+v", got)
	}
}

func TestImportRefusals(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	dir := t.TempDir()
	neither := write(t, filepath.Join(dir, "neither"), "Dear diary\n")
	empty := write(t, filepath.Join(dir, "empty"), "")
	mbox := write(t, filepath.Join(dir, "mbox"), from+lf(mailOf("one"))+"\n")
	for name, row := range map[string]struct {
		o     ImportOptions
		usage bool
		text  string
	}{
		"neither":      {ImportOptions{Address: owner, Path: neither}, false, "neither a Maildir nor an mbox"},
		"no Maildir":   {ImportOptions{Address: owner, Path: dir}, false, "not a Maildir"},
		"nothing":      {ImportOptions{Address: owner, Path: filepath.Join(dir, "nothing")}, false, "no such file"},
		"no account":   {ImportOptions{Address: "bob@here.test", Path: mbox}, false, "no account"},
		"no address":   {ImportOptions{Address: "bob", Path: mbox}, true, "bob"},
		"bad mailbox":  {ImportOptions{Address: owner, Path: mbox, Mailbox: "a//b"}, true, "--mailbox"},
		"dry, neither": {ImportOptions{Address: owner, Path: neither, DryRun: true}, false, "neither"},
	} {
		r, err := f.Import(t.Context(), row.o)
		if err == nil || errors.Is(err, ErrUsage) != row.usage || !strings.Contains(err.Error(), row.text) || r != nil && r.Imported != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if r, err := f.Import(t.Context(), ImportOptions{Address: owner, Path: empty}); err != nil || r.Imported != 0 {
		t.Errorf("an mbox of 0 octets: %+v, %v", r, err)
	}
	if n := len(f.mailbox("INBOX")); n != 0 {
		t.Errorf("%d messages", n)
	}
}

// What is exported and imported into another account's gateway is the same mail.
func TestExportImportRoundTrip(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	path := write(t, filepath.Join(t.TempDir(), "mbox"), from+lf(mailOf("one"))+"\n"+from+lf(mailOf("two"))+"\n")
	for _, mailbox := range []string{"", "Entwürfe/v1.2", "Archive"} {
		if _, err := f.Import(t.Context(), ImportOptions{Address: owner, Path: path, Mailbox: mailbox}); err != nil {
			t.Fatal(err)
		}
	}
	box, err := f.g.Store.MailboxByName(t.Context(), mustAccount(t, f), "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.g.Store.SetFlags(t.Context(), box.ID, []store.Range{{Lo: 1, Hi: 1}}, store.FlagsAdd, store.Seen|store.Answered, []string{"$Forwarded"}, 0); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	r, err := f.Export(t.Context(), owner, dir)
	if err != nil || r.Exported != 6 || r.Held != 0 || len(r.Failed) != 0 || r.ByBox["Entwürfe/v1.2"] != 2 || !strings.Contains(text(t, r), "Exported 6 messages") {
		t.Fatalf("%+v, %v", r, err)
	}
	for name, body := range files(t, dir) {
		if strings.Contains(body, "hello") {
			t.Errorf("%s is not sealed", name)
		}
	}
	if _, err := f.Export(t.Context(), owner, dir); !errors.Is(err, os.ErrExist) {
		t.Errorf("exported over another export: %v", err)
	}

	other := newFixture(t, true)
	other.key = f.key
	back, err := other.Import(t.Context(), ImportOptions{Address: owner, Path: dir})
	if err != nil || back.Imported != 6 {
		t.Fatalf("%+v, %v", back, err)
	}
	for _, mailbox := range []string{"INBOX", "Entwürfe/v1.2", "Archive"} {
		before, after := f.mailbox(mailbox), other.mailbox(mailbox)
		if len(before) != len(after) {
			t.Fatalf("%s: %d messages became %d", mailbox, len(before), len(after))
		}
		for i := range before {
			a, b := before[i], after[i]
			if a.Flags != b.Flags || a.Keywords != b.Keywords || a.InternalDate != b.InternalDate {
				t.Errorf("%s: %+v became %+v", mailbox, a.Entry, b.Entry)
			}
			// It was sealed and is passed on as it is, so the key opens it.
			if got := openSealed(t, []byte(b.original), f.key); got != a.original {
				t.Errorf("%s: %q became %q", mailbox, a.original, got)
			}
		}
	}
}

func mustAccount(t *testing.T, f *fixture) store.ID {
	t.Helper()
	a, err := f.account(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	return a.ID
}

// What is damaged is named, and the rest is exported all the same.
func TestExportOfADamagedStore(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	f.deliver(mailOf("one"))
	f.deliver(mailOf("two") + strings.Repeat("long enough for a file of its own\r\n", 60_000))
	damage(t, f)
	r, err := f.Export(t.Context(), owner, filepath.Join(t.TempDir(), "out"))
	if err == nil || r.Exported != 1 || !slices.ContainsFunc(r.Failed, func(s string) bool { return strings.HasPrefix(s, "INBOX, UID 2: ") }) {
		t.Errorf("%+v, %v", r, err)
	}
}

// damage changes an octet of the largest blob and returns its file.
func damage(t *testing.T, f *fixture) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(f.g.Config.DataDir, "blobs", "files", "*", "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(found[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	return found[0]
}
