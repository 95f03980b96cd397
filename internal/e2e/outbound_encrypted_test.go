package e2e

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/testkit"
)

// What the sender's own software encrypted leaves as end-to-end, whatever software that
// is, and is not encrypted again. Only packets in the old format get a new frame.
func TestEncryptedBySender(t *testing.T) {
	t.Parallel()
	openssl := testkit.Parts(t, "openssl")["openssl"]
	o := newOutpost(t, options{})
	device := newGnuPG(t)
	js4, js6, sq := openpgpjsReader(t, "js-v4", 4), openpgpjsReader(t, "js-v6", 6), sqReader(t)
	lonely := newGnuPG(t) // it has to try all its keys
	gpg, hidden := gpgReader(device, "gpg", "future-default"), gpgReader(lonely, "anonymous", "future-default")
	dir := t.TempDir()
	key, certificate := filepath.Join(dir, "key"), filepath.Join(dir, "cert")
	mustTool(t, nil, openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=smime", "-addext", "subjectAltName=email:smime@example.net",
		"-keyout", key, "-out", certificate)
	for _, r := range []reader{js4, js6, sq, gpg, hidden} {
		o.pin(t, r.address, r.certificate)
	}
	const secret = "Content-Type: text/plain; charset=utf-8\r\n\r\nthe text inside, Grüße\r\n"

	javascript := func(r reader) func() string {
		return func() string {
			var made struct{ Message string }
			node(t, "openpgp.mjs", map[string]any{"encrypt": map[string]string{"certificate": string(r.certificate), "text": secret}}, &made)
			return pgpMIME(made.Message)
		}
	}
	cms := func(cipher string) func() string {
		return func() string {
			return string(mustTool(t, []byte(secret), openssl, "cms", "-encrypt", "-binary", "-crlfeol", cipher, certificate))
		}
	}
	decrypt := func(t *testing.T, message string) []byte {
		t.Helper()
		return mustTool(t, []byte(message), openssl, "cms", "-decrypt", "-inkey", key, "-recip", certificate)
	}
	for i, row := range []struct {
		name     string
		address  string
		make     func() string // Content-Type and what follows
		open     func(t *testing.T, message string) []byte
		reframed bool
	}{
		{"OpenPGP.js to v4", js4.address, javascript(js4), js4.open, false},
		{"OpenPGP.js to v6", js6.address, javascript(js6), js6.open, false},
		{"sqop", sq.address, func() string {
			sqop := testkit.Parts(t, "sqop")["sqop"]
			return pgpMIME(string(mustTool(t, []byte(secret), sqop, "encrypt", writeFile(t, "cert", sq.certificate))))
		}, sq.open, false},
		{"gpg", gpg.address, func() string {
			return pgpMIME(string(device.run([]byte(secret), "--armor", "--trust-model", "always", "--encrypt", "-r", gpg.address)))
		}, gpg.open, true},
		{"gpg to nobody by name", hidden.address, func() string {
			return pgpMIME(string(lonely.run([]byte(secret), "--armor", "--trust-model", "always", "--encrypt", "-R", hidden.address)))
		}, hidden.open, true},
		{"S/MIME", "smime@example.net", cms("-aes256"), decrypt, false},
		{"S/MIME, authenticated", "smime@example.net", cms("-aes-256-gcm"), decrypt, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			content := withCRLF(row.make())
			message := []byte("From: Alice <alice@example.org>\r\nTo: " + row.address + "\r\nSubject: ...\r\nDate: Mon, 2 Mar 2026 11:00:00 +0000\r\n" +
				"Message-ID: <encrypted-" + fmt.Sprint(i) + "@example.org>\r\n" + content)
			if reply := o.hand(t, message, row.address); !strings.HasSuffix(reply, ": 1 end-to-end") {
				t.Errorf("the sender is told %q", reply)
			}
			before := 0
			if row.name == "S/MIME, authenticated" {
				before = 1
			}
			left := o.left(t, row.address, before).Content
			header, body, _ := cutHeader([]byte(left))
			wantHeader, wantBody, _ := cutHeader(message)
			same(t, "header section", without(header, "DKIM-Signature", "Received"), wantHeader)
			if !row.reframed {
				same(t, "body", body, wantBody)
			} else if bytes.Equal(body, wantBody) {
				t.Error("its packets still have the old format: is this row about anything?")
			}
			if got := row.open(t, left); string(got) != secret {
				t.Errorf("it opens to %q", got)
			}
		})
	}
	t.Run("S/MIME, only signed", func(t *testing.T) {
		content := mustTool(t, []byte(secret), openssl, "cms", "-sign", "-nodetach", "-binary", "-crlfeol", "-signer", certificate, "-inkey", key)
		message := append([]byte("From: Alice <alice@example.org>\r\nTo: dave@example.net\r\nSubject: ...\r\nDate: Mon, 2 Mar 2026 11:00:00 +0000\r\n"+
			"Message-ID: <signed@example.org>\r\n"), withCRLF(string(content))...)
		if reply := o.hand(t, message, "dave@example.net"); !strings.HasSuffix(reply, ": 1 insecure (dave@example.net)") {
			t.Errorf("the sender is told %q", reply)
		}
		leftMarked(t, o.left(t, "dave@example.net", 0).Content, message)
	})
}

// pgpMIME is the content of a mail around an armored message (RFC 3156 4).
func pgpMIME(armor string) string {
	return "MIME-Version: 1.0\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=e\r\n\r\n" +
		"--e\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--e\r\nContent-Type: application/octet-stream\r\n\r\n" +
		armor + "\r\n--e--\r\n"
}

// withCRLF ends every line with CRLF, whatever ended it.
func withCRLF(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
}
