package admin

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/store"
)

func TestAddAccount(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	p, err := f.AddAccount(t.Context(), "Bob@HERE.test", "10GB", "first")
	if err != nil {
		t.Fatal(err)
	}
	if p.Address != "Bob@here.test" || p.Label != "first" || len(p.Password) != 30 || !strings.Contains(text(t, p), p.Password) {
		t.Errorf("%+v", p)
	}
	list, err := f.Accounts(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%v, %v", list, err)
	}
	if a := list[0]; a.Address != owner || a.Certificates != 1 || a.Quota != 50e9 || a.Messages != 0 {
		t.Errorf("%+v", a)
	}
	if b := list[1]; b.Address != "Bob@here.test" || b.Certificates != 0 || b.Quota != 10e9 {
		t.Errorf("%+v", b)
	}
	if out := text(t, list); !strings.Contains(out, "Bob@here.test") || !strings.Contains(out, "10GB") {
		t.Error(out)
	}
	if _, err := f.AddAccount(t.Context(), "carol@here.test", "0B", "first"); err != nil {
		t.Error(err)
	}
	if info, err := f.Account(t.Context(), "carol@here.test"); err != nil || info.Quota != 0 {
		t.Errorf("%+v, %v", info, err)
	}
	if list, err = f.Accounts(t.Context()); err != nil || !strings.Contains(text(t, list), "none") {
		t.Errorf("%v, %v", text(t, list), err)
	}
}

// Who does not want to be found says so.
func TestSetPublished(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	for _, on := range []bool{false, true} {
		if err := f.SetPublished(t.Context(), owner, on); err != nil {
			t.Fatal(err)
		}
		list, err := f.Accounts(t.Context())
		if err != nil || len(list) != 1 || list[0].Published != on || strings.Contains(text(t, list), "not published") == on {
			t.Errorf("%v: %+v, %v", on, list, err)
		}
	}
	if err := f.SetPublished(t.Context(), "bob@here.test", false); err == nil {
		t.Error("an account that is not there")
	}
}

