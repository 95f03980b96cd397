package keydir

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/internal/dns/dnstest"
	"postern/internal/mail"
	"postern/internal/pgp"
)

func TestWKDAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ local, hash, query string }{
		{"Joe.Doe", "iy9q119eutrkn8s1mk4r39qejnbu3n5q", "Joe.Doe"}, // the draft's example
		{"joe.doe", "iy9q119eutrkn8s1mk4r39qejnbu3n5q", "joe.doe"},
		{"a b+c&d=e%/?", WKDHash("a b+c&d=e%/?"), "a%20b%2Bc%26d%3De%25%2F%3F"},
		{"Jörg", WKDHash("jörg"), "J%C3%B6rg"},
		{"ÄRGER", WKDHash("Ärger"), "%C3%84RGER"}, // only ASCII changes case
	} {
		if got := WKDHash(c.local); got != c.hash || len(got) != 32 {
			t.Errorf("%s: hash %s, want %s", c.local, got, c.hash)
		}
		if got := percentEncode(c.local); got != c.query {
			t.Errorf("%s: %s, want %s", c.local, got, c.query)
		}
	}
	n := newInternet(t, "openpgpkey.example.org. 300 IN AAAA 2001:4860::1", "example.net. 300 IN A 11.0.0.1", "openpgpkey.xn--bcher-kva.example. 300 IN A 11.0.0.1")
	w := n.wkd(long)
	for address, want := range map[string]string{
		"Joe.Doe@Example.ORG": "https://openpgpkey.example.org/.well-known/openpgpkey/example.org/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe",
		"Joe.Doe@example.net": "https://example.net/.well-known/openpgpkey/hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe",
		"joe.doe@Bücher.example": "https://openpgpkey.xn--bcher-kva.example/.well-known/openpgpkey/xn--bcher-kva.example/hu/" +
			"iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=joe.doe",
	} {
		where, err := w.locate(t.Context(), testAddress(t, address))
		if err != nil || where.page == nil || where.page.String() != want {
			t.Errorf("%s: %v, %v", address, where.page, err)
		}
	}
}

// TestWKDMethod: when the direct method is used, and when nobody is asked.
func TestWKDMethod(t *testing.T) {
	t.Parallel()
	n := newInternet(t,
		"both.example. 300 IN A 11.0.0.1", "openpgpkey.both.example. 300 IN A 11.0.0.1",
		"direct.example. 300 IN A 11.0.0.1",
		// A wildcard record, and the empty TXT that keeps it off the name.
		"textual.example. 300 IN A 11.0.0.1", `openpgpkey.textual.example. 300 IN TXT ""`,
		"nothing.example. 300 IN MX 10 mail.example.",
		"failing.example. 300 IN A 11.0.0.1",
		"half.example. 300 IN A 11.0.0.1", `openpgpkey.half.example. 300 IN TXT ""`,
		"mailonly.example. 300 IN A 11.0.0.1", "openpgpkey.mailonly.example. 300 IN CNAME nowhere.example.",
	)
	n.dns.Set(func(w miekg.ResponseWriter, m *miekg.Msg, network string) {
		q := m.Question[0]
		if q.Name == "openpgpkey.failing.example." || q.Name == "openpgpkey.half.example." && q.Qtype == miekg.TypeAAAA {
			dnstest.Rcode(miekg.RcodeServerFailure)(w, m, network)
			return
		}
		n.dns.Answer(w, m, network)
	})
	w := n.wkd(long)
	for _, c := range []struct{ domain, want string }{
		{"both.example", "advanced method"},
		{"direct.example", "direct method"},
		{"textual.example", "direct method"},
		{"mailonly.example", "direct method"},
		{"nothing.example", "none - the domain has no web server"},
		{"absent.example", "none - the domain has no web server"},
		{"failing.example", "unknown dns - advanced method, DNS: SERVFAIL"},
		{"half.example", "unknown dns - advanced method, DNS: SERVFAIL"}, // no A, but who knows about AAAA
		{"[192.0.2.1]", "none - an address literal"},
	} {
		where, err := w.locate(t.Context(), mail.Address{Local: "a", Domain: c.domain})
		if strings.HasSuffix(c.want, "method") {
			if err != nil || where.method != c.want {
				t.Errorf("%s: %q, %v; want %s", c.domain, where.method, err, c.want)
			}
			continue
		}
		wantOutcome(t, c.domain, outcome(t, w, "alice@"+c.domain), c.want)
	}
	if f, err := w.Lookup(t.Context(), testAddress(t, "a@absent.example")); err != nil || f.Lifetime > 60*time.Second || f.Lifetime < 50*time.Second {
		t.Errorf("no web server: for %v, %v", f.Lifetime, err)
	}
}

