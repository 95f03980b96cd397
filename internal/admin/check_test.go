package admin

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/config"
	"postern/internal/dns/dnstest"
	"postern/internal/server"
	"postern/internal/telemetry"
	"postern/internal/testkit"
)

// find returns the findings about something.
func (r Report) find(what string) (found []Finding) {
	for _, f := range r {
		if strings.HasPrefix(f.What, what) {
			found = append(found, f)
		}
	}
	return found
}

// want fails unless what is in this state, and says text.
func (r Report) want(t *testing.T, what, state, text string) {
	t.Helper()
	for _, f := range r.find(what) {
		if f.State == state && strings.Contains(f.Text, text) {
			return
		}
	}
	t.Errorf("%s is not %s with %q:\n%+v", what, state, text, r)
}

// newServed makes a gateway whose ports are free, and starts it.
func newServed(t *testing.T) (*fixture, *server.Running) {
	t.Helper()
	base, release := testkit.FreeBase(t, 25, 143, 443, 993, 925)
	f := &fixture{t: t, key: newKey(t)}
	o := options(t)
	o.BasePort, o.Certificate = base, f.key.Certificate().Armor()
	var err error
	if f.setup, err = Quickstart(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	setKey(t, f.setup.Config, "servers", `["127.0.0.1:1"]`)
	f.open()
	cfg, err := config.Load(f.setup.Config)
	if err != nil {
		t.Fatal(err)
	}
	g, err := server.Open(t.Context(), cfg, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	release()
	r, err := g.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Stop() })
	return f, r
}

