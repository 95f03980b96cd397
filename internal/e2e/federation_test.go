package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/miekg/dns"

	"postern/internal/store"
	"postern/internal/testkit"
)

// Two servers that know nothing of each other but a DNS and an authority find the
// certificates of each other's users by Web Key Directory, and notice what changes.
func TestTwoServersFindEachOther(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	a := f.server("a.test", "127.66.1.1", "alice")
	b := f.server("b.test", "127.66.1.2", "bob")
	carol := b.account("carol")

	// Each finds the other's.
	a.explains(b.owner, "found", b.fingerprint)
	b.explains(a.owner, "found", a.fingerprint)
	a.explains("nobody@b.test", "none", "")
	if text := string(a.postern("explain", b.owner)); !strings.Contains(text, b.owner+": sealed, can be encrypted to") || !strings.Contains(text, b.fingerprint) {
		t.Errorf("explain prints\n%s", text)
	}
	if first := a.history(b.owner); len(first) != 1 || first[0].Rule != "first certificate" || first[0].New != b.fingerprint || first[0].Source != "wkd" {
		t.Errorf("history: %+v", first)
	}

	// The other does not answer: what is remembered goes on, what is new is not known.
	b.stop()
	a.explains(carol.address, "unknown", "")
	a.explains(b.owner, "found", b.fingerprint)
	a.later(b.owner)
	e := a.explains(b.owner, "found", b.fingerprint)
	if len(e.Sources) == 0 || e.Sources[0].Source != "wkd" || e.Sources[0].Result != "unknown" {
		t.Errorf("of a server that is not there the sources say %+v", e.Sources)
	}
	b.start()
	a.later(carol.address)
	a.explains(carol.address, "found", carol.fingerprint)

	// The other's user has another key. Ours is told of it.
	before := b.fingerprint
	second := b.replace()
	a.later(b.owner)
	a.seek(b.owner, second)
	if h := a.history(b.owner); h[0].Old != before || h[0].New != second || !strings.HasPrefix(h[0].Rule, "unexplained") || h[0].Held {
		t.Errorf("history: %+v", h)
	}
	a.explains(b.owner, "found", second)
	a.noticed(before, second)
}

// A pinned certificate gives way to no published one: mail is held until a person
// decides.
func TestPinnedCertificateHolds(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	a := f.server("a.test", "127.66.2.1", "alice")
	b := f.server("b.test", "127.66.2.2", "bob")
	pinned := b.fingerprint
	a.postern("cert", "pin", b.owner, b.certFile)
	if e := a.explains(b.owner, "found", pinned); e.Trust != "pinned" {
		t.Errorf("trust of what was pinned: %q", e.Trust)
	}

	second := b.replace()
	a.later(b.owner)
	a.waits(b.owner, second)
	a.noticed(pinned, second, "cert accept "+b.owner)
	if text := string(a.postern("explain", b.owner)); !strings.Contains(text, "waiting") || !strings.Contains(text, second) {
		t.Errorf("explain prints\n%s", text)
	}
	a.postern("cert", "reject", b.owner)
	a.explains(b.owner, "found", pinned)
	a.later(b.owner)
	a.explains(b.owner, "found", pinned) // it is not asked again for the same one
	if _, errOut, code := command(t, nil, "cert", "accept", b.owner, "--config", a.configFile); code != 1 || !bytes.Contains(errOut, []byte("waits for a decision")) {
		t.Errorf("accept of nothing: exit code %d, %s", code, errOut)
	}

	third := b.replace()
	a.later(b.owner)
	a.waits(b.owner, third)
	a.postern("cert", "accept", b.owner)
	if e := a.explains(b.owner, "found", third); e.Trust != "pinned" {
		t.Errorf("trust of what was accepted: %q", e.Trust)
	}
	var rules []string
	for _, c := range a.history(b.owner) {
		rules = append(rules, c.Rule)
	}
	want := []string{"accepted by a person", "another certificate than the pinned one", "rejected by a person",
		"another certificate than the pinned one", "accepted by a person"}
	if !slices.Equal(rules, want) {
		t.Errorf("history: %q", rules)
	}
	a.postern("cert", "unpin", b.owner)
	if e := a.explains(b.owner, "found", third); e.Trust == "pinned" {
		t.Error("still pinned")
	}

	// The history of an own address: bob's three keys, two of which were removed.
	var own []string
	for _, c := range b.history(b.owner) {
		own = append(own, c.Rule+" "+c.Old+c.New)
	}
	wantOwn := []string{
		"removed from an account " + second, "imported for an account " + third,
		"removed from an account " + pinned, "imported for an account " + second, "imported for an account " + pinned,
	}
	if !slices.Equal(own, wantOwn) {
		t.Errorf("history of an own address: %q", own)
	}
}

