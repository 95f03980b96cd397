package keydir

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/dns"
)

// TestFetchHuge: a server that sends without end costs what the limit says, however
// it announces it.
func TestFetchHuge(t *testing.T) {
	for name, announce := range map[string]func(http.ResponseWriter){
		"announced":     func(w http.ResponseWriter) { w.Header().Set("Content-Length", "1073741824") },
		"not announced": func(http.ResponseWriter) {},
	} {
		var sent atomic.Int64
		n := newInternet(t)
		n.site(t, "example.org", func(w http.ResponseWriter, _ *http.Request) {
			announce(w)
			block := make([]byte, 64<<10)
			for range 1 << 30 / len(block) {
				k, err := w.Write(block)
				sent.Add(int64(k))
				if err != nil {
					return
				}
			}
		})
		w := n.wkd(long)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		wantOutcome(t, name, outcome(t, w, alice), "unknown too_large")
		runtime.ReadMemStats(&after)
		// What both ends allocate together; the body grows by doubling.
		if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
			t.Errorf("%s: %d KiB allocated", name, n>>10)
		}
		if n := sent.Load(); n > 32<<20 { // what fits into the buffers of two sockets
			t.Errorf("%s: %d KiB were sent", name, n>>10)
		}
	}
}

// TestFetchPoliteEnd: an answer that ends because we hang up looks complete, and is
// not taken for it.
func TestFetchPoliteEnd(t *testing.T) {
	t.Parallel()
	good := certificateOf(t, alice)
	var all sync.WaitGroup
	for range 40 { // what is seen first is a race
		n := newInternet(t)
		n.site(t, "example.org", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(good[:len(good)/2])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		w := n.wkd(short)
		all.Go(func() { wantOutcome(t, "half of it", outcome(t, w, alice), "unknown timeout") })
	}
	all.Wait()
}

func TestFetchTLS(t *testing.T) {
	t.Parallel()
	soon := time.Now().Add(time.Hour)
	other := newTestCA(t)
	for _, c := range []struct {
		name string
		cert func(n *internet) tls.Certificate
		want string
	}{
		{"valid", func(n *internet) tls.Certificate { return n.ca.issue(t, soon, "*.example.org") }, "found"},
		{"expired", func(n *internet) tls.Certificate {
			return n.ca.issue(t, time.Now().Add(-time.Minute), "*.example.org")
		}, "unknown tls - advanced method, TLS: the certificate has expired"},
		{"another name", func(n *internet) tls.Certificate { return n.ca.issue(t, soon, "example.org", "*.example.net") }, "unknown tls - advanced method, TLS: the certificate is for another name"},
		{"another authority", func(*internet) tls.Certificate { return other.issue(t, soon, "*.example.org") }, "unknown tls - advanced method, TLS: the certificate is from an unknown authority"},
	} {
		n := newInternet(t, "openpgpkey.example.org. 300 IN A 11.0.0.1")
		n.serve(t, "11.0.0.1", c.cert(n), always(certificateOf(t, alice)))
		wantOutcome(t, c.name, outcome(t, n.wkd(long), alice), c.want)
	}
	for name, behave := range map[string]func(net.Conn){
		"no TLS":         func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n")) },
		"nothing at all": func(net.Conn) {},
		"TLS 1.1": func(c net.Conn) {
			ca := newTestCA(t)
			_ = tls.Server(c, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10, Certificates: []tls.Certificate{ca.issue(t, soon, "*.example.org")}}).Handshake()
		},
	} {
		n := newInternet(t, "openpgpkey.example.org. 300 IN A 11.0.0.1")
		l := n.listen(t, "11.0.0.1")
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				behave(c)
				c.Close()
			}
		}()
		got := outcome(t, n.wkd(long), alice)
		if name == "nothing at all" {
			wantOutcome(t, name, got, "unknown connect")
		} else {
			wantOutcome(t, name, got, "unknown tls")
		}
	}
	// A handshake that never ends.
	n := newInternet(t, "openpgpkey.example.org. 300 IN A 11.0.0.1")
	n.listen(t, "11.0.0.1")
	wantOutcome(t, "silence", outcome(t, n.wkd(short), alice), "unknown timeout")
}

