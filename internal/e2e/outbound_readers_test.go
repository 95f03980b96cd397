package e2e

import (
	"encoding/base64"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"postern/internal/testkit"
)

// reader is somebody elsewhere, with a key of the program that opens their mail.
type reader struct {
	address     string
	certificate []byte
	open        func(t *testing.T, message string) []byte
}

// Whatever program people elsewhere have made their keys with, it opens what leaves for
// them: the message as it was submitted, with its real subject. Who is in Bcc gets a
// ciphertext of their own, and no other names them.
func TestReadersOpenWhatLeaves(t *testing.T) {
	t.Parallel()
	o := newOutpost(t, options{})
	device := newGnuPG(t)
	readers := []reader{
		gpgReader(device, "gpg-rsa", "rsa3072"), gpgReader(device, "gpg-curve25519", "future-default"), gpgReader(device, "hidden", "future-default"),
		sqReader(t), sqopReader(t), rnpReader(t), openpgpjsReader(t, "openpgpjs-v4", 4), openpgpjsReader(t, "openpgpjs-v6", 6),
	}
	var all, named []string
	for _, r := range readers {
		o.pin(t, r.address, r.certificate)
		all = append(all, r.address)
		if !strings.HasPrefix(r.address, "hidden@") {
			named = append(named, r.address)
		}
	}
	message := []byte("From: Alice <alice@example.org>\r\nTo: " + strings.Join(named, ",\r\n ") + "\r\nBcc: hidden@example.net\r\n" +
		"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= to all\r\nDate: Mon, 2 Mar 2026 11:00:00 +0000\r\nMessage-ID: <readers@example.org>\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Content-Transfer-Encoding: 8bit\r\n\r\n.\r\n..two dots\r\nfür alle, trailing space \r\n\r\n" +
		"--m\r\nContent-Type: application/octet-stream; name=b\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
		strings.Repeat("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKiss\r\n", 2000) + "--m--\r\n")
	if reply := o.hand(t, message, all...); !strings.HasSuffix(reply, ": 8 sealed") {
		t.Errorf("the sender is told %q", reply)
	}
	keys := keysOf(o.left(t, "hidden@example.net", 0).Content, device)
	if len(keys) != 1 {
		t.Fatalf("the copy of who is in Bcc is for %q", keys)
	}
	for _, r := range readers {
		t.Run(strings.TrimSuffix(r.address, "@example.net"), func(t *testing.T) {
			m := o.left(t, r.address, 0)
			leftSealed(t, m.Content, r.open(t, m.Content), message)
			hidden := strings.HasPrefix(r.address, "hidden@")
			if got := keysOf(m.Content, device); len(got) == 0 || slices.Contains(got, keys[0]) != hidden {
				t.Errorf("it is for the keys %q; %s is in Bcc", got, keys[0])
			}
			if len(m.Rcpts) > 1 && hidden || strings.Contains(m.Content, "hidden") {
				t.Errorf("it shows who is in Bcc: %q\n%s", m.Rcpts, m.Content)
			}
		})
	}
}

// keysOf are the keys that gpg says a message is encrypted to.
func keysOf(message string, p *gnupg) (ids []string) {
	p.t.Helper()
	packets, _, _ := p.try(armorOf(p.t, []byte(message)), "--list-packets") // it also fails to open it, if it is for others
	for line := range strings.Lines(string(packets)) {
		if strings.HasPrefix(line, ":pubkey enc packet:") {
			_, id, _ := strings.Cut(line, "keyid ")
			ids = append(ids, strings.TrimSpace(id))
		}
	}
	return ids
}

func gpgReader(p *gnupg, name, algorithm string) reader {
	p.t.Helper()
	address := name + "@example.net"
	certificate := p.makeKey(address, algorithm, "default", "never")
	if algorithm != "future-default" { // gpg makes only the primary key of these in one step
		p.run(nil, "--quick-add-key", p.fingerprint(address), algorithm, "encr", "never")
		certificate = p.run(nil, "--export", address)
	}
	return reader{address, certificate, func(_ *testing.T, message string) []byte { return p.open([]byte(message))[0] }}
}

func sqReader(t *testing.T) reader {
	t.Helper()
	sq := testkit.Parts(t, "sq")["sq"]
	key := filepath.Join(t.TempDir(), "sq.key")
	mustTool(t, nil, sq, "key", "generate", "--userid", "<sq@example.net>", "--export", key)
	return reader{"sq@example.net", mustTool(t, nil, sq, "key", "extract-cert", key), func(t *testing.T, message string) []byte {
		t.Helper()
		return mustTool(t, armorOf(t, []byte(message)), sq, "decrypt", "--recipient-key", key)
	}}
}

func sqopReader(t *testing.T) reader {
	t.Helper()
	sqop := testkit.Parts(t, "sqop")["sqop"]
	secret := mustTool(t, nil, sqop, "generate-key", "<sqop@example.net>")
	key := writeFile(t, "sqop.key", secret)
	return reader{"sqop@example.net", mustTool(t, secret, sqop, "extract-cert"), func(t *testing.T, message string) []byte {
		t.Helper()
		return mustTool(t, armorOf(t, []byte(message)), sqop, "decrypt", key)
	}}
}

func rnpReader(t *testing.T) reader {
	t.Helper()
	parts := testkit.Parts(t, "rnp", "rnpkeys")
	home := []string{"--homedir", t.TempDir()}
	mustTool(t, nil, parts["rnpkeys"], append(home, "--generate-key", "--userid", "<rnp@example.net>", "--password", "")...)
	certificate := mustTool(t, nil, parts["rnpkeys"], append(home, "--export-key", "rnp@example.net")...)
	return reader{"rnp@example.net", certificate, func(t *testing.T, message string) []byte {
		t.Helper()
		file := writeFile(t, "message.asc", armorOf(t, []byte(message)))
		mustTool(t, nil, parts["rnp"], append(home, "--password", "", "--decrypt", file, "--output", file+".out")...)
		return readFile(t, file+".out")
	}}
}

func openpgpjsReader(t *testing.T, name string, version int) reader {
	t.Helper()
	address := name + "@example.net"
	var made struct{ Secret, Certificate string }
	node(t, "openpgp.mjs", map[string]any{"make": map[string]any{"address": address, "version": version}}, &made)
	return reader{address, []byte(made.Certificate), func(t *testing.T, message string) []byte {
		t.Helper()
		var opened struct{ Text string }
		node(t, "openpgp.mjs", map[string]string{"key": made.Secret, "message": string(armorOf(t, []byte(message)))}, &opened)
		text, err := base64.StdEncoding.DecodeString(opened.Text)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}}
}
