package bridge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/blob"
	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/msgauth"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/telemetry"
	"postern/internal/vault"
	"postern/keydir"
)

// noDNS is a resolver that knows nothing, for certain.
type noDNS struct{}

func notFound(name string) error {
	return &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (noDNS) LookupTXT(_ context.Context, name string) ([]string, error) { return nil, notFound(name) }
func (noDNS) LookupMX(_ context.Context, name string) ([]*net.MX, error) { return nil, notFound(name) }
func (noDNS) LookupIPAddr(_ context.Context, name string) ([]net.IPAddr, error) {
	return nil, notFound(name)
}
func (noDNS) LookupAddr(_ context.Context, name string) ([]string, error) { return nil, notFound(name) }

// fixture is a bridge over a real store, real blobs and a real vault, and the devices
// of the accounts' owners.
type fixture struct {
	*Bridge
	t    testing.TB
	dir  string
	keys map[string]*pgp.SecretKey // by address
	mu   sync.Mutex
	woke []string
	// fault is asked before every statement of the store, if it is set.
	fault atomic.Pointer[func() error]
}

func newFixture(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), keys: make(map[string]*pgp.SecretKey)}
	keys := filepath.Join(f.dir, "keys")
	if err := vault.Create(keys, "here.test", time.Now()); err != nil {
		t.Fatal(err)
	}
	v, err := vault.Open(keys)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(f.dir, "postern.db"), Fault: f.fail})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	files, err := blob.OpenFiles(filepath.Join(f.dir, "blobs"), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	o := Options{
		Store: s, Blobs: files, Directory: keydir.New(keydir.Options{Store: s}), Vault: v,
		Verifier: msgauth.NewVerifier(msgauth.Options{Resolver: noDNS{}}),
		Wake: func(topic string) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.woke = append(f.woke, topic)
		},
		Hostname: "mail.here.test", Domains: []string{"here.test"},
		MaxSize: 64 << 20, SpoolDir: f.dir, SpoolMemory: 8 << 20,
		Now: time.Now, Log: telemetry.Discard(),
	}
	for _, c := range change {
		c(&o)
	}
	f.Bridge = New(o)
	return f
}

func (f *fixture) fail() error {
	if fault := f.fault.Load(); fault != nil {
		return (*fault)()
	}
	return nil
}

// account makes an account; with a key if its owner has one.
func (f *fixture) account(address string, withKey bool) store.Account {
	f.t.Helper()
	a, err := f.Store.CreateAccount(f.t.Context(), parse(f.t, address), 0, []store.NewMailbox{{Name: "INBOX"}, {Name: "Sent", SpecialUse: `\Sent`}})
	if err != nil {
		f.t.Fatal(err)
	}
	if withKey {
		f.giveKey(address)
	}
	return a
}

func (f *fixture) giveKey(address string) {
	f.t.Helper()
	k, err := pgp.GenerateKey(address, time.Now().Add(-time.Minute))
	if err != nil {
		f.t.Fatal(err)
	}
	f.keys[address] = k
	f.importCertificate(address, k.Certificate())
}

func (f *fixture) importCertificate(address string, c *pgp.Certificate) {
	f.t.Helper()
	_, err := f.Store.AddCertificate(f.t.Context(), store.Certificate{
		Address: parse(f.t, address).Key(), Fingerprint: c.Fingerprint(), Data: c.Data(), Source: "operator",
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.Directory.Forget()
}

func parse(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// source is a connection of another mail server.
func source() mail.Source {
	return mail.Source{
		Kind: mail.KindMX, ID: "tx1", From: mail.Address{Local: "bob", Domain: "there.test"},
		RemoteIP: netip.MustParseAddr("192.0.2.7"), Helo: "mx.there.test", Protocol: "ESMTPS",
		TLS: &mail.TLS{Version: "TLS1.3", Cipher: "TLS_AES_128_GCM_SHA256"}, Time: time.Now(),
	}
}

// send brings a message to recipients.
func (f *fixture) send(src mail.Source, data string, to ...string) (mail.Receipt, error) {
	f.t.Helper()
	return f.sendFrom(src, strings.NewReader(data), to...)
}

func (f *fixture) sendFrom(src mail.Source, r io.Reader, to ...string) (mail.Receipt, error) {
	f.t.Helper()
	tr, err := f.Begin(f.t.Context(), src)
	if err != nil {
		return mail.Receipt{}, err
	}
	defer tr.Abort()
	for _, a := range to {
		if err := tr.Rcpt(f.t.Context(), mail.Rcpt{Address: parse(f.t, a)}); err != nil {
			return mail.Receipt{}, err
		}
	}
	return tr.Data(f.t.Context(), r)
}

func (f *fixture) mustSend(data string, to ...string) mail.Receipt {
	f.t.Helper()
	r, err := f.send(source(), data, to...)
	if err != nil {
		f.t.Fatalf("send: %v", err)
	}
	return r
}

// stored returns the messages of an account's mailbox, with their octets.
func (f *fixture) stored(address, mailbox string) []stored {
	f.t.Helper()
	ctx := f.t.Context()
	a, err := f.Store.AccountByAddress(ctx, parse(f.t, address).Key())
	if err != nil {
		f.t.Fatal(err)
	}
	m, err := f.Store.MailboxByName(ctx, a.ID, mailbox)
	if err != nil {
		f.t.Fatal(err)
	}
	v, err := f.Store.View(ctx, m.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	var all []stored
	for _, e := range v.Entries {
		msg, err := f.Store.Message(ctx, e.Message)
		if err != nil {
			f.t.Fatal(err)
		}
		body, err := msg.Open(ctx, f.Blobs)
		if err != nil {
			f.t.Fatal(err)
		}
		raw, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
		if err := errors.Join(err, body.Close()); err != nil {
			f.t.Fatal(err)
		}
		all = append(all, stored{Message: msg, Entry: e, raw: raw})
	}
	return all
}

type stored struct {
	*store.Message
	store.Entry
	raw []byte
}

// open decrypts a sealed message with its owner's key and takes the payload apart.
func (f *fixture) open(address string, raw []byte) *opened {
	f.t.Helper()
	top := message.ScanBytes(raw, message.Limits{})
	at := bytes.NewReader(raw)
	c, ok, err := message.FindEncrypted(top, at)
	if err != nil || !ok {
		f.t.Fatalf("not PGP/MIME: %v", err)
	}
	plain, err := f.keys[address].Decrypt(c.Reader(at))
	if err != nil {
		f.t.Fatalf("decrypt: %v", err)
	}
	payload, err := io.ReadAll(plain)
	if err != nil {
		f.t.Fatalf("decrypt: %v", err)
	}
	o, err := message.Restore(bytes.NewReader(payload))
	if err != nil {
		f.t.Fatalf("restore: %v", err)
	}
	original, err := io.ReadAll(o.Reader())
	if err != nil {
		f.t.Fatal(err)
	}
	if err := o.Intact(); err != nil {
		f.t.Error(err)
	}
	return &opened{Original: o, payload: payload, original: original}
}

type opened struct {
	*message.Original
	payload, original []byte
}

const plainMail = "From: Bob <bob@there.test>\r\nTo: alice@here.test\r\nSubject: a secret subject\r\n" +
	"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@there.test>\r\n\r\nthe canary sings\r\n"