// TestWKDReplies: what a server may answer, and what becomes of it.
func TestWKDReplies(t *testing.T) {
	t.Parallel()
	good := certificateOf(t, alice)
	bob := certificateOf(t, "bob@example.org")
	cert, err := pgp.ParseCertificates(good)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := pgp.GenerateKey(alice, sourceNow)
	if err != nil {
		t.Fatal(err)
	}
	// The primary key, then a subkey of an algorithm nobody knows with somebody's
	// signature, then the rest.
	unknownSubkey := slices.Concat(good, []byte{0xC0 | 14, 9, 4, 0, 0, 0, 0, 99, 1, 2, 3})
	onlyUnknown := slices.Concat([]byte{0xC0 | 6, 9, 4, 0, 0, 0, 0, 99, 1, 2, 3}, []byte{0xC0 | 13, 1, 'x'})
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(make([]byte, 4<<20))
	_ = z.Close()

	with := func(status int, header string, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			for _, line := range strings.Split(header, "\n") {
				if name, value, ok := strings.Cut(line, ": "); ok {
					w.Header().Set(name, value)
				}
			}
			w.WriteHeader(status)
			_, _ = w.Write(body)
		}
	}
	for _, c := range []struct {
		name    string
		address string
		handler http.HandlerFunc
		want    string
	}{
		{"a certificate", alice, with(200, "", good), "found - advanced method, found"},
		{"in the address's own case", "ALICE@Example.ORG", with(200, "", good), "found"},
		{"as text/plain", alice, with(200, "Content-Type: text/plain", good), "found"},
		{"as text/html", alice, with(200, "Content-Type: text/html", good), "found"},
		{"several", alice, with(200, "", slices.Concat(good, bob, certificateOf(t, alice))), "found found"},
		{"an unknown subkey beside a usable one", alice, with(200, "", unknownSubkey), "found"},
		{"several addresses", "erin@example.com", with(200, "", testdata(t, "several-addresses.pgp")), "found"},
		{"expired beside its renewal", "carol@example.org", with(200, "", testdata(t, "expired-and-renewed.pgp")), "found found"},
		{"revoked", "dave@example.org", with(200, "", testdata(t, "revoked.pgp")), "found"},
		{"somebody else's", alice, with(200, "", bob), "none - advanced method, the certificate is for another address"},
		{"an address that was added", alice, with(200, "", slices.Concat(bob, append([]byte{0xC0 | 13, byte(len(alice))}, alice...))), "unknown content - advanced method, the certificate is damaged or forged"},
		{"only unknown algorithms", alice, with(200, "", onlyUnknown), "none - advanced method, the certificate has no algorithm"},
		{"armor", alice, with(200, "", cert[0].Armor()), "unknown content - advanced method, the certificate is in ASCII armor"},
		{"armor as a page", alice, with(200, "Content-Type: text/html", cert[0].Armor()), "unknown content"},
		{"10,000 user IDs", alice, with(200, "", userIDs(good, 10_000)), "unknown too_large"},
		{"a secret key", alice, with(200, "", dearmored(t, secret.Armor())), "unknown content"},
		{"cut off", alice, with(200, "", good[:len(good)-9]), "unknown content"},
		{"text", alice, with(200, "Content-Type: text/plain", []byte("not found")), "unknown content"},
		{"nothing", alice, with(200, "", nil), "unknown content"},
		{"no content", alice, with(204, "", nil), "unknown status"},
		{"a page", alice, with(200, "Content-Type: text/html; charset=utf-8", []byte("<!doctype html>Sorry")), "none - advanced method, a web page"},
		{"an empty page", alice, with(200, "Content-Type: text/html", nil), "none"},
		{"a page with a byte order mark", alice, with(200, "Content-Type: text/html", []byte("\xEF\xBB\xBF<html>")), "none"},
		{"404", alice, with(404, "Content-Type: text/html", good), "none - advanced method, 404"},
		{"410", alice, with(410, "", nil), "none - advanced method, 410"},
		{"400", alice, with(400, "", nil), "unknown status - advanced method, HTTP status 400"},
		{"401", alice, with(401, "WWW-Authenticate: Basic realm=x", nil), "unknown status"},
		{"403", alice, with(403, "", good), "unknown status"},
		{"429", alice, with(429, "Retry-After: 60", nil), "unknown status"},
		{"500", alice, with(500, "", good), "unknown status"},
		{"503", alice, with(503, "", []byte("maintenance")), "unknown status"},
		{"304", alice, with(304, "", nil), "unknown status"},
		{"206", alice, with(206, "", good[:100]), "unknown status"},
		{"redirect to nowhere", alice, with(302, "", nil), "unknown redirect"},
		{"gzip bomb", alice, with(200, "Content-Encoding: gzip", zipped.Bytes()), "unknown content"},
		{"headers without end", alice, with(200, "X-Long: "+strings.Repeat("x", 100_000), good), "unknown connect"},
		{"1 MiB and one octet", alice, with(200, "", make([]byte, maxBody+1)), "unknown too_large"},
		{"shorter than announced", alice, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)+1))
			_, _ = w.Write(good)
		}, "unknown connect"},
		{"the connection ends", alice, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "unknown connect"},
		{"hangs", alice, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "unknown timeout"},
		{"trickles", alice, func(w http.ResponseWriter, r *http.Request) {
			for _, o := range good {
				_, _ = w.Write([]byte{o})
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(short / 4):
				}
			}
		}, "unknown timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newInternet(t)
			n.site(t, testAddress(t, c.address).Domain, c.handler)
			timeout := long
			if c.name == "hangs" || c.name == "trickles" {
				timeout = short
			}
			wantOutcome(t, c.name, outcome(t, n.wkd(timeout), c.address), c.want)
		})
	}
}

