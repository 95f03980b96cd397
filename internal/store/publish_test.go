package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func testPublished(t *testing.T, s *Store) {
	ctx := context.Background()
	alice, bob := newAccount(t, s, "Alice@example.org"), newAccount(t, s, "bob@example.org")
	newAccount(t, s, "carol@example.org") // no certificate
	for _, c := range []Certificate{
		{Address: "alice@example.org", Fingerprint: "BB", Data: []byte("first")},
		{Address: "alice@example.org", Fingerprint: "AA", Data: []byte("second")},
		{Address: "bob@example.org", Fingerprint: "CC", Data: []byte("bob's")},
		{Address: "dave@example.net", Fingerprint: "DD", Data: []byte("a correspondent's")},
	} {
		_, err := s.AddCertificate(ctx, c)
		noError(t, err)
	}
	list := func() (got []string) {
		t.Helper()
		noError(t, s.Listed(ctx, func(l Listed) error {
			got = append(got, fmt.Sprint(l.Account == alice.ID, " ", l.Address, " ", l.Fingerprint))
			return nil
		}))
		return got
	}
	want := []string{"true Alice@example.org AA", "true Alice@example.org BB", "false bob@example.org CC"}
	if got := list(); !slices.Equal(got, want) {
		t.Errorf("listed %q", got)
	}
	address, certs, err := s.PublishedCertificates(ctx, alice.ID)
	noError(t, err)
	if address != alice.Address || len(certs) != 2 || string(certs[0].Data) != "first" || certs[1].Fingerprint != "AA" {
		t.Errorf("%v has %v", address, certs)
	}

	noError(t, s.SetPublished(ctx, alice.ID, false))
	if a, err := s.Account(ctx, alice.ID); err != nil || a.Published {
		t.Errorf("published: %v %v", a.Published, err)
	}
	if got := list(); !slices.Equal(got, want[2:]) {
		t.Errorf("after alice said no, listed %q", got)
	}
	_, _, err = s.PublishedCertificates(ctx, alice.ID)
	wantError(t, err, ErrNotFound)
	noError(t, s.SetPublished(ctx, alice.ID, true))
	if got := list(); !slices.Equal(got, want) {
		t.Errorf("after alice said yes, listed %q", got)
	}

	noError(t, s.RemoveAccount(ctx, bob.ID))
	if got := list(); !slices.Equal(got, want[:2]) {
		t.Errorf("after bob was removed, listed %q", got)
	}
	_, _, err = s.PublishedCertificates(ctx, bob.ID)
	wantError(t, err, ErrNotFound)
	wantError(t, s.SetPublished(ctx, bob.ID, true), ErrNotFound)
	stop := errors.New("enough")
	wantError(t, s.Listed(ctx, func(Listed) error { return stop }), stop)
}

// However the certificates fall on the batches, each is listed once.
func testListedBatches(t *testing.T, s *Store) {
	ctx := context.Background()
	total := 0
	for i, n := range []int{listBatch - 1, 1, 3, listBatch, 0, 2} {
		a := newAccount(t, s, fmt.Sprintf("a%d@example.org", i))
		noError(t, s.write(ctx, func(x *tx) error {
			for k := range n {
				_, err := x.exec(`INSERT INTO certificates (id, address, fingerprint, data, source, added)
					VALUES ($1, $2, $3, $4, 'test', 0)`, s.NewID(), a.Address.Key(), fmt.Sprintf("%08d", k), []byte{1})
				if err != nil {
					return err
				}
			}
			return nil
		}))
		total += n
	}
	seen := make(map[string]bool)
	noError(t, s.Listed(ctx, func(l Listed) error {
		seen[l.Address.Key()+l.Fingerprint] = true
		total--
		return nil
	}))
	if total != 0 {
		t.Errorf("%d certificates too few, %d different ones", total, len(seen))
	}
}

// An account of a database that knew nothing of publishing publishes.
func TestMigratePublished(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "postern.db")
	d := sqliteDialect()
	c, err := openSession(ctx, d, sqliteDSN(path, false), nil)
	noError(t, err)
	noError(t, c.script(versionTable))
	for v := 1; v <= 2; v++ {
		text, err := migrations.ReadFile(fmt.Sprintf("migrations/%04d.sql", v))
		noError(t, err)
		noError(t, c.script(d.types.Replace(string(text))))
	}
	_, err = c.exec(`INSERT INTO schema_version (version, applied) VALUES (2, $1)`, micros(time.Now()))
	noError(t, err)
	_, err = c.exec(`INSERT INTO accounts (id, address_key, local_part, domain, quota, used, created)
		VALUES (7, 'alice@example.org', 'alice', 'example.org', 0, 0, 0)`)
	noError(t, err)
	noError(t, c.close())
	s, err := Open(ctx, Options{Path: path})
	noError(t, err)
	defer s.Close()
	if a, err := s.Account(ctx, 7); err != nil || !a.Published {
		t.Errorf("%+v, %v", a, err)
	}
}
