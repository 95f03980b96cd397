package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/testkit"
)

// gnupg is a GnuPG home directory of a test's own.
type gnupg struct {
	t    testing.TB
	home string
	path string
	// now is what --faked-system-time gets; empty: the real time.
	now string
}

// newGnuPG makes an empty home directory.
func newGnuPG(t testing.TB) *gnupg {
	t.Helper()
	parts := testkit.Parts(t, "gpg", "gpgconf")
	home, err := os.MkdirTemp("", "gpg") // not t.TempDir: the agent's socket must have a short name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(parts["gpgconf"], "--homedir", home, "--kill", "all").CombinedOutput(); err != nil {
			t.Errorf("gpgconf --kill: %v: %s", err, out)
		}
		os.RemoveAll(home)
	})
	return &gnupg{t: t, home: home, path: parts["gpg"]}
}

// ownerGnuPG is the owner's device: a home directory with their secret key.
func (g *gateway) ownerGnuPG(t testing.TB) *gnupg {
	t.Helper()
	p := newGnuPG(t)
	p.run(nil, "--import", g.secretFile)
	return p
}

// run runs gpg, which must succeed, and returns what it prints.
func (p *gnupg) run(in []byte, args ...string) []byte {
	p.t.Helper()
	out, errOut, err := p.try(in, args...)
	if err != nil {
		p.t.Fatalf("gpg %s: %v\n%s", strings.Join(args, " "), err, errOut)
	}
	return out
}

func (p *gnupg) try(in []byte, args ...string) (stdout, stderr []byte, err error) {
	p.t.Helper()
	common := []string{"--homedir", p.home, "--batch", "--quiet", "--no-auto-check-trustdb", "--pinentry-mode", "loopback", "--passphrase", ""}
	if p.now != "" {
		common = append(common, "--faked-system-time", p.now)
	}
	return tool(p.t, in, p.path, append(common, args...)...)
}

// makeKey makes a key without a passphrase and returns its certificate, binary.
func (p *gnupg) makeKey(address string, how ...string) []byte {
	p.t.Helper()
	p.run(nil, append([]string{"--quick-generate-key", "<" + address + ">"}, how...)...)
	return p.run(nil, "--export", address)
}

// open decrypts whole messages or bare armor, all by one process.
func (p *gnupg) open(messages ...[]byte) [][]byte {
	p.t.Helper()
	dir := p.t.TempDir()
	args := []string{"--yes", "--multifile", "--decrypt"}
	for i, m := range messages {
		name := filepath.Join(dir, fmt.Sprintf("%05d.asc", i))
		if err := os.WriteFile(name, armorOf(p.t, m), 0o600); err != nil {
			p.t.Fatal(err)
		}
		args = append(args, name)
	}
	p.run(nil, args...)
	opened := make([][]byte, len(messages))
	for i := range messages {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%05d", i)))
		if err != nil {
			p.t.Fatalf("message %d was not decrypted: %v", i, err)
		}
		opened[i] = b
	}
	return opened
}

const (
	armorBegin = "-----BEGIN PGP MESSAGE-----"
	armorEnd   = "-----END PGP MESSAGE-----"
)

// armorOf returns the one OpenPGP message in a mail.
func armorOf(t testing.TB, mail []byte) []byte {
	t.Helper()
	from, to := bytes.Index(mail, []byte(armorBegin)), bytes.LastIndex(mail, []byte(armorEnd))
	if from < 0 || to < from || bytes.Count(mail, []byte(armorBegin)) != 1 {
		t.Fatalf("not one OpenPGP message in it: %.300q", mail)
	}
	return append(bytes.Clone(mail[from:to]), armorEnd+"\r\n"...)
}

// tool runs a real program with input, at most for a minute.
func tool(t testing.TB, in []byte, path string, args ...string) (stdout, stderr []byte, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &errOut
	err = cmd.Run()
	return out.Bytes(), errOut.Bytes(), err
}

// mustTool runs a real program that must succeed.
func mustTool(t testing.TB, in []byte, path string, args ...string) []byte {
	t.Helper()
	out, errOut, err := tool(t, in, path, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", filepath.Base(path), err, out, errOut)
	}
	return out
}
