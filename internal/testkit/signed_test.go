package testkit

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
)

func checkPGP(t *testing.T, gpg string, m Message) {
	t.Helper()
	b, _ := wire(m.Bytes)
	_, rest, _ := strings.Cut(string(b), "--pgp\r\n")
	signed, rest, _ := strings.Cut(rest, "\r\n--pgp\r\n")
	_, signature, _ := strings.Cut(rest, "\r\n\r\n")
	dir, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for name, content := range map[string]string{"signed": signed, "sig": signature, "cert": string(m.SignedBy)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) ([]byte, error) {
		return exec.CommandContext(t.Context(), gpg, append([]string{"--homedir", dir, "--batch", "--no-autostart"}, args...)...).CombinedOutput()
	}
	if out, err := run("--import", filepath.Join(dir, "cert")); err != nil {
		t.Fatalf("import: %v: %s", err, out)
	}
	if out, err := run("--verify", filepath.Join(dir, "sig"), filepath.Join(dir, "signed")); err != nil {
		t.Errorf("%s: %v: %s", m.Name, err, out)
	}
	os.WriteFile(filepath.Join(dir, "signed"), []byte(signed+"x"), 0o600)
	if _, err := run("--verify", filepath.Join(dir, "sig"), filepath.Join(dir, "signed")); err == nil {
		t.Errorf("%s verifies though it was changed", m.Name)
	}
}

func TestDKIMSignaturesAreGood(t *testing.T) {
	t.Parallel()
	all := dkimMessages()
	if len(all) < 10 {
		t.Errorf("%d messages", len(all))
	}
	for _, m := range all {
		verify := func(b []byte) error {
			got, err := dkim.VerifyWithOptions(bytes.NewReader(b), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
				if m.TXT[name] == "" {
					return nil, fmt.Errorf("no TXT at %s", name)
				}
				return []string{m.TXT[name]}, nil
			}})
			if err != nil {
				return err
			}
			if len(got) != 1 {
				return fmt.Errorf("%d signatures", len(got))
			}
			return got[0].Err
		}
		b, _ := wire(m.Bytes)
		if err := verify(b); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		if verify(append(bytes.Clone(b), "x\r\n"...)) == nil {
			t.Errorf("%s verifies though it was changed", m.Name)
		}
	}
}
