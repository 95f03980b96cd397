package admin

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"postern/internal/pgp"
	"postern/internal/server"
	"postern/internal/telemetry"
)

func TestImportCertificates(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	cert := f.key.Certificate()
	for _, data := range [][]byte{cert.Armor(), cert.Data()} {
		list, err := f.ImportCertificates(t.Context(), "ALICE@here.test", data)
		if err != nil || len(list) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		c := list[0]
		if c.Address != owner || c.Fingerprint != cert.Fingerprint() || c.Version != 4 || !c.Usable || c.Problem != "" || c.Warning != "" || c.Expires != nil || c.Source != "operator" {
			t.Errorf("%+v", c)
		}
	}
	list, err := f.Certificates(t.Context(), "")
	if err != nil || len(list) != 1 {
		t.Fatalf("the same certificate twice: %v, %v", list, err)
	}
	if out := text(t, list); !strings.Contains(out, cert.Fingerprint()) || !strings.Contains(out, "never") || !strings.Contains(out, "usable") {
		t.Error(out)
	}

	second := newKey(t).Certificate()
	if _, err := f.ImportCertificates(t.Context(), owner, second.Armor()); err != nil {
		t.Fatal(err)
	}
	armor, err := f.ExportCertificates(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	back, err := pgp.ParseCertificates(armor)
	if err != nil || len(back) != 2 || !bytes.Equal(back[0].Data(), cert.Data()) {
		t.Errorf("%d certificates, %v", len(back), err)
	}
}

func TestImportCertificateRefusals(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	good := f.key.Certificate().Armor()
	for name, row := range map[string]struct {
		data []byte
		want error
	}{
		"expired":           {testdata(t, "expired.asc"), pgp.ErrExpired},
		"revoked":           {testdata(t, "revoked.asc"), pgp.ErrRevoked},
		"for signing only":  {testdata(t, "signing-only.asc"), pgp.ErrNoEncryptionSubkey},
		"secret key":        {newKey(t).Armor(), pgp.ErrSecretKey},
		"rubbish":           {[]byte("hello"), pgp.ErrNoCertificate},
		"nothing":           {nil, pgp.ErrNoCertificate},
		"cut off":           {good[:len(good)/2], pgp.ErrNoCertificate},
		"one of two":        {append(bytes.Clone(good), testdata(t, "expired.asc")...), pgp.ErrExpired},
		"too large":         {bytes.Repeat([]byte("x"), 2<<20), pgp.ErrTooLarge},
		"not for an e-mail": {[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), pgp.ErrNoCertificate},
	} {
		if list, err := f.ImportCertificates(t.Context(), owner, row.data); !errors.Is(err, row.want) || list != nil {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	if list, err := f.Certificates(t.Context(), ""); err != nil || len(list) != 0 {
		t.Errorf("imported all the same: %v, %v", list, err)
	}
	if _, err := f.ImportCertificates(t.Context(), "bob@here.test", good); err == nil || !strings.Contains(err.Error(), "no account") {
		t.Errorf("no account: %v", err)
	}
}

// A certificate of another name is the operator's choice, but said.
func TestImportWarnsOfAnotherName(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	k, err := pgp.GenerateKey("mallory@there.test", time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	list, err := f.ImportCertificates(t.Context(), owner, k.Certificate().Armor())
	if err != nil || len(list) != 1 || !strings.Contains(list[0].Warning, owner) || !strings.Contains(text(t, list), "Note: ") {
		t.Errorf("%+v, %v", list, err)
	}
	var long strings.Builder
	if err := list.WriteLong(&long); err != nil || !strings.Contains(long.String(), "mallory@there.test") || !strings.Contains(long.String(), "Note:") {
		t.Errorf("%s, %v", long.String(), err)
	}
}

// Once it is known that a certificate is revoked, nothing is sealed to it any more.
func TestImportRevocation(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	if _, err := f.ImportCertificates(t.Context(), owner, testdata(t, "unrevoked.asc")); err != nil {
		t.Fatal(err)
	}
	list, err := f.ImportCertificates(t.Context(), owner, testdata(t, "revoked.asc"))
	if err != nil || len(list) != 1 || list[0].Usable || !strings.Contains(text(t, list), "revoked") {
		t.Fatalf("%+v, %v", list, err)
	}
	f.deliver("From: b@c.test\r\n\r\nhello\r\n")
	if info, err := f.Account(t.Context(), owner); err != nil || info.Held != 1 || info.Certificates != 0 {
		t.Errorf("%+v, %v", info, err)
	}
}

// Held mail is sealed by the import, be it that a server does it first.
func TestImportReleasesHeldMail(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	const mail = "From: b@c.test\r\nSubject: x\r\n\r\nhello\r\n"
	for range 5 {
		f.deliver(mail)
	}
	other, err := server.Open(t.Context(), f.g.Config, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			other.Directory.Forget()
			if _, err := other.Bridge.Release(t.Context()); err == nil {
				if n, err := other.Store.HeldCount(t.Context(), 0); n == 0 || err != nil {
					return
				}
			}
		}
	}()
	if _, err := f.ImportCertificates(t.Context(), owner, f.key.Certificate().Armor()); err != nil {
		t.Error(err)
	}
	<-done
	if info, err := f.Account(t.Context(), owner); err != nil || info.Held != 0 || info.Messages != 6 {
		t.Fatalf("%+v, %v", info, err)
	}
	n := 0
	for _, m := range f.mailbox("INBOX") {
		if m.original == mail {
			n++
		}
	}
	if n != 5 {
		t.Errorf("%d of 5 messages", n)
	}
}

func TestShowAndRemoveCertificate(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	want := f.key.Certificate().Fingerprint()
	spaced := "0x" + strings.ToLower(want[:4]) + " " + want[4:]
	for _, which := range []string{owner, "Alice@HERE.test", want, spaced} {
		if list, err := f.ShowCertificates(t.Context(), which); err != nil || len(list) != 1 || list[0].Fingerprint != want {
			t.Errorf("%s: %v, %v", which, list, err)
		}
	}
	for _, which := range []string{"bob@here.test", want[:16], "", "a@b@c"} {
		if list, err := f.ShowCertificates(t.Context(), which); err == nil {
			t.Errorf("%q: %v", which, list)
		}
	}
	if err := f.RemoveCertificate(t.Context(), owner, want[:39]); err == nil {
		t.Error("part of a fingerprint was enough")
	}
	if err := f.RemoveCertificate(t.Context(), owner, spaced); err != nil {
		t.Fatal(err)
	}
	if err := f.RemoveCertificate(t.Context(), owner, want); err == nil {
		t.Error("removed twice")
	}
	if _, err := f.ShowCertificates(t.Context(), owner); err == nil {
		t.Error("still there")
	}
	if _, err := f.ExportCertificates(t.Context(), owner); err == nil {
		t.Error("exported")
	}
}
