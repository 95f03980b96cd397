package imapd

import (
	"net"
	"net/netip"
	"time"

	"postern/internal/store"
	"postern/internal/telemetry"
)

// network is what counts as one peer: an IPv4 address or an IPv6 /64.
func network(addr net.Addr) (ip, counted netip.Addr) {
	a, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.Addr{}, netip.Addr{}
	}
	ip = a.Addr().Unmap().WithZone("")
	counted = ip
	if ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			counted = p.Addr()
		}
	}
	return ip, counted
}

// admit decides over a new connection and starts it. It never waits for the peer.
func (r *run) admit(conn net.Conn) {
	ip, counted := network(conn.RemoteAddr())
	if !r.s.enter(counted) {
		if r.implicit == nil {
			_ = conn.SetWriteDeadline(time.Now().Add(time.Second)) // goes into the socket's buffer
			_, _ = conn.Write([]byte("* BYE [UNAVAILABLE] Too many connections\r\n"))
		}
		_ = conn.Close()
		return
	}
	leave := func() { r.s.leave(counted) }
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopping {
		leave()
		_ = conn.Close()
		return
	}
	r.pending[conn] = struct{}{}
	r.conns.Go(func() { r.begin(conn, ip, leave) })
}

// begin brings a connection to where the engine can have it.
func (r *run) begin(conn net.Conn, ip netip.Addr, leave func()) {
	ready := conn
	if r.implicit != nil {
		t, err := handshake(r.ctx, conn, r.implicit, r.s.o.Limits.Handshake)
		if err != nil {
			r.s.log.Debug("imap TLS handshake", telemetry.KeyIP, ip, telemetry.KeyError, err)
			r.forget(conn)
			_ = conn.Close()
			leave()
			return
		}
		ready = t
	}
	g := newGuard(ready, ip, r.s.o.Limits, r.s.o.Metrics)
	e := &r.secure
	if r.implicit == nil {
		e = &r.clear
		if r.s.o.TLS != nil {
			g.startTLS = func(g *guard) error { return r.upgrade(g, conn, leave) }
		}
	}
	r.forget(conn)
	r.start(g, e, leave)
}

// upgrade speaks TLS on a connection that had begun in clear, and starts it anew: no
// state is left of what was said before (RFC 9051 6.2.1).
func (r *run) upgrade(old *guard, conn net.Conn, leave func()) error {
	t, err := handshake(r.ctx, conn, r.s.o.TLS, r.s.o.Limits.Handshake)
	if err != nil {
		return err
	}
	g := newGuard(t, old.ip, r.s.o.Limits, old.metrics)
	g.login = old.login
	g.mute = true
	r.forgetGuard(old)
	old.onClose = nil
	r.start(g, &r.secure, leave)
	r.conns.Done() // the old one's, which will not be closed
	return nil
}

// start hands a connection to an engine.
func (r *run) start(g *guard, e *engine, leave func()) {
	r.conns.Add(1)
	g.onClose = func() {
		r.forgetGuard(g)
		leave()
		r.conns.Done()
	}
	r.mu.Lock()
	r.guards[g] = struct{}{}
	stopping := r.stopping
	r.mu.Unlock()
	if stopping {
		g.dismiss(farewellText)
	}
	select {
	case e.feed.conns <- g:
	case <-e.feed.done:
		_ = g.Close()
	}
}

func (r *run) forget(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, conn)
}

func (r *run) forgetGuard(g *guard) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.guards, g)
}

const farewellText = "Server is shutting down"

// drain ends all connections: each after its command, all after the grace.
func (r *run) drain() {
	r.mu.Lock()
	r.stopping = true
	for conn := range r.pending {
		_ = conn.Close()
	}
	for g := range r.guards {
		g.dismiss(farewellText)
	}
	r.mu.Unlock()

	grace := time.AfterFunc(r.s.o.Limits.Grace, func() {
		r.cancel()
		r.mu.Lock()
		defer r.mu.Unlock()
		for g := range r.guards {
			g.abandon()
		}
	})
	r.conns.Wait()
	grace.Stop()
	r.cancel()
	_ = r.clear.feed.Close()
	_ = r.secure.feed.Close()
	r.engines.Wait()
}

// enter counts a connection, unless there are too many.
func (s *Server) enter(peer netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.o.Limits.Connections || s.byIP[peer] >= s.o.Limits.PerIP {
		return false
	}
	s.total++
	s.o.Metrics.IMAPConnection(1)
	s.byIP[peer]++
	return true
}

func (s *Server) leave(peer netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	s.o.Metrics.IMAPConnection(-1)
	if s.byIP[peer]--; s.byIP[peer] <= 0 {
		delete(s.byIP, peer)
	}
}

// enterAccount counts a login, unless the account has too many.
func (s *Server) enterAccount(id store.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[id] >= s.o.Limits.PerAccount {
		return false
	}
	s.accounts[id]++
	return true
}

func (s *Server) leaveAccount(id store.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts[id]--; s.accounts[id] <= 0 {
		delete(s.accounts, id)
	}
}
