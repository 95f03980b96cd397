package store

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestOpenAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "odd name%20?#.db")
	s := openFile(t, path)
	a := newAccount(t, s, "alice@example.org")
	place, m := deliver(t, s, a)
	noError(t, s.Close())
	s = openFile(t, path)
	v := view(t, s, place.Mailbox)
	if len(v.Entries) != 1 || v.Entries[0].Message != m.ID || v.Mailbox.UIDValidity != place.UIDValidity {
		t.Errorf("view %+v", v)
	}
	files, err := os.ReadDir(filepath.Dir(path))
	noError(t, err)
	for _, f := range files {
		info, err := f.Info()
		noError(t, err)
		if !strings.HasPrefix(f.Name(), "odd name%20?#.db") || info.Mode().Perm() != 0o600 {
			t.Errorf("file %q has mode %v", f.Name(), info.Mode())
		}
	}
}

func TestOpenAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "postern.db")
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			s, err := Open(context.Background(), Options{Path: path})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			newAccount(t, s, fmt.Sprintf("user%d@example.org", i))
		})
	}
	wg.Wait()
	accounts, err := openFile(t, path).Accounts(context.Background())
	noError(t, err)
	if len(accounts) != 6 {
		t.Errorf("%d accounts", len(accounts))
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	dir := t.TempDir()
	path := filepath.Join(dir, "newer.db")
	s := openFile(t, path)
	noError(t, s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO schema_version (version, applied) VALUES ($1, 0)`, schemaVersion+1)
		return err
	}))
	noError(t, s.Close())
	_, err := Open(ctx, Options{Path: path})
	wantError(t, err, ErrNewer)
	if !strings.Contains(err.Error(), fmt.Sprint("version ", schemaVersion+1)) ||
		!strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "run that version") {
		t.Errorf("error is %v", err)
	}
	_, err = Open(ctx, Options{Path: filepath.Join(dir, "none", "postern.db")})
	wantError(t, err, os.ErrNotExist)
	garbage := filepath.Join(dir, "garbage.db")
	noError(t, os.WriteFile(garbage, []byte(strings.Repeat("not a database ", 100)), 0o600))
	_, err = Open(ctx, Options{Path: garbage})
	wantError(t, err, ErrDamaged)
	if !strings.Contains(err.Error(), garbage) || !strings.Contains(err.Error(), "put a backup in its place") {
		t.Errorf("error is %v", err)
	}
}

// Who may not read the database is told whose matter it is, whatever it is that stands
// in the way.
func TestOpenWithoutPermission(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "postern.db")
	noError(t, openFile(t, path).Close())
	noError(t, os.Chmod(filepath.Dir(dir), 0o755)) // somebody else gets as far as this
	for name, modes := range map[string][2]os.FileMode{
		"file":           {0o755, 0o600},
		"file read-only": {0o777, 0o444},
		"directory":      {0o700, 0o600},
	} {
		noError(t, os.Chmod(dir, modes[0]))
		noError(t, os.Chmod(path, modes[1]))
		err := openAsNobody(t, path)
		for _, want := range []string{path, "permission", "run this as the user that the server runs as"} {
			if !strings.Contains(err, want) {
				t.Errorf("%s: no %q in %q", name, want, err)
			}
		}
	}
}

// openAsNobody opens a database as a user that owns nothing, and returns the error.
func openAsNobody(t *testing.T, path string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	cmd, out := startChild(t, path, 0, storeChild+"_UID=65534")
	text, err := io.ReadAll(out)
	noError(t, err)
	if err := cmd.Wait(); err == nil {
		t.Errorf("it was opened")
	}
	return string(text)
}

// TestPragmas is what durability rests on.
func TestPragmas(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := openTemp(t)
	want := func(c *session, pragma, value string) error {
		var got string
		if err := c.get([]any{&got}, "PRAGMA "+pragma); err != nil {
			return err
		}
		if got != value {
			return fmt.Errorf("%s is %s, want %s", pragma, got, value)
		}
		return nil
	}
	noError(t, s.write(ctx, func(t *tx) error {
		for pragma, value := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1",
			"busy_timeout": "15000", "temp_store": "2", "secure_delete": "2"} {
			if err := want(t.session, pragma, value); err != nil {
				return err
			}
		}
		return nil
	}))
	noError(t, s.read(ctx, func(c *session) error {
		if _, err := c.exec(`DELETE FROM accounts`); err == nil {
			t.Error("a read connection can write")
		}
		return want(c, "query_only", "1")
	}))
}

// TestPurgeAfterCrash finds a mailbox and an account that were removed, but not
// yet purged, when the database is opened.
func TestPurgeAfterCrash(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "postern.db")
	s := openFile(t, path)
	a, b := newAccount(t, s, "alice@example.org"), newAccount(t, s, "bob@example.org")
	box := create(t, s, a, "box")
	fill(t, s, b, 10)
	_, err := s.Move(ctx, fill(t, s, a, 10).ID, []Range{{1, 9}}, box.ID)
	noError(t, err)
	noError(t, s.write(ctx, func(t *tx) error {
		if _, err := t.hideMailbox(a.ID, "box"); err != nil {
			return err
		}
		_, err := t.exec(`UPDATE accounts SET removed = 1 WHERE id = $1`, b.ID)
		if err == nil {
			_, err = t.exec(`UPDATE mailboxes SET removed = 1 WHERE account = $1`, b.ID)
		}
		return err
	}))
	noError(t, s.Check(ctx))
	// Hidden means gone, for everybody.
	d := delivery(s, a)
	d.Mailbox = box.ID
	wantError(t, second(s.Commit(ctx, Batch{Deliveries: []Delivery{d}})), ErrNotFound)
	wantError(t, second(s.Commit(ctx, Batch{Deliveries: []Delivery{delivery(s, b)}})), ErrNotFound)
	wantError(t, second(s.View(ctx, box.ID)), ErrNotFound)
	wantError(t, second(s.Account(ctx, b.ID)), ErrNotFound)
	wantError(t, second(s.SetFlags(ctx, box.ID, all, FlagsAdd, Seen, nil, 0)), ErrNotFound)
	noError(t, s.Close())
	s = openFile(t, path)
	s.after.Wait()
	var left int
	noError(t, s.read(ctx, func(c *session) error {
		return c.get([]any{&left}, `SELECT COUNT(*) FROM messages`)
	}))
	if used(t, s, a) != mailbox(t, s, a, "INBOX").Size || left != 1 {
		t.Errorf("uses %d, %d messages are left", used(t, s, a), left)
	}
}
