package keydir

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"postern/internal/cluster"
	"postern/internal/mail"
	"postern/internal/testkit"
)

// redisServer is a real one that can be killed and started again.
type redisServer struct {
	t    *testing.T
	port string
	cmd  *exec.Cmd
}

func (r *redisServer) start() {
	r.t.Helper()
	r.cmd = exec.Command(testkit.Parts(r.t, "redis-server")["redis-server"], "--port", r.port, "--bind", "127.0.0.1", "--save", "", "--dir", r.t.TempDir())
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "redis-server listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+r.port)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (r *redisServer) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not yet: %s", what)
		}
	}
}

// TestTwoNodesOnRedis: two directories with stores of their own, one Redis, which goes
// away and comes back.
func TestTwoNodesOnRedis(t *testing.T) {
	t.Parallel()
	port := testkit.FreePort(t)
	redis := &redisServer{t: t, port: strconv.Itoa(port.Number)}
	port.Release()
	redis.start()
	t.Cleanup(func() { redis.kill() })

	var nodes [2]*fixture
	for i := range nodes {
		c, err := cluster.Open(t.Context(), cluster.Options{Driver: cluster.DriverRedis, Secret: []byte("secret"),
			Redis: cluster.RedisOptions{Addrs: []string{"127.0.0.1:" + redis.port}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		nodes[i] = newDirectory(t, func(o *Options) {
			o.Shared = c
			if i == 1 {
				o.Sources = nodes[0].Sources // so that questions are counted together
			}
		})
		c.OnInvalidate(nodes[i].Invalidated)
		eventually(t, "the node is connected", c.Connected)
	}
	one, two := nodes[0], nodes[1]
	c := key(t, "bob@there.test").Certificate()
	asked := 0
	// ask lets both nodes look up an address that nobody knows yet, at the same time,
	// and returns how often the source was asked.
	ask := func() (mail.Address, int) {
		t.Helper()
		asked++
		a := mail.Address{Local: fmt.Sprint("bob", asked), Domain: "there.test"}
		one.wkd.has(a.Key(), key(t, a.Key()).Certificate())
		before := one.wkd.count()
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				if got := nodes[i%2].Lookup(context.WithoutCancel(t.Context()), a); got.Kind != mail.Found {
					t.Errorf("%v: %s", got.Kind, got.Reason)
				}
			})
		}
		all.Wait()
		n := one.wkd.count() - before
		if n > 2 {
			t.Errorf("asked %d times, more than once by each node", n)
		}
		return a, n
	}
	together := func(what string) mail.Address {
		t.Helper()
		var a mail.Address
		eventually(t, what, func() bool { // a busy machine may make Redis too slow once
			next, n := ask()
			a = next
			return n == 1
		})
		return a
	}

	a := together("one look-up serves both")
	// What a person decides on one node, the other forgets what it had in memory of.
	two.Lookup(t.Context(), a)
	if _, ok := two.fromMemory(a.Key()); !ok {
		t.Fatal("not in memory")
	}
	if err := one.Pin(t.Context(), a, c); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other node forgets", func() bool { _, ok := two.fromMemory(a.Key()); return !ok })

	redis.kill()
	for range 3 {
		ask()
	}
	redis.start()
	eventually(t, "the node is connected again", one.Shared.(cluster.Cluster).Connected)
	ask() // the cache holds off for a while
}
