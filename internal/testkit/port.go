package testkit

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// Port is a free TCP port on loopback that nobody else gets, because this process
// listens on it until it is handed over.
type Port struct {
	// Number is the port's number.
	Number int
	l      net.Listener
}

// FreePort returns a free port of 127.0.0.1. It is freed when the test ends.
func FreePort(t testing.TB) *Port {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal("listen on loopback: ", err)
	}
	t.Cleanup(func() { l.Close() })
	return &Port{Number: l.Addr().(*net.TCPAddr).Port, l: l}
}

// FreePorts returns n different free ports.
func FreePorts(t testing.TB, n int) []*Port {
	t.Helper()
	ports := make([]*Port, n)
	for i := range ports {
		ports[i] = FreePort(t)
	}
	return ports
}

// Addr returns "127.0.0.1:port".
func (p *Port) Addr() string { return address(p.Number) }

// Listener hands the port over to a server in this process.
func (p *Port) Listener() net.Listener { return p.l }

// Release frees the port for another process that is told its number and about to
// listen on it. The system does not soon give a port twice, but it may.
func (p *Port) Release() { p.l.Close() }

// FreeBase returns a number such that the ports at all the offsets from it are free
// on loopback, and keeps them until release is called or the test ends. It is for
// programs that are told one number and derive their ports from it.
func FreeBase(t testing.TB, offsets ...int) (base int, release func()) {
	t.Helper()
	for range 200 {
		// Below the ports that the system gives to connections of its own choice.
		base := 10_000 + 100*rand.IntN(200)
		if release, ok := keep(base, offsets); ok {
			t.Cleanup(release)
			return base, release
		}
	}
	t.Fatal("no free ports on loopback at offsets ", offsets)
	return 0, nil
}

func keep(base int, offsets []int) (release func(), ok bool) {
	var kept []net.Listener
	release = func() {
		for _, l := range kept {
			l.Close()
		}
	}
	for _, o := range offsets {
		l, err := net.Listen("tcp4", address(base+o))
		if err != nil {
			release()
			return nil, false
		}
		kept = append(kept, l)
	}
	return release, true
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
