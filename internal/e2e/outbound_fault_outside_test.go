package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/miekg/dns"

	"postern/internal/dns/dnstest"
	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/testkit"
	"postern/keydir"
)

// floorRules tell by a recipient's name what its copy must not be weaker than. No
// certificate is looked for but the pinned ones of sealed@.
const floorRules = `
[[rule]]
name = "sealed"
when = 'recipient startsWith "sealed"'
floor = "sealed"

[[rule]]
name = "tls"
when = 'recipient startsWith "tls"'
floor = "tls"
ceiling = "tls"

[[rule]]
name = "clear"
when = 'recipient startsWith "clear"'
floor = "clear"
ceiling = "clear"
`

// faultCanary is in all that is sent to hops, with the floor of the copy behind it.
const faultCanary = "the-canary-meets-the-world"

// faultMail is a message to somebody whose copy has a floor.
func faultMail(floor, domain string) string {
	return fmt.Sprintf("From: %s\r\nTo: %s@%s\r\nMessage-ID: <%s.%s@example.org>\r\nSubject: %s-%s\r\n\r\n%s-%s\r\n",
		owner, floor, domain, floor, domain, faultCanary, floor, faultCanary, floor)
}

// outside is the world that a gateway delivers to: a DNS that is believed for DNSSEC, an
// authority, a web server for MTA-STS policies, and mail servers at one port.
type outside struct {
	*federation
	t    *testing.T
	dns  *dnstest.Server
	web  *httptest.Server
	port int
	hops []*hop
	keys map[string]*pgp.SecretKey // of all sealed@
}

// hop is another organisation's mail server, which goes wrong until it is healed.
type hop struct {
	*testkit.MTA
	domain string
	// proof is by what it can be proven: "mta-sts", "dane" or nothing.
	proof string
	// wrong steps in as testkit.MTA has it, until the hop is healed.
	wrong func(h *hop, c *testkit.MTAConn, stage string) bool
	// state and reason are what the queue says meanwhile; empty is "waiting".
	state, reason string

	good, other tls.Certificate // the certificate for its name, and one for another name
	healed      chan struct{}
	once        sync.Once
	removed     bool // the operator took its mail out of the queue
}

func newOutside(t *testing.T) *outside {
	o := &outside{federation: newFederation(t), t: t}
	port := testkit.FreePort(t)
	o.port = port.Number
	o.dns = dnstest.Start(t)
	o.dns.Secure(true)
	return o
}

// answer is well but for the domains that name the way in which it is not.
func (o *outside) answer(w dns.ResponseWriter, m *dns.Msg, network string) {
	manner := o.dns.Answer
	for _, h := range o.hops {
		if h.well() || !strings.HasSuffix(strings.ToLower(m.Question[0].Name), h.domain+".") {
			continue
		}
		switch h.domain {
		case "dns-silent.test":
			manner = dnstest.Silence
		case "dns-garbage.test":
			manner = dnstest.Garbage
		case "dns-servfail.test":
			manner = dnstest.Rcode(dns.RcodeServerFailure)
		}
	}
	manner(w, m, network)
}

// join adds a hop to the world. All do so before the gateway starts.
func (o *outside) join(h *hop) *hop {
	o.t.Helper()
	n := len(o.hops) + 1
	host, ip := "mx."+h.domain, fmt.Sprintf("127.77.%d.%d", o.port%200, n)
	h.healed = make(chan struct{})
	o.dns.Add(o.t, h.domain+". 300 IN MX 10 "+host+".", host+". 300 IN A "+ip)
	h.MTA = &testkit.MTA{Name: host, Stage: func(c *testkit.MTAConn, stage, _ string) bool {
		return h.wrong != nil && !h.well() && h.wrong(h, c, stage)
	}}
	if h.proof != "" {
		h.good, h.other = o.issue(host), o.issue("mx.elsewhere.test")
		h.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if h.wrong != nil && !h.well() && strings.HasPrefix(h.domain, "name-") {
				return &h.other, nil
			}
			return &h.good, nil
		}}
	}
	switch h.proof {
	case "dane":
		sum := sha256.Sum256(h.good.Leaf.RawSubjectPublicKeyInfo)
		o.dns.Add(o.t, fmt.Sprintf("_%d._tcp.%s. 300 IN TLSA 3 1 1 %s", o.port, host, hex.EncodeToString(sum[:])))
	case "mta-sts":
		o.dns.Add(o.t, "_mta-sts."+h.domain+`. 300 IN TXT "v=STSv1; id=1;"`, "mta-sts."+h.domain+". 300 IN A 127.0.0.1")
	}
	testkit.StartMTA(o.t, net.JoinHostPort(ip, strconv.Itoa(o.port)), h.MTA)
	o.t.Cleanup(h.heal)
	o.hops = append(o.hops, h)
	return h
}

func (o *outside) hop(domain string) *hop {
	return o.hops[slices.IndexFunc(o.hops, func(h *hop) bool { return h.domain == domain })]
}

