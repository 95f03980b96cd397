package imapd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"postern/internal/auth"
	"postern/internal/cluster"
	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
	"postern/internal/testkit"
)

const (
	testLogin    = "alice@example.org"
	testPassword = "correct-horse"
)

// env is a server over a real store, on loopback.
type env struct {
	t       testing.TB
	store   *store.Store
	blobs   *memoryBlobs
	cluster *cluster.Memory
	server  *Server
	account store.Account
	accept  *memoryAcceptor
	logs    *testkit.Log
	tls     *tls.Config // for clients
	clear   string      // addresses
	secure  string
	stop    func() // ends the server and waits
}

// newEnv starts a server; change may alter its options.
func newEnv(t testing.TB, change func(*Options)) *env {
	t.Helper()
	return newEnvAt(t, filepath.Join(t.TempDir(), "postern.db"), change)
}

func newEnvAt(t testing.TB, path string, change func(*Options)) *env {
	t.Helper()
	e := &env{t: t, blobs: &memoryBlobs{}, cluster: cluster.NewMemory(nil), logs: new(testkit.Log)}
	var err error
	if e.store, err = store.Open(t.Context(), store.Options{Path: path}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.store.Close() })
	e.openAccount()
	e.accept = &memoryAcceptor{e: e}
	own, pool := testCertificate(t)
	e.tls = &tls.Config{RootCAs: pool, ServerName: "localhost"}
	o := Options{
		Store: e.store, Blobs: e.blobs, Acceptor: e.accept, Cluster: e.cluster,
		Auth: auth.New(auth.Options{Directory: e, Secret: []byte("test")}),
		TLS:  &tls.Config{Certificates: []tls.Certificate{own}}, AllowClearLogin: true,
		NewID: func() string { return fmt.Sprint(e.store.NewID()) },
		Log:   slog.New(slog.NewTextHandler(e.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&o)
	}
	e.server = New(o)
	e.start()
	return e
}

func (e *env) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	listen := func(serve func(context.Context, net.Listener) error) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			e.t.Fatal(err)
		}
		wg.Go(func() {
			if err := serve(ctx, l); err != nil {
				e.t.Errorf("serve: %v", err)
			}
		})
		return l.Addr().String()
	}
	e.clear = listen(e.server.Serve)
	e.secure = listen(e.server.ServeTLS)
	e.stop = func() { cancel(); wg.Wait() }
	e.t.Cleanup(func() { e.stop() })
}

// openAccount finds or makes the account with its mailboxes and its password.
func (e *env) openAccount() {
	ctx := context.Background()
	address, _ := mail.ParseAddress(testLogin)
	var err error
	if e.account, err = e.store.AccountByAddress(ctx, testLogin); err == nil {
		return
	}
	e.account, err = e.store.CreateAccount(ctx, address, 0, []store.NewMailbox{
		{Name: "INBOX"}, {Name: "Sent", SpecialUse: `\Sent`}, {Name: "Trash", SpecialUse: `\Trash`},
	})
	if err != nil {
		e.t.Fatal(err)
	}
	c := store.Credential{Account: e.account.ID, Salt: []byte("salt-of-the-test"), Iterations: 4096}
	c.StoredKey, c.ServerKey = auth.Derive(testPassword, c.Salt, c.Iterations)
	if _, err := e.store.AddCredential(ctx, c); err != nil {
		e.t.Fatal(err)
	}
}

// Credentials implements auth.Directory.
func (e *env) Credentials(ctx context.Context, login string) ([]auth.Credential, error) {
	a, err := e.store.AccountByAddress(ctx, strings.ToLower(login))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := e.store.Credentials(ctx, a.ID)
	var out []auth.Credential
	for _, c := range list {
		out = append(out, auth.Credential{ID: int64(c.ID), Account: a.Address.Key(), Human: c.Human,
			Salt: c.Salt, Iterations: c.Iterations, StoredKey: c.StoredKey, ServerKey: c.ServerKey})
	}
	return out, err
}

// Used implements auth.Directory.
func (e *env) Used(context.Context, auth.Credential) {}

// mailbox returns a mailbox of the account.
func (e *env) mailbox(name string) store.Mailbox {
	e.t.Helper()
	m, err := e.store.MailboxByName(context.Background(), e.account.ID, name)
	if err != nil {
		e.t.Fatal(err)
	}
	return m
}

// deliver puts a message into a mailbox and wakes the sessions, as the bridge does.
func (e *env) deliver(mailbox, text string) store.Placed {
	e.t.Helper()
	p, err := e.place(mailbox, []byte(text), 0, nil, time.Time{})
	if err != nil {
		e.t.Fatal(err)
	}
	return p
}

