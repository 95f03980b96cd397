package smtpd

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
)

// badInputs are the rows of the package comment that are not scripts.
func badInputs() map[string]func(*testing.T) {
	return map[string]func(*testing.T){
		"truncated-data":      truncatedData,
		"stalled-data":        stalledData,
		"slow-data":           slowData,
		"lost-before-reply":   lostBeforeReply,
		"thousand-recipients": thousandRecipients,
		"long-header":         longHeader,
		"many-parts":          func(t *testing.T) { passes(t, manyParts()) },
		"deep-nesting":        func(t *testing.T) { passes(t, deepNesting()) },
		"long-line":           func(t *testing.T) { passes(t, "a: b\r\n\r\n"+strings.Repeat("x", 1<<20)+"\r\n") },
		"eight-bit-header":    func(t *testing.T) { passes(t, "Subject: \xe4\xff\xfe\r\nTo: \xc3\xa4\r\n\r\n\r\n") },
		"no-from":             func(t *testing.T) { passes(t, "Subject: x\r\n\r\ntext\r\n") },
		"no-date":             func(t *testing.T) { passes(t, "From: a@example.net\r\n\r\ntext\r\n") },
		"empty-message":       func(t *testing.T) { passes(t, "") },
		"chunk-faults":        chunkFaults,
		"chunk-long-lines":    chunkLongLines,
		"chunk-absurd-size":   chunkAbsurdSize,
		"starttls-injection":  startTLSInjection,
		"early-talker":        earlyTalker,
		"panic":               panics,
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	for name, f := range badInputs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t)
		})
	}
}

// Every row of the table has its test.
func TestBadInputTable(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(doc), "//\tname ")
	if !ok {
		t.Fatal("doc.go has no table")
	}
	known := badInputs()
	rows := regexp.MustCompile(`(?m)^//\t([a-z][a-z-]+) `).FindAllStringSubmatch(table, -1)
	if len(rows) < 40 {
		t.Fatalf("only %d rows found", len(rows))
	}
	for _, row := range rows {
		if _, ok := known[row[1]]; ok {
			delete(known, row[1])
			continue
		}
		if _, err := os.Stat("testdata/" + row[1] + ".smtp"); err != nil {
			t.Errorf("%s: no test", row[1])
		}
	}
	for name := range known {
		t.Errorf("%s: no row", name)
	}
}

// passes checks that a message is accepted with its octets unchanged, by DATA and
// by BDAT.
func passes(t *testing.T, body string) {
	r := start(t, Options{})
	c := r.ready(t)
	c.message("b", body, "250 2.0.0 stored as ")
	c.envelope("b")
	c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(body), body))
	c.want("250 2.0.0 stored as ")
	all := r.all()
	if len(all) != 2 {
		t.Fatalf("%d messages", len(all))
	}
	for _, m := range all {
		if m.body != body {
			t.Errorf("%d octets became %d, or others", len(body), len(m.body))
		}
	}
}

func manyParts() string {
	part := "--b\r\nContent-Type: text/plain\r\n\r\n.x\r\n"
	return "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat(part, 5000) + "--b--\r\n"
}

func deepNesting() string {
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	return b.String() + "\r\nx\r\n"
}

// eventually waits for a fact that another goroutine brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func truncatedData(t *testing.T) {
	for _, content := range []string{"", "a line\r\n", "a line\r\n.", "a line\r\n.\r", "half a li"} {
		r := start(t, Options{})
		c := r.ready(t)
		c.envelope("b")
		c.do("DATA", "354 ")
		c.send(content)
		c.Conn.(*net.TCPConn).CloseWrite()
		c.closed()
		if all := r.all(); len(all) > 0 {
			t.Errorf("%q: stored %q", content, all[0].body)
		}
		c = r.ready(t)
		c.envelope("b")
		c.send(fmt.Sprintf("BDAT %d LAST\r\n%s", len(content)+1, content))
		c.Conn.(*net.TCPConn).CloseWrite()
		c.closed()
		if all := r.all(); len(all) > 0 {
			t.Errorf("%q: stored %q", content, all[0].body)
		}
	}
}