// TestFetchRedirects: where redirects lead, and where they do not.
func TestFetchRedirects(t *testing.T) {
	t.Parallel()
	path := "/.well-known/openpgpkey/example.org/hu/" + WKDHash("alice")
	for _, c := range []struct {
		name  string
		to    string // of the first answer
		then  string // of the second
		want  string
		asked int // requests at example.net
	}{
		{"another page of the host", "/keys/alice", "", "found", 0},
		{"relative", "alice.pgp", "", "found", 0},
		{"the domain itself", "https://example.org/pgp", "", "found", 0},
		{"below the domain", "https://www.example.org/pgp?x=y", "", "found", 0},
		{"with the port", "https://www.example.org:443/pgp", "", "found", 0},
		{"case and dot", "https://WWW.Example.ORG/pgp", "", "found", 0},
		{"delegated", "https://example.net" + path, "", "found", 1},
		{"delegated, another query", "https://example.net" + path + "?do=something", "", "found", 1},
		{"in two steps", "/a", "/b", "found", 0},
		{"elsewhere, another page", "https://example.net/attack", "", "unknown redirect - advanced method, redirected to another page", 0},
		{"elsewhere by a detour", "/attack", "https://example.net/attack", "unknown redirect - advanced method, redirected to another page", 0},
		{"a name that only ends so", "https://evilexample.org/x", "", "unknown redirect", 0},
		{"without TLS", "http://www.example.org" + path, "", "unknown redirect - advanced method, redirected to a page without TLS", 0},
		{"another port", "https://www.example.org:8443" + path, "", "unknown redirect - advanced method, redirected to another port", 0},
		{"another scheme", "file:///etc/passwd", "", "unknown redirect", 0},
		{"opaque", "mailto:bob@example.org", "", "unknown redirect", 0},
		{"nonsense", "https://%zz/", "", "unknown redirect", 0},
		{"to itself", path, path, "unknown redirect - advanced method, redirected more than 3 times", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newInternet(t, "www.example.org. 300 IN A 11.0.0.1", "evilexample.org. 300 IN A 11.0.0.2", "example.net. 300 IN A 11.0.0.2")
			var requests, asked atomic.Int32
			n.site(t, "example.org", func(w http.ResponseWriter, r *http.Request) {
				if r.Referer() != "" {
					t.Errorf("referer %q", r.Referer())
				}
				k := requests.Add(1)
				switch {
				case c.to == path || k == 1:
					w.Header().Set("Location", c.to)
				case k == 2 && c.then != "":
					w.Header().Set("Location", c.then)
				default:
					_, _ = w.Write(certificateOf(t, alice))
					return
				}
				w.WriteHeader([]int{301, 302, 303, 307, 308}[int(k)%5])
			})
			n.serve(t, "11.0.0.2", n.ca.issue(t, time.Now().Add(time.Hour), "example.net", "evilexample.org"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				if r.Referer() != "" || r.URL.Path != path || r.URL.RawQuery != "l=alice" {
					t.Errorf("elsewhere: %v", r.URL)
				}
				_, _ = w.Write(certificateOf(t, alice))
			}))
			wantOutcome(t, c.name, outcome(t, n.wkd(long), alice), c.want)
			if int(asked.Load()) != c.asked || requests.Load() > 1+maxRedirects {
				t.Errorf("%d requests, %d elsewhere", requests.Load(), asked.Load())
			}
		})
	}
}

// internalAddresses are what nobody may have us connect to.
var internalAddresses = []string{
	"127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.255",
	"0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "192.0.0.8", "198.18.0.1", "192.0.2.1", "203.0.113.9", "198.51.100.2",
	"::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "100::1", "2001:db8::1", "2001::1", "2002:7f00:1::1", "3fff::1", "5f00::1",
	"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:192.168.0.1", "::127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
}

// TestFetchInternal: nobody has us connect to what only we can reach: not by a
// record, not by a redirect to a name or an address, not by an address beside a good
// one, not by changing the record between two look-ups.
func TestFetchInternal(t *testing.T) {
	t.Parallel()
	path := "/.well-known/openpgpkey/example.org/hu/" + WKDHash("alice")
	dialled := func(n *internet) (bad []netip.AddrPort) {
		for _, to := range n.dials() {
			if !dns.IsPublic(to.Addr()) {
				bad = append(bad, to)
			}
		}
		return bad
	}
	for _, s := range internalAddresses {
		a := netip.MustParseAddr(s)
		record := "openpgpkey.example.org. 300 IN A " + s
		if a.Is6() {
			record = "openpgpkey.example.org. 300 IN AAAA " + s
		}
		n := newInternet(t, record)
		wantOutcome(t, s, outcome(t, n.wkd(long), alice), "unknown address")
		if len(n.dials()) != 0 {
			t.Errorf("%s was dialled", s)
		}
	}
	for _, host := range append([]string{"localhost", "internal.example.net", "printer", "2130706433", "0x7f.1", "127.1", "internal.example.org"}, internalAddresses...) {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		n := newInternet(t, "internal.example.net. 300 IN A 10.0.0.1", "internal.example.org. 300 IN A 10.0.0.1", "printer. 300 IN A 192.168.0.9", "localhost. 300 IN A 127.0.0.1")
		n.site(t, "example.org", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://"+host+path)
			w.WriteHeader(302)
		})
		got := outcome(t, n.wkd(long), alice)
		if !strings.HasPrefix(got, "unknown address") && !strings.HasPrefix(got, "unknown dns") && !strings.HasPrefix(got, "unknown redirect") {
			t.Errorf("redirect to %s: %s", host, got)
		}
		if bad := dialled(n); len(bad) > 0 {
			t.Errorf("redirect to %s: dialled %v", host, bad)
		}
	}
	// Good and bad mixed: only the good one is dialled.
	n := newInternet(t, "openpgpkey.example.org. 300 IN A 127.0.0.1")
	n.site(t, "example.org", always(certificateOf(t, alice)))
	wantOutcome(t, "mixed", outcome(t, n.wkd(long), alice), "found")
	if bad := dialled(n); len(bad) > 0 {
		t.Errorf("mixed: dialled %v", bad)
	}
	// Where the operator wants it, they are.
	n = newInternet(t, "openpgpkey.example.org. 300 IN A 10.0.0.1")
	n.serve(t, "10.0.0.1", n.ca.issue(t, time.Now().Add(time.Hour), "openpgpkey.example.org"), always(certificateOf(t, alice)))
	f := NewFetcher(FetchOptions{Resolver: n.resolver, RootCAs: n.ca.pool, Timeout: long, Connect: n.connect, AllowPrivate: true})
	wantOutcome(t, "allowed", outcome(t, NewWKD(f, n.resolver, nil, time.Now), alice), "found")
}

