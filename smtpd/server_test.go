package smtpd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/mail"
)

// discard accepts everything and keeps nothing.
type discard struct{}

func (discard) Begin(context.Context, mail.Source) (mail.Transaction, error) { return discard{}, nil }
func (discard) Rcpt(context.Context, mail.Rcpt) error                        { return nil }
func (discard) Abort()                                                       {}
func (discard) Data(_ context.Context, r io.Reader) (mail.Receipt, error) {
	_, err := io.Copy(io.Discard, r)
	return mail.Receipt{}, err
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (r *running) wait(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	select {
	case err := <-r.done:
		r.done <- err
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("Serve does not return")
	}
	return time.Since(began)
}

func TestShutdownIdle(t *testing.T) {
	t.Parallel()
	r := start(t, Options{})
	idle, inTx := r.ready(t), r.ready(t)
	inTx.envelope("b")
	began := time.Now()
	r.cancel()
	for _, c := range []*client{idle, inTx} {
		c.want("421 4.3.2")
		c.closed()
	}
	r.wait(t)
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	if _, err := net.Dial("tcp", r.addr); err == nil {
		t.Error("the listener is open")
	}
	if r.aborted != 1 {
		t.Errorf("%d transactions aborted", r.aborted)
	}
}

// A message on its way in is finished, in the content as well as in the commit.
func TestShutdownFinishesMessages(t *testing.T) {
	t.Parallel()
	r := start(t, Options{})
	content, chunk, commit := r.ready(t), r.ready(t), r.ready(t)
	content.envelope("b")
	content.do("DATA", "354 ")
	content.send("first\r\n")
	chunk.envelope("b")
	chunk.do("BDAT 3\r\nx", "250 2.0.0 3 octets")
	commit.envelope("hold")
	commit.do("DATA", "354 ")
	commit.send("held\r\n.\r\n")
	<-r.inData
	r.cancel()
	eventually(t, "listener closed", func() bool {
		nc, err := net.Dial("tcp", r.addr)
		if err == nil {
			nc.Close()
		}
		return err != nil
	})
	content.send("second\r\n.\r\n")
	chunk.send("BDAT 0 LAST\r\n")
	close(r.hold)
	for _, c := range []*client{content, chunk, commit} {
		c.want("250 2.0.0 stored")
		c.want("421 4.3.2")
		c.closed()
	}
	r.wait(t)
	if n := len(r.all()); n != 3 {
		t.Errorf("%d messages stored", n)
	}
}

// After the grace nothing is waited for, and nothing is stored.
func TestShutdownCuts(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Grace: 100 * time.Millisecond})
	content, commit := r.ready(t), r.ready(t)
	content.envelope("b")
	content.do("DATA", "354 ")
	content.send("first\r\n")
	commit.envelope("hold")
	commit.do("DATA", "354 ")
	commit.send("held\r\n.\r\n")
	<-r.inData
	r.cancel()
	content.want("421 4.3.2")
	content.closed()
	commit.want("451 4.3.0")
	if d := r.wait(t); d > 3*time.Second {
		t.Errorf("took %v", d)
	}
	if n := len(r.all()); n != 0 {
		t.Errorf("%d messages stored", n)
	}
}

// A client that takes no replies cannot hold up the end.
func TestShutdownStuckWriter(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Grace: 50 * time.Millisecond, Limits: Limits{Errors: -1}})
	c := r.dial(t)
	commands := strings.Repeat("FOO\r\n", 10_000)
	for { // until the server's replies fill all buffers, and then our commands
		c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := io.WriteString(c.Conn, commands); err != nil && n == 0 {
			break
		}
	}
	r.cancel()
	if d := r.wait(t); d < 50*time.Millisecond || d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		e    mail.Error
		id   string
		want string
	}{
		{mail.Error{Code: 550, Enhanced: "5.1.1", Text: "no"}, "", "550 5.1.1 no\r\n"},
		{mail.Error{Code: 451, Enhanced: "4.3.0", Text: "no"}, "x1", "451 4.3.0 no (x1)\r\n"},
		{mail.Error{Code: 550, Enhanced: "5.1.1", Text: "no\r\n250 yes\x00\xe4"}, "", "550 5.1.1 no??250 yes??\r\n"},
		{mail.Error{Code: 550, Enhanced: "4.1.1", Text: "no"}, "", "550 5.0.0 no\r\n"},
		{mail.Error{Code: 550, Text: "no"}, "", "550 5.0.0 no\r\n"},
		{mail.Error{Code: 250, Enhanced: "2.0.0", Text: "yes"}, "", "451 4.3.0 local error, try again later\r\n"},
		{mail.Error{}, "", "451 4.3.0 local error, try again later\r\n"},
		{mail.Error{Code: 5500, Enhanced: "5.0.0"}, "", "451 4.3.0 local error, try again later\r\n"},
		{mail.Error{Code: 550, Enhanced: "5.0.0", Text: strings.Repeat("x", 600)}, "",
			"550 5.0.0 " + strings.Repeat("x", maxReplyText) + "\r\n"},
	} {
		if got := string(appendError(nil, &tt.e, tt.id)); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.e, got, tt.want)
		}
	}
}