// TestWKDRequest: what the server sees of us is the address, and nothing else.
func TestWKDRequest(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("ALL_PROXY", "socks5://127.0.0.1:1")
	n := newInternet(t)
	n.site(t, "example.org", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.Host != "openpgpkey.example.org" || r.RequestURI != "/.well-known/openpgpkey/example.org/hu/"+WKDHash("alice")+"?l=Alice" {
			t.Errorf("%s %s %s", r.Method, r.Host, r.RequestURI)
		}
		if len(r.Header) != 1 || r.UserAgent() != userAgent {
			t.Errorf("headers %v", r.Header)
		}
		_, _ = w.Write(certificateOf(t, alice))
	})
	wantOutcome(t, "behind a proxy", outcome(t, n.wkd(long), "Alice@example.org"), "found")
}

// TestWKDExpiredAndRevoked: the directory gets what there is, and can tell.
func TestWKDExpiredAndRevoked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, address string
		want          []error
	}{
		{"expired-and-renewed.pgp", "carol@example.org", []error{pgp.ErrExpired, nil}},
		{"revoked.pgp", "dave@example.org", []error{pgp.ErrRevoked}},
	} {
		n := newInternet(t)
		n.site(t, "example.org", always(testdata(t, c.file)))
		f, err := n.wkd(long).Lookup(t.Context(), testAddress(t, c.address))
		if err != nil || len(f.Certificates) != len(c.want) {
			t.Fatalf("%s: %+v, %v", c.file, f, err)
		}
		for i, want := range c.want {
			if err := f.Certificates[i].Usable(sourceNow); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%s: certificate %d: %v, want %v", c.file, i, err, want)
			}
		}
	}
}

func TestWKDLifetime(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{
		"max-age=3600":                   time.Hour,
		"public, Max-Age=\"60\"":         time.Minute,
		"max-age=99999999999999999":      maxLifetime,
		"max-age=9999999999999999999999": maxLifetime,
		"max-age=-5":                     0,
		"max-age=x":                      0,
		"no-store, max-age=60":           0,
		"max-age=60, no-cache":           0,
		"":                               0,
	} {
		for _, status := range []int{200, 404} {
			n := newInternet(t)
			n.site(t, "example.org", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", header)
				w.WriteHeader(status)
				if status == 200 {
					_, _ = w.Write(certificateOf(t, alice))
				}
			})
			f, err := n.wkd(long).Lookup(t.Context(), testAddress(t, alice))
			if err != nil || f.Lifetime != want {
				t.Errorf("%d %q: %v, %v; want %v", status, header, f.Lifetime, err, want)
			}
		}
	}
	if got := freshness(http.Header{"Cache-Control": {"max-age=60"}, "Age": {"45"}}); got != 15*time.Second {
		t.Errorf("with an age: %v", got)
	}
}