// federation is a private network: a DNS, and an authority for TLS.
type federation struct {
	*authority
	t    *testing.T
	zone *zone
}

func newFederation(t *testing.T) *federation {
	t.Helper()
	return &federation{t: t, zone: newZone(t), authority: newAuthority(t)}
}

// member is one of the servers, with one account.
type member struct {
	*gateway
	net         *federation
	domain, web string
	owner       string
	fingerprint string // of the owner's certificate
	keys        int
	publish     []string // the DNS records that quickstart asks for
	tls         *x509.Certificate
}

// server sets a server up for a domain, on port 443 of an address of its own, and starts
// it.
func (f *federation) server(domain, ip, local string) *member {
	f.t.Helper()
	m := f.prepare(domain, ip, local)
	m.o.dns = []string{f.zone.addr}
	for _, name := range m.names() {
		f.zone.set(name, ip)
	}
	m.configure()
	m.start()
	return m
}

// prepare sets a server up, whose DNS is still to come.
func (f *federation) prepare(domain, ip, local string) *member {
	t := f.t
	t.Helper()
	web := net.JoinHostPort(ip, "443")
	l, err := net.Listen("tcp", web)
	if err != nil {
		testkit.Missing(t, "the right to listen on "+web+": "+err.Error())
	}
	l.Close()
	device := t.TempDir()
	m := &member{net: f, domain: domain, web: web, owner: local + "@" + domain, gateway: &gateway{
		t: t, dir: filepath.Join(t.TempDir(), "gateway"), tmp: t.TempDir(), base: freeBase(t),
		secretFile: filepath.Join(device, local+".key.asc"), certFile: filepath.Join(device, local+".cert.asc"),
		o: options{config: map[string]string{
			"https.listen": strconv.Quote(web), "directory.ca_file": strconv.Quote(f.caFile), "directory.allow_private": "true",
		}},
	}}
	postern(t, "key", "new", m.owner, "--out", m.secretFile)
	var made struct {
		Password, Config  string
		Fingerprints, DNS []string
	}
	out := postern(t, "quickstart", m.owner, "--dir", m.dir, "--listen", "127.0.0.1", "--base-port", strconv.Itoa(m.base), "--cert", m.certFile, "--json")
	if err := json.Unmarshal(out, &made); err != nil || len(made.Fingerprints) != 1 {
		t.Fatalf("quickstart --json: %v %s", err, out)
	}
	m.password, m.configFile, m.fingerprint, m.publish = made.Password, made.Config, made.Fingerprints[0], made.DNS
	m.tls = f.install(m.dir, m.names())
	return m
}

// names are those that the server's TLS certificate is for.
func (m *member) names() []string {
	return []string{"mail." + m.domain, "openpgpkey." + m.domain, "mta-sts." + m.domain, m.domain}
}

// person is another account.
type person struct{ address, fingerprint string }

// account adds one, with a certificate.
func (m *member) account(local string) person {
	m.t.Helper()
	p := person{address: local + "@" + m.domain}
	m.postern("account", "add", p.address)
	p.fingerprint = m.newKey(p.address)
	m.publishes(p.address, p.fingerprint)
	return p
}

// newKey makes a key for an address and imports its certificate.
func (m *member) newKey(address string) (fingerprint string) {
	m.t.Helper()
	m.keys++
	file := filepath.Join(m.t.TempDir(), fmt.Sprint("new", m.keys))
	postern(m.t, "key", "new", address, "--out", file+".key.asc")
	var list []struct{ Fingerprint string }
	if err := json.Unmarshal(m.postern("cert", "import", address, file+".cert.asc", "--json"), &list); err != nil || len(list) != 1 {
		m.t.Fatalf("cert import --json: %v", err)
	}
	return list[0].Fingerprint
}

// replace gives the owner a new key in place of the old one.
func (m *member) replace() (fingerprint string) {
	m.t.Helper()
	old := m.fingerprint
	m.fingerprint = m.newKey(m.owner)
	m.postern("cert", "remove", m.owner, old)
	m.publishes(m.owner, m.fingerprint)
	return m.fingerprint
}

