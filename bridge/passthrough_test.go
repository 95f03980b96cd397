package bridge

import (
	"bytes"
	"strings"
	"testing"

	"postern/internal/mail"
	"postern/internal/pgp"
)

// armored encrypts a text to addresses, whose keys there must be, as their owner's
// software would.
func (o *outbound) armored(t testing.TB, text string, to ...string) string {
	t.Helper()
	var certs []*pgp.Certificate
	for _, a := range to {
		certs = append(certs, o.keys[a].Certificate())
	}
	s, err := pgp.NewSealingFor(pgp.Communication, certs, int64(len(text)), o.now)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := s.EncryptTo(&b, certs, o.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// encrypted is a message that alice's own software encrypted.
func (o *outbound) encrypted(t testing.TB, to ...string) string {
	t.Helper()
	return wrapped(o.armored(t, "Content-Type: text/plain\r\n\r\nthe canary sings\r\n", to...))
}

func wrapped(armor string) string {
	return "From: Alice <alice@here.test>\r\nTo: \"hidden-recipients\": ;\r\nSubject: [...]\r\nMessage-ID: <1@here.test>\r\n" +
		"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n" + wrappedBody(armor)
}

func wrappedBody(armor string) string {
	return "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n boundary=\"z\"\r\n\r\n" +
		"--z\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n" +
		"--z\r\nContent-Type: application/octet-stream; name=\"encrypted.asc\"\r\n\r\n" + armor + "\r\n--z--\r\n"
}

// TestP6PassThrough: what the sender's software encrypted leaves octet for octet, with
// nothing but our Received on top.
func TestP6PassThrough(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.correspondent("bob@there.test")
	o.account("carol@here.test", true)
	data := o.encrypted(t, "bob@there.test", "carol@here.test", "alice@here.test")
	receipt := o.mustSubmit(data, "bob@there.test", "carol@here.test")
	for _, outcome := range receipt.Outcomes {
		if outcome.Level != mail.EndToEnd {
			t.Errorf("%+v", outcome)
		}
	}
	w := o.one()
	rest, ok := strings.CutSuffix(string(w.raw), data)
	if !ok || strings.Count(rest, "\r\nReceived:") != 0 || !strings.HasPrefix(rest, "Received: by mail.here.test") || strings.Contains(rest, "Autocrypt") {
		t.Errorf("%s", w.raw)
	}
	if w.Level != mail.EndToEnd || w.Locked || w.Body != "7BIT" {
		t.Errorf("%+v", w.Outgoing)
	}
	if m := o.stored("carol@here.test", "INBOX")[0]; !strings.HasSuffix(string(m.raw), data) {
		t.Errorf("%s", m.raw)
	}
}

// TestPassThroughAnonymous: SKESK, anonymous recipients, an empty To group: all of what
// Delta Chat sends passes, whoever it is for, and under every policy that does not refuse.
func TestPassThroughAnonymous(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, withPolicy(t, "[[rule]]\nname = \"plain\"\nwhen = \"true\"\nfloor = \"clear\"\nceiling = \"clear\"\n"))
	o.correspondent("bob@there.test")
	pkesk := append([]byte{0xC1, 60, 3}, make([]byte, 59)...)
	pkesk[11] = 18
	seipd := append([]byte{0xD2, 0xC0, 64, 1}, bytes.Repeat([]byte{7}, 255)...)
	var message bytes.Buffer
	found, err := pgp.Inspect(bytes.NewReader(append(pkesk, seipd...)))
	if err != nil || !found.Encrypted || found.Anonymous != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	if err := pgp.Reframe(&message, bytes.NewReader(append(pkesk, seipd...)), found); err != nil {
		t.Fatal(err)
	}
	data := wrapped(message.String())
	o.mustSubmit(data, "bob@there.test", "dave@there.test")
	if w := o.one(); w.Level != mail.EndToEnd || !strings.HasSuffix(string(w.raw), data) || len(w.to) != 2 {
		t.Errorf("%v for %s", w.Level, w.addresses())
	}
}

// TestPassThroughReframed: what a strict receiver would refuse is reframed; everything
// around it stays, and it opens to the same.
func TestPassThroughReframed(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	o.correspondent("bob@there.test")
	armor := strings.Replace(o.armored(t, "the canary sings", "bob@there.test"), "\r\n\r\n", "\r\nComment: made by a machine\r\n\r\n", 1)
	data := wrapped(armor)
	o.mustSubmit(data, "bob@there.test")
	w := o.one()
	want := strings.Replace(data, "\r\nComment: made by a machine", "", 1)
	if !strings.HasSuffix(string(w.raw), want) {
		t.Errorf("%s", w.raw)
	}
	if found := recipientsOf(t, w.raw); !found.Strict {
		t.Errorf("%+v", found)
	}
	if got := o.decrypt("bob@there.test", w.raw); got != "the canary sings" {
		t.Errorf("%q", got)
	}
	// Lines of another length are as good.
	o = newOutbound(t)
	o.correspondent("bob@there.test")
	lines := strings.Split(o.armored(t, "the canary sings", "bob@there.test"), "\r\n")
	lines[2], lines[3] = lines[2][:60], lines[2][60:]+lines[3]
	data = wrapped(strings.Join(lines, "\r\n"))
	o.mustSubmit(data, "bob@there.test")
	if w := o.one(); !strings.HasSuffix(string(w.raw), data) {
		t.Errorf("%s", w.raw)
	}
	// In a transfer encoding it is left alone.
	o = newOutbound(t)
	o.correspondent("bob@there.test")
	qp := strings.Replace(wrapped(strings.ReplaceAll(strings.Replace(o.armored(t, "x", "bob@there.test"), "\r\n\r\n", "\r\nComment: y\r\n\r\n", 1), "=", "=3D")),
		"octet-stream;", "octet-stream;\r\n x=y;", 1)
	qp = strings.Replace(qp, "name=\"encrypted.asc\"\r\n", "name=\"encrypted.asc\"\r\nContent-Transfer-Encoding: quoted-printable\r\n", 1)
	o.mustSubmit(qp, "bob@there.test")
	if w := o.one(); !strings.HasSuffix(string(w.raw), qp) {
		t.Errorf("%s", w.raw)
	}
}

// TestP5ResentIsNotEndToEnd: what a gateway sealed does not become end-to-end by being sent
// once more as it is, neither in words nor for a rule.
func TestP5ResentIsNotEndToEnd(t *testing.T) {
	t.Parallel()
	o := newOutbound(t, withPolicy(t, "[[rule]]\nname = \"e2e\"\nwhen = 'recipient startsWith \"strict\"'\nfloor = \"end-to-end\"\n"))
	o.correspondent("bob@there.test")
	o.correspondent("strict@there.test")
	o.mustSubmit(letter("", "bob@there.test"), "bob@there.test")
	_, sealed, _ := bytes.Cut(o.one().raw, []byte("\r\nAutocrypt:"))
	again := "X-First: line\r\nAutocrypt:" + string(sealed)
	if _, err := o.submit(again, "strict@there.test"); codeOf(err) != 550 {
		t.Errorf("for a rule that wants end-to-end: %v", err)
	}
	receipt := o.mustSubmit(again, "bob@there.test", "dave@there.test")
	if receipt.Outcomes[0].Level != mail.Sealed || receipt.Outcomes[1].Level != mail.Clear {
		t.Errorf("%+v", receipt.Outcomes)
	}
	for _, w := range o.queued() {
		if w.Level == mail.EndToEnd {
			t.Errorf("%s waits as end-to-end", w.addresses())
		}
	}
}

// TestMisaddressed: a message that was encrypted to others, for certain, is refused and
// names who could not read it.
func TestMisaddressed(t *testing.T) {
	t.Parallel()
	o := newOutbound(t)
	for _, a := range []string{"bob@there.test", "carol@there.test", "known@there.test"} {
		o.correspondent(a)
	}
	stranger, err := pgp.GenerateKey("x@y.test", o.now)
	if err != nil {
		t.Fatal(err)
	}
	o.keys["stranger"] = stranger
	for name, test := range map[string]struct {
		encryptedTo, to []string
		code            int
	}{
		"to all":                           {[]string{"bob@there.test", "carol@there.test", "alice@here.test"}, []string{"bob@there.test", "carol@there.test"}, 0},
		"not to one":                       {[]string{"bob@there.test", "alice@here.test"}, []string{"bob@there.test", "carol@there.test"}, 550},
		"only to oneself":                  {[]string{"alice@here.test"}, []string{"carol@there.test"}, 550},
		"one key is nobody's that we know": {[]string{"bob@there.test", "stranger"}, []string{"bob@there.test", "carol@there.test"}, 0},
		"a recipient without certificate":  {[]string{"bob@there.test", "alice@here.test"}, []string{"bob@there.test", "nocert@there.test"}, 0},
		"and one of whom it is certain":    {[]string{"bob@there.test"}, []string{"bob@there.test", "carol@there.test", "nocert@there.test"}, 550},
	} {
		_, err := o.submit(o.encrypted(t, test.encryptedTo...), test.to...)
		if codeOf(err) != test.code || test.code != 0 && (!strings.Contains(err.Error(), "carol@there.test") || strings.Contains(err.Error(), "bob@")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
