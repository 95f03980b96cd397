package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/config"
	"postern/internal/server"
)

func TestQuickstart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	s := f.setup
	dir := filepath.Dir(s.Config)
	if s.Address != owner || len(s.Password) != 30 || s.Hostname != "mail.here.test" || s.Ports.MX != 64025 || s.Ports.HTTPS != 64443 {
		t.Errorf("%+v", s)
	}
	if !slices.Equal(s.Fingerprints, []string{f.key.Certificate().Fingerprint()}) {
		t.Errorf("fingerprints %v", s.Fingerprints)
	}
	for name, mode := range map[string]fs.FileMode{
		".": fs.ModeDir | 0o700, "data": fs.ModeDir | 0o700, "keys": fs.ModeDir | 0o700, "tls": fs.ModeDir | 0o700,
		"postern.toml": 0o600, "tls/key.pem": 0o600, "tls/cert.pem": 0o644, "keys/provenance.key": 0o600, "keys/hold.key": 0o600,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if _, err := os.Stat(s.GatewayKey); err != nil {
		t.Error(err)
	}
	c, err := config.Load(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	if c.SMTP.Listen != "127.0.0.1:64025" || c.IMAP.Listen != "127.0.0.1:64143" || c.IMAP.ListenTLS != "127.0.0.1:64993" ||
		c.Submission.Listen != "127.0.0.1:64587" || c.Submission.ListenTLS != "127.0.0.1:64465" ||
		c.HTTPS.Listen != "127.0.0.1:64443" || c.HTTP.Listen != "127.0.0.1:64925" || c.DataDir != filepath.Join(dir, "data") || !slices.Equal(c.Domains, []string{"here.test"}) {
		t.Errorf("%+v", c)
	}
	out := text(t, s)
	for _, want := range []string{s.Password, owner, "64993", "64587", "_submissions._tcp.here.test.\tIN\tSRV\t0 1 64465", "IN\tMX\t10 mail.here.test.", "postern serve --config " + s.Config, s.Fingerprints[0], "_imaps._tcp.here.test.\tIN\tSRV\t0 1 64993", "port 25 only"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	account, err := f.account(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	boxes, err := f.g.Store.Mailboxes(t.Context(), account.ID)
	var names []string
	for _, b := range boxes {
		names = append(names, b.Name+" "+b.SpecialUse)
	}
	slices.Sort(names)
	if want := []string{`Archive \Archive`, `Drafts \Drafts`, "INBOX ", `Junk \Junk`, `Sent \Sent`, `Trash \Trash`}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v", names, err)
	}
}

func TestQuickstartWithoutCertificate(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	if len(f.setup.Fingerprints) != 0 || !strings.Contains(text(t, f.setup), "postern key new "+owner) {
		t.Errorf("%+v", f.setup)
	}
}

// files reads a directory whole.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			all[path] = "directory"
			return nil
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}

func TestQuickstartNeverOverwrites(t *testing.T) {
	t.Parallel()
	o := options(t)
	write(t, filepath.Join(o.Dir, "notes.txt"), "mine")
	before := files(t, o.Dir)
	if _, err := Quickstart(t.Context(), o); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Fatalf("%v", err)
	}
	if after := files(t, o.Dir); len(after) != len(before) || after[filepath.Join(o.Dir, "notes.txt")] != "mine" {
		t.Errorf("%v", after)
	}
	o.Dir = write(t, filepath.Join(t.TempDir(), "file"), "mine")
	if _, err := Quickstart(t.Context(), o); err == nil {
		t.Error("a file was taken for a directory")
	}

	again := options(t)
	if _, err := Quickstart(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	before = files(t, again.Dir)
	if _, err := Quickstart(t.Context(), again); err == nil {
		t.Error("a gateway was made over another")
	}
	for name, text := range files(t, again.Dir) {
		if before[name] != text {
			t.Errorf("%s was changed", name)
		}
	}
}

func TestQuickstartInAnEmptyDirectory(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Dir = t.TempDir()
	if _, err := Quickstart(t.Context(), o); err != nil {
		t.Error(err)
	}
}

// Of two at once in the same directory one makes a whole gateway and the other nothing.
func TestQuickstartTwiceAtOnce(t *testing.T) {
	t.Parallel()
	o := options(t)
	var wg sync.WaitGroup
	var made atomic.Pointer[Setup]
	n := atomic.Int32{}
	for range 4 {
		wg.Go(func() {
			if s, err := Quickstart(context.WithoutCancel(t.Context()), o); err == nil {
				n.Add(1)
				made.Store(s)
			}
		})
	}
	wg.Wait()
	if n.Load() != 1 {
		t.Fatalf("%d gateways in one directory", n.Load())
	}
	a, err := Open(t.Context(), made.Load().Config)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if list, err := a.Accounts(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// What cannot be done leaves nothing behind, or an empty directory that was there.
func TestQuickstartRefusals(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		change func(*QuickstartOptions)
		usage  bool
		text   string
	}{
		"no address":         {func(o *QuickstartOptions) { o.Address = "alice" }, true, "alice"},
		"sub-address":        {func(o *QuickstartOptions) { o.Address = "alice+x@here.test" }, true, "sub-address"},
		"address literal":    {func(o *QuickstartOptions) { o.Address = "alice@[192.0.2.1]" }, true, "domain name"},
		"no IP":              {func(o *QuickstartOptions) { o.Listen = "localhost" }, true, "--listen"},
		"IP with a zone":     {func(o *QuickstartOptions) { o.Listen = "fe80::1%eth0" }, true, "--listen"},
		"base port 1":        {func(o *QuickstartOptions) { o.BasePort = 1 }, true, "--base-port"},
		"base port too high": {func(o *QuickstartOptions) { o.BasePort = 65000 }, true, "--base-port"},
		"bad hostname":       {func(o *QuickstartOptions) { o.Hostname = "a b" }, true, "--hostname"},
		"literal hostname":   {func(o *QuickstartOptions) { o.Hostname = "[192.0.2.1]" }, true, "hostname"},
		"certificate rubbish": {func(o *QuickstartOptions) { o.Certificate = []byte("hello") }, false,
			"no OpenPGP certificate"},
		"certificate expired": {func(o *QuickstartOptions) { o.Certificate = testdata(t, "expired.asc") }, false, "expired"},
		"certificate revoked": {func(o *QuickstartOptions) { o.Certificate = testdata(t, "revoked.asc") }, false, "revoked"},
		"secret key":          {func(o *QuickstartOptions) { o.Certificate = newKey(t).Armor() }, false, "SECRET"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			row.change(&o)
			s, err := Quickstart(t.Context(), o)
			if err == nil || s != nil || errors.Is(err, ErrUsage) != row.usage || !strings.Contains(err.Error(), row.text) {
				t.Errorf("%v, %v", s, err)
			}
			if _, err := os.Stat(o.Dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("left behind: %v", files(t, o.Dir))
			}
		})
	}
}

// What fails half-way is removed.
func TestQuickstartUndone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := options(t)
	if _, err := Quickstart(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	if _, err := os.Stat(o.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", files(t, o.Dir))
	}
	o.Dir = t.TempDir()
	if _, err := Quickstart(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	if left := files(t, o.Dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := Quickstart(t.Context(), o); err != nil {
		t.Errorf("and then: %v", err)
	}
}

func TestQuickstartListens(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{"": ":64025", "::1": "[::1]:64025", "192.0.2.1": "192.0.2.1:64025", "0.0.0.0": "0.0.0.0:64025"} {
		o := options(t)
		o.Listen = listen
		c, _, err := o.plan()
		if err != nil || c.SMTP.Listen != want {
			t.Errorf("%q: %v, %v", listen, c, err)
		}
	}
}

func TestDNSRecords(t *testing.T) {
	t.Parallel()
	ports, err := config.Ports(0)
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.Hostname = "mail.here.test"
	for listen, want := range map[string]string{
		"":              "mail.here.test.\tIN\tA\t<this server's public IP address>",
		"0.0.0.0":       "mail.here.test.\tIN\tA\t<this server's public IP address>",
		"127.0.0.1":     "mail.here.test.\tIN\tA\t<this server's public IP address>",
		"10.1.2.3":      "mail.here.test.\tIN\tA\t<this server's public IP address>",
		"::":            "mail.here.test.\tIN\tA\t<this server's public IP address>",
		"203.0.113.9":   "mail.here.test.\tIN\tA\t203.0.113.9",
		"2001:db8::cab": "mail.here.test.\tIN\tAAAA\t2001:db8::cab",
	} {
		r := records(cfg, "here.test", listen, ports, nil)
		_, id := server.MTASTS(cfg)
		if rest := strings.Join(r[7:], "\n"); rest != "mta-sts.here.test.\tIN\tCNAME\tmail.here.test.\n_mta-sts.here.test.\tIN\tTXT\t\"v=STSv1; id="+id+";\"\n"+
			"_smtp._tls.here.test.\tIN\tTXT\t\"v=TLSRPTv1; rua=mailto:postmaster@here.test\"" {
			t.Errorf("%q", r)
		}
		if r[0] != want || r[1] != "here.test.\tIN\tMX\t10 mail.here.test." || r[4] != "_imaps._tcp.here.test.\tIN\tSRV\t0 1 993 mail.here.test." ||
			r[5] != "_submissions._tcp.here.test.\tIN\tSRV\t0 1 465 mail.here.test." || r[6] != "openpgpkey.here.test.\tIN\tCNAME\tmail.here.test." {
			t.Errorf("%q: %q", listen, r)
		}
	}
}

func TestSelfSigned(t *testing.T) {
	t.Parallel()
	now := time.Now()
	certPEM, keyPEM, err := selfSigned("mail.here.test", []string{"here.test"}, now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	leaf := pair.Leaf
	for _, name := range []string{"mail.here.test", "here.test", "openpgpkey.here.test", "keys.here.test", "mta-sts.here.test", "localhost", netip.IPv6Loopback().String(), "127.0.0.1"} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if leaf.IsCA || leaf.NotAfter.Sub(now) > 398*24*time.Hour {
		t.Errorf("CA %v, until %v", leaf.IsCA, leaf.NotAfter)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "mail.here.test"}); err != nil {
		t.Error(err)
	}
}
