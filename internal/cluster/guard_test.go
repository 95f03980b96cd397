package cluster

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"postern/internal/testkit"
)

func TestReplies(t *testing.T) {
	t.Parallel()
	good := []string{
		"+OK\r\n", "-ERR no\r\n", ":1\r\n", "$-1\r\n", "$0\r\n\r\n", "*0\r\n", "*-1\r\n",
		"$6\r\n*9\r\n$9\r\n", // what looks like a header within a string
		"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n",
		"*2\r\n*1\r\n*0\r\n:5\r\n+after\r\n",
		"$1048576\r\n" + strings.Repeat("x", maxBulk) + "\r\n",
		"-" + strings.Repeat("e", maxLine-3) + "\r\n",
		strings.Repeat("*1\r\n", maxDepth) + ":1\r\n",
		strings.Repeat("*1\r\n:1\r\n", 300_000),                                          // many replies
		strings.Repeat("$1048576\r\n"+strings.Repeat("x", maxBulk)+"\r\n", 10),           // over maxReply only together
		"*3\r\n" + strings.Repeat("$1048576\r\n"+strings.Repeat("x", maxBulk)+"\r\n", 3), // and just below it in one
	}
	for _, s := range good {
		for _, piece := range []int{1, 3, 1 << 20} {
			if piece == 1 && len(s) > 1<<20 {
				continue
			}
			if err := scanPieces([]byte(s), piece); err != nil {
				t.Errorf("%.40q in pieces of %d: %v", s, piece, err)
			}
		}
	}
	bad := []string{
		"HTTP/1.1 400 Bad Request\r\n", "\r\n", "\x00\x00\x00\n", "%1\r\n+a\r\n+b\r\n", ">1\r\n+a\r\n", "_\r\n", "#t\r\n", "|1\r\n",
		"$1048577\r\n", "$536870912\r\n", "$-2\r\n", "$\r\n", "$1x\r\n", "$1\n", "$99999999999999999999\r\n", "$" + strings.Repeat("0", 40) + "1\r\n",
		"*131073\r\n", "*-2\r\n", "*2147483647\r\n", "*2\r\n*131072\r\n",
		strings.Repeat("*1\r\n", maxDepth+1),
		"-" + strings.Repeat("e", maxLine) + "\r\n", strings.Repeat("+", maxLine+1),
		"*5\r\n" + strings.Repeat("$1048576\r\n"+strings.Repeat("x", maxBulk)+"\r\n", 5),
		"+OK\r\n+OK\r\nrubbish\r\n",
	}
	for _, s := range bad {
		for _, piece := range []int{1, 3, 1 << 20} {
			if piece == 1 && len(s) > 1<<20 {
				continue
			}
			if err := scanPieces([]byte(s), piece); !errors.Is(err, errReply) {
				t.Errorf("%.40q in pieces of %d: %v", s, piece, err)
			}
		}
	}
}

func scanPieces(b []byte, piece int) error {
	var r replies
	for len(b) > 0 {
		n := min(piece, len(b))
		if err := r.scan(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// A guarded connection passes on what it may, ends at what it may not, and still lets
// the client look at the socket.
func TestGuarded(t *testing.T) {
	t.Parallel()
	l := testkit.FreePort(t).Listener()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte("+OK\r\n"))
		_, _ = io.ReadFull(c, make([]byte, 1))
		_, _ = c.Write([]byte("$999999999\r\n"))
		_, _ = c.Read(make([]byte, 1))
		c.Close()
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	closed := 0
	c := guarded(raw, func() { closed++ })
	if _, ok := c.(interface{ SyscallConn() }); ok {
		t.Error("the wrong SyscallConn")
	}
	b := make([]byte, 64)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "+OK\r\n" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(b); n != 0 || !errors.Is(err, errReply) {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := raw.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is still open: %v", err)
	}
	if closed != 1 {
		t.Errorf("told of the end %d times", closed)
	}
}

// However a stream is cut into pieces, it is judged the same, and nothing that is
// accepted announces more than the bounds.
func FuzzReplies(f *testing.F) {
	f.Add([]byte("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$0\r\n\r\n"), 2)
	f.Add([]byte("*2\r\n*1\r\n*-1\r\n:5\r\n+OK\r\n$5\r\nab"), 1)
	f.Add([]byte("$1048577\r\n"), 3)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		whole := scanPieces(b, len(b)+1)
		pieces := scanPieces(b, max(1, piece%64))
		if (whole == nil) != (pieces == nil) {
			t.Errorf("whole: %v, in pieces: %v", whole, pieces)
		}
		// Of what is accepted each line is short.
		if whole == nil && len(b) > maxLine && !bytes.Contains(b, []byte("\n")) {
			t.Error("a line without an end")
		}
	})
}

func BenchmarkReplies(b *testing.B) {
	reply := []byte("$4096\r\n" + strings.Repeat("x", 4096) + "\r\n")
	var r replies
	b.ReportAllocs()
	b.SetBytes(int64(len(reply)))
	for b.Loop() {
		if err := r.scan(reply); err != nil {
			b.Fatal(err)
		}
	}
}
