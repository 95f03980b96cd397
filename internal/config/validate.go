package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// Validate returns all that is wrong, joined, each a *Problem that names the key
// and says what is allowed. Names have to be in lower case with A-labels already;
// Load sees to that.
func (c *Config) Validate() error {
	var errs []error
	for _, p := range c.problems() {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// normalise makes paths absolute, starting from dir, and names lower-case A-labels.
func (c *Config) normalise(dir string) {
	for _, p := range []*string{
		&c.DataDir, &c.KeysDir, &c.TLS.Cert, &c.TLS.Key,
		&c.Cluster.PasswordFile, &c.Cluster.SentinelPasswordFile, &c.Cluster.CAFile, &c.Directory.CAFile, &c.Policy.File, &c.Delivery.CAFile,
	} {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	c.Hostname = aLabels(c.Hostname)
	for i := range c.Domains {
		c.Domains[i] = aLabels(c.Domains[i])
	}
	if local, domain, ok := strings.Cut(c.Postmaster, "@"); ok {
		c.Postmaster = strings.ToLower(local) + "@" + aLabels(domain)
	}
}

// aLabels returns a domain in lower case with A-labels, or as it is if it is none.
func aLabels(s string) string {
	if a, err := idna.Lookup.ToASCII(s); err == nil {
		return a
	}
	return s
}

// check collects problems.
type check []*Problem

func (c *check) fail(key, format string, args ...any) {
	*c = append(*c, &Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

func (k *check) nameServers(key string, servers []string) {
	for _, s := range servers {
		if _, err := netip.ParseAddr(s); err == nil {
			continue
		}
		if _, err := netip.ParseAddrPort(s); err != nil {
			k.fail(key, "%q is not an IP address with or without a port, such as \"127.0.0.1\" or \"[::1]:53\"", s)
		}
	}
}

func (c *Config) problems() []*Problem {
	var k check
	k.names(c)
	k.paths(c)
	k.listeners(c)
	k.limits(c)
	k.nameServers("dns.servers", c.DNS.Servers)
	k.nameServers("dns.validating", c.DNS.Validating)
	k.cluster(&c.Cluster)
	k.directory(&c.Directory)
	k.outbound(c)
	k.oneOf("seal.subject", c.Seal.Subject, "hide", "keep")
	k.oneOf("https.mta_sts", c.HTTPS.MTASTS, "none", "testing", "enforce")
	k.oneOf("seal.no_certificate", c.Seal.NoCertificate, "hold", "reject")
	k.oneOf("log.format", c.Log.Format, "text", "json")
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	return k
}

func (k *check) names(c *Config) {
	if !isDomain(c.Hostname) {
		k.fail("hostname", "%q is not a domain name such as \"mail.example.org\"", c.Hostname)
	}
	if len(c.Domains) == 0 {
		k.fail("domains", "at least one is needed")
	}
	for i, d := range c.Domains {
		if !isDomain(d) {
			k.fail("domains", "%q is not a domain name such as \"example.org\"", d)
		} else if slices.Contains(c.Domains[:i], d) {
			k.fail("domains", "%q stands there twice", d)
		}
	}
	if c.Postmaster == "" {
		return
	}
	if local, domain, ok := strings.Cut(c.Postmaster, "@"); !ok || local == "" || !slices.Contains(c.Domains, domain) {
		k.fail("postmaster", "%q is not an address in one of the domains", c.Postmaster)
	}
}

// isDomain says whether s is a domain in lower case with A-labels.
func isDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

func (k *check) paths(c *Config) {
	for _, p := range []struct{ key, path string }{
		{"data_dir", c.DataDir}, {"keys_dir", c.KeysDir}, {"tls.cert", c.TLS.Cert}, {"tls.key", c.TLS.Key},
	} {
		if p.path == "" {
			k.fail(p.key, "it must not be empty")
		}
	}
	// A backup of the one must not carry the other along.
	if within(c.KeysDir, c.DataDir) || within(c.DataDir, c.KeysDir) {
		k.fail("keys_dir", "it must not be in data_dir, nor the other way round: whoever gets one must not get both")
	}
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && path != "" && dir != "" && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func (k *check) listeners(c *Config) {
	seen := make(map[string]string)
	for _, l := range []struct {
		key, addr string
		loopback  string // why it has to be a loopback address, or ""
	}{
		{"smtp.listen", c.SMTP.Listen, ""},
		{"submission.listen", c.Submission.Listen, map[bool]string{true: "allow_clear_login is set"}[c.Submission.AllowClearLogin]},
		{"submission.listen_tls", c.Submission.ListenTLS, ""},
		{"imap.listen", c.IMAP.Listen, map[bool]string{true: "allow_clear_login is set"}[c.IMAP.AllowClearLogin]},
		{"imap.listen_tls", c.IMAP.ListenTLS, ""},
		{"https.listen", c.HTTPS.Listen, ""},
		{"https.listen_hkp", c.HTTPS.ListenHKP, ""},
		{"http.listen", c.HTTP.Listen, "nobody is asked for a password there"},
	} {
		if l.addr == "" {
			continue
		}
		host, port, err := net.SplitHostPort(l.addr)
		ip, ipErr := netip.ParseAddr(host)
		if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || host != "" && host != "localhost" && ipErr != nil {
			k.fail(l.key, "%q is not an address and port such as \":25\", \"192.0.2.1:25\" or \"[::1]:25\"", l.addr)
			continue
		} else if n == 0 {
			port = "" // any free port, so no two are the same
		}
		if l.loopback != "" && host != "localhost" && !ip.Unmap().IsLoopback() {
			k.fail(l.key, "%q is not a loopback address such as \"127.0.0.1:%s\", and has to be one: %s", l.addr, port, l.loopback)
		}
		if other, ok := seen[l.addr]; ok && port != "" {
			k.fail(l.key, "%q is taken by %s", l.addr, other)
		}
		seen[l.addr] = l.key
	}
}

func (k *check) limits(c *Config) {
	if s := c.SMTP.MaxMessageSize; s < 64<<10 || s > 1<<30 { // RFC 5321 4.5.3.1.7 wants 64 KiB
		k.fail("smtp.max_message_size", "%v is out of range: from \"64KiB\" to \"1GiB\"", s)
	}
	if c.Store.Quota < 0 || c.Store.Quota != 0 && c.Store.Quota < c.SMTP.MaxMessageSize {
		k.fail("store.quota", "%v is less than one message may have (smtp.max_message_size)", c.Store.Quota)
	}
	if d := time.Duration(c.DNS.Timeout); d < 100*time.Millisecond || d > 30*time.Second {
		k.fail("dns.timeout", "%v is out of range: from \"100ms\" to \"30s\"", c.DNS.Timeout)
	}
	for _, n := range []struct {
		key           string
		value, lo, hi int
	}{
		{"smtp.max_recipients", c.SMTP.MaxRecipients, 1, 100_000},
		{"smtp.max_connections", c.SMTP.MaxConnections, 1, 100_000},
		{"smtp.max_connections_per_ip", c.SMTP.MaxConnectionsPerIP, 1, 100_000},
		{"smtp.connection_rate", c.SMTP.ConnectionRate, 1, 10_000_000},
		{"smtp.message_rate", c.SMTP.MessageRate, 1, 10_000_000},
		{"queue.workers", c.Queue.Workers, 1, 10_000},
		{"queue.per_domain", c.Queue.PerDomain, 1, 10_000},
		{"delivery.port", c.Delivery.Port, 1, 65535},
		{"delivery.policy_port", c.Delivery.PolicyPort, 1, 65535},
		{"submission.messages_per_hour", c.Submission.MessagesPerHour, 1, 10_000_000},
		{"submission.recipients_per_hour", c.Submission.RecipientsPerHour, 1, 10_000_000},
		{"https.request_rate", c.HTTPS.RequestRate, 1, 10_000_000},
		{"https.max_connections", c.HTTPS.MaxConnections, 1, 100_000},
		{"https.max_connections_per_ip", c.HTTPS.MaxConnectionsPerIP, 1, 100_000},
		{"imap.max_connections", c.IMAP.MaxConnections, 1, 100_000},
		{"imap.max_connections_per_ip", c.IMAP.MaxConnectionsPerIP, 1, 100_000},
		{"imap.max_connections_per_account", c.IMAP.MaxConnectionsPerAccount, 1, 100_000},
	} {
		if n.value < n.lo || n.value > n.hi {
			k.fail(n.key, "%d is out of range: from %d to %d", n.value, n.lo, n.hi)
		}
	}
}

func (k *check) cluster(c *Cluster) {
	k.oneOf("cluster.driver", c.Driver, "memory", "redis")
	if c.Prefix == "" || len(c.Prefix) > 64 || strings.Trim(c.Prefix, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:") != "" {
		k.fail("cluster.prefix", "%q is not made of 1 to 64 letters, digits and \"-_.:\"", c.Prefix)
	}
	// What is wrong is not quoted: it may hold a password that does not belong there.
	u, err := ParseRedisURL(c.URL)
	if err != nil {
		k.fail("cluster.url", "%v", err)
		return
	}
	if c.CAFile != "" && !u.TLS {
		k.fail("cluster.ca_file", "it needs a url that begins with \"rediss\"")
	}
	if c.SentinelPasswordFile != "" && u.Master == "" {
		k.fail("cluster.sentinel_password_file", "it needs a url that begins with \"redis-sentinel\" or \"rediss-sentinel\"")
	}
}

func (k *check) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		k.fail(key, "%q is not allowed: it is one of \"%s\"", value, strings.Join(allowed, `", "`))
	}
}

func (k *check) directory(c *Directory) {
	for i, s := range c.Sources {
		k.oneOf("directory.sources", s, "wkd", "autocrypt", "dane", "keyservers")
		if slices.Contains(c.Sources[:i], s) {
			k.fail("directory.sources", "%q is named twice", s)
		}
	}
	if slices.Contains(c.Sources, "keyservers") != (len(c.KeyServers) > 0) {
		k.fail("directory.key_servers", "name key servers and put \"keyservers\" among the sources, or neither")
	}
	for _, s := range c.KeyServers {
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"vks", "hkps", "hkps2"}, u.Scheme) {
			k.fail("directory.key_servers", "%q is not a key server: it is vks://HOST, hkps://HOST or hkps2://HOST", s)
		}
	}
	if d := time.Duration(c.Timeout); d < 100*time.Millisecond || d > 30*time.Second {
		k.fail("directory.timeout", "%v is out of range: from \"100ms\" to \"30s\"", c.Timeout)
	}
}

// outbound checks what is said of mail that leaves.
func (k *check) outbound(c *Config) {
	q := c.Queue
	if q.RetryFirst < Duration(time.Second) || q.RetryFirst > q.RetryLast {
		k.fail("queue.retry_first", "%v is out of range: from \"1s\" to queue.retry_last", q.RetryFirst)
	}
	if q.GiveUpAfter < q.RetryFirst || q.GiveUpAfter > Duration(30*24*time.Hour) {
		k.fail("queue.give_up_after", "%v is out of range: from queue.retry_first to \"720h\"", q.GiveUpAfter)
	}
	if q.WarnAfter < 0 || q.WarnAfter > q.GiveUpAfter {
		k.fail("queue.warn_after", "%v is out of range: from \"0s\" to queue.give_up_after", q.WarnAfter)
	}
	seen := map[string]bool{}
	for _, s := range c.Delivery.Routes {
		r, err := ParseRoute(s)
		if err != nil {
			k.fail("delivery.routes", "%q: %v", s, err)
		} else if seen[r.Domain] {
			k.fail("delivery.routes", "%q: the domain has another route", s)
		}
		seen[r.Domain] = true
	}
}
