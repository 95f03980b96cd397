package store

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestMain lets the test binary be another process: with storeChild set it works
// on the database of that name instead of running tests.
func TestMain(m *testing.M) {
	if path := os.Getenv(storeChild); path != "" {
		n, _ := strconv.Atoi(os.Getenv(storeChild + "_COUNT"))
		work := child
		if os.Getenv(storeChild+"_QUEUE") != "" {
			work = queueChild
		}
		err := become(os.Getenv(storeChild + "_UID"))
		if err == nil {
			err = work(path, n)
		}
		if err != nil {
			fmt.Println("!", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

const storeChild = "POSTERN_STORE_TEST_CHILD"

// become makes this process another user's, if one is named.
func become(uid string) error {
	if uid == "" {
		return nil
	}
	n, err := strconv.Atoi(uid)
	if err != nil {
		return err
	}
	return syscall.Setuid(n)
}

func startChild(t *testing.T, path string, count int, env ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	exe, err := os.Executable()
	noError(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(append(os.Environ(), storeChild+"="+path, fmt.Sprintf("%s_COUNT=%d", storeChild, count)), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	noError(t, err)
	noError(t, cmd.Start())
	return cmd, out
}

// child delivers from several goroutines and prints "+ uid id" after each
// acknowledgement; it expunges some of its messages, announced by "- uid". It
// ends after count deliveries each, or with 0 never.
func child(path string, count int) error {
	ctx := context.Background()
	s, err := Open(ctx, Options{Path: path})
	if err != nil {
		return err
	}
	defer s.Close()
	a, err := s.AccountByAddress(ctx, "alice@example.org")
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var wg sync.WaitGroup
	errs := make(chan error, 4)
	for w := range 4 {
		wg.Go(func() {
			for i := 0; count == 0 || i < count; i++ {
				if err := childStep(ctx, s, a, count == 0 && (i+w)%4 == 3); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func childStep(ctx context.Context, s *Store, a Account, expunge bool) error {
	d := delivery(s, a)
	placed, err := s.Commit(ctx, Batch{Deliveries: []Delivery{d}})
	if err != nil {
		return err
	}
	p := placed[0]
	// One write call, so that a line is whole or missing.
	fmt.Fprintf(os.Stdout, "+ %d %d\n", p.UID, d.Message.ID)
	if !expunge {
		return nil
	}
	fmt.Fprintf(os.Stdout, "- %d\n", p.UID)
	r := []Range{{p.UID, p.UID}}
	if _, err = s.SetFlags(ctx, p.Mailbox, r, FlagsAdd, Deleted, nil, 0); err == nil {
		_, err = s.Expunge(ctx, p.Mailbox, r)
	}
	return err
}

// record is what children have acknowledged.
type record struct {
	placed   map[uint32]ID
	expunged map[uint32]bool
}

// read reads all that a child prints, and calls stop after some lines.
func (r *record) read(t *testing.T, out io.Reader, after int, stop func() error) {
	n := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if n++; n == after {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
		var uid uint32
		var id ID
		line := lines.Text()
		if n, _ := fmt.Sscanf(line, "+ %d %d", &uid, &id); n == 2 {
			if known, ok := r.placed[uid]; ok {
				t.Errorf("UID %d was given to %d and to %d", uid, known, id)
			}
			r.placed[uid] = id
		} else if n, _ := fmt.Sscanf(line, "- %d", &uid); n == 1 {
			r.expunged[uid] = true
		} else if strings.TrimSpace(line) != "ready" {
			t.Errorf("line %q", line)
		}
	}
}

// TestKill is P4: a process is killed at a random moment, again and again; what
// it acknowledged is there, and no UID is ever given out twice, not even those of
// messages that were expunged.
func TestKill(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "postern.db")
	s := openFile(t, path)
	a := newAccount(t, s, "alice@example.org")
	noError(t, s.Close())
	r := record{placed: map[uint32]ID{}, expunged: map[uint32]bool{}}
	for range 8 {
		cmd, out := startChild(t, path, 0)
		r.read(t, out, 50+rand.IntN(300), cmd.Process.Kill)
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Errorf("child ended with %v", err)
		}
		s, err := Open(ctx, Options{Path: path})
		noError(t, err)
		noError(t, s.Check(ctx))
		v := view(t, s, mailbox(t, s, a, "INBOX").ID)
		there := map[uint32]ID{}
		for _, e := range v.Entries {
			there[e.UID] = e.Message
		}
		for uid, id := range r.placed {
			if uid >= v.Mailbox.UIDNext {
				t.Errorf("UID %d was acknowledged, UIDNEXT is %d", uid, v.Mailbox.UIDNext)
			}
			if there[uid] != id && !r.expunged[uid] {
				t.Errorf("UID %d was acknowledged and is %d instead of %d", uid, there[uid], id)
			}
			if _, err := s.Message(ctx, id); err != nil && !r.expunged[uid] {
				t.Errorf("message %d: %v", id, err)
			}
		}
		noError(t, s.Close())
	}
}

// TestTwoProcesses lets two other processes and this one write at once.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "postern.db")
	s := openFile(t, path)
	a := newAccount(t, s, "alice@example.org")
	id := mailbox(t, s, a, "INBOX").ID
	if changed, err := s.Changed(ctx); err != nil || changed {
		t.Errorf("changed before anybody came: %v, %v", changed, err)
	}
	deliver(t, s, a)
	if changed, err := s.Changed(ctx); err != nil || changed {
		t.Errorf("own commit counts as a change: %v, %v", changed, err)
	}
	before := view(t, s, id)
	r := record{placed: map[uint32]ID{1: before.Entries[0].Message}, expunged: map[uint32]bool{}}
	one, outOne := startChild(t, path, 30)
	two, outTwo := startChild(t, path, 30)
	for range 30 {
		place, m := deliver(t, s, a)
		v := view(t, s, id)
		if n := searchUID(v.Entries, place.UID); n == len(v.Entries) || v.Entries[n].Message != m.ID {
			t.Errorf("UID %d is not in the view", place.UID)
		}
		r.placed[place.UID] = m.ID
	}
	r.read(t, outOne, 0, nil)
	r.read(t, outTwo, 0, nil)
	noError(t, one.Wait())
	noError(t, two.Wait())
	if changed, err := s.Changed(ctx); err != nil || !changed {
		t.Errorf("changed after others have written: %v, %v", changed, err)
	}
	if changed, err := s.Changed(ctx); err != nil || changed {
		t.Errorf("changed since then: %v, %v", changed, err)
	}
	v := view(t, s, id)
	if len(v.Entries) != 271 || len(r.placed) != 271 {
		t.Fatalf("%d entries, %d acknowledged, want 271", len(v.Entries), len(r.placed))
	}
	for _, e := range v.Entries {
		if r.placed[e.UID] != e.Message {
			t.Errorf("UID %d is %d, was acknowledged as %d", e.UID, e.Message, r.placed[e.UID])
		}
	}
}
