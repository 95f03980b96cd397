package bridge

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"postern/internal/mail"
	"postern/internal/msgauth"
)

// withSigner signs mail of here.test as a gateway does, by RSA and Ed25519. lookUp is its
// domain's DNS.
func withSigner(t testing.TB) (change func(*Options), lookUp func(string) ([]string, error)) {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaPublic, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := msgauth.NewSigner(
		msgauth.SigningKey{Domain: "here.test", Selector: "r", Key: rsaKey},
		msgauth.SigningKey{Domain: "here.test", Selector: "e", Key: edKey})
	return func(o *Options) { o.Signer = signer }, func(name string) ([]string, error) {
		switch name {
		case "r._domainkey.here.test":
			return []string{"v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(rsaPublic)}, nil
		case "e._domainkey.here.test":
			return []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(edPublic)}, nil
		}
		return nil, notFound(name)
	}
}

// TestSignedAsItLeaves: each form of a copy verifies as it leaves, for exactly the domain
// in From, whatever was added to it or changed in it; and what was held is signed when it
// leaves.
func TestSignedAsItLeaves(t *testing.T) {
	t.Parallel()
	signer, lookUp := withSigner(t)
	rules := withPolicy(t, "[[rule]]\nname = \"tls\"\nwhen = 'recipient == \"tls@there.test\"'\nfloor = \"tls\"\n"+
		"[[rule]]\nname = \"marks\"\nwhen = \"true\"\nfloor = \"clear\"\nprefix = \"[x]\"\nfooter = \"not encrypted\"\n")
	o := newOutbound(t, signer, rules)
	o.correspondent("bob@there.test")
	o.source.set("eve@there.test", true)
	armor := strings.Replace(o.armored(t, "x", "bob@there.test"), "\r\n\r\n", "\r\nComment: y\r\n\r\n", 1)
	html := "From: alice+require@here.test\r\nTo: x@y\r\nContent-Type: text/html\r\n\r\n<b>hello</b>  \r\n\r\n\r\n"
	for name, test := range map[string]struct {
		data string
		to   []string
	}{
		"sealed":                 {letter("", "bob@there.test"), []string{"bob@there.test"}},
		"clear":                  {letter("", "x@y"), []string{"dave@there.test"}},
		"clear, another part":    {strings.Replace(html, "+require", "", 1), []string{"dave@there.test"}},
		"rewritten":              {html, []string{"bob@there.test"}},
		"verified TLS":           {letter("", "x@y"), []string{"tls@there.test"}},
		"passed through":         {o.encrypted(t, "bob@there.test"), []string{"bob@there.test"}},
		"reframed":               {wrapped(armor), []string{"bob@there.test"}},
		"no newline at the end":  {"From: alice@here.test\r\n\r\nhello", []string{"dave@there.test"}},
		"nothing in it":          {"From: alice@here.test\r\n\r\n", []string{"dave@there.test"}},
		"sealed, several copies": {letter("", "bob@there.test"), []string{"bob@there.test", "dave@there.test", "tls@there.test"}},
	} {
		before := len(o.queued())
		o.mustSubmit(test.data, test.to...)
		all := o.queued()
		if len(all)-before != len(test.to) {
			t.Errorf("%s: %d copies more", name, len(all)-before)
		}
		for _, w := range all {
			o.verify(name, w, lookUp)
		}
	}
	o.mustSubmit(letter("", "x@y"), "eve@there.test", "bob@there.test")
	held := o.copyFor("eve@there.test")
	if headerOf(t, held.raw).Has("DKIM-Signature") {
		t.Error("what is held is signed already")
	}
	o.source.set("eve@there.test", false)
	o.now = o.now.Add(2 * time.Minute)
	if err := o.Reconsider(t.Context(), held.Outgoing, held.to[0]); err != nil {
		t.Fatal(err)
	}
	o.verify("held", o.copyFor("eve@there.test"), lookUp)
}

// verify checks the signatures of a copy.
func (o *outbound) verify(name string, w waiting, lookUp func(string) ([]string, error)) {
	o.t.Helper()
	got, err := dkim.VerifyWithOptions(bytes.NewReader(w.raw), &dkim.VerifyOptions{LookupTXT: lookUp})
	if err != nil || len(got) != 2 {
		o.t.Fatalf("%s: %d signatures, %v\n%.800s", name, len(got), err, w.raw)
	}
	for _, v := range got {
		if v.Err != nil || v.Domain != "here.test" {
			o.t.Errorf("%s, %v: %s: %v\n%.800s", name, w.Level, v.Domain, v.Err, w.raw)
		}
	}
	if !bytes.HasPrefix(w.raw, []byte("DKIM-Signature:")) {
		o.t.Errorf("%s: the signature is not on top", name)
	}
}

// TestUnsigned: a domain without a key is no error.
func TestUnsigned(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, func(o *Options) { o.Signer = msgauth.NewSigner() })
	o.mustSubmit(letter("", "x@y"), "dave@there.test")
	if w := o.one(); w.Level != mail.Clear || headerOf(t, w.raw).Has("DKIM-Signature") {
		t.Errorf("%s", w.raw)
	}
}
