package imapd

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Each of these tests is a defect of the engine that the network could reach.

// An error behind a literal that does not synchronize must not turn the literal into
// commands.
func TestLiteralIsNeverACommand(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	evil := "x1 CREATE pwned\r\nx2 CREATE pwned2\r\n"
	size := len(evil)
	for name, command := range map[string]string{
		"bad date":       fmt.Sprintf("a APPEND INBOX (\\Seen) \"bad date\" {%d+}\r\n%s\r\n", size, evil),
		"bad flags":      fmt.Sprintf("a APPEND INBOX (\\Seen {%d+}\r\n%s\r\n", size, evil),
		"no command":     fmt.Sprintf("a FROBNICATE {%d+}\r\n%s\r\n", size, evil),
		"wrong place":    fmt.Sprintf("a NOOP {%d+}\r\n%s\r\n", size, evil),
		"fetch":          fmt.Sprintf("a FETCH 1 {%d+}\r\n%s\r\n", size, evil),
		"search":         fmt.Sprintf("a SEARCH NONSENSE {%d+}\r\n%s SUBJECT {%d+}\r\n%s\r\n", size, evil, size, evil),
		"bad mailbox":    fmt.Sprintf("a DELETE {%d+}\r\n&&&%s\r\n", size+3, evil),
		"space behind":   fmt.Sprintf("a NOOP {%d+} \r\n%s\r\n", size, evil),
		"too long":       fmt.Sprintf("a SELECT {%d+}\r\n%s\r\n", 5000, (evil + strings.Repeat("x", 5000))[:5000]),
		"long append":    fmt.Sprintf("a APPEND INBOX {%d+}\r\n%s\r\n", 5000, (evil + strings.Repeat("x", 5000))[:5000]),
		"wrong state":    fmt.Sprintf("a LOGIN {%d+}\r\n%s pw\r\n", size, evil),
		"empty append":   "a APPEND INBOX {0+}\r\n\r\n",
		"nested literal": fmt.Sprintf("a STATUS {5+}\r\nINBOX (NONSENSE {%d+}\r\n%s)\r\n", size, evil),
	} {
		t.Run(name, func(t *testing.T) {
			c := e.login()
			c.send(command)
			for {
				s := c.line()
				if strings.HasPrefix(s, "x") {
					t.Errorf("literal was executed: %s", s)
				}
				if strings.HasPrefix(s, "a ") {
					if strings.HasPrefix(s, "a OK") {
						t.Errorf("accepted: %s", s)
					}
					break
				}
			}
			for _, l := range c.ok(`LIST "" *`) {
				if strings.Contains(l, "pwned") {
					t.Error("mailbox was made by a literal")
				}
			}
		})
	}
}

// A message that stops coming ends the connection: nothing that comes later is read.
func TestStalledAppendEndsConnection(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(o *Options) { o.Limits.StallTime = 200 * time.Millisecond })
	c := e.login()
	c.send("a APPEND INBOX {100}\r\n")
	c.line()
	c.send("only a part")
	left := c.ends()
	c.send("b CREATE pwned\r\n")
	if strings.Contains(left, " OK") {
		t.Errorf("after a stalled literal: %q", left)
	}
	if stored, failed := e.accept.appends(); stored != 0 || failed != 1 {
		t.Errorf("stored %d, failed %d", stored, failed)
	}
	for _, l := range e.login().ok(`LIST "" *`) {
		if strings.Contains(l, "pwned") {
			t.Error("rest of a message was executed")
		}
	}
}

// The same with a connection that breaks off, at every octet.
func TestBrokenAppendStoresNothing(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	text := simple("broken")
	whole := fmt.Sprintf("a APPEND INBOX {%d+}\r\n%s\r\n", len(text), text)
	for cut := 1; cut < len(whole)-2; cut += 9 {
		c := e.login()
		c.send(whole[:cut])
		if tc, ok := c.conn.(*net.TCPConn); ok {
			_ = tc.CloseWrite()
		}
		if left := c.ends(); strings.Contains(left, "a OK") {
			t.Fatalf("cut at %d: %q", cut, left)
		}
	}
	if stored, _ := e.accept.appends(); stored != 0 {
		t.Errorf("%d messages stored", stored)
	}
}

