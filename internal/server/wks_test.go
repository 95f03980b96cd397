package server

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"postern/internal/pgp"
)

// encryptedTo is a message to the key submission service that holds content, a MIME part.
func encryptedTo(t *testing.T, c *pgp.Certificate, from, content string) string {
	t.Helper()
	armored, err := pgp.Seal([]byte(content), []*pgp.Certificate{c}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return "From: " + from + "\r\nTo: key-submission@here.test\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=x_y\r\n\r\n" +
		"--x_y\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n" +
		"--x_y\r\nContent-Type: application/octet-stream\r\n\r\n" + string(armored) + "\r\n--x_y--\r\n"
}

func newSecret(t *testing.T, address string) *pgp.SecretKey {
	t.Helper()
	k, err := pgp.GenerateKey(address, time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keyPart(c *pgp.Certificate) string {
	return "Content-Type: application/pgp-keys\n\n" + string(c.Armor())
}

func answerPart(address, nonce string) string {
	return "Content-Type: application/vnd.gnupg.wks\nContent-Transfer-Encoding: 8bit\n\n" +
		"type: confirmation-response\nsender: key-submission@here.test\naddress: " + address + "\nnonce: " + nonce + "\n"
}

// handIn sends what a client wrote, by submission or by MX.
func handIn(r *Running, login bool, to string, text []byte) error {
	addr, connect := r.Addrs.MX, smtp.Dial
	if login {
		addr, connect = r.Addrs.Submissions, func(addr string) (*smtp.Client, error) {
			return smtp.DialTLS(addr, &tls.Config{InsecureSkipVerify: true})
		}
	}
	c, err := connect(addr.String())
	if err != nil {
		return err
	}
	defer c.Close()
	if login {
		if err := c.Auth(sasl.NewPlainClient("", owner, password)); err != nil {
			return err
		}
	}
	crlf := bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	return c.SendMail(owner, []string{to}, bytes.NewReader(crlf))
}

// What the Web Key Service refuses, and that it does nothing then.
func TestWebKeyServiceRefuses(t *testing.T) {
	t.Parallel()
	g, r, log := serve(t, newConfig(t))
	addAccount(t, g, "carol@here.test")
	service := g.requests.Certificate("here.test")
	if service == nil {
		t.Fatal("there is no request key")
	}
	mine, carols := newSecret(t, owner).Certificate(), newSecret(t, "carol@here.test").Certificate()
	expired := strings.Replace(keyPart(mine), "-----BEGIN", "-----BEGUN", 1)
	for name, test := range map[string]struct {
		login bool
		text  string
		want  string
	}{
		"not encrypted":              {false, "From: " + owner + "\r\n" + keyPart(mine), "5.7.10"},
		"encrypted to another key":   {false, encryptedTo(t, mine, owner, keyPart(mine)), "5.7.5"},
		"text":                       {false, encryptedTo(t, service, owner, "Content-Type: text/plain\n\nhello\n"), "5.6.0"},
		"no account":                 {false, encryptedTo(t, service, "nobody@here.test", keyPart(newSecret(t, "nobody@here.test").Certificate())), "5.7.1"},
		"another domain":             {false, encryptedTo(t, service, "bob@there.test", keyPart(newSecret(t, "bob@there.test").Certificate())), "5.7.1"},
		"no author":                  {false, encryptedTo(t, service, "", keyPart(mine)), "5.6.0"},
		"two authors":                {false, encryptedTo(t, service, owner+", carol@here.test", keyPart(mine)), "5.6.0"},
		"another's key":              {false, encryptedTo(t, service, owner, keyPart(carols)), "5.7.5"},
		"two keys":                   {false, encryptedTo(t, service, owner, keyPart(mine)+string(newSecret(t, owner).Certificate().Armor())), "5.7.5"},
		"no key in it":               {false, encryptedTo(t, service, owner, expired), "5.7.5"},
		"logged in as another":       {true, encryptedTo(t, service, "carol@here.test", keyPart(carols)), "5.7.1"},
		"an answer to nothing":       {false, encryptedTo(t, service, owner, answerPart(owner, strings.Repeat("0", 64))), "5.7.1"},
		"an answer without a nonce":  {false, encryptedTo(t, service, owner, answerPart(owner, "")), "5.6.0"},
		"an answer without address":  {false, encryptedTo(t, service, owner, answerPart("", "x")), "5.6.0"},
		"a request of the service's": {false, encryptedTo(t, service, owner, strings.Replace(answerPart(owner, "x"), "-response", "-request", 1)), "5.6.0"},
		"more than it takes":         {false, encryptedTo(t, service, owner, keyPart(mine)+strings.Repeat(strings.Repeat("x", 70)+"\n", 20_000)), "5.3.4"},
	} {
		t.Run(name, func(t *testing.T) {
			err := handIn(r, test.login, "key-submission@here.test", []byte(test.text))
			if err == nil || enhanced(err) != test.want {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
	if n := inboxCount(t, r); n != 0 {
		t.Errorf("%d messages in the INBOX", n)
	}
	if text := log.String(); strings.Contains(text, owner) {
		t.Errorf("the log tells: %s", text)
	}
}

// enhanced is the enhanced status code that an error of a client holds.
func enhanced(err error) string {
	var e *smtp.SMTPError
	if !errors.As(err, &e) {
		return ""
	}
	return fmt.Sprintf("%d.%d.%d", e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2])
}

// The service's mail stands alone, comes from somebody, and is an account's where there is
// one of that name. Nobody can have an account flooded.
func TestWebKeyServiceRecipients(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	g, r, _ := serve(t, c)
	client, err := smtp.Dial(r.Addrs.MX.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	try := func(from string, rcpts ...string) (codes []int) {
		t.Helper()
		if err := client.Mail(from, nil); err != nil {
			t.Fatal(err)
		}
		for _, rcpt := range rcpts {
			codes = append(codes, code(client.Rcpt(rcpt, nil)))
		}
		if err := client.Reset(); err != nil {
			t.Fatal(err)
		}
		return codes
	}
	const service = "Key-Submission@here.test"
	for name, test := range map[string]struct {
		from  string
		rcpts []string
		want  []int
	}{
		"alone":             {"bob@there.test", []string{service}, []int{0}},
		"a report":          {"", []string{service}, []int{550}},
		"others behind":     {"bob@there.test", []string{service, owner}, []int{0, 452}},
		"others before":     {"bob@there.test", []string{owner, service}, []int{0, 452}},
		"another domain":    {"bob@there.test", []string{"key-submission@there.test"}, []int{550}},
		"with sub-address":  {"bob@there.test", []string{"key-submission+x@here.test"}, []int{550}},
		"nobody and others": {"bob@there.test", []string{"nobody@here.test", service}, []int{550, 0}},
	} {
		got := try(test.from, test.rcpts...)
		for i := range test.want {
			if got[i] != test.want[i] {
				t.Errorf("%s: %v, want %v", name, got, test.want)
				break
			}
		}
	}
	request := encryptedTo(t, g.requests.Certificate("here.test"), owner, keyPart(newSecret(t, owner).Certificate()))
	for i := range 7 {
		want := 0
		if i == 6 {
			want = 450
		}
		if err := handIn(r, false, service, []byte(request)); code(err) != want {
			t.Errorf("request %d: %v", i, err)
		}
	}
	addAccount(t, g, "key-submission@here.test")
	if err := send(r, "bob@there.test", service, hello); err != nil {
		t.Error(err)
	}
	if n := held(t, g); n != 1 {
		t.Errorf("the account's mail: %d held", n)
	}
}
