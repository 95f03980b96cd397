package server

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"postern/internal/auth"
	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/keydir"
)

// An account logs in on both ports, and no longer when its password is taken away.
func TestSubmissionLogin(t *testing.T) {
	t.Parallel()
	g, r, _ := serve(t, newConfig(t))
	config := &tls.Config{InsecureSkipVerify: true}
	inside, err := smtp.DialTLS(r.Addrs.Submissions.String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	upgraded, err := smtp.DialStartTLS(r.Addrs.Submission.String(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer upgraded.Close()
	for name, c := range map[string]*smtp.Client{"submissions": inside, "submission": upgraded} {
		if !c.SupportsAuth(auth.ScramPlusName) || !c.SupportsAuth(sasl.Plain) {
			t.Errorf("%s does not offer the mechanisms", name)
		}
		if err := c.Mail(owner, nil); code(err) != 530 {
			t.Errorf("%s without a login: %v", name, err)
		}
		if err := c.Auth(sasl.NewPlainClient("", owner, "wrong")); code(err) != 535 {
			t.Errorf("%s with a wrong password: %v", name, err)
		}
		if err := c.Auth(sasl.NewPlainClient("", owner, password)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	account, err := g.Store.AccountByAddress(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := g.Store.Credentials(t.Context(), account.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range creds {
		if err := g.Store.RemoveCredential(t.Context(), account.ID, c.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := inside.Mail(owner, nil); code(err) != 421 {
		t.Errorf("with a password that is gone: %v", err)
	}
}

// Who wants to be told of a delivery here is told (RFC 3461), sealed like any mail.
func TestSubmissionReportsDelivery(t *testing.T) {
	t.Parallel()
	g, r, _ := serve(t, newConfig(t))
	address, err := mail.ParseAddress(owner)
	if err != nil {
		t.Fatal(err)
	}
	k, err := pgp.GenerateKey(owner, time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Enrolment.Take(t.Context(), address, k.Certificate(), keydir.SourceAutocrypt); err != nil {
		t.Fatal(err)
	}
	before := inboxCount(t, r)
	c, err := smtp.DialTLS(r.Addrs.Submissions.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", owner, password)); err != nil {
		t.Fatal(err)
	}
	if err := c.Mail(owner, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt(owner, &smtp.RcptOptions{Notify: []smtp.DSNNotify{smtp.DSNNotifySuccess}}); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(strings.ReplaceAll(hello, "bob@there.test", owner))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := inboxCount(t, r) - before; n != 2 {
		t.Errorf("%d messages, want the one that was sent, and the report", n)
	}
}

// submit sends a message as the owner of the account.
func submit(t *testing.T, r *Running, to, text string) {
	t.Helper()
	c, err := smtp.DialTLS(r.Addrs.Submissions.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", owner, password)); err != nil {
		t.Fatal(err)
	}
	if err := c.SendMail(owner, []string{to}, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// The first certificate that comes with submitted mail is the account's own: held mail is
// delivered, and the owner is told. Another one waits.
func TestSubmissionTeachesCertificate(t *testing.T) {
	t.Parallel()
	g, r, _ := serve(t, newConfig(t))
	if err := send(r, "bob@there.test", owner, hello); err != nil {
		t.Fatal(err)
	}
	if n := held(t, g); n != 1 {
		t.Fatalf("%d held", n)
	}
	address, err := mail.ParseAddress(owner)
	if err != nil {
		t.Fatal(err)
	}
	history := func() (rules []keydir.Rule) {
		all, err := g.Directory.History(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			rules = append(rules, c.Rule)
		}
		return rules
	}
	withKey := func() (text, fingerprint string) {
		k, err := pgp.GenerateKey(owner, time.Now().Add(-time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return "Autocrypt: addr=" + owner + "; keydata=" + base64.StdEncoding.EncodeToString(k.Certificate().Data()) + "\r\n" +
			strings.ReplaceAll(hello, "bob@there.test", owner), k.Certificate().Fingerprint()
	}
	first, fingerprint := withKey()
	submit(t, r, owner, first)
	eventually(t, "held mail is released", func() bool { return held(t, g) == 0 })
	// One notice when mail was held, the two messages, and one notice of the certificate.
	eventually(t, "the owner is told", func() bool { return inboxCount(t, r) == 4 })
	if a := g.Directory.Own(t.Context(), address); a.Kind != mail.Found || a.Fingerprint != fingerprint {
		t.Errorf("own certificate %+v", a)
	}

	second, _ := withKey()
	submit(t, r, owner, second)
	eventually(t, "the owner is told again", func() bool { return inboxCount(t, r) == 6 })
	submit(t, r, owner, second)
	submit(t, r, owner, first)
	eventually(t, "they come", func() bool { return inboxCount(t, r) == 8 })
	if a := g.Directory.Own(t.Context(), address); a.Kind != mail.Found || a.Fingerprint != fingerprint {
		t.Errorf("own certificate, then %+v", a)
	}
	if got := history(); len(got) != 2 || got[0] != keydir.RuleOffered || got[1] != keydir.RuleEnrolled {
		t.Errorf("history %v", got)
	}
}

// code is the reply code that an error of a client holds.
func code(err error) int {
	var e *smtp.SMTPError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}
