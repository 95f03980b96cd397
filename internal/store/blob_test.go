package store

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
)

func testBlobs(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	id := fill(t, s, a, blobPage+5).ID
	live := func() (refs []string) {
		noError(t, s.Blobs(ctx, func(b Blob) error { refs = append(refs, b.Ref); return nil }))
		return refs
	}
	refs := live()
	if len(refs) != blobPage+5 {
		t.Fatalf("%d blobs", len(refs))
	}
	wantError(t, s.MoveBlob(ctx, refs[0], refs[1]), ErrExists)
	wantError(t, s.MoveBlob(ctx, "none", "new"), ErrNotFound)
	noError(t, s.MoveBlob(ctx, refs[0], "moved"))
	m, err := s.Message(ctx, view(t, s, id).Entries[0].Message)
	noError(t, err)
	if m.Blob.Ref != "moved" {
		t.Errorf("ref %q", m.Blob.Ref)
	}
	_, err = s.SetFlags(ctx, id, []Range{{1, 3}}, FlagsAdd, Deleted, nil, 0)
	noError(t, err)
	_, err = s.Expunge(ctx, id, nil)
	noError(t, err)
	dead, err := s.DeadBlobs(ctx, 2)
	noError(t, err)
	if len(dead) != 2 || len(live()) != blobPage+2 {
		t.Errorf("%d dead, %d live", len(dead), len(live()))
	}
	if young, err := s.DeadBlobsBefore(ctx, time.Now().Add(-time.Minute), 10); err != nil || len(young) != 0 {
		t.Errorf("died a minute ago: %v, %v", young, err)
	}
	wantError(t, s.MoveBlob(ctx, "moved", "again"), ErrNotFound)
	noError(t, s.ForgetBlobs(ctx, append(dead, refs[10], "none"))) // a live one stays
	rest, err := s.DeadBlobs(ctx, 10)
	noError(t, err)
	if len(rest) != 1 || !slices.Contains(live(), refs[10]) {
		t.Errorf("dead %v", rest)
	}
}

