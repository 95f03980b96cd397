package deliver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Whoever looks at the queue reads which port it was, and what is wrong with it.
func TestDialSaysWhy(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for name, row := range map[string]struct {
		connect func(context.Context, netip.AddrPort) (net.Conn, error)
		want    string
	}{
		"refused": {func(context.Context, netip.AddrPort) (net.Conn, error) {
			return net.Dial("tcp", "127.0.0.1:1")
		}, "mx.test cannot be reached on port 25: nobody listens there"},
		"silent": {func(context.Context, netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialContext(ended, "tcp", "127.0.0.1:1")
		}, "on port 25: no answer in time"},
		"no way": {func(context.Context, netip.AddrPort) (net.Conn, error) {
			return nil, &net.OpError{Err: syscall.ENETUNREACH}
		}, "on port 25: there is no way to its address"},
		"else": {func(context.Context, netip.AddrPort) (net.Conn, error) {
			return nil, errors.New("the cause is for the log")
		}, "on port 25"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &delivery{Carrier: New(Options{Connect: row.connect}), ctx: t.Context()}
			_, f := d.dial(hop{host: "mx.test", port: 25}, netip.MustParseAddr("192.0.2.1"))
			if f == nil || !strings.HasSuffix(f.Text, row.want) || f.Status != Retry {
				t.Errorf("%+v", f)
			}
		})
	}
}
