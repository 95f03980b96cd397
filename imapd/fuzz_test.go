package imapd

import (
	"bytes"
	"io"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

// fuzzEnv is one server for all inputs of a fuzz target.
func fuzzEnv(f *testing.F) *env {
	e := newEnv(f, func(o *Options) {
		o.Limits.PerIP, o.Limits.Connections, o.Limits.PerAccount = 1000, 1000, 1000
		o.Limits.StallTime = 5 * time.Second
		o.Limits.LoginTime = 5 * time.Second
	})
	for _, m := range []string{simple("one"), nested, "\r\n"} {
		e.deliver("INBOX", m)
	}
	return e
}

// FuzzClient sends whatever octets in one of the states of a connection. The server
// must not panic, must not hang, must answer in lines, and must not lose its place: a
// canary command behind the input is answered, or the connection has ended.
func FuzzClient(f *testing.F) {
	e := fuzzEnv(f)
	for _, seed := range []string{
		"a NOOP\r\n", "a LOGIN x y\r\n", "a SELECT INBOX\r\nb FETCH 1:* (FLAGS ENVELOPE BODYSTRUCTURE)\r\n",
		"a APPEND INBOX (\\Seen) {5+}\r\nhello\r\n", "a APPEND INBOX {5+}\r\nhello {3+}\r\nabc\r\n",
		"a APPEND INBOX \"bad date\" {30+}\r\nx CREATE pwned\r\nx CREATE pwned\r\n", "a IDLE\r\nDONE\r\n", "a IDLE\r\nx\r\n",
		"a SEARCH OR SMALLER 5 (SUBJECT {3+}\r\nabc NOT BODY x)\r\n", "a STORE 1 +FLAGS (\\Deleted)\r\nb EXPUNGE\r\n",
		"a UID FETCH 1:* (BODY[1.2.MIME]<5.9223372036854775807> BINARY[2]<0.1>)\r\n", "a COPY 1:2 Sent\r\nb MOVE 1 Trash\r\n",
		"a LIST (SUBSCRIBED) \"\" (a* %b) RETURN (STATUS (MESSAGES))\r\n", "a AUTHENTICATE PLAIN\r\nAGEAYg==\r\n",
		"a AUTHENTICATE SCRAM-SHA-256 biwsbj14LHI9eQ==\r\n*\r\n", "a ID {3+}\r\nabc\r\n", "\r\n\r\n", "* * *\r\n", "a\x00b\r\n", "a \"\r\n",
		"a CREATE \"x\\\"y\"\r\n", "a ENABLE IMAP4rev2\r\nb SELECT INBOX\r\nc SEARCH RETURN (SAVE) ALL\r\nd FETCH $ UID\r\n", "{5}\r\n", "a {5+}\r\n",
		"a UNSELECT\r\nb CLOSE\r\nc LOGOUT\r\n", "a STARTTLS\r\n", "a FETCH " + strings.Repeat("1,", 300) + "1 FAST\r\n",
	} {
		for state := range byte(4) {
			f.Add(state, []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, state byte, in []byte) {
		conn, err := net.Dial("tcp", e.clear)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		var before string
		switch state % 4 {
		case 1:
			before = "l LOGIN " + testLogin + " " + testPassword + "\r\n"
		case 2:
			before = "l LOGIN " + testLogin + " " + testPassword + "\r\ns SELECT INBOX\r\n"
		case 3:
			before = "l LOGIN " + testLogin + " " + testPassword + "\r\ns EXAMINE INBOX\r\n"
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = io.Copy(conn, io.MultiReader(strings.NewReader(before), bytes.NewReader(in), strings.NewReader("\r\ncanary NOOP\r\n")))
			_ = conn.(*net.TCPConn).CloseWrite()
		})
		out, err := io.ReadAll(conn)
		if err != nil && isTimeout(err) {
			t.Fatalf("server hangs after %q", in)
		}
		wg.Wait()
		if len(out) > 0 && !bytes.HasPrefix(out, []byte("* ")) {
			t.Errorf("begins with %q", out[:min(len(out), 20)])
		}
		if log := e.logs.String(); strings.Contains(log, "panic") {
			t.Fatalf("panic: %s", log)
		}
	})
}

// FuzzCommand frames octets as the guard does. What it accepts must be framed the same
// way by anybody who reads line by line and counts literals.
func FuzzCommand(f *testing.F) {
	for _, seed := range []string{"a NOOP", "a LOGIN \"x\" {5+}", "a X \"\\\"\" y", "{1}", "a {99999999999999999999}", "a \"{5}\"", "a X ~{3+}", "a\rb"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.IndexByte(line, '\n') >= 0 {
			return
		}
		l, err := checkLine(line)
		if err != nil {
			return
		}
		if bytes.ContainsAny(line, "\r\x00") {
			t.Error("an octet that ends lines was let through")
		}
		if l.present && (l.size < 0 || l.at < 0 || line[l.at] != '{' || line[len(line)-1] != '}') {
			t.Errorf("literal %+v", l)
		}
		tag, name, err := splitCommand(line)
		if err == nil && (tag == "" || name == "" || textproto.TrimString(tag) != tag) {
			t.Errorf("tag %q, name %q", tag, name)
		}
		c := &command{tag: tag, name: name}
		c.add(bytes.Clone(line), l, false)
		if got := c.pieces[0].octets; !bytes.HasSuffix(got, []byte("\r\n")) || l.present && trailingLiteral(bytes.Replace(got, []byte("+}"), []byte("}"), 1)) < 0 && !bytes.Contains(line, []byte("+}")) {
			t.Errorf("line for the engine: %q", got)
		}
	})
}

