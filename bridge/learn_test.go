package bridge

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/msgauth"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/keydir"
)

// zone is a resolver that knows TXT records.
type zone struct {
	noDNS
	txt map[string]string
}

func (z zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	if v, ok := z.txt[strings.TrimSuffix(name, ".")]; ok {
		return []string{v}, nil
	}
	return nil, notFound(name)
}

// signingKey signs in the name of there.test.
var signingKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

// learning makes there.test a domain with SPF (the host of source), DKIM and DMARC, and
// lets learn hear what is learned.
func learning(learn func(keydir.Sighting)) func(*Options) {
	public := base64.StdEncoding.EncodeToString(signingKey.Public().(ed25519.PublicKey))
	return func(o *Options) {
		o.Learn = learn
		o.Verifier = msgauth.NewVerifier(msgauth.Options{Resolver: zone{txt: map[string]string{
			"there.test":              "v=spf1 ip4:192.0.2.7 -all",
			"_dmarc.there.test":       "v=DMARC1; p=reject",
			"s._domainkey.there.test": "v=DKIM1; k=ed25519; p=" + public,
			"list.test":               "v=spf1 ip4:192.0.2.8 -all",
		}}})
	}
}

// forwarder is a host that has nothing to do with the author's domain.
func forwarder() mail.Source {
	s := source()
	s.From, s.RemoteIP = mail.Address{Local: "bounces", Domain: "list.test"}, netip.MustParseAddr("192.0.2.8")
	return s
}

