package msgauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"postern/internal/mail"
	"postern/internal/testkit"
)

// signing is a signer for sender.example with both kinds of keys, and the zone that has
// them.
type signing struct {
	*Signer
	zone *zone
}

func newSigning(t testing.TB) signing {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	public, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{txt: map[string][]string{
		"r._domainkey.sender.example": {"v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(spki)},
		"e._domainkey.sender.example": {"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)},
	}}
	return signing{NewSigner(SigningKey{"sender.example", "r", rsaKey}, SigningKey{"sender.example", "e", edKey}), z}
}

// sign returns the header section with signatures on top.
func (s signing) sign(t testing.TB, header, body string) string {
	t.Helper()
	signature := s.Begin("sender.example")
	for rest := body; rest != ""; { // in pieces of all sizes
		n := min(len(rest), 1+len(rest)%7)
		if _, err := io.WriteString(signature, rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	fields, err := signature.Fields([]byte(header))
	if err != nil {
		t.Fatal(err)
	}
	return string(fields) + header
}

// verify is our verifier's verdict.
func (s signing) verify(t testing.TB, header, body string) string {
	t.Helper()
	r := NewVerifier(Options{Resolver: s.zone, Now: testkit.NewClock().Now}).Verify(t.Context(), Request{
		HeaderFrom: []mail.Address{{Local: "alice", Domain: "sender.example"}},
		Header:     []byte(header), Body: func() io.Reader { return strings.NewReader(body) },
	})
	return verdicts(r)
}

const signedHeader = "Received: by mail.sender.example; Mon, 2 Mar 2026 11:00:00 +0000\r\n" +
	"From: Alice <alice@sender.example>\r\nTO:bob@there.example,\r\n\tcarol@there.example\r\n" +
	"Subject:  a  subject\t of \r\n  several \r\n lines \r\nDate: Mon, 2 Mar 2026 11:00:00 +0000\r\n" +
	"Message-ID: <1@sender.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\nX-Other: x\r\n\r\n"

func TestSign(t *testing.T) {
	t.Parallel()
	s := newSigning(t)
	for name, body := range map[string]string{
		"text":               "Hello,\r\n\r\n world.\r\n",
		"empty":              "",
		"empty lines":        "\r\n\r\n\r\n",
		"blanks":             " \t\r\n  a \t b  \r\n\t\r\n \r\n",
		"only blanks":        "  \t ",
		"no end of line":     "a\r\nb",
		"blanks at the end":  "a\r\nb  ",
		"odd octets":         "\x01\x02 \xff\xfe\x00\x7f\r\n.\r\n..\r\n",
		"longer than buffer": strings.Repeat(strings.Repeat("x", 900)+"\r\n", 100),
		"a very long line":   strings.Repeat("x ", 50_000) + "\r\n",
	} {
		header := s.sign(t, signedHeader, body)
		if got := s.verify(t, header, body); got != "pass; pass" {
			t.Errorf("%s: %s", name, got)
		}
		if got := s.verify(t, header, body+"x\r\n"); got == "pass; pass" {
			t.Errorf("%s: a line more passes", name)
		}
	}
	header := s.sign(t, signedHeader, "x\r\n")
	fields := strings.TrimSuffix(header, signedHeader)
	if strings.Contains(fields, "; l=") || strings.Contains(fields, "\tl=") || strings.Count(fields, "\r\n\td=sender.example;") != 2 || strings.Count(fields, "c=relaxed/relaxed;") != 2 {
		t.Errorf("%s", fields)
	}
	for line := range strings.SplitSeq(fields, "\r\n") {
		if len(line) > lineLength {
			t.Errorf("%d octets: %s", len(line), line)
		}
	}
	if bare := strings.TrimSuffix(signedHeader, "\r\n"); s.sign(t, bare, "x\r\n") != fields+bare {
		t.Error("without the blank line it is signed otherwise")
	}
}

// What relays do to a message on its way does not matter, and what they must not do
// breaks the signatures.
func TestSignOnTheWay(t *testing.T) {
	t.Parallel()
	s := newSigning(t)
	const body = "Hello.\r\n"
	header := s.sign(t, signedHeader, body)
	for name, changed := range map[string]string{
		"another Received": "Received: x\r\n" + header,
		"folding":          strings.Replace(header, "Subject:  a  subject\t of \r\n", "subject: a\r\n subject of", 1),
		"other fields":     strings.Replace(header, "X-Other: x", "X-Other: y", 1),
	} {
		if got := s.verify(t, changed, body); got != "pass; pass" {
			t.Errorf("%s: %s", name, got)
		}
	}
	const wrong = "fail: signature is wrong; fail: signature is wrong"
	for _, name := range oversigned() {
		if name == "From" {
			continue // the verifier refuses two of them before it looks
		}
		for place, changed := range map[string]string{
			"on top":   name + ": x\r\n" + header,
			"below":    strings.TrimSuffix(header, "\r\n") + name + ": x\r\n\r\n",
			"in front": strings.Replace(header, "From: Alice", name+": x\r\nFrom: Alice", 1),
		} {
			if got := s.verify(t, changed, body); got != wrong {
				t.Errorf("another %s %s: %s", name, place, got)
			}
		}
	}
	if got := s.verify(t, strings.Replace(header, "several", "other", 1), body); got != wrong {
		t.Errorf("another subject: %s", got)
	}
	if got := s.verify(t, strings.Replace(header, "Content-Type: text/plain\r\n", "", 1), body); got != wrong {
		t.Errorf("without Content-Type: %s", got)
	}
}

func TestSigner(t *testing.T) {
	t.Parallel()
	s := newSigning(t)
	for _, domain := range []string{"", "example", "sub.sender.example", "other.example"} {
		none := s.Begin(domain)
		if none != nil {
			t.Errorf("%q is signed for", domain)
		}
		n, err := none.Write([]byte("abc"))
		fields, ferr := none.Fields([]byte(signedHeader))
		if n != 3 || err != nil || fields != nil || ferr != nil {
			t.Errorf("%d %v %q %v", n, err, fields, ferr)
		}
	}
	begun := s.Begin("sender.example")
	s.Set()
	if s.Begin("sender.example") != nil {
		t.Error("it signs without keys")
	}
	if fields, err := begun.Fields([]byte(signedHeader)); err != nil || bytes.Count(fields, []byte(signatureName)) != 2 {
		t.Errorf("what was begun is not signed: %q %v", fields, err)
	}
	odd, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.Set(SigningKey{"sender.example", "x", odd})
	if _, err := s.Begin("sender.example").Fields([]byte(signedHeader)); err == nil {
		t.Error("an ECDSA key signs")
	}
	s.Set(SigningKey{"sender.example", "x", failing{ed25519.PublicKey{}}})
	if _, err := s.Begin("sender.example").Fields([]byte(signedHeader)); err == nil {
		t.Error("a key that fails signs")
	}
}

// failing is a key that cannot sign.
type failing struct{ public crypto.PublicKey }

func (f failing) Public() crypto.PublicKey { return f.public }
func (f failing) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, os.ErrPermission
}

// Many sign at once while the keys change.
func TestSignerAtOnce(t *testing.T) {
	t.Parallel()
	s := newSigning(t)
	keys := (*s.keys.Load())["sender.example"]
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 10 {
				if got := s.verify(t, s.sign(t, signedHeader, "x\r\n"), "x\r\n"); got != "pass; pass" {
					t.Error(got)
				}
				s.Set(keys...)
			}
		})
	}
	wait.Wait()
}

