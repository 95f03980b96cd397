package e2e

import (
	"bytes"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"postern/internal/testkit"
)

// outpost is a gateway whose mail to others all goes to one server, which keeps what it
// gets. Whoever there has a certificate has a pinned one.
type outpost struct {
	*gateway
	sink *testkit.MTA
}

// newOutpost starts one. What no test has pinned certainly has no certificate.
func newOutpost(t *testing.T, o options) *outpost {
	t.Helper()
	sink := testkit.StartMTA(t, "127.0.0.1:0", &testkit.MTA{
		Offer: []string{"PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"},
	})
	if o.config == nil {
		o.config = map[string]string{}
	}
	o.dns = []string{newZone(t).addr}
	o.config["delivery.allow_private"] = "true"
	o.config["delivery.routes"] = "[" + strconv.Quote("*="+net.JoinHostPort("127.0.0.1", strconv.Itoa(sink.Addr().Port))) + "]"
	return &outpost{gateway: newGateway(t, o), sink: sink}
}

// pin makes a certificate known.
func (o *outpost) pin(t testing.TB, address string, certificate []byte) {
	t.Helper()
	o.postern("cert", "pin", address, writeFile(t, "pinned", certificate))
}

// left waits for the message that left for an address, and was not asked for before.
func (o *outpost) left(t testing.TB, address string, before int) testkit.MTAMessage {
	t.Helper()
	var found []testkit.MTAMessage
	eventually(t, "mail for "+address+" has left", func() bool {
		found = found[:0]
		for _, m := range o.sink.Messages() {
			if slices.ContainsFunc(m.Rcpts, func(r string) bool { return strings.HasPrefix(r, "RCPT TO:<"+address+">") }) {
				found = append(found, m)
			}
		}
		return len(found) > before
	})
	if len(found) > before+1 {
		t.Errorf("%d messages left for %s, not %d", len(found), address, before+1)
	}
	return found[before]
}

// hand submits a message as the owner, on 465, and returns the text of the last reply.
func (o *outpost) hand(t testing.TB, message []byte, to ...string) string {
	t.Helper()
	c, err := smtp.DialTLS(o.at(465), o.tlsConfig())
	if err != nil {
		t.Fatal("submission: ", err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", owner, o.password)); err != nil {
		t.Fatal("AUTH: ", err)
	}
	if err := c.Mail(owner, &smtp.MailOptions{Body: smtp.Body8BitMIME}); err != nil {
		t.Fatal("MAIL: ", err)
	}
	for _, r := range to {
		if err := c.Rcpt(r, nil); err != nil {
			t.Fatal("RCPT: ", err)
		}
	}
	w, err := c.Data()
	if err == nil {
		_, err = w.Write(message)
	}
	if err != nil {
		t.Fatal("DATA: ", err)
	}
	r, err := w.CloseWithResponse()
	if err != nil {
		t.Fatal("DATA: ", err)
	}
	return r.StatusText
}

// leftMarked requires that what left is what was submitted, marked insecure and signed.
func leftMarked(t testing.TB, left string, submitted []byte) {
	t.Helper()
	header, body, _ := cutHeader([]byte(left))
	wantHeader, wantBody, _ := cutHeader(submitted)
	if !bytes.Contains(header, []byte("\r\nPostern-Delivery: insecure; reason=")) {
		t.Errorf("it is not marked:\n%s", header)
	}
	if !bytes.HasPrefix(header, []byte("DKIM-Signature: ")) {
		t.Errorf("it is not signed:\n%s", header)
	}
	same(t, "header section", without(header, "DKIM-Signature", "Received", "Postern-Delivery", "Autocrypt"), without(wantHeader, "Bcc", "Autocrypt"))
	same(t, "body", body, wantBody)
}

// leftSealed requires that what left hides all that was submitted, and that what is in
// it is all of that.
func leftSealed(t testing.TB, left string, payload, submitted []byte) {
	t.Helper()
	outer, _, _ := cutHeader([]byte(left))
	for _, field := range []string{"multipart/encrypted", "\r\nSubject: [...]\r\n"} {
		if !bytes.Contains(outer, []byte(field)) {
			t.Errorf("%q is missing:\n%s", field, outer)
		}
	}
	if !bytes.HasPrefix(outer, []byte("DKIM-Signature: ")) {
		t.Errorf("it is not signed:\n%s", outer)
	}
	header, body, _ := cutHeader(payload)
	wantHeader, wantBody, _ := cutHeader(submitted)
	if !bytes.Contains(header, []byte(protectedHeaders)) {
		t.Errorf("the fields inside do not say that they are the real ones:\n%s", header)
	}
	header = bytes.Replace(without(header, "Autocrypt-Gossip", "Autocrypt"), []byte(protectedHeaders), nil, 1)
	same(t, "header section", header, without(wantHeader, "Bcc", "Autocrypt"))
	same(t, "body", body, wantBody)
}

// protectedHeaders is what makes Thunderbird and Mutt show the subject inside.
const protectedHeaders = `; protected-headers="v1"`

// without takes fields out of a header section.
func without(header []byte, names ...string) (kept []byte) {
	out := false
	for line := range bytes.Lines(header) {
		if line[0] != ' ' && line[0] != '\t' {
			name, _, _ := bytes.Cut(line, []byte(":"))
			out = slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, string(name)) })
		}
		if !out {
			kept = append(kept, line...)
		}
	}
	return kept
}