// signed signs a message in the name of there.test; the signature covers fields.
func signed(t *testing.T, msg string, fields ...string) string {
	t.Helper()
	var out bytes.Buffer
	err := dkim.Sign(&out, strings.NewReader(msg), &dkim.SignOptions{
		Domain: "there.test", Selector: "s", Signer: signingKey, HeaderKeys: append([]string{"From"}, fields...),
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// autocrypt is an Autocrypt field.
func autocrypt(addr string, keydata []byte) string {
	return "Autocrypt: addr=" + addr + "; prefer-encrypt=mutual; keydata=\r\n " + base64.StdEncoding.EncodeToString(keydata) + "\r\n"
}

func bobsKey(t *testing.T) *pgp.Certificate {
	t.Helper()
	k, err := pgp.GenerateKey("bob@there.test", time.Now().Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return k.Certificate()
}

// TestLearn: what of a message is passed on, and of which messages nothing is.
func TestLearn(t *testing.T) {
	key := []byte("\x98 bob's certificate")
	field := autocrypt("bob@there.test", key)
	huge := "Autocrypt: addr=bob@there.test; keydata=" + strings.Repeat("QUJD", 2600) + "\r\n"
	taught := &keydir.Sighting{KeyData: key, Mutual: true}
	nothingSaid := &keydir.Sighting{}
	all := []string{"Date", "Autocrypt", "To", "Subject"}
	for name, test := range map[string]struct {
		src  mail.Source
		msg  string
		want *keydir.Sighting // nil: nothing is learned; From and the times are checked in any case
	}{
		"aligned by SPF":                      {source(), field + plainMail, taught},
		"no field":                            {source(), plainMail, nothingSaid},
		"addr in another case":                {source(), autocrypt("Bob@THERE.test", key) + plainMail, taught},
		"addr is not From":                    {source(), autocrypt("eve@there.test", key) + plainMail, nothingSaid},
		"another's field beside the author's": {source(), autocrypt("eve@there.test", key) + field + plainMail, taught},
		"a field for later versions beside":   {source(), field + "Autocrypt: addr=bob@there.test; v=2; keydata=QUJD\r\n" + plainMail, taught},
		"two valid fields":                    {source(), field + autocrypt("bob@there.test", []byte("another")) + plainMail, nothingSaid},
		"the same field twice":                {source(), field + field + plainMail, nothingSaid},
		"over 10 KiB":                         {source(), huge + plainMail, nothingSaid},
		"over 10 KiB beside a valid one":      {source(), huge + field + plainMail, taught},
		"gossip in clear":                     {source(), strings.Replace(field, "Autocrypt:", "Autocrypt-Gossip:", 1) + plainMail, nothingSaid},
		"report":                              {source(), field + "Content-Type: multipart/report; boundary=x\r\n" + plainMail, nil},
		"automatic reply":                     {source(), field + "Auto-Submitted: auto-replied\r\n" + plainMail, nil},
		"two authors":                         {source(), field + strings.Replace(plainMail, "From: Bob <bob@there.test>", "From: bob@there.test, eve@there.test", 1), nil},
		"two From fields":                     {source(), field + "From: eve@there.test\r\n" + plainMail, nil},
		"author that cannot be read":          {source(), field + strings.Replace(plainMail, "From: Bob <bob@there.test>", "From: bob", 1), nil},
		"not aligned: another server":         {forwarder(), field + plainMail, nil},
		"not aligned: forged author": {source(), autocrypt("ceo@bank.test", key) +
			strings.Replace(plainMail, "bob@there.test", "ceo@bank.test", 1), nil},
		"forwarded, signature covers all":        {forwarder(), signed(t, field+plainMail, all...), taught},
		"forwarded, no field":                    {forwarder(), signed(t, plainMail, all...), nothingSaid},
		"forwarded, field not covered":           {forwarder(), signed(t, field+plainMail, "Date"), nil},
		"forwarded, field added to a signed one": {forwarder(), field + signed(t, plainMail, "Date"), nil},
		"forwarded, oversigned, field added":     {forwarder(), field + signed(t, plainMail, all...), nil},
		"forwarded, second field added on top": {forwarder(), autocrypt("bob@there.test", []byte("eve's")) +
			signed(t, field+plainMail, all...), nil},
		"forwarded, second field added below": {forwarder(), strings.Replace(signed(t, field+plainMail, all...), "From: Bob",
			autocrypt("bob@there.test", []byte("eve's"))+"From: Bob", 1), nil},
		"forwarded, date not covered":                   {forwarder(), signed(t, field+plainMail, "Autocrypt"), nil},
		"forwarded, no date":                            {forwarder(), signed(t, strings.Replace(field+plainMail, "Date:", "X-Date:", 1), all...), nil},
		"forwarded, body changed":                       {forwarder(), signed(t, field+plainMail, all...) + "more\r\n", nil},
		"delivered, field not covered by the signature": {source(), signed(t, field+plainMail, "Date"), taught},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var heard []keydir.Sighting
			f := newFixture(t, learning(func(s keydir.Sighting) { heard = append(heard, s) }))
			f.account("alice@here.test", true)
			if _, err := f.send(test.src, test.msg, "alice@here.test"); err != nil {
				t.Fatal(err)
			}
			if test.want == nil {
				if len(heard) != 0 {
					t.Errorf("learned %+v", heard)
				}
				return
			}
			if len(heard) != 1 {
				t.Fatalf("learned %+v", heard)
			}
			s := heard[0]
			if s.From.Key() != "bob@there.test" || !s.Received.Equal(test.src.Time) || !s.Date.Equal(time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)) {
				t.Errorf("%+v", s)
			}
			if !bytes.Equal(s.KeyData, test.want.KeyData) || s.Mutual != test.want.Mutual {
				t.Errorf("%q %v, want %q %v", s.KeyData, s.Mutual, test.want.KeyData, test.want.Mutual)
			}
		})
	}
}

// TestLearnFromEncrypted: mail that is ciphertext already teaches by its outer fields.
func TestLearnFromEncrypted(t *testing.T) {
	var heard []keydir.Sighting
	f := newFixture(t, learning(func(s keydir.Sighting) { heard = append(heard, s) }))
	f.account("alice@here.test", true)
	f.mustSend(plainMail, "alice@here.test")
	sealed := string(f.stored("alice@here.test", "INBOX")[0].raw)
	f.mustSend(autocrypt("bob@there.test", []byte("x"))+sealed[strings.Index(sealed, "From:"):], "alice@here.test")
	if all := f.stored("alice@here.test", "INBOX"); all[1].Class != store.ClassEncrypted {
		t.Errorf("class %s", all[1].Class)
	}
	if len(heard) != 2 || string(heard[1].KeyData) != "x" {
		t.Errorf("learned %+v", heard)
	}
}

// TestLearnDates: no date that is certain is no date.
func TestLearnDates(t *testing.T) {
	for name, date := range map[string]string{
		"none": "", "rubbish": "Date: yesterday\r\n",
		"two": "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nDate: Mon, 23 Nov 2026 11:00:00 +0000\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var heard []keydir.Sighting
			f := newFixture(t, learning(func(s keydir.Sighting) { heard = append(heard, s) }))
			f.account("alice@here.test", true)
			f.mustSend(date+"From: bob@there.test\r\n"+autocrypt("bob@there.test", []byte("x"))+"\r\ntext\r\n", "alice@here.test")
			if len(heard) != 1 || !heard[0].Date.IsZero() || heard[0].Received.IsZero() {
				t.Errorf("%+v", heard)
			}
		})
	}
}

// TestLearnOnlyFromMail: what is refused teaches nothing, nor what an account's owner
// uploads.
func TestLearnOnlyFromMail(t *testing.T) {
	var heard []keydir.Sighting
	f := newFixture(t, learning(func(s keydir.Sighting) { heard = append(heard, s) }), func(o *Options) { o.MaxSize = 64 << 10 })
	f.account("alice@here.test", true)
	msg := autocrypt("bob@there.test", []byte("x")) + plainMail
	if _, err := f.send(source(), strings.Repeat("Received: x\r\n", maxReceived+1)+msg, "alice@here.test"); err == nil {
		t.Error("a loop was accepted")
	}
	for _, kind := range []mail.Kind{mail.KindAppend, mail.KindImport, mail.KindNotice} {
		src := source()
		src.Kind = kind
		if _, err := f.send(src, msg, "alice@here.test"); err != nil {
			t.Fatal(err)
		}
	}
	if len(heard) != 0 {
		t.Errorf("learned %+v", heard)
	}
}

// failingPeers is a store of peers that is down.
type failingPeers struct{}