func stalledData(t *testing.T) {
	for _, refused := range []string{"b", "early"} {
		r := start(t, Options{Limits: Limits{DataTimeout: 50 * time.Millisecond}})
		c := r.ready(t)
		c.envelope(refused)
		c.do("DATA", "354 ")
		c.send("MAIL FROM:<evil@example.net>\r\n")
		c.want("421 4.4.2")
		c.send("RCPT TO:<b@example.org>\r\nDATA\r\n.\r\n")
		c.closed()
		if all := r.all(); len(all) > 0 {
			t.Errorf("stored %q", all[0].body)
		}
	}
	r := start(t, Options{Limits: Limits{DataTimeout: 50 * time.Millisecond}})
	c := r.ready(t)
	c.envelope("b")
	c.send("BDAT 3\r\nx\r\n")
	c.want("250 2.0.0 3 octets")
	c.want("421 4.4.2")
	c.closed()
}

func slowData(t *testing.T) {
	r := start(t, Options{Limits: Limits{DataTotal: 100 * time.Millisecond}})
	c := r.ready(t)
	c.envelope("b")
	c.do("DATA", "354 ")
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				io.WriteString(c.Conn, "x\r\n")
			}
		}
	}()
	c.want("421 4.4.2")
}

func TestDataDeadline(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	l := Limits{}.withDefaults()
	for _, tt := range []struct {
		after  time.Duration
		octets int64
		want   time.Duration
	}{
		{0, 0, time.Minute},                                // the rate's grace
		{time.Minute, 512 * 100, 160 * time.Second},        // 100 s paid for
		{time.Minute, 512 * 1000, 4 * time.Minute},         // silence
		{59 * time.Minute, 512 * 1e6, time.Hour},           // in all
		{10 * time.Second, 1e12, 3*time.Minute + 10*1e9},   // silence
		{2 * time.Minute, 511, time.Minute},                // too slow already
		{30 * time.Minute, 512 * 1800, 31 * time.Minute},   // just fast enough
		{30 * time.Minute, 512 * 10000, 33 * time.Minute},  // fast enough
		{58 * time.Minute, 512 * 10000, 60 * time.Minute},  // in all again
		{58 * time.Minute, 512 * 100, 160 * time.Second},   // too slow already
		{58 * time.Minute, 512 * 3500, 3560 * time.Second}, // rate
	} {
		if got := l.dataDeadline(start, start.Add(tt.after), tt.octets).Sub(start); got != tt.want {
			t.Errorf("after %v and %d octets: %v, want %v", tt.after, tt.octets, got, tt.want)
		}
	}
	none := Limits{DataTimeout: -1, DataTotal: -1, DataRate: -1}
	if got := none.dataDeadline(start, start, 0); !got.IsZero() {
		t.Errorf("no limits: %v", got)
	}
	if got := (&Limits{DataTimeout: -1, DataTotal: 5, DataRate: -1}).dataDeadline(start, start, 0); got != start.Add(5) {
		t.Errorf("total alone: %v", got)
	}
}

func lostBeforeReply(t *testing.T) {
	r := start(t, Options{})
	c := r.ready(t)
	c.envelope("hold")
	c.do("DATA", "354 ")
	c.send("x\r\n.\r\n")
	<-r.inData
	c.Conn.(*net.TCPConn).SetLinger(0) // a reset: the worst way to go
	c.Close()
	close(r.hold)
	eventually(t, "message stored", func() bool { return len(r.all()) == 1 })
}

func thousandRecipients(t *testing.T) {
	r := start(t, Options{})
	c := r.ready(t)
	var group strings.Builder
	group.WriteString("MAIL FROM:<a@example.net>\r\n")
	for i := range 1001 {
		fmt.Fprintf(&group, "RCPT TO:<user%d@example.org>\r\n", i)
	}
	group.WriteString("DATA\r\n")
	go io.WriteString(c.Conn, group.String())
	c.want("250 2.1.0")
	for range 1000 {
		c.want("250 2.1.5")
	}
	c.want("452 4.5.3")
	c.want("354 ")
	c.send("x\r\n.\r\n")
	c.want("250 2.0.0")
	if all := r.all(); len(all) != 1 || len(all[0].rcpts) != 1000 || all[0].rcpts[999] != "user999@example.org" {
		t.Error("not all recipients, or in another order")
	}
}