// place stores a message as it is: header section in the row, body in a blob.
func (e *env) place(mailbox string, text []byte, flags store.Flags, keywords []string, date time.Time) (store.Placed, error) {
	ctx := context.Background()
	m, err := e.message(text)
	if err != nil {
		return store.Placed{}, err
	}
	box, err := e.store.MailboxByName(ctx, e.account.ID, mailbox)
	if err != nil {
		return store.Placed{}, err
	}
	if date.IsZero() {
		date = time.Now()
	}
	placed, err := e.store.Commit(ctx, store.Batch{Deliveries: []store.Delivery{{
		Message: m, Protection: mail.Protect(mail.Inbound(), mail.ContentEncrypted, mail.Found),
		Mailbox: box.ID, Flags: flags, Keywords: keywords, InternalDate: date,
	}}})
	if err != nil {
		return store.Placed{}, err
	}
	e.cluster.Wake(box.ID.Topic())
	return placed[0], nil
}

func (e *env) message(text []byte) (*store.Message, error) {
	h, start, err := message.ParseHeader(text)
	if err != nil {
		return nil, err
	}
	envelope := message.EnvelopeOf(h)
	id := e.store.NewID()
	m := &store.Message{
		ID: id, Account: e.account.ID, Class: store.ClassEncrypted, Size: int64(len(text)),
		Head: text[:start], Envelope: envelope.Append(nil),
		Structure: message.ScanBytes(text, message.Limits{}).Append(nil),
	}
	if start < len(text) {
		m.Blob = e.blobs.put(fmt.Sprint(id), text[start:])
	}
	return m, nil
}

// memoryBlobs are blobs in memory; it counts how often one is opened.
type memoryBlobs struct {
	mu     sync.Mutex
	blobs  map[string][]byte
	opened int
	broken bool
}

func (b *memoryBlobs) put(ref string, data []byte) store.Blob {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.blobs == nil {
		b.blobs = make(map[string][]byte)
	}
	b.blobs[ref] = bytes.Clone(data)
	return store.Blob{Ref: ref, Size: int64(len(data))}
}

// Open implements store.BlobOpener.
func (b *memoryBlobs) Open(_ context.Context, ref string) (store.BlobReader, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opened++
	data, ok := b.blobs[ref]
	if !ok || b.broken {
		return nil, errors.New("no such blob")
	}
	return struct {
		*bytes.Reader
		io.Closer
	}{bytes.NewReader(data), io.NopCloser(nil)}, nil
}

func (b *memoryBlobs) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.opened
}

// memoryAcceptor is the one door, without sealing.
type memoryAcceptor struct {
	e *env

	mu     sync.Mutex
	refuse error // of Data
	failed []error
	stored int
}

func (a *memoryAcceptor) Begin(_ context.Context, source mail.Source) (mail.Transaction, error) {
	if source.Kind != mail.KindAppend || source.ID == "" || source.Protocol == "" || source.Size == 0 {
		return nil, mail.Refuse(554, "5.5.1", "bad source")
	}
	return &memoryTransaction{a: a}, nil
}

type memoryTransaction struct {
	a    *memoryAcceptor
	rcpt mail.Rcpt
}

func (t *memoryTransaction) Rcpt(_ context.Context, r mail.Rcpt) error {
	t.rcpt = r
	return nil
}

func (t *memoryTransaction) Abort() {}

func (t *memoryTransaction) Data(_ context.Context, r io.Reader) (mail.Receipt, error) {
	text, err := io.ReadAll(r)
	t.a.mu.Lock()
	if err == nil {
		err = t.a.refuse
	}
	if err != nil {
		t.a.failed = append(t.a.failed, err)
	} else {
		t.a.stored++
	}
	t.a.mu.Unlock()
	if err != nil {
		return mail.Receipt{}, err
	}
	var flags store.Flags
	var keywords []string
	into := t.rcpt.Into
	for _, f := range into.Flags {
		switch f {
		case `\Seen`:
			flags |= store.Seen
		case `\Draft`:
			flags |= store.Draft
		default:
			keywords = append(keywords, f)
		}
	}
	p, err := t.a.e.place(into.Mailbox, text, flags, keywords, into.InternalDate)
	if err != nil {
		return mail.Receipt{}, err
	}
	return mail.Receipt{Placed: []mail.Placed{{Mailbox: p.Name, UIDValidity: p.UIDValidity, UID: p.UID}}}, nil
}

// appends returns how many messages were stored and how many were broken off.
func (a *memoryAcceptor) appends() (stored, failed int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stored, len(a.failed)
}

func testCertificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// client is a raw dialog.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func (e *env) dial(secure bool) *client {
	e.t.Helper()
	c := &client{t: e.t}
	var err error
	if secure {
		c.conn, err = tls.Dial("tcp", e.secure, e.tls)
	} else {
		c.conn, err = net.Dial("tcp", e.clear)
	}
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.conn.Close() })
	c.r = bufio.NewReader(c.conn)
	c.limit(10 * time.Second)
	return c
}

