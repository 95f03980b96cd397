package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"postern/internal/testkit"
)

// Programs that send mail. What counts is what the owner reads in the end, not what the
// sending program says.
func TestSenders(t *testing.T) {
	t.Parallel()
	parts := testkit.Parts(t, "swaks", "smtp-source", "msmtp", "curl", "python3")
	g := newGateway(t, options{})
	p := g.ownerGnuPG(t)
	// opened waits for n new messages and opens them.
	opened := func(t *testing.T, n int) (raw, originals [][]byte) {
		t.Helper()
		c := g.imap(t)
		defer c.Close()
		all := fetchAll(t, c, "INBOX")
		if len(all) != n {
			t.Fatalf("%d new messages, not %d", len(all), n)
		}
		for _, m := range all {
			raw = append(raw, m.raw)
		}
		emptyMailbox(t, c, "INBOX")
		return raw, p.restored(raw...)
	}
	// A message with what gets lost on the way if anything does.
	want := []byte("From: Bob <bob@example.net>\r\nTo: alice@example.org\r\nSubject: Gr\xc3\xbc\xc3\x9fe\r\n" +
		"Date: Mon, 2 Mar 2026 11:00:00 +0000\r\nMessage-ID: <sent@example.net>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n.\r\n..two dots\r\n.one\r\ntr\xc3\xa4iling space \r\n\r\n\r\nend\r\n")
	file := writeFile(t, "message", bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n")))

	for name, args := range map[string][]string{
		"plain": nil, "pipelined": {"--pipeline"}, "HELO": {"--protocol", "SMTP"},
	} {
		t.Run("swaks "+name, func(t *testing.T) {
			mustTool(t, nil, parts["swaks"], append([]string{"--server", g.mx(), "--from", sender, "--to", owner, "--data", "@" + file}, args...)...)
			raw, originals := opened(t, 1)
			// swaks ends every message with one line more.
			same(t, "message", bytes.TrimRight(originals[0], "\r\n"), bytes.TrimRight(want, "\r\n"))
			wantReceived(t, raw[0], map[string]string{"plain": "ESMTP", "pipelined": "ESMTP", "HELO": "SMTP"}[name])
		})
	}
	t.Run("smtp-source", func(t *testing.T) {
		for _, args := range [][]string{
			{"-s", "10", "-m", "100", "-l", "2000"}, {"-s", "5", "-m", "50", "-d"}, {"-s", "2", "-m", "4", "-l", "1000000"},
		} {
			mustTool(t, nil, parts["smtp-source"], append(args, "-f", sender, "-t", owner, "inet:"+g.mx())...)
		}
		_, originals := opened(t, 154)
		for i, m := range originals {
			if !bytes.HasPrefix(m, []byte("From: <"+sender+">\r\nTo: <"+owner+">\r\n")) || !bytes.HasSuffix(m, []byte("\r\n")) {
				t.Fatalf("message %d: %.200q", i, m)
			}
		}
	})
	t.Run("msmtp", func(t *testing.T) {
		for _, tls := range []string{"on", "off"} {
			mustTool(t, readFile(t, file), parts["msmtp"], "--file=/dev/null", "--host=127.0.0.1", fmt.Sprint("--port=", g.base+25), "--auth=off",
				"--tls="+tls, "--tls-starttls=on", "--tls-trust-file="+g.tlsCert(), "--from="+sender, owner)
		}
		raw, originals := opened(t, 2)
		same(t, "by TLS", originals[0], want)
		same(t, "in clear", originals[1], want)
		wantReceived(t, raw[0], "ESMTPS")
		wantReceived(t, raw[1], "ESMTP")
	})
	t.Run("curl", func(t *testing.T) {
		crlf := writeFile(t, "crlf", want)
		for _, args := range [][]string{{"--ssl-reqd", "--cacert", g.tlsCert()}, nil} {
			mustTool(t, nil, parts["curl"], append([]string{"--silent", "--show-error", "--url", "smtp://" + g.mx() + "/client.example.net",
				"--mail-from", sender, "--mail-rcpt", owner, "--upload-file", crlf}, args...)...)
		}
		raw, originals := opened(t, 2)
		same(t, "by TLS", originals[0], want)
		same(t, "in clear", originals[1], want)
		wantReceived(t, raw[0], "ESMTPS")
	})
	t.Run("Python smtplib", func(t *testing.T) {
		script := `
import smtplib, ssl, sys
port, cert, rcpt = int(sys.argv[1]), sys.argv[2], sys.argv[3]
message = sys.stdin.buffer.read()
s = smtplib.SMTP("127.0.0.1", port, local_hostname="client.example.net")
s.starttls(context=ssl.create_default_context(cafile=cert))
s.ehlo()
assert s.has_extn("smtputf8") and s.has_extn("8bitmime") and s.has_extn("size") and not s.has_extn("starttls"), s.esmtp_features
s.sendmail("bob@example.net", [rcpt, "alice+list@example.org"], message, mail_options=["BODY=8BITMIME"])
try:
    s.sendmail("bob@example.net", ["nobody@example.org"], message)
    sys.exit("an unknown recipient was accepted")
except smtplib.SMTPRecipientsRefused as e:
    assert e.recipients["nobody@example.org"][0] == 550, e
try:
    s.sendmail("bob@example.net", ["someone@elsewhere.example"], message)
    sys.exit("a relay")
except smtplib.SMTPRecipientsRefused as e:
    assert e.recipients["someone@elsewhere.example"][0] == 550, e
s.sendmail("bob@example.net", ["postmaster@example.org"], message)
s.sendmail("", [rcpt], message)
s.quit()
`
		mustTool(t, want, parts["python3"], "-c", script, fmt.Sprint(g.base+25), g.tlsCert(), owner)
		// One for alice and alice+list together, one for postmaster, one bounce.
		raw, originals := opened(t, 3)
		for i, m := range originals {
			same(t, fmt.Sprint("message ", i), m, want)
		}
		if !bytes.HasPrefix(raw[2], []byte("Return-Path: <>\r\n")) {
			t.Errorf("a null reverse-path: %.100q", raw[2])
		}
	})
}

// wantReceived looks at the trace that the message got, RFC 5321 4.4 and RFC 3848.
func wantReceived(t *testing.T, raw []byte, with string) {
	t.Helper()
	_, rest, _ := bytes.Cut(raw, []byte("\r\nReceived: "))
	end := bytes.Index(rest, []byte("\r\nAuthentication-Results:"))
	if end < 0 {
		t.Fatalf("no trace fields: %.500q", raw)
	}
	received := strings.Join(strings.Fields(string(rest[:end])), " ")
	if !strings.Contains(received, " with "+with+" ") || !strings.Contains(received, "by "+hostname) {
		t.Errorf("Received: %s; not with %s", received, with)
	}
}