// longHeader: the transaction refuses after 1 MB; the rest of the 10 MB must be
// read, without keeping it, and the connection goes on.
func longHeader(t *testing.T) {
	r := start(t, Options{})
	c := r.ready(t)
	c.envelope("header")
	c.do("DATA", "354 ")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	line := "X-Long: " + strings.Repeat("y", 1000) + "\r\n"
	for n := 0; n < 10<<20; n += 100 * len(line) {
		c.send(strings.Repeat(line, 100))
	}
	c.send("\r\n.\r\n")
	c.want("552 5.3.4 header section too large")
	runtime.ReadMemStats(&after)
	if grown := int64(after.Sys) - int64(before.Sys); grown > 64<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	c.message("b", "x\r\n", "250 2.0.0")
}

func chunkFaults(t *testing.T) {
	for _, tt := range []struct{ chunk, want string }{
		{"a\nb\r\n", "550 5.5.2"}, {"a\rb\r\n", "550 5.5.2"}, {"a\x00\r\n", "550 5.6.0"},
		{"\n", "550 5.5.2"}, {"a\r", "550 5.5.2"}, {"a\r\n\r", "550 5.5.2"},
	} {
		r := start(t, Options{})
		c := r.ready(t)
		c.envelope("b")
		c.send(fmt.Sprintf("BDAT %d LAST\r\n%sMAIL FROM:<evil@example.net>\r\n", len(tt.chunk), tt.chunk))
		c.want(tt.want)
		c.closed()
		if all := r.all(); len(all) > 0 {
			t.Errorf("stored %q", all[0].body)
		}
	}
	// A CR at the end of one chunk whose LF does not come in the next.
	r := start(t, Options{})
	c := r.ready(t)
	c.envelope("b")
	c.send("BDAT 2\r\na\rBDAT 2 LAST\r\nb\n")
	c.want("250 2.0.0 2 octets")
	c.want("550 5.5.2")
	c.closed()
}

// chunkAbsurdSize: a chunk that nobody will read to its end is refused at once, before any
// of it has come, wherever it stands, and nothing behind it is a command.
func chunkAbsurdSize(t *testing.T) {
	const behind = "\r\nRSET\r\nMAIL FROM:<evil@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx\r\n.\r\n"
	for _, tt := range []struct{ size, want string }{
		{"99999999999999999999", "552 5.3.4"},     // does not fit into 64 bits
		{"999999999999999999999999", "501 5.5.4"}, // nor into any
		{"9223372036854775807", "552 5.3.4"},      // just fits
		{"2001", "552 5.3.4"},                     // over twice the limit
		{"-1", "501 5.5.4"}, {"0x10", "501 5.5.4"}, {"", "501 5.5.4"},
	} {
		for _, last := range []string{"", " LAST"} {
			r := start(t, Options{MaxSize: 1000})
			c := r.ready(t)
			c.do("BDAT "+tt.size+last+behind, tt.want)
			c.closed()

			c = r.ready(t)
			c.envelope("b")
			c.do("BDAT "+tt.size+last, tt.want)
			c.send(behind)
			c.closed()

			c = r.ready(t)
			c.envelope("b")
			c.send("BDAT 3\r\nx\r\nBDAT " + tt.size + last + behind)
			c.want("250 2.0.0 3 octets")
			c.want(tt.want)
			c.closed()
			if all := r.all(); len(all) > 0 {
				t.Errorf("%s: stored %q", tt.size, all[0].body)
			}
		}
	}
	// One that is only somewhat too large is read and refused, and all goes on.
	r := start(t, Options{MaxSize: 1000})
	c := r.ready(t)
	c.envelope("b")
	c.send("BDAT 2000 LAST\r\n" + strings.Repeat("x", 1998) + "\r\nNOOP\r\n")
	c.want("552 5.3.4")
	c.want("250 2.0.0 OK")
}

func chunkLongLines(t *testing.T) {
	r := start(t, Options{})
	c := r.ready(t)
	chunk := strings.Repeat("x", 100_000)
	c.send("MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nBDAT 100000\r\n" + chunk + "BDAT 100000 LAST\r\n" + chunk)
	for _, want := range []string{"250 2.1.0", "250 2.1.5", "250 2.0.0 100000", "250 2.0.0 stored"} {
		c.want(want)
	}
	if all := r.all(); len(all) != 1 || all[0].body != chunk+chunk {
		t.Error("not what was sent")
	}
}

