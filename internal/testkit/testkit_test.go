package testkit

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	t.Parallel()
	c := NewClock()
	before := c.Now()
	if !c.Now().Equal(before) {
		t.Error("the clock moves by itself")
	}
	c.Advance(time.Hour)
	if got := c.Now().Sub(before); got != time.Hour {
		t.Errorf("advanced by %v", got)
	}
	c.Set(before)
	if !c.Now().Equal(before) {
		t.Error("not set")
	}
}

func TestFailAt(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	f := NewFailAt(3, broken)
	var got []error
	for range 5 {
		got = append(got, f.Call())
	}
	for i, err := range got {
		if (err != nil) != (i == 2) || err != nil && err != broken {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
	if f.Calls() != 5 {
		t.Errorf("%d calls", f.Calls())
	}
	var out bytes.Buffer
	f = NewFailAt(2, broken)
	w := f.Writer(&out)
	io.WriteString(w, "a")
	if n, err := io.WriteString(w, "b"); n != 0 || err != broken {
		t.Errorf("wrote %d, %v", n, err)
	}
	io.WriteString(w, "c")
	if out.String() != "ac" {
		t.Errorf("wrote %q", out.String())
	}
	if _, err := io.ReadAll(NewFailAt(1, broken).Reader(strings.NewReader("x"))); err != broken {
		t.Errorf("read: %v", err)
	}
}

func TestFailAtConcurrently(t *testing.T) {
	t.Parallel()
	f := NewFailAt(50, errors.New("broken"))
	var failed sync.Map
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if f.Call() != nil {
				failed.Store(i, true)
			}
		})
	}
	all.Wait()
	n := 0
	failed.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d calls failed", n)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := NewFullDisk(5)
	w := d.Writer(&out)
	if n, err := io.WriteString(w, "abc"); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := io.WriteString(w, "defg"); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d, %v", n, err)
	}
	d.Free(1)
	if n, err := io.WriteString(w, "f"); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if out.String() != "abcdef" {
		t.Errorf("%q", out.String())
	}
}

func TestPorts(t *testing.T) {
	t.Parallel()
	ports := FreePorts(t, 3)
	if ports[0].Number == ports[1].Number || ports[1].Number == ports[2].Number {
		t.Error("a port was given twice")
	}
	if _, err := net.Listen("tcp4", ports[0].Addr()); err == nil {
		t.Error("the port is not kept")
	}
	ports[0].Release()
	l, err := net.Listen("tcp4", ports[0].Addr())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if got := ports[1].Listener().Addr().String(); got != ports[1].Addr() {
		t.Errorf("the listener is at %s, not %s", got, ports[1].Addr())
	}
	base, release := FreeBase(t, 25, 143, 993)
	if l, err := net.Listen("tcp4", address(base+143)); err == nil {
		l.Close()
		t.Error("a port of the base is not kept")
	}
	release()
	l, err = net.Listen("tcp4", address(base+143))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// outcome runs f as a test of its own and tells how it ended.
type outcome struct {
	testing.TB
	end string
}

func (o *outcome) Helper()               {}
func (o *outcome) Skipf(string, ...any)  { o.end = "skipped"; panic(o) }
func (o *outcome) Fatalf(string, ...any) { o.end = "failed"; panic(o) }

func endOf(t *testing.T, f func(testing.TB)) string {
	o := &outcome{TB: t, end: "passed"}
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(o) {
				panic(p)
			}
		}()
		f(o)
	}()
	return o.end
}

func TestParts(t *testing.T) {
	if path := Parts(t, "go")["go"]; path == "" {
		t.Error("no path")
	}
	t.Setenv(requireParts, "")
	if got := endOf(t, func(t testing.TB) { Parts(t, "go", "no-such-program-anywhere") }); got != "skipped" {
		t.Errorf("a missing part: %s", got)
	}
	t.Setenv(requireParts, "1")
	if got := endOf(t, func(t testing.TB) { Parts(t, "go", "no-such-program-anywhere") }); got != "failed" {
		t.Errorf("a missing part that is required: %s", got)
	}
	if got := endOf(t, func(t testing.TB) { Parts(t, "go") }); got != "passed" {
		t.Errorf("a part that is here: %s", got)
	}
}

