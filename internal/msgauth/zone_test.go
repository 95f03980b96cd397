package msgauth

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
)

// zone is a Resolver that knows what it holds, by type and name, and answers
// anything else with "no such record". It counts what it was asked.
type zone struct {
	txt   map[string][]string
	ip    map[string][]string
	mx    map[string][]string
	fails map[string]bool // names for which nobody knows

	mu    sync.Mutex
	asked []string
}

func (z *zone) look(kind, name string, records map[string][]string) ([]string, error) {
	z.mu.Lock()
	z.asked = append(z.asked, kind+" "+name)
	z.mu.Unlock()
	if z.fails[name] {
		return nil, &net.DNSError{Err: "SERVFAIL", Name: name, IsTemporary: true}
	}
	if r, ok := records[name]; ok {
		return r, nil
	}
	return nil, notFound(name)
}

func (z *zone) LookupTXT(_ context.Context, name string) ([]string, error) {
	return z.look("TXT", name, z.txt)
}

func (z *zone) LookupMX(_ context.Context, name string) (mx []*net.MX, err error) {
	hosts, err := z.look("MX", name, z.mx)
	for _, h := range hosts {
		mx = append(mx, &net.MX{Host: h})
	}
	return mx, err
}

func (z *zone) LookupIPAddr(_ context.Context, host string) (ips []net.IPAddr, err error) {
	addrs, err := z.look("A", host, z.ip)
	for _, a := range addrs {
		ips = append(ips, net.IPAddr{IP: net.ParseIP(a)})
	}
	return ips, err
}

func (z *zone) LookupAddr(_ context.Context, addr string) ([]string, error) {
	return nil, notFound(addr)
}

// names returns what was asked for in TXT questions, in order.
func (z *zone) names() []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Clone(z.asked)
}

func (z *zone) wantAsked(t *testing.T, want ...string) {
	t.Helper()
	got := z.names()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
}