// earlyTalker fills the socket before the server accepts it.
func earlyTalker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(nc, "EHLO early.example\r\n")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(Options{Acceptor: newFake()}).Serve(ctx, l) }()
	got, err := io.ReadAll(nc)
	if err != nil || string(got) != "554 5.5.1 speaking before the greeting, RFC 5321 3.1\r\n" {
		t.Errorf("got %q, %v", got, err)
	}
	nc.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func panics(t *testing.T) {
	r := start(t, Options{})
	other := r.ready(t)
	c := r.ready(t)
	c.envelope()
	c.do("RCPT TO:<panic@example.org>", "421 4.3.0")
	c.closed()
	c = r.ready(t)
	c.message("datapanic", "x\r\n", "421 4.3.0")
	c.closed()
	other.message("b", "x\r\n", "250 2.0.0")
	if log := r.log.String(); strings.Contains(log, "canary") || !strings.Contains(log, "panic") {
		t.Errorf("log: %s", log)
	}
	eventually(t, "transaction aborted", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.aborted == 1
	})
}

// No text of a message and no mail address reaches the log.
func TestLogTellsNoAddress(t *testing.T) {
	t.Parallel()
	r := start(t, Options{})
	c := r.ready(t)
	c.do("MAIL FROM:<deferred@example.net>", "451 ")
	c.do("MAIL FROM:<refused@example.net>", "550 ")
	c.do("MAIL FROM:<canary@example.net>", "250 ")
	c.do("RCPT TO:<nobody@example.org>", "550 ")
	c.do("RCPT TO:<full@example.org>", "552 ")
	c.do("RCPT TO:<fails@example.org>", "250 ")
	c.do("DATA", "354 ")
	c.send("canary\r\n.\r\n")
	c.want("451 ")
	c.message("b", "canary\r\n", "250 ")
	c.envelope("b")
	c.do("DATA", "354 ")
	c.send("canary\n")
	c.want("550 ")
	log := r.log.String()
	for _, secret := range []string{"canary", "example.net", "example.org", "nobody"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q: %s", secret, log)
		}
	}
	if !strings.Contains(log, "message accepted") || !strings.Contains(log, "disk") {
		t.Errorf("the log lacks something: %s", log)
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	r := start(t, Options{Now: func() time.Time { return now }, PostmasterDomain: "example.org"})
	c := r.dial(t)
	c.want("220 ")
	c.do("HELO my;machine(x) y", "250 ")
	c.do("MAIL FROM:<> SIZE=12", "250 ")
	c.do("RCPT TO:<Postmaster>", "250 ")
	c.do("RCPT TO:<@relay.example:\"a b\"@EXAMPLE.org>", "250 ")
	c.do("DATA", "354 ")
	c.send(".\r\n")
	c.want("250 ")
	c.do("EHLO [192.0.2.1]", "250 ")
	c.do("MAIL FROM:<j\xc3\xb6rg@b\xc3\xbccher.example> SMTPUTF8", "250 ")
	want := []mail.Source{
		{Kind: mail.KindMX, ID: "id2", Helo: "my?machine?x?", Protocol: "SMTP", Size: 12, Time: now},
		{Kind: mail.KindMX, ID: "id3", Helo: "[192.0.2.1]", Protocol: "UTF8SMTP", UTF8: true, Time: now,
			From: mail.Address{Local: "j\xc3\xb6rg", Domain: "xn--bcher-kva.example"}},
	}
	for i, s := range r.sources {
		if s.RemoteIP.String() != "127.0.0.1" {
			t.Errorf("peer %v", s.RemoteIP)
		}
		s.RemoteIP = want[i].RemoteIP
		if s != want[i] {
			t.Errorf("source %d is %+v", i, s)
		}
	}
	m := r.all()
	if len(m) != 1 || fmt.Sprint(m[0].rcpts) != `[postmaster@example.org "a b"@example.org]` {
		t.Errorf("recipients %v", m)
	}
}

// Replies to a group of commands leave in one segment.
func TestRepliesAreBatched(t *testing.T) {
	t.Parallel()
	w := &writeCounter{}
	c := pipeConn(t, w, "HELO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n")
	c.serve()
	// The banner, then everything: the script's conn gives all its input at once.
	if len(w.writes) != 2 || !strings.HasSuffix(w.writes[1], "221 2.0.0 closing connection\r\n") {
		t.Errorf("%d writes: %q", len(w.writes), w.writes)
	}
}

type writeCounter struct{ writes []string }

func (w *writeCounter) Write(p []byte) (int, error) {
	w.writes = append(w.writes, string(p))
	return len(p), nil
}
