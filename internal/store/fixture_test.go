package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"postern/internal/mail"
)

// openFile opens a database file; at the end of the test it must pass Check.
func openFile(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("check: %v", err)
		}
		s.Close()
	})
	return s
}

func openTemp(t testing.TB) *Store {
	t.Helper()
	return openFile(t, filepath.Join(t.TempDir(), "postern.db"))
}

func newAccount(t testing.TB, s *Store, address string) Account {
	t.Helper()
	a, err := mail.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	account, err := s.CreateAccount(context.Background(), a, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	return account
}

// message makes a message whose octets are told apart by its id.
func message(s *Store, a Account) *Message {
	id := s.NewID()
	m := &Message{
		ID: id, Account: a.ID, Class: ClassSealed,
		Head:      fmt.Appendf(nil, "Message-ID: <%d@example.org>\r\n\r\n", id),
		Tail:      []byte("-----END PGP MESSAGE-----\r\n"),
		Envelope:  fmt.Appendf(nil, "envelope of %d, padded to a usual length%300d", id, 0),
		Structure: fmt.Appendf(nil, "structure of %d%100d", id, 0),
		Blob:      Blob{Ref: fmt.Sprintf("segment-%d", id), Size: 2000},
	}
	m.Blob.Digest = sha256.Sum256([]byte(m.Blob.Ref))
	m.Size = int64(len(m.Head)) + m.Blob.Size + int64(len(m.Tail))
	return m
}

func delivery(s *Store, a Account) Delivery {
	return Delivery{Message: message(s, a), Protection: sealed()}
}

// deliver commits one message to the INBOX and returns its place and itself.
func deliver(t testing.TB, s *Store, a Account) (Placed, *Message) {
	t.Helper()
	d := delivery(s, a)
	placed, err := s.Commit(context.Background(), Batch{Deliveries: []Delivery{d}})
	if err != nil {
		t.Fatal(err)
	}
	return placed[0], d.Message
}

func mailbox(t testing.TB, s *Store, a Account, name string) Mailbox {
	t.Helper()
	m, err := s.MailboxByName(context.Background(), a.ID, name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func create(t testing.TB, s *Store, a Account, name string) Mailbox {
	t.Helper()
	m, err := s.CreateMailbox(context.Background(), a.ID, NewMailbox{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func view(t testing.TB, s *Store, id ID) *View {
	t.Helper()
	v, err := s.View(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func used(t testing.TB, s *Store, a Account) int64 {
	t.Helper()
	a, err := s.Account(context.Background(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	return a.Used
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func held() mail.Protection {
	return mail.Protect(mail.Inbound(), mail.ContentClear, mail.None)
}

var all = []Range{{1, maxUID}}
