package testkit

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// MTA is a mail server that a test can turn hostile at any stage. It keeps all that it
// gets, what came in clear apart from what came over TLS.
type MTA struct {
	// Offer are the keywords of EHLO; STARTTLS is offered too if TLS is set. After
	// STARTTLS, OfferTLS is offered, or Offer if that is nil.
	Offer, OfferTLS []string
	// Name is what the server calls itself; empty is "mx.example.net".
	Name string
	// TLS is used for STARTTLS; nil knows no such command.
	TLS *tls.Config
	// Stage lets the test step in at "connect", "EHLO", "HELO", "STARTTLS", "MAIL",
	// "RCPT", "DATA", "BDAT", "content" (behind 354), "end" (behind the last octet),
	// "RSET" and "QUIT". It returns true if it has answered in place of the server.
	// Nil is a server that takes everything.
	Stage func(c *MTAConn, stage, line string) (answered bool)

	l  net.Listener
	wg sync.WaitGroup

	mu       sync.Mutex
	conns    map[net.Conn]bool
	closed   bool
	accepted int
	clear    bytes.Buffer
	secret   bytes.Buffer
	messages []MTAMessage
}

// MTAMessage is a message that the server took over.
type MTAMessage struct {
	Mail    string   // the whole command
	Rcpts   []string // the whole commands
	Content string   // dots unstuffed
	TLS     bool
}

// MTAConn is one connection to an MTA.
type MTAConn struct {
	*MTA
	net.Conn
	Secure bool

	r     *bufio.Reader
	mail  string
	rcpts []string
}

// StartMTA serves m on address, "127.0.0.1:0" for instance, until the test ends.
func StartMTA(t testing.TB, address string, m *MTA) *MTA {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal("listen: ", err)
	}
	return m.Serve(t, l)
}

// Serve is StartMTA with a listener that is there already.
func (m *MTA) Serve(t testing.TB, l net.Listener) *MTA {
	if m.Name == "" {
		m.Name = "mx.example.net"
	}
	m.l, m.conns = l, map[net.Conn]bool{}
	m.wg.Go(m.accept)
	t.Cleanup(func() {
		m.mu.Lock()
		m.closed = true
		for c := range m.conns {
			c.Close()
		}
		m.mu.Unlock()
		l.Close()
		m.wg.Wait()
	})
	return m
}

// Addr is where the server listens.
func (m *MTA) Addr() *net.TCPAddr { return m.l.Addr().(*net.TCPAddr) }

func (m *MTA) accept() {
	for {
		nc, err := m.l.Accept()
		if err != nil {
			return
		}
		m.mu.Lock()
		m.accepted++
		m.conns[nc] = true
		if m.closed {
			nc.Close()
		}
		m.mu.Unlock()
		m.wg.Go(func() {
			defer func() {
				nc.Close()
				m.mu.Lock()
				delete(m.conns, nc)
				m.mu.Unlock()
			}()
			c := &MTAConn{MTA: m, Conn: nc}
			c.r = bufio.NewReader(io.TeeReader(nc, writer(func(p []byte) { m.clear.Write(p) }, &m.mu)))
			c.serve()
		})
	}
}

// writer makes an io.Writer of f under a lock.
func writer(f func([]byte), mu *sync.Mutex) io.Writer { return lockedWriter{f, mu} }

type lockedWriter struct {
	f  func([]byte)
	mu *sync.Mutex
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.f(p)
	return len(p), nil
}

// Connections is how many there were.
func (m *MTA) Connections() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.accepted
}

// Clear is every octet that came before TLS, or without it.
func (m *MTA) Clear() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.clear.String()
}

// Secret is every octet that came within TLS.
func (m *MTA) Secret() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.secret.String()
}

// Messages are those that were taken over.
func (m *MTA) Messages() []MTAMessage {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]MTAMessage(nil), m.messages...)
}

// Say writes to the client as it is.
func (c *MTAConn) Say(format string, args ...any) { _, _ = fmt.Fprintf(c.Conn, format, args...) }

// Hang reads until the client gives up, and says nothing.
func (c *MTAConn) Hang() { _, _ = io.Copy(io.Discard, c.r) }

