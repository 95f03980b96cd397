package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"postern/internal/testkit"
)

// atLeast is how many different messages the corpus must have.
const atLeast = 200

// What was sealed opens to exactly the octets that arrived, for every message of the
// corpus, and the signatures inside still verify.
func TestP6_ByteRoundTrip(t *testing.T) {
	t.Parallel()
	corpus := testkit.Corpus(t)
	if len(corpus) < atLeast {
		t.Fatalf("only %d messages", len(corpus))
	}
	g := newGateway(t, options{})
	p := g.ownerGnuPG(t)
	encrypted := p.encryptedMail()
	corpus = append(corpus, encrypted...)
	c := g.smtp(t)
	for _, m := range corpus {
		if got := c.send(m.Bytes); !strings.HasPrefix(got, "250 ") {
			t.Fatalf("%s %s was refused: %s", m.Source, m.Name, got)
		}
	}
	got := g.mailbox(t, "INBOX")
	if len(got) != len(corpus) {
		t.Fatalf("sent %d, stored %d", len(corpus), len(got))
	}

	var sealed []sent
	passed := 0
	for i, m := range corpus {
		want := withoutForged(m.Bytes)
		if isSealed(got[i].raw) {
			sealed = append(sealed, sent{Message: m, want: want, raw: got[i].raw})
			continue
		}
		// Only what its sender encrypted is passed through, behind our trace fields.
		if passed++; m.Source != "encrypted" {
			t.Errorf("%s %s was not sealed: %.300q", m.Source, m.Name, got[i].raw)
		}
		if !bytes.HasSuffix(got[i].raw, want) || !bytes.HasPrefix(got[i].raw, []byte("Return-Path: <"+sender+">\r\n")) {
			t.Errorf("%s %s was passed through, but changed", m.Source, m.Name)
		}
	}
	t.Logf("%d messages: %d sealed, %d passed through as encrypted", len(corpus), len(sealed), passed)
	if len(sealed) < atLeast || passed != len(encrypted) {
		t.Errorf("%d messages were sealed and %d passed through", len(sealed), passed)
	}

	raw := make([][]byte, len(sealed))
	for i, s := range sealed {
		raw[i] = s.raw
	}
	for i, original := range p.restored(raw...) {
		same(t, sealed[i].Source+" "+sealed[i].Name+", opened by gpg", original, sealed[i].want)
		sealed[i].restored = original
	}
	g.openWithPostern(t, sealed)
	g.openWithSequoia(t, sealed, 20)
	verifySignatures(t, sealed)
}

