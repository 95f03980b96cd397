package store

import (
	"bytes"
	"context"
	"reflect"
	"testing"
	"time"

	"postern/internal/mail"
)

func testAccount(t *testing.T, s *Store) {
	ctx := context.Background()
	address, err := mail.ParseAddress("Alice.Example@example.org")
	noError(t, err)
	made, err := s.CreateAccount(ctx, address, 1000, []NewMailbox{
		{"inbox", ""}, {"Sent", `\Sent`}, {"Lists/go", ""}})
	noError(t, err)
	found, err := s.AccountByAddress(ctx, "alice.example@example.org")
	noError(t, err)
	if found != made || found.Address != address || found.Quota != 1000 {
		t.Errorf("found %+v, made %+v", found, made)
	}
	boxes, err := s.Mailboxes(ctx, made.ID)
	noError(t, err)
	var names []string
	for _, b := range boxes {
		names = append(names, b.Name)
		if !b.Subscribed || b.UIDNext != 1 || b.ModSeq != 1 || b.UIDValidity == 0 {
			t.Errorf("mailbox %+v", b)
		}
	}
	if got := join(names); got != "INBOX Lists Lists/go Sent" {
		t.Errorf("mailboxes %s", got)
	}
	if boxes[3].SpecialUse != `\Sent` {
		t.Errorf("special use %q", boxes[3].SpecialUse)
	}
	_, err = s.CreateAccount(ctx, mail.Address{Local: "ALICE.example", Domain: "example.org"}, 0, nil)
	wantError(t, err, ErrExists)
	_, err = s.CreateAccount(ctx, mail.Address{Local: "b", Domain: "example.org"}, 0, []NewMailbox{{"a", ""}, {"a", ""}})
	wantError(t, err, ErrExists)
	_, err = s.AccountByAddress(ctx, "b@example.org")
	wantError(t, err, ErrNotFound)
	noError(t, s.SetQuota(ctx, made.ID, 7))
	wantError(t, s.SetQuota(ctx, made.ID+1, 7), ErrNotFound)
	wantError(t, s.SetQuota(ctx, made.ID, -1), ErrInvalid)
	accounts, err := s.Accounts(ctx)
	noError(t, err)
	if len(accounts) != 1 || accounts[0].Quota != 7 {
		t.Errorf("accounts %+v", accounts)
	}
}

func testRemoveAccount(t *testing.T, s *Store) {
	ctx := context.Background()
	a, b := newAccount(t, s, "alice@example.org"), newAccount(t, s, "bob@example.org")
	fill(t, s, a, 1200)
	deliver(t, s, b)
	h := Held{ID: s.NewID(), Account: a.ID, Message: message(s, a), Protection: held()}
	_, err := s.Commit(ctx, Batch{Hold: []Held{h}})
	noError(t, err)
	_, err = s.AddCredential(ctx, Credential{Account: a.ID})
	noError(t, err)
	_, err = s.AddCertificate(ctx, Certificate{Address: "alice@example.org", Fingerprint: "A", Data: []byte{1}})
	noError(t, err)

	noError(t, s.RemoveAccount(ctx, a.ID))
	wantError(t, s.RemoveAccount(ctx, a.ID), ErrNotFound)
	_, err = s.Account(ctx, a.ID)
	wantError(t, err, ErrNotFound)
	dead, err := s.DeadBlobs(ctx, 5000)
	noError(t, err)
	if len(dead) != 1201 {
		t.Errorf("%d dead blobs, want 1201", len(dead))
	}
	noError(t, s.ForgetBlobs(ctx, dead))
	live := 0
	noError(t, s.Blobs(ctx, func(Blob) error { live++; return nil }))
	certs, err := s.Certificates(ctx, "alice@example.org")
	noError(t, err)
	if live != 1 || len(certs) != 0 {
		t.Errorf("%d live blobs, %d certificates", live, len(certs))
	}
	again := newAccount(t, s, "alice@example.org")
	if again.ID == a.ID || used(t, s, again) != 0 {
		t.Errorf("made again: %+v", again)
	}
}

