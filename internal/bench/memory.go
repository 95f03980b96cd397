package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"syscall"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"postern/internal/config"
)

const mib = 1 << 20

// memory measures what one gateway needs: idle, with 200 clients in IDLE, and while 200
// connections each send 25 MB at once.
func (b *bench) memory(ctx context.Context) error {
	fmt.Println("| memory | measured |")
	fmt.Println("|---|---|")
	idle, clients, err := b.idle(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("| idle | %d MiB |\n| 200 IMAP connections in IDLE, over TLS | %d MiB |\n", idle/mib, clients/mib)
	p, err := b.newPostern(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	out, err := exec.CommandContext(ctx, "smtp-source", "-s", "200", "-m", "200", "-l", "25000000", "-f", "a@x.test", "-t", p.rcpt(), p.addr()).CombinedOutput()
	if err != nil {
		return errors.Join(fmt.Errorf("smtp-source: %w: %s", err, out), p.stop())
	}
	took := time.Since(start)
	peak, err := memoryOf(p.cmd.Process.Pid, "VmHWM")
	if err == nil {
		var n int
		if n, err = p.stored(ctx); err == nil && n != 200 {
			err = fmt.Errorf("%d of 200 messages were stored", n)
		}
	}
	if err := errors.Join(err, p.stop()); err != nil {
		return err
	}
	fmt.Printf("| peak while 200 connections send 25 MB each at once (%.0f s) | %d MiB |\n\n", took.Seconds(), peak/mib)
	return nil
}

func (b *bench) idle(ctx context.Context) (idle, clients int64, err error) {
	p, err := b.newPostern(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if _, err = drive(ctx, p, load{"", 2000, 10, 500}); err != nil {
		return 0, 0, err
	}
	time.Sleep(3 * time.Second)
	if idle, err = memoryOf(p.cmd.Process.Pid, "VmRSS"); err != nil {
		return 0, 0, err
	}
	var open []*imapclient.Client
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	logins, err := b.accounts(ctx, p, 20)
	if err != nil {
		return 0, 0, err
	}
	for i := range 200 {
		c, err := p.dial(logins[i%len(logins)])
		if err != nil {
			return 0, 0, err
		}
		open = append(open, c)
		if _, err := c.Select("INBOX", nil).Wait(); err != nil {
			return 0, 0, err
		}
		if _, err := c.Idle(); err != nil {
			return 0, 0, err
		}
	}
	time.Sleep(3 * time.Second)
	clients, err = memoryOf(p.cmd.Process.Pid, "VmRSS")
	return idle, clients, err
}

// login is an account and its app password.
type login struct{ Address, Password string }

// accounts adds accounts beside the first, since one account has few connections.
func (b *bench) accounts(ctx context.Context, p *postern, n int) ([]login, error) {
	all := []login{{owner, p.setup.Password}}
	for i := 1; i < n; i++ {
		out, err := b.run(ctx, "account", "add", fmt.Sprintf("b%d@y.test", i), "--config", p.setup.Config, "--json")
		if err != nil {
			return nil, err
		}
		var l login
		if err := json.Unmarshal(out, &l); err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// dial logs in by IMAP over TLS. The certificate is the test's own.
func (p *postern) dial(l login) (*imapclient.Client, error) {
	c, err := imapclient.DialTLS(p.at(993), &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		return nil, err
	}
	if err := c.Login(l.Address, l.Password).Wait(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// started is how the program starts on data that is there.
type started struct {
	took      time.Duration // until it is ready
	rss, peak int64         // octets, after its beginning
}

// startOn starts the real program and stops it again.
func (b *bench) startOn(ctx context.Context, file string) (s started, err error) {
	cfg, err := config.Load(file)
	if err != nil {
		return s, err
	}
	cmd := exec.Command(b.binary, "serve", "--config", file)
	var log bytes.Buffer
	cmd.Stderr = &log
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return s, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	for !ready(cfg.HTTP.Listen) {
		if time.Since(start) > time.Minute || ctx.Err() != nil {
			return s, fmt.Errorf("the server does not start: %s", log.Bytes())
		}
		time.Sleep(time.Millisecond)
	}
	s.took = time.Since(start)
	time.Sleep(3 * time.Second) // what it does in the beginning
	if s.rss, err = memoryOf(cmd.Process.Pid, "VmRSS"); err != nil {
		return s, err
	}
	s.peak, err = memoryOf(cmd.Process.Pid, "VmHWM")
	return s, err
}

// ready asks a gateway whether all of it works.
func ready(addr string) bool {
	resp, err := http.Get("http://" + addr + "/readyz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
