package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/emersion/go-smtp"

	"postern/internal/testkit"
)

// Mail servers of other organisations, none of which is there at first: one without TLS
// and with little else, one with TLS that MTA-STS wants and that wants mail to come twice,
// and one that takes everything. The operator sees why mail waits, it is delivered when it
// can be, and the sender hears of what cannot.
func TestOtherOrganisations(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ant := w.postern("ant.signed.test", "alice", map[string]string{"queue.retry_first": `"1s"`, "queue.retry_last": `"2s"`})
	plain, secure, sink := "plain.unsigned.test", "secure.unsigned.test", "sink.unsigned.test"
	plainIP, secureIP, sinkIP := w.address(), w.address(), w.address()
	w.publishMX(plain, plainIP)
	w.publishMX(sink, sinkIP)
	host := w.publishMX(secure, secureIP)
	w.publishSTS(secure, secureIP)
	believed := newAuthority(t)
	w.trust(believed)
	cert := believed.issue(host, "mta-sts."+secure)
	var policy atomic.Pointer[string]
	setPolicy := func(host string) { text := enforce(host); policy.Store(&text) }
	setPolicy("mx.elsewhere.test")
	w.web(secureIP, cert, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(rw, *policy.Load())
	}))
	w.begin(ant)
	r := ant.reader()

	// Nobody is there, or who is there is not who it has to be.
	send := func(to, canary string) {
		t.Helper()
		if reply := ant.submit(letterTo(ant.owner, to, canary), to); !strings.Contains(reply, "1 insecure ("+to+")") {
			t.Errorf("mail to %s: %s", to, reply)
		}
	}
	send("bob@"+plain, "canary of nobody there")
	send("bob@"+secure, "canary of the policy")
	send("bob@"+sink, "canary of the sink")
	ant.waitsFor("bob@"+plain, " in a row: mail server mx."+plain+" cannot be reached")
	ant.waitsFor("bob@"+sink, "cannot be reached")
	ant.waitsFor("bob@"+secure, "mail server "+host+" is not one that the domain's MTA-STS policy names")
	greylist := newGreylist(t)
	p := testkit.PostfixOptions{Domain: plain, Address: plainIP + ":25", Main: "smtputf8_enable = no\nmessage_size_limit = 20000" +
		"\nsmtpd_recipient_restrictions = check_recipient_access inline:{{nobody@plain.unsigned.test = 550 5.1.1 there is no such person}}"}.Start(t)
	s := testkit.PostfixOptions{Domain: secure, Address: secureIP + ":25", Main: "smtpd_tls_security_level = encrypt\nsmtpd_tls_received_header = yes\nsmtpd_tls_chain_files = " +
		chainFile(t, cert) + "\nsmtpd_recipient_restrictions = check_policy_service inet:" + greylist.address}.Start(t)
	dump := startSink(t, sinkIP)
	ant.postern("queue", "retry", "--domain", plain)
	ant.gone("bob@" + plain)
	ant.gone("bob@" + sink)
	setPolicy(host)

	// It asks that mail comes again.
	ant.waitsFor("bob@"+secure, host+" says: 450 4.2.0 <bob@"+secure+">: Recipient address rejected: come again")
	greylist.open.Store(true)
	ant.gone("bob@" + secure)
	if n := greylist.asked.Load(); n < 2 {
		t.Errorf("Postfix asked %d times", n)
	}
	wantMarked(t, ant, s.Messages(t, 1), "canary of the policy", "using TLSv1.3")
	wantMarked(t, ant, p.Messages(t, 1), "canary of nobody there", "with ESMTP ")
	wantMarked(t, ant, []string{dump()}, "canary of the sink", "with ESMTP ")
	for domain, tls := range map[string]string{plain: "none", secure: "TLS1.3 mta-sts", sink: "none"} {
		ant.relayed(fmt.Sprintf("delivered clear to %s at mx.%[1]s, %s: 250", domain, tls))
	}

	// One of two is not there.
	both := []string{"nobody@" + plain, "bob@" + plain}
	ant.submit(letterTo(ant.owner, strings.Join(both, ", "), "canary of one of two"), both...)
	l := r.report(both[0], "canary of one of two", "Status: 5.1.1", "there is no such person", "Remote-MTA: dns; mx."+plain, "Check the address")
	if strings.Contains(l.text, "; "+both[1]) {
		t.Errorf("the report is about the other recipient too:\n%s", l.text)
	}
	wantMarked(t, ant, p.Messages(t, 2), "canary of one of two")

	// It is too large, as is known from the size that the server offers to take, in clear and
	// sealed.
	carol := "carol@" + plain
	ant.postern("cert", "pin", carol, certificateFor(t, carol))
	large := "canary of too large\r\n" + strings.Repeat("All work and no play makes mail a large one.\r\n", 1000)
	ant.submit(letterTo(ant.owner, "bob@"+plain, large), "bob@"+plain)
	ant.submit(letterTo(ant.owner, carol, large), carol)
	r.report("bob@"+plain, "canary of too large", "Status: 5.3.4", "The message is too large")
	r.report(carol, "canary of too large", "Status: 5.3.4", "The message is too large")

	// It knows no addresses but ASCII.
	umlaut := "jürgen@" + plain
	ant.send(&smtp.MailOptions{UTF8: true}, nil, letterTo(ant.owner, umlaut, "canary of Jürgen"), umlaut)
	l = r.find("Final-Recipient: utf-8; "+umlaut, "message/global-delivery-status")
	for _, word := range []string{"Action: failed", "Status: 5.6.7", "    550 5.6.7 mail server mx." + plain + " does not take addresses", "takes only addresses in ASCII"} {
		if !strings.Contains(l.text, word) {
			t.Errorf("the report does not say %q:\n%s", word, l.text)
		}
	}
	ant.send(&smtp.MailOptions{UTF8: true}, nil, letterTo(ant.owner, "bob@"+plain, "canary of ASCII"), "bob@"+plain)
	wantMarked(t, ant, p.Messages(t, 3), "canary of ASCII")

	ant.gone("")
	for _, failed := range []string{ // each once: nothing of it was tried again
		"clear to " + plain + " at mx." + plain + ", none: 550 5.1.1", "clear to " + plain + ", none: 552 5.3.4",
		"sealed to " + plain + ", none: 552 5.3.4", "clear to " + plain + ", none: 550 5.6.7",
	} {
		ant.relayed("failed " + failed)
	}
	searchTree(t, canaryNeedles("canary of"), ant.dir, ant.tmp).none(t, "the sender's server")
}

