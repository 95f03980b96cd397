package store

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func join(names []string) string { return strings.Join(names, " ") }

func names(t testing.TB, s *Store, a Account) string {
	t.Helper()
	boxes, err := s.Mailboxes(context.Background(), a.ID)
	noError(t, err)
	var all []string
	for _, b := range boxes {
		all = append(all, b.Name)
	}
	return join(all)
}

func TestCanonicalName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"INBOX": "INBOX", "inbox": "INBOX", "InBoX/a": "INBOX/a", "Inboxes": "Inboxes", "a/inbox": "a/inbox",
		"a/": "a", "Entwürfe": "Entwürfe", "a b": "a b", strings.Repeat("x", 255): strings.Repeat("x", 255),
		strings.Repeat("a/", 15) + "a": strings.Repeat("a/", 15) + "a", "INBOX/": "INBOX", "ﬁ": "ﬁ",
		"": "", "/": "", "/a": "", "a//b": "", "a//": "", "a\x00b": "", "a\r\n": "", "\x7f": "", "\u0085": "",
		"a\u2028": "", "\xff": "", "\ufffd": "", strings.Repeat("x", 256): "", strings.Repeat("a/", 16) + "a": "",
	} {
		got, err := CanonicalName(in)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrName) {
			t.Errorf("CanonicalName(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzCanonicalName(f *testing.F) {
	for _, seed := range []string{"inbox/a", "a//b", "x/", "\xff", "ä/ö"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got, err := CanonicalName(name)
		if err != nil {
			return
		}
		again, err := CanonicalName(got)
		if err != nil || again != got {
			t.Errorf("%q becomes %q, then %q, %v", name, got, again, err)
		}
		for _, above := range parents(got) {
			if _, err := CanonicalName(above); err != nil || !under(got, above) {
				t.Errorf("parent %q of %q: %v", above, got, err)
			}
		}
	})
}

func testMailbox(t *testing.T, s *Store) {
	ctx := context.Background()
	a, b := newAccount(t, s, "alice@example.org"), newAccount(t, s, "bob@example.org")
	m, err := s.CreateMailbox(ctx, a.ID, NewMailbox{"x/y/z/", `\Archive`})
	noError(t, err)
	if m.Name != "x/y/z" || m.SpecialUse != `\Archive` || m.Subscribed {
		t.Errorf("made %+v", m)
	}
	if got := names(t, s, a); got != "INBOX x x/y x/y/z" {
		t.Errorf("mailboxes %s", got)
	}
	got, err := s.Mailbox(ctx, m.ID)
	noError(t, err)
	if got != m {
		t.Errorf("read %+v, made %+v", got, m)
	}
	for name, want := range map[string]error{"x/y": ErrExists, "Inbox": ErrExists, "a//b": ErrName} {
		_, err := s.CreateMailbox(ctx, a.ID, NewMailbox{Name: name})
		wantError(t, err, want)
	}
	_, err = s.CreateMailbox(ctx, b.ID+1, NewMailbox{Name: "x"})
	wantError(t, err, ErrNotFound)
	_, err = s.MailboxByName(ctx, b.ID, "x")
	wantError(t, err, ErrNotFound)
	_, err = s.MailboxByName(ctx, b.ID, "x\x00")
	wantError(t, err, ErrNotFound)
	if mailbox(t, s, b, "inbox").Account != b.ID {
		t.Error("INBOX of somebody else")
	}

	noError(t, s.Subscribe(ctx, a.ID, "x/y", true))
	wantError(t, s.Subscribe(ctx, a.ID, "nothing", true), ErrNotFound)
	if !mailbox(t, s, a, "x/y").Subscribed || mailbox(t, s, a, "x").Subscribed {
		t.Error("subscribed to the wrong mailbox")
	}
	noError(t, s.Subscribe(ctx, a.ID, "x/y", false))
	if mailbox(t, s, a, "x/y").Subscribed {
		t.Error("still subscribed")
	}
}

