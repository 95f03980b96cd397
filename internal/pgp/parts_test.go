package pgp

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Other programs make the keys and open what we seal. A missing one is skipped,
// or a failure where POSTERN_REQUIRE_PARTS is 1.

func needPart(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("POSTERN_REQUIRE_PARTS") == "1" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed (Debian: gnupg, sq, sqop, gosop)", name)
	return ""
}

// run runs a program with an input and returns its output.
func run(t *testing.T, env []string, input []byte, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), env...)
	c.Stdin = bytes.NewReader(input)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return out
}

// partData are payloads that the programs must give back to the octet.
func partData() [][]byte {
	return [][]byte{nil, []byte("Subject: hi\r\n\r\nline\r\nbare\nend  "), randomOctets(1000), randomOctets(100_001)}
}

// gpgHome is a home directory with a path short enough for the agent's socket.
func gpgHome(t *testing.T) []string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"GNUPGHOME=" + dir}
	t.Cleanup(func() {
		c := exec.Command("gpgconf", "--kill", "all") // of this home directory only
		c.Env = append(os.Environ(), env...)
		if err := c.Run(); err != nil {
			t.Log(err)
		}
		os.RemoveAll(dir)
	})
	return env
}

func TestGnuPG(t *testing.T) {
	gpg := needPart(t, "gpg")
	t.Parallel()
	tests := map[string][]string{ // name → primary and subkey algorithm
		"curve25519":           {"ed25519", "cv25519"},
		"rsa3072":              {"rsa3072", "rsa3072"},
		"nistp256":             {"nistp256", "nistp256"},
		"nistp384":             {"nistp384", "nistp384"},
		"nistp521":             {"nistp521", "nistp521"},
		"rsa2048 (one marker)": {"rsa2048", "rsa2048"},
	}
	for name, algorithms := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := gpgHome(t)
			address := "alice@example.org"
			batch := []string{"--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback"}
			run(t, env, nil, gpg, append(batch, "--quick-gen-key", "Alice <"+address+">", algorithms[0], "cert,sign", "0")...)
			c := parseOne(t, run(t, env, nil, gpg, "--batch", "--armor", "--export", address))
			run(t, env, nil, gpg, append(batch, "--quick-add-key", c.Fingerprint(), algorithms[1], "encr", "2y")...)
			c = parseOne(t, run(t, env, nil, gpg, "--batch", "--export", address))
			if _, ok := c.SubkeyExpires(time.Now()); !ok || !c.HasAddress(address) {
				t.Errorf("%q", c.UserIDs())
			}
			for _, data := range partData() {
				message := sealNow(t, data, c)
				if got := run(t, env, message, gpg, "--batch", "--quiet", "--decrypt"); !bytes.Equal(got, data) {
					t.Errorf("%d octets opened to something else", len(data))
				}
			}
			if algorithms[0] == "ed25519" {
				gnupgSecret(t, env, gpg, address)
			}
		})
	}
}

// gnupgSecret reads GnuPG's secret key and opens what GnuPG encrypted with it, and
// the other way round.
func gnupgSecret(t *testing.T, env []string, gpg, address string) {
	t.Helper()
	k, err := ParseSecretKey(run(t, env, nil, gpg, "--batch", "--armor", "--export-secret-keys", address), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range [][]string{nil, {"--armor"}, {"--hidden-recipient", address}, {"--compress-algo", "none"}, {"--symmetric", "--passphrase", "x", "--pinentry-mode", "loopback"}} {
		args := append([]string{"--batch", "--trust-model", "always", "--encrypt", "--recipient", address}, more...)
		message := run(t, env, []byte("from gpg"), gpg, args...)
		if string(opened(t, k, message)) != "from gpg" {
			t.Errorf("gpg %v: opened to something else", more)
		}
		if got, err := Inspect(bytes.NewReader(message)); err != nil || !got.Encrypted || got.SEIPDVersion != 1 {
			t.Errorf("gpg %v: %+v, %v", more, got, err)
		}
	}
	ours, err := GenerateKey("bob@example.org", time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	run(t, env, ours.Armor(), gpg, "--batch", "--quiet", "--import")
	message := sealNow(t, []byte("for two"), k.Certificate(), ours.Certificate())
	if got := run(t, env, message, gpg, "--batch", "--quiet", "--decrypt"); string(got) != "for two" {
		t.Errorf("our own key in gpg: %q", got)
	}
}

// sealNow is sealTo at the real time, which other programs live in.
func sealNow(t *testing.T, data []byte, certs ...*Certificate) []byte {
	t.Helper()
	return sealAt(t, time.Now(), data, max(len(data), 1), certs...)
}

func TestSequoia(t *testing.T) {
	sq := needPart(t, "sq")
	t.Parallel()
	for _, suite := range []string{"cv25519", "rsa3k"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			key, in := filepath.Join(dir, "key.pgp"), filepath.Join(dir, "message.asc")
			run(t, nil, nil, sq, "key", "generate", "--userid", "<alice@example.org>", "--cipher-suite", suite, "--export", key)
			c := parseOne(t, run(t, nil, nil, sq, "key", "extract-cert", key))
			for _, data := range partData() {
				if err := os.WriteFile(in, sealNow(t, data, c), 0o600); err != nil {
					t.Fatal(err)
				}
				if got := run(t, nil, nil, sq, "decrypt", "--recipient-key", key, in); !bytes.Equal(got, data) {
					t.Errorf("%d octets opened to something else", len(data))
				}
			}
		})
	}
}

// TestSOP uses the Stateless OpenPGP interface.
func TestSOP(t *testing.T) {
	for _, name := range []string{"sqop", "gosop"} {
		t.Run(name, func(t *testing.T) {
			sop := needPart(t, name)
			t.Parallel()
			key := run(t, nil, nil, sop, "generate-key", "Alice <alice@example.org>")
			file := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(file, key, 0o600); err != nil {
				t.Fatal(err)
			}
			c := parseOne(t, run(t, nil, key, sop, "extract-cert"))
			payloads := partData()
			if name == "gosop" {
				// It treats what it decrypts as text: CRLF becomes LF, octets that are no
				// UTF-8 are replaced, in its own messages too.
				payloads = [][]byte{nil, []byte("text\nof several\nlines  "), bytes.Repeat([]byte("long text\n"), 10_000)}
			}
			for _, data := range payloads {
				if got := run(t, nil, sealNow(t, data, c), sop, "decrypt", file); !bytes.Equal(got, data) {
					t.Errorf("%d octets opened to something else", len(data))
				}
			}
			k, err := ParseSecretKey(key, nil)
			if err != nil {
				t.Fatal(err)
			}
			cert := filepath.Join(t.TempDir(), "cert")
			if err := os.WriteFile(cert, c.Armor(), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := opened(t, k, run(t, nil, []byte("from others"), sop, "encrypt", cert)); string(got) != "from others" {
				t.Errorf("%q", got)
			}
		})
	}
}