const dkimpyScript = `
import dkim, json, sys
zone = json.load(open(sys.argv[1]))
for path in sys.argv[2:]:
    d = dkim.DKIM(open(path, "rb").read())
    for i in range(2):
        ok = d.verify(idx=i, dnsfunc=lambda name, timeout=5: zone[name.decode().rstrip(".")].encode())
        print("%s %s %s" % (d.domain.decode(), d.selector.decode(), ok))
`

// Another implementation agrees.
func TestSignForDkimpy(t *testing.T) {
	t.Parallel()
	python := "/usr/bin/python3" // the packages belong to the system's, whatever others there are
	if exec.Command(python, "-c", "import dkim, nacl").Run() != nil {
		testkit.Missing(t, "python3-dkim, python3-nacl")
	}
	s := newSigning(t)
	dir := t.TempDir()
	records := make(map[string]string)
	for name, txt := range s.zone.txt {
		records[name] = txt[0]
	}
	zone, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-c", dkimpyScript, filepath.Join(dir, "zone")}
	for name, body := range map[string]string{
		"zone": string(zone), "plain": "Hello \t world. \r\n\r\n\r\n", "empty": "", "long": strings.Repeat("a b\tc  \r\n", 10_000),
	} {
		text := body
		if name != "zone" {
			text = s.sign(t, signedHeader, body) + body
			args = append(args, filepath.Join(dir, name))
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), python, args...).CombinedOutput()
	if want := strings.Repeat("sender.example r True\nsender.example e True\n", 3); err != nil || string(out) != want {
		t.Errorf("%v\n%s", err, out)
	}
}

// Whatever the body and however it comes in pieces, the verifier's library agrees.
func FuzzSign(f *testing.F) {
	s := newSigning(f)
	f.Add("Hello\r\n", 3)
	f.Add(" \r\n \t\r\nx \r\n\r\n", 1)
	f.Add("a b\t\n\nc", 2)
	f.Fuzz(func(t *testing.T, body string, size int) {
		body = strings.ReplaceAll(strings.ReplaceAll(body, "\r", ""), "\n", "\r\n") // as the door lets it in
		size = 1 + max(0, size)%100
		signature := s.Begin("sender.example")
		for rest := []byte(body); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			_, _ = signature.Write(rest[:min(size, len(rest))])
		}
		fields, err := signature.Fields([]byte(signedHeader))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.verify(t, string(fields)+signedHeader, body); got != "pass; pass" {
			t.Fatalf("%q: %s", body, got)
		}
	})
}

// One message of 2 KB, with both signatures and with each.
func BenchmarkSign(b *testing.B) {
	s := newSigning(b)
	keys := (*s.keys.Load())["sender.example"]
	body := bytes.Repeat([]byte("wsBMA0pVJ8vFpzsUAQgAh1pUjCNAm4Jqd6vTzYx3mGmVv0aLJQwzjYQp9rYk2sLx\r\n"), 30)
	for name, with := range map[string][]SigningKey{"both": keys, "rsa": keys[:1], "ed25519": keys[1:]} {
		b.Run(name, func(b *testing.B) {
			signer := NewSigner(with...)
			b.ReportAllocs()
			for b.Loop() {
				signature := signer.Begin("sender.example")
				_, _ = signature.Write(body)
				if _, err := signature.Fields([]byte(signedHeader)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("body", func(b *testing.B) {
		large := bytes.Repeat(body, 500)
		b.SetBytes(int64(len(large)))
		for b.Loop() {
			signature := s.Begin("sender.example")
			_, _ = signature.Write(large)
			signature.body.sum()
		}
	})
}
