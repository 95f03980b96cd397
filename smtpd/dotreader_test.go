package smtpd

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"postern/internal/mail"
)

// newTestInput reads src in pieces of the sizes that cut returns, through a
// buffer of size octets.
func newTestInput(src []byte, size int, cut func() int) *input {
	in := &input{small: make([]byte, size)}
	in.buf = in.small
	in.read = func(p []byte) (int, error) {
		if len(src) == 0 {
			return 0, io.EOF
		}
		n := copy(p[:min(len(p), max(1, cut()))], src)
		src = src[n:]
		return n, nil
	}
	return in
}

func whole() int { return 1 << 30 }

// undot is the definition the dotReader is held to, one octet after the other.
// It returns the message, what follows it in the input, and what is wrong.
func undot(src []byte) (message, rest []byte, err error) {
	var line []byte
	for i, c := range src {
		if prev := len(line) > 0 && line[len(line)-1] == '\r'; prev != (c == '\n') {
			return nil, nil, mail.ErrLineEnding
		}
		if c == 0 {
			return nil, nil, mail.ErrNUL
		}
		if line = append(line, c); c != '\n' {
			continue
		}
		if string(line) == ".\r\n" {
			return message, src[i+1:], nil
		}
		message = append(message, bytes.TrimPrefix(line, []byte("."))...)
		line = line[:0]
	}
	return nil, nil, io.ErrUnexpectedEOF
}

func TestDotReader(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in, want, rest string
		err                  error
	}{
		{"one line", "a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n", nil},
		{"empty message", ".\r\n", "", "", nil},
		{"empty line", "\r\n.\r\n", "\r\n", "", nil},
		{"stuffed dot", "..\r\n.\r\n", ".\r\n", "", nil},
		{"stuffed dots", "...\r\n..a\r\n.b\r\n.\r\n", "..\r\n.a\r\nb\r\n", "", nil},
		{"dot inside a line", "a.\r\n.\r\n", "a.\r\n", "", nil},
		{"pipelined message", "a\r\n.\r\nb\r\n.\r\n", "a\r\n", "b\r\n.\r\n", nil},
		{"eight bit", "\xff\xe4\r\n.\r\n", "\xff\xe4\r\n", "", nil},
		{"LF.LF", "a\n.\n", "", "", mail.ErrLineEnding},
		{"LF.CRLF", "a\n.\r\n", "", "", mail.ErrLineEnding},
		{"CRLF.LF", "a\r\n.\nb", "", "", mail.ErrLineEnding},
		{"CR.CRLF", "a\r.\r\n", "", "", mail.ErrLineEnding},
		{"CRLF.CR", "a\r\n.\rb", "", "", mail.ErrLineEnding},
		{"CRCRLF.CRLF", "a\r\r\n.\r\n", "", "", mail.ErrLineEnding},
		{"CR.CR", "a\r.\rb", "", "", mail.ErrLineEnding},
		{"LF at once", "\n.\r\n", "", "", mail.ErrLineEnding},
		{"LF behind a dot", ".\n.\r\n", "", "", mail.ErrLineEnding},
		{"LFCR", "a\n\r.\r\n", "", "", mail.ErrLineEnding},
		{"NUL", "a\x00b\r\n.\r\n", "", "", mail.ErrNUL},
		{"NUL, then bare LF", "a\x00\n\r\n.\r\n", "", "", mail.ErrNUL},
		{"bare LF, then NUL", "a\n\x00\r\n.\r\n", "", "", mail.ErrLineEnding},
		{"NUL as a stuffed line", ".\x00\r\n.\r\n", "", "", mail.ErrNUL},
		{"nothing", "", "", "", io.ErrUnexpectedEOF},
		{"no end", "a\r\n", "", "", io.ErrUnexpectedEOF},
		{"end cut after the dot", "a\r\n.", "", "", io.ErrUnexpectedEOF},
		{"end cut after CR", "a\r\n.\r", "", "", io.ErrUnexpectedEOF},
		{"fault behind the end", "a\r\n.\r\n\n\x00", "a\r\n", "\n\x00", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, cut := range []func() int{whole, func() int { return 1 }, func() int { return 2 }, func() int { return 3 }} {
				in := newTestInput([]byte(tt.in), 8, cut)
				got, err := io.ReadAll(&body{src: &dotReader{in: in}, limit: 1000})
				if !errors.Is(err, tt.err) {
					t.Fatalf("error %v, want %v", err, tt.err)
				}
				if err != nil {
					continue
				}
				rest := append(bytes.Clone(in.bytes()), readAll(in)...)
				if string(got) != tt.want || string(rest) != tt.rest {
					t.Errorf("got %q and %q, want %q and %q", got, rest, tt.want, tt.rest)
				}
			}
			message, rest, err := undot([]byte(tt.in))
			if err != tt.err || string(message) != tt.want || string(rest) != tt.rest {
				t.Errorf("the model says %q, %q, %v", message, rest, err)
			}
		})
	}
}

// readAll returns what an input has not yet read.
func readAll(in *input) []byte {
	var all []byte
	p := make([]byte, 512)
	for {
		n, err := in.read(p)
		all = append(all, p[:n]...)
		if err != nil {
			return all
		}
	}
}

