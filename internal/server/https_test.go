package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"postern/keydir"
)

// browser asks the web server by any name. Its certificate is the test's own.
func browser(r *Running, http2 bool) *http.Client {
	t := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: http2,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", r.Addrs.HTTPS.String())
		},
	}
	return &http.Client{Transport: t, Timeout: 10 * time.Second}
}

// ask returns status and body.
func ask(t *testing.T, c *http.Client, url, login, password string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if login != "" {
		req.SetBasicAuth(login, password)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// until asks until the status is that.
func until(t *testing.T, c *http.Client, url string, want int) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		code, body := ask(t, c, url, "", "")
		if code == want {
			return body
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d %q, want %d", url, code, body, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// What another process does to accounts and certificates is seen.
func TestHTTPSPublishes(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	_, r, log := serve(t, c)
	one, two := browser(r, false), browser(r, true)
	url := "https://openpgpkey.here.test/.well-known/openpgpkey/here.test/hu/" + keydir.WKDHash("alice") + "?l=alice"
	until(t, one, url, http.StatusNotFound)
	beside := newGateway(t, c)
	addCertificate(t, beside)
	until(t, one, url, http.StatusOK)
	until(t, two, url, http.StatusOK)
	if code, body := ask(t, one, "https://here.test/.well-known/openpgpkey/policy", "", ""); code != http.StatusOK || body != "submission-address: key-submission@here.test\n" {
		t.Errorf("policy: %d %q", code, body)
	}
	if code, _ := ask(t, one, "https://there.test/.well-known/openpgpkey/policy", "", ""); code != http.StatusNotFound {
		t.Errorf("another domain: %d", code)
	}
	resp, err := two.Get(url)
	if err != nil || resp.ProtoMajor != 2 {
		t.Fatalf("HTTP/2: %v %v", resp, err)
	}
	resp.Body.Close()
	account, err := beside.Store.AccountByAddress(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	if err := beside.Store.SetPublished(t.Context(), account.ID, false); err != nil {
		t.Fatal(err)
	}
	until(t, two, url, http.StatusNotFound)

	// Users ask about others by what they log in with elsewhere. There is no DNS here.
	remote := "https://keys.here.test/vks/v1/by-email/bob%40there.test"
	for login, want := range map[string]int{"": 404, "nobody@here.test": 401} {
		if code, body := ask(t, one, remote, login, password); code != want {
			t.Errorf("as %q: %d %q", login, code, body)
		}
	}
	if code, body := ask(t, one, remote, owner, password); code != http.StatusNotFound && code != http.StatusServiceUnavailable {
		t.Errorf("as the owner: %d %q", code, body)
	}
	if code, _ := ask(t, one, remote, owner, "wrong"); code != http.StatusUnauthorized {
		t.Errorf("a wrong password: %d", code)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	for _, secret := range []string{password, "wrong", "bob@", "YWxpY2", "127.0.0.1\"", "Authorization", "by-email"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log has %q:\n%s", secret, log.String())
		}
	}
}

func TestHKPWithoutTLS(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	c.HTTPS.ListenHKP = "127.0.0.1:0"
	g, r, _ := serve(t, c)
	addCertificate(t, g)
	g.Publication.Forget()
	client := browser(r, false)
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", r.Addrs.HKP.String())
	}
	body := until(t, client, "http://keys.here.test:11371/pks/lookup?op=index&options=mr&search="+owner, http.StatusOK)
	if !strings.HasPrefix(body, "info:1:1\npub:") {
		t.Errorf("%q", body)
	}
	if code, _ := ask(t, client, "http://here.test/.well-known/openpgpkey/policy", "", ""); code != http.StatusNotFound {
		t.Errorf("WKD without TLS: %d", code)
	}
}

func TestHTTPSReload(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	_, r, _ := serve(t, c)
	client := browser(r, false)
	next := *c
	next.Domains = []string{"there.test"}
	next.HTTPS.RequestRate++
	if err := r.Reload(&next); err != nil {
		t.Fatal(err)
	}
	if code, _ := ask(t, client, "https://there.test/.well-known/openpgpkey/policy", "", ""); code != http.StatusOK {
		t.Errorf("a new domain: %d", code)
	}
	if code, _ := ask(t, client, "https://here.test/.well-known/openpgpkey/policy", "", ""); code != http.StatusNotFound {
		t.Errorf("a domain that is not hosted any more: %d", code)
	}
	if keys := needStart(c, &next); fmt.Sprint(keys) != "[https]" {
		t.Errorf("needs a new start: %v", keys)
	}
}

// dialWeb opens a connection with TLS.
func dialWeb(t *testing.T, r *Running) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", r.Addrs.HTTPS.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// Clients that take their time, or more than their share, lose their connection.
func TestHTTPSBadClients(t *testing.T) {
	t.Parallel()
	_, r, _ := serve(t, newConfig(t))
	for name, row := range map[string]struct {
		head, want string
		most       time.Duration
	}{
		"a head that never ends": {"GET / HTTP/1.1\r\nHost: here.test\r\nX: ", "", headTime + 5*time.Second},
		"an endless head":        {"GET / HTTP/1.1\r\nHost: here.test\r\n" + strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 100), "HTTP/1.1 431 ", 5 * time.Second},
		"a long path":            {"GET /" + strings.Repeat("x", 5000) + " HTTP/1.1\r\nHost: here.test\r\n\r\n", "HTTP/1.1 404 ", 5 * time.Second},
		"a bad escape":           {"GET /%zz HTTP/1.1\r\nHost: here.test\r\n\r\n", "HTTP/1.1 400 ", 5 * time.Second},
		"a path upwards":         {"GET /.well-known/openpgpkey/hu/../../../etc/passwd HTTP/1.1\r\nHost: here.test\r\n\r\n", "HTTP/1.1 404 ", 5 * time.Second},
		"no host":                {"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", 5 * time.Second},
		"not HTTP":               {"EHLO here.test\r\n\r\n", "HTTP/1.1 400 ", 5 * time.Second},
		"an absolute target":     {"GET https://here.test/.well-known/openpgpkey/policy HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 ", 5 * time.Second},
		"a body that never ends": {"POST /pks/add HTTP/1.1\r\nHost: here.test\r\nContent-Length: 100000000\r\n\r\n", "HTTP/1.1 501 ", 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialWeb(t, r)
			start := time.Now()
			go fmt.Fprint(c, row.head)
			line, _ := bufio.NewReader(c).ReadString('\n')
			if !strings.HasPrefix(line, row.want) || row.want == "" && line != "" {
				t.Errorf("got %q, want %q", line, row.want)
			}
			if took := time.Since(start); took > row.most {
				t.Errorf("after %v", took)
			}
		})
	}
}

// One client has only so many connections, and gets one back for each it closes.
func TestHTTPSConnections(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	c.HTTPS.MaxConnectionsPerIP = 2
	_, r, _ := serve(t, c)
	first, second := dialWeb(t, r), dialWeb(t, r)
	if third, err := tls.Dial("tcp", r.Addrs.HTTPS.String(), &tls.Config{InsecureSkipVerify: true}); err == nil {
		third.Close()
		t.Error("a third connection")
	}
	first.Close()
	second.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		third, err := tls.Dial("tcp", r.Addrs.HTTPS.String(), &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			third.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	g := newGate(nil, "https.listen", 3, 2, slog.New(slog.DiscardHandler))
	peer := func(s string) netip.Prefix { return peerNetwork(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s))) }
	for i, step := range []struct {
		peer string
		want bool
	}{
		{"192.0.2.1:1", true}, {"[::ffff:192.0.2.1]:2", true}, {"192.0.2.1:3", false},
		{"[2001:db8::1]:1", true}, {"[2001:db8::2]:1", false}, {"192.0.2.2:1", false}, // three over all
	} {
		if got := g.enter(peer(step.peer)); got != step.want {
			t.Errorf("step %d, %s: %v", i, step.peer, got)
		}
	}
	if peer("[2001:db8::1]:1") != peer("[2001:db8::ffff:1%eth0]:2") || peer("[2001:db8:0:1::1]:1") == peer("[2001:db8::1]:1") {
		t.Error("an IPv6 client is a /64")
	}
	g.leave(peer("192.0.2.1:1"))
	g.leave(peer("192.0.2.1:1"))
	g.leave(peer("[2001:db8::1]:1"))
	if g.open != 0 || len(g.peers) != 0 {
		t.Errorf("%d open, %v", g.open, g.peers)
	}
	_ = peerNetwork(&net.UnixAddr{Name: os.DevNull})
}
