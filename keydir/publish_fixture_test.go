package keydir

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
)

// shelf is a store in memory of what accounts publish. It counts how often it is
// asked for certificates.
type shelf struct {
	mu     sync.Mutex
	owners []owner
	asked  int
	err    error
}

type owner struct {
	id      store.ID
	address mail.Address
	certs   []store.Certificate
	hidden  bool
}

// Listed implements PublishStore.
func (s *shelf) Listed(_ context.Context, each func(store.Listed) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	for _, o := range s.owners {
		for _, c := range o.certs {
			if o.hidden {
				continue
			}
			if err := each(store.Listed{Account: o.id, Address: o.address, Fingerprint: c.Fingerprint}); err != nil {
				return err
			}
		}
	}
	return nil
}

// PublishedCertificates implements PublishStore.
func (s *shelf) PublishedCertificates(_ context.Context, id store.ID) (mail.Address, []store.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.err != nil {
		return mail.Address{}, nil, s.err
	}
	for _, o := range s.owners {
		if o.id == id && !o.hidden && len(o.certs) > 0 {
			return o.address, slices.Clone(o.certs), nil
		}
	}
	return mail.Address{}, nil, store.ErrNotFound
}

// put adds or replaces an account, by its address.
func (s *shelf) put(t testing.TB, address string, hidden bool, certs ...*pgp.Certificate) {
	t.Helper()
	a, err := mail.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := owner{id: store.ID(len(s.owners) + 1), address: a, hidden: hidden}
	for _, c := range certs {
		o.certs = append(o.certs, store.Certificate{Fingerprint: c.Fingerprint(), Data: c.Data()})
	}
	at := slices.IndexFunc(s.owners, func(o owner) bool { return o.address == a })
	if at < 0 {
		s.owners = append(s.owners, o)
		return
	}
	o.id = s.owners[at].id
	s.owners[at] = o
}

func (s *shelf) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// newCertificate makes a certificate for an address.
func newCertificate(t testing.TB, address string) *pgp.Certificate {
	t.Helper()
	k, err := pgp.GenerateKey(address, time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return k.Certificate()
}

// fileCertificate reads one of testdata/publish.
func fileCertificate(t testing.TB, name string) *pgp.Certificate {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "publish", name))
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pgp.ParseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	return certs[0]
}

// desk is a Publisher for here.test and there.test with a shelf behind it.
type desk struct {
	t         testing.TB
	shelf     *shelf
	pub       *Publication
	publisher *Publisher
}

func newDesk(t testing.TB, change func(*PublishOptions)) *desk {
	t.Helper()
	d := &desk{t: t, shelf: &shelf{}}
	d.pub = NewPublication(d.shelf, nil, nil)
	o := PublishOptions{
		Publication: d.pub, Hostname: "mail.here.test",
		Hosted: func(domain string) bool { return domain == "here.test" || domain == "there.test" },
	}
	if change != nil {
		change(&o)
	}
	d.publisher = NewPublisher(o)
	return d
}

// read has the Publication read the shelf now.
func (d *desk) read() {
	d.t.Helper()
	d.pub.Forget()
	if err := d.pub.read(context.Background()); err != nil {
		d.t.Fatal(err)
	}
}

// do sends one request. The target begins with the host name.
func (d *desk) do(method, url string, change func(*http.Request)) *http.Response {
	d.t.Helper()
	r := httptest.NewRequest(method, "https://"+url, nil)
	r.TLS = &tls.ConnectionState{}
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	d.publisher.ServeHTTP(w, r)
	return w.Result()
}

func (d *desk) get(url string) *http.Response { d.t.Helper(); return d.do(http.MethodGet, url, nil) }

// body reads an answer that has to have a status and a media type.
func (d *desk) body(r *http.Response, status int, mediaType string) []byte {
	d.t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	if r.StatusCode != status || r.Header.Get("Content-Type") != mediaType {
		d.t.Errorf("got %d %s %.80q, want %d %s", r.StatusCode, r.Header.Get("Content-Type"), b, status, mediaType)
	}
	if r.Header.Get("Access-Control-Allow-Origin") != "*" {
		d.t.Error("browsers may not read this")
	}
	return b
}

// certificates reads an answer with certificates and returns their fingerprints.
func (d *desk) certificates(r *http.Response, mediaType string) (fingerprints []string) {
	d.t.Helper()
	for _, c := range d.parse(d.body(r, http.StatusOK, mediaType)) {
		fingerprints = append(fingerprints, c.Fingerprint())
	}
	return fingerprints
}

func (d *desk) parse(b []byte) []*pgp.Certificate {
	d.t.Helper()
	certs, err := pgp.ParseCertificates(b)
	if err != nil {
		d.t.Errorf("no certificates in %.80q: %v", b, err)
	}
	return certs
}

func advanced(domain, local string) string {
	return "openpgpkey." + domain + "/.well-known/openpgpkey/" + domain + "/hu/" + WKDHash(local)
}

func direct(domain, local string) string {
	return domain + "/.well-known/openpgpkey/hu/" + WKDHash(local)
}

// The media types of answers.
const (
	octetType   = "application/octet-stream"
	textType    = "text/plain; charset=utf-8"
	jsonType    = "application/json"
	armoredType = "application/pgp-keys"
	binaryType  = "application/pgp-keys;armor=no"
)

// people are users with one password, and what the directory says of addresses.
type people struct {
	mu      sync.Mutex
	logins  int
	loginIP netip.Addr
	err     error
	answers map[string]Answer
	waits   bool // look-ups last until they are given up
}

// Login implements Users.
func (p *people) Login(_ context.Context, ip netip.Addr, login, password string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.logins++
	p.loginIP = ip
	if p.err != nil {
		return p.err
	}
	if login != "alice@here.test" || password != "app-password" {
		return ErrLogin
	}
	return nil
}

// Lookup implements Finder.
func (p *people) Lookup(ctx context.Context, a mail.Address) Answer {
	if p.waits {
		<-ctx.Done()
		return Answer{Kind: mail.Unknown, Reason: "it took too long"}
	}
	if answer, ok := p.answers[a.Key()]; ok {
		return answer
	}
	return Answer{Kind: mail.None, Reason: "no certificate"}
}

var errBroken = errors.New("the disk is gone")