// publishes waits until the running server gives out a certificate and no other.
func (m *member) publishes(address, fingerprint string) {
	m.t.Helper()
	eventually(m.t, "the certificate of "+address+" is published", func() bool {
		_, index := m.lookup("index", address, "")
		return strings.Count(index, "\npub:") == 1 && strings.Contains(index, fingerprint)
	})
}

// lookup asks the server by HKP; with a password as the owner.
func (m *member) lookup(op, address, password string) (status int, body string) {
	m.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(m.net.ca)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, m.web)
		},
	}}
	r, err := http.NewRequest(http.MethodGet, "https://mail."+m.domain+"/pks/lookup?op="+op+"&search="+url.QueryEscape(address), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	if password != "" {
		r.SetBasicAuth(m.owner, password)
	}
	resp, err := client.Do(r)
	if err != nil {
		m.t.Fatal("HKP: ", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal("HKP: ", err)
	}
	return resp.StatusCode, "\n" + string(text)
}

// seek lets the running server look an address up, until it gives out a certificate.
func (m *member) seek(address, fingerprint string) {
	m.t.Helper()
	eventually(m.t, "the server finds the certificate of "+address, func() bool {
		_, index := m.lookup("index", address, m.password)
		return strings.Contains(index, fingerprint)
	})
}

// waits lets the running server look an address up, until explain says that another
// certificate waits.
func (m *member) waits(address, candidate string) {
	m.t.Helper()
	eventually(m.t, "the new certificate of "+address+" waits", func() bool {
		status, _ := m.lookup("index", address, m.password)
		return status != http.StatusOK
	})
	if e := m.explains(address, "unknown", ""); e.Candidate != candidate {
		m.t.Errorf("%q waits, not %s", e.Candidate, candidate)
	}
}

// later makes what is remembered of an address old, as a day would.
func (m *member) later(address string) {
	m.t.Helper()
	s, err := store.Open(m.t.Context(), store.Options{Path: m.path("data", "postern.db")})
	if err != nil {
		m.t.Fatal(err)
	}
	defer s.Close()
	k, err := s.Known(m.t.Context(), address)
	if err != nil {
		m.t.Fatalf("what is remembered of %s: %v", address, err)
	}
	k.FreshUntil = time.Now().Add(-time.Minute)
	if err := s.Learn(m.t.Context(), store.Learned{Known: k, Was: k.Checked}); err != nil {
		m.t.Fatal(err)
	}
}

// explanation is what explain --json prints of one address. Keys are there always
// unless they are pointers or said to be left out.
type explanation struct {
	Address     string     `json:"address"`
	Answer      string     `json:"answer"`
	Reason      string     `json:"reason"`
	Lost        bool       `json:"encrypted_before"`
	Fingerprint string     `json:"fingerprint"`
	Algorithm   string     `json:"algorithm"`
	Expires     *time.Time `json:"expires"`
	Source      string     `json:"source"`
	Trust       string     `json:"trust"`
	Checked     *time.Time `json:"checked"`
	FreshUntil  *time.Time `json:"fresh_until"`
	Candidate   string     `json:"waiting_for_a_decision"`
	Sources     []struct {
		Source       string   `json:"source"`
		Trust        string   `json:"trust"`
		Result       string   `json:"result"`
		Detail       string   `json:"detail"`
		Fingerprints []string `json:"fingerprints"`
		Took         int64    `json:"took_ns"`
	} `json:"sources"`
	Decision map[string]any `json:"decision"`
}

// explains runs explain and requires its answer, and a certificate where there is one.
func (m *member) explains(address, answer, fingerprint string) explanation {
	m.t.Helper()
	out := m.postern("explain", address, "--json")
	var all []explanation
	d := json.NewDecoder(bytes.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&all); err != nil || len(all) != 1 || all[0].Address != address {
		m.t.Fatalf("explain --json: %v\n%s", err, out)
	}
	e := all[0]
	level := map[string]string{"found": "sealed", "none": "clear", "unknown": "deferred"}[answer]
	if e.Lost {
		level = "deferred"
	}
	if e.Decision["level"] != level || e.Decision["rule"] != "opportunistic" {
		m.t.Errorf("%s would be %v by rule %v, want %s", address, e.Decision["level"], e.Decision["rule"], level)
	}
	if e.Answer != answer || fingerprint != "" && e.Fingerprint != fingerprint {
		m.t.Fatalf("explain %s: not %q %s\n%s", address, answer, fingerprint, out)
	}
	var asked []string
	for _, s := range e.Sources {
		asked = append(asked, s.Source)
	}
	if !slices.Equal(asked, []string{"wkd", "autocrypt", "dane"}) {
		m.t.Errorf("asked %q", asked)
	}
	if answer == "found" && (e.Algorithm == "" || e.Source == "" || e.Trust == "" || e.Checked == nil || e.FreshUntil == nil || e.Reason != "") {
		m.t.Errorf("explain --json lacks something:\n%s", out)
	}
	if answer != "found" && e.Reason == "" {
		m.t.Errorf("explain --json does not say why:\n%s", out)
	}
	return e
}

// past is what cert history --json prints of one change.
type past struct {
	Address, Rule, Source, Old, New string
	Time                            time.Time
	Held                            bool
}

// history is the newest first.
func (m *member) history(address string) []past {
	m.t.Helper()
	var all []past
	if out := m.postern("cert", "history", address, "--json"); json.Unmarshal(out, &all) != nil {
		m.t.Fatalf("cert history --json: %s", out)
	}
	for i, c := range all {
		if c.Address != address || c.Time.IsZero() || i > 0 && c.Time.After(all[i-1].Time) {
			m.t.Errorf("history: %+v", all)
		}
	}
	return all
}

// trust is how a client checks this server.
func (m *member) trust() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(m.net.ca)
	return &tls.Config{RootCAs: pool, ServerName: "mail." + m.domain}
}