// FuzzResponses cuts a stream of responses into pieces: what the guard learns from it
// must not depend on where.
func FuzzResponses(f *testing.F) {
	f.Add([]byte("* 1 FETCH (BODY[] {9}\r\na OK fake\r\n)\r\na OK done\r\n"), uint16(3))
	f.Add([]byte("+ go\r\na BAD x\r\n"), uint16(1))
	f.Fuzz(func(t *testing.T, out []byte, cut uint16) {
		whole, parts := responses{tag: "a"}, responses{tag: "a"}
		whole.scan(out)
		n := int(cut)%16 + 1
		for b := out; len(b) > 0; {
			k := min(n, len(b))
			parts.scan(b[:k])
			b = b[k:]
		}
		if whole.answered != parts.answered || whole.continued != parts.continued || whole.literal != parts.literal || whole.inside != parts.inside {
			t.Errorf("whole %+v, in parts %+v", whole, parts)
		}
	})
}

// FuzzMatchName compares with a slow matcher that is plainly right.
func FuzzMatchName(f *testing.F) {
	f.Add("a*b%c", "axxb/c")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 12 || len(name) > 12 || strings.Contains(strings.ToUpper(pattern), "INBOX") {
			return
		}
		if got, want := matchName(pattern, name), slowMatch(pattern, name); got != want {
			t.Errorf("%q on %q: %v", pattern, name, got)
		}
	})
}

func slowMatch(pattern, name string) bool {
	if pattern == "" {
		return name == ""
	}
	switch c := pattern[0]; c {
	case '*', '%':
		if slowMatch(pattern[1:], name) {
			return true
		}
		return name != "" && (c == '*' || name[0] != '/') && slowMatch(pattern, name[1:])
	}
	return name != "" && name[0] == pattern[0] && slowMatch(pattern[1:], name[1:])
}

// FuzzSection asks for any section of any message: it must lie within the message.
func FuzzSection(f *testing.F) {
	f.Add([]byte(nested), []byte{3, 1}, byte(1), int64(5), int64(1)<<62)
	f.Fuzz(func(t *testing.T, text, path []byte, kind byte, off, size int64) {
		m, err := fuzzMessage(text)
		if err != nil {
			return
		}
		var part []int
		for _, p := range path[:min(len(path), 6)] {
			part = append(part, int(p))
		}
		kinds := []imap.PartSpecifier{imap.PartSpecifierNone, imap.PartSpecifierHeader, imap.PartSpecifierMIME, imap.PartSpecifierText}
		s, err := m.section(&imap.FetchItemBodySection{Part: part, Specifier: kinds[kind%4], Partial: &imap.SectionPartial{Offset: off, Size: size}})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := s.copyTo(&out, m.body, make([]byte, 64)); err != nil || int64(out.Len()) != s.n {
			t.Errorf("%d octets announced, %d written, %v", s.n, out.Len(), err)
		}
		if !bytes.Contains(text, out.Bytes()) {
			t.Errorf("%q is not of the message", out.Bytes())
		}
		d, err := m.binary(part, &imap.SectionPartial{Offset: off, Size: size})
		if err != nil {
			return
		}
		out.Reset()
		if err := d.copyTo(&out, m.body, make([]byte, 64)); err != nil || int64(out.Len()) != d.n {
			t.Errorf("BINARY: %d octets announced, %d written, %v", d.n, out.Len(), err)
		}
	})
}