// MULTIAPPEND is not offered; a client that tries it anyway stores nothing and is told.
func TestAppendWithMoreBehindIsRefused(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	for _, tail := range []string{" {6+}\r\nsecond\r\n", " (\\Seen) {6}\r\n", "x\r\n", ")\r\n"} {
		c := e.login()
		c.send("a APPEND INBOX {5+}\r\nfirst" + tail)
		left := c.ends()
		if !strings.Contains(left, "a BAD") || !strings.Contains(left, "* BYE") {
			t.Errorf("tail %q: %q", tail, left)
		}
	}
	if stored, failed := e.accept.appends(); stored != 0 || failed != 4 {
		t.Errorf("stored %d, failed %d", stored, failed)
	}
}

func TestAppendUTF8(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	c := e.login()
	text := simple("utf8")
	tag := c.start("APPEND INBOX UTF8 (~{%d+}\r\n%s)", len(text), text)
	if _, tagged := c.until(tag); !strings.HasPrefix(tagged, "OK [APPENDUID") {
		t.Error(tagged)
	}
	tag = c.start("APPEND INBOX ~{%d+}\r\n%s", len(text), text)
	if _, tagged := c.until(tag); !strings.HasPrefix(tagged, "OK [APPENDUID") {
		t.Error(tagged)
	}
}

// A literal too long for the engine's buffer is refused at once, not after 30 s.
func TestLongLiteralInCommandIsRefused(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	c := e.login()
	c.fails("BAD [TOOBIG]", "SEARCH SUBJECT {5000}")
	c.fails("BAD [TOOBIG]", "LOGIN {1000000}")
	c.ok("NOOP")
}

func TestLongCommand(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	c := e.selected("INBOX")
	tag := c.start("FETCH 1%s FLAGS", strings.Repeat(",1", 40_000))
	if _, tagged := c.until(tag); !strings.HasPrefix(tagged, "BAD [TOOBIG]") {
		t.Error(tagged)
	}
	c.ok("NOOP")
	// Just below the guard's limit the engine keeps its place, too.
	tag = c.start("UID FETCH 1%s FLAGS", strings.Repeat(",1", (maxCommand-40)/2))
	if _, tagged := c.until(tag); !strings.HasPrefix(tagged, "OK") {
		t.Error(tagged)
	}
	c.ok("NOOP")
	// Many small literals.
	tag = c.start("SEARCH%s", strings.Repeat(" SUBJECT {0+}\r\n", 3_000))
	if _, tagged := c.until(tag); strings.HasPrefix(tagged, "OK") {
		t.Error(tagged)
	}
	c.ok("NOOP")
	// A line that never ends.
	c.send(strings.Repeat("x", maxSkip+4096))
	if left := c.ends(); strings.Contains(left, "OK") {
		t.Error(left)
	}
}

func TestUnframeableInputEndsConnection(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	for _, in := range []string{
		"a NOOP\rb CREATE pwned\r\n",
		"a CREATE \x00\r\nb CREATE pwned\r\n",
		"a CREATE \"pw\r\nb CREATE pwned\"\r\n",
		"a CREATE {99999999999999999999+}\r\nb CREATE pwned\r\n",
		"a CREATE {-1+}\r\nb CREATE pwned\r\n",
		"a CREATE {99999999999999999999}\r\nb CREATE pwned\r\n",
		"a CREATE {9223372036854775808}\r\nb CREATE pwned\r\n",
		"a CREATE {abc}\r\nb CREATE pwned\r\n",
		"a CREATE {-1}\r\nb CREATE pwned\r\n",
		"a CREATE {+1}\r\nb CREATE pwned\r\n",
		"a CREATE {}\r\nb CREATE pwned\r\n",
		"a CREATE {+}\r\nb CREATE pwned\r\n",
		"a CREATE {13 }\r\nb CREATE pwned\r\n",
		"a CREATE {13-}\r\nb CREATE pwned\r\n",
		"a APPEND INBOX {abc}\r\nb CREATE pwned\r\n",
		"a APPEND INBOX (\\Seen) {99999999999999999999+}\r\nb CREATE pwned\r\n",
		"a APPEND INBOX UTF8 (~{abc+}\r\nb CREATE pwned\r\n",
		"a {abc+}\r\nb CREATE pwned\r\n",
		"a FROBNICATE {abc+}\r\nb CREATE pwned\r\n",
		"a LOGIN {4+}\r\nuser {abc+}\r\nb CREATE pwned\r\n",
		// A line too long to be kept: how its quotes lie is not known.
		"a SEARCH " + strings.Repeat("ALL ", maxCommand/4) + "SUBJECT {abc+}\r\nb CREATE pwned\r\n",
		"a SEARCH " + strings.Repeat("ALL ", maxCommand/4) + "SUBJECT {99999999999999999999+}\r\nb CREATE pwned\r\n",
		"a SEARCH SUBJECT \"x" + strings.Repeat("x", 2*maxCommand) + "\" " + strings.Repeat("ALL ", 20) + "SUBJECT {17+}\r\nb CREATE pwned\r\n \r\n",
		"a SEARCH " + strings.Repeat("ALL ", maxCommand) + "SUBJECT {" + strings.Repeat("0", 40) + "17+}\r\nb CREATE pwned\r\n \r\n",
		"a SEARCH SUBJECT {" + strings.Repeat("0", maxCommand) + "17+}\r\nb CREATE pwned\r\n \r\n",
		// The rest of a command that is refused already.
		"a SELECT {5000+}\r\n" + strings.Repeat("x", 5000) + " {abc+}\r\nb CREATE pwned\r\n",
		"a SELECT {5000+}\r\n" + strings.Repeat("x", 5000) + strings.Repeat(" ", maxCommand) + "{abc+}\r\nb CREATE pwned\r\n",
	} {
		c := e.login()
		c.send(in)
		left := c.ends()
		if !strings.Contains(left, "a BAD") || !strings.Contains(left, "* BYE") || strings.Contains(left, "b OK") {
			t.Errorf("%.80q: %q", in, left)
		}
	}
	for _, l := range e.login().ok(`LIST "" *`) {
		if strings.Contains(l, "pwned") {
			t.Error("what followed was executed")
		}
	}
}