func (failingPeers) Peer(context.Context, string) (store.Peer, error) {
	return store.Peer{}, errors.New("down")
}
func (failingPeers) SavePeers(context.Context, []store.Peer) error { return errors.New("down") }

// TestLearnFails: mail is delivered and sealed as ever while nothing can be learned,
// and while nobody takes what is to be learned.
func TestLearnFails(t *testing.T) {
	for name, running := range map[string]bool{"store down": true, "nobody listens": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			peers := keydir.NewAutocrypt(keydir.AutocryptOptions{Store: failingPeers{}})
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if running {
					peers.Run(ctx)
				}
			}()
			f := newFixture(t, learning(peers.Learn))
			f.account("alice@here.test", true)
			const n = 300 // more than may wait
			msg := autocrypt("bob@there.test", bobsKey(t).Data()) + plainMail
			for range n {
				f.mustSend(msg, "alice@here.test")
			}
			all := f.stored("alice@here.test", "INBOX")
			if len(all) != n || slices.ContainsFunc(all, func(s stored) bool { return s.Class != store.ClassSealed }) {
				t.Errorf("%d of %d messages, or not sealed", len(all), n)
			}
			cancel()
			<-ended
		})
	}
}

// TestLearnToLookup is the whole way: a message comes in, and mail to its author can be
// encrypted.
func TestLearnToLookup(t *testing.T) {
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "keys.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var d *keydir.Directory
	peers := keydir.NewAutocrypt(keydir.AutocryptOptions{Store: s, Changed: func(ctx context.Context, a mail.Address) error {
		return d.Expire(ctx, a, keydir.Observed)
	}})
	d = keydir.New(keydir.Options{Store: s, Sources: []keydir.Source{peers}})
	f := newFixture(t, learning(peers.Learn))
	f.account("alice@here.test", true)
	bob, c := parse(t, "bob@there.test"), bobsKey(t)
	if a := d.Lookup(t.Context(), bob); a.Kind != mail.None {
		t.Fatalf("before: %v", a.Kind)
	}
	eves := autocrypt("bob@there.test", bobsKey(t).Data())
	if _, err := f.send(forwarder(), eves+plainMail, "alice@here.test"); err != nil {
		t.Fatal(err)
	}
	f.mustSend(autocrypt("bob@there.test", c.Data())+plainMail, "alice@here.test")
	if _, err := f.send(forwarder(), eves+plainMail, "alice@here.test"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	peers.Run(ctx) // learns what waits
	a := d.Lookup(t.Context(), bob)
	if a.Kind != mail.Found || a.Fingerprint != c.Fingerprint() || a.Source != "autocrypt" || a.Trust != keydir.Observed {
		t.Errorf("%v from %q: %s", a.Kind, a.Source, a.Reason)
	}
}

// TestVouched is for results that the verifier does not give, or not for a message that
// is easily made.
func TestVouched(t *testing.T) {
	covering := "From: bob@there.test\r\nDate: x\r\nAutocrypt: y\r\nDKIM-Signature: v=1; d=there.test;\r\n h = From : date :\r\n\tAUTOCRYPT ; b=\r\n\r\n"
	pass := msgauth.DKIMResult{Result: msgauth.Pass, Aligned: true}
	for name, test := range map[string]struct {
		header  string
		verdict msgauth.Results
		want    bool
	}{
		"nothing":           {covering, msgauth.Results{}, false},
		"by SPF":            {covering, msgauth.Results{Aligned: true, Published: msgauth.DMARCPolicy{SPFAligned: true}}, true},
		"not aligned":       {covering, msgauth.Results{Published: msgauth.DMARCPolicy{SPFAligned: true}}, false},
		"by DKIM":           {covering, msgauth.Results{Aligned: true, Signatures: 1, DKIM: []msgauth.DKIMResult{pass}}, true},
		"signature failed":  {covering, msgauth.Results{Aligned: true, Signatures: 1, DKIM: []msgauth.DKIMResult{{Result: msgauth.Fail, Aligned: true}}}, false},
		"another domain's":  {covering, msgauth.Results{Aligned: true, Signatures: 1, DKIM: []msgauth.DKIMResult{{Result: msgauth.Pass}}}, false},
		"counted otherwise": {covering, msgauth.Results{Aligned: true, Signatures: 2, DKIM: []msgauth.DKIMResult{pass}}, false},
		"the second is not covering": {"DKIM-Signature: h=from:date:autocrypt\r\nDKIM-Signature: h=from:date\r\n" + covering[:strings.Index(covering, "DKIM")] + "\r\n",
			msgauth.Results{Aligned: true, Signatures: 2, DKIM: []msgauth.DKIMResult{{Result: msgauth.Fail, Aligned: true}, pass}}, false},
		"no h=": {strings.Replace(covering, " h = ", " x = ", 1), msgauth.Results{Aligned: true, Signatures: 1, DKIM: []msgauth.DKIMResult{pass}}, false},
	} {
		h, _, err := message.ParseHeader([]byte(test.header))
		if err != nil {
			t.Fatal(err)
		}
		if got := vouched(&arrival{header: h, verdict: test.verdict}); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
