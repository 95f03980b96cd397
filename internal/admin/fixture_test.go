package admin

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/pgp"
	"postern/internal/store"
)

const owner = "alice@here.test"

// fixture is a gateway that quickstart made, opened, and its first account's secret key.
type fixture struct {
	*Admin
	t     *testing.T
	setup *Setup
	key   *pgp.SecretKey
}

// newFixture makes a gateway. With a key the account has its certificate.
func newFixture(t *testing.T, withKey bool) *fixture {
	t.Helper()
	f := &fixture{t: t, key: newKey(t)}
	o := options(t)
	if withKey {
		o.Certificate = f.key.Certificate().Armor()
	}
	var err error
	if f.setup, err = Quickstart(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	f.open()
	return f
}

// options are for a gateway on ports that nobody uses.
func options(t *testing.T) QuickstartOptions {
	t.Helper()
	return QuickstartOptions{Address: owner, Dir: filepath.Join(t.TempDir(), "gateway"), Listen: "127.0.0.1", BasePort: 64_000}
}

func newKey(t *testing.T) *pgp.SecretKey {
	t.Helper()
	k, err := pgp.GenerateKey(owner, time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (f *fixture) open() {
	f.t.Helper()
	a, err := Open(f.t.Context(), f.setup.Config)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Admin = a
	f.t.Cleanup(func() { a.Close() })
}

// configure changes one key of the configuration file and opens the data again.
func (f *fixture) configure(key, value string) {
	f.t.Helper()
	setKey(f.t, f.setup.Config, key, value)
	if err := f.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.open()
}

func setKey(t *testing.T, file, key, value string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^` + key + ` = .*$`)
	if len(line.FindAll(text, -1)) != 1 {
		t.Fatalf("not one key %s", key)
	}
	write(t, file, string(line.ReplaceAllLiteral(text, []byte(key+" = "+value))))
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func testdata(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// deliver brings a message in as another mail server would.
func (f *fixture) deliver(text string) {
	f.t.Helper()
	tr, err := f.g.Bridge.Begin(f.t.Context(), mail.Source{Kind: mail.KindMX, ID: "tx", Protocol: "SMTP", Helo: "x", Time: time.Now()})
	if err != nil {
		f.t.Fatal(err)
	}
	addr, _ := mail.ParseAddress(owner)
	if err := tr.Rcpt(f.t.Context(), mail.Rcpt{Address: addr}); err != nil {
		f.t.Fatal(err)
	}
	if _, err := tr.Data(f.t.Context(), strings.NewReader(text)); err != nil {
		f.t.Fatal(err)
	}
}

// stored is one message of a mailbox.
type stored struct {
	store.Entry
	original string // what the owner's key opens
}

// mailbox returns the messages of a mailbox, opened.
func (f *fixture) mailbox(name string) []stored {
	f.t.Helper()
	account, err := f.account(f.t.Context(), owner)
	if err != nil {
		f.t.Fatal(err)
	}
	box, err := f.g.Store.MailboxByName(f.t.Context(), account.ID, name)
	if err != nil {
		f.t.Fatalf("%s: %v", name, err)
	}
	view, err := f.g.Store.View(f.t.Context(), box.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	var all []stored
	for _, e := range view.Entries {
		m, err := f.g.Store.Message(f.t.Context(), e.Message)
		if err != nil {
			f.t.Fatal(err)
		}
		body, err := m.Open(f.t.Context(), f.g.Blobs)
		if err != nil {
			f.t.Fatal(err)
		}
		var raw bytes.Buffer
		_, err = raw.ReadFrom(body)
		body.Close()
		if err != nil {
			f.t.Fatal(err)
		}
		s := stored{Entry: e, original: raw.String()}
		if m.Class == store.ClassSealed {
			s.original = openSealed(f.t, raw.Bytes(), f.key)
		}
		all = append(all, s)
	}
	return all
}

// openSealed opens a sealed message.
func openSealed(t *testing.T, raw []byte, key *pgp.SecretKey) string {
	t.Helper()
	at := bytes.NewReader(raw)
	c, ok, err := message.FindEncrypted(message.ScanBytes(raw, message.Limits{}), at)
	if err != nil || !ok {
		t.Fatalf("not encrypted: %v\n%s", err, raw)
	}
	payload, err := key.Decrypt(c.Reader(at))
	if err != nil {
		t.Fatal(err)
	}
	o, err := message.Restore(payload)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	var buf [4096]byte
	for r := o.Reader(); ; {
		n, err := r.Read(buf[:])
		b.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if err := o.Intact(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// text is what a result prints for people.
func text(t *testing.T, r interface{ WriteText(w io.Writer) error }) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