// A line that is too long is refused alone where its literal can be told from commands.
func TestLongLineWithLiteral(t *testing.T) {
	t.Parallel()
	c := newEnv(t, nil).login()
	for _, in := range []string{
		"SEARCH " + strings.Repeat("ALL ", maxCommand) + "SUBJECT {17+}\r\nb CREATE pwned\r\n ",
		"SELECT {5000+}\r\n" + strings.Repeat("x", 5000) + strings.Repeat(" ALL", maxCommand) + " {17+}\r\nb CREATE pwned\r\n ",
		"SEARCH {x} " + strings.Repeat("ALL ", maxCommand),
	} {
		tag := c.start("%s", in)
		if other, tagged := c.until(tag); !strings.HasPrefix(tagged, "BAD [TOOBIG]") || len(other) > 0 {
			t.Errorf("%.80q: %q %q", in, other, tagged)
		}
		c.ok("NOOP")
	}
	for _, l := range c.ok(`LIST "" *`) {
		if strings.Contains(l, "pwned") {
			t.Error("literal was executed")
		}
	}
}

// ID, unknown commands and empty lines before login do not throw a client out.
func TestUnknownBeforeLogin(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	c := e.dial(false)
	c.line()
	contains(t, c.ok(`ID ("name" "x" "version" {3+}`+"\r\n1.0)"), "* ID NIL")
	c.ok("ID NIL")
	c.fails("BAD", "COMPRESS DEFLATE")
	c.send("\r\n")
	if s := c.line(); !strings.HasPrefix(s, "* BAD") {
		t.Error(s)
	}
	c.ok("LOGIN %s %s", testLogin, testPassword)
	c.ok("ID NIL")

	c = e.dial(false)
	c.line()
	c.send("GET / HTTP/1.1\r\nHost: mail.example.org\r\n\r\n")
	if left := c.ends(); !strings.Contains(left, "BYE") {
		t.Errorf("a browser is told %q", left)
	}
}

// Arguments that the engine cannot read are the client's mistake.
func TestParseErrorsAreBAD(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	c := e.selected("INBOX")
	for _, command := range []string{
		"SEARCH OLDER 5", "SEARCH SINCE yesterday", "SEARCH UID x", "SELECT &&&", "FETCH 0 FLAGS",
		`APPEND INBOX "32-Foo-2026 00:00:00 +0000" {3+}` + "\r\nabc", "FETCH 1 (FLAGS", "STORE 1 FLAGZ x",
	} {
		c.fails("BAD", "%s", command)
	}
	c.ok("NOOP")
	c = e.dial(false)
	c.line()
	c.fails("BAD", "AUTHENTICATE PLAIN *notbase64*")
	c.fails("BAD", "AUTHENTICATE PLAIN %s", "====")
}

