package dns

import (
	"net"
	"testing"
	"time"

	"postern/internal/dns/dnstest"
	"postern/internal/testkit"
)

// newTestResolver asks the given servers; its clock stands.
func newTestResolver(t testing.TB, try time.Duration, servers ...*dnstest.Server) (*Resolver, *testkit.Clock) {
	t.Helper()
	clock := testkit.NewClock()
	o := Options{Timeout: try, Now: clock.Now}
	for _, s := range servers {
		o.Servers = append(o.Servers, s.Addr)
	}
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, clock
}

func isNotFound(err error) bool {
	e, ok := err.(*net.DNSError) // never wrapped
	return ok && e.IsNotFound
}
