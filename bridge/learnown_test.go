package bridge

import (
	"testing"

	"postern/internal/mail"
)

// TestLearnOwn: what an account submits teaches its own certificate, and nobody else's.
func TestLearnOwn(t *testing.T) {
	key := []byte("\x98 alice's certificate")
	field := autocrypt("alice@here.test", key)
	mine := "From: alice@here.test\r\nTo: alice@here.test\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nSubject: x\r\n\r\ntext\r\n"
	submitted := func() mail.Source {
		s := source()
		s.Kind, s.From, s.Account = mail.KindSubmission, parse(t, "alice@here.test"), parse(t, "alice@here.test")
		return s
	}
	for name, test := range map[string]struct {
		src  mail.Source
		msg  string
		want string
	}{
		"own":                     {submitted(), field + mine, string(key)},
		"in another case":         {submitted(), autocrypt("Alice@HERE.test", key) + mine, string(key)},
		"none":                    {submitted(), mine, ""},
		"somebody else's":         {submitted(), autocrypt("carol@here.test", key) + mine, ""},
		"somebody else's besides": {submitted(), autocrypt("carol@here.test", []byte("x")) + field + mine, string(key)},
		"two":                     {submitted(), field + autocrypt("alice@here.test", []byte("x")) + mine, ""},
		"gossip":                  {submitted(), "Autocrypt-Gossip:" + field[len("Autocrypt:"):] + mine, ""},
		"automatic reply":         {submitted(), field + "Auto-Submitted: auto-replied\r\n" + mine, ""},
		"by MX":                   {source(), field + mine, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ""
			f := newFixture(t, func(o *Options) {
				o.LearnOwn = func(account mail.Address, data []byte) { got += account.String() + " " + string(data) }
			})
			f.account("alice@here.test", true)
			if _, err := f.send(test.src, test.msg, "alice@here.test"); err != nil {
				t.Fatal(err)
			}
			if test.want != "" {
				test.want = "alice@here.test " + test.want
			}
			if got != test.want {
				t.Errorf("learned %q, want %q", got, test.want)
			}
		})
	}
}