func TestSynchronizingLiterals(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	c := e.dial(false)
	c.line()
	c.send(fmt.Sprintf("a LOGIN {%d}\r\n", len(testLogin)))
	if s := c.line(); !strings.HasPrefix(s, "+ ") {
		t.Fatal(s)
	}
	c.send(fmt.Sprintf("%s {%d}\r\n", testLogin, len(testPassword)))
	if s := c.line(); !strings.HasPrefix(s, "+ ") {
		t.Fatal(s)
	}
	c.send(testPassword + "\r\n")
	if s := c.line(); !strings.HasPrefix(s, "a OK") {
		t.Fatal(s)
	}
	text := simple("sync")
	c.send("b APPEND {5}\r\n")
	c.line()
	c.send(fmt.Sprintf("INBOX (\\Seen) {%d}\r\n", len(text)))
	if s := c.line(); !strings.HasPrefix(s, "+ ") {
		t.Fatal(s)
	}
	c.send(text + "\r\n")
	if s := c.line(); !strings.HasPrefix(s, "b OK [APPENDUID") {
		t.Fatal(s)
	}
}

func TestPipelining(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	e.deliver("INBOX", simple("one"))
	c := e.login()
	var in strings.Builder
	in.WriteString("s SELECT INBOX\r\n")
	for i := range 200 {
		fmt.Fprintf(&in, "p%d FETCH 1 (FLAGS)\r\n", i)
	}
	c.send(in.String())
	for i := range 200 {
		_, tagged := c.until(fmt.Sprintf("p%d", i))
		if !strings.HasPrefix(tagged, "OK") {
			t.Fatal(tagged)
		}
	}
}

// Silent connections are given up: before TLS, before login.
func TestSilentConnectionsEnd(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(o *Options) {
		o.Limits.Handshake = 150 * time.Millisecond
		o.Limits.LoginTime = 300 * time.Millisecond
	})
	mute, err := net.Dial("tcp", e.secure)
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	_ = mute.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := mute.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("connection without a handshake: %v", err)
	}
	c := e.dial(false)
	c.line()
	if left := c.ends(); !strings.Contains(left, "* BYE") {
		t.Errorf("connection without login: %q", left)
	}
	c = e.dial(false)
	c.line()
	c.send("a NO") // in the middle of a line the login's time counts, too
	c.ends()
	// Sending something now and then does not help.
	c = e.dial(false)
	c.line()
	began := time.Now()
	for time.Since(began) < 5*time.Second {
		if _, err := io.WriteString(c.conn, "a NOOP\r\n"); err != nil {
			break
		}
		if _, err := c.read(); err != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("chatting kept a connection for %v", d)
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// A mute client in its handshake does not keep others from connecting.
func TestHandshakeDoesNotBlockAccept(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	for range 20 {
		mute, err := net.Dial("tcp", e.secure)
		if err != nil {
			t.Fatal(err)
		}
		defer mute.Close()
	}
	e.dial(true).line()
}

func TestConnectionLimits(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(o *Options) { o.Limits.PerIP, o.Limits.PerAccount = 4, 2 })
	e.login()
	second := e.login()
	third := e.dial(false)
	third.line()
	third.fails("NO [LIMIT]", "LOGIN %s %s", testLogin, testPassword)
	second.ok("LOGOUT")
	second.ends()
	for { // the slot is free when the server has noticed the end
		if _, tagged := third.do("LOGIN %s %s", testLogin, testPassword); strings.HasPrefix(tagged, "OK") {
			break
		}
		third.conn.Close()
		third = e.dial(false)
		third.line()
	}
	e.dial(false).line()
	e.dial(false).line()
	over := e.dial(false)
	if s := over.line(); !strings.HasPrefix(s, "* BYE") {
		t.Errorf("fifth connection: %s", s)
	}
}

