package keydir

import (
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/testkit"
)

// barrenHosts are what web servers of domains are like, and what the advanced and the
// direct method make of them, the latter also for a domain that had a directory.
var barrenHosts = map[string]struct {
	start                    func(t *testing.T, n *internet, name string)
	advanced, direct, before string
}{
	"404":          {withStatus(404), "none", "none", "none"},
	"410":          {withStatus(410), "none", "none", "none"},
	"400":          {withStatus(400), "unknown status", "none", "unknown status"},
	"401":          {withStatus(401), "unknown status", "none", "unknown status"},
	"403":          {withStatus(403), "unknown status", "none", "unknown status"},
	"408":          {withStatus(408), "unknown status", "unknown status", "unknown status"},
	"429":          {withStatus(429), "unknown status", "unknown status", "unknown status"},
	"500":          {withStatus(500), "unknown status", "unknown status", "unknown status"},
	"503":          {withStatus(503), "unknown status", "unknown status", "unknown status"},
	"a page":       {withBody("text/html", "<html>Hello"), "none", "none", "unknown content"},
	"text":         {withBody("text/plain", "hello"), "unknown content", "unknown content", "unknown content"},
	"nothing":      {withBody("application/octet-stream", ""), "unknown content", "unknown content", "unknown content"},
	"login page":   {withRedirect("https://login.example.net/"), "unknown redirect", "none", "unknown redirect"},
	"back to HTTP": {withRedirect("http://www.example.org/"), "unknown redirect", "none", "unknown redirect"},
	"no server":    {func(*testing.T, *internet, string) {}, "unknown connect", "none", "unknown connect"},
	"not TLS": {func(t *testing.T, n *internet, _ string) {
		l := n.listen(t, "11.0.0.1")
		s := &http.Server{Handler: http.NotFoundHandler()}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
	}, "unknown tls", "none", "unknown tls"},
	"another name":          {withTLS(time.Hour, "www.example.net"), "unknown tls", "none", "unknown tls"},
	"another name, expired": {withTLS(-time.Hour, "www.example.net"), "unknown tls", "none", "unknown tls"},
	"expired":               {withTLS(-time.Hour, "example.org", "*.example.org"), "unknown tls", "unknown tls", "unknown tls"},
	"nobody's authority": {func(t *testing.T, n *internet, name string) {
		n.serve(t, "11.0.0.1", newTestCA(t).issue(t, time.Now().Add(time.Hour), name), http.NotFoundHandler())
	}, "unknown tls", "none", "unknown tls"},
	"hangs up": {func(t *testing.T, n *internet, _ string) {
		l := n.listen(t, "11.0.0.1")
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			}
		}()
	}, "unknown connect", "unknown connect", "unknown connect"},
	"hangs": {func(t *testing.T, n *internet, _ string) { n.listen(t, "11.0.0.1") }, "unknown timeout", "unknown timeout", "unknown timeout"},
}

func withTLS(life time.Duration, names ...string) func(*testing.T, *internet, string) {
	return func(t *testing.T, n *internet, _ string) {
		n.serve(t, "11.0.0.1", n.ca.issue(t, time.Now().Add(life), names...), http.NotFoundHandler())
	}
}

func withHandler(h http.HandlerFunc) func(*testing.T, *internet, string) {
	return func(t *testing.T, n *internet, name string) {
		n.serve(t, "11.0.0.1", n.ca.issue(t, time.Now().Add(time.Hour), name), h)
	}
}

func withStatus(status int) func(*testing.T, *internet, string) {
	return withHandler(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
}

func withBody(contentType, body string) func(*testing.T, *internet, string) {
	return withHandler(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write([]byte(body))
	})
}

func withRedirect(to string) func(*testing.T, *internet, string) {
	return withHandler(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) })
}