// testCheck breaks the database in every way that Check knows, and mends it.
func testCheck(t *testing.T, s *Store) {
	ctx := context.Background()
	a, b := newAccount(t, s, "alice@example.org"), newAccount(t, s, "bob@example.org")
	id := fill(t, s, a, 3).ID
	deliver(t, s, b)
	_, err := s.Commit(ctx, Batch{Hold: []Held{{ID: s.NewID(), Account: a.ID, Message: message(s, a), Protection: held()}}})
	noError(t, err)
	enqueue(t, s, a, mail.Sealed, "example.com")
	_, err = s.SetFlags(ctx, id, []Range{{1, 1}}, FlagsAdd, Seen|Deleted, nil, 0)
	noError(t, err)
	_, err = s.Expunge(ctx, id, nil)
	noError(t, err)
	noError(t, s.Check(ctx))
	broken := 0
	for _, c := range []struct{ what, breaks, mends string }{
		{"mailbox messages", `UPDATE mailboxes SET messages = messages + 1`, `UPDATE mailboxes SET messages = messages - 1`},
		{"mailbox unseen", `UPDATE mailboxes SET unseen = unseen + 1`, `UPDATE mailboxes SET unseen = unseen - 1`},
		{"mailbox deleted", `UPDATE mailboxes SET deleted = 1`, `UPDATE mailboxes SET deleted = 0`},
		{"mailbox size", `UPDATE mailboxes SET size = size + 1`, `UPDATE mailboxes SET size = size - 1`},
		{"mailbox uidnext", `UPDATE mailboxes SET uidnext = uidnext - 1`, `UPDATE mailboxes SET uidnext = uidnext + 1`},
		{"mailbox modseq", `UPDATE entries SET modseq = modseq + 100`, `UPDATE entries SET modseq = modseq - 100`},
		{"mailbox uidvalidity", `UPDATE mailboxes SET uidvalidity = uidvalidity + 100`, `UPDATE mailboxes SET uidvalidity = uidvalidity - 100`},
		{"tombstone modseq", `UPDATE tombstones SET modseq = modseq + 100`, `UPDATE tombstones SET modseq = modseq - 100`},
		{"entry at tombstone", `UPDATE tombstones SET hi = hi + 1`, `UPDATE tombstones SET hi = hi - 1`},
		{"entry without its message", `UPDATE entries SET message = message + 1`, `UPDATE entries SET message = message - 1`},
		{"entry size", `UPDATE entries SET size = size + 1`, `UPDATE entries SET size = size - 1`},
		{"message copies", `UPDATE messages SET copies = copies + 1`, `UPDATE messages SET copies = copies - 1`},
		{"message without octets", `INSERT INTO messages (id, account, class, size, copies, blob, envelope, structure)
			SELECT 1, id, 'sealed', 0, 0, 0, '', '' FROM accounts WHERE local_part = 'bob'`, `DELETE FROM messages WHERE id = 1`},
		{"message without its blob", `UPDATE messages SET blob = blob + 1`, `UPDATE messages SET blob = blob - 1`},
		{"message of no account", `UPDATE messages SET account = account + 1`, `UPDATE messages SET account = account - 1`},
		{"entry of another account", `UPDATE messages SET account = account + 1`, `UPDATE messages SET account = account - 1`},
		{"held copy of another account", `UPDATE messages SET account = account + 1`, `UPDATE messages SET account = account - 1`},
		{"blob references", `UPDATE blobs SET refs = refs + 1`, `UPDATE blobs SET refs = refs - 1`},
		{"outgoing without its blob", `UPDATE outgoing SET blob = blob + 1`, `UPDATE outgoing SET blob = blob - 1`},
		{"outgoing without octets", `INSERT INTO outgoing (id, account, source, sender, level, size, locked, body, utf8,
			require_tls, env_id, ret, created, rcpts, blob) VALUES (1, 1, '', '', 6, 0, 0, '', 0, 0, '', '', 0, 0, 0)`,
			`DELETE FROM outgoing WHERE id = 1`},
		{"outgoing recipients", `UPDATE outgoing SET rcpts = rcpts + 1`, `UPDATE outgoing SET rcpts = rcpts - 1`},
		{"recipient held apart from its copy", `UPDATE outgoing SET level = 5`, `UPDATE outgoing SET level = 6`},
		{"recipient due within its lease", `UPDATE outgoing_rcpts SET lease = due + 1`, `UPDATE outgoing_rcpts SET lease = 0`},
		{"recipient on hold and due", `UPDATE outgoing_rcpts SET verdict = 1`, `UPDATE outgoing_rcpts SET verdict = 0`},
		{"lane rcpts", `UPDATE outgoing_lanes SET rcpts = rcpts + 1`, `UPDATE outgoing_lanes SET rcpts = rcpts - 1`},
		{"lane on_hold", `UPDATE outgoing_lanes SET on_hold = 1`, `UPDATE outgoing_lanes SET on_hold = 0`},
		{"lane due", `UPDATE outgoing_lanes SET due = due - 1`, `UPDATE outgoing_lanes SET due = due + 1`},
		{"recipient without a lane", `UPDATE outgoing_lanes SET domain = 'x'`, `UPDATE outgoing_lanes SET domain = 'example.com'`},
		{"account used", `UPDATE accounts SET used = used + 1`, `UPDATE accounts SET used = used - 1`},
		{"account without INBOX", `UPDATE mailboxes SET name = 'x'`, `UPDATE mailboxes SET name = 'INBOX'`},
	} {
		exec := func(query string) {
			t.Helper()
			noError(t, s.write(ctx, func(t *tx) error { _, err := t.exec(query); return err }))
		}
		exec(c.breaks)
		err := s.Check(ctx)
		if err == nil || !strings.Contains(err.Error(), c.what+":") {
			t.Errorf("%s: error is %v", c.what, err)
		}
		exec(c.mends)
		broken++
	}
	if broken < len(checks) {
		t.Errorf("%d of %d checks were tried", broken, len(checks))
	}
	noError(t, s.Check(ctx))
}
