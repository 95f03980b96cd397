package admin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"postern/internal/config"
	"postern/internal/mail"
	"postern/internal/server"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// CheckOptions say how deep to look.
type CheckOptions struct {
	Store bool // every row and every blob
	DNS   bool
}

// The states of a finding.
const (
	Fine = "ok"
	Warn = "warning"
	Bad  = "problem"
)

// Finding is one thing that was looked at.
type Finding struct {
	What  string `json:"what"`
	State string `json:"state"`
	Text  string `json:"text"`
}

// Report is what Check found.
type Report []Finding

// add adds a finding for each line of the text.
func (r *Report) add(what, state, format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		*r = append(*r, Finding{What: what, State: state, Text: strings.TrimSuffix(line, "\n")})
	}
}

// WriteText implements the human form.
func (r Report) WriteText(w io.Writer) error {
	return table(w, "", func(line func(string, ...any)) {
		for _, f := range r {
			line("%s\t%s\t%s", f.State, f.What, strings.ReplaceAll(f.Text, "\t", " ")) // no columns within
		}
	})
}

// Err is an error if anything is a problem; warnings are none.
func (r Report) Err() error {
	n := 0
	for _, f := range r {
		if f.State == Bad {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d checks found a problem", n, len(r))
}

// Check looks at configuration, TLS certificate, keys, accounts' certificates, DNS, the
// running server and the store. It changes nothing, but that a database of an older
// version is brought up to date.
func Check(ctx context.Context, path string, o CheckOptions) Report {
	var r Report
	cfg, err := config.Load(path)
	if err != nil {
		r.add("configuration", Bad, "%v", err)
		return r
	}
	r.add("configuration", Fine, "%s", path)
	leaf := r.tls(cfg, time.Now())
	r.webNames(cfg, leaf)
	r.enforced(cfg, leaf, time.Now())
	r.secrets(cfg)
	if r.policy(cfg) { // the data is not opened either without it
		r.data(ctx, cfg, o)
	}
	if o.DNS {
		r.dns(ctx, cfg)
	}
	r.reach(ctx, cfg, leaf)
	return r
}

// data looks at what lies in the data directory, and at the keys that open it.
func (r *Report) data(ctx context.Context, cfg *config.Config, o CheckOptions) {
	g, err := server.Open(ctx, cfg, telemetry.Discard())
	if err != nil {
		r.add("data", Bad, "%v", err)
		return
	}
	a := &Admin{g: g}
	r.add("keys", Fine, "provenance key %s", g.Vault.KeyID())
	r.accounts(ctx, a, time.Now())
	if o.DNS {
		r.records(ctx, g)
	}
	if o.Store {
		r.store(ctx, g)
	}
	if err := a.Close(); err != nil {
		r.add("data", Bad, "close: %v", err)
	}
}

// secrets looks whether others than the server's user can read secret files.
func (r *Report) secrets(cfg *config.Config) {
	r.private("TLS key", cfg.TLS.Key)
	entries, err := os.ReadDir(cfg.KeysDir)
	if err != nil {
		r.add("keys", Bad, "%v", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".pub") && !e.IsDir() {
			r.private("keys", filepath.Join(cfg.KeysDir, e.Name()))
		}
	}
}

// private warns of a secret that others can read. That a file is missing is said where
// it is needed.
func (r *Report) private(what, path string) {
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" { // which has no such modes
		return
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		r.add(what, Warn, "%s has mode %04o, so that others than its owner may use it: chmod go-rwx %s", path, mode, path)
	}
}

// tls looks at the certificate that the files hold, and returns it.
func (r *Report) tls(cfg *config.Config, now time.Time) *x509.Certificate {
	pair, err := tls.LoadX509KeyPair(cfg.TLS.Cert, cfg.TLS.Key)
	if err != nil {
		r.add("TLS certificate", Bad, "%v", err)
		return nil
	}
	leaf := pair.Leaf
	if leaf == nil {
		if leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			r.add("TLS certificate", Bad, "%v", err)
			return nil
		}
	}
	until := leaf.NotAfter.UTC().Format(time.DateOnly)
	switch {
	case now.After(leaf.NotAfter):
		r.add("TLS certificate", Bad, "expired on %s: put a new one into %s and send SIGHUP", until, cfg.TLS.Cert)
	case now.Before(leaf.NotBefore):
		r.add("TLS certificate", Bad, "is not valid before %s: check the clock", leaf.NotBefore.UTC().Format(time.DateTime))
	case leaf.VerifyHostname(cfg.Hostname) != nil:
		r.add("TLS certificate", Warn, "is not for %s: mail programs will refuse it", cfg.Hostname)
	case now.AddDate(0, 0, 7).After(leaf.NotAfter):
		r.add("TLS certificate", Warn, "expires on %s", until)
	case leaf.Issuer.String() == leaf.Subject.String():
		r.add("TLS certificate", Warn, "is self-signed: mail programs will ask; put a real one into %s", cfg.TLS.Cert)
	default:
		r.add("TLS certificate", Fine, "until %s", until)
	}
	return leaf
}

// webNames looks whether others can ask for certificates, by one of two names, and for
// the MTA-STS policy: the TLS certificate has to have these names.
func (r *Report) webNames(cfg *config.Config, leaf *x509.Certificate) {
	if leaf == nil || cfg.HTTPS.Listen == "" {
		return
	}
	for _, d := range cfg.Domains {
		if cfg.HTTPS.MTASTS != "none" && leaf.VerifyHostname("mta-sts."+d) != nil {
			r.add("TLS certificate", Warn, "is not for mta-sts.%s: others cannot ask for the MTA-STS policy", d)
		}
		if !cfg.HTTPS.Publish {
			continue
		}
		if leaf.VerifyHostname("openpgpkey."+d) != nil && leaf.VerifyHostname(d) != nil {
			r.add("TLS certificate", Warn, "is not for openpgpkey.%s: others cannot ask for the certificates of accounts there", d)
		}
	}
}

