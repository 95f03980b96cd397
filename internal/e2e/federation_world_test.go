package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"
	"github.com/miekg/dns"

	"postern/internal/dns/dnstest"
	"postern/internal/store"
	"postern/internal/testkit"
)

// world is an Internet of its own: addresses of 127.0.0.0/8 with the ports that all the
// world uses, and a DNS that is partly signed (Knot) and validated (unbound). Who is in
// it finds each other by nothing else.
type world struct {
	t     *testing.T
	parts map[string]string

	prefix string // of all addresses
	last   int    // of those given away, the last octet
	zones  map[string]*strings.Builder
	// trusted is a file with the authorities that everybody in it believes.
	trusted string
}

// The zones of a world.
const (
	signedZone   = "signed.test"
	unsignedZone = "unsigned.test"
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, parts: testkit.Parts(t, "knotd", "keymgr", "unbound"), prefix: freePrefix(t),
		zones:   map[string]*strings.Builder{signedZone: {}, unsignedZone: {}},
		trusted: writeFile(t, "trusted.pem", nil),
	}
	return w
}

// freePrefix finds a network on which nobody listens.
func freePrefix(t testing.TB) string {
	t.Helper()
	var failed error
	for range 20 {
		prefix := fmt.Sprintf("127.%d.%d.", 70+rand.IntN(180), rand.IntN(256))
		l, err := net.Listen("tcp", prefix+"1:25")
		if err == nil {
			l.Close()
			return prefix
		}
		failed = err
	}
	testkit.Missing(t, "the right to listen on port 25 of loopback addresses: "+failed.Error())
	return ""
}

// address is one that nobody has had.
func (w *world) address() string {
	w.last++
	return w.prefix + strconv.Itoa(w.last)
}

// resolver is where unbound is, on port 53.
func (w *world) resolver() string { return w.prefix + "53" }

// publish puts records in zone file form, with whole names, into the zone of a domain.
func (w *world) publish(domain string, records ...string) {
	w.t.Helper()
	for zone, text := range w.zones {
		if strings.HasSuffix(domain, "."+zone) {
			text.WriteString(strings.Join(records, "\n") + "\n")
			return
		}
	}
	w.t.Fatalf("%s is in no zone", domain)
}

// publishMX puts a mail server for a domain there, whose name it returns.
func (w *world) publishMX(domain, ip string) (host string) {
	host = "mx." + domain
	w.publish(domain, domain+". 300 IN MX 10 "+host+".", host+". 300 IN A "+ip,
		"_smtp._tls."+domain+`. 300 IN TXT "v=TLSRPTv1; rua=mailto:tls@`+domain+`"`)
	return host
}

// publishKey names the key of a host's certificate: DANE-EE, SPKI, SHA2-256.
func (w *world) publishKey(host string, cert *x509.Certificate) {
	w.publish(host, fmt.Sprintf("_25._tcp.%s. 300 IN TLSA 3 1 1 %x", host, sha256.Sum256(cert.RawSubjectPublicKeyInfo)))
}

// publishSTS says that a domain has an MTA-STS policy, served at ip.
func (w *world) publishSTS(domain, ip string) {
	w.publish(domain, "_mta-sts."+domain+`. 300 IN TXT "v=STSv1; id=1"`, "mta-sts."+domain+". 300 IN A "+ip)
}

