package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/testkit"
)

// account makes an account and imports its certificate. It returns the app password.
func (g *gateway) account(t testing.TB, address string, certificate []byte) string {
	t.Helper()
	var made struct{ Password string }
	if err := json.Unmarshal(g.postern("account", "add", address, "--json"), &made); err != nil || made.Password == "" {
		t.Fatalf("account add --json: %v", err)
	}
	if certificate != nil {
		g.postern("cert", "import", address, writeFile(t, "cert", certificate))
	}
	return made.Password
}

func writeFile(t testing.TB, name string, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Keys that people already have: what is sealed to them opens with the program that made
// them.
func TestDecryptMatrix(t *testing.T) {
	t.Parallel()
	sq := testkit.Parts(t, "sq")["sq"]
	g := newGateway(t, options{})
	device := newGnuPG(t)
	small := text("to everybody", "one message, many kinds of keys")
	large := text("large", strings.Repeat("a line of a large message\r\n", 120_000))

	// sq makes its own key; the secret half is a file.
	sqKey := filepath.Join(t.TempDir(), "sq.key")
	mustTool(t, nil, sq, "key", "generate", "--userid", "<sq@example.org>", "--export", sqKey)
	sqCert := mustTool(t, nil, sq, "key", "extract-cert", sqKey)

	type person struct {
		address     string
		certificate []byte
		open        func(t *testing.T, raw []byte) []byte
	}
	people := []person{{"sq@example.org", sqCert, func(t *testing.T, raw []byte) []byte {
		return mustTool(t, armorOf(t, raw), sq, "decrypt", "--recipient-key", sqKey)
	}}}
	for name, how := range map[string]struct{ algorithm, subkey, expires string }{
		"rsa3072":    {"rsa3072", "rsa3072", "never"},
		"nistp256":   {"nistp256", "nistp256", "never"},
		"nistp384":   {"nistp384", "nistp384", "2y"},
		"curve25519": {"future-default", "", "never"},
		"expiring":   {"future-default", "", "1y"},
		"mixed":      {"rsa2048", "cv25519", "never"},
	} {
		address := name + "@example.org"
		certificate := device.makeKey(address, how.algorithm, "default", how.expires)
		if how.subkey != "" { // gpg makes only the primary key of these in one step
			device.run(nil, "--quick-add-key", device.fingerprint(address), how.subkey, "encr", how.expires)
			certificate = device.run(nil, "--export", address)
		}
		people = append(people, person{address, certificate, func(t *testing.T, raw []byte) []byte { return device.open(raw)[0] }})
	}
	passwords := map[string]string{}
	rcpts := []string{owner}
	for _, p := range people {
		passwords[p.address] = g.account(t, p.address, p.certificate)
		rcpts = append(rcpts, p.address)
	}
	c := g.smtp(t)
	for _, m := range [][]byte{small, large} {
		// One message to all of them: one ciphertext, a session key for each.
		if got := c.send(m, rcpts...); !strings.HasPrefix(got, "250") {
			t.Fatal(got)
		}
	}
	for _, p := range people {
		t.Run(strings.TrimSuffix(p.address, "@example.org"), func(t *testing.T) {
			imap := g.imapAs(t, p.address, passwords[p.address], nil)
			all := fetchAll(t, imap, "INBOX")
			if len(all) != 2 {
				t.Fatalf("%d messages", len(all))
			}
			for i, want := range [][]byte{small, large} {
				original, err := restore(p.open(t, all[i].raw))
				if err != nil {
					t.Fatal(err)
				}
				same(t, fmt.Sprint("message ", i), original, want)
			}
			// Nobody else's key opens it, and the ciphertext names nobody else.
			if packets, _, _ := device.try(armorOf(t, all[0].raw), "--list-packets"); strings.Count(string(packets), ":pubkey enc packet:") != 1 {
				t.Errorf("not one recipient:\n%s", packets)
			}
		})
	}
	// gpg opens what is sealed to our own kind of key, and so does sq.
	mine := g.mailbox(t, "INBOX")
	for _, m := range mine {
		payload := mustTool(t, armorOf(t, m.raw), sq, "decrypt", "--recipient-key", g.secretFile)
		if _, err := restore(payload); err != nil {
			t.Error(err)
		}
	}
	if got := g.ownerGnuPG(t).restored(mine[0].raw); !same(t, "ours by gpg", got[0], small) {
		t.Fail()
	}
}

// fingerprint returns the primary key's.
func (p *gnupg) fingerprint(address string) string {
	p.t.Helper()
	for line := range strings.Lines(string(p.run(nil, "--with-colons", "--list-keys", address))) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			return f[9]
		}
	}
	p.t.Fatal("no key for ", address)
	return ""
}
