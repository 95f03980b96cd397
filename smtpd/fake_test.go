package smtpd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/testkit"
)

// fake is an acceptor that keeps what it accepts and refuses by local-part: the
// reverse-path "refused" and the recipients "nobody", "full" and "broken". For the
// recipients named like a field of it, Data behaves in that way.
type fake struct {
	mu       sync.Mutex
	messages []stored
	sources  []mail.Source
	aborted  int

	hold   chan struct{} // Data to "hold" waits for it after reading
	inData chan struct{} // gets a value when Data to "hold" begins
}

type stored struct {
	source mail.Source
	rcpts  []string
	wishes []mail.Rcpt
	body   string
}

func newFake() *fake {
	return &fake{hold: make(chan struct{}), inData: make(chan struct{}, 1000)}
}

func (f *fake) all() []stored {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]stored(nil), f.messages...)
}

func (f *fake) Begin(_ context.Context, s mail.Source) (mail.Transaction, error) {
	f.mu.Lock()
	f.sources = append(f.sources, s)
	f.mu.Unlock()
	switch s.From.Local {
	case "refused":
		return nil, mail.Refuse(550, "5.7.1", "not from you")
	case "deferred":
		return nil, fmt.Errorf("open spool: %w", errDisk)
	case "nil":
		return nil, nil
	}
	return &fakeTx{f: f, source: s}, nil
}

type fakeTx struct {
	f      *fake
	source mail.Source
	rcpts  []mail.Address
	wishes []mail.Rcpt
	over   bool
}

func (t *fakeTx) Rcpt(_ context.Context, r mail.Rcpt) error {
	switch r.Address.Local {
	case "nobody":
		return mail.ErrNoSuchUser
	case "full":
		return mail.ErrOverQuota.Because(errDisk)
	case "later":
		return mail.Refuse(450, "4.2.0", "later")
	case "broken":
		return errDisk
	case "panic":
		panic("secret canary")
	}
	t.rcpts, t.wishes = append(t.rcpts, r.Address), append(t.wishes, r)
	return nil
}

func (t *fakeTx) Data(ctx context.Context, r io.Reader) (mail.Receipt, error) {
	t.over = true
	switch t.rcpts[0].Local {
	case "unread":
		return mail.Receipt{}, nil
	case "early":
		return mail.Receipt{}, mail.Refuse(550, "5.7.0", "do not want it")
	case "header":
		return mail.Receipt{}, headerOnly(r)
	case "datapanic":
		io.ReadAll(r)
		panic(errors.New("secret canary"))
	case "loose":
		return mail.Receipt{}, &mail.Error{Code: 250, Text: "all is well\r\n250 really"}
	}
	body, err := io.ReadAll(r)
	if err != nil {
		return mail.Receipt{}, fmt.Errorf("spool message: %w", err)
	}
	switch t.rcpts[0].Local {
	case "hold":
		t.f.inData <- struct{}{}
		select {
		case <-t.f.hold:
		case <-ctx.Done():
			return mail.Receipt{}, fmt.Errorf("commit: %w", ctx.Err())
		}
	case "nospace":
		return mail.Receipt{}, fmt.Errorf("commit: %w", mail.ErrStorageFull)
	case "fails":
		return mail.Receipt{}, errDisk
	}
	s := stored{source: t.source, wishes: t.wishes, body: string(body)}
	for _, a := range t.rcpts {
		s.rcpts = append(s.rcpts, a.String())
	}
	t.f.mu.Lock()
	t.f.messages = append(t.f.messages, s)
	t.f.mu.Unlock()
	return t.receipt(), nil
}

// receipt is what a gateway could have done: the recipients named like a level get it,
// those of example.org have accounts, and all others are sealed.
func (t *fakeTx) receipt() mail.Receipt {
	r := mail.Receipt{ID: t.source.ID}
	if t.source.Kind != mail.KindSubmission {
		return r
	}
	for _, a := range t.rcpts {
		o, p := mail.Outcome{Recipient: a, Level: mail.Sealed}, mail.Placed{}
		for _, level := range []mail.Level{mail.Clear, mail.TLSOnly, mail.Held, mail.EndToEnd} {
			if strings.HasPrefix(a.Local, level.String()) {
				o.Level = level
			}
		}
		if a.Domain == "example.org" && o.Level != mail.Held {
			p.UID = 1
		}
		r.Outcomes, r.Placed = append(r.Outcomes, o), append(r.Placed, p)
	}
	return r
}

