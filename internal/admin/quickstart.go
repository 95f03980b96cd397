package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"postern/internal/config"
	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/server"
	"postern/internal/telemetry"
	"postern/internal/vault"
)

// QuickstartOptions are the answers that Quickstart needs.
type QuickstartOptions struct {
	Address     string // the first account
	Dir         string // must not exist, or be empty
	Listen      string // the IP address of all listeners; empty: all addresses
	BasePort    int    // added to every port; 0 for the standard ones
	Hostname    string // empty: mail.<domain>
	Certificate []byte // the account's certificate, armored or binary; may be empty
}

// Setup is what Quickstart made and what its user must know.
type Setup struct {
	Address      string          `json:"address"`
	Password     string          `json:"password"` // shown only here
	Config       string          `json:"config"`
	Ports        config.PortPlan `json:"ports"`
	Hostname     string          `json:"hostname"`
	Listen       string          `json:"listen"` // empty: all addresses
	Fingerprints []string        `json:"fingerprints"`
	GatewayKey   string          `json:"gateway_key"` // file with the public provenance key
	DNS          []string        `json:"dns"`         // records to publish, in zone file form
	Notes        []string        `json:"notes"`
}

// Quickstart makes a directory with configuration, keys, TLS certificate, database and
// the first account. It never overwrites anything; if it fails, what it made is removed.
func Quickstart(ctx context.Context, o QuickstartOptions) (_ *Setup, err error) {
	cfg, addr, err := o.plan()
	if err != nil {
		return nil, err
	}
	claimed, err := claim(o.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, claimed.undo())
		}
	}()
	if err := layOut(o.Dir, cfg); err != nil {
		return nil, err
	}
	keys, err := firstDKIM(filepath.Join(o.Dir, cfg.KeysDir), addr.Domain)
	if err != nil {
		return nil, err
	}
	setup := &Setup{
		Address: addr.String(), Config: filepath.Join(o.Dir, configName), Hostname: cfg.Hostname, Listen: o.Listen,
		Fingerprints: []string{}, GatewayKey: filepath.Join(o.Dir, cfg.KeysDir, vault.PublicKeyFile), Notes: []string{},
	}
	setup.Ports, _ = config.Ports(o.BasePort)
	setup.DNS = records(cfg, addr.Domain, o.Listen, setup.Ports, keys)
	setup.note(addr, o)
	if err := setup.firstAccount(ctx, o.Certificate); err != nil {
		return nil, err
	}
	return setup, nil
}

const configName = "postern.toml"

// plan checks all that was given, before anything is made, and returns the
// configuration to write.
func (o *QuickstartOptions) plan() (*config.Config, mail.Address, error) {
	addr, err := parseAddress(o.Address)
	if err == nil {
		addr, err = newAddress(o.Address, []string{addr.Domain})
	}
	if err != nil {
		return nil, mail.Address{}, err
	}
	ports, err := config.Ports(o.BasePort)
	if err != nil {
		return nil, mail.Address{}, usage("--base-port: %v", err)
	}
	listen := ""
	if o.Listen != "" {
		ip, err := netip.ParseAddr(o.Listen)
		if err != nil || ip.Zone() != "" {
			return nil, mail.Address{}, usage("--listen %q is not an IP address", o.Listen)
		}
		listen = ip.String()
		if ip.Is6() {
			listen = "[" + listen + "]" // RFC 3986 3.2.2
		}
	}
	cfg := config.Default()
	cfg.Hostname = "mail." + addr.Domain
	if o.Hostname != "" {
		if cfg.Hostname, err = mail.ParseDomain(o.Hostname); err != nil {
			return nil, mail.Address{}, usage("--hostname: %v", err)
		}
	}
	cfg.Domains = []string{addr.Domain}
	cfg.SMTP.Listen = fmt.Sprintf("%s:%d", listen, ports.MX)
	cfg.Submission.Listen = fmt.Sprintf("%s:%d", listen, ports.Submission)
	cfg.Submission.ListenTLS = fmt.Sprintf("%s:%d", listen, ports.Submissions)
	cfg.IMAP.Listen = fmt.Sprintf("%s:%d", listen, ports.IMAP)
	cfg.IMAP.ListenTLS = fmt.Sprintf("%s:%d", listen, ports.IMAPS)
	cfg.HTTPS.Listen = fmt.Sprintf("%s:%d", listen, ports.HTTPS)
	cfg.HTTP.Listen = fmt.Sprintf("127.0.0.1:%d", ports.Metrics)
	if err := cfg.Validate(); err != nil {
		return nil, mail.Address{}, usage("%v", err)
	}
	return cfg, addr, o.checkCertificate(time.Now())
}