func TestAddAccountRefusals(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	for name, row := range map[string]struct {
		address, quota, label string
		usage                 bool
		text                  string
	}{
		"no address":      {"bob", "", "first", true, `"bob"`},
		"display name":    {"Bob <bob@here.test>", "", "first", true, "Bob"},
		"other domain":    {"bob@there.test", "", "first", true, "there.test"},
		"sub-address":     {"bob+list@here.test", "", "first", true, "bob@here.test"},
		"there already":   {owner, "", "first", false, "already"},
		"in other case":   {"ALICE@Here.Test", "", "first", false, "already"},
		"quota no size":   {"bob@here.test", "10", "first", true, "quota"},
		"negative quota":  {"bob@here.test", "-1GB", "first", true, "quota"},
		"no label":        {"bob@here.test", "", "", true, "--label"},
		"blank label":     {"bob@here.test", "", "  ", true, "--label"},
		"label with LF":   {"bob@here.test", "", "a\nb", true, "cannot be shown"},
		"label with C1":   {"bob@here.test", "", "a\u009b", true, "cannot be shown"},
		"label with bidi": {"bob@here.test", "", "a\u202eb", true, "cannot be shown"},
		"long label":      {"bob@here.test", "", strings.Repeat("ä", 65), true, "64"},
	} {
		p, err := f.AddAccount(t.Context(), row.address, row.quota, row.label)
		if err == nil || p != nil || errors.Is(err, ErrUsage) != row.usage || !strings.Contains(err.Error(), row.text) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	// Nothing half-made is left.
	if list, err := f.Accounts(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// credentials are the account's, as stored.
func credentials(t *testing.T, f *fixture) []store.Credential {
	t.Helper()
	account, err := f.account(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.g.Store.Credentials(t.Context(), account.ID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	phone, err := f.NewPassword(t.Context(), owner, "phone")
	if err != nil {
		t.Fatal(err)
	}
	const own = "seven purple elephants"
	if err := f.SetPassword(t.Context(), owner, "in my head", own); err != nil {
		t.Fatal(err)
	}
	list, err := f.Passwords(t.Context(), owner)
	if err != nil || len(list) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	var rows []string
	for _, p := range list {
		rows = append(rows, p.Label+" "+p.Kind)
		if p.LastUsed != nil || p.Created.IsZero() {
			t.Errorf("%+v", p)
		}
	}
	if want := []string{"first app", "phone app", "in my head own"}; !slices.Equal(rows, want) {
		t.Errorf("%q", rows)
	}
	stored := credentials(t, f)
	for i, password := range []string{f.setup.Password, phone.Password, own} {
		c := stored[i]
		key, server := auth.Derive(password, c.Salt, c.Iterations)
		if !bytes.Equal(key, c.StoredKey) || !bytes.Equal(server, c.ServerKey) {
			t.Errorf("%s does not verify", c.Label)
		}
		if c.Human && c.Iterations < 600_000 || !c.Human && c.Iterations != 4096 || c.Human != (i == 2) {
			t.Errorf("%+v", c)
		}
	}
	if !bytes.Equal(stored[0].Salt, stored[1].Salt) || bytes.Equal(stored[0].Salt, stored[2].Salt) {
		t.Error("app passwords share one salt, own ones have their own")
	}

	used := time.Now()
	if err := f.g.Store.UseCredential(t.Context(), stored[1].ID, used); err != nil {
		t.Fatal(err)
	}
	if list, err = f.Passwords(t.Context(), owner); err != nil || list[1].LastUsed == nil || list[0].LastUsed != nil {
		t.Fatalf("%v, %v", list, err)
	}
	if out := text(t, list); !strings.Contains(out, "never") || !strings.Contains(out, used.UTC().Format("2006-01-02 15:04")) || strings.Contains(out, own) {
		t.Error(out)
	}

	if err := f.RemovePassword(t.Context(), owner, "phone"); err != nil {
		t.Fatal(err)
	}
	if err := f.RemovePassword(t.Context(), owner, "phone"); err == nil || errors.Is(err, ErrUsage) {
		t.Errorf("removed twice: %v", err)
	}
	if left := credentials(t, f); len(left) != 2 {
		t.Errorf("%d are left", len(left))
	}
}

func TestPasswordRefusals(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	const good = "seven purple elephants"
	for name, row := range map[string]struct {
		err   error
		usage bool
		text  string
	}{
		"label taken":       {f.SetPassword(t.Context(), owner, "first", good), false, "already"},
		"no label":          {f.SetPassword(t.Context(), owner, "", good), true, "--label"},
		"too short":         {f.SetPassword(t.Context(), owner, "x", "elephants!!"), false, "12"},
		"empty":             {f.SetPassword(t.Context(), owner, "x", ""), false, "12"},
		"own address":       {f.SetPassword(t.Context(), owner, "x", owner), false, "own name"},
		"obvious":           {f.SetPassword(t.Context(), owner, "x", "passwordpassword"), false, "first that anybody"},
		"control character": {f.SetPassword(t.Context(), owner, "x", "seven purple\x00elephants"), false, "control"},
		"no account":        {f.SetPassword(t.Context(), "bob@here.test", "x", good), false, "no account"},
		"no address":        {f.SetPassword(t.Context(), "bob", "x", good), true, "bob"},
		"remove: no label":  {f.RemovePassword(t.Context(), owner, ""), true, "--label"},
		"remove: unknown":   {f.RemovePassword(t.Context(), owner, "tv"), false, "tv"},
	} {
		if row.err == nil || errors.Is(row.err, ErrUsage) != row.usage || !strings.Contains(row.err.Error(), row.text) {
			t.Errorf("%s: %v", name, row.err)
		} else if strings.Contains(row.err.Error(), "elephants") {
			t.Errorf("%s: the password is in the error: %v", name, row.err)
		}
	}
	if n := len(credentials(t, f)); n != 1 {
		t.Errorf("%d passwords", n)
	}
	if _, err := f.NewPassword(t.Context(), owner, "first"); err == nil {
		t.Error("a label was given twice")
	}
}

func TestRemoveAccount(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	f.deliver("From: b@c.test\r\n\r\nhello\r\n")
	info, err := f.Account(t.Context(), owner)
	if err != nil || info.Messages != 1 || info.Used == 0 {
		t.Fatalf("%+v, %v", info, err)
	}
	if err := f.RemoveAccount(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	if err := f.RemoveAccount(t.Context(), owner); err == nil {
		t.Error("removed twice")
	}
	certs, err := f.Certificates(t.Context(), "")
	if err != nil || len(certs) != 0 {
		t.Errorf("whoever gets the address next is sealed to the old certificate: %v, %v", certs, err)
	}
	// The address is free for another.
	if _, err := f.AddAccount(t.Context(), owner, "", "first"); err != nil {
		t.Error(err)
	}
	if boxes := f.mailbox("INBOX"); len(boxes) != 0 {
		t.Errorf("%d messages of the one before", len(boxes))
	}
}
