package e2e

import (
	"bytes"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// What a person submits reaches another organisation's server: sealed to whoever has a
// certificate there, and marked insecure to whoever has none. No clear text of it lies on
// the sender's server (P2), and the sender is told who got what.
func TestOutboundBetweenTwoServers(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	a := f.server("a.test", "127.66.3.1", "alice")
	b := f.server("b.test", "127.66.3.2", "bob")
	b.postern("account", "add", "carol@b.test")
	a.o.config["delivery.allow_private"] = "true"
	a.o.config["delivery.routes"] = "[" + strconv.Quote("*="+b.mx()) + "]"
	a.configure()
	a.restart()

	const canary = "the-canary-leaves-7f3a"
	reply := a.submit("Subject: a secret subject\r\nFrom: alice@a.test\r\nTo: bob@b.test, carol@b.test\r\n\r\n"+canary+"\r\n",
		"bob@b.test", "carol@b.test")
	if !strings.Contains(reply, "1 sealed") || !strings.Contains(reply, "1 insecure (carol@b.test)") {
		t.Errorf("the sender is told %q", reply)
	}

	c := b.login()
	defer c.Close()
	var raw []byte
	eventually(t, "bob has mail", func() bool {
		all := fetchAll(t, c, "INBOX")
		if len(all) == 1 {
			raw = all[0].raw
		}
		return len(all) == 1
	})
	if bytes.Contains(raw, []byte(canary)) || bytes.Contains(raw, []byte("a secret subject")) {
		t.Errorf("it came in clear:\n%s", raw)
	}
	for _, field := range []string{"multipart/encrypted", "\r\nDKIM-Signature: ", "\r\nSubject: [...]\r\n"} {
		if !bytes.Contains(raw, []byte(field)) {
			t.Errorf("%q is missing:\n%s", field, raw)
		}
	}
	text := postern(t, "open", writeFile(t, "sealed.eml", raw), "--key", b.secretFile, "--original", "-")
	if !bytes.Contains(text, []byte(canary)) || !bytes.Contains(text, []byte("Subject: a secret subject")) {
		t.Errorf("bob opens\n%s", text)
	}

	eventually(t, "the queue is empty", func() bool {
		return !bytes.Contains(a.postern("queue", "list", "--json"), []byte("b.test"))
	})
	// What was decided and done is told afterwards, by the id of the reply (P7).
	_, id, _ := strings.Cut(reply, "queued as ")
	id, _, _ = strings.Cut(id, ":")
	story := string(a.postern("explain", "--message", id))
	for _, part := range []string{"send   sealed for bob@b.test by rule \"opportunistic\"; certificate ", "send   clear for carol@b.test by rule \"opportunistic\"; ", "relay  "} {
		if !strings.Contains(story, part) {
			t.Errorf("%q is not in\n%s", part, story)
		}
	}
	searchTree(t, canaryNeedles(canary), a.dir, a.tmp).none(t, "the sender's server")
	a.stop()
	searchTree(t, canaryNeedles(canary), a.dir, a.tmp).none(t, "the sender's server after its end")
}

// A next hop that is not there loses nothing: what is clear waits encrypted (P2), and is
// there after kill -9 (P4).
func TestP4OutboundSurvivesKill(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	a := f.server("a.test", "127.66.4.1", "alice")
	b := f.server("b.test", "127.66.4.2", "bob")
	b.postern("account", "add", "carol@b.test")
	a.o.config["delivery.allow_private"] = "true"
	a.o.config["delivery.routes"] = `["*=127.0.0.1:1"]` // nobody is there
	a.configure()
	a.restart()

	const canary = "the-canary-waits-91c2"
	a.submit("Subject: waiting\r\nFrom: alice@a.test\r\nTo: carol@b.test\r\n\r\n"+canary+"\r\n", "carol@b.test")
	a.kill()
	searchTree(t, canaryNeedles(canary), a.dir, a.tmp).none(t, "the sender's server")

	a.o.config["delivery.routes"] = "[" + strconv.Quote("*="+b.mx()) + "]"
	a.configure()
	a.start()
	a.postern("queue", "retry", "--all")
	eventually(t, "the queue is empty", func() bool {
		return !bytes.Contains(a.postern("queue", "list", "--json"), []byte("b.test"))
	})
	b.newKey("carol@b.test") // what was held for her is sealed to it
	n := 0
	eventually(t, "carol has the mail", func() bool {
		n++
		out := b.postern("export", "carol@b.test", filepath.Join(t.TempDir(), strconv.Itoa(n)))
		return bytes.Contains(out, []byte("Exported 1 messages")) || bytes.Contains(out, []byte("Exported 2 messages"))
	})
}

// submit sends a message as the owner, and returns the text of the last reply.
func (m *member) submit(text string, to ...string) string {
	m.t.Helper()
	return m.send(nil, nil, text, to...)
}

// send is submit with parameters of MAIL and of each RCPT.
func (m *member) send(options *smtp.MailOptions, each *smtp.RcptOptions, text string, to ...string) string {
	m.t.Helper()
	c, err := smtp.DialStartTLS(m.at(587), m.trust())
	if err != nil {
		m.t.Fatal("submission: ", err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", m.owner, m.password)); err != nil {
		m.t.Fatal("AUTH: ", err)
	}
	if err := c.Mail(m.owner, options); err != nil {
		m.t.Fatal("MAIL: ", err)
	}
	for _, r := range to {
		if err := c.Rcpt(r, each); err != nil {
			m.t.Fatal("RCPT: ", err)
		}
	}
	w, err := c.Data()
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err != nil {
		m.t.Fatal("DATA: ", err)
	}
	r, err := w.CloseWithResponse()
	if err != nil {
		m.t.Fatal("DATA: ", err)
	}
	return r.StatusText
}