func testCredential(t *testing.T, s *Store) {
	ctx := context.Background()
	a, b := newAccount(t, s, "alice@example.org"), newAccount(t, s, "bob@example.org")
	_, err := s.AddCredential(ctx, Credential{Account: b.ID + 1})
	wantError(t, err, ErrNotFound)
	c, err := s.AddCredential(ctx, Credential{Account: a.ID, Label: "phone", Human: true,
		Salt: []byte{1}, Iterations: 600000, StoredKey: []byte{2}, ServerKey: []byte{3}})
	noError(t, err)

	at := time.Date(2026, 5, 1, 10, 30, 40, 0, time.UTC)
	before := s.Stats().Operations
	noError(t, s.UseCredential(ctx, c.ID, at))
	noError(t, s.UseCredential(ctx, c.ID, at.Add(10*time.Second)))
	noError(t, s.UseCredential(ctx, c.ID, at.Add(-time.Hour)))
	if n := s.Stats().Operations - before; n != 1 {
		t.Errorf("%d writes within one minute", n)
	}
	noError(t, s.UseCredential(ctx, c.ID, at.Add(time.Minute)))
	wantError(t, s.UseCredential(ctx, c.ID+1, at), ErrNotFound)

	got, err := s.Credentials(ctx, a.ID)
	noError(t, err)
	if len(got) != 1 || got[0].Label != "phone" || !got[0].Human || got[0].Iterations != 600000 ||
		!bytes.Equal(got[0].Salt, []byte{1}) || !bytes.Equal(got[0].StoredKey, []byte{2}) ||
		!bytes.Equal(got[0].ServerKey, []byte{3}) || got[0].Created.IsZero() {
		t.Errorf("credentials %+v", got)
	}
	if want := at.Add(time.Minute).Truncate(time.Minute); !got[0].LastUsed.Equal(want) {
		t.Errorf("last used %v, want %v", got[0].LastUsed, want)
	}
	for key, want := range map[string][]Credential{a.Address.Key(): got, b.Address.Key(): nil, "nobody@example.org": nil} {
		if of, err := s.CredentialsOf(ctx, key); err != nil || !reflect.DeepEqual(of, want) {
			t.Errorf("credentials of %s: %+v, %v", key, of, err)
		}
	}
	wantError(t, s.RemoveCredential(ctx, b.ID, c.ID), ErrNotFound)
	noError(t, s.RemoveCredential(ctx, a.ID, c.ID))
	wantError(t, s.RemoveCredential(ctx, a.ID, c.ID), ErrNotFound)
}

func testCertificate(t *testing.T, s *Store) {
	ctx := context.Background()
	one := Certificate{Address: "alice@example.org", Fingerprint: "AAAA", Data: []byte{1, 2}, Source: "operator"}
	_, err := s.ReplaceCertificate(ctx, one)
	wantError(t, err, ErrNotFound)
	added, err := s.AddCertificate(ctx, one)
	noError(t, err)
	_, err = s.AddCertificate(ctx, one)
	wantError(t, err, ErrExists)
	_, err = s.AddCertificate(ctx, Certificate{Address: "alice@example.org", Fingerprint: "B"})
	wantError(t, err, ErrInvalid)
	for _, c := range []Certificate{{Address: "alice@example.org", Fingerprint: "BBBB", Data: []byte{3}},
		{Address: "bob@example.org", Fingerprint: "AAAA", Data: []byte{4}}} {
		_, err = s.AddCertificate(ctx, c)
		noError(t, err)
	}
	one.Data = []byte{9}
	replaced, err := s.ReplaceCertificate(ctx, one)
	noError(t, err)
	if replaced.ID != added.ID || !replaced.Added.Equal(added.Added) {
		t.Errorf("replaced %+v, added %+v", replaced, added)
	}
	got, err := s.Certificates(ctx, "alice@example.org")
	noError(t, err)
	if len(got) != 2 || !bytes.Equal(got[0].Data, []byte{9}) || got[1].Fingerprint != "BBBB" {
		t.Errorf("certificates %+v", got)
	}
	everybody, err := s.AllCertificates(ctx)
	noError(t, err)
	if len(everybody) != 3 {
		t.Errorf("%d certificates", len(everybody))
	}
	noError(t, s.RemoveCertificate(ctx, "alice@example.org", "AAAA"))
	wantError(t, s.RemoveCertificate(ctx, "alice@example.org", "AAAA"), ErrNotFound)
}
