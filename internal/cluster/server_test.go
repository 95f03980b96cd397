package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"postern/internal/telemetry"
	"postern/internal/testkit"
)

// patience is for what has to happen, on a machine that may be busy with other things.
const patience = 30 * time.Second

func patient(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// server is a real redis-server of the test's own.
type server struct {
	t    testing.TB
	path string
	dir  string
	port int
	args []string
	cmd  *exec.Cmd
	// admin speaks to it past what is tested.
	admin *redis.Client
}

func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	s := &server{t: t, path: testkit.Parts(t, "redis-server")["redis-server"], dir: t.TempDir(), args: args}
	port := testkit.FreePort(t)
	s.port = port.Number
	port.Release()
	o := &redis.Options{Addr: s.addr(), MaxRetries: 3, DisableIdentity: true}
	if i := slices.Index(args, "--requirepass"); i >= 0 {
		o.Password = args[i+1]
	}
	s.admin = redis.NewClient(o)
	t.Cleanup(func() {
		_ = s.admin.Close()
		s.kill()
	})
	s.start()
	return s
}

func (s *server) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func (s *server) start() {
	s.t.Helper()
	args := append([]string{"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--daemonize", "no", "--logfile", "log"}, s.args...)
	s.cmd = exec.Command(s.path, args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	up := func() bool { return s.admin.Ping(context.Background()).Err() == nil }
	for end := time.Now().Add(patience); !up(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.t.Fatalf("redis-server does not come up: %s", log)
		}
	}
}

// kill is kill -9.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

func (s *server) do(args ...any) any {
	s.t.Helper()
	v, err := s.admin.Do(context.Background(), args...).Result()
	if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return v
}

// sharded makes the server a Redis Cluster of one node.
func (s *server) sharded() *server {
	s.t.Helper()
	s.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
	eventually(s.t, "the Redis Cluster is up", func() bool {
		info, _ := s.do("CLUSTER", "INFO").(string)
		return len(info) > 16 && info[:16] == "cluster_state:ok"
	})
	return s
}

// unhurried are limits under which nothing fails because the machine is slow.
func unhurried() limits {
	l := defaultLimits()
	l.dial, l.io, l.call = patience, patience, patience
	return l
}

// node opens a node of a cluster. The changes, if any, are made to its options.
func node(t testing.TB, addr string, l limits, change ...func(*Options)) *Redis {
	t.Helper()
	o := Options{
		Driver: DriverRedis, Redis: RedisOptions{Addrs: []string{addr}}, Secret: []byte("secret"),
		Now: time.Now, Log: telemetry.Discard(), Metrics: telemetry.NewMetrics(),
	}
	for _, c := range change {
		c(&o)
	}
	r, err := openRedis(t.Context(), o, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// proxy is a TCP connection's way to a server, with faults.
type proxy struct {
	to string
	l  net.Listener
	// ended is closed with the test.
	ended <-chan struct{}

	mu      sync.Mutex
	delay   time.Duration // before each piece of an answer
	corrupt func([]byte)  // changes answers; may be nil
	cut     bool          // no new connections
	conns   map[net.Conn]struct{}
}

func startProxy(t testing.TB, to string) *proxy {
	t.Helper()
	p := &proxy{to: to, l: testkit.FreePort(t).Listener(), conns: make(map[net.Conn]struct{}), ended: t.Context().Done()}
	go func() {
		for {
			c, err := p.l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	t.Cleanup(func() { p.l.Close(); p.set(func() { p.cut = true }); p.hangUp() })
	return p
}

func (p *proxy) addr() string { return p.l.Addr().String() }

func (p *proxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// hangUp ends all connections.
func (p *proxy) hangUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

func (p *proxy) serve(c net.Conn) {
	defer c.Close()
	s, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer s.Close()
	p.mu.Lock()
	if p.cut {
		p.mu.Unlock()
		return
	}
	p.conns[c], p.conns[s] = struct{}{}, struct{}{}
	p.mu.Unlock()
	go func() {
		_, _ = io.Copy(s, c)
		s.Close()
	}()
	b := make([]byte, 64<<10)
	for {
		n, err := s.Read(b)
		if err != nil {
			return
		}
		p.mu.Lock()
		delay, corrupt := p.delay, p.corrupt
		p.mu.Unlock()
		if delay > 0 {
			select {
			case <-time.After(delay):
			case <-p.ended:
				return
			}
		}
		if corrupt != nil {
			corrupt(b[:n])
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

func key(i int) string { return fmt.Sprintf("key-%d", i) }