func FuzzDotReader(f *testing.F) {
	for _, s := range []string{
		"a\r\n.\r\nQUIT\r\n", ".\r\n", "..\r\n.\r\n", "a\n.\n", "a\r\r\n.\r\n", "\r\n.\r", "a\r.\r\n",
		"\x00\r\n.\r\n", "a\r\n.\rb\r\n.\r\n", strings.Repeat("0123456789\r\n", 30) + ".\r\n",
	} {
		f.Add([]byte(s), uint64(1), uint8(3))
	}
	f.Fuzz(func(t *testing.T, src []byte, seed uint64, read uint8) {
		want, rest, wantErr := undot(src)
		rnd := rand.New(rand.NewPCG(seed, 1))
		size := 4 + rnd.IntN(60)
		in := newTestInput(src, size, func() int { return 1 + rnd.IntN(size) })
		b := &body{src: &dotReader{in: in}, limit: 1 << 20}
		var got bytes.Buffer
		var err error
		if read%2 == 0 {
			_, err = b.WriteTo(&got)
		} else {
			p := make([]byte, read)
			_, err = io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{b}, p)
		}
		if !errors.Is(err, wantErr) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("got %q, want %q", got.Bytes(), want)
		}
		if left := append(bytes.Clone(in.bytes()), readAll(in)...); !bytes.Equal(left, rest) {
			t.Fatalf("left %q, want %q", left, rest)
		}
		if _, err := b.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("read after the end: %v", err)
		}
	})
}

// The reader must be a proper io.Reader for whoever uses it as one.
func TestBodyIsReader(t *testing.T) {
	t.Parallel()
	want := strings.Repeat("a line\r\n.with a dot\r\n", 100)
	in := newTestInput([]byte(stuff(want)+".\r\n"), 64, func() int { return 7 })
	if err := iotest.TestReader(&body{src: &dotReader{in: in}, limit: 1 << 20}, []byte(want)); err != nil {
		t.Error(err)
	}
}

// stuff is the client's side of dot stuffing.
func stuff(s string) string {
	s = strings.ReplaceAll(s, "\r\n.", "\r\n..")
	if strings.HasPrefix(s, ".") {
		s = "." + s
	}
	return s
}

func TestBodySize(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		size int
		err  error
	}{{98, nil}, {100, nil}, {102, mail.ErrTooBig}, {198, mail.ErrTooBig}} {
		src := strings.Repeat("x", tt.size-2) + "\r\n.\r\nQUIT\r\n"
		in := newTestInput([]byte(src), 32, func() int { return 10 })
		b := &body{src: &dotReader{in: in}, limit: 100}
		got, err := io.ReadAll(b)
		if err != tt.err && !errors.Is(err, tt.err) {
			t.Errorf("%d octets: error %v, want %v", tt.size, err, tt.err)
		}
		if len(got) > 100 {
			t.Errorf("%d octets: %d handed out", tt.size, len(got))
		}
		if err := b.drain(); err != nil {
			t.Errorf("%d octets: drain: %v", tt.size, err)
		}
		if rest := append(bytes.Clone(in.bytes()), readAll(in)...); string(rest) != "QUIT\r\n" {
			t.Errorf("%d octets: left %q", tt.size, rest)
		}
	}
	in := newTestInput([]byte(strings.Repeat("x", 1000)+"\r\n.\r\n"), 32, whole)
	b := &body{src: &dotReader{in: in}, limit: 100}
	if err := b.drain(); err != mail.ErrTooBig {
		t.Errorf("endless message: drain: %v", err)
	}
}

func TestWriteToPassesWriteErrors(t *testing.T) {
	t.Parallel()
	in := newTestInput([]byte("a\r\nb\r\n.\r\n"), 32, whole)
	b := &body{src: &dotReader{in: in}, limit: 100}
	if _, err := b.WriteTo(iotest.TruncateWriter(failWriter{}, 0)); err != nil {
		t.Errorf("truncate: %v", err)
	}
	in = newTestInput([]byte("a\r\nb\r\n.\r\n"), 32, whole)
	b = &body{src: &dotReader{in: in}, limit: 100}
	if _, err := b.WriteTo(failWriter{}); err != errDisk {
		t.Errorf("error %v, want %v", err, errDisk)
	}
	if err := b.drain(); err != nil {
		t.Errorf("drain after it: %v", err)
	}
}

var errDisk = errors.New("disk")

type failWriter struct{}

func (failWriter) Write([]byte) (int, error) { return 0, errDisk }

// BenchmarkData is the decoding of DATA as a transaction gets it, with the copy
// out of the socket's place taken by a copy from memory.
func BenchmarkData(b *testing.B) {
	lines := map[string]string{
		"text":       strings.Repeat("The quick brown fox jumps over the lazy dog. And again, and so on...\r\n", 15000),
		"base64":     strings.Repeat(strings.Repeat("A", 76)+"\r\n", 14000),
		"shortLines": strings.Repeat("> quoted\r\n", 100000),
		"dots":       strings.Repeat("..........\r\n", 80000),
	}
	for name, msg := range lines {
		src := []byte(stuff(msg) + ".\r\n")
		b.Run(name, func(b *testing.B) {
			pool := sync.Pool{New: func() any { return new([largeBuffer]byte) }}
			b.SetBytes(int64(len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				r := bytes.NewReader(src)
				in := &input{read: r.Read, small: make([]byte, smallBuffer), pool: &pool}
				in.buf = in.small
				in.grow()
				n, err := (&body{src: &dotReader{in: in}, limit: 1 << 30}).WriteTo(io.Discard)
				if err != nil || n != int64(len(msg)) {
					b.Fatal(n, err)
				}
				in.free()
			}
		})
	}
}