// encryptedMail is mail that its sender has encrypted, by OpenPGP and by S/MIME.
func (p *gnupg) encryptedMail() []testkit.Message {
	p.t.Helper()
	openssl := testkit.Parts(p.t, "openssl")["openssl"]
	head := "From: bob@example.net\nTo: " + owner + "\nSubject: ...\n"
	inner := []byte("Content-Type: text/plain\r\n\r\nfor your eyes only\r\n")
	armor := p.run(inner, "--armor", "--trust-model", "always", "--recipient", owner, "--encrypt")
	both := p.run(inner, "--armor", "--trust-model", "always", "--hidden-recipient", owner, "--passphrase", "a secret", "--symmetric", "--encrypt")
	pgp := func(armor []byte) string {
		return head + "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=e\n\n" +
			"--e\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--e\nContent-Type: application/octet-stream\n\n" + string(armor) + "\n--e--\n"
	}
	dir := p.t.TempDir()
	cert := filepath.Join(dir, "cert.pem")
	mustTool(p.t, nil, openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=alice", "-days", "30", "-keyout", filepath.Join(dir, "key.pem"), "-out", cert)
	smime := func(cipher string) string {
		return head + string(mustTool(p.t, inner, openssl, "cms", "-encrypt", "-binary", "-outform", "SMIME", cipher, cert))
	}
	var all []testkit.Message
	for name, text := range map[string]string{
		"pgp": pgp(armor), "pgp-symmetric-hidden": pgp(both), "smime-enveloped": smime("-aes256"), "smime-auth-enveloped": smime("-aes-256-gcm"),
	} {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
		all = append(all, testkit.Message{Name: name, Source: "encrypted", Bytes: []byte(text)})
	}
	return all
}

// sent is a message of the corpus and what became of it.
type sent struct {
	testkit.Message
	want     []byte // what was sent, without what a sender may not say
	raw      []byte // as IMAP gave it
	restored []byte // by gpg and the test's own taking apart
}

// isSealed reports whether we have encrypted it: ours have this body part.
func isSealed(raw []byte) bool {
	return bytes.Contains(raw, []byte("Subject: [...]\r\n")) && bytes.Contains(raw, []byte("\r\nContent-Description: OpenPGP encrypted message\r\n"))
}

// withoutForged takes the fields out that only the gateway may write (design: P5):
// Postern-* and its own Authentication-Results. The rest is what has to come back.
func withoutForged(message []byte) []byte {
	header, body, found := cutHeader(message)
	if !found {
		header, body = message, nil
	}
	var kept []byte
	forged := false
	for line := range bytes.Lines(header) {
		if line[0] != ' ' && line[0] != '\t' {
			lower := bytes.ToLower(line)
			forged = bytes.HasPrefix(lower, []byte("postern-")) || bytes.HasPrefix(lower, []byte("authentication-results: "+hostname+";"))
		}
		if !forged {
			kept = append(kept, line...)
		}
	}
	if found {
		kept = append(kept, "\r\n"...)
	}
	return append(kept, body...)
}

// openWithPostern runs "postern open --original -" on each message.
func (g *gateway) openWithPostern(t *testing.T, all []sent) {
	t.Helper()
	dir := t.TempDir()
	next := make(chan int)
	var workers sync.WaitGroup
	for range 3 {
		workers.Go(func() {
			for i := range next {
				m := all[i]
				file := filepath.Join(dir, fmt.Sprint(i))
				if err := os.WriteFile(file, m.raw, 0o600); err != nil {
					t.Error(err)
					continue
				}
				out, report, code := command(t, nil, "open", file, "--key", g.secretFile, "--gateway-key", g.gatewayKey, "--original", "-")
				if code != 0 || !strings.Contains(string(report), "verified: arrived in clear") {
					t.Errorf("%s %s: postern open: exit code %d, %s", m.Source, m.Name, code, report)
				}
				same(t, m.Source+" "+m.Name+", opened by postern open", out, m.want)
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	workers.Wait()
}

// openWithSequoia opens a sample with sq.
func (g *gateway) openWithSequoia(t *testing.T, all []sent, n int) {
	t.Helper()
	sq := testkit.Parts(t, "sq")["sq"]
	for i := 0; i < n; i++ {
		m := all[i*len(all)/n]
		payload := mustTool(t, armorOf(t, m.raw), sq, "decrypt", "--recipient-key", g.secretFile)
		original, err := restore(payload)
		if err != nil {
			t.Errorf("%s %s, opened by sq: %v", m.Source, m.Name, err)
			continue
		}
		same(t, m.Source+" "+m.Name+", opened by sq", original, m.want)
	}
}

// verifySignatures verifies what signatures the restored messages have.
func verifySignatures(t *testing.T, all []sent) {
	t.Helper()
	verified := map[string]int{}
	p := newGnuPG(t)
	for _, m := range all {
		kind, err := "", error(nil)
		switch {
		case m.TXT != nil:
			kind, err = "DKIM", verifyDKIM(m.restored, m.TXT)
		case bytes.HasPrefix(m.SignedBy, []byte("-----BEGIN PGP")):
			kind, err = "OpenPGP", p.verifyMail(m.restored, m.SignedBy)
		case m.SignedBy != nil:
			kind, err = "S/MIME", verifySMIME(t, m.restored)
		default:
			continue
		}
		if err != nil {
			t.Errorf("%s %s: %s signature: %v", m.Source, m.Name, kind, err)
		}
		verified[kind]++
	}
	t.Logf("signatures verified: %v", verified)
	for kind, n := range map[string]int{"DKIM": 10, "OpenPGP": 5, "S/MIME": 8} {
		if verified[kind] < n {
			t.Errorf("%d %s signatures in the corpus, for at least %d", verified[kind], kind, n)
		}
	}
}

func verifyDKIM(message []byte, txt map[string]string) error {
	got, err := dkim.VerifyWithOptions(bytes.NewReader(message), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		if txt[name] == "" {
			return nil, fmt.Errorf("no TXT at %s", name)
		}
		return []string{txt[name]}, nil
	}})
	if err == nil && len(got) != 1 {
		err = fmt.Errorf("%d signatures", len(got))
	}
	if err == nil {
		err = got[0].Err
	}
	return err
}

// verifyMail verifies a multipart/signed (RFC 3156) or a clear-signed message.
func (p *gnupg) verifyMail(message, certificate []byte) error {
	p.run(certificate, "--import")
	dir := p.t.TempDir()
	file := filepath.Join(dir, "signed")
	args := []string{"--verify", file}
	signed := message
	if _, rest, ok := bytes.Cut(message, []byte("\r\n--pgp\r\n")); ok {
		var tail []byte
		signed, tail, _ = bytes.Cut(rest, []byte("\r\n--pgp\r\n"))
		_, signature, _ := bytes.Cut(tail, []byte("\r\n\r\n"))
		if err := os.WriteFile(filepath.Join(dir, "signature"), signature, 0o600); err != nil {
			return err
		}
		args = []string{"--verify", filepath.Join(dir, "signature"), file}
	}
	if err := os.WriteFile(file, signed, 0o600); err != nil {
		return err
	}
	status, errOut, err := p.try(nil, append([]string{"--status-fd", "1"}, args...)...)
	if err == nil && !bytes.Contains(status, []byte("[GNUPG:] GOODSIG")) {
		err = errors.New("no good signature")
	}
	if err != nil {
		return fmt.Errorf("%w: %s", err, errOut)
	}
	return nil
}

func verifySMIME(t *testing.T, message []byte) error {
	openssl := testkit.Parts(t, "openssl")["openssl"]
	_, errOut, err := tool(t, message, openssl, "cms", "-verify", "-noverify", "-inform", "SMIME", "-binary", "-crlfeol", "-out", "/dev/null")
	if err != nil {
		return fmt.Errorf("%w: %s", err, errOut)
	}
	return nil
}
