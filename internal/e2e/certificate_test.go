package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A certificate that mail cannot be sealed to is refused at import, with a text that
// says what to do, and nothing of it is kept.
func TestBadCertificates(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{withoutCertificate: true})
	device := newGnuPG(t)
	noise := make([]byte, 5000)
	rand.Read(noise)
	noise[0] = 0xC6 // a public key packet; other octets might look like a secret one
	tests := []struct {
		name string
		data []byte
		want string // of what standard error says
	}{
		{"expired", expiredCertificate(t), "expired"},
		{"revoked", device.revokedCertificate(), "revoked"},
		{"no-encryption-subkey", device.makeKey("sign@example.org", "ed25519", "sign", "never"), "encryption"},
		{"rsa-10000", fakeCertificate(rsaKey(10_000), "<alice@example.org>"), "algorithm|bits"},
		{"rsa-1024", fakeCertificate(rsaKey(1024), "<alice@example.org>"), "weak|short|bits"},
		{"10000-user-ids", withUserIDs(device.makeKey("many@example.org", "future-default", "default", "never"), 10_000), "large|many|limit"},
		{"2-MB", bytes.Repeat([]byte("x"), 2<<20), "large"},
		{"garbage-octets", noise, "no OpenPGP certificate|algorithm|large"},
		{"garbage-text", []byte("Dear Sir or Madam,\nplease find my key attached.\n"), "no OpenPGP certificate"},
		{"empty", nil, "no OpenPGP certificate"},
		{"cut-off", readFile(t, g.certFile)[:300], "no OpenPGP certificate"},
		{"secret-key", readFile(t, g.secretFile), "SECRET"},
		{"secret-key-of-gpg", device.run(nil, "--export-secret-keys", "many@example.org"), "SECRET"},
	}
	advice := regexp.MustCompile(`gpg |export|extend|renew|make |new |import|use |sq |add |give|delete|remove|ask`)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := writeFile(t, "cert", tt.data)
			out, errOut, code := command(t, nil, "cert", "import", owner, file, "--config", g.configFile)
			if code != 1 || len(out) > 0 {
				t.Errorf("exit code %d, printed %q", code, out)
			}
			message := string(errOut)
			if !regexp.MustCompile(tt.want).MatchString(message) || !advice.MatchString(message) || strings.Count(message, "\n") != 1 {
				t.Errorf("it says %q", message)
			}
			t.Logf("%s", message)
		})
	}
	if got := g.postern("cert", "list", "--json"); strings.TrimSpace(string(got)) != "[]" {
		t.Errorf("certificates were kept: %s", got)
	}
	// The account is as good as before: mail is held, and a good certificate releases it.
	g.deliver(text("after all that", "still here"))
	g.postern("cert", "import", owner, g.certFile)
	eventually(t, "the held message is sealed", func() bool { return g.count(t, "INBOX") == 2 })
}

// expiredCertificate was made ten years ago, for a year.
func expiredCertificate(t *testing.T) []byte {
	t.Helper()
	p := newGnuPG(t)
	p.now = "20160301T000000!"
	return p.makeKey("old@example.org", "rsa2048", "default", "1y")
}

// revokedCertificate makes a key and uses the revocation that gpg prepares with it.
func (p *gnupg) revokedCertificate() []byte {
	p.t.Helper()
	p.makeKey("revoked@example.org", "future-default", "default", "never")
	fingerprint := p.fingerprint("revoked@example.org")
	prepared, err := os.ReadFile(filepath.Join(p.home, "openpgp-revocs.d", fingerprint+".rev"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.run(bytes.Replace(prepared, []byte("\n:-----BEGIN"), []byte("\n-----BEGIN"), 1), "--import")
	return p.run(nil, "--export", fingerprint)
}

// packet puts a header before the body of an OpenPGP packet (RFC 9580 4.2).
func packet(tag byte, body []byte) []byte {
	return slices.Concat([]byte{0xC0 | tag, 0xFF}, binary.BigEndian.AppendUint32(nil, uint32(len(body))), body)
}

// rsaKey is the body of a version 4 public key packet whose modulus has so many bits.
func rsaKey(bits int) []byte {
	n := make([]byte, bits/8)
	rand.Read(n)
	n[0] |= 0x80
	n[len(n)-1] |= 1
	return slices.Concat([]byte{4, 0x60, 0, 0, 0, 1, byte(bits >> 8), byte(bits)}, n, []byte{0, 17, 1, 0, 1})
}

// fakeCertificate has a user ID and what looks like a self-signature.
func fakeCertificate(key []byte, userID string) []byte {
	signature := make([]byte, 32)
	rand.Read(signature)
	signature[0] |= 0x80
	head := []byte{4, 0x13, 1, 8, 0, 6, 5, 2, 0x60, 0, 0, 1, 0, 0, 0xAB, 0xCD, 1, 0}
	return slices.Concat(packet(6, key), packet(13, []byte(userID)), packet(2, append(head, signature...)))
}

// withUserIDs adds user IDs to a certificate.
func withUserIDs(certificate []byte, n int) []byte {
	for i := range n {
		certificate = append(certificate, packet(13, fmt.Appendf(nil, "<u%d@example.org>", i))...)
	}
	return certificate
}
