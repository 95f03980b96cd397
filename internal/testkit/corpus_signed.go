package testkit

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
)

// dkimMessages carry DKIM signatures (RFC 6376, RFC 8463) by keys that are the same
// at each call; only the time of signing differs.
func dkimMessages() []Message {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	record := "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	bodies := []string{prose(11, 20), "", "trailing lines\n\n\n\n", "spaces \t at the end  \n and  within\n", "8-bit: Gr\xc3\xbc\xc3\x9fe\n", ".\n"}
	var all []Message
	for i, body := range bodies {
		for j, how := range []dkim.Canonicalization{dkim.CanonicalizationSimple, dkim.CanonicalizationRelaxed} {
			d := newDraft("dkim", 2*i+j).content("text/plain; charset=utf-8", "8bit", body)
			d.field("Subject", "signed\n  and folded   oddly")
			b, _ := wire(d.message().Bytes)
			var out bytes.Buffer
			err := dkim.Sign(&out, bytes.NewReader(b), &dkim.SignOptions{
				Domain: "example.net", Selector: "test", Signer: key, Hash: crypto.SHA256,
				HeaderCanonicalization: how, BodyCanonicalization: how,
			})
			if err != nil {
				panic("testkit: sign by DKIM: " + err.Error())
			}
			all = append(all, Message{Name: d.name, Bytes: out.Bytes(),
				TXT: map[string]string{"test._domainkey.example.net": record}})
		}
	}
	return all
}

// signedBodies are what is signed: MIME entities in canonical form (RFC 3156 5).
func signedBodies() []string {
	return []string{
		part("Content-Type: text/plain; charset=us-ascii", "signed and in clear\n"),
		part("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable", "Gr=C3=BC=C3=9Fe=20\nwith a trailing space\n\n\n"),
		part("Content-Type: multipart/mixed; boundary=in", multipart("in", part("Content-Type: text/plain", prose(12, 9)), part("Content-Type: image/png\nContent-Transfer-Encoding: base64", base64Lines(noise(6, 2000))))),
		part("Content-Type: text/plain; charset=us-ascii; protected-headers=\"v1\"\nSubject: the protected subject\nFrom: Bob Example <bob@example.net>", "headers inside\n"),
	}
}

// generateSigned returns messages signed by gpg and openssl, as far as there are
// such programs.
func generateSigned(t testing.TB) []Message {
	t.Helper()
	all, err := pgpSigned()
	if err != nil {
		t.Log("no OpenPGP signatures in the corpus: ", err)
	}
	more, err := smimeSigned(t.TempDir())
	if err != nil {
		t.Log("no S/MIME signatures in the corpus: ", err)
	}
	return append(all, more...)
}

// pgpSigned makes multipart/signed (RFC 3156) and clear-signed messages with a key
// that lives as long as the call.
func pgpSigned() ([]Message, error) {
	gpg, ok := findProgram("gpg")
	if !ok {
		return nil, fmt.Errorf("gpg is not here")
	}
	// Not t.TempDir: the agent's socket must have a short name.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(home)
	defer exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
	run := func(in string, args ...string) ([]byte, error) {
		return pipe(in, gpg, append([]string{"--homedir", home, "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"}, args...)...)
	}
	if _, err := run("", "--quick-generate-key", "Bob Example <bob@example.net>", "ed25519", "sign", "never"); err != nil {
		return nil, err
	}
	certificate, err := run("", "--armor", "--export", "bob@example.net")
	if err != nil {
		return nil, err
	}
	var all []Message
	for i, body := range signedBodies() {
		canonical := strings.ReplaceAll(body, "\n", "\r\n")
		sig, err := run(canonical, "--armor", "--digest-algo", "SHA256", "--detach-sign")
		if err != nil {
			return nil, err
		}
		d := newDraft("pgp-signed", i).content("multipart/signed; micalg=pgp-sha256;\n protocol=\"application/pgp-signature\"; boundary=pgp", "",
			multipart("pgp", body, part("Content-Type: application/pgp-signature; name=signature.asc", string(sig))))
		m := d.message()
		m.SignedBy = certificate
		all = append(all, m)
	}
	clear, err := run("clear-signed text\n- with a dash\n", "--clearsign")
	if err != nil {
		return nil, err
	}
	m := newDraft("pgp-clearsigned", 0).content("text/plain; charset=utf-8", "7bit", string(clear)).message()
	m.SignedBy = certificate
	return append(all, m), nil
}

// smimeSigned makes multipart/signed and opaque signed messages (RFC 8551).
func smimeSigned(dir string) ([]Message, error) {
	openssl, ok := findProgram("openssl")
	if !ok {
		return nil, fmt.Errorf("openssl is not here")
	}
	keyFile, certFile := filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	cert, err := writeCertificate(keyFile, certFile)
	if err != nil {
		return nil, err
	}
	var all []Message
	for i, body := range signedBodies() {
		for j, how := range [][]string{nil, {"-nodetach"}} {
			args := append([]string{"cms", "-sign", "-signer", certFile, "-inkey", keyFile, "-md", "sha256", "-outform", "SMIME", "-binary", "-crlfeol"}, how...)
			out, err := pipe(strings.ReplaceAll(body, "\n", "\r\n"), openssl, args...)
			if err != nil {
				return nil, err
			}
			// What openssl makes begins with its own MIME-Version and Content-Type.
			d := newDraft("smime-signed", 2*i+j).without("MIME-Version")
			head := []byte(strings.Join(d.fields, "\n") + "\n")
			all = append(all, Message{Name: d.name, Bytes: append(head, out...), SignedBy: cert})
		}
	}
	return all, nil
}

// writeCertificate writes a self-signed certificate and its key.
func writeCertificate(keyFile, certFile string) ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Bob Example"}, EmailAddresses: []string{"bob@example.net"},
		NotBefore: start, NotAfter: start.AddDate(50, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(certFile, cert, 0o600); err != nil {
		return nil, err
	}
	return cert, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
}

// pipe runs a program and returns what it writes.
func pipe(in, program string, args ...string) ([]byte, error) {
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(in)
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, failure.Bytes())
	}
	return out, nil
}
