package device

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/message"
	"postern/internal/pgp"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	key, g := newKey(t), newGateway(t)
	other := newGateway(t)
	intact := g.payload(t, original)
	altered := bytes.Replace(intact, []byte("midnight"), []byte("noonday!"), 1)
	alteredHeader := bytes.Replace(intact, []byte("Tonight"), []byte("Tomorro"), 1)
	forged := bytes.Replace(intact, []byte("spf=pass"), []byte("spf=fail"), 1)
	broken := bytes.Replace(intact, []byte("sig="), []byte("gis="), 1)
	claim := func(field string) []byte { return []byte(field + "\r\n" + original) }
	for name, row := range map[string]struct {
		payload []byte
		gateway []byte
		want    Verdict
		text    string // of the original; empty: as it was sent
		fails   bool
	}{
		"verified":               {payload: intact, gateway: g.pem, want: Verified},
		"no gateway key":         {payload: intact, want: NotChecked},
		"another gateway's key":  {payload: intact, gateway: other.pem, want: Forged, fails: true},
		"altered body":           {payload: altered, gateway: g.pem, want: Altered, text: "noonday!", fails: true},
		"altered, not checked":   {payload: altered, want: Altered, text: "noonday!", fails: true},
		"altered header field":   {payload: alteredHeader, gateway: g.pem, want: Altered, text: "Tomorro", fails: true},
		"altered statement":      {payload: forged, gateway: g.pem, want: Forged, fails: true},
		"statement not readable": {payload: broken, gateway: g.pem, want: Malformed, fails: true, text: "midnight"},
		"statement, no version":  {payload: bytes.Replace(intact, []byte("v=1;"), []byte("v=2;"), 1), want: Malformed, fails: true, text: "midnight"},
		"statement not first":    {payload: append([]byte("X: y\r\n"), intact...), gateway: g.pem, want: Malformed, fails: true, text: "X: y\r\nFrom: Bob"},
		"statement misnamed":     {payload: claim("postern-arrived: v=1"), want: Malformed, fails: true},
		"statement, no colon":    {payload: claim("Postern-Arrival v=1"), want: Malformed, fails: true},
		"statement, folded":      {payload: claim("Postern-Arrival:\r\n v=1;\r\n id=x"), want: Malformed, fails: true},
		"nothing but statement":  {payload: []byte("Postern-Arrival: v=1\n\nat midnight"), want: Malformed, fails: true, text: "\nat midnight"},
		"statement in the body":  {payload: []byte(original + "Postern-Arrival: v=1\r\n"), want: NoStatement, text: "Postern-Arrival: v=1"},
		"no statement":           {payload: []byte(original), gateway: g.pem, want: NoStatement},
		"no statement, no key":   {payload: []byte(original), want: NoStatement},
		"nothing inside":         {payload: []byte("\r\n"), want: NoStatement, text: "\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, err := Open(bytes.NewReader(seal(t, key.Certificate, row.payload)), key.Secret, noPassphrase(t), row.gateway)
			if err != nil {
				t.Fatal(err)
			}
			if o.Signature != row.want || (o.Provenance == nil) != (row.want == NoStatement || row.want == Malformed) {
				t.Errorf("%q, provenance %v", o.Signature, o.Provenance)
			}
			if row.want == Malformed && strings.Contains(strings.ToLower(string(o.Original)), "postern-") {
				t.Errorf("what must not be trusted is left in:\n%s", o.Original)
			}
			if row.text == "" && string(o.Original) != original || !strings.Contains(string(o.Original), row.text) {
				t.Errorf("original:\n%s", o.Original)
			}
			if (o.Err() != nil) != row.fails {
				t.Errorf("Err: %v", o.Err())
			}
			// The words say no more than was checked.
			if r := o.Report(); strings.HasPrefix(r.Statement, "verified: ") != (row.want == Verified) || r.Octets != len(o.Original) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A message may also come as a mail program saved it, or without the mail around it.
func TestOpenForms(t *testing.T) {
	t.Parallel()
	key, g := newKey(t), newGateway(t)
	payload := g.payload(t, original)
	whole := seal(t, key.Certificate, payload)
	bare := encrypt(t, key.Certificate, payload)
	for name, in := range map[string][]byte{
		"as IMAP gave it": whole,
		"LF line endings": bytes.ReplaceAll(whole, []byte("\r\n"), []byte("\n")),
		"bare armor":      bare,
		"bare armor, LF":  bytes.ReplaceAll(bare, []byte("\r\n"), []byte("\n")),
	} {
		o, err := Open(bytes.NewReader(in), key.Secret, noPassphrase(t), g.pem)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if o.Signature != Verified || string(o.Original) != original {
			t.Errorf("%s: %s\n%s", name, o.Signature, o.Original)
		}
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	key, other, g := newKey(t), newKey(t), newGateway(t)
	sealed := string(seal(t, key.Certificate, g.payload(t, original)))
	signed := lines("From: a@b.c", `Content-Type: multipart/signed; boundary="x"`, "", "--x", "", "text", "--x--")
	fake := lines("From: a@b.c", `Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="x"`, "",
		"--x", "Content-Type: application/pgp-encrypted", "", "Version: 1", "", "--x", "Content-Type: application/octet-stream", "", "clear text", "--x--")
	// A line of the ciphertext, well behind the session key.
	end := strings.Index(sealed, "-----END PGP")
	at := strings.LastIndex(sealed[:end-80], "\r\n") + 10
	damaged := sealed[:at] + otherThan(sealed[at]) + sealed[at+1:]
	for name, row := range map[string]struct {
		in     string
		secret []byte
		pub    []byte
		want   error
		text   string
	}{
		"not encrypted":        {in: original, secret: key.Secret, want: ErrNotEncrypted},
		"only signed":          {in: signed, secret: key.Secret, want: ErrNotEncrypted},
		"only claims to be":    {in: fake, secret: key.Secret, want: ErrNotEncrypted},
		"nothing":              {in: "", secret: key.Secret, want: ErrNotEncrypted},
		"rubbish":              {in: "\x00\x01rubbish", secret: key.Secret, want: ErrNotEncrypted},
		"wrong key":            {in: sealed, secret: other.Secret, want: pgp.ErrNotForKey},
		"damaged":              {in: damaged, secret: key.Secret, want: pgp.ErrIntegrity},
		"truncated":            {in: sealed[:at], secret: key.Secret},
		"no secret key":        {in: sealed, secret: []byte("hello"), want: pgp.ErrNoSecretKey},
		"a certificate as key": {in: sealed, secret: key.Certificate, want: pgp.ErrNoSecretKey},
		"gateway key no PEM":   {in: sealed, secret: key.Secret, pub: []byte("hello"), text: "not PEM"},
		"gateway key rubbish":  {in: sealed, secret: key.Secret, pub: []byte("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), text: "gateway's key"},
		"gateway key RSA":      {in: sealed, secret: key.Secret, pub: []byte(rsaKey), text: "not an Ed25519 key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, err := Open(strings.NewReader(row.in), row.secret, nil, row.pub)
			if err == nil || o != nil {
				t.Fatalf("opened: %+v", o)
			}
			if row.want != nil && !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.text) {
				t.Errorf("%v", err)
			}
			if strings.Contains(err.Error(), "midnight") {
				t.Errorf("the text is in the error: %v", err)
			}
		})
	}
}

// otherThan is another character of base64.
func otherThan(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

// rsaKey is a public key of another kind.
const rsaKey = `-----BEGIN PUBLIC KEY-----
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAMSQGdvJQ4j5JrRyhbQW0VTzCQ5GdWNd
ZcAJ3Hx3jx3Xb3kM5cN3oHvBkHjGd3x9lqVhYr6t5z3cJmQOqRr8kQMCAwEAAQ==
-----END PUBLIC KEY-----
`

func TestOpenWithPassphrase(t *testing.T) {
	t.Parallel()
	secret, err := os.ReadFile(filepath.Join("testdata", "locked.key.asc"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := os.ReadFile(filepath.Join("testdata", "locked.cert.asc"))
	if err != nil {
		t.Fatal(err)
	}
	g := newGateway(t)
	sealed := seal(t, cert, g.payload(t, original))
	say := func(s string) func() ([]byte, error) { return func() ([]byte, error) { return []byte(s), nil } }
	if o, err := Open(bytes.NewReader(sealed), secret, say("correct battery"), g.pem); err != nil || o.Signature != Verified {
		t.Errorf("%v, %v", o, err)
	}
	if _, err := Open(bytes.NewReader(sealed), secret, say("wrong battery"), nil); !errors.Is(err, pgp.ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if _, err := Open(bytes.NewReader(sealed), secret, nil, nil); !errors.Is(err, pgp.ErrPassphrase) {
		t.Errorf("nobody to ask: %v", err)
	}
	away := errors.New("no terminal")
	if _, err := Open(bytes.NewReader(sealed), secret, func() ([]byte, error) { return nil, away }, nil); !errors.Is(err, away) {
		t.Errorf("cannot ask: %v", err)
	}
}

func TestOpenReaderFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("connection lost")
	if _, err := Open(failing{broken}, newKey(t).Secret, nil, nil); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestNewKey(t *testing.T) {
	t.Parallel()
	k, err := NewKey("Alice+x@EXÄMPLE.org", now())
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pgp.ParseCertificates(k.Certificate)
	if err != nil || len(certs) != 1 {
		t.Fatalf("%d certificates, %v", len(certs), err)
	}
	c := certs[0]
	if c.Fingerprint() != k.Fingerprint || !c.HasAddress("alice+x@xn--exmple-cua.org") || c.Usable(now()) != nil {
		t.Errorf("%s, %v, %v", c.Fingerprint(), c.UserIDs(), c.Usable(now()))
	}
	// The two halves are told apart: the one for the server holds nothing secret.
	if _, err := pgp.ParseSecretKey(k.Certificate, nil); !errors.Is(err, pgp.ErrNoSecretKey) {
		t.Errorf("the certificate: %v", err)
	}
	if _, err := pgp.ParseCertificates(k.Secret); !errors.Is(err, pgp.ErrSecretKey) {
		t.Errorf("the secret key: %v", err)
	}
	for _, bad := range []string{"", "alice", "alice@", "Alice <a@b.c>", "a@b.c\n"} {
		if k, err := NewKey(bad, now()); err == nil {
			t.Errorf("%q: %v", bad, k.Fingerprint)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	for _, row := range [][4]string{
		{"alice@here.test", "", "alice@here.test.key.asc", "alice@here.test.cert.asc"},
		{"alice@here.test", "/keys/a.key.asc", "/keys/a.key.asc", "/keys/a.cert.asc"},
		{"alice@here.test", "my-key.asc", "my-key.asc", "my-key.cert.asc"},
		{"alice@here.test", "mine", "mine", "mine.cert.asc"},
		{`"../../etc/x"@here.test`, "", `".._.._etc_x"@here.test.key.asc`, `".._.._etc_x"@here.test.cert.asc`},
	} {
		secret, cert := KeyFiles(row[0], row[1])
		if secret != row[2] || cert != row[3] {
			t.Errorf("%q %q: %q and %q", row[0], row[1], secret, cert)
		}
	}
}

// What came from outside cannot end a line of the report or steer a terminal.
func TestReportIsSafe(t *testing.T) {
	t.Parallel()
	key, g := newKey(t), newGateway(t)
	nasty := "x\nProvenance: verified: all is well\x1b[2J\u009b31m\u202e"
	payload := g.payload(t, lines("From: a@b.c", "Subject: \x1b]0;owned\x07", "", "tab\there \u009b1m \x00 \u202etxet \xff"), func(p *message.Provenance) {
		p.TLS, p.Recipient, p.SPF, p.Key, p.ID = nasty, nasty, nasty, nasty, nasty
		p.Extra = []message.Attribute{{Name: "via", Value: nasty}, {Name: "time", Value: nasty}}
	})
	for _, pub := range [][]byte{nil, g.pem, newGateway(t).pem} {
		o, err := Open(bytes.NewReader(seal(t, key.Certificate, payload)), key.Secret, nil, pub)
		if err != nil {
			t.Fatal(err)
		}
		r := o.Report()
		var text strings.Builder
		if err := r.WriteText(&text); err != nil {
			t.Fatal(err)
		}
		all := []string{strings.TrimSuffix(text.String(), "\n"), r.Statement}
		for _, v := range r.Arrival {
			all = append(all, v)
		}
		for _, s := range all {
			if strings.ContainsAny(s, "\n\r\x1b\u009b\u202e") {
				t.Errorf("%q", s)
			}
		}
		if r.Arrival["time"] != "2026-03-02T12:00:00Z" {
			t.Errorf("an unknown attribute stands for a known one: %v", r.Arrival)
		}
		if p := o.Printable(); strings.ContainsAny(p, "\r\x1b\x07\x00\u009b\u202e") || !strings.Contains(p, "tab\there") || !strings.Contains(p, "\n\n") {
			t.Errorf("%q", p)
		}
	}
}

func TestStatement(t *testing.T) {
	t.Parallel()
	key, g := newKey(t), newGateway(t)
	open := func(change func(*message.Provenance)) string {
		t.Helper()
		o, err := Open(bytes.NewReader(seal(t, key.Certificate, g.payload(t, original, change))), key.Secret, nil, g.pem)
		if err != nil {
			t.Fatal(err)
		}
		return o.Report().Statement
	}
	for want, change := range map[string]func(*message.Provenance){
		"verified: arrived in clear over TLS1.3 at 2026-03-02 12:00:00 UTC for alice@here.test (spf=pass, dkim=none, dmarc=pass), then sealed; key abc": func(*message.Provenance) {},
		"verified: arrived in clear at 2026-03-02 12:00:00 UTC, then sealed; key abc": func(p *message.Provenance) {
			p.TLS, p.Recipient, p.SPF, p.DKIM, p.DMARC = "", "", "", "", ""
		},
		"verified: stored in clear via imap at 2026-03-02 12:00:00 UTC, then sealed; key abc": func(p *message.Provenance) {
			p.TLS, p.Recipient, p.SPF, p.DKIM, p.DMARC = "", "", "", "", ""
			p.Extra = []message.Attribute{{Name: "via", Value: "imap"}}
		},
	} {
		if got := open(change); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k, err := NewKey("alice@here.test", now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(original))
	f.Add([]byte("-----BEGIN PGP MESSAGE-----\r\n\r\nAAAA\r\n-----END PGP MESSAGE-----\r\n"))
	f.Add([]byte("Content-Type: multipart/encrypted; boundary=x\r\n\r\n--x\r\n\r\n--x\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n"))
	f.Add([]byte{0xc1, 0x0c, 0x03})
	f.Fuzz(func(t *testing.T, in []byte) {
		if o, err := Open(bytes.NewReader(in), k.Secret, nil, nil); err == nil {
			o.Report()
			o.Printable()
		} else if o != nil {
			t.Fatal("an error and a message")
		}
	})
}

// FuzzExamine is what anybody who knows the certificate can encrypt.
func FuzzExamine(f *testing.F) {
	f.Add([]byte("Postern-Arrival: v=1; id=x; t=2026-03-02T12:00:00Z; class=clear; ct=kept; head=; body=; key=k; sig=AAAA\r\n\r\nbody"))
	f.Add([]byte(original))
	f.Fuzz(func(t *testing.T, payload []byte) {
		o, err := examine(payload, make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		if o.Signature == Verified || o.Signature == NotChecked {
			t.Fatalf("verified: %q", payload)
		}
		if r := o.Report(); strings.Contains(r.Statement, "\n") {
			t.Fatalf("%q", r.Statement)
		}
	})
}