// The large buffer is there only while a message comes in.
func TestLargeBufferGoesBack(t *testing.T) {
	t.Parallel()
	group := "MAIL FROM:<a@b>\r\nRCPT TO:<b@example.org>\r\n"
	for name, tail := range map[string]string{
		"DATA": "DATA\r\nx\r\n.\r\n", "lost": "DATA\r\nhalf a message", "BDAT": "BDAT 60\r\n" + strings.Repeat("x", 60), "many commands behind": "DATA\r\nx\r\n.\r\n" + strings.Repeat("NOOP\r\n", 5000),
	} {
		input := strings.NewReader("HELO c\r\n" + group + tail)
		c := sessionConn(newFake(), &scriptConn{in: input, out: io.Discard, cut: 4})
		grew := false
		read := c.in.read
		c.in.read = func(p []byte) (int, error) {
			grew = grew || c.in.large != nil
			n, err := read(p)
			if err == io.EOF && !c.inData && c.in.large != nil {
				t.Errorf("%s: waits for a command with a large buffer", name)
			}
			return n, err
		}
		c.serve()
		if !grew || c.in.large != nil {
			t.Errorf("%s: large buffer used %v, kept %v", name, grew, c.in.large != nil)
		}
	}
}

func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]Limits{
		"in all": {Connections: 2},
		"per IP": {ConnectionsPerIP: 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, Options{Limits: l})
			a, _ := r.ready(t), r.ready(t)
			c := r.dial(t)
			c.want("421 4.7.0 too many connections")
			c.closed()
			a.do("QUIT", "221 ")
			eventually(t, "a place is free", func() bool {
				s, _ := r.dial(t).reply()
				return strings.HasPrefix(s, "220 ")
			})
		})
	}
}

type takes struct {
	mu   sync.Mutex
	left map[string]int
	keys []string
}

func (k *takes) Take(key string, limit int, window time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = append(k.keys, key)
	kind := strings.Split(key, ":")[1]
	k.left[kind]--
	return window == time.Minute && limit > 0 && k.left[kind] >= 0
}

func TestRates(t *testing.T) {
	t.Parallel()
	k := &takes{left: map[string]int{"conn": 2, "mail": 1}}
	r := start(t, Options{Cluster: k})
	c := r.ready(t)
	c.message("b", "x\r\n", "250 2.0.0")
	c.do("MAIL FROM:<a@example.net>", "450 4.7.1")
	c.do("NOOP", "250 ")
	r.ready(t)
	c = r.dial(t)
	c.want("421 4.7.0 connecting too often")
	c.closed()
	if k.keys[0] != "smtpd:conn:127.0.0.1/32" || k.keys[1] != "smtpd:mail:127.0.0.1/32" {
		t.Errorf("keys %v", k.keys)
	}
	exempt := Limits{Exempt: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, ConnectionsPerIP: 1}
	r = start(t, Options{Cluster: &takes{left: map[string]int{}}, Limits: exempt})
	r.ready(t)
	r.ready(t).message("b", "x\r\n", "250 2.0.0")
}

func TestGateKey(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
	} {
		if got := s.gateKey(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	if s.gateKey(netip.Addr{}).IsValid() {
		t.Error("no address has a key")
	}
}

func TestRefusedRecipientsEndConnection(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Limits: Limits{RefusedRecipients: 2}})
	c := r.ready(t)
	c.envelope("b")
	for range 2 {
		c.do("RCPT TO:<nobody@example.org>", "550 5.1.1")
	}
	c.do("RCPT TO:<later@example.org>", "450 ") // does not count
	c.do("RCPT TO:<nobody@example.org>", "550 5.1.1")
	c.want("421 4.7.0 too many unknown recipients")
	c.closed()
}

func TestIdleCommandsEndConnection(t *testing.T) {
	t.Parallel()
	r := start(t, Options{Limits: Limits{Errors: 1}})
	c := r.ready(t)
	for range maxIdle - 1 {
		c.do("NOOP", "250 ")
	}
	c.do("NOOP", "503 5.5.1")
	c.send("RSET\r\n")
	c.want("503 5.5.1")
	c.want("421 4.7.0")
	c.closed()
}

type failingListener struct {
	net.Listener
	errs []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.Listener.Accept()
}

type busyError struct{}

func (busyError) Error() string   { return "too many open files" }
func (busyError) Timeout() bool   { return false }
func (busyError) Temporary() bool { return true }

func TestAcceptErrors(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	fl := &failingListener{l, []error{busyError{}, busyError{}, boom}}
	if err := New(Options{}).Serve(context.Background(), fl); !errors.Is(err, boom) {
		t.Errorf("Serve: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
}

func TestNoAcceptorDefers(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := New(Options{NewID: func() string { return "id" }})
	nc := &scriptConn{in: strings.NewReader("HELO c\r\nMAIL FROM:<>\r\n"), out: &out}
	newConn(&serving{Server: s, ctx: context.Background()}, nc, netip.Addr{}).serve()
	if !strings.HasSuffix(out.String(), "451 4.3.0 local error, try again later (id)\r\n") {
		t.Errorf("got %q", out.String())
	}
}
