package smtpd

import (
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkSubmitted wants one message of partMessage, sent by TLS by who logged in.
func checkSubmitted(t *testing.T, r *running) {
	t.Helper()
	all := r.all()
	if len(all) != 1 {
		t.Fatalf("%d messages\n%s", len(all), r.log)
	}
	s := all[0].source
	if s.Account.String() != testLogin || s.TLS == nil || s.Protocol != "ESMTPSA" || s.From.Local != "alice" ||
		!strings.HasSuffix(strings.TrimRight(all[0].body, "\r\n"), "\r\n\r\n.\r\n..dots\r\nend") {
		t.Errorf("message %+v", all[0])
	}
}

func TestSubmissionSwaks(t *testing.T) {
	t.Parallel()
	if !strings.Contains(part(t, "swaks", "--support"), "=== TLS") {
		missing(t, "swaks with TLS (libnet-ssleay-perl)")
	}
	server, _ := selfSigned(t)
	for _, mech := range []string{"PLAIN", "LOGIN"} {
		for name, start := range map[string]func(testing.TB, Options, Submission) *running{
			"--tls": startSubmission, "--tls-on-connect": startSubmissions,
		} {
			t.Run(mech+name, func(t *testing.T) {
				t.Parallel()
				r := start(t, Options{TLS: server}, Submission{})
				out := part(t, "swaks", "--server", r.addr, name, "--auth", mech, "--auth-user", testLogin, "--auth-password", testPassword,
					"--from", testLogin, "--to", "b@example.net,clear@example.net", "--data", "@"+writeMessage(t, partMessage))
				if !strings.Contains(out, "250 2.0.0 queued as id2: 1 sealed, 1 insecure (clear@example.net)") {
					t.Error(out)
				}
				checkSubmitted(t, r)
			})
		}
	}
}

// msmtp takes its SCRAM from GNU SASL.
func TestSubmissionMsmtp(t *testing.T) {
	t.Parallel()
	server, _ := selfSigned(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificates[0].Certificate[0]}
	if err := os.WriteFile(ca, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"scram-sha-256", "plain", "login"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(part(t, "msmtp", "--version"), method) {
				missing(t, "msmtp with "+method)
			}
			r := startSubmission(t, Options{TLS: server}, Submission{})
			host, port, err := net.SplitHostPort(r.addr)
			if err != nil {
				t.Fatal(err)
			}
			run(t, strings.NewReader(partMessage), "msmtp", "--file=/dev/null", "--host="+host, "--port="+port, "--auth="+method,
				"--user="+testLogin, "--passwordeval=echo "+testPassword, "--tls=on", "--tls-starttls=on", "--tls-trust-file="+ca,
				"--tls-certcheck=off", "--dsn-notify=failure,success", "--dsn-return=headers", "-f", testLogin, "b@example.net")
			checkSubmitted(t, r)
			if m := r.all()[0]; m.source.Return != "HDRS" || m.wishes[0].Notify == 0 {
				t.Errorf("wishes %+v, RET %q", m.wishes, m.source.Return)
			}
		})
	}
}

func TestSubmissionCurl(t *testing.T) {
	t.Parallel()
	server, _ := selfSigned(t)
	r := startSubmissions(t, Options{TLS: server}, Submission{})
	file := writeMessage(t, strings.ReplaceAll(partMessage, "\n", "\r\n"))
	part(t, "curl", "-sS", "--insecure", "--url", "smtps://"+r.addr+"/%5B127.0.0.1%5D", "--user", testLogin+":"+testPassword,
		"--mail-from", testLogin, "--mail-rcpt", "b@example.net", "--upload-file", file)
	checkSubmitted(t, r)
}

const pythonSubmit = `
import smtplib, ssl, sys
host, port, user, password = sys.argv[1:5]
context = ssl._create_unverified_context()
s = smtplib.SMTP(host, int(port))
s.starttls(context=context)
try:
    s.login(user, "wrong")
    sys.exit("a wrong password was taken")
except smtplib.SMTPAuthenticationError as e:
    assert e.smtp_code == 535, e
s.login(user, password)
refused = s.sendmail(user, ["b@example.net", "nobody@example.net"], sys.stdin.read(), ["RET=FULL"], ["NOTIFY=NEVER"])
assert list(refused) == ["nobody@example.net"], refused
s.quit()
`

func TestSubmissionPython(t *testing.T) {
	t.Parallel()
	server, _ := selfSigned(t)
	r := startSubmission(t, Options{TLS: server}, Submission{})
	host, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	run(t, strings.NewReader(partMessage), "python3", "-c", pythonSubmit, host, port, testLogin, testPassword)
	checkSubmitted(t, r)
}