// ask lets the test step in; otherwise it says what a good server would.
func (c *MTAConn) ask(stage, line, good string) (proceed bool) {
	if c.Stage != nil && c.Stage(c, stage, line) {
		return false
	}
	c.Say("%s", good)
	return true
}

func (c *MTAConn) serve() {
	c.ask("connect", "", "220 "+c.Name+" ESMTP\r\n")
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, arg, _ := strings.Cut(line, " ")
		switch verb = strings.ToUpper(verb); verb {
		case "EHLO", "HELO":
			c.ask(verb, line, c.offers(verb))
		case "STARTTLS":
			if c.TLS == nil {
				c.Say("502 5.5.1 no\r\n")
			} else if c.ask(verb, line, "220 go\r\n") && !c.StartTLS() {
				return
			}
		case "MAIL":
			if c.ask(verb, line, "250 2.1.0 ok\r\n") {
				c.mail, c.rcpts = line, nil
			}
		case "RCPT":
			if c.ask(verb, line, "250 2.1.5 ok\r\n") {
				c.rcpts = append(c.rcpts, line)
			}
		case "DATA":
			if len(c.rcpts) == 0 {
				c.Say("554 5.5.1 no valid recipients\r\n")
			} else if c.ask(verb, line, "354 go\r\n") && !c.data() {
				return
			}
		case "BDAT":
			if !c.chunks(line, arg) {
				return
			}
		case "QUIT":
			c.ask(verb, line, "221 2.0.0 bye\r\n")
			return
		default:
			c.ask(verb, line, "250 2.0.0 ok\r\n")
		}
	}
}

func (c *MTAConn) offers(verb string) string {
	if verb == "HELO" {
		return "250 " + c.Name + "\r\n"
	}
	lines := append([]string{c.Name}, c.Offer...)
	switch {
	case c.Secure && c.OfferTLS != nil:
		lines = append([]string{c.Name}, c.OfferTLS...)
	case !c.Secure && c.TLS != nil:
		lines = append(lines, "STARTTLS")
	}
	var b strings.Builder
	for i, line := range lines {
		more := "-"
		if i == len(lines)-1 {
			more = " "
		}
		b.WriteString("250" + more + line + "\r\n")
	}
	return b.String()
}

// StartTLS goes over to TLS, and says whether that worked.
func (c *MTAConn) StartTLS() bool {
	conn := tls.Server(c.Conn, c.TLS)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	// What the client sends by now is still counted as in clear.
	if c.r.Buffered() > 0 || conn.Handshake() != nil {
		return false
	}
	_ = conn.SetDeadline(time.Time{})
	c.Conn, c.Secure, c.mail, c.rcpts = conn, true, "", nil
	c.r = bufio.NewReader(io.TeeReader(conn, writer(func(p []byte) { c.secret.Write(p) }, &c.mu)))
	return true
}

// data takes the content of DATA.
func (c *MTAConn) data() bool {
	if c.Stage != nil && c.Stage(c, "content", "") {
		return true
	}
	var content strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		content.WriteString(strings.TrimPrefix(line, "."))
	}
	c.take(content.String())
	return true
}

// chunks takes a message by BDAT.
func (c *MTAConn) chunks(line, arg string) bool {
	var content strings.Builder
	for {
		number, last, _ := strings.Cut(arg, " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return false
		}
		if _, err := io.CopyN(&content, c.r, n); err != nil {
			return false
		}
		if strings.EqualFold(last, "LAST") {
			c.take(content.String())
			return true
		}
		c.ask("BDAT", line, "250 2.0.0 more\r\n")
		if line, err = c.r.ReadString('\n'); err != nil {
			return false
		}
		line = strings.TrimRight(line, "\r\n")
		var ok bool
		if arg, ok = strings.CutPrefix(line, "BDAT "); !ok {
			return false
		}
	}
}

func (c *MTAConn) take(content string) {
	if c.Stage != nil && c.Stage(c, "end", "") {
		return
	}
	c.mu.Lock()
	c.messages = append(c.messages, MTAMessage{c.mail, c.rcpts, content, c.Secure})
	c.mu.Unlock()
	c.mail, c.rcpts = "", nil
	c.Say("250 2.0.0 taken\r\n")
}
