package smtpd

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
)

// scriptConn is a connection whose client has said everything already.
type scriptConn struct {
	in  *strings.Reader
	out io.Writer
	cut int // octets per read, 0 is no limit
}

func (s *scriptConn) Read(p []byte) (int, error) {
	if s.cut > 0 {
		p = p[:min(len(p), s.cut)]
	}
	return s.in.Read(p)
}
func (s *scriptConn) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *scriptConn) Close() error                     { return nil }
func (s *scriptConn) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (s *scriptConn) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (s *scriptConn) SetDeadline(time.Time) error      { return nil }
func (s *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (s *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// pipeConn returns a connection that serves input and writes to out.
func pipeConn(t testing.TB, out io.Writer, input string) *conn {
	t.Helper()
	return sessionConn(newFake(), &scriptConn{in: strings.NewReader(input), out: out})
}

func sessionConn(f *fake, nc net.Conn) *conn {
	s := New(Options{Acceptor: f, Hostname: "mx.example.org", MaxSize: 10_000, NewID: func() string { return "id" }})
	v := &serving{Server: s, ctx: context.Background(), open: map[net.Conn]struct{}{}}
	return newConn(v, nc, netip.Addr{})
}

// FuzzSession gives arbitrary octets to a server. Whatever they are: no panic, every
// reply is well-formed, and what is accepted is what an honest client would have
// sent: ended by CRLF.CRLF, without a bare CR or LF or NUL.
func FuzzSession(f *testing.F) {
	hello := "EHLO c\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n"
	for _, s := range []string{
		hello + "DATA\r\nx\r\n.\r\nQUIT\r\n",
		hello + "DATA\r\nx\n.\nMAIL FROM:<evil@example.net>\r\n",
		hello + "DATA\r\nx\r\r\n.\r\n",
		hello + "DATA\r\n..x\r\n.\r\n" + hello[8:] + "DATA\r\n.\r\n",
		hello + "BDAT 3\r\nx\r\nBDAT 0 LAST\r\n",
		hello + "BDAT 3\r\nx\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\n",
		hello + "BDAT 99999 LAST\r\nx",
		"MAIL FROM:<\"a>b\"@example.net> SIZE=10 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<@a,@b:c@d>\r\n",
		"HELO [::1]\r\nVRFY x\r\nEXPN y\r\nHELP\r\nNOOP\r\nAUTH PLAIN\r\nSTARTTLS\r\nGET / HTTP/1.1\r\n",
		"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<early@x.org>\r\nDATA\r\n" + strings.Repeat("x\r\n", 50) + ".\r\n",
		"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<nobody@x.org>\r\nRCPT TO:<PostMaster>\r\nDATA\r\n.x\r\n.\r\n",
	} {
		f.Add(s, uint8(0))
		f.Add(s, uint8(7))
	}
	reply := regexp.MustCompile(`^(\d{3}[ -][ -~]*\r\n)*$`)
	f.Fuzz(func(t *testing.T, input string, cut uint8) {
		if strings.Contains(strings.ToLower(input), "panic") {
			t.Skip() // the fake's own
		}
		fake := newFake()
		close(fake.hold)
		var out bytes.Buffer
		c := sessionConn(fake, &scriptConn{in: strings.NewReader(input), out: &out, cut: int(cut)})
		c.serve()
		if !reply.Match(out.Bytes()) {
			t.Fatalf("replies %q", out.String())
		}
		all := fake.all()
		if n := strings.Count(out.String(), "250 2.0.0 stored as "); n != len(all) {
			t.Fatalf("%d accepted, %d told so", len(all), n)
		}
		for _, m := range all {
			checkAccepted(t, input, m)
		}
	})
}

func checkAccepted(t *testing.T, input string, m stored) {
	t.Helper()
	bare := strings.ReplaceAll(m.body, "\r\n", "")
	if strings.ContainsAny(bare, "\r\n\x00") {
		t.Fatalf("accepted %q", m.body)
	}
	if strings.Contains(strings.ToUpper(input), "BDAT") {
		return
	}
	if m.body != "" && !strings.HasSuffix(m.body, "\r\n") || !containsMessage(input, m.body) {
		t.Fatalf("accepted %q, which was not sent", m.body)
	}
}

// containsMessage looks for the content of a DATA in input that undoes to body. A
// client may stuff more lines than it must, so every start is tried.
func containsMessage(input, body string) bool {
	for i := 0; i+len("DATA") <= len(input); i++ {
		if !strings.EqualFold(input[i:i+len("DATA")], "DATA") {
			continue
		}
		_, content, ok := strings.Cut(input[i:], "\r\n")
		if !ok {
			return false
		}
		got, _, err := undot([]byte(content))
		if err == nil && string(got) == body {
			return true
		}
	}
	return false
}

// BenchmarkSession is one conversation with one message of 2 KB over loopback on a
// connection that stays, and one for every message.
func BenchmarkSession(b *testing.B) {
	msg := strings.Repeat("A line of text as it is in most mail, more or less.\r\n", 38)
	group := "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
	limits := Limits{MessagesPerConnection: -1, ConnectionRate: -1, MessageRate: -1}
	transact := func(b *testing.B, c *client) {
		c.send(group)
		c.want("250 ")
		c.want("250 ")
		c.want("354 ")
		c.send(msg + ".\r\n")
		c.want("250 ")
	}
	b.Run("keep", func(b *testing.B) {
		r := start(b, Options{Acceptor: discard{}, Limits: limits, Log: quiet()})
		c := r.ready(b)
		c.SetDeadline(time.Time{})
		b.ReportAllocs()
		for b.Loop() {
			transact(b, c)
		}
	})
	b.Run("connect", func(b *testing.B) {
		r := start(b, Options{Acceptor: discard{}, Limits: limits, Log: quiet()})
		b.ReportAllocs()
		for b.Loop() {
			c := r.dial(b)
			c.want("220 ")
			c.do("EHLO c", "250 ")
			transact(b, c)
			c.do("QUIT", "221 ")
			c.Close()
		}
	})
	b.Run("server", func(b *testing.B) { // without the network and the client
		conversation := "EHLO c\r\n" + group + msg + ".\r\nQUIT\r\n"
		s := New(Options{Acceptor: discard{}, Hostname: "mx.example.org"})
		v := &serving{Server: s, ctx: context.Background()}
		b.ReportAllocs()
		for b.Loop() {
			nc := &scriptConn{in: strings.NewReader(conversation), out: io.Discard}
			newConn(v, nc, netip.Addr{}).serve()
		}
	})
}