// login is the owner's IMAP connection.
func (m *member) login() *imapclient.Client {
	m.t.Helper()
	c, err := imapclient.DialTLS(m.at(993), &imapclient.Options{TLSConfig: m.trust()})
	if err != nil {
		m.t.Fatal("IMAP: ", err)
	}
	if err := c.Login(m.owner, m.password).Wait(); err != nil {
		m.t.Fatal("LOGIN: ", err)
	}
	return c
}

// noticed waits until the postmaster, who is the owner, has a notice with these words.
func (m *member) noticed(words ...string) {
	m.t.Helper()
	c := m.login()
	defer c.Close()
	eventually(m.t, fmt.Sprintf("a notice says %q", words), func() bool {
		for _, message := range fetchAll(m.t, c, "INBOX") {
			text := postern(m.t, "open", writeFile(m.t, "notice.eml", message.raw), "--key", m.secretFile, "--original", "-")
			if !slices.ContainsFunc(words, func(w string) bool { return !bytes.Contains(text, []byte(w)) }) {
				return true
			}
		}
		return false
	})
}

// zone is a DNS server for names with one address each.
type zone struct {
	addr    string
	records chan map[string]string // cap 1: who takes it has it
}

func newZone(t *testing.T) *zone {
	t.Helper()
	z := &zone{records: make(chan map[string]string, 1)}
	z.records <- map[string]string{}
	conn, l := samePort(t)
	z.addr = l.Addr().String()
	for _, s := range []*dns.Server{{PacketConn: conn, Handler: z}, {Listener: l, Handler: z}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe()
		<-started
		t.Cleanup(func() { s.Shutdown() })
	}
	return z
}

// samePort listens by UDP and TCP on a port that both have free.
func samePort(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if conn, err := net.ListenPacket("udp", l.Addr().String()); err == nil {
			return conn, l
		}
		l.Close()
	}
	t.Fatal("no port that UDP and TCP have free")
	panic("not reached")
}

func (z *zone) set(name, ip string) {
	all := <-z.records
	all[dns.Fqdn(name)] = ip
	z.records <- all
}

// ServeDNS implements dns.Handler.
func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	r := new(dns.Msg)
	r.SetReply(q)
	r.RecursionAvailable = true
	name := strings.ToLower(q.Question[0].Name)
	all := <-z.records
	ip, ok := all[name]
	z.records <- all
	header := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 60}
	switch {
	case !ok:
		r.Rcode = dns.RcodeNameError
	case header.Rrtype == dns.TypeA:
		r.Answer = []dns.RR{&dns.A{Hdr: header, A: net.ParseIP(ip)}}
	}
	if len(r.Answer) == 0 {
		header.Name, header.Rrtype = "test.", dns.TypeSOA
		r.Ns = []dns.RR{&dns.SOA{Hdr: header, Ns: "ns.test.", Mbox: "hostmaster.test.", Serial: 1, Minttl: 60}}
	}
	_ = w.WriteMsg(r) // whoever asked asks again
}
