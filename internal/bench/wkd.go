package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postern/internal/admin"
	"postern/internal/pgp"
	"postern/keydir"
)

// wkdPeople is how many accounts are asked for, in turn.
const wkdPeople = 200

// nginxConf serves files over TLS as fast as nginx can: no log, open files kept.
const nginxConf = `daemon off;
user root;
worker_processes auto;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events { worker_connections 4096; }
http {
	access_log off;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 100000000;
	open_file_cache max=10000 inactive=60s;
	open_file_cache_valid 60s;
	default_type application/octet-stream;
	server {
		listen 127.0.0.1:%[2]d ssl;
		server_name y.test;
		ssl_certificate %[3]s/tls/cert.pem;
		ssl_certificate_key %[3]s/tls/key.pem;
		ssl_protocols TLSv1.2 TLSv1.3;
		add_header Access-Control-Allow-Origin *;
		add_header Cache-Control "public, max-age=3600";
		root %[1]s/root;
	}
}
`

// webServer is something that answers WKD requests over TLS.
type webServer struct {
	addr string
	pid  int
}

// wkd measures a Web Key Directory over TLS with keep-alive, beside nginx that serves
// the same octets from files. The load comes from this process, on the same cores.
func (b *bench) wkd(ctx context.Context) (err error) {
	p, err := b.newPostern(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	paths, err := p.people(ctx, b.count(wkdPeople))
	if err != nil {
		return err
	}
	ours := webServer{p.at(443), p.cmd.Process.Pid}
	files, err := fetchAll(ctx, ours.addr, paths)
	if err != nil {
		return err
	}
	theirs, stop, err := b.startNginx(ctx, filepath.Dir(p.setup.Config), files)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	fmt.Println("| WKD over TLS, keep-alive, load on the same cores | nginx, files | Postern | rate | CPU |")
	fmt.Println("|---|---|---|---|---|")
	for _, l := range []webLoad{{conns: 32, count: b.count(60_000)}, {conns: 4, count: b.count(40_000)}, {conns: 32, count: b.count(40_000), absent: true}} {
		if err := b.webPair(ctx, l, paths, theirs, ours); err != nil {
			return err
		}
	}
	fmt.Println()
	return ctx.Err()
}

// webPair runs one load against both, in turn.
func (b *bench) webPair(ctx context.Context, l webLoad, paths []string, theirs, ours webServer) error {
	var rates, p99s, cpus [2][]float64
	for range b.pairs {
		for i, s := range []webServer{theirs, ours} {
			warm := l
			warm.count = l.count / 10
			if _, err := askAll(ctx, s, warm, paths); err != nil {
				return err
			}
			r, err := askAll(ctx, s, l, paths)
			if err != nil {
				return err
			}
			rates[i], p99s[i], cpus[i] = append(rates[i], r.rate), append(p99s[i], r.p99), append(cpus[i], r.cpu)
		}
	}
	what := "found"
	if l.absent {
		what = "not found"
	}
	fmt.Printf("| %s, %d connections | %.0f/s, p99 %.1f ms, %.0f µs | %.0f/s, p99 %.1f ms, %.0f µs | %.2f × | %.2f × |\n", what, l.conns,
		median(rates[0]), median(p99s[0]), median(cpus[0]), median(rates[1]), median(p99s[1]), median(cpus[1]),
		median(rates[1])/median(rates[0]), median(cpus[1])/median(cpus[0]))
	return nil
}

// people adds accounts with certificates beside the running server, and returns the
// paths where they are found, when they are.
func (p *postern) people(ctx context.Context, n int) (paths []string, err error) {
	a, err := admin.Open(ctx, p.setup.Config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	for i := range n {
		local := fmt.Sprint("person", i)
		key, err := pgp.GenerateKey(local+"@y.test", time.Now().Add(-time.Minute))
		if err != nil {
			return nil, err
		}
		if _, err := a.AddAccount(ctx, local+"@y.test", "", "first"); err != nil {
			return nil, err
		}
		if _, err := a.ImportCertificates(ctx, local+"@y.test", key.Certificate().Data()); err != nil {
			return nil, err
		}
		paths = append(paths, "/.well-known/openpgpkey/hu/"+keydir.WKDHash(local)+"?l="+local)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, err := fetchAll(ctx, p.at(443), paths[n-1:]); err == nil {
			return paths, nil
		} else if time.Now().After(deadline) {
			return nil, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// fetchAll gets every path once.
func fetchAll(ctx context.Context, addr string, paths []string) (map[string][]byte, error) {
	c, err := dialWeb(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	files := make(map[string][]byte)
	for _, path := range paths {
		status, body, err := c.get(path)
		if err != nil {
			return nil, err
		}
		if status != 200 {
			return nil, fmt.Errorf("%s: status %d", path, status)
		}
		file, _, _ := strings.Cut(path, "?")
		files[file] = append([]byte(nil), body...)
	}
	return files, nil
}

// startNginx serves files with the TLS certificate of a gateway.
func (b *bench) startNginx(ctx context.Context, gateway string, files map[string][]byte) (webServer, func() error, error) {
	dir, err := os.MkdirTemp(b.dir, "nginx-")
	if err != nil {
		return webServer{}, nil, err
	}
	for name, data := range files {
		name = filepath.Join(dir, "root", filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, data, 0o644)); err != nil {
			return webServer{}, nil, err
		}
	}
	port, err := freePort()
	if err != nil {
		return webServer{}, nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, port, gateway), 0o644); err != nil {
		return webServer{}, nil, err
	}
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		nginx = "/usr/sbin/nginx" // where a user's PATH does not lead
	}
	cmd := exec.Command(nginx, "-p", dir, "-c", conf, "-e", filepath.Join(dir, "error.log"))
	if err := cmd.Start(); err != nil {
		return webServer{}, nil, err
	}
	stop := func() error {
		err := cmd.Process.Signal(syscall.SIGQUIT)
		_ = cmd.Wait() // it ends by the signal
		return errors.Join(err, os.RemoveAll(dir))
	}
	s := webServer{net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), cmd.Process.Pid}
	if err := waitPort(ctx, s.addr); err != nil {
		return webServer{}, nil, errors.Join(err, stop())
	}
	return s, stop, nil
}