// checkCertificate refuses what the account could not be sealed to.
func (o *QuickstartOptions) checkCertificate(now time.Time) error {
	if len(o.Certificate) == 0 {
		return nil
	}
	certs, err := pgp.ParseCertificates(o.Certificate)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	for _, c := range certs {
		if err := c.Usable(now); err != nil {
			return fmt.Errorf("certificate %s cannot be sealed to: %w", c.Fingerprint(), err)
		}
	}
	return nil
}

// claimed is a directory that nobody else makes a gateway in.
type claimed struct {
	dir  string
	made bool // the directory itself
}

// claim takes an empty or new directory. Making keys/ is what only one can do.
func claim(dir string) (*claimed, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("%s is not empty; nothing was changed", dir)
	}
	c := &claimed{dir: dir, made: err != nil}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		return nil, fmt.Errorf("nothing was changed: %w", err)
	}
	return c, nil
}

// undo removes what a set-up that failed has made. There was nothing before.
func (c *claimed) undo() error {
	errs := []error{
		os.RemoveAll(filepath.Join(c.dir, "data")), os.RemoveAll(filepath.Join(c.dir, "tls")),
		os.RemoveAll(filepath.Join(c.dir, configName)), os.RemoveAll(filepath.Join(c.dir, "keys")),
	}
	if c.made {
		errs = append(errs, os.Remove(c.dir))
	}
	return errors.Join(errs...)
}

