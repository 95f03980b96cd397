package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"postern/internal/testkit"
)

// While another organisation's directory does not answer nobody knows whether there is a
// certificate. Mail to one recipient stays with the sender's program, mail to several is
// held, as ciphertext, and never goes in clear for that; when the directory answers
// again, each gets by itself what can be had.
func TestP3_UnknownIsNotNone(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	a := f.server("a.test", "127.66.5.1", "alice")
	b := f.server("b.test", "127.66.5.2", "bob")
	// A third organisation has a server, and a web server that does not run for now.
	const web = "127.66.5.3"
	f.zone.set("openpgpkey.c.test", web)
	sink := testkit.StartMTA(t, "127.0.0.1:0", &testkit.MTA{})
	a.o.config["delivery.allow_private"] = "true"
	a.o.config["delivery.routes"] = fmt.Sprintf("[%q, %q]", "b.test="+b.mx(), "c.test="+sink.Addr().String())
	a.o.config["queue.retry_first"] = `"1s"`
	a.configure()
	a.restart()
	b.stop()

	const canary = "the-canary-nobody-knows-55d0"
	text := "Subject: " + canary + "\r\nFrom: alice@a.test\r\nTo: bob@b.test, carol@c.test\r\n\r\n" + canary + "\r\n"
	_, err := a.trySubmit(text, "bob@b.test")
	if reply := (*smtp.SMTPError)(nil); !errors.As(err, &reply) || reply.Code != 451 || reply.EnhancedCode != (smtp.EnhancedCode{4, 7, 5}) ||
		!strings.Contains(reply.Message, "bob@b.test") || !strings.Contains(reply.Message, "try again later") {
		t.Errorf("to one recipient: %v", err)
	}
	if list := a.queueList(t); len(list) != 0 {
		t.Errorf("after 451 there is %+v", list)
	}
	reply, err := a.trySubmit(text, "bob@b.test", "carol@c.test")
	if err != nil || !strings.Contains(reply, "2 held") {
		t.Fatalf("to two recipients: %v %s", err, reply)
	}
	held := func() {
		t.Helper()
		list := a.queueList(t)
		if len(list) != 2 {
			t.Fatalf("%d recipients wait", len(list))
		}
		for _, q := range list {
			if q.State != "held" && q.State != "in-hand" || q.Protection != "held" {
				t.Errorf("%+v", q)
			}
		}
	}
	held()
	// It is decided anew again and again, and stays.
	eventually(t, "it was decided anew", func() bool {
		for _, q := range a.queueList(t) {
			if q.Attempts < 2 || q.State == "held" && !strings.Contains(q.Reason, "still not known") {
				return false
			}
		}
		return true
	})
	held()
	searchTree(t, canaryNeedles(canary), a.dir, a.tmp).none(t, "the sender's server while it is held")
	a.kill()
	searchTree(t, canaryNeedles(canary), a.dir, a.tmp).none(t, "the sender's server after kill -9")
	a.start()
	held()

	b.start()
	f.noDirectory(web, "openpgpkey.c.test")
	for _, address := range []string{"bob@b.test", "carol@c.test"} {
		a.later(address) // a minute passes, after which it is asked again
	}
	eventually(t, "what was held is gone by itself", func() bool { return len(a.queueList(t)) == 0 })
	c := b.login()
	defer c.Close()
	var raw []byte
	eventually(t, "bob has it", func() bool {
		for _, m := range fetchAll(t, c, "INBOX") {
			if bytes.Contains(m.raw, []byte("From: alice@a.test")) {
				raw = m.raw
			}
		}
		return raw != nil
	})
	if bytes.Contains(raw, []byte(canary)) || bytes.Contains(raw, []byte("Postern-Delivery")) {
		t.Errorf("bob's copy:\n%s", raw)
	}
	if plain := postern(t, "open", writeFile(t, "bob.eml", raw), "--key", b.secretFile, "--original", "-"); !bytes.Contains(plain, []byte(canary)) {
		t.Errorf("bob opens\n%s", plain)
	}
	if reply, err := a.trySubmit(text, "bob@b.test"); err != nil || !strings.Contains(reply, "1 sealed") {
		t.Errorf("to one recipient when it is known: %v %s", err, reply)
	}
	all := sink.Messages()
	if len(all) != 1 || !strings.Contains(all[0].Content, "\r\nPostern-Delivery: insecure; reason=no-certificate\r\n") || !strings.Contains(all[0].Content, canary) {
		t.Errorf("to carol came %+v", all)
	}

	// Nothing of it is left behind: not in the database's log, and in no file without a name.
	searchTree(t, canaryNeedles(canary), a.dir, a.tmp).none(t, "the sender's server when it has left")
	open, _ := searchOpenFiles(t, a.pid(), canaryNeedles(canary))
	open.none(t, "the sender's server when it has left, in open files")
	a.stop()
	searchTree(t, canaryNeedles(canary), a.dir, a.tmp).none(t, "the sender's server after its end")
	if strings.Contains(a.log.String(), canary) {
		t.Error("it is in the log")
	}
}

// noDirectory starts a web server of that name which has nothing.
func (f *federation) noDirectory(ip, name string) {
	f.t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "443"))
	if err != nil {
		f.t.Fatal(err)
	}
	web := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.NotFoundHandler()}}
	web.TLS = &tls.Config{Certificates: []tls.Certificate{f.issue(name)}}
	web.StartTLS()
	f.t.Cleanup(web.Close)
}

// trySubmit submits a message as the owner, and returns the text of the last reply.
func (m *member) trySubmit(text string, to ...string) (string, error) {
	m.t.Helper()
	s, err := dialSubmission(m.at(465), m.trust(), m.owner, m.password)
	if err != nil {
		m.t.Fatal("submission: ", err)
	}
	defer s.Close()
	return s.submit(text, to...)
}
