package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"postern/internal/config"
	"postern/internal/telemetry"
)

// get asks the health port.
func get(t *testing.T, r *Running, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + r.Addrs.HTTP.String() + path)
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

func TestStartServesAndStops(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	g, r, log := serve(t, c)
	addCertificate(t, g)
	g.Directory.Forget()
	for path, want := range map[string]string{"/livez": "alive\n", "/readyz": "ready\n"} {
		if code, body := get(t, r, path); code != http.StatusOK || body != want {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	if code, _ := get(t, r, "/"); code != http.StatusNotFound {
		t.Errorf("/: %d", code)
	}
	if err := send(r, "bob@there.test", owner, hello); err != nil {
		t.Fatal(err)
	}
	if n := inboxCount(t, r); n != 1 {
		t.Errorf("%d messages", n)
	}
	code, text := get(t, r, "/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	found, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if code != http.StatusOK || err != nil {
		t.Fatalf("%d, %v", code, err)
	}
	for _, name := range []string{"postern_smtpd_messages_total", "postern_bridge_messages_total", "go_goroutines", "process_open_fds"} {
		if found[name] == nil {
			t.Errorf("no metric %s", name)
		}
	}
	for _, key := range []string{"smtp.listen", "submission.listen", "submission.listen_tls", "imap.listen", "imap.listen_tls", "https.listen", "http.listen"} {
		log.wait(t, "listener="+key)
	}

	addrs := []net.Addr{r.Addrs.MX, r.Addrs.Submission, r.Addrs.Submissions, r.Addrs.IMAP, r.Addrs.IMAPS, r.Addrs.HTTPS, r.Addrs.HTTP}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	for _, a := range addrs {
		if conn, err := net.Dial("tcp", a.String()); err == nil {
			conn.Close()
			t.Errorf("%v is still open", a)
		}
	}
	select {
	case <-r.Done():
	default:
		t.Error("not done")
	}
}

// What is switched off is not served, and its address is nil.
func TestStartServesOnlyWhatIsConfigured(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	c.IMAP.Listen, c.IMAP.ListenTLS, c.HTTPS.Listen, c.HTTP.Listen = "", "", "", ""
	c.Submission.Listen, c.Submission.ListenTLS = "", ""
	_, r, _ := serve(t, c)
	if r.Addrs.Submission != nil || r.Addrs.Submissions != nil {
		t.Errorf("%+v", r.Addrs)
	}
	if r.Addrs.MX == nil || r.Addrs.IMAP != nil || r.Addrs.IMAPS != nil || r.Addrs.HTTPS != nil || r.Addrs.HTTP != nil {
		t.Errorf("%+v", r.Addrs)
	}
}

// Not ready is said when mail would not be accepted.
func TestReadyzSaysNo(t *testing.T) {
	t.Parallel()
	t.Run("store closed", func(t *testing.T) {
		t.Parallel()
		g, r, _ := serve(t, newConfig(t))
		if err := g.Store.Close(); err != nil {
			t.Fatal(err)
		}
		if code, body := get(t, r, "/readyz"); code != http.StatusServiceUnavailable || body != "not ready: store\n" {
			t.Errorf("%d %q", code, body)
		}
		if code, _ := get(t, r, "/livez"); code != http.StatusOK {
			t.Errorf("the process is alive all the same: %d", code)
		}
	})
	t.Run("blobs closed", func(t *testing.T) {
		t.Parallel()
		g, r, _ := serve(t, newConfig(t))
		if err := g.Blobs.Close(); err != nil {
			t.Fatal(err)
		}
		if code, body := get(t, r, "/readyz"); code != http.StatusServiceUnavailable || body != "not ready: blobs\n" {
			t.Errorf("%d %q", code, body)
		}
	})
	t.Run("disk takes nothing", func(t *testing.T) {
		t.Parallel()
		c := newConfig(t)
		_, r, _ := serve(t, c)
		if err := os.Rename(blobsDir(c), blobsDir(c)+".away"); err != nil {
			t.Fatal(err)
		}
		if code, body := get(t, r, "/readyz"); code != http.StatusServiceUnavailable || body != "not ready: blobs\n" {
			t.Errorf("%d %q", code, body)
		}
		if err := os.Rename(blobsDir(c)+".away", blobsDir(c)); err != nil {
			t.Fatal(err)
		}
		if code, _ := get(t, r, "/readyz"); code != http.StatusOK {
			t.Errorf("and then: %d", code)
		}
		left, err := os.ReadDir(blobsDir(c))
		for _, e := range left {
			if err != nil || strings.HasPrefix(e.Name(), "ready-") {
				t.Errorf("left behind: %v, %v", e.Name(), err)
			}
		}
	})
}

// A port that cannot be had names the key of the configuration, and then none is open.
func TestStartFails(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for key, set := range map[string]func(*config.Config, string){
		"smtp.listen":           func(c *config.Config, addr string) { c.SMTP.Listen = addr },
		"submission.listen":     func(c *config.Config, addr string) { c.Submission.Listen = addr },
		"submission.listen_tls": func(c *config.Config, addr string) { c.Submission.ListenTLS = addr },
		"imap.listen":           func(c *config.Config, addr string) { c.IMAP.Listen = addr },
		"imap.listen_tls":       func(c *config.Config, addr string) { c.IMAP.ListenTLS = addr },
		"https.listen":          func(c *config.Config, addr string) { c.HTTPS.Listen = addr },
		"http.listen":           func(c *config.Config, addr string) { c.HTTP.Listen = addr },
	} {
		c := newConfig(t)
		set(c, taken.Addr().String())
		g := newGateway(t, c)
		if r, err := g.Start(t.Context()); err == nil || r != nil || !strings.HasPrefix(err.Error(), key+": ") || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%s: %v", key, err)
		}
		set(c, "127.0.0.1:0")
		r, err := g.Start(t.Context())
		if err != nil {
			t.Errorf("%s: and then: %v", key, err)
			continue
		}
		r.Stop()
	}
	c := newConfig(t)
	write(t, c.TLS.Key, "rubbish")
	if _, err := newGateway(t, c).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "TLS certificate") {
		t.Errorf("a TLS key that is none: %v", err)
	}
}

