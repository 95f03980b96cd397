package admin

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"postern/internal/config"
)

// reachTimeout limits one conversation with the running server.
const reachTimeout = 5 * time.Second

// reach looks whether a running server answers on its ports, and as it should.
func (r *Report) reach(ctx context.Context, cfg *config.Config, leaf *x509.Certificate) {
	for _, l := range []struct {
		what, addr string
		ask        func(net.Conn) (string, error)
	}{
		{"SMTP", cfg.SMTP.Listen, func(c net.Conn) (string, error) { return expect(c, "220 ") }},
		{"submission", cfg.Submission.Listen, func(c net.Conn) (string, error) { return expect(c, "220 ") }},
		{"submissions", cfg.Submission.ListenTLS, func(c net.Conn) (string, error) { return askTLS(c, leaf, "220 ") }},
		{"IMAP", cfg.IMAP.Listen, func(c net.Conn) (string, error) { return expect(c, "* OK") }},
		{"IMAPS", cfg.IMAP.ListenTLS, func(c net.Conn) (string, error) { return askTLS(c, leaf, "* OK") }},
		{"HTTPS", cfg.HTTPS.Listen, func(c net.Conn) (string, error) { return askPolicy(c, cfg.Domains[0], leaf) }},
		{"health", cfg.HTTP.Listen, askReady},
	} {
		if l.addr == "" {
			continue
		}
		d := net.Dialer{Timeout: 2 * time.Second}
		c, err := d.DialContext(ctx, "tcp", l.addr)
		if err != nil {
			r.add("port "+l.what, Warn, "nobody answers on %s: is the server running?", l.addr)
			continue
		}
		_ = c.SetDeadline(time.Now().Add(reachTimeout))
		text, err := l.ask(c)
		c.Close()
		if err != nil {
			r.add("port "+l.what, Bad, "%s: %v", l.addr, err)
		} else {
			r.add("port "+l.what, Fine, "%s %s", l.addr, text)
		}
	}
}

// expect reads one line, which has to begin so.
func expect(c io.Reader, begin string) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(c, 512)).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("does not greet: %w", err)
	}
	if !strings.HasPrefix(line, begin) {
		return "", fmt.Errorf("greets with %q", strings.TrimSpace(line))
	}
	return "answers", nil
}

// askTLS wants a greeting by TLS, and compares the certificate with that of the
// configured file.
func askTLS(c net.Conn, leaf *x509.Certificate, greeting string) (string, error) {
	// Who made the certificate is another check's business; no secret is sent.
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	if _, err := expect(t, greeting); err != nil {
		return "", err
	}
	return "answers", shows(t, leaf)
}

// shows is an error if the server showed another certificate than the file's.
func shows(t *tls.Conn, leaf *x509.Certificate) error {
	if shown := t.ConnectionState().PeerCertificates; leaf != nil && !shown[0].Equal(leaf) {
		return errors.New("shows another certificate than the configured file holds: send SIGHUP")
	}
	return nil
}

// askPolicy asks for what every Web Key Directory has.
func askPolicy(c net.Conn, domain string, leaf *x509.Certificate) (string, error) {
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // as in askTLS
	if _, err := fmt.Fprintf(t, "GET /.well-known/openpgpkey/policy HTTP/1.0\r\nHost: %s\r\n\r\n", domain); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(io.LimitReader(t, 512)).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("does not answer: %w", err)
	}
	if _, status, _ := strings.Cut(line, " "); !strings.HasPrefix(status, "200 ") {
		return "", fmt.Errorf("%q", strings.TrimSpace(line))
	}
	return "answers: Web Key Directory", shows(t, leaf)
}

// askReady asks whether mail would be accepted now.
func askReady(c net.Conn) (string, error) {
	if _, err := io.WriteString(c, "GET /readyz HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(c, 4096))
	if err != nil {
		return "", err
	}
	head, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	if _, status, _ := strings.Cut(head, " "); !strings.HasPrefix(status, "200 ") {
		return "", fmt.Errorf("%q", strings.TrimSpace(body))
	}
	return "answers: ready", nil
}
