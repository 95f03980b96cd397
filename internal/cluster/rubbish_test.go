package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/telemetry"
	"postern/internal/testkit"
)

// answering starts a server that answers each piece of what it is sent by a function,
// and anything that keeps coming until the other end has had enough of it.
func answering(t *testing.T, answer func(w io.Writer, asked []byte) error) string {
	t.Helper()
	l := testkit.FreePort(t).Listener()
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			end := context.AfterFunc(t.Context(), func() { c.Close() })
			all.Go(func() {
				defer end()
				defer c.Close()
				b := make([]byte, 64<<10)
				for {
					n, err := c.Read(b)
					if err != nil || answer(c, b[:n]) != nil {
						return
					}
				}
			})
		}
	})
	return l.Addr().String()
}

func always(s string) func(io.Writer, []byte) error {
	return func(w io.Writer, _ []byte) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func forever(s string) func(io.Writer, []byte) error {
	many := strings.Repeat(s, 1+1<<16/len(s))
	return func(w io.Writer, _ []byte) error {
		for {
			if _, err := io.WriteString(w, many); err != nil {
				return err
			}
		}
	}
}

// handshake answers as Redis does until a connection is made, and then by something
// else.
func handshake(then func(io.Writer, []byte) error) func(io.Writer, []byte) error {
	hello := "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:5\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
	info := "run_id:0123456789abcdef\r\nredis_mode:standalone\r\n"
	return func(w io.Writer, asked []byte) error {
		switch lower := bytes.ToLower(asked); {
		case bytes.Contains(lower, []byte("\r\nhello\r\n")):
			return always(hello)(w, asked)
		case bytes.Contains(lower, []byte("\r\ninfo\r\n")):
			return always(fmt.Sprintf("$%d\r\n%s\r\n", len(info), info))(w, asked)
		}
		return then(w, asked)
	}
}

func subscribed(then func(io.Writer, []byte) error) func(io.Writer, []byte) error {
	return handshake(func(w io.Writer, asked []byte) error {
		if bytes.Contains(asked, []byte("subscribe")) {
			if err := always("*3\r\n$9\r\nsubscribe\r\n$7\r\npostern\r\n:1\r\n")(w, asked); err != nil {
				return err
			}
			return then(w, asked)
		}
		return always(":1\r\n")(w, asked)
	})
}

// Whatever a server answers, nothing wrong comes of it, memory stays bounded, and each
// node goes on by itself.
func TestRubbishServer(t *testing.T) {
	t.Parallel()
	drip := func(w io.Writer, _ []byte) error {
		for {
			if _, err := io.WriteString(w, "$"); err != nil {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	noise := func(w io.Writer, _ []byte) error {
		b := make([]byte, 500)
		rand.Read(b)
		_, err := w.Write(b)
		return err
	}
	answers := map[string]func(io.Writer, []byte) error{
		"closes":         func(io.Writer, []byte) error { return io.EOF },
		"silence":        func(io.Writer, []byte) error { return nil },
		"drips":          drip,
		"noise":          noise,
		"http":           always("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
		"OK":             always("+OK\r\n"),
		"nil":            always("$-1\r\n"),
		"one":            always(":1\r\n"),
		"zero":           always(":0\r\n"),
		"empty array":    always("*0\r\n"),
		"error":          always("-ERR what?\r\n"),
		"loading":        always("-LOADING Redis is loading the dataset in memory\r\n"),
		"moved":          always("-MOVED 1 127.0.0.1:1\r\n"),
		"echo":           func(w io.Writer, asked []byte) error { _, err := w.Write(asked); return err },
		"huge string":    always("$536870912\r\n"),
		"huge array":     always("*2147483647\r\n"),
		"deep":           forever("*1\r\n"),
		"long line":      forever("+"),
		"many replies":   forever("+OK\r\n"),
		"endless string": forever("$1000\r\n"),
	}
	// The same after a connection was made properly, and to those who subscribed.
	for name, answer := range answers {
		if !strings.Contains(name, "after") {
			answers[name+" after a handshake"] = handshake(answer)
		}
	}
	for name, s := range map[string]string{
		"no elements": "*0\r\n", "a number": "*1\r\n:1\r\n", "a nil": "*3\r\n$-1\r\n$-1\r\n$-1\r\n", "no channel": "*1\r\n$7\r\nmessage\r\n",
		"numbers": "*3\r\n$7\r\nmessage\r\n:1\r\n:1\r\n", "an array": "*3\r\n$7\r\nmessage\r\n$7\r\npostern\r\n*1\r\n:1\r\n", "no count": "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n$1\r\nx\r\n",
	} {
		answers["message: "+name] = subscribed(always(s))
		answers["subscription: "+name] = handshake(always(s))
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := answering(t, answer)
			l := hasty()
			l.dial, l.io = 30*time.Millisecond, 30*time.Millisecond
			var all sync.WaitGroup
			defer all.Wait()
			for _, topology := range []Topology{Single, Sentinel, Sharded} {
				n := node(t, addr, l, func(o *Options) { o.Redis.Topology, o.Redis.Master = topology, "m" })
				all.Go(func() { alone(t, n) })
			}
		})
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.Sys > 1<<30 {
		t.Errorf("%d MiB in use", m.Sys>>20)
	}
}

// alone uses a node as one that has only itself: all that needs no other works, and
// costs so little that much of it can be done. It is done for a while, so that what
// happens in the background has a chance to do harm.
func alone(t *testing.T, n *Redis) {
	t.Helper()
	ctx := patient(t)
	here, end := n.Watch("topic")
	defer end()
	told, end := listenTo(n)
	defer end()
	start := time.Now()
	for i := 0; (i < 100 || time.Since(start) < 60*time.Millisecond) && !t.Failed(); i++ {
		k := key(i % 100)
		n.Set(ctx, k, []byte("v"), time.Hour)
		if v, ok := n.Get(ctx, k); ok {
			t.Errorf("got %q", v)
		}
		n.Invalidate(ctx, k)
		if told.of(k) != i/100+1 {
			t.Error("not told")
		}
		n.Take(k, i/100+1, time.Hour)
		if n.Take(k, i/100+1, time.Hour) {
			t.Error("the limit of this node does not hold")
		}
		if release, ok := n.Lease(ctx, k, time.Minute); ok {
			if _, again := n.Lease(ctx, k, time.Minute); again {
				t.Error("two leases on one node")
			}
			release()
		}
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		n.Wait(short, k)
		cancel()
		n.Wake("topic")
		if !woken(here) {
			t.Error("not woken")
		}
		n.WakeAll()
		if !woken(here) {
			t.Error("not woken by WakeAll")
		}
	}
	if ctx.Err() != nil {
		t.Error("it took too long")
	}
}

// A server that no longer answers costs next to nothing: many calls are done in the
// time that few would take if they waited for it.
func TestDeadServerCostsLittle(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t).addr())
	l := defaultLimits()
	l.check = time.Hour // so that calls alone find it out
	n := node(t, p.addr(), l)
	p.set(func() { p.delay = time.Hour })
	ctx := patient(t)
	for i := range 100_000 {
		n.Take(key(i%100), 1<<30, time.Hour)
		n.Get(ctx, "k")
	}
	if ctx.Err() != nil {
		t.Error("it took too long")
	}
	if n.Connected() {
		t.Error("connected with nobody")
	}
}

// With a password and by TLS; and with what is wrong of it, nothing but a log line and
// a metric, in which no password is.
func TestPasswordAndTLS(t *testing.T) {
	t.Parallel()
	const password, wrong = "CANARY right", "CANARY wrong"
	dir := t.TempDir()
	for name, s := range map[string]string{"right": password + "\r\n", "wrong": wrong} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := selfSigned(t, dir)
	port := testkit.FreePort(t)
	port.Release()
	s := startServer(t, "--requirepass", password, "--tls-port", fmt.Sprint(port.Number),
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	secure := fmt.Sprintf("localhost:%d", port.Number)

	var mu sync.Mutex
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	l := unhurried()
	l.dial = time.Second // of what is wrong, something waits for this long
	open := func(addr, file string, change ...func(*RedisOptions)) *Redis {
		return node(t, addr, l, func(o *Options) {
			o.Log, o.Redis.PasswordFile = logger, filepath.Join(dir, file)
			for _, c := range change {
				c(&o.Redis)
			}
		})
	}
	withTLS := func(o *RedisOptions) { o.TLS, o.CAFile = true, cert }
	a, b := open(s.addr(), "right"), open(secure, "right", withTLS)
	b.Set(t.Context(), "k", []byte("v"), time.Hour)
	if v, ok := a.Get(t.Context(), "k"); !ok || string(v) != "v" {
		t.Errorf("got %q, %v", v, ok)
	}
	c := open(s.addr(), "right", func(o *RedisOptions) { o.Username = "default" })
	if v, ok := c.Get(t.Context(), "k"); !ok || string(v) != "v" {
		t.Errorf("got %q, %v", v, ok)
	}
	for name, n := range map[string]*Redis{
		"wrong password":   open(s.addr(), "wrong"),
		"wrong user":       open(s.addr(), "right", func(o *RedisOptions) { o.Username = "nobody" }),
		"untrusted":        open(secure, "right", func(o *RedisOptions) { o.TLS = true }),
		"wrong host":       open(strings.Replace(secure, "localhost", "127.0.0.1", 1), "right", withTLS),
		"TLS to clear":     open(s.addr(), "right", withTLS),
		"clear to TLS":     open(secure, "right"),
		"another database": open(s.addr(), "right", func(o *RedisOptions) { o.DB = 99 }),
	} {
		if n.Connected() {
			t.Errorf("%s: connected", name)
		}
		alone(t, n)
	}
	other := open(s.addr(), "right", func(o *RedisOptions) { o.DB = 3 })
	if _, ok := other.Get(t.Context(), "k"); ok || !other.Connected() {
		t.Error("another database is the same")
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(log.String(), "WRONGPASS") {
		t.Errorf("the log does not say what is wrong: %s", log.String())
	}
	if strings.Contains(log.String(), "CANARY") {
		t.Errorf("the log shows the password: %s", log.String())
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(p)
}

func selfSigned(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// Metrics tell of errors and of whether Redis is up.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	n := node(t, s.addr(), hasty())
	value := func(name, label string) float64 {
		families, err := n.o.Metrics.Gatherer().Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.Metric {
				if f.GetName() == name && (label == "" || m.Label[0].GetValue() == label) {
					return m.GetGauge().GetValue() + m.GetCounter().GetValue()
				}
			}
		}
		t.Fatalf("no %s", name)
		return 0
	}
	eventually(t, "up", func() bool { return value("postern_cluster_up", "") == 1 })
	s.kill()
	eventually(t, "down", func() bool { return value("postern_cluster_up", "") == 0 })
	eventually(t, "counted", func() bool {
		return value("postern_cluster_errors_total", telemetry.ClusterListen) > 0 && value("postern_cluster_errors_total", telemetry.ClusterCheck) > 0
	})
	s.start()
	eventually(t, "up", func() bool { return value("postern_cluster_up", "") == 1 })
	s.do("CONFIG", "SET", "maxmemory", 1)
	n.local.Take("k", 5, time.Hour)
	eventually(t, "counted", func() bool {
		n.Take("k", 1<<30, time.Hour)
		return value("postern_cluster_errors_total", telemetry.ClusterTake) > 0
	})
	if value("postern_cluster_up", "") != 1 {
		t.Error("a Redis without memory to spare is not down")
	}
}

// The master goes, a replica takes over, and nothing old comes with it.
func TestSentinel(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	master := startServer(t, "--repl-diskless-sync-delay", "0")
	replica := startServer(t, "--replicaof", "127.0.0.1 "+fmt.Sprint(master.port))
	eventually(t, "replicating", func() bool {
		info, _ := replica.do("INFO", "replication").(string)
		return strings.Contains(info, "master_link_status:up")
	})
	sentinel := startSentinel(t, master)
	l := hasty()
	l.call, l.hold = time.Second, 100*time.Millisecond
	set := func(o *Options) {
		o.Redis.Topology, o.Redis.Master = Sentinel, "mymaster"
		// The first does not answer, so the second has to.
		o.Redis.Addrs = []string{"127.0.0.1:1", sentinel}
	}
	a, b := node(t, sentinel, l, set), node(t, sentinel, l, set)
	w := newTruth(t, a, b)
	w.inUse()
	a.Set(ctx, "k", []byte("old"), time.Hour)
	eventually(t, "replicated", func() bool { return replica.do("EXISTS", a.names.value(a.era.current(), "k")) == int64(1) })
	era := a.era.current()

	// What is invalidated now reaches the replica too late.
	replica.do("CLIENT", "PAUSE", 100, "ALL")
	a.Invalidate(ctx, "k")
	master.kill()
	eventually(t, "the replica took over", func() bool {
		info, _ := replica.do("INFO", "replication").(string)
		return strings.Contains(info, "role:master")
	})
	w.inUse()
	if a.era.current() == era || b.era.current() != a.era.current() {
		t.Error("the era goes on")
	}
	for _, c := range []Cluster{a, b} {
		if v, ok := c.Get(ctx, "k"); ok {
			t.Errorf("got %q", v)
		}
	}
	heard, end := listenTo(b)
	defer end()
	a.Invalidate(ctx, "after")
	eventually(t, "told", func() bool { return heard.of("after") > 0 })
}

// startSentinel starts a Sentinel that knows a master by the name mymaster, and waits
// until it knows its replica too.
func startSentinel(t *testing.T, master *server) string {
	t.Helper()
	port := testkit.FreePort(t)
	port.Release()
	dir := t.TempDir()
	conf := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor mymaster 127.0.0.1 %d 1\nsentinel down-after-milliseconds mymaster 300\nsentinel failover-timeout mymaster 2000\n", port.Number, dir, master.port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(master.path, conf, "--sentinel")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	eventually(t, "the Sentinel knows the replica", func() bool {
		c, err := net.Dial("tcp", port.Addr())
		if err != nil {
			return false
		}
		defer c.Close()
		fmt.Fprintf(c, "INFO sentinel\r\n")
		for r := bufio.NewScanner(c); r.Scan(); {
			if strings.HasPrefix(r.Text(), "master0:") {
				return strings.Contains(r.Text(), "slaves=1,")
			}
		}
		return false
	})
	return port.Addr()
}

// A connection to a server that the Sentinels no longer name is ended, although it
// works.
func TestSentinelNamesAnother(t *testing.T) {
	t.Parallel()
	ctx := patient(t)
	one, two := startServer(t), startServer(t)
	var mu sync.Mutex
	named := one
	sentinel := answering(t, handshake(func(w io.Writer, _ []byte) error {
		mu.Lock()
		defer mu.Unlock()
		port := fmt.Sprint(named.port)
		_, err := fmt.Fprintf(w, "*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n", len(port), port)
		return err
	}))
	l := hasty()
	l.call = time.Second
	n := node(t, sentinel, l, func(o *Options) { o.Redis.Topology, o.Redis.Master = Sentinel, "m" })
	w := newTruth(t, n)
	w.inUse()
	n.Set(ctx, "k", []byte("v"), time.Hour)
	mu.Lock()
	named = two
	mu.Unlock()
	eventually(t, "the other one is used", func() bool { return n.Take("k", 1<<30, time.Hour) && two.do("DBSIZE").(int64) > 0 })
	w.inUse()
	if v, ok := n.Get(ctx, "k"); ok {
		t.Errorf("got %q", v)
	}
}