// locals are the recipients of a hop, which are called what their floor is.
func (h *hop) locals() []string {
	if h.proof == "" {
		return []string{"sealed", "clear"}
	}
	return []string{"sealed", "clear", "tls"}
}

func (h *hop) heal() { h.once.Do(func() { close(h.healed) }) }

func (h *hop) well() bool {
	select {
	case <-h.healed:
		return true
	default:
		return false
	}
}

// issue makes a certificate for names, by the authority.
func (f *federation) issue(names ...string) tls.Certificate {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, f.ca, key.Public(), f.caKey)
	if err != nil {
		f.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// policies serves the MTA-STS policies of the hops that have one.
func (o *outside) policies() {
	o.t.Helper()
	names := []string{"mta-sts.nobody.test"}
	for _, h := range o.hops {
		if h.proof == "mta-sts" {
			names = append(names, "mta-sts."+h.domain)
		}
	}
	o.web = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprintf(w, "version: STSv1\r\nmode: enforce\r\nmx: mx.%s\r\nmax_age: 86400\r\n", strings.TrimPrefix(r.Host, "mta-sts."))
	}))
	o.web.TLS = &tls.Config{Certificates: []tls.Certificate{o.issue(names...)}}
	o.web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	o.web.StartTLS()
	o.t.Cleanup(o.web.Close)
}

// gateway starts a gateway in this world, which knows the certificates of all sealed@.
func (o *outside) gateway(opts options) *gateway {
	o.t.Helper()
	o.dns.Set(o.answer) // all have joined
	o.policies()
	opts.dns = []string{o.dns.Addr}
	set := map[string]string{
		"policy.file": strconv.Quote(writeFile(o.t, "floors.toml", []byte(floorRules))), "queue.retry_first": `"1h"`,
		"delivery.port": strconv.Itoa(o.port), "delivery.allow_private": "true", "delivery.ca_file": strconv.Quote(o.caFile),
		"delivery.policy_port":         strconv.Itoa(o.web.Listener.Addr().(*net.TCPAddr).Port),
		"submission.messages_per_hour": "1000000", "submission.recipients_per_hour": "1000000",
	}
	maps.Copy(set, opts.config)
	opts.config = set
	g := setUp(o.t, opts)
	var sealed []string
	for _, h := range o.hops {
		sealed = append(sealed, "sealed@"+h.domain)
	}
	o.keys = g.pin(o.t, sealed...)
	g.start()
	return g
}

