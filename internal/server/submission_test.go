package server

import (
	"crypto/tls"
	"errors"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"postern/internal/auth"
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

// code is the reply code that an error of a client holds.
func code(err error) int {
	var e *smtp.SMTPError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}
