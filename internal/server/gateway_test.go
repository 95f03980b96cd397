package server

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/internal/config"
)

// Where there is no database a new one would refuse everybody's mail for good.
func TestOpenRefusesWithoutData(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	for name, row := range map[string]struct {
		spoil func(*config.Config) error
		text  string
	}{
		"no database":       {func(c *config.Config) error { return os.Remove(databaseFile(c)) }, "is its disk mounted?"},
		"no data directory": {func(c *config.Config) error { return os.RemoveAll(c.DataDir) }, "data directory"},
		"no keys":           {func(c *config.Config) error { return os.RemoveAll(c.KeysDir) }, "open keys"},
		"keys for everybody": {func(c *config.Config) error { return os.Chmod(filepath.Join(c.KeysDir, "hold.key"), 0o644) },
			"chmod"},
		"blobs a file": {func(c *config.Config) error {
			return errors.Join(os.RemoveAll(blobsDir(c)), os.WriteFile(blobsDir(c), nil, 0o600))
		}, "open blobs"},
		"database rubbish": {func(c *config.Config) error {
			return os.WriteFile(databaseFile(c), []byte(strings.Repeat("rubbish", 1000)), 0o600)
		}, "database"},
		"policy": {func(c *config.Config) error {
			c.Policy.File = filepath.Join(c.KeysDir, "policy.toml")
			return os.WriteFile(c.Policy.File, []byte("[[rule]]\nname = \"x\"\nwhen = 'size'\nfloor = \"clear\"\n"), 0o600)
		}, "policy.toml:3: "},
		"resolver": {func(c *config.Config) error { c.DNS.Servers = []string{"not an address"}; return nil }, "resolver"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newConfig(t)
			if err := row.spoil(c); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadDir(c.DataDir)
			g, err := Open(t.Context(), c, log)
			if err == nil || g != nil || !strings.Contains(err.Error(), row.text) {
				t.Errorf("%v", err)
			}
			if after, _ := os.ReadDir(c.DataDir); strings.HasPrefix(name, "no d") && len(after) != len(before) {
				t.Errorf("opening made %v", after)
			}
		})
	}
}

func TestCreateRefusesToOverwrite(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	if g, err := Create(t.Context(), c, slog.New(slog.DiscardHandler)); !errors.Is(err, fs.ErrExist) || g != nil {
		t.Errorf("%v", err)
	}
}

// Root must not leave files of its own in the data of the server's user.
func TestOpenAsRootOnAnothersData(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Log("only root can give files away: nothing to see as another user")
		return
	}
	c := newConfig(t)
	if err := os.Chown(c.DataDir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "sudo -u nobody") {
		t.Errorf("%v", err)
	}
}

func TestGuardMemory(t *testing.T) {
	t.Parallel()
	if err := guardMemory(); err != nil {
		t.Fatal(err)
	}
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &l); err != nil || l.Cur != 0 || l.Max != 0 {
		t.Errorf("%+v, %v", l, err)
	}
}

// An empty list in the file means the system's name servers, not none.
func TestNameServers(t *testing.T) {
	t.Parallel()
	if s := orDefault(config.Default().DNS.Servers); s != nil {
		t.Errorf("%v", s)
	}
	if s := orDefault([]string{"192.0.2.53"}); len(s) != 1 {
		t.Errorf("%v", s)
	}
}

// TestValidating: whose word for DNSSEC counts is as the configuration says, and else
// only that of a server on this machine.
func TestValidating(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		servers, validating []string
		want                bool
	}{
		"on this machine": {[]string{"127.0.0.1:1"}, []string{}, true},
		"elsewhere":       {[]string{"192.0.2.53"}, []string{}, false},
		"trusted":         {[]string{"192.0.2.53", "192.0.2.54:5353"}, []string{"192.0.2.54:5353"}, true},
	} {
		c := newConfig(t)
		c.DNS.Servers, c.DNS.Validating = row.servers, row.validating
		g, err := Open(t.Context(), c, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := g.Resolver.Validates(); got != row.want {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	c := newConfig(t)
	c.DNS.Servers, c.DNS.Validating = []string{"192.0.2.53"}, []string{"192.0.2.54"}
	if _, err := Open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "192.0.2.54") {
		t.Errorf("trusted, but not asked: %v", err)
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	c := config.Default()
	if r := bridgeRules(c); !r.Postmaster.IsNull() || r.KeepSubject || r.RejectWithoutCertificate || len(r.Domains) != 1 {
		t.Errorf("%+v", r)
	}
	c.Postmaster, c.Seal.Subject, c.Seal.NoCertificate = "alice@example.org", "keep", "reject"
	if r := bridgeRules(c); r.Postmaster.String() != "alice@example.org" || !r.KeepSubject || !r.RejectWithoutCertificate {
		t.Errorf("%+v", r)
	}
}

func TestLogins(t *testing.T) {
	t.Parallel()
	g := newGateway(t, newConfig(t))
	l := &logins{store: g.Store, now: g.now, log: g.Log}
	for _, login := range []string{owner, "ALICE@Here.Test", `"alice"@here.test`} {
		if creds, err := l.Credentials(t.Context(), login); err != nil || len(creds) != 1 || creds[0].Account != owner {
			t.Errorf("%s: %v, %v", login, creds, err)
		}
	}
	for _, login := range []string{"", "alice", "bob@here.test", "alice@here.test\x00", "alice+x@here.test"} {
		if creds, err := l.Credentials(t.Context(), login); err != nil || len(creds) != 0 {
			t.Errorf("%q: %v, %v", login, creds, err)
		}
	}
	creds, err := l.Credentials(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	l.Used(t.Context(), creds[0])
	account, err := g.Store.AccountByAddress(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := g.Store.Credentials(t.Context(), account.ID); err != nil || rows[0].LastUsed.IsZero() {
		t.Errorf("%+v, %v", rows, err)
	}
	// That nobody knows is not that there is none.
	if err := g.Store.Close(); err != nil {
		t.Fatal(err)
	}
	if creds, err := l.Credentials(t.Context(), owner); err == nil {
		t.Errorf("with the store closed: %v", creds)
	}
}