// enforced looks whether others deliver to us, where we tell them to do so only if the
// certificate is good (RFC 8461 4.2).
func (r *Report) enforced(cfg *config.Config, leaf *x509.Certificate, now time.Time) {
	if leaf == nil || cfg.HTTPS.MTASTS != "enforce" || cfg.HTTPS.Listen == "" {
		return
	}
	if leaf.VerifyHostname(cfg.Hostname) != nil || leaf.Issuer.String() == leaf.Subject.String() || now.After(leaf.NotAfter) {
		r.add("MTA-STS", Bad, "https.mta_sts is \"enforce\", but others will not trust the TLS certificate: they deliver nothing. Set it to \"testing\" until there is a good one")
	}
}

func (r *Report) accounts(ctx context.Context, a *Admin, now time.Time) {
	list, err := a.Accounts(ctx)
	if err != nil {
		r.add("accounts", Bad, "%v", err)
		return
	}
	if len(list) == 0 {
		r.add("accounts", Warn, "there is none: postern account add")
	}
	for _, account := range list {
		addr, err := mail.ParseAddress(account.Address)
		if err != nil {
			r.add("account "+account.Address, Bad, "%v", err)
			continue
		}
		r.account(ctx, a.g, addr, account, now)
	}
}

func (r *Report) account(ctx context.Context, g *server.Gateway, addr mail.Address, account AccountInfo, now time.Time) {
	what := "account " + addr.String()
	answer := g.Directory.Own(ctx, addr)
	certs, _ := answer.Certificates(now)
	switch {
	case answer.Kind == mail.Unknown:
		r.add(what, Bad, "%s", answer.Reason)
	case answer.Kind == mail.None && g.Config.Seal.NoCertificate == "reject":
		r.add(what, Warn, "no usable certificate (%s): mail is refused", answer.Reason)
	case answer.Kind == mail.None:
		r.add(what, Warn, "no usable certificate (%s): mail is held, %d messages so far", answer.Reason, account.Held)
	case account.Held > 0:
		r.add(what, Bad, "%d messages are held though there is a certificate: the log of the server says why", account.Held)
	default:
		r.add(what, Fine, "%d usable certificates, %d messages", len(certs), account.Messages)
	}
	for _, c := range certs {
		if at, ok := c.SubkeyExpires(now); ok && now.AddDate(0, 0, 30).After(at) {
			r.add(what, Warn, "certificate %s can be sealed to only until %s", c.Fingerprint(), at.UTC().Format(time.DateOnly))
		}
	}
	if account.Quota > 0 && account.Used > account.Quota/10*9 {
		r.add(what, Warn, "%d %% of the quota are used", account.Used*100/account.Quota)
	}
}

func (r *Report) dns(ctx context.Context, cfg *config.Config) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	resolver, err := server.OpenResolver(cfg)
	if err != nil {
		r.add("DNS", Bad, "%v", err)
		return
	}
	defer resolver.Close()
	host := cfg.Hostname
	if _, err := resolver.LookupIPAddr(ctx, host); err != nil {
		r.add("DNS "+host, Warn, "%s", explainDNS(err, "has no address: publish an A or AAAA record"))
	} else {
		r.add("DNS "+host, Fine, "has an address")
	}
	for _, d := range cfg.Domains {
		mx, err := resolver.LookupMX(ctx, d)
		found := false
		for _, m := range mx {
			found = found || strings.EqualFold(strings.TrimSuffix(m.Host, "."), host)
		}
		switch {
		case err != nil:
			r.add("DNS MX "+d, Warn, "%s", explainDNS(err, "has no MX record: publish one that names "+host))
		case !found:
			r.add("DNS MX "+d, Warn, "does not name %s", host)
		default:
			r.add("DNS MX "+d, Fine, "names %s", host)
		}
		r.hosts(ctx, resolver, cfg, d)
	}
}

// explainDNS tells that there is nothing from that nobody knows.
func explainDNS(err error, nothing string) string {
	var e *net.DNSError
	if errors.As(err, &e) && e.IsNotFound {
		return nothing
	}
	return fmt.Sprintf("cannot be looked up: %v", err)
}

// store verifies every row, and that every blob is there with its digest.
func (r *Report) store(ctx context.Context, g *server.Gateway) {
	if err := g.Store.Check(ctx); err != nil {
		r.add("database", Bad, "%v", err)
	} else {
		r.add("database", Fine, "consistent")
	}
	const most = 20 // findings
	n, bad := 0, 0
	err := g.Store.Blobs(ctx, func(b store.Blob) error {
		n++
		if err := g.Blobs.Verify(ctx, b.Ref, b.Size, b.Digest); err != nil && ctx.Err() == nil {
			if bad++; bad <= most {
				r.add("blob "+b.Ref, Bad, "%v", err)
			}
		}
		return ctx.Err()
	})
	switch {
	case err != nil:
		r.add("blobs", Bad, "after %d blobs: %v", n, err)
	case bad > 0:
		r.add("blobs", Bad, "%d of %d are damaged or missing", bad, n)
	default:
		r.add("blobs", Fine, "%d verified", n)
	}
}