func TestCheckWhileRunningAndStopped(t *testing.T) {
	t.Parallel()
	f, running := newServed(t)
	f.deliver(mailOf("one") + strings.Repeat("too large for the database\r\n", 1000))
	o := CheckOptions{Store: true}
	r := Check(t.Context(), f.setup.Config, o)
	if err := r.Err(); err != nil {
		t.Errorf("%v\n%s", err, text(t, r))
	}
	r.want(t, "configuration", Fine, "postern.toml")
	r.want(t, "TLS certificate", Warn, "self-signed")
	r.want(t, "keys", Fine, "provenance key")
	r.want(t, "account "+owner, Fine, "1 usable certificates, 1 messages")
	for _, port := range []string{"SMTP", "IMAP", "IMAPS", "health"} {
		r.want(t, "port "+port, Fine, "answers")
	}
	r.want(t, "database", Fine, "consistent")
	r.want(t, "blobs", Fine, "1 verified")
	if len(r.find("DNS")) != 0 {
		t.Error("the DNS was asked")
	}

	// The files have another certificate than the server shows.
	cert, key, err := selfSigned("mail.here.test", []string{"here.test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(f.setup.Config)
	write(t, filepath.Join(dir, "tls", "cert.pem"), string(cert))
	write(t, filepath.Join(dir, "tls", "key.pem"), string(key))
	Check(t.Context(), f.setup.Config, o).want(t, "port IMAPS", Bad, "SIGHUP")
	cfg, err := config.Load(f.setup.Config)
	if err != nil {
		t.Fatal(err)
	}
	if err := running.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	Check(t.Context(), f.setup.Config, o).want(t, "port IMAPS", Fine, "answers")

	if err := running.Stop(); err != nil {
		t.Fatal(err)
	}
	r = Check(t.Context(), f.setup.Config, o)
	if err := r.Err(); err != nil {
		t.Errorf("that nothing runs is no problem: %v", err)
	}
	r.want(t, "port SMTP", Warn, "is the server running?")
	r.want(t, "blobs", Fine, "1 verified")
}

func TestCheckFindsDamage(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	f.deliver(mailOf("one") + strings.Repeat("long enough for a file of its own\r\n", 70_000))
	file := damage(t, f)
	r := Check(t.Context(), f.setup.Config, CheckOptions{Store: true})
	r.want(t, "blob f/", Bad, "corrupt")
	r.want(t, "blobs", Bad, "1 of 1 are damaged or missing")
	if r.Err() == nil {
		t.Error("no error")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r = Check(t.Context(), f.setup.Config, CheckOptions{Store: true})
	r.want(t, "blob f/", Bad, "no such blob")
	// Without --store nobody looks.
	if err := Check(t.Context(), f.setup.Config, CheckOptions{}).Err(); err != nil {
		t.Error(err)
	}
}

func TestCheckConfiguration(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	good, err := os.ReadFile(f.setup.Config)
	if err != nil {
		t.Fatal(err)
	}
	setKey(t, f.setup.Config, "max_recipients", "0")
	setKey(t, f.setup.Config, "subject", `"perhaps"`)
	r := Check(t.Context(), f.setup.Config, CheckOptions{})
	if r.Err() == nil || len(r) != 2 {
		t.Errorf("each mistake is a finding of its own: %+v", r)
	}
	r.want(t, "configuration", Bad, "smtp.max_recipients")
	r.want(t, "configuration", Bad, "seal.subject")
	Check(t.Context(), filepath.Join(t.TempDir(), "none.toml"), CheckOptions{}).want(t, "configuration", Bad, "no such file")

	// The data is not there, as when a disk is not mounted. Looking does not make it.
	empty := filepath.Join(t.TempDir(), "data")
	write(t, f.setup.Config, string(good))
	setKey(t, f.setup.Config, "data_dir", fmt.Sprintf("%q", empty))
	Check(t.Context(), f.setup.Config, CheckOptions{}).want(t, "data", Bad, empty)
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	Check(t.Context(), f.setup.Config, CheckOptions{}).want(t, "data", Bad, "mounted")
	if left := files(t, empty); len(left) != 1 {
		t.Errorf("check made %v", left)
	}
}

// What is wrong with the data keeps nothing else from being looked at.
func TestCheckGoesOnWithoutData(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	setKey(t, f.setup.Config, "servers", `["127.0.0.1:1"]`)
	file := filepath.Join(f.g.Config.DataDir, "postern.db")
	write(t, file, strings.Repeat("rubbish", 1000))
	r := Check(t.Context(), f.setup.Config, CheckOptions{DNS: true, Store: true})
	r.want(t, "data", Bad, file)
	r.want(t, "data", Bad, "put a backup in its place")
	r.want(t, "TLS certificate", Warn, "self-signed")
	r.want(t, "DNS mail.here.test", Warn, "cannot be looked up")
	r.want(t, "port SMTP", Warn, "is the server running?")
	if r.Err() == nil {
		t.Error("no error")
	}
}

// Secrets that others can read are named, and what is public is not.
func TestCheckSecrets(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	c := f.g.Config
	var r Report
	if r.secrets(c); len(r) != 0 {
		t.Errorf("a new gateway: %+v", r)
	}
	other := filepath.Join(c.KeysDir, "hold.key.old")
	write(t, other, "a copy")
	for path, mode := range map[string]os.FileMode{c.TLS.Key: 0o640, filepath.Join(c.KeysDir, "hold.key"): 0o604, other: 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	r = Check(t.Context(), f.setup.Config, CheckOptions{})
	r.want(t, "TLS key", Warn, "mode 0640")
	r.want(t, "TLS key", Warn, "chmod go-rwx "+c.TLS.Key)
	r.want(t, "keys", Warn, "hold.key has mode 0604")
	r.want(t, "keys", Warn, "hold.key.old has mode 0644")
	if n := len(r.find("keys")); n != 2 {
		t.Errorf("%d findings of keys: %+v", n, r.find("keys"))
	}
}

func TestCheckTLS(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	dir := filepath.Dir(f.setup.Config)
	for name, row := range map[string]struct {
		host  string
		made  time.Duration
		state string
		text  string
	}{
		"self-signed":   {"mail.here.test", 0, Warn, "self-signed"},
		"another name":  {"www.there.test", 0, Warn, "is not for mail.here.test"},
		"expired":       {"mail.here.test", -400 * 24 * time.Hour, Bad, "expired on"},
		"expires soon":  {"mail.here.test", -393 * 24 * time.Hour, Warn, "expires on"},
		"not yet valid": {"mail.here.test", 3 * time.Hour, Bad, "not valid before"},
	} {
		cert, key, err := selfSigned(row.host, nil, time.Now().Add(row.made))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "tls", "cert.pem"), string(cert))
		write(t, filepath.Join(dir, "tls", "key.pem"), string(key))
		var r Report
		r.tls(f.g.Config, time.Now())
		t.Run(name, func(t *testing.T) { r.want(t, "TLS certificate", row.state, row.text) })
	}
	write(t, filepath.Join(dir, "tls", "cert.pem"), "rubbish")
	var r Report
	r.tls(f.g.Config, time.Now())
	r.want(t, "TLS certificate", Bad, "PEM")
}

// Others ask for certificates by openpgpkey.DOMAIN or DOMAIN, and for the MTA-STS policy
// by mta-sts.DOMAIN, and want a certificate for that name.
func TestCheckWebNames(t *testing.T) {
	t.Parallel()
	cfg := config.Default()
	cfg.Domains = []string{"here.test", "there.test"}
	cert, key, err := selfSigned("mail.here.test", []string{"here.test"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if r.webNames(cfg, pair.Leaf); len(r) != 2 {
		t.Errorf("%+v", r)
	}
	r.want(t, "TLS certificate", Warn, "is not for mta-sts.there.test")
	r.want(t, "TLS certificate", Warn, "is not for openpgpkey.there.test")
	cfg.HTTPS.Publish, cfg.HTTPS.MTASTS = false, "none"
	r = nil
	if r.webNames(cfg, pair.Leaf); len(r) != 0 {
		t.Errorf("nothing is published, but %+v", r)
	}
}

// TestCheckEnforced: who has others deliver only to a good certificate needs one.
func TestCheckEnforced(t *testing.T) {
	t.Parallel()
	now := time.Now()
	good := func() *x509.Certificate {
		return &x509.Certificate{Issuer: pkix.Name{CommonName: "CA"}, DNSNames: []string{"mail.example.org"}, NotAfter: now.Add(time.Hour)}
	}
	for name, c := range map[string]struct {
		change func(*x509.Certificate, *config.Config)
		bad    int
	}{
		"good":         {func(*x509.Certificate, *config.Config) {}, 0},
		"self-signed":  {func(l *x509.Certificate, _ *config.Config) { l.Issuer = l.Subject }, 1},
		"another name": {func(l *x509.Certificate, _ *config.Config) { l.DNSNames = []string{"example.org"} }, 1},
		"expired":      {func(l *x509.Certificate, _ *config.Config) { l.NotAfter = now.Add(-time.Hour) }, 1},
		"testing":      {func(l *x509.Certificate, c *config.Config) { l.Issuer, c.HTTPS.MTASTS = l.Subject, "testing" }, 0},
	} {
		cfg, leaf := config.Default(), good()
		cfg.HTTPS.MTASTS = "enforce"
		c.change(leaf, cfg)
		var r Report
		r.enforced(cfg, leaf, now)
		if len(r.find("MTA-STS")) != c.bad || c.bad > 0 && r.Err() == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestCheckAccounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	f.deliver(mailOf("one"))
	r := Check(t.Context(), f.setup.Config, CheckOptions{})
	r.want(t, "account "+owner, Warn, "no usable certificate (no certificate): mail is held, 1 messages so far")
	setKey(t, f.setup.Config, "no_certificate", `"reject"`)
	Check(t.Context(), f.setup.Config, CheckOptions{}).want(t, "account "+owner, Warn, "mail is refused")
	if err := f.RemoveAccount(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	Check(t.Context(), f.setup.Config, CheckOptions{}).want(t, "accounts", Warn, "postern account add")
}

// An expiry that is near, a quota that is nearly used, held mail that should not be.
func TestCheckWarnsInTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	addr, err := parseAddress(owner)
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	r.account(t.Context(), f.g, addr, AccountInfo{Address: owner, Used: 95, Quota: 100}, time.Now())
	r.want(t, "account "+owner, Warn, "95 % of the quota")
	r.account(t.Context(), f.g, addr, AccountInfo{Address: owner, Held: 3}, time.Now())
	r.want(t, "account "+owner, Bad, "3 messages are held though")
}

// A port on which somebody else answers is a problem.
func TestCheckReach(t *testing.T) {
	t.Parallel()
	answer := func(text string) string {
		l := testkit.FreePort(t).Listener()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprint(c, text)
				if tcp, ok := c.(*net.TCPConn); ok {
					tcp.CloseWrite()
				}
				go func() {
					defer c.Close()
					var b [512]byte
					for err == nil {
						_, err = c.Read(b[:])
					}
				}()
			}
		}()
		return l.Addr().String()
	}
	cfg := config.Default()
	cfg.SMTP.Listen, cfg.IMAP.Listen, cfg.IMAP.ListenTLS = answer("554 go away\r\n"), answer(""), answer("* OK in clear\r\n")
	cfg.Submission.Listen, cfg.Submission.ListenTLS = answer("220 fine\r\n"), answer("220 in clear\r\n")
	cfg.HTTP.Listen = answer("HTTP/1.0 503 Service Unavailable\r\n\r\nnot ready: store\n")
	var r Report
	r.reach(t.Context(), cfg, nil)
	r.want(t, "port SMTP", Bad, "554 go away")
	r.want(t, "port IMAP", Bad, "does not greet")
	r.want(t, "port IMAPS", Bad, "tls")
	r.want(t, "port submission", Fine, "answers")
	r.want(t, "port submissions", Bad, "tls")
	r.want(t, "port health", Bad, "not ready: store")

	cfg.SMTP.Listen, cfg.IMAP.Listen, cfg.IMAP.ListenTLS, cfg.HTTPS.Listen, cfg.HTTP.Listen = "", "", "", "", ""
	cfg.Submission.Listen, cfg.Submission.ListenTLS = "", ""
	r = nil
	if r.reach(t.Context(), cfg, nil); len(r) != 0 {
		t.Errorf("ports that are switched off: %+v", r)
	}
}

func TestCheckDNS(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true)
	check := func(records ...string) Report {
		t.Helper()
		s := dnstest.Start(t, records...)
		setKey(t, f.setup.Config, "servers", fmt.Sprintf("[%q]", s.Addr))
		return Check(t.Context(), f.setup.Config, CheckOptions{DNS: true})
	}
	r := check("mail.here.test. 60 IN A 192.0.2.1", "here.test. 60 IN MX 10 Mail.Here.test.", "mta-sts.here.test. 60 IN CNAME mail.here.test.")
	r.want(t, "DNS mta-sts.here.test", Fine, "has an address")
	r.want(t, "DNS openpgpkey.here.test", Warn, "publish: openpgpkey.here.test.\tIN\tCNAME\tmail.here.test.")
	r.want(t, "DNS mail.here.test", Fine, "has an address")
	r.want(t, "DNS MX here.test", Fine, "names mail.here.test")
	r = check("here.test. 60 IN MX 10 mx.there.test.")
	r.want(t, "DNS mail.here.test", Warn, "publish an A or AAAA record")
	r.want(t, "DNS MX here.test", Warn, "does not name mail.here.test")
	r = check("mail.here.test. 60 IN AAAA 2001:db8::1")
	r.want(t, "DNS mail.here.test", Fine, "has an address")
	r.want(t, "DNS MX here.test", Warn, "publish one that names mail.here.test")

	setKey(t, f.setup.Config, "servers", `["127.0.0.1:1"]`)
	r = Check(t.Context(), f.setup.Config, CheckOptions{DNS: true})
	r.want(t, "DNS mail.here.test", Warn, "cannot be looked up")
	r.want(t, "DNS MX here.test", Warn, "cannot be looked up")
	if err := r.Err(); err != nil {
		t.Errorf("the DNS of others is a warning: %v", err)
	}
}
