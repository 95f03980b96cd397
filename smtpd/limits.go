package smtpd

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"postern/internal/mail"
	"postern/internal/telemetry"
)

// Limits bounds what one peer and all peers together may use. A zero field takes
// its default; a negative one switches the limit off. Loopback is a peer like any
// other unless it is in Exempt.
type Limits struct {
	// Connections is the number open at once, all peers together; default 1000.
	Connections int
	// ConnectionsPerIP is the number open at once from one IPv4 address or
	// one IPv6 /64; default 50.
	ConnectionsPerIP int
	// ConnectionRate is new connections per minute from one such peer; default 600.
	ConnectionRate int
	// MessageRate is transactions per minute from one such peer; default 3000.
	MessageRate int
	// MessagesPerConnection ends a connection after so many; default 1000.
	MessagesPerConnection int
	// Recipients is the number accepted in one transaction (RFC 5321 4.5.3.1.8
	// asks for at least 100); default 1000. It cannot be switched off.
	Recipients int
	// Errors is how many mistakes in the protocol a client may make between two
	// accepted messages; default 10.
	Errors int
	// RefusedRecipients is how many recipients a connection may try that are
	// refused for good; default 100.
	RefusedRecipients int
	// CommandTimeout is how long a command line may be waited for (RFC 5321
	// 4.5.3.2.7); default 5 minutes. Replies must be taken in the same time.
	CommandTimeout time.Duration
	// DataTimeout is the longest silence inside a message (RFC 5321
	// 4.5.3.2.5); default 3 minutes.
	DataTimeout time.Duration
	// DataTotal is the longest a message's content may take; default 1 hour.
	DataTotal time.Duration
	// DataRate is the lowest average rate of a message's content in octets per
	// second, counted from the second minute on; default 512.
	DataRate int
	// TLSTimeout is the longest a TLS handshake may take; default 30 seconds.
	TLSTimeout time.Duration
	// Exempt lists peers to which ConnectionsPerIP and the rates do not apply.
	Exempt []netip.Prefix
}

func (l Limits) withDefaults() Limits {
	orInt := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	orTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	orInt(&l.Connections, 1000)
	orInt(&l.ConnectionsPerIP, 50)
	orInt(&l.ConnectionRate, 600)
	orInt(&l.MessageRate, 3000)
	orInt(&l.MessagesPerConnection, 1000)
	if l.Recipients <= 0 {
		l.Recipients = 1000
	}
	orInt(&l.Errors, 10)
	orInt(&l.RefusedRecipients, 100)
	orTime(&l.CommandTimeout, 5*time.Minute)
	orTime(&l.DataTimeout, 3*time.Minute)
	orTime(&l.DataTotal, time.Hour)
	orInt(&l.DataRate, 512)
	orTime(&l.TLSTimeout, 30*time.Second)
	return l
}

// dataGrace is how long DataRate is not looked at.
const dataGrace = time.Minute

// dataDeadline is when the next octet of a message must be there at the latest,
// octets of it having come since start.
func (l *Limits) dataDeadline(start, now time.Time, octets int64) time.Time {
	d := noDeadline(now, l.DataTimeout)
	if l.DataTotal > 0 {
		d = earlier(d, start.Add(l.DataTotal))
	}
	if l.DataRate > 0 {
		paid := time.Duration(octets/int64(l.DataRate)) * time.Second
		d = earlier(d, start.Add(dataGrace+paid))
	}
	return d
}

// noDeadline returns now+d, or the zero time, which means none, for a negative d.
func noDeadline(now time.Time, d time.Duration) time.Time {
	if d < 0 {
		return time.Time{}
	}
	return now.Add(d)
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// over reports whether n goes beyond limit, where a negative limit is none.
func over(n, limit int) bool { return limit >= 0 && n > limit }

var (
	errBusy      = mail.Refuse(421, "4.7.0", "too many connections, try again later")
	errBusyPeer  = mail.Refuse(421, "4.7.0", "too many connections from your address, try again later")
	errConnRate  = mail.Refuse(421, "4.7.0", "connecting too often, try again later")
	errEarlyTalk = mail.Refuse(554, "5.5.1", "speaking before the greeting, RFC 5321 3.1")
)

// gate counts open connections.
type gate struct {
	mu    sync.Mutex
	total int
	perIP map[netip.Prefix]int
}

// enter counts one connection in; a key that is not valid counts for the total alone.
func (g *gate) enter(key netip.Prefix, l *Limits) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if over(g.total+1, l.Connections) {
		return errBusy
	}
	if key.IsValid() {
		if over(g.perIP[key]+1, l.ConnectionsPerIP) {
			return errBusyPeer
		}
		g.perIP[key]++
	}
	g.total++
	return nil
}

func (g *gate) leave(key netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if !key.IsValid() {
		return
	}
	if g.perIP[key]--; g.perIP[key] <= 0 {
		delete(g.perIP, key)
	}
}

// gateKey is what stands for a peer in the limits: its IPv4 address or its IPv6
// /64. It is not valid for exempt peers.
func (s *Server) gateKey(ip netip.Addr) netip.Prefix {
	if !ip.IsValid() {
		return netip.Prefix{}
	}
	for _, p := range s.Limits.Exempt {
		if p.Contains(ip) {
			return netip.Prefix{}
		}
	}
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // cannot fail: the bits fit the family
	return p
}

// enter counts a new connection against all limits.
func (s *Server) enter(ip netip.Addr) error {
	key := s.gateKey(ip)
	if err := s.gate.enter(key, &s.Limits); err != nil {
		return err
	}
	if !s.take("conn", key, s.Limits.ConnectionRate) {
		s.gate.leave(key)
		return errConnRate
	}
	return nil
}

// take counts one event of a peer in the cluster's counters.
func (s *Server) take(what string, key netip.Prefix, limit int) bool {
	if s.Cluster == nil || limit < 0 || !key.IsValid() {
		return true
	}
	return s.Cluster.Take("smtpd:"+what+":"+key.String(), limit, time.Minute)
}

// refuseConn answers a connection that does not get in.
func (s *serving) refuseConn(nc net.Conn, err error) {
	reason := telemetry.ReasonConnections
	if err == errConnRate {
		reason = telemetry.ReasonRate
	}
	s.Metrics.SMTPRejection(reason)
	s.Log.Warn("connection refused", telemetry.KeyReason, reason, telemetry.KeyIP, remoteIP(nc).String())
	if !s.implicit {
		// The socket's buffer is empty, so this does not wait for the peer.
		nc.SetWriteDeadline(time.Now().Add(time.Second))
		nc.Write(appendError(nil, mail.AsError(err), ""))
	}
	nc.Close()
}