// pin makes a key for each address, and pins its certificate.
func (g *gateway) pin(t testing.TB, addresses ...string) map[string]*pgp.SecretKey {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Path: g.path("data", "postern.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	d := keydir.New(keydir.Options{Store: s, Hosted: func(string) bool { return false }, Now: time.Now})
	keys := map[string]*pgp.SecretKey{}
	for _, address := range addresses {
		a, err := mail.ParseAddress(address)
		if err != nil {
			t.Fatal(err)
		}
		if keys[address], err = pgp.GenerateKey(address, time.Now().Add(-time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := d.Pin(t.Context(), a, keys[address].Certificate()); err != nil {
			t.Fatal("pin: ", err)
		}
	}
	return keys
}

// explained says whether the list has all copies for a hop, in the state and for the
// reason that they should wait for.
func (h *hop) explained(list []queued, copies int) bool {
	state := h.state
	if state == "" {
		state = "waiting"
	}
	for _, q := range list {
		if q.Domain == strings.ToLower(h.domain) && q.State == state && strings.Contains(q.Reason, h.reason) {
			copies--
		}
	}
	return copies == 0
}

// complete requires that a hop which is well has everything.
func (h *hop) complete(t *testing.T, copies int) {
	t.Helper()
	got := map[string]int{}
	for _, m := range h.Messages() {
		for _, r := range m.Rcpts {
			got[r]++
		}
	}
	for _, local := range h.locals() {
		rcpt := "RCPT TO:<" + local + "@" + h.domain + ">"
		if n := got[rcpt]; (n == 0) != h.removed {
			t.Errorf("%d messages came to %s@%s", n, local, h.domain)
		}
	}
}

// keepsItsFloors requires of all octets that any hop was ever sent, also before it broke
// off, that no copy was weaker than its floor, and that each in clear was marked.
func (o *outside) keepsItsFloors(t *testing.T) {
	t.Helper()
	for _, h := range o.hops {
		open, secret := h.Clear(), h.Secret()
		floors(t, h.domain, open, secret)
		if h.proof != "" && strings.Contains(open, "MAIL FROM") {
			t.Errorf("%s: an envelope was seen outside of TLS that it has to have", h.domain)
		}
		for _, m := range h.Messages() {
			if strings.Contains(strings.Join(m.Rcpts, ""), "TO:<sealed") {
				ciphertext(t, m.Content)
			}
		}
	}
}

// floors requires of what was sent to a server in clear and over TLS that was proven,
// that it keeps the floors.
func floors(t *testing.T, where, open, secret string) {
	t.Helper()
	if strings.Contains(open+secret, faultCanary+"-sealed") {
		t.Errorf("%s: what was to be sealed was seen in clear", where)
	}
	if strings.Contains(open, faultCanary+"-tls") {
		t.Errorf("%s: what was to go over verified TLS was seen outside of it", where)
	}
	for _, sent := range []string{open, secret} {
		// The subject and the text say it.
		if n, marks := strings.Count(sent, faultCanary+"-clear"), strings.Count(sent, "\r\nPostern-Delivery: insecure; reason="); n > 2*marks {
			t.Errorf("%s: %d times in clear, and marked %d times", where, n/2, marks)
		}
	}
}

// ciphertext requires that a message is one.
func ciphertext(t testing.TB, content string) (message.Candidate, *bytes.Reader) {
	t.Helper()
	at := bytes.NewReader([]byte(content))
	c, ok, err := message.FindEncrypted(message.ScanBytes([]byte(content), message.Limits{}), at)
	if err != nil || !ok {
		t.Fatalf("no ciphertext, %v:\n%s", err, content)
	}
	found, err := pgp.Inspect(c.Reader(at))
	if err != nil || !found.Encrypted {
		t.Fatalf("no ciphertext: %+v, %v", found, err)
	}
	return c, at
}

// opened opens a sealed message with its recipient's key.
func opened(t testing.TB, key *pgp.SecretKey, content string) string {
	t.Helper()
	c, at := ciphertext(t, content)
	plain, err := key.Decrypt(c.Reader(at))
	if err != nil {
		t.Fatal("decrypt: ", err)
	}
	payload, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal("decrypt: ", err)
	}
	return string(payload)
}

// submitter is a mail program that is logged in.
type submitter struct {
	*smtp.Client
	from string
}

func (g *gateway) submitter(t testing.TB) *submitter {
	t.Helper()
	s, err := g.trySubmitter()
	if err != nil {
		t.Fatal("submission: ", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (g *gateway) trySubmitter() (*submitter, error) {
	return dialSubmission(g.at(465), g.tlsConfig(), owner, g.password)
}

func dialSubmission(addr string, trust *tls.Config, from, password string) (*submitter, error) {
	c, err := smtp.DialTLS(addr, trust)
	if err != nil {
		return nil, err
	}
	c.CommandTimeout, c.SubmissionTimeout = patience, patience
	if err := c.Auth(sasl.NewPlainClient("", from, password)); err != nil {
		c.Close()
		return nil, err
	}
	return &submitter{c, from}, nil
}

// submit sends a message and returns the text of the last reply. After an error that is a
// reply the connection goes on.
func (s *submitter) submit(text string, to ...string) (string, error) {
	if err := s.Reset(); err != nil {
		return "", err
	}
	if err := s.Mail(s.from, nil); err != nil {
		return "", err
	}
	for _, r := range to {
		if err := s.Rcpt(r, nil); err != nil {
			return "", err
		}
	}
	w, err := s.Data()
	if err != nil {
		return "", err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return "", err
	}
	r, err := w.CloseWithResponse()
	if err != nil {
		return "", err
	}
	return r.StatusText, nil
}

// What follows goes wrong in one way each, see testkit.MTA.

func at(stage string, do func(h *hop, c *testkit.MTAConn)) func(*hop, *testkit.MTAConn, string) bool {
	return func(h *hop, c *testkit.MTAConn, now string) bool {
		if now != stage {
			return false
		}
		do(h, c)
		return true
	}
}

// hang says nothing more until the hop is healed.
func hang(h *hop, c *testkit.MTAConn) {
	<-h.healed
	c.Close()
}

func hangUp(_ *hop, c *testkit.MTAConn) { c.Close() }

func say(text string) func(*hop, *testkit.MTAConn) {
	return func(_ *hop, c *testkit.MTAConn) { c.Say("%s", text) }
}

// flood sends a line again and again, up to 100 MB.
func flood(text string) func(*hop, *testkit.MTAConn) {
	block := []byte(strings.Repeat(text, 64<<10/len(text)))
	return func(_ *hop, c *testkit.MTAConn) {
		for range 100 << 20 / len(block) {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	}
}

// strip takes STARTTLS out of what is offered.
func strip(_ *hop, c *testkit.MTAConn, stage string) bool {
	if stage != "EHLO" || c.Secure {
		return false
	}
	c.Say("250 mx\r\n")
	return true
}

// inject answers a command that was not given yet, in clear.
func inject(_ *hop, c *testkit.MTAConn, stage string) bool {
	if stage != "STARTTLS" {
		return false
	}
	c.Say("220 go\r\n250-mx\r\n250 PIPELINING\r\n")
	c.StartTLS()
	return true
}

// otherName is well but for the certificate, which join sees to.
func otherName(*hop, *testkit.MTAConn, string) bool { return false }