func (c *client) limit(d time.Duration) { _ = c.conn.SetDeadline(time.Now().Add(d)) }

// login dials in clear, takes the greeting and logs in.
func (e *env) login() *client {
	e.t.Helper()
	c := e.dial(false)
	c.line()
	c.ok("LOGIN %s %s", testLogin, testPassword)
	return c
}

// selected also opens a mailbox.
func (e *env) selected(mailbox string) *client {
	e.t.Helper()
	c := e.login()
	c.ok("SELECT %s", mailbox)
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// line reads one response, with its literals in place.
func (c *client) line() string {
	c.t.Helper()
	s, err := c.read()
	if err != nil {
		c.t.Fatalf("read: %v (after %q)", err, s)
	}
	return s
}

func (c *client) read() (string, error) {
	var b strings.Builder
	for {
		s, err := c.r.ReadString('\n')
		b.WriteString(s)
		if err != nil {
			return b.String(), err
		}
		n := trailingLiteral([]byte(s))
		if n < 0 {
			return strings.TrimSuffix(b.String(), "\r\n"), nil
		}
		if _, err := io.CopyN(&b, c.r, n); err != nil {
			return b.String(), err
		}
	}
}

// start sends a command and returns its tag.
func (c *client) start(format string, args ...any) string {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("t%d", c.n)
	c.send(tag + " " + fmt.Sprintf(format, args...) + "\r\n")
	return tag
}

// until reads up to the tagged response.
func (c *client) until(tag string) (untagged []string, tagged string) {
	c.t.Helper()
	for {
		s := c.line()
		if rest, ok := strings.CutPrefix(s, tag+" "); ok {
			return untagged, rest
		}
		untagged = append(untagged, s)
	}
}

func (c *client) do(format string, args ...any) ([]string, string) {
	c.t.Helper()
	return c.until(c.start(format, args...))
}

func (c *client) ok(format string, args ...any) []string {
	c.t.Helper()
	untagged, tagged := c.do(format, args...)
	if !strings.HasPrefix(tagged, "OK") {
		c.t.Fatalf("%s: %s", fmt.Sprintf(format, args...), tagged)
	}
	return untagged
}

// fails asserts the beginning of a refusal.
func (c *client) fails(want, format string, args ...any) []string {
	c.t.Helper()
	untagged, tagged := c.do(format, args...)
	if !strings.HasPrefix(tagged, want) {
		c.t.Errorf("%s: got %q, want %q", fmt.Sprintf(format, args...), tagged, want)
	}
	return untagged
}

// ends asserts that the server closes the connection, and returns what came before.
func (c *client) ends() string {
	c.t.Helper()
	b, err := io.ReadAll(c.r)
	if err != nil {
		c.t.Errorf("connection does not end: %v", err)
	}
	return string(b)
}

// imap returns go-imap's client over TLS, logged in.
func (e *env) imap(o *imapclient.Options) *imapclient.Client {
	e.t.Helper()
	if o == nil {
		o = &imapclient.Options{}
	}
	o.TLSConfig = e.tls
	c, err := imapclient.DialTLS(e.secure, o)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.Close() })
	if err := c.Login(testLogin, testPassword).Wait(); err != nil {
		e.t.Fatal(err)
	}
	return c
}

// simple is a small message.
func simple(subject string) string {
	return "From: Bob <bob@example.net>\r\nTo: alice@example.org\r\nSubject: " + subject +
		"\r\nDate: Mon, 23 Nov 2026 10:00:00 +0100\r\nMessage-ID: <" + subject + "@example.net>\r\n\r\nbody of " + subject + "\r\n"
}

func contains(t testing.TB, lines []string, want string) {
	t.Helper()
	for _, l := range lines {
		if strings.Contains(l, want) {
			return
		}
	}
	t.Errorf("%q is not in:\n%s", want, strings.Join(lines, "\n"))
}

// testIP is a peer's address.
var testIP = netip.MustParseAddr("192.0.2.1")

// fuzzMessage prepares any octets as a message to take sections from.
func fuzzMessage(text []byte) (*source, error) {
	h, start, err := message.ParseHeader(text)
	if err != nil {
		return nil, err
	}
	e := message.EnvelopeOf(h)
	if _, err := envelopeOf(e.Append(nil)); err != nil {
		return nil, err
	}
	root, err := message.ParseStructure(message.ScanBytes(text, message.Limits{}).Append(nil))
	if err != nil {
		return nil, err
	}
	structureOf(root)
	return &source{head: text[:start], root: root, body: bytes.NewReader(text)}, nil
}
