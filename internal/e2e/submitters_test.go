package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"postern/internal/testkit"
)

// Programs that submit by every way in: what leaves is what they sent, sealed to who has
// a certificate and marked for who has none, and they are told which.
func TestSubmitters(t *testing.T) {
	t.Parallel()
	parts := testkit.Parts(t, "swaks", "msmtp", "curl")
	o := newOutpost(t, options{})
	device := newGnuPG(t)
	o.pin(t, "carol@example.net", device.makeKey("carol@example.net", "future-default", "default", "never"))
	message := []byte("From: Alice <alice@example.org>\r\nTo: carol@example.net, dave@example.net\r\nBcc: alice@example.org\r\n" +
		"Subject: Gr\xc3\xbc\xc3\x9fe\r\nDate: Mon, 2 Mar 2026 11:00:00 +0000\r\nMessage-ID: <sent@example.org>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n.\r\n..two dots\r\ntr\xc3\xa4iling space \r\n\r\n\r\nend\r\n")
	lf := bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n"))
	to := []string{"carol@example.net", "dave@example.net"}
	at := func(port int) string { return fmt.Sprint(o.base + port) }
	password := writeFile(t, "password", []byte(o.password+"\n"))

	swaks := func(port int, mech string, more ...string) func(t *testing.T) string {
		return func(t *testing.T) string {
			return string(mustTool(t, nil, parts["swaks"], append([]string{"--server", o.at(port), "--auth", mech, "--auth-user", owner,
				"--auth-password", o.password, "--from", owner, "--to", strings.Join(to, ","), "--data", "@" + writeFile(t, "message", bytes.TrimSuffix(message, []byte("\r\n")))}, more...)...))
		}
	}
	msmtp := func(port int, mech, start string) func(t *testing.T) string {
		return func(t *testing.T) string {
			return string(mustTool(t, lf, parts["msmtp"], append([]string{"--file=/dev/null", "--host=127.0.0.1", "--port=" + at(port), "--auth=" + mech,
				"--user=" + owner, "--passwordeval=cat " + password, "--tls=on", "--tls-starttls=" + start, "--tls-trust-file=" + o.tlsCert(),
				"--from=" + owner, "--remove-bcc-headers=off", "--debug"}, to...)...))
		}
	}
	curl := func(url string, more ...string) func(t *testing.T) string {
		return func(t *testing.T) string {
			_, said, err := tool(t, nil, parts["curl"], append([]string{"--silent", "--verbose", "--cacert", o.tlsCert(), "--url", url,
				"--user", owner + ":" + o.password, "--mail-from", owner, "--mail-rcpt", to[0], "--mail-rcpt", to[1], "--upload-file", writeFile(t, "message", message)}, more...)...)
			if err != nil {
				t.Fatalf("curl: %v\n%s", err, said)
			}
			return string(said)
		}
	}
	n := 0
	for _, client := range []struct {
		name string
		send func(t *testing.T) (transcript string)
	}{
		{"swaks PLAIN by STARTTLS", swaks(587, "PLAIN", "--tls")},
		{"swaks LOGIN by TLS", swaks(465, "LOGIN", "--tls-on-connect")},
		{"msmtp SCRAM by STARTTLS", msmtp(587, "scram-sha-256", "on")},
		{"msmtp PLAIN by TLS", msmtp(465, "plain", "off")},
		{"msmtp LOGIN by TLS", msmtp(465, "login", "off")},
		{"curl by TLS", curl("smtps://" + o.at(465) + "/%5B127.0.0.1%5D")},
		{"curl LOGIN by STARTTLS", curl("smtp://"+o.at(587)+"/client.example.org", "--ssl-reqd", "--login-options", "AUTH=LOGIN")},
	} {
		t.Run(client.name, func(t *testing.T) {
			said := client.send(t)
			if !strings.Contains(said, ": 1 sealed, 1 insecure (dave@example.net)") {
				t.Errorf("it is told\n%s", said)
			}
			m := o.left(t, to[0], n)
			leftSealed(t, m.Content, device.open([]byte(m.Content))[0], message)
			leftMarked(t, o.left(t, to[1], n).Content, message)
			n++
		})
	}
	t.Run("swaks with a wrong password", func(t *testing.T) {
		said, _, err := tool(t, nil, parts["swaks"], "--server", o.at(587), "--tls", "--auth", "PLAIN", "--auth-user", owner, "--auth-password", "wrong",
			"--from", owner, "--to", to[0])
		if err == nil || !bytes.Contains(said, []byte("535 5.7.8")) {
			t.Errorf("%v\n%s", err, said)
		}
	})
	t.Run("swaks as somebody else", func(t *testing.T) {
		said, _, err := tool(t, nil, parts["swaks"], "--server", o.at(587), "--tls", "--auth", "PLAIN", "--auth-user", owner, "--auth-password", o.password,
			"--from", "bob@example.org", "--to", to[0])
		if err == nil || !bytes.Contains(said, []byte("550 5.7.1")) {
			t.Errorf("%v\n%s", err, said)
		}
	})
}

// GNU SASL logs in by the mechanism that is bound to the channel of TLS (RFC 9266), and
// with a wrong password by none. (Its SMTP does not greet before STARTTLS.)
func TestGNUSASL(t *testing.T) {
	t.Parallel()
	gsasl := testkit.Parts(t, "gsasl")["gsasl"]
	g := newGateway(t, options{})
	for _, mechanism := range []string{"SCRAM-SHA-256-PLUS", "PLAIN"} {
		for _, password := range []string{g.password, "wrong"} {
			out, errOut, err := tool(t, nil, gsasl, "--client", "--imap", "--connect="+g.at(143), "--hostname="+hostname, "--starttls",
				"--x509-ca-file="+g.tlsCert(), "--mechanism="+mechanism, "--authentication-id="+owner, "--authorization-id="+owner, "--password="+password)
			if right := password == g.password; right != (err == nil) {
				t.Errorf("with the password %v: %v\n%s%s", right, err, out, errOut)
			}
		}
	}
}
