package wks

import (
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
)

// A nonce holds for one certificate of one address, for a day, and on every node.
func TestNonce(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	d := NewDoor(Options{Secret: []byte("secret of this gateway"), Now: clock})
	other := NewDoor(Options{Secret: []byte("secret of another"), Now: clock})
	alice, carol := mail.Address{Local: "Alice", Domain: "here.test"}, mail.Address{Local: "carol", Domain: "here.test"}
	nonce, err := d.nonce(alice, []byte("certificate"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.nonce(alice, []byte("certificate")); err != nil || again == nonce {
		t.Errorf("%s, %v: the same twice", again, err)
	}
	lower := mail.Address{Local: "alice", Domain: "here.test"}
	if !d.holds(nonce, lower, []byte("certificate")) || !d.holds(strings.ToUpper(nonce), alice, []byte("certificate")) {
		t.Error("it does not hold")
	}
	changed := []byte(nonce)
	if changed[0]++; changed[0] > 'v' || changed[0] == ':' {
		changed[0] = 'a'
	}
	for name, holds := range map[string]bool{
		"of another address":     d.holds(nonce, carol, []byte("certificate")),
		"of another certificate": d.holds(nonce, alice, []byte("another")),
		"of another gateway":     other.holds(nonce, alice, []byte("certificate")),
		"that was changed":       d.holds(string(changed), alice, []byte("certificate")),
		"that is cut":            d.holds(nonce[:len(nonce)-2], alice, []byte("certificate")),
		"that is none":           d.holds("", alice, []byte("certificate")),
	} {
		if holds {
			t.Errorf("a nonce %s holds", name)
		}
	}
	now = now.Add(pendingFor)
	if d.holds(nonce, alice, []byte("certificate")) {
		t.Error("it holds for ever")
	}
}

func TestParseFields(t *testing.T) {
	t.Parallel()
	got := parseFields([]byte("# comment\r\nType: confirmation-response\r\naddress:alice@here.test\r\nnonce: ab\r\n  cd  \r\n\r\nnonce: second\r\nrubbish\r\n more\r\n"))
	want := map[string]string{"type": "confirmation-response", "address": "alice@here.test", "nonce": "abcd"}
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s is %q, want %q", name, got[name], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %q", got)
	}
}

// FuzzOpened gives the service what somebody has encrypted to it.
func FuzzOpened(f *testing.F) {
	f.Add([]byte("Content-Type: application/vnd.gnupg.wks\n\ntype: confirmation-response\nnonce: x\n"))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: application/pgp-keys\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n--x--\r\n"))
	f.Add([]byte("From: alice@here.test\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: application/pgp-keys\r\n\r\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, content := find(b)
		if kind == "" && content != nil {
			t.Errorf("content of no kind: %q", content)
		}
		for name, value := range parseFields(content) {
			if strings.ContainsAny(name+value, "\n") {
				t.Errorf("%q: %q", name, value)
			}
		}
		if a, err := author(b, "here.test"); err == nil && a.Domain != "here.test" {
			t.Errorf("author %v", a)
		}
		if _, err := certificate(content, mail.Address{Local: "alice", Domain: "here.test"}); err == nil {
			t.Log("a certificate")
		}
	})
}