// TestWKDNoFallback: whatever goes wrong with the advanced method, the domain itself
// is not asked.
func TestWKDNoFallback(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(n *internet){
		"404": func(n *internet) {
			n.serve(t, "11.0.0.2", n.ca.issue(t, time.Now().Add(time.Hour), "openpgpkey.example.org"), http.NotFoundHandler())
		},
		"wrong name": func(n *internet) {
			n.serve(t, "11.0.0.2", n.ca.issue(t, time.Now().Add(time.Hour), "example.org"), http.NotFoundHandler())
		},
		"no server": func(*internet) {},
		"no HTTP":   func(n *internet) { n.listen(t, "11.0.0.2").Close() },
		"internal":  func(n *internet) { n.dns.Add(t, "openpgpkey.example.org. 300 IN A 10.0.0.1") },
	} {
		n := newInternet(t, "example.org. 300 IN A 11.0.0.1", "openpgpkey.example.org. 300 IN A 11.0.0.2")
		var asked atomic.Int32
		n.serve(t, "11.0.0.1", n.ca.issue(t, time.Now().Add(time.Hour), "example.org"), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			_, _ = w.Write(certificateOf(t, alice))
		}))
		start(n)
		if got := outcome(t, n.wkd(long), alice); strings.HasPrefix(got, "found") || asked.Load() != 0 {
			t.Errorf("%s: %s, the domain itself was asked %d times", name, got, asked.Load())
		}
	}
}

// TestWKDTruncatedDNS: answers that do not fit come by TCP.
func TestWKDTruncatedDNS(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	n.site(t, "example.org", always(certificateOf(t, alice)))
	n.dns.Set(func(w miekg.ResponseWriter, m *miekg.Msg, network string) {
		if network == "tcp" {
			n.dns.Answer(w, m, network)
			return
		}
		reply := new(miekg.Msg)
		reply.SetReply(m)
		reply.Truncated = true
		_ = w.WriteMsg(reply)
	})
	wantOutcome(t, "truncated", outcome(t, n.wkd(long), alice), "found")
}

// TestWKDCancelled: who goes away gets an error that blames nobody.
func TestWKDCancelled(t *testing.T) {
	t.Parallel()
	n := newInternet(t)
	asked := make(chan struct{})
	n.site(t, "example.org", func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	w := n.wkd(long)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	a := testAddress(t, alice)
	f, err := w.Lookup(ctx, a)
	wantOutcome(t, "cancelled", checked(t, a, f, err), "unknown cancelled")
	n.site(t, "example.org", always(certificateOf(t, alice)))
	wantOutcome(t, "afterwards", outcome(t, w, alice), "found")
}

// FuzzWKDResponse: whatever a server answers, no certificate comes out that does not
// have the address, or has another.
func FuzzWKDResponse(f *testing.F) {
	good := certificateOf(f, alice)
	certs, err := pgp.ParseCertificates(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(200, "application/octet-stream", good)
	f.Add(200, "text/html", []byte("<html>"))
	f.Add(200, "", slices.Concat(certificateOf(f, "bob@example.org"), good))
	f.Add(200, "text/plain", certs[0].Armor())
	f.Add(200, "", testdata(f, "several-addresses.pgp"))
	f.Add(200, "", testdata(f, "expired-and-renewed.pgp"))
	f.Add(404, "text/plain", []byte("404"))
	for _, name := range []string{alice, "erin@example.com", "carol@example.org"} {
		a := testAddress(f, name)
		if f, err := readWKD(&reply{status: 200, body: good}, a, false); (err == nil && len(f.Certificates) == 1) != (name == alice) {
			panic(name)
		}
	}
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		for _, name := range []string{alice, "erin@example.com", "carol@example.org"} {
			a := testAddress(t, name)
			f, err := readWKD(&reply{status: status, contentType: contentType, body: body}, a, len(body)%2 == 0)
			got := checked(t, a, f, err)
			if strings.HasPrefix(got, "found") && (status != 200 || isArmored(body)) {
				t.Errorf("%d %q: %s", status, contentType, got)
			}
			again, err := readWKD(&reply{status: status, contentType: contentType, body: body}, a, len(body)%2 == 0)
			if got2 := checked(t, a, again, err); got2 != got {
				t.Errorf("%s, and then %s", got, got2)
			}
		}
	})
}
