package deliver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"postern/internal/telemetry"
)

// extensions are what a server offers (RFC 5321 4.1.1.1).
type extensions struct {
	esmtp, startTLS, pipelining, chunking, eightBit, utf8, dsn, requireTLS bool

	size    int64 // the largest message in octets; -1 if SIZE is not offered, 0 if it says none
	rcptMax int   // recipients in a transaction
}

// session is a connection on which the server has greeted us. One goroutine uses it
// at a time.
type session struct {
	c     *Carrier
	host  string
	key   poolKey
	label string // Result.TLS
	raw   net.Conn
	conn  net.Conn // raw, or TLS over it
	br    *bufio.Reader
	bw    *bufio.Writer
	ext   extensions

	used   int  // transactions
	spent  bool // it is not to be used again, or nobody can say where it stands
	broken bool // it is useless even to say goodbye
	unbind func() bool
	expire *time.Timer
}

// writeBuffer holds a small message, sealed and signed, so that it leaves by one write.
const writeBuffer = 8 << 10

var errInjected = errors.New("the server sent more in clear behind its reply to STARTTLS")

// connect brings a host to where a transaction may begin: what the plan asks for is
// proven then. An opportunistic plan is tried in clear if TLS does not work.
func (d *delivery) connect(h hop, a netip.Addr, p plan) (*session, *failure) {
	s, f := d.open(h, a, p, true)
	if f != nil && errors.Is(f, errNoTLS) && p.need == needNothing && !d.verified() {
		d.Log.Info("TLS does not work with a mail server that offers it", telemetry.KeyDomain, h.host, telemetry.KeyError, f.cause)
		return d.open(h, a, p, false)
	}
	if f != nil && p.need == needPKIX && errors.Is(f, errNoTLS) {
		d.mismatch = true
	}
	return s, f
}

// errNoTLS is why a connection in clear may be tried, if it may be at all.
var errNoTLS = errors.New("no TLS")

// open dials, greets, and starts TLS if the plan needs it, or if it is offered and
// wanted.
func (d *delivery) open(h hop, a netip.Addr, p plan, wanted bool) (*session, *failure) {
	raw, f := d.dial(h, a)
	if f != nil {
		return nil, f
	}
	s := &session{
		c: d.Carrier, host: h.host, key: p.key, label: "none", raw: raw, conn: raw,
		br: bufio.NewReaderSize(raw, maxReplyLine), bw: bufio.NewWriterSize(raw, writeBuffer),
	}
	if !s.bind(d.ctx) {
		s.drop()
		return nil, later("4.4.7", "the time for this attempt is over")
	}
	if f := s.greet(p.need == needNothing); f != nil {
		s.end()
		return nil, f.at(s)
	}
	if f := d.secure(s, p, wanted); f != nil {
		d.own = d.own || d.verified()
		s.end()
		return nil, f.at(s)
	}
	return s, nil
}

// secure starts TLS. Nothing is ever said over a connection that needs it and did not
// get it.
func (d *delivery) secure(s *session, p plan, wanted bool) *failure {
	if !s.ext.startTLS && p.need != needNothing {
		return later("4.7.5", "mail server %s does not offer TLS, but has to", s.host).because(errNoTLS)
	}
	if s.ext.startTLS && (wanted || p.need != needNothing) {
		return s.startTLS(d.ctx, d.config(p), p)
	}
	return nil
}

// bind lets the end of ctx cut the connection. It says whether ctx still lasts.
func (s *session) bind(ctx context.Context) bool {
	s.release()
	s.unbind = context.AfterFunc(ctx, func() { _ = s.raw.Close() })
	return ctx.Err() == nil
}

// release undoes bind. It says whether the connection is still there.
func (s *session) release() bool {
	if s.unbind == nil {
		return true
	}
	there := s.unbind()
	s.unbind = nil
	return there
}

// greet reads the greeting and says EHLO; HELO to old servers, if that is enough.
func (s *session) greet(mayBeOld bool) *failure {
	s.within(s.c.Timeouts.Greeting)
	r, err := readReply(s.br)
	if err != nil {
		return s.lost("greet us", err)
	}
	if r.code != 220 {
		return s.unwelcome(r)
	}
	return s.hello(mayBeOld)
}

// hello says EHLO and reads what is offered.
func (s *session) hello(mayBeOld bool) *failure {
	r, err := s.command("EHLO " + s.c.Hostname)
	if err == nil && r.code/100 == 5 && mayBeOld {
		r, err = s.command("HELO " + s.c.Hostname)
		r.lines = r.lines[:min(len(r.lines), 1)] // no extensions
	}
	if err != nil {
		return s.lost("answer EHLO", err)
	}
	if !r.good() {
		return s.unwelcome(r)
	}
	name, _, _ := strings.Cut(r.lines[0], " ")
	if strings.EqualFold(strings.TrimSuffix(name, "."), s.c.Hostname) {
		f := never("5.4.6", "mail for the domain loops back to this server, which does not serve it").last()
		if s.conn == s.raw && !mayBeOld { // nobody has proven yet to be the host
			f.Status, f.Code, f.Enhanced, f.final = Retry, 451, "4.4.6", false
		}
		return f
	}
	s.ext = parseExtensions(r.lines[1:])
	return nil
}

