package e2e

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"testing"
)

// tap stands between clients and a TLS port of a gateway, with the gateway's own
// certificate, and keeps what goes through.
type tap struct {
	t     testing.TB
	l     net.Listener
	conns sync.WaitGroup
	mu    sync.Mutex
	up    []*bytes.Buffer // by connection, from the client
	down  []*bytes.Buffer // to the client
}

// tap starts one before a port.
func (g *gateway) tap(t testing.TB, port int) *tap {
	t.Helper()
	return g.tapped(t, port, g.tlsConfig())
}

// tap starts one before a port.
func (m *member) tap(t testing.TB, port int) *tap {
	t.Helper()
	return m.tapped(t, port, m.trust())
}

func (g *gateway) tapped(t testing.TB, port int, trust *tls.Config) *tap {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(g.tlsCert(), g.path("tls", "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{t: t, l: l}
	server := g.at(port)
	p.conns.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.conns.Go(func() { p.carry(client, server, trust) })
		}
	})
	t.Cleanup(func() { l.Close() }) // the connections end with the gateway's, or the client's
	return p
}

func (p *tap) port() int { return p.l.Addr().(*net.TCPAddr).Port }

// carry is one connection.
func (p *tap) carry(client net.Conn, server string, trust *tls.Config) {
	defer client.Close()
	to, err := tls.Dial("tcp", server, trust)
	if err != nil {
		return // the client sees its connection closed
	}
	defer to.Close()
	up, down := &bytes.Buffer{}, &bytes.Buffer{}
	p.mu.Lock()
	p.up, p.down = append(p.up, up), append(p.down, down)
	p.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range []struct {
		dst, src net.Conn
		kept     *bytes.Buffer
	}{{to, client, up}, {client, to, down}} {
		both.Go(func() {
			_, _ = io.Copy(way.dst, io.TeeReader(way.src, &lockedBuffer{&p.mu, way.kept}))
			way.dst.Close()
		})
	}
	both.Wait()
}

type lockedBuffer struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// heard says whether a client was sent these octets.
func (p *tap) heard(octets []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.down {
		if bytes.Contains(b.Bytes(), octets) {
			return true
		}
	}
	return false
}

// submitted returns the messages that clients sent by DATA.
func (p *tap) submitted() (all [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.up {
		var message []byte
		inData := false
		for line := range bytes.Lines(b.Bytes()) {
			switch {
			case !inData:
				inData = bytes.EqualFold(line, []byte("DATA\r\n"))
			case string(line) == ".\r\n":
				all = append(all, message)
				message, inData = nil, false
			default:
				message = append(message, bytes.TrimPrefix(line, []byte("."))...)
			}
		}
	}
	return all
}
