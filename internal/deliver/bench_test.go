package deliver

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/internal/dns"
)

// fixed is a resolver that knows one address for everything.
type fixed struct{}

func (fixed) Query(_ context.Context, _ string, qtype uint16) (dns.Answer, error) {
	return dns.Answer{Name: "mx.example.test"}, nil
}
func (fixed) Prefetch(string, uint16) {}
func (fixed) Validates() bool         { return false }

// sink answers as fast as it can, and looks at nothing but the ends of commands.
func sink(c net.Conn) {
	r := bufio.NewReaderSize(c, 64<<10)
	w := bufio.NewWriterSize(c, 4<<10)
	reply := func(s string) {
		_, _ = w.WriteString(s)
		if r.Buffered() == 0 {
			_ = w.Flush()
		}
	}
	reply("220 sink\r\n")
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch {
		case bytes.HasPrefix(line, []byte("EHLO")):
			reply("250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
		case bytes.HasPrefix(line, []byte("DATA")):
			reply("354 go\r\n")
			for !bytes.Equal(line, []byte(".\r\n")) {
				if line, err = r.ReadSlice('\n'); err != nil {
					return
				}
			}
			reply("250 ok\r\n")
		default:
			reply("250 ok\r\n")
		}
	}
}

// BenchmarkDeliver sends 2 KB messages over one connection to a server in this process.
func BenchmarkDeliver(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go sink(c)
		}
	}()
	c := New(Options{
		Hostname: "us.sender.test", Resolver: fixed{}, MaxMessages: 1 << 30, Idle: time.Minute,
		Routes:  []Route{{Domain: "*", Host: "127.0.0.1"}},
		Connect: func(context.Context, netip.AddrPort) (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) },
	})
	defer c.Close()
	content := "From: a@sender.test\r\nSubject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", 31)
	r := request(alice)
	r.Size = int64(len(content))
	r.Open = func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
	b.ReportAllocs()
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if got := c.Deliver(b.Context(), r)[0]; got.Status != Delivered {
			b.Fatalf("%+v", got)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkContent checks and stuffs 1 MB of armor.
func BenchmarkContent(b *testing.B) {
	content := strings.Repeat(strings.Repeat("x", 64)+"\r\n", 16_000)
	c := New(Options{Resolver: fixed{}})
	defer c.Close()
	near, far := net.Pipe()
	far.Close()
	defer near.Close()
	s := &session{c: c, raw: near, bw: bufio.NewWriterSize(io.Discard, writeBuffer)}
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if err := s.sendData(strings.NewReader(content)); err != nil {
			b.Fatal(err)
		}
	}
}