func testDeleteMailbox(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	box := create(t, s, a, "x/y")
	fill(t, s, a, 700)
	_, err := s.Copy(ctx, mailbox(t, s, a, "INBOX").ID, []Range{{1, 600}}, box.ID)
	noError(t, err)
	_, err = s.Move(ctx, mailbox(t, s, a, "INBOX").ID, []Range{{601, 700}}, box.ID)
	noError(t, err)
	before := used(t, s, a)
	wantError(t, s.DeleteMailbox(ctx, a.ID, "x"), ErrNotEmpty)
	wantError(t, s.DeleteMailbox(ctx, a.ID, "inbox"), ErrNotEmpty)
	wantError(t, s.DeleteMailbox(ctx, a.ID, "nothing"), ErrNotFound)
	view(t, s, box.ID)
	noError(t, s.DeleteMailbox(ctx, a.ID, "x/y"))
	_, err = s.View(ctx, box.ID)
	wantError(t, err, ErrNotFound)
	_, err = s.Mailbox(ctx, box.ID)
	wantError(t, err, ErrNotFound)
	d := delivery(s, a)
	d.Mailbox = box.ID
	_, err = s.Commit(ctx, Batch{Deliveries: []Delivery{d}})
	wantError(t, err, ErrNotFound)
	if after := used(t, s, a); after*7 >= before*6+700*10 || after == 0 {
		t.Errorf("uses %d after, %d before: want six sevenths", after, before)
	}
	noError(t, s.DeleteMailbox(ctx, a.ID, "x"))
	if got := names(t, s, a); got != "INBOX" {
		t.Errorf("mailboxes %s", got)
	}
}

func testRename(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	create(t, s, a, "a/b/c")
	create(t, s, a, "ab")
	deep := mailbox(t, s, a, "a/b/c")
	noError(t, s.RenameMailbox(ctx, a.ID, "a/b", "new/place"))
	if got := names(t, s, a); got != "INBOX a ab new new/place new/place/c" {
		t.Errorf("mailboxes %s", got)
	}
	if got := mailbox(t, s, a, "new/place/c"); got.ID != deep.ID || got.UIDValidity != deep.UIDValidity {
		t.Errorf("renamed %+v, was %+v", got, deep)
	}
	for _, c := range []struct {
		from, to string
		want     error
	}{
		{"nothing", "x", ErrNotFound}, {"a", "ab", ErrExists}, {"a", "a", ErrExists}, {"a", "inbox", ErrExists},
		{"new", "new/x", ErrName}, {"new", "x//y", ErrName}, {"new", strings.Repeat("x", 250), ErrName},
		{"INBOX", "ab", ErrExists}, {"INBOX", "", ErrName},
	} {
		wantError(t, s.RenameMailbox(ctx, a.ID, c.from, c.to), c.want)
	}
	// A view shows the new name although no message has changed.
	view(t, s, deep.ID)
	noError(t, s.RenameMailbox(ctx, a.ID, "new", "old"))
	if v := view(t, s, deep.ID); v.Mailbox.Name != "old/place/c" {
		t.Errorf("view is of %s", v.Mailbox.Name)
	}
}

func TestPlanRename(t *testing.T) {
	t.Parallel()
	tree := map[string]ID{"INBOX": 1, "a/b/c": 2, "a/b/c/c": 3, "a/b/c/c/d": 4}
	moves, err := planRename(tree, "a/b/c", "a/b")
	noError(t, err)
	var got []string
	for _, m := range moves {
		got = append(got, m.name)
	}
	if join(got) != "a/b a/b/c a/b/c/d" || moves[0].id != 2 {
		t.Errorf("moves %+v", moves)
	}
	tree["a/b/d"] = 5
	tree["a/b/c/d"] = 6
	_, err = planRename(tree, "a/b/c", "a/b")
	wantError(t, err, ErrExists)
}

func testRenameInbox(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	create(t, s, a, "INBOX/sub")
	inbox := fill(t, s, a, 3)
	before := view(t, s, inbox.ID)
	noError(t, s.RenameMailbox(ctx, a.ID, "inbox", "old/mail"))
	if got := names(t, s, a); got != "INBOX INBOX/sub old old/mail" {
		t.Errorf("mailboxes %s", got)
	}
	moved, left := view(t, s, mailbox(t, s, a, "old/mail").ID), view(t, s, inbox.ID)
	if len(moved.Entries) != 3 || moved.Entries[2].Message != before.Entries[2].Message {
		t.Errorf("moved %+v", moved.Entries)
	}
	if len(left.Entries) != 0 || left.Mailbox.UIDNext != 4 || left.Mailbox.UIDValidity != inbox.UIDValidity {
		t.Errorf("left %+v", left)
	}
}

func testUIDValidity(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	var last uint32
	for range 5 {
		m := create(t, s, a, "box")
		if m.UIDValidity <= last {
			t.Fatalf("UIDVALIDITY %d after %d", m.UIDValidity, last)
		}
		last = m.UIDValidity
		noError(t, s.DeleteMailbox(ctx, a.ID, "box"))
	}
	noError(t, s.RemoveAccount(ctx, a.ID))
	if m := mailbox(t, s, newAccount(t, s, "alice@example.org"), "INBOX"); m.UIDValidity <= last {
		t.Fatalf("UIDVALIDITY %d of a new account, after %d", m.UIDValidity, last)
	}
}