func TestWire(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in, want string
		ok       bool
	}{
		{"a\nb\n", "a\r\nb\r\n", true},
		{"a\r\nb", "a\r\nb\r\n", true},
		{"a\r\n\nb\r\n", "a\r\n\r\nb\r\n", true},
		{"a\rb\n", "", false},
		{"a\r\r\n", "", false},
		{"a\x00\n", "", false},
		{"", "", false},
	}
	for _, tt := range tests {
		got, ok := wire([]byte(tt.in))
		if string(got) != tt.want || ok != tt.ok {
			t.Errorf("wire(%q) = %q, %v", tt.in, got, ok)
		}
	}
}

func TestGenerated(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	var c collector
	all := Generated()
	for _, m := range all {
		if names[m.Name] {
			t.Errorf("two messages are called %s", m.Name)
		}
		names[m.Name] = true
		c.add(m)
	}
	if len(c.messages) != len(all) || len(all) < 120 {
		t.Errorf("of %d generated messages %d are different and could come by SMTP", len(all), len(c.messages))
	}
	again := Generated()
	for i, m := range all {
		if m.TXT == nil && !bytes.Equal(m.Bytes, again[i].Bytes) {
			t.Errorf("%s is not the same at the second call", m.Name)
		}
	}
}

func TestCorpus(t *testing.T) {
	t.Parallel()
	all := Corpus(t)
	sources, signed := map[string]int{}, map[string]int{}
	for _, m := range all {
		sources[m.Source]++
		kind, _, _ := strings.Cut(m.Name, "-")
		if m.SignedBy != nil {
			signed[kind]++
		}
		if m.TXT != nil {
			signed["dkim"]++
		}
		if bytes.Count(m.Bytes, []byte("\n")) != bytes.Count(m.Bytes, []byte("\r\n")) || bytes.Count(m.Bytes, []byte("\r")) != bytes.Count(m.Bytes, []byte("\n")) || !bytes.HasSuffix(m.Bytes, []byte("\r\n")) {
			t.Errorf("%s has lines that do not end in CRLF", m.Name)
		}
	}
	t.Logf("%d messages: %v, signed %v", len(all), sources, signed)
	if len(all) < corpusSize {
		t.Errorf("%d messages", len(all))
	}
	if sources["generated"] < 120 {
		t.Errorf("sources: %v", sources)
	}
}

// The signatures must be good, or tests that preserve them prove nothing.
func TestSignaturesAreGood(t *testing.T) {
	t.Parallel()
	paths := Parts(t, "gpg", "openssl")
	pgp, err := pgpSigned()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range pgp {
		if strings.HasPrefix(m.Name, "pgp-signed") {
			checkPGP(t, paths["gpg"], m)
		}
	}
	smime, err := smimeSigned(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(pgp) < 5 || len(smime) < 8 {
		t.Fatalf("%d OpenPGP, %d S/MIME", len(pgp), len(smime))
	}
	damaged := 0
	for _, m := range smime {
		b, _ := wire(m.Bytes)
		if out, err := verifySMIME(t, paths["openssl"], b); err != nil {
			t.Errorf("%s: %v: %s", m.Name, err, out)
		}
		// With its blanks it is in the text, and not in base64 that nobody signed.
		changed := bytes.Replace(b, []byte(" and "), []byte(" und "), 1)
		if bytes.Equal(changed, b) {
			continue
		}
		damaged++
		if _, err := verifySMIME(t, paths["openssl"], changed); err == nil {
			t.Errorf("%s verifies though it was changed", m.Name)
		}
	}
	if damaged == 0 {
		t.Error("no message was damaged")
	}
}

func verifySMIME(t *testing.T, openssl string, b []byte) ([]byte, error) {
	cmd := exec.CommandContext(t.Context(), openssl, "cms", "-verify", "-noverify", "-inform", "SMIME", "-binary", "-crlfeol", "-out", "/dev/null")
	cmd.Stdin = bytes.NewReader(b)
	return cmd.CombinedOutput()
}
