package server

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"postern/internal/telemetry"
)

// gate is a listener that bounds the connections that are open at once, over all and
// from one IPv4 address or one IPv6 /64. One too many is closed at once.
type gate struct {
	net.Listener
	name             string
	most, perNetwork int
	log              *slog.Logger

	mu    sync.Mutex
	open  int
	peers map[netip.Prefix]int
}

func newGate(l net.Listener, name string, most, perNetwork int, log *slog.Logger) *gate {
	return &gate{Listener: l, name: name, most: most, perNetwork: perNetwork, log: log, peers: make(map[netip.Prefix]int)}
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				g.log.Error("accept", telemetry.KeyListener, g.name, telemetry.KeyError, err)
			}
			return nil, err
		}
		peer := peerNetwork(c.RemoteAddr())
		if g.enter(peer) {
			return &gated{Conn: c, leave: sync.OnceFunc(func() { g.leave(peer) })}, nil
		}
		c.Close()
	}
}

func (g *gate) enter(peer netip.Prefix) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open >= g.most || g.peers[peer] >= g.perNetwork {
		return false
	}
	g.open++
	g.peers[peer]++
	return true
}

func (g *gate) leave(peer netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if g.peers[peer]--; g.peers[peer] <= 0 {
		delete(g.peers, peer)
	}
}

// gated is a connection that is counted.
type gated struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *gated) Close() error {
	c.leave()
	return c.Conn.Close()
}

// peerNetwork is what one client can have many addresses of.
func peerNetwork(a net.Addr) netip.Prefix {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{} // not TCP: all of them count as one
	}
	ip, bits := at.Addr().Unmap().WithZone(""), 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}