// headerOnly refuses a header section over 1 MB as the bridge would, in the middle.
func headerOnly(r io.Reader) error {
	br := bufio.NewReaderSize(r, 1<<20)
	if b, err := br.Peek(1 << 20); err == nil && !bytes.Contains(b, []byte("\r\n\r\n")) {
		return mail.Refuse(552, "5.3.4", "header section too large")
	}
	_, err := io.Copy(io.Discard, br)
	return err
}

func (t *fakeTx) Abort() {
	if !t.over {
		t.over = true
		t.f.mu.Lock()
		t.f.aborted++
		t.f.mu.Unlock()
	}
}

// running is a server on a loopback port.
type running struct {
	*fake
	addr   string
	cancel context.CancelFunc
	done   chan error
	log    *testkit.Log
}

// start serves o, completed for tests, until the test ends.
func start(t testing.TB, o Options) *running {
	t.Helper()
	return startServer(t, o, New, (*Server).Serve)
}

func startServer(t testing.TB, o Options, newServer func(Options) *Server, serve func(*Server, context.Context, net.Listener) error) *running {
	t.Helper()
	r := &running{fake: newFake(), done: make(chan error, 1), log: new(testkit.Log)}
	if o.Acceptor == nil {
		o.Acceptor = r.fake
	}
	if o.Hostname == "" {
		o.Hostname = "mx.example.org"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if o.NewID == nil {
		var mu sync.Mutex
		n := 0
		o.NewID = func() string {
			mu.Lock()
			defer mu.Unlock()
			n++
			return fmt.Sprintf("id%d", n)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	s := newServer(o)
	go func() { r.done <- serve(s, ctx, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-r.done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
			r.done <- nil
		case <-time.After(20 * time.Second):
			t.Error("Serve does not return")
		}
	})
	return r
}

// client is a raw SMTP client that fails the test on any surprise.
type client struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func (r *running) dial(t testing.TB) *client {
	t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t, nc, bufio.NewReader(nc)}
}

// ready is dial behind the greeting and EHLO.
func (r *running) ready(t testing.TB) *client {
	t.Helper()
	c := r.dial(t)
	c.want("220 ")
	c.do("EHLO client.example.net", "250 ")
	return c
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// reply reads one reply, all its lines.
func (c *client) reply() (string, error) {
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			return all.String(), err
		}
		if len(line) < 4 || line[3] != '-' {
			return all.String(), nil
		}
	}
}

// want reads a reply whose last line must begin with prefix.
func (c *client) want(prefix string) string {
	c.t.Helper()
	s, err := c.reply()
	if err != nil {
		c.t.Fatalf("read %q: %v, want %q", s, err, prefix)
	}
	lines := strings.Split(strings.TrimSuffix(s, "\r\n"), "\r\n")
	if !strings.HasPrefix(lines[len(lines)-1], prefix) {
		c.t.Fatalf("got %q, want %q", s, prefix)
	}
	return s
}

func (c *client) do(line, prefix string) string {
	c.t.Helper()
	c.send(line + "\r\n")
	return c.want(prefix)
}

// closed checks that nothing more comes but the end.
func (c *client) closed() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if len(rest) > 0 {
		c.t.Errorf("got %q, want the end", rest)
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.t.Error("the connection stays open")
	}
}

// envelope sends MAIL and RCPT.
func (c *client) envelope(rcpts ...string) {
	c.t.Helper()
	c.do("MAIL FROM:<a@example.net>", "250 2.1.0")
	for _, r := range rcpts {
		c.do("RCPT TO:<"+r+"@example.org>", "250 2.1.5")
	}
}

// message sends a whole message to rcpt and wants a reply.
func (c *client) message(rcpt, body, reply string) {
	c.t.Helper()
	c.envelope(rcpt)
	c.do("DATA", "354 ")
	c.send(stuff(body) + ".\r\n")
	c.want(reply)
}