// letterTo is a message.
func letterTo(from, to, text string) string {
	return "From: " + from + "\r\nTo: " + to + "\r\nSubject: a letter\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text + "\r\n"
}

// wantMarked looks for a copy in clear among those that arrived elsewhere.
func wantMarked(t testing.TB, from *member, all []string, canary string, trace ...string) {
	t.Helper()
	i := slices.IndexFunc(all, func(raw string) bool { return strings.Contains(raw, canary) })
	if i < 0 {
		t.Errorf("%q is not in %q", canary, all)
		return
	}
	raw := all[i]
	if marks := fieldsOf(raw, "Postern-Delivery"); len(marks) != 1 || marks[0] != "insecure; reason=no-certificate" {
		t.Errorf("marked %q:\n%s", marks, raw)
	}
	from.signed(t, raw)
	received := fieldsOf(raw, "Received")
	for _, word := range trace {
		if len(received) < 2 || !strings.Contains(received[0], word) {
			t.Errorf("received %q, not %q", received, word)
		}
	}
}

// certificateFor makes a key for somebody elsewhere, and returns the file with its
// certificate.
func certificateFor(t testing.TB, address string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "other")
	postern(t, "key", "new", address, "--out", file+".key.asc")
	return file + ".cert.asc"
}

// greylist is a policy service for Postfix: it defers everybody until it is open.
type greylist struct {
	address string
	open    atomic.Bool
	asked   atomic.Int64
}

func newGreylist(t testing.TB) *greylist {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	g := &greylist{address: l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go g.serve(conn)
		}
	}()
	return g
}

// serve answers requests, which end with an empty line, until Postfix ends.
func (g *greylist) serve(conn net.Conn) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if lines.Text() != "" {
			continue
		}
		g.asked.Add(1)
		action := "450 4.2.0 come again"
		if g.open.Load() {
			action = "dunno"
		}
		_, _ = io.WriteString(conn, "action="+action+"\n\n")
	}
}

// startSink starts smtp-sink at an address, and returns a function that waits for its
// first message.
func startSink(t testing.TB, ip string) (first func() string) {
	t.Helper()
	sink := testkit.Parts(t, "smtp-sink")["smtp-sink"]
	dir, err := os.MkdirTemp("", "sink") // a test's own is closed to nobody's user
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cmd := exec.Command(sink, "-u", "nobody", "-d", filepath.Join(dir, "m."), ip+":25", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it ends by the signal, which is no error here
	})
	return func() (text string) {
		t.Helper()
		eventually(t, "smtp-sink has a message", func() bool {
			files, _ := filepath.Glob(filepath.Join(dir, "m.*"))
			if len(files) == 1 {
				text = string(readFile(t, files[0]))
			}
			return len(files) == 1
		})
		return text
	}
}