// TestFetchReal dials for itself, to a port of its own.
func TestFetchReal(t *testing.T) {
	t.Parallel()
	n := newInternet(t, "openpgpkey.example.org. 300 IN A 127.0.0.1")
	n.serve(t, "127.0.0.1", n.ca.issue(t, time.Now().Add(time.Hour), "openpgpkey.example.org"), always(certificateOf(t, alice)))
	port := netip.MustParseAddrPort(n.hosts[netip.MustParseAddr("127.0.0.1")]).Port()
	for allow, want := range map[bool]string{true: "found", false: "unknown address"} {
		f := NewFetcher(FetchOptions{Resolver: n.resolver, RootCAs: n.ca.pool, Timeout: long, AllowPrivate: allow, Port: port})
		defer f.Close()
		wantOutcome(t, fmt.Sprint("allowed: ", allow), outcome(t, NewWKD(f, n.resolver, nil, time.Now), alice), want)
	}
}

// TestDialSeveral: of several addresses the ones that do not answer hold nobody up.
func TestDialSeveral(t *testing.T) {
	t.Parallel()
	n := newInternet(t, "h.example. 300 IN A 11.0.0.1", "h.example. 300 IN A 11.0.0.2", "h.example. 300 IN AAAA 2600::1", "h.example. 300 IN AAAA 2600::2")
	l := n.listen(t, "2600::2")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	hang := func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		if to.Addr() != netip.MustParseAddr("2600::2") {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return n.connect(ctx, to)
	}
	d := &dialer{resolver: n.resolver, port: httpsPort, connect: n.connect, patience: long}
	c, err := d.dial(t.Context(), "tcp", "h.example:443")
	if err != nil {
		t.Fatal("others refuse: ", err)
	}
	c.Close()
	if to := n.dials(); len(to) < 3 || !to[0].Addr().Is6() || !to[1].Addr().Is4() || !to[2].Addr().Is6() {
		t.Errorf("dialled %v: not both families in turn", to)
	}
	d.connect = hang
	if c, err = d.dial(t.Context(), "tcp", "h.example:443"); err != nil {
		t.Fatal("others are silent: ", err)
	}
	c.Close()
	for _, bad := range []string{"h.example:80", "h.example:8443", "h.example:0", "h.example:99999", "h.example"} {
		if _, err := d.dial(t.Context(), "tcp", bad); err == nil {
			t.Errorf("%s was dialled", bad)
		}
	}
}

// TestFetchKeepsConnections: a host that is asked again is not connected to again,
// also if it has nothing.
func TestFetchKeepsConnections(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.site(t, "example.org", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(404)
		_, _ = w.Write([]byte(strings.Repeat("<p>Sorry.", 1000)))
	})
	w := n.wkd(long)
	for i := range 20 {
		wantOutcome(t, "404", outcome(t, w, fmt.Sprintf("u%d@example.org", i)), "none")
	}
	if k := len(n.dials()); k != 1 {
		t.Errorf("%d connections", k)
	}
}

func FuzzRedirect(f *testing.F) {
	for _, to := range []string{"https://example.net/", "//example.net/x", "/x", "https://a@example.org:443/?q#f", "https://[::1]/", "javascript:alert(1)"} {
		f.Add(to)
	}
	fetcher := &Fetcher{port: httpsPort}
	first := &url.URL{Scheme: "https", Host: "openpgpkey.example.org", Path: "/a/b", RawQuery: "l=x"}
	f.Fuzz(func(t *testing.T, location string) {
		to, err := fetcher.redirect("example.org", first, first, location)
		if err != nil {
			return
		}
		host := strings.TrimSuffix(strings.ToLower(to.Hostname()), ".")
		within := host == "example.org" || strings.HasSuffix(host, ".example.org")
		if to.Scheme != "https" || to.User != nil || to.Port() != "" && to.Port() != "443" ||
			!within && (to.EscapedPath() != "/a/b" || to.RawQuery != "l=x") {
			t.Errorf("%q leads to %v", location, to)
		}
	})
}