// trust has everybody believe an authority.
func (w *world) trust(a *authority) {
	w.t.Helper()
	all := append(readFile(w.t, w.trusted), readFile(w.t, a.caFile)...)
	if err := os.WriteFile(w.trusted, all, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// postern sets a server up, with an authority, an address, and the records that quickstart
// asks for. It does not run yet.
func (w *world) postern(domain, local string, config map[string]string) *member {
	w.t.Helper()
	f := &federation{t: w.t, authority: newAuthority(w.t)}
	w.trust(f.authority)
	ip := w.address()
	m := f.prepare(domain, ip, local)
	m.o.dns = []string{w.resolver()}
	for key, value := range map[string]string{
		"smtp.listen": strconv.Quote(ip + ":25"), "delivery.allow_private": "true",
		"directory.ca_file": strconv.Quote(w.trusted), "delivery.ca_file": strconv.Quote(w.trusted),
	} {
		m.o.config[key] = value
	}
	for key, value := range config {
		m.o.config[key] = value
	}
	for _, record := range m.publish {
		w.publish(domain, strings.ReplaceAll(record, "<this server's public IP address>", ip))
	}
	m.configure()
	return m
}

// begin starts the DNS, which has its records by now, and the servers.
func (w *world) begin(all ...*member) {
	w.t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(w.resolver()), 53).String()
	dnstest.SignedAt(w.t, w.parts, at, w.zones[signedZone].String(), w.zones[unsignedZone].String(), func(*dns.Msg) {})
	for _, m := range all {
		m.launch()
	}
	for _, m := range all {
		m.waitReady()
	}
}

// web serves an organisation's pages over HTTPS, until the test ends.
func (w *world) web(ip string, cert tls.Certificate, pages http.Handler) {
	w.t.Helper()
	l, err := tls.Listen("tcp", net.JoinHostPort(ip, "443"), &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		w.t.Fatal(err)
	}
	s := &http.Server{Handler: pages, ReadHeaderTimeout: patience, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	w.t.Cleanup(func() {
		_ = s.Close()
		<-ended
	})
}

// enforce is an MTA-STS policy.
func enforce(host string) string {
	return "version: STSv1\r\nmode: enforce\r\nmx: " + host + "\r\nmax_age: 86400\r\n"
}

// chainFile writes a certificate and its key as Postfix reads them.
func chainFile(t testing.TB, c tls.Certificate) string {
	t.Helper()
	cert, key := inPEM(t, c)
	return writeFile(t, "chain.pem", append(key, cert...))
}

// audit is what the server has recorded of a kind, the newest first.
func (m *member) audit(kind string) (details []string) {
	m.t.Helper()
	s, err := store.Open(m.t.Context(), store.Options{Path: m.path("data", "postern.db")})
	if err != nil {
		m.t.Fatal(err)
	}
	defer s.Close()
	rows, err := s.AuditRows(m.t.Context(), "", 1000)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, r := range rows {
		if r.Kind == kind {
			details = append(details, r.Detail)
		}
	}
	return details
}

// relayed waits until the server has recorded a delivery that begins so, and requires that
// it is the only one.
func (m *member) relayed(want string) {
	m.t.Helper()
	n := 0
	var all []string
	if !soon(patience, func() bool {
		all = m.audit("relay")
		n = 0
		for _, detail := range all {
			if strings.HasPrefix(detail, want) {
				n++
			}
		}
		return n > 0
	}) || n != 1 {
		m.t.Errorf("%s: %d records of %q in %q", m.domain, n, want, all)
	}
}

// waiting is what queue list --json prints of one recipient.
type waiting struct {
	ID, Recipient, Protection, State, Reason, Text, Host, Status string
	Attempts, Code                                               int
}

// queue is what waits for a recipient; all, if the address is empty.
func (m *member) queue(address string) []waiting {
	m.t.Helper()
	var all []waiting
	if out := m.postern("queue", "list", "--json"); json.Unmarshal(out, &all) != nil {
		m.t.Fatalf("queue list --json: %s", out)
	}
	return slices.DeleteFunc(all, func(q waiting) bool { return address != "" && q.Recipient != address })
}

// waitsFor waits until mail for an address waits for a reason, which the text for people
// says too.
func (m *member) waitsFor(address, reason string) {
	m.t.Helper()
	var last []waiting
	var text string
	if !soon(patience, func() bool {
		last = m.queue(address)
		if len(last) != 1 || last[0].State != "waiting" || !strings.Contains(last[0].Reason, reason) {
			return false
		}
		text = string(m.postern("queue", "list"))
		return strings.Contains(text, "<"+address+">") && strings.Contains(text, reason)
	}) {
		m.t.Fatalf("%s does not wait because of %q: %+v\n%s", address, reason, last, text)
	}
}

// gone waits until nothing waits for an address; for nobody, if it is empty.
func (m *member) gone(address string) {
	m.t.Helper()
	eventually(m.t, "the queue of "+m.domain+" has nothing for "+address, func() bool { return len(m.queue(address)) == 0 })
}

// mailboxReader is a person who reads: the owner's IMAP connection, and what was opened
// with their key.
type mailboxReader struct {
	m      *member
	c      *imapclient.Client
	opened map[uint32]letter
}

// letter is a message as it lies in the mailbox, and what it says.
type letter struct{ raw, text string }

func (m *member) reader() *mailboxReader {
	m.t.Helper()
	r := &mailboxReader{m: m, c: m.login(), opened: map[uint32]letter{}}
	m.t.Cleanup(func() { r.c.Close() })
	return r
}

// find waits for a message in the inbox that says all of this, and returns it.
func (r *mailboxReader) find(words ...string) letter {
	t := r.m.t
	t.Helper()
	var got letter
	if !soon(patience, func() bool {
		for _, message := range fetchAll(t, r.c, "INBOX") {
			l, ok := r.opened[uint32(message.uid)]
			if !ok {
				l = letter{string(message.raw), string(postern(t, "open", writeFile(t, "m.eml", message.raw), "--key", r.m.secretFile, "--original", "-"))}
				r.opened[uint32(message.uid)] = l
			}
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(l.text, word) }) {
				got = l
				return true
			}
		}
		return false
	}) {
		t.Fatalf("%s has no mail that says %q", r.m.owner, words)
	}
	return got
}

// report finds the report about a recipient, which has to say all of this, and must not
// quote the body of the message. It came as every mail is kept: sealed.
func (r *mailboxReader) report(address, canary string, words ...string) letter {
	t := r.m.t
	t.Helper()
	l := r.find("multipart/report; report-type=delivery-status", "; "+address+"\r\n")
	for _, word := range append(words, "Action: failed", "\r\nFrom: "+r.m.owner) {
		if !strings.Contains(l.text, word) {
			t.Errorf("the report about %s does not say %q:\n%s", address, word, l.text)
		}
	}
	if strings.Contains(l.text, canary) {
		t.Errorf("the report about %s quotes the body:\n%s", address, l.text)
	}
	if !strings.Contains(l.raw, "multipart/encrypted") || strings.Contains(l.raw, "Action:") {
		t.Errorf("the report about %s is not sealed:\n%s", address, l.raw)
	}
	return l
}

// hand gives a message to a mail server as a program on its own machine would.
func hand(t testing.TB, address, from, to, text string) {
	t.Helper()
	c, err := smtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.CommandTimeout, c.SubmissionTimeout = time.Minute, time.Minute
	if err := c.SendMail(from, []string{to}, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

// fieldsOf are the values of a header field, unfolded.
func fieldsOf(message, name string) (values []string) {
	head, _, _ := strings.Cut(strings.ReplaceAll(message, "\r\n", "\n"), "\n\n")
	head = strings.NewReplacer("\n\t", " ", "\n ", " ").Replace(head)
	for line := range strings.Lines(head) {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			values = append(values, strings.TrimSuffix(value, "\n"))
		}
	}
	return values
}
