package server

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"postern/internal/dns/dnstest"
	"postern/internal/mail"
	"postern/internal/testkit"
)

// TestWebKeyService has gpg-wks-client hand in a key: it finds the service in the Web Key
// Directory, its mail comes by SMTP, and the confirmation is read by IMAP.
func TestWebKeyService(t *testing.T) {
	testkit.Parts(t, "gpg", "dirmngr", "gpgconf", "ip")
	testkit.WKSClient(t)
	if testkit.Apart(t) {
		testWebKeyService(t)
	}
}

func testWebKeyService(t *testing.T) {
	const ip = "10.77.0.20"
	authority := testkit.Furnish(t, ip, "mail.here.test", "here.test", "openpgpkey.here.test")
	dnstest.ServeSystem(t, "openpgpkey.here.test. 60 IN A "+ip, "here.test. 60 IN A "+ip)
	c := newConfig(t)
	c.HTTPS.Listen, c.TLS.Cert, c.TLS.Key = ip+":443", authority.Cert, authority.Key
	g, r, _ := serve(t, c)
	if err := send(r, "bob@there.test", owner, hello); err != nil { // held, for want of a key
		t.Fatal(err)
	}
	w := newWKSClient(t)
	fingerprint := w.generate(t, owner)

	w.run(t, nil, testkit.WKSClient(t), "-v", "--supported", owner)
	request := w.run(t, nil, testkit.WKSClient(t), "-v", "--create", fingerprint, owner)
	if err := handIn(r, true, "key-submission@here.test", request); err != nil {
		t.Fatal(err)
	}
	confirmation := lastMessage(t, r)
	if !bytes.Contains(confirmation, []byte("From: key-submission@here.test\r\n")) || bytes.Contains(confirmation, []byte("nonce")) {
		t.Errorf("the last message is %q", confirmation)
	}
	if n := held(t, g); n != 1 {
		t.Fatalf("%d held before the answer", n)
	}
	answer := w.run(t, confirmation, testkit.WKSClient(t), "-v", "--receive")
	if err := handIn(r, false, "key-submission@here.test", answer); err != nil {
		t.Fatal(err)
	}
	address, err := mail.ParseAddress(owner)
	if err != nil {
		t.Fatal(err)
	}
	if a := g.Directory.Own(t.Context(), address); a.Kind != mail.Found || a.Fingerprint != fingerprint {
		t.Errorf("own certificate: %+v", a)
	}
	if n := held(t, g); n != 0 {
		t.Errorf("%d held after the answer", n)
	}
	if err := handIn(r, false, "key-submission@here.test", answer); code(err) != 550 {
		t.Errorf("the answer once more: %v", err)
	}
	w.readsPlain(t, r, fingerprint)

	// A second key does not replace the first.
	second := w.generate(t, owner)
	request = w.run(t, nil, testkit.WKSClient(t), "--create", second, owner)
	if err := handIn(r, false, "key-submission@here.test", request); err != nil {
		t.Fatal(err)
	}
	answer = w.run(t, lastMessage(t, r), testkit.WKSClient(t), "--receive")
	if err := handIn(r, true, "key-submission@here.test", answer); err != nil {
		t.Fatal(err)
	}
	if a := g.Directory.Own(t.Context(), address); a.Fingerprint != fingerprint {
		t.Errorf("own certificate, then: %+v", a)
	}
	eventually(t, "the Web Key Directory has the key", func() bool {
		_, err := w.try(t, nil, testkit.WKSClient(t), "--check", owner)
		return err == nil
	})
}

// readsPlain takes the way of mail programs that open the confirmation themselves.
func (w *wksClient) readsPlain(t *testing.T, r *Running, fingerprint string) {
	t.Helper()
	request := w.run(t, nil, testkit.WKSClient(t), "--create", fingerprint, owner)
	if err := handIn(r, true, "key-submission@here.test", request); err != nil {
		t.Fatal(err)
	}
	_, armored, _ := bytes.Cut(lastMessage(t, r), []byte("-----BEGIN PGP MESSAGE-----"))
	plain := w.run(t, append([]byte("-----BEGIN PGP MESSAGE-----"), armored...), "gpg", "--batch", "--decrypt")
	_, text, _ := bytes.Cut(bytes.ReplaceAll(plain, []byte("\r\n"), []byte("\n")), []byte("\n\n"))
	answer := w.run(t, text, testkit.WKSClient(t), "--read")
	if err := handIn(r, true, "key-submission@here.test", answer); err != nil {
		t.Fatal(err)
	}
}

// wksClient is a person with GnuPG.
type wksClient struct{ env []string }

func newWKSClient(t *testing.T) *wksClient {
	t.Helper()
	home, err := os.MkdirTemp("", "gpg") // the socket's path must not be long
	if err != nil {
		t.Fatal(err)
	}
	w := &wksClient{env: append(os.Environ(), "GNUPGHOME="+home, "LC_ALL=C")}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all") // of this home directory only
		cmd.Env = w.env
		_ = cmd.Run()
		os.RemoveAll(home)
	})
	return w
}

func (w *wksClient) generate(t *testing.T, address string) (fingerprint string) {
	t.Helper()
	status := w.run(t, nil, "gpg", "--batch", "--pinentry-mode", "loopback", "--yes", "--passphrase", "", "--status-fd", "1", "--quick-gen-key", "Alice <"+address+">", "future-default", "default", "never")
	_, created, _ := strings.Cut(string(status), "KEY_CREATED ")
	fields := strings.Fields(created) // the kind of key, and its fingerprint
	if len(fields) < 2 {
		t.Fatalf("gpg: %s", status)
	}
	return fields[1]
}

func (w *wksClient) run(t *testing.T, in []byte, name string, args ...string) []byte {
	t.Helper()
	out, err := w.try(t, in, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (w *wksClient) try(t *testing.T, in []byte, name string, args ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Stdin = w.env, bytes.NewReader(in)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	t.Logf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, stderr.String())
	return out, err
}

// lastMessage reads the newest message of the INBOX.
func lastMessage(t *testing.T, r *Running) []byte {
	t.Helper()
	c, err := login(r, owner, password)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	selected, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	section := &imap.FetchItemBodySection{Peek: true}
	all, err := c.Fetch(imap.SeqSetNum(selected.NumMessages), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil || len(all) != 1 {
		t.Fatal(err)
	}
	return all[0].FindBodySection(section)
}
