package server

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"postern/internal/config"
)

// serial is that of the certificate that the gateway shows.
func serial(t *testing.T, addr net.Addr) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr.String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func clone(c *config.Config) *config.Config {
	other := *c
	return &other
}

func TestReload(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	_, r, log := serve(t, c)
	before := serial(t, r.Addrs.IMAPS)
	if err := send(r, "", "postmaster@new.test", hello); err == nil || !strings.Contains(err.Error(), "relaying") {
		t.Errorf("a domain that is not hosted: %v", err)
	}

	next := clone(c)
	next.Domains = []string{"here.test", "new.test"}
	newTLS(t, next.TLS)
	if err := r.Reload(next); err != nil {
		t.Fatal(err)
	}
	after := serial(t, r.Addrs.IMAPS)
	if serial(t, r.Addrs.Submissions) != after {
		t.Error("submission shows another TLS certificate")
	}
	if after == before {
		t.Error("the old TLS certificate is shown")
	}
	if err := send(r, "", "postmaster@new.test", hello); err != nil {
		t.Errorf("the new domain: %v", err)
	}
	if strings.Contains(log.String(), "next start") {
		t.Errorf("nothing needs a start:\n%s", log.String())
	}

	// A certificate that cannot be loaded changes nothing at all.
	write(t, next.TLS.Cert, "rubbish")
	last := clone(next)
	last.Domains = []string{"here.test"}
	if err := r.Reload(last); err == nil {
		t.Error("a broken certificate was loaded")
	}
	if serial(t, r.Addrs.IMAPS) != after {
		t.Error("another certificate is shown")
	}
	if err := send(r, "", "postmaster@new.test", hello); err != nil {
		t.Errorf("the new domain is gone: %v", err)
	}

	// What needs a start is said, and stays as it is.
	newTLS(t, next.TLS)
	last.Hostname, last.SMTP.MaxRecipients, last.DNS.Servers = "mx.here.test", 7, nil
	if err := r.Reload(last); err != nil {
		t.Fatal(err)
	}
	log.wait(t, `reason="hostname smtp dns"`)
	if err := send(r, "", "postmaster@new.test", hello); err == nil {
		t.Error("the domain is still there")
	}
}

func TestNeedStart(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*config.Config){
		"":         func(c *config.Config) { c.Domains, c.Postmaster, c.Seal.Subject, c.Store.Quota = nil, "x", "keep", 1 },
		"hostname": func(c *config.Config) { c.Hostname = "x" },
		"data_dir": func(c *config.Config) { c.DataDir = "x" },
		"keys_dir": func(c *config.Config) { c.KeysDir = "x" },
		"smtp":     func(c *config.Config) { c.SMTP.MessageRate++ },
		"imap":     func(c *config.Config) { c.IMAP.Listen = "" },
		"http":     func(c *config.Config) { c.HTTP.Listen = "" },
		"dns":      func(c *config.Config) { c.DNS.Servers = []string{"::1"} },
		"log":      func(c *config.Config) { c.Log.Level = "debug" },
	} {
		c := config.Default()
		change(c)
		if got := strings.Join(needStart(config.Default(), c), " "); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Not parallel: the signal is the process's. Every ServeFile that runs gets it.
func TestSIGHUP(t *testing.T) {
	c := newConfig(t)
	file := writeConfig(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := new(logBuffer)
	ended := make(chan error, 1)
	go func() { ended <- ServeFile(ctx, file, log) }()
	log.wait(t, "msg=serving")
	hangup := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}

	write(t, file, string(config.Render(c))+"\nunheard_of = 1\n")
	hangup()
	log.wait(t, "nothing was reloaded")
	if !strings.Contains(log.String(), "unheard_of") || strings.Contains(log.String(), "msg=reloaded") {
		t.Errorf("why is not said:\n%s", log.String())
	}

	c.Domains = append(c.Domains, "new.test")
	writeConfig(t, c)
	hangup()
	log.wait(t, "msg=reloaded")
	addr := listenAddress(t, log.String(), "smtp.listen")
	if err := send(&Running{Addrs: Addrs{MX: addr}}, "", "postmaster@new.test", hello); err != nil {
		t.Errorf("the new domain: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// listenAddress finds in the log where a front end listens.
func listenAddress(t *testing.T, log, key string) net.Addr {
	t.Helper()
	_, rest, ok := strings.Cut(log, "listener="+key+" addr=")
	if !ok {
		t.Fatalf("the log does not say where %s is:\n%s", key, log)
	}
	where, _, _ := strings.Cut(rest, "\n")
	addr, err := net.ResolveTCPAddr("tcp", where)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}