// layOut makes everything in the directory but the database.
func layOut(dir string, cfg *config.Config) error {
	if err := os.Mkdir(filepath.Join(dir, "tls"), 0o700); err != nil {
		return err
	}
	if err := vault.Create(filepath.Join(dir, cfg.KeysDir), cfg.Domains[0], time.Now()); err != nil {
		return fmt.Errorf("make keys: %w", err)
	}
	cert, key, err := selfSigned(cfg.Hostname, cfg.Domains, time.Now())
	if err != nil {
		return fmt.Errorf("make TLS certificate: %w", err)
	}
	for _, f := range []struct {
		name string
		data []byte
		mode fs.FileMode
	}{
		{cfg.TLS.Key, key, 0o600},
		{cfg.TLS.Cert, cert, 0o644},
		{configName, config.Render(cfg), 0o600},
	} {
		if err := WriteNew(filepath.Join(dir, filepath.FromSlash(f.name)), f.data, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// firstDKIM makes the first keys that sign what leaves. They sign at once: before their
// records are published, a signature proves nothing, and does no harm.
func firstDKIM(dir, domain string) (vault.DKIMKeys, error) {
	if _, err := vault.CreateDKIM(dir, domain, time.Now()); err != nil {
		return nil, err
	}
	return vault.ActivateDKIM(dir, domain)
}

// firstAccount makes the database with the account, and imports its certificate.
func (s *Setup) firstAccount(ctx context.Context, certificate []byte) (err error) {
	cfg, err := config.Load(s.Config)
	if err != nil {
		return err
	}
	g, err := server.Create(ctx, cfg, telemetry.Discard())
	if err != nil {
		return err
	}
	a := &Admin{g: g}
	defer func() { err = errors.Join(err, a.Close()) }()
	made, err := a.AddAccount(ctx, s.Address, "", "first")
	if err != nil {
		return err
	}
	s.Password = made.Password
	if len(certificate) == 0 {
		return nil
	}
	list, err := a.ImportCertificates(ctx, s.Address, certificate)
	for _, c := range list {
		s.Fingerprints = append(s.Fingerprints, c.Fingerprint)
		if c.Warning != "" {
			s.Notes = append(s.Notes, c.Fingerprint+": "+c.Warning)
		}
	}
	return err
}

// note says what is left to do.
func (s *Setup) note(addr mail.Address, o QuickstartOptions) {
	add := func(format string, args ...any) { s.Notes = append(s.Notes, fmt.Sprintf(format, args...)) }
	if len(o.Certificate) == 0 {
		add("There is no certificate for %s yet: mail is held, encrypted, until there is one. On your own computer: postern key new %s", addr, addr)
	}
	if s.Ports.MX != 25 {
		add("Other mail servers deliver to port 25 only. Port %d is for trying, or to be forwarded to.", s.Ports.MX)
	}
	if s.Ports.HTTPS != 443 {
		add("Others look for certificates on port 443 only. Port %d is for trying, or to be forwarded to.", s.Ports.HTTPS)
	}
	add("On the way out, port 25 has to be open, and this server's IP address needs a PTR record that names %s: its provider makes it.", s.Hostname)
	add("If other servers send mail for %s, name them in its SPF record before you publish it.", addr.Domain)
}

// records are the DNS records to publish, as lines of a zone file.
func records(cfg *config.Config, domain, listen string, ports config.PortPlan, keys vault.DKIMKeys) []string {
	hostname := cfg.Hostname
	kind, address := "A", "<this server's public IP address>"
	if ip, err := netip.ParseAddr(listen); err == nil && ip.IsGlobalUnicast() && !ip.IsPrivate() {
		address = ip.String()
		if ip.Is6() {
			kind = "AAAA"
		}
	}
	all := []string{
		fmt.Sprintf("%s.\tIN\t%s\t%s", hostname, kind, address),
		fmt.Sprintf("%s.\tIN\tMX\t10 %s.", domain, hostname),
	}
	all = append(all, lines(originRecords(domain))...)
	all = append(all,
		fmt.Sprintf("_imaps._tcp.%s.\tIN\tSRV\t0 1 %d %s.", domain, ports.IMAPS, hostname),
		fmt.Sprintf("_submissions._tcp.%s.\tIN\tSRV\t0 1 %d %s.", domain, ports.Submissions, hostname),
	)
	for _, name := range hosts(cfg, domain) {
		all = append(all, alias(cfg, name))
	}
	return append(append(all, lines(dkimRecords(keys))...), lines(transportRecords(cfg, domain))...)
}

// WriteText implements the human form.
func (s *Setup) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Made %s.\n\nAccount:   %s\nPassword:  %s   (an app password; shown only now)\n", filepath.Dir(s.Config), s.Address, s.Password)
	for _, f := range s.Fingerprints {
		fmt.Fprintf(&b, "Sealed to: %s\n", f)
	}
	fmt.Fprintf(&b, "\nDNS records to publish:\n")
	for _, r := range s.DNS {
		fmt.Fprintf(&b, "  %s\n", r)
	}
	fmt.Fprintf(&b, "\nYour mail program, with user name %s:\n  IMAP  %s  port %d (TLS) or %d (STARTTLS)\n  SMTP  %s  port %d (TLS) or %d (STARTTLS)\n",
		s.Address, s.Hostname, s.Ports.IMAPS, s.Ports.IMAP, s.Hostname, s.Ports.Submissions, s.Ports.Submission)
	fmt.Fprintf(&b, "\nThe TLS certificate is self-signed: put a real one into tls/ and send SIGHUP.\nThe gateway's public key, to verify what it vouches for: %s\nKeep keys/ apart from the backups of data/.\n", s.GatewayKey)
	for _, n := range s.Notes {
		fmt.Fprintf(&b, "\nNote: %s\n", n)
	}
	fmt.Fprintf(&b, "\nRun it:\n  postern serve --config %s\n", s.Config)
	_, err := io.WriteString(w, b.String())
	return err
}