// Answers go out in few writes.
func TestAnswersAreCoalesced(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	counted := &countingConn{Conn: near}
	g := newGuard(counted, testIP, Limits{}.withDefaults(), nil)
	go func() { _, _ = io.Copy(io.Discard, far) }()
	for range 1000 {
		if _, err := g.Write([]byte("* 1 FETCH (FLAGS (\\Seen) UID 1)\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if counted.writes > 3 {
		t.Errorf("%d writes for 1000 responses", counted.writes)
	}
}

// What is written while the client is waited for does not stay in the buffer.
func TestWriteWhileReading(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer far.Close()
	g := newGuard(near, testIP, Limits{}.withDefaults(), nil)
	g.authed.Store(true)
	go func() { _, _ = g.Read(make([]byte, 100)) }()
	_ = far.SetDeadline(time.Now().Add(5 * time.Second))
	for deadline := time.Now().Add(5 * time.Second); !g.waiting.Load() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	go func() { _, _ = g.Write([]byte("* 1 EXISTS\r\n")) }()
	got, err := bufio.NewReader(far).ReadString('\n')
	if err != nil || got != "* 1 EXISTS\r\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// A message cannot look like an answer, wherever the engine's writes are cut.
func TestResponses(t *testing.T) {
	t.Parallel()
	out := "* 1 FETCH (BODY[] {19}\r\na OK done\r\n+ go {5}) FLAGS ())\r\n"
	for _, cut := range []int{1, 2, 7, 1000} {
		r := responses{tag: "a"}
		for b := []byte(out); len(b) > 0; b = b[min(cut, len(b)):] {
			r.scan(b[:min(cut, len(b))])
		}
		if r.answered || r.continued || !r.atStart() {
			t.Errorf("cut at %d: %+v", cut, r)
		}
		r.scan([]byte("a NO \r\n"))
		if !r.answered {
			t.Errorf("cut at %d: answer not seen", cut)
		}
	}
}

type countingConn struct {
	net.Conn
	writes int
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.writes++
	return c.Conn.Write(b)
}

func TestStartTLS(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(o *Options) { o.AllowClearLogin = false })
	c := e.dial(false)
	greeting := c.line()
	if !strings.Contains(greeting, "STARTTLS") || !strings.Contains(greeting, "LOGINDISABLED") || strings.Contains(greeting, "AUTH=") {
		t.Errorf("greeting in clear: %s", greeting)
	}
	c.fails("NO [PRIVACYREQUIRED]", "LOGIN %s %s", testLogin, testPassword)
	c.fails("NO [PRIVACYREQUIRED]", "AUTHENTICATE PLAIN")
	c.ok("STARTTLS")
	config := e.tls.Clone()
	config.ServerName = "localhost"
	inside := tls.Client(c.conn, config)
	c.conn, c.r = inside, bufio.NewReader(inside)
	lines := c.ok("CAPABILITY") // the first line inside TLS: there is no greeting
	if len(lines) != 1 {
		t.Fatalf("%q", lines)
	}
	if strings.Contains(lines[0], "STARTTLS") || strings.Contains(lines[0], "LOGINDISABLED") ||
		!strings.Contains(lines[0], "AUTH=SCRAM-SHA-256-PLUS") {
		t.Errorf("inside TLS: %s", lines[0])
	}
	c.fails("BAD", "STARTTLS")
	c.ok("LOGIN %s %s", testLogin, testPassword)
	c.ok("SELECT INBOX")
}

// What is sent in clear behind STARTTLS is never executed (CVE-2011-0411 and its kin).
func TestStartTLSInjection(t *testing.T) {
	t.Parallel()
	e := newEnv(t, nil)
	c := e.dial(false)
	c.line()
	c.send("a STARTTLS\r\nb NOOP\r\n")
	if left := c.ends(); strings.Contains(left, "a OK") || strings.Contains(left, "b OK") {
		t.Errorf("%q", left)
	}
}

// SIGTERM: everybody is told, and the command in hand is finished.
func TestShutdown(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(o *Options) { o.Limits.Grace = 3 * time.Second })
	waiting := e.login()
	idle := e.selected("INBOX")
	idle.start("IDLE")
	idle.line()
	fresh := e.dial(true)
	fresh.line()
	busy := e.login()
	text := simple("last")
	busy.send(fmt.Sprintf("a APPEND INBOX {%d}\r\n", len(text)))
	busy.line()
	mute, err := net.Dial("tcp", e.secure)
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()

	done := make(chan struct{})
	go func() { e.stop(); close(done) }()
	for name, c := range map[string]*client{"waiting": waiting, "idle": idle, "fresh": fresh} {
		if left := c.ends(); !strings.HasPrefix(left, "* BYE") {
			t.Errorf("%s is told %q", name, left)
		}
	}
	busy.send(text + "\r\n")
	if left := busy.ends(); !strings.Contains(left, "a OK [APPENDUID") || !strings.Contains(left, "* BYE") {
		t.Errorf("command in hand: %q", left)
	}
	select {
	case <-done:
	case <-time.After(8 * time.Second):
		t.Error("server does not stop")
	}
}

// A client that neither sends nor reads is cut off when the grace is over.
func TestShutdownGrace(t *testing.T) {
	t.Parallel()
	e := newEnv(t, func(o *Options) { o.Limits.Grace = 200 * time.Millisecond })
	c := e.login()
	c.send("a APPEND INBOX {100}\r\nabc")
	c.line()
	began := time.Now()
	e.stop()
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("stopping took %v", d)
	}
}
