package smtpd

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// missing ends a test whose real client is not there.
func missing(t *testing.T, name string) {
	t.Helper()
	if os.Getenv("POSTERN_REQUIRE_PARTS") == "1" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
}

// part runs a real client. Where it is not installed the test is skipped, or fails
// if POSTERN_REQUIRE_PARTS is 1.
func part(t *testing.T, name string, args ...string) string {
	t.Helper()
	return run(t, nil, name, args...)
}

func run(t *testing.T, in io.Reader, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			missing(t, name)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin = in
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// writeMessage writes a message with the line endings of a file, as clients like it.
func writeMessage(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const partMessage = "From: a@example.net\nTo: b@example.org\nSubject: x\n\n.\n..dots\nend\n"

func TestSwaks(t *testing.T) {
	t.Parallel()
	server, _ := selfSigned(t)
	tests := map[string]struct {
		args     []string
		protocol string
	}{
		"plain":              {nil, "ESMTP"},
		"pipelined":          {[]string{"--pipeline"}, "ESMTP"},
		"HELO":               {[]string{"--protocol", "SMTP"}, "SMTP"},
		"STARTTLS":           {[]string{"--tls"}, "ESMTPS"},
		"STARTTLS pipelined": {[]string{"--tls", "--pipeline"}, "ESMTPS"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.protocol == "ESMTPS" && !strings.Contains(part(t, "swaks", "--support"), "=== TLS") {
				missing(t, "swaks with TLS (libnet-ssleay-perl)")
			}
			r := start(t, Options{TLS: server})
			part(t, "swaks", append([]string{"--server", r.addr, "--from", "a@example.net",
				"--to", "b@example.org", "--data", "@" + writeMessage(t, partMessage)}, tt.args...)...)
			all := r.all()
			if len(all) != 1 || all[0].source.Protocol != tt.protocol ||
				strings.TrimRight(all[0].body, "\r\n") != strings.TrimSpace(strings.ReplaceAll(partMessage, "\n", "\r\n")) {
				t.Errorf("messages %+v", all)
			}
		})
	}
}

func TestSMTPSource(t *testing.T) {
	t.Parallel()
	r := start(t, Options{})
	for _, args := range [][]string{
		{"-s", "10", "-m", "200", "-l", "2000"},
		{"-s", "5", "-m", "100", "-d"},
		{"-s", "2", "-m", "4", "-l", "1000000"},
		{"-s", "1", "-m", "2", "-r", "20"},
	} {
		part(t, "smtp-source", append(args, "-f", "a@example.net", "-t", "b@example.org", "inet:"+r.addr)...)
	}
	all := r.all()
	if len(all) != 306 {
		t.Fatalf("%d messages", len(all))
	}
	for _, m := range all {
		if !bytes.HasSuffix([]byte(m.body), []byte("\r\n")) || len(m.body) > 1_100_000 {
			t.Errorf("message of %d octets", len(m.body))
		}
	}
	if n := len(all[305].rcpts); n != 20 {
		t.Errorf("%d recipients", n)
	}
}

func TestCurl(t *testing.T) {
	t.Parallel()
	server, _ := selfSigned(t)
	r := start(t, Options{TLS: server})
	file := writeMessage(t, strings.ReplaceAll(partMessage, "\n", "\r\n"))
	for _, args := range [][]string{{}, {"--ssl-reqd", "--insecure"}} {
		part(t, "curl", append([]string{"-sS", "--url", "smtp://" + r.addr, "--mail-from", "a@example.net",
			"--mail-rcpt", "b@example.org", "--mail-rcpt", "c@example.org", "--upload-file", file}, args...)...)
	}
	all := r.all()
	if len(all) != 2 || all[0].body != all[1].body || len(all[0].rcpts) != 2 || all[1].source.TLS == nil ||
		all[0].body != strings.ReplaceAll(partMessage, "\n", "\r\n") {
		t.Errorf("messages %+v", all)
	}
}

func TestMsmtp(t *testing.T) {
	t.Parallel()
	r := start(t, Options{})
	host, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	file := writeMessage(t, partMessage)
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	run(t, in, "msmtp", "--file=/dev/null", "--host="+host, "--port="+port, "--auth=off", "--tls=off",
		"-f", "a@example.net", "b@example.org")
	if all := r.all(); len(all) != 1 || !strings.HasSuffix(all[0].body, "\r\n\r\n.\r\n..dots\r\nend\r\n") {
		t.Errorf("messages %+v", all)
	}
}
