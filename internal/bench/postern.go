package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// build builds the program that is measured.
func (b *bench) build(ctx context.Context) error {
	b.binary = filepath.Join(b.dir, "postern")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "./cmd/postern").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build (run it from the top of the repository): %w: %s", err, out)
	}
	return nil
}

// postern is the real binary on a new data directory.
type postern struct {
	binary string
	dir    string
	cmd    *exec.Cmd
	log    bytes.Buffer
	base   int
	setup  struct {
		Password string
		Config   string
	}
}

const owner = "b@y.test"

// startPostern sets up and starts a gateway with one account.
func (b *bench) startPostern(ctx context.Context) (served, error) { return b.newPostern(ctx) }

func (b *bench) newPostern(ctx context.Context) (*postern, error) {
	p, err := b.setUp(ctx)
	if err != nil {
		return nil, err
	}
	return p, p.start(ctx)
}

// start starts it and waits until it answers.
func (p *postern) start(ctx context.Context) error {
	p.cmd = exec.Command(p.binary, "serve", "--config", p.setup.Config)
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	return waitPort(ctx, p.addr())
}

// setUp sets up a gateway with one account, and does not start it.
func (b *bench) setUp(ctx context.Context) (*postern, error) {
	dir, err := os.MkdirTemp(b.dir, "postern-")
	if err != nil {
		return nil, err
	}
	p := &postern{binary: b.binary, dir: dir}
	if p.base, err = freeBase(); err != nil {
		return nil, err
	}
	if _, err := b.run(ctx, "key", "new", owner, "--out", filepath.Join(dir, "b.key.asc")); err != nil {
		return nil, err
	}
	out, err := b.run(ctx, "quickstart", owner, "--dir", filepath.Join(dir, "gw"), "--listen", "127.0.0.1",
		"--base-port", strconv.Itoa(p.base), "--cert", filepath.Join(dir, "b.cert.asc"), "--json")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(out, &p.setup); err != nil {
		return nil, err
	}
	return p, unlimited(p.setup.Config)
}

// unlimited lifts the limits that one address and one account have, since all load comes
// from one.
func unlimited(config string) error {
	return configure(config, map[string]string{
		"connection_rate": "1000000", "message_rate": "1000000", "request_rate": "10000000", "max_connections_per_ip": "1000", "max_connections_per_account": "1000",
		"messages_per_hour": "10000000", "recipients_per_hour": "10000000",
		// The test's domains are in no DNS; a server that is not there says so at once.
		"servers": `["127.0.0.1:1"]`,
	})
}

// configure sets keys of a configuration file.
func configure(config string, values map[string]string) error {
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	for key, value := range values {
		line := regexp.MustCompile(`(?m)^` + key + ` = .*$`)
		if !line.Match(text) {
			return fmt.Errorf("%s has no key %s", config, key)
		}
		text = line.ReplaceAllLiteral(text, []byte(key+" = "+value))
	}
	return os.WriteFile(config, text, 0o600)
}

// run runs one command of the program.
func (b *bench) run(ctx context.Context, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, b.binary, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("postern %s: %w: %s", args[0], err, stderr.Bytes())
	}
	return out, nil
}

func (p *postern) at(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.base+port))
}
func (p *postern) addr() string { return p.at(25) }
func (p *postern) rcpt() string { return owner }

// stored asks the metrics for the copies that were committed.
func (p *postern) stored(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.at(925)+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`(?m)^postern_bridge_messages_total\{class="sealed"\} (\S+)$`).FindSubmatch(text)
	if m == nil {
		return 0, errors.New("no counter of sealed messages in the metrics")
	}
	n, err := strconv.ParseFloat(string(m[1]), 64)
	return int(n), err
}

func (p *postern) cpu() (time.Duration, error) { return cpuOfTree(p.cmd.Process.Pid) }

func (p *postern) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("postern: %w: %s", err, p.log.Bytes())
	}
	return p.remove()
}

// remove removes all data.
func (p *postern) remove() error { return os.RemoveAll(p.dir) }