func TestOpenAll(t *testing.T) {
	t.Parallel()
	first := &endpoint{key: "first", addr: "127.0.0.1:0"}
	if err := openAll([]*endpoint{first, {key: "second", addr: "192.0.2.1:0"}}); err == nil || !strings.HasPrefix(err.Error(), "second: ") {
		t.Errorf("%v", err)
	}
	if conn, err := net.Dial("tcp", first.listener.Addr().String()); err == nil {
		conn.Close()
		t.Error("the first port stayed open")
	}
}

// What ends by an error takes the others along, and Stop says why.
func TestAPartThatFailsEndsAll(t *testing.T) {
	t.Parallel()
	_, r, log := serve(t, newConfig(t))
	boom := errors.New("boom")
	r.run("reactor", func() error { return boom })
	select {
	case <-r.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the others go on")
	}
	if err := r.Stop(); !errors.Is(err, boom) || !strings.Contains(err.Error(), "reactor") {
		t.Errorf("%v", err)
	}
	log.wait(t, "part=reactor")
}

// A message whose octets are on their way when the gateway is told to stop is
// finished, and is there after the next start.
func TestStopFinishesWhatIsInHand(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	_, r, _ := serve(t, c)
	client, err := smtp.Dial(r.Addrs.MX.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Mail("bob@there.test", nil); err != nil {
		t.Fatal(err)
	}
	if err := client.Rcpt(owner, nil); err != nil {
		t.Fatal(err)
	}
	w, err := client.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, hello); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- r.Stop() }()
	<-r.Done()
	if err := w.Close(); err != nil {
		t.Errorf("the message was not finished: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
	if n := held(t, newGateway(t, c)); n != 1 {
		t.Errorf("%d messages, want the one that was acknowledged", n)
	}
}

// A client that does nothing does not keep the gateway from stopping. (By HTTPS it does
// for the 5 s that package net/http gives a new connection.)
func TestStopDoesNotWaitForIdleClients(t *testing.T) {
	t.Parallel()
	_, r, _ := serve(t, newConfig(t))
	for _, a := range []net.Addr{r.Addrs.MX, r.Addrs.Submission, r.Addrs.Submissions, r.Addrs.IMAP, r.Addrs.IMAPS, r.Addrs.HTTP} {
		conn, err := net.Dial("tcp", a.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if a == r.Addrs.MX || a == r.Addrs.Submission || a == r.Addrs.IMAP { // those that greet
			if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
	start := time.Now()
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestServeFile(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	file := writeConfig(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	log := new(logBuffer)
	ended := make(chan error, 1)
	go func() { ended <- ServeFile(ctx, file, log) }()
	log.wait(t, "msg=serving")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(){
		"no database":  func() { os.Remove(databaseFile(c)) },
		"bad config":   func() { write(t, file, "hostname = 1") },
		"no such file": func() { os.Remove(file) },
		"bad log level": func() {
			write(t, file, fmt.Sprintf("hostname = %q\ndomains = [\"a.b\"]\n[log]\nlevel = \"loud\"\n", c.Hostname))
		},
	} {
		spoil()
		if err := ServeFile(t.Context(), file, log); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// Two processes on one data directory would not see each other's changes, and tidy up
// behind each other. Commands go on beside the one that serves.
func TestOneServesTheData(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	_, first, _ := serve(t, c)
	g, err := Open(t.Context(), c, telemetry.Discard())
	if err != nil {
		t.Fatalf("a command beside the server: %v", err)
	}
	defer g.Close()
	if r, err := g.Start(t.Context()); err == nil || !strings.Contains(err.Error(), c.DataDir+": another postern serve is using it") {
		if r != nil {
			r.Stop()
		}
		t.Fatalf("a second server: %v", err)
	}
	if err := send(first, "", owner, hello); err != nil {
		t.Errorf("the first server after that: %v", err)
	}
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	r, err := g.Start(t.Context())
	if err != nil {
		t.Fatalf("after the first has stopped: %v", err)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}