// unwelcome is a server that does not want to talk to us: another one may.
func (s *session) unwelcome(r reply) *failure {
	f := &failure{Result: r.result()}
	f.Status = Retry
	return f
}

// parseExtensions reads the lines of a reply to EHLO, in whatever case they are.
func parseExtensions(lines []string) extensions {
	e := extensions{size: -1, rcptMax: maxRcpts}
	for _, line := range lines {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		e.esmtp = true
		switch strings.ToUpper(words[0]) {
		case "STARTTLS":
			e.startTLS = true
		case "PIPELINING":
			e.pipelining = true
		case "CHUNKING":
			e.chunking = true
		case "8BITMIME":
			e.eightBit = true
		case "SMTPUTF8":
			e.utf8 = true
		case "DSN":
			e.dsn = true
		case "REQUIRETLS":
			e.requireTLS = true
		case "SIZE":
			e.size = 0
			if len(words) > 1 {
				if n, err := strconv.ParseInt(words[1], 10, 64); err == nil && n > 0 {
					e.size = n
				}
			}
		case "LIMITS":
			e.limits(words[1:])
		}
	}
	return e
}

// limits reads RCPTMAX (RFC 9422).
func (e *extensions) limits(words []string) {
	for _, w := range words {
		if key, value, _ := strings.Cut(w, "="); strings.EqualFold(key, "RCPTMAX") {
			if n, err := strconv.Atoi(value); err == nil && n > 0 {
				e.rcptMax = min(n, maxRcpts)
			}
		}
	}
}

// startTLS goes over to TLS and asks again what is offered. What was said in clear is
// forgotten (RFC 3207 4.2).
func (s *session) startTLS(ctx context.Context, config *tls.Config, p plan) *failure {
	r, err := s.command("STARTTLS")
	if err != nil {
		return s.lost("answer STARTTLS", err).because(fmt.Errorf("%w: %w", errNoTLS, err))
	}
	if r.code != 220 {
		return later("4.7.5", "mail server %s offers TLS but does not start it", s.host).because(errNoTLS)
	}
	if s.br.Buffered() > 0 {
		s.broken = true
		return later("4.7.5", "mail server %s mixes clear text into the start of TLS", s.host).because(errInjected)
	}
	s.within(s.c.Timeouts.TLS)
	conn := tls.Client(s.raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		s.broken = true
		return handshakeFailure(p, s.host, fmt.Errorf("%w: %w", errNoTLS, err))
	}
	s.conn, s.label = conn, p.label(conn.ConnectionState())
	s.br.Reset(conn)
	s.bw.Reset(conn)
	return s.hello(false)
}

// within sets the time for what comes next.
func (s *session) within(d time.Duration) { _ = s.raw.SetDeadline(time.Now().Add(d)) }

// command sends one command and reads its reply.
func (s *session) command(line string) (reply, error) {
	s.within(s.c.Timeouts.Command)
	s.write(line)
	if err := s.bw.Flush(); err != nil {
		return reply{}, err
	}
	return readReply(s.br)
}

// write puts a command into the buffer; an error comes with Flush.
func (s *session) write(line string) {
	_, _ = s.bw.WriteString(line)
	_, _ = s.bw.WriteString("\r\n")
}

// lost is a connection of which nobody knows any more where it stands.
func (s *session) lost(what string, err error) *failure {
	s.spent, s.broken = true, true
	var timeout net.Error
	switch {
	case errors.Is(err, errReply):
		return later("4.5.0", "mail server %s did not %s by a reply of SMTP", s.host, what).because(err)
	case errors.As(err, &timeout) && timeout.Timeout():
		return later("4.4.2", "mail server %s did not %s in time", s.host, what).because(err)
	}
	return later("4.4.2", "mail server %s closed the connection instead of letting us go on; it did not %s", s.host, what).because(err)
}

// end says goodbye and closes the connection.
func (s *session) end() {
	if s.release() && !s.broken {
		s.within(s.c.Timeouts.Quit)
		s.write("QUIT")
		if s.bw.Flush() == nil {
			_, _ = readReply(s.br)
		}
	}
	_ = s.raw.Close()
}

// drop closes the connection without a word.
func (s *session) drop() {
	s.release()
	_ = s.raw.Close()
}

// keep lets the connection be used again, if it may be.
func (c *Carrier) keep(s *session) {
	if s.spent || s.broken || s.used >= c.MaxMessages || s.br.Buffered() > 0 || !s.release() || !c.pool.put(s) {
		s.end()
	}
}