// domainStore is a store that remembers domains.
func domainStore(t *testing.T, clock *testkit.Clock) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "postern.db"), Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestWKDBarrenHosts: the table of WKD for whoever has no directory.
func TestWKDBarrenHosts(t *testing.T) {
	t.Parallel()
	for name, c := range barrenHosts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := long
			if name == "hangs" {
				timeout = short
			}
			for _, row := range []struct {
				method, host, want string
				before             bool
			}{
				{"advanced", "openpgpkey.example.org", c.advanced, false},
				{"direct", "example.org", c.direct, false},
				{"direct", "example.org", c.before, true},
			} {
				n := newInternet(t, row.host+". 300 IN A 11.0.0.1")
				clock := testkit.NewClock()
				w := NewWKD(n.fetcher(timeout), n.resolver, domainStore(t, clock), clock.Now)
				if row.before {
					w.remember(t.Context(), "example.org")
				}
				c.start(t, n, row.host)
				wantOutcome(t, row.method+" "+name, outcome(t, w, alice), row.want)
				// And the same for the next address of the domain, unless the host is at fault.
				got := outcome(t, w, "bob@example.org")
				if strings.HasPrefix(row.want, "none") && !strings.HasPrefix(got, "none") || strings.HasPrefix(got, "found") {
					t.Errorf("%s %s: then %s", row.method, name, got)
				}
			}
		})
	}
}

// TestWKDPrivateHost: a bare name that leads to an address of nobody.
func TestWKDPrivateHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{"openpgpkey.example.org": "unknown address", "example.org": "none"} {
		n := newInternet(t, host+". 300 IN A 127.0.0.1")
		wantOutcome(t, host, outcome(t, n.wkd(long), alice), want)
		if len(n.dials()) > 0 {
			t.Errorf("%s: dialled %v", host, n.dials())
		}
	}
}

// TestWKDRefusedByAll: one address that refuses says nothing while another is silent;
// one that we have no way to says nothing at all.
func TestWKDRefusedByAll(t *testing.T) {
	t.Parallel()
	n := newInternet(t, "example.org. 300 IN A 11.0.0.1", "example.org. 300 IN A 11.0.0.2")
	n.listen(t, "11.0.0.2")
	wantOutcome(t, "one hangs", outcome(t, n.wkd(short), alice), "unknown timeout")

	silent := errors.New("no answer")
	for _, c := range []struct{ first, second, want error }{
		{syscall.ENETUNREACH, syscall.ECONNREFUSED, syscall.ECONNREFUSED},
		{syscall.ECONNREFUSED, syscall.ENETUNREACH, syscall.ECONNREFUSED},
		{syscall.ECONNREFUSED, silent, silent},
		{silent, syscall.ECONNREFUSED, silent},
		{syscall.ENETUNREACH, syscall.ENETUNREACH, syscall.ENETUNREACH},
	} {
		if got := worse(worse(nil, c.first), c.second); got != c.want {
			t.Errorf("%v, %v: %v", c.first, c.second, got)
		}
	}
}

// TestWKDRemembersDomains: a directory that gave a certificate is not taken for one
// that is not there, after a restart either; for a year.
func TestWKDRemembersDomains(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	n := newInternet(t, "example.org. 300 IN A 11.0.0.1")
	s := domainStore(t, clock)
	withHandler(always(certificateOf(t, alice)))(t, n, "example.org")
	wantOutcome(t, "published", outcome(t, NewWKD(n.fetcher(long), n.resolver, s, clock.Now), alice), "found")
	withTLS(time.Hour, "www.example.net")(t, n, "example.org")
	w := NewWKD(n.fetcher(long), n.resolver, s, clock.Now)
	wantOutcome(t, "broken", outcome(t, w, "bob@example.org"), "unknown tls")
	clock.Advance(publishedFor + time.Hour)
	wantOutcome(t, "a year later", outcome(t, NewWKD(n.fetcher(long), n.resolver, s, clock.Now), "bob@example.org"), "none")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantOutcome(t, "a store that fails", outcome(t, NewWKD(n.fetcher(long), n.resolver, s, clock.Now), "bob@example.org"), "unknown store")
}

// TestDomainsAreNoAddresses: what is remembered of a domain is nobody's certificate.
func TestDomainsAreNoAddresses(t *testing.T) {
	t.Parallel()
	f := newDirectory(t)
	w := NewWKD(nil, nil, f.store, f.clock.Now)
	w.remember(t.Context(), "there.test")
	if a := f.Lookup(t.Context(), mail.Address{Domain: "there.test"}); a.Kind == mail.Found {
		t.Errorf("%+v", a)
	}
	f.clock.Advance(refreshWanted / 2)
	f.refresh(t.Context())
	if f.wkd.count() > 1 {
		t.Error("it is asked for")
	}
}
