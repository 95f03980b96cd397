package keydir

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestWKDServer(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	alice, umlaut := newCertificate(t, "alice@here.test"), newCertificate(t, "\u00e4rger@there.test")
	d.shelf.put(t, "Alice@here.test", false, alice)
	d.shelf.put(t, "\u00c4rger@there.test", false, umlaut)
	d.read()
	mine := []string{alice.Fingerprint()}
	for name, target := range map[string]string{
		"advanced":              advanced("here.test", "alice"),
		"direct":                direct("here.test", "alice"),
		"local-part":            advanced("here.test", "alice") + "?l=alice",
		"another case":          advanced("here.test", "ALICE") + "?l=ALICE",
		"with a port":           strings.Replace(direct("here.test", "alice"), "/", ":443/", 1),
		"dot at the end":        strings.Replace(direct("here.test", "alice"), "/", "./", 1),
		"host name in capitals": strings.Replace(advanced("here.test", "alice"), "openpgpkey.here.test", "OpenPGPkey.HERE.test", 1),
		"domain in capitals":    strings.Replace(advanced("here.test", "alice"), "/here.test/", "/Here.Test/", 1),
		"other parameters":      direct("here.test", "alice") + "?x=1&l=alice&y",
	} {
		if got := d.certificates(d.get(target), octetType); !slices.Equal(got, mine) {
			t.Errorf("%s: got %v", name, got)
		}
	}
	// The hash lowers ASCII letters only, so there are two for this one.
	for _, local := range []string{"\u00c4rger", "\u00e4rger", "\u00c4RGER"} {
		for _, l := range []string{url.PathEscape(local), "%C4rger", "%u00C4rger"} {
			target := direct("there.test", local) + "?l=" + l
			if got := d.certificates(d.get(target), octetType); !slices.Equal(got, []string{umlaut.Fingerprint()}) {
				t.Errorf("%s: got %v", target, got)
			}
		}
	}
	for _, target := range []string{
		"openpgpkey.here.test/.well-known/openpgpkey/here.test/policy",
		"here.test/.well-known/openpgpkey/policy",
		"openpgpkey.there.test/.well-known/openpgpkey/there.test/policy",
	} {
		if b := d.body(d.get(target), http.StatusOK, textType); len(b) > 0 {
			t.Errorf("%s: %q", target, b)
		}
	}
}

// What is published is the user ID with the address, and not a person's other life.
func TestWKDRestricts(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.shelf.put(t, "alice@here.test", false, fileCertificate(t, "two-addresses.asc"))
	d.read()
	fpr := fileCertificate(t, "two-addresses.asc").Fingerprint()
	for _, target := range []string{
		advanced("here.test", "alice"), "keys.here.test/pks/lookup?op=get&search=alice@here.test",
		"keys.here.test/vks/v1/by-fingerprint/" + fpr, "keys.here.test/pks/v2/index/alice@here.test",
		"keys.here.test/pks/lookup?op=index&search=0x" + fpr, "keys.here.test/pks/v2/certs/by-vfingerprint/04" + fpr,
	} {
		r := d.get(target)
		b, _ := io.ReadAll(r.Body)
		if r.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", target, r.StatusCode)
		}
		for _, secret := range []string{"Secret Life", "private", "elsewhere"} {
			if strings.Contains(string(b)+withoutArmor(t, b), secret) {
				t.Errorf("%s tells %q", target, secret)
			}
		}
	}
}

// withoutArmor is what armor hides, if it is armor.
func withoutArmor(t *testing.T, b []byte) string {
	t.Helper()
	d := &desk{t: t}
	if !bytes.HasPrefix(b, []byte("-----BEGIN")) {
		return ""
	}
	var all string
	for _, c := range d.parse(b) {
		all += string(c.Data())
	}
	return all
}

// Everything that is not found gets the same answer to the octet, and costs the same:
// nothing is read for it.
func TestAbsentIsTheSame(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.shelf.put(t, "alice@here.test", false, newCertificate(t, "alice@here.test"))
	hidden := newCertificate(t, "hidden@here.test")
	d.shelf.put(t, "hidden@here.test", true, hidden)
	d.shelf.put(t, "empty@here.test", false)
	d.read()
	fpr := hidden.Fingerprint()
	targets := []string{
		advanced("here.test", "nobody"), advanced("here.test", "hidden"), advanced("here.test", "empty"),
		direct("here.test", "nobody"), direct("here.test", "hidden"), direct("here.test", "empty"),
		direct("there.test", "alice"), advanced("there.test", "alice"),
		advanced("here.test", "alice") + "?l=bob", direct("here.test", "alice") + "?l=",
		// Other names, and the one method by the other's name.
		advanced("elsewhere.test", "alice"), direct("elsewhere.test", "alice"), direct("openpgpkey.here.test", "alice"),
		direct("mail.here.test", "alice"), direct("www.here.test", "alice"), direct("192.0.2.1", "alice"),
		strings.Replace(advanced("here.test", "alice"), "openpgpkey.here.test/", "here.test/", 1),
		strings.Replace(advanced("here.test", "alice"), "openpgpkey.here.test/", "openpgpkey.there.test/", 1),
		// Ways that lead nowhere.
		"here.test/", "here.test/.well-known/openpgpkey", "here.test/.well-known/openpgpkey/", "here.test/.well-known/openpgpkey/hu/",
		"here.test/.well-known/openpgpkey/hu/../../../../etc/passwd", "here.test/.well-known/openpgpkey/hu/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
		"here.test//.well-known/openpgpkey/hu/" + WKDHash("alice"), direct("here.test", "alice") + "/", direct("here.test", "alice") + "%00",
		"here.test/.well-known/openpgpkey/hu/" + strings.ToUpper(WKDHash("alice")), "here.test/.well-known/openpgpkey/hu/" + strings.Repeat("y", 33),
		"here.test/.well-known/openpgpkey/submission-address", direct("here.test", "alice") + "?l=alice&x=" + strings.Repeat("x", maxURL),
		// Key servers.
		"keys.here.test/pks/lookup?op=get&search=nobody@here.test", "keys.here.test/pks/lookup?op=get&search=hidden@here.test",
		"keys.here.test/pks/lookup?op=index&search=empty@here.test", "keys.here.test/pks/lookup?op=get&search=someone@elsewhere.test",
		"keys.here.test/pks/lookup?op=get&search=0x" + fpr, "keys.here.test/pks/lookup?op=get&search=0x" + fpr[24:], "keys.here.test/pks/lookup?op=get&search=0x" + fpr[32:],
		"keys.here.test/pks/lookup?op=get&search=Alice", "keys.here.test/pks/lookup?op=get&search=here.test", "www.here.test/pks/lookup?op=get&search=alice@here.test",
		"keys.here.test/pks/v2/certs/by-vfingerprint/04" + fpr, "keys.here.test/pks/v2/certs/by-keyid/" + fpr[24:], "keys.here.test/pks/v2/certs/by-identity/hidden@here.test",
		"keys.here.test/pks/v2/canonical/hidden@here.test", "keys.here.test/pks/v2/canonical/someone@elsewhere.test", "keys.here.test/pks/v2/index/nobody@here.test",
		"keys.here.test/vks/v1/by-email/hidden%40here.test", "keys.here.test/vks/v1/by-email/nobody%40here.test", "keys.here.test/vks/v1/by-fingerprint/" + fpr,
		"keys.here.test/vks/v1/by-keyid/" + fpr[24:], "keys.here.test/vks/v1/by-email/", "keys.here.test/vks/v1/x", "keys.here.test/pks/", "mail.here.test/vks/v1/by-email/x",
	}
	want := ""
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, target := range targets {
			r := d.do(method, target, nil)
			b, _ := io.ReadAll(r.Body)
			if method == http.MethodHead {
				if len(b) > 0 {
					t.Errorf("HEAD %s has a body", target)
				}
				b = []byte("not found\n")
			}
			got := fmt.Sprint(r.StatusCode, r.Header, string(b))
			if want == "" {
				want = got
			}
			if got != want || r.StatusCode != http.StatusNotFound {
				t.Errorf("%s %s:\ngot  %s\nwant %s", method, target, got, want)
			}
		}
	}
	if n := d.shelf.count(); n != 0 {
		t.Errorf("certificates were read %d times for what is not found", n)
	}
}

func TestWKDMethods(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.shelf.put(t, "alice@here.test", false, newCertificate(t, "alice@here.test"))
	d.read()
	target := advanced("here.test", "alice") + "?l=alice"
	get, head := d.get(target), d.do(http.MethodHead, target, nil)
	body := d.body(get, http.StatusOK, octetType)
	if b := d.body(head, http.StatusOK, octetType); len(b) != 0 || fmt.Sprint(head.Header) != fmt.Sprint(get.Header) {
		t.Errorf("HEAD: %q, %v, want %v", b, head.Header, get.Header)
	}
	if n := get.Header.Get("Content-Length"); n != fmt.Sprint(len(body)) {
		t.Errorf("Content-Length %s of %d", n, len(body))
	}
	if get.Header.Get("Cache-Control") != "public, max-age=3600" {
		t.Errorf("Cache-Control: %s", get.Header.Get("Cache-Control"))
	}
	tag := get.Header.Get("ETag")
	for given, want := range map[string]int{tag: 304, `"x", W/` + tag: 304, "*": 304, `"x"`: 200, strings.Trim(tag, `"`): 200} {
		r := d.do(http.MethodGet, target, func(r *http.Request) { r.Header.Set("If-None-Match", given) })
		if b, _ := io.ReadAll(r.Body); r.StatusCode != want || (want == 304) != (len(b) == 0) || r.Header.Get("ETag") != tag {
			t.Errorf("If-None-Match: %s: %d, %d octets", given, r.StatusCode, len(b))
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"} {
		r := d.do(method, target, nil)
		if d.body(r, http.StatusMethodNotAllowed, textType); r.Header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("%s: Allow: %s", method, r.Header.Get("Allow"))
		}
	}
	r := d.do(http.MethodOptions, target, func(r *http.Request) { r.Header.Set("Access-Control-Request-Headers", "x-openpgp-padding") })
	if r.StatusCode != http.StatusOK || !strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "X-OpenPGP-Padding") {
		t.Errorf("OPTIONS: %d %v", r.StatusCode, r.Header)
	}
}

// What can be used comes first, what others have to hear of after it, and nothing else.
func TestWKDOrder(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	expired, revoked := fileCertificate(t, "expired.asc"), fileCertificate(t, "revoked.asc")
	six, current := fileCertificate(t, "version6.asc"), newCertificate(t, "alice@here.test")
	d.shelf.put(t, "alice@here.test", false, expired, six, newCertificate(t, "bob@here.test"), revoked, current)
	d.shelf.put(t, "wrong@here.test", false, newCertificate(t, "bob@here.test"))
	d.shelf.put(t, "alice@there.test", false)
	d.read()
	want := []string{current.Fingerprint(), six.Fingerprint(), expired.Fingerprint(), revoked.Fingerprint()}
	if got := d.certificates(d.get("keys.here.test/pks/v2/certs/by-identity/alice@here.test"), binaryType); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	// Clients of the others may know nothing of version 6.
	want = slices.Delete(want, 1, 2)
	for target, mediaType := range map[string]string{
		advanced("here.test", "alice"): octetType, "keys.here.test/vks/v1/by-email/alice@here.test": armoredType,
		"here.test/pks/lookup?op=get&options=mr&search=alice@here.test": armoredType,
	} {
		if got := d.certificates(d.get(target), mediaType); !slices.Equal(got, want) {
			t.Errorf("%s:\ngot  %v\nwant %v", target, got, want)
		}
	}
	d.shelf.put(t, "alice@here.test", false, six)
	d.read()
	if got := d.certificates(d.get(advanced("here.test", "alice")), octetType); !slices.Equal(got, []string{six.Fingerprint()}) {
		t.Errorf("version 6 alone: %v", got)
	}
	// A certificate that is not for the account's address is nobody's business.
	for range 2 {
		d.body(d.get(advanced("here.test", "wrong")), http.StatusNotFound, textType)
	}
	d.body(d.get("keys.here.test/vks/v1/by-fingerprint/"+newCertificate(t, "bob@here.test").Fingerprint()), http.StatusNotFound, textType)
}

// Thunderbird 153 asks in this order, with these fields, and refuses text/html (seen
// on the wire): WKD advanced, direct, VKS, then HKP index and get.
func TestThunderbirdLooksUp(t *testing.T) {
	t.Parallel()
	d := newDesk(t, func(o *PublishOptions) { o.Users, o.Finder = &people{}, &people{} })
	alice := newCertificate(t, "alice+lists@here.test")
	d.shelf.put(t, "alice+lists@here.test", false, alice)
	d.read()
	ask := func(target string) *http.Response {
		return d.do(http.MethodGet, target, func(r *http.Request) {
			r.Header.Set("Authorization", "Basic bm8tdXNlcjo=") // no-user:
			r.Header.Set("Content-Type", "application/octet-stream")
			r.Header.Set("X-OpenPGP-Padding", strings.Repeat("x", len(target)%512+1))
			r.Header.Set("Accept", "*/*")
		})
	}
	want := []string{alice.Fingerprint()}
	// escape() leaves "+" as it is.
	for _, c := range []struct{ target, mediaType string }{
		{advanced("here.test", "alice+lists") + "?l=alice+lists", octetType},
		{direct("here.test", "alice+lists") + "?l=alice+lists", octetType},
		{"keys.here.test/vks/v1/by-email/alice%2Blists%40here.test", armoredType},
		{"keys.here.test/pks/lookup?op=get&search=0x" + want[0] + "&options=mr", armoredType},
	} {
		if got := d.certificates(ask(c.target), c.mediaType); !slices.Equal(got, want) {
			t.Errorf("%s: %v", c.target, got)
		}
	}
	b := d.body(ask("keys.here.test/pks/lookup?search=alice%2Blists%40here.test&fingerprint=on&op=index&options=mr&exact=on"), http.StatusOK, textType)
	if !strings.HasPrefix(string(b), "info:1:1\npub:"+want[0]+":22:256:") {
		t.Errorf("index: %q", b)
	}
	// Nobody of this name, and nothing about others: never a page to log in on.
	for _, target := range []string{
		advanced("here.test", "nobody") + "?l=nobody", direct("here.test", "nobody") + "?l=nobody",
		"keys.here.test/vks/v1/by-email/nobody%40here.test", "keys.here.test/vks/v1/by-email/x%40elsewhere.test",
		"keys.here.test/pks/lookup?search=x%40elsewhere.test&fingerprint=on&op=index&options=mr&exact=on",
		"here.test/autodiscover/autodiscover.xml",
	} {
		d.body(ask(target), http.StatusNotFound, textType)
	}
}

func FuzzPublisher(f *testing.F) {
	d := newDesk(f, func(o *PublishOptions) { o.Users, o.Finder = &people{}, &people{} })
	d.shelf.put(f, "alice@here.test", false, newCertificate(f, "alice@here.test"))
	d.read()
	for _, s := range []string{
		advanced("here.test", "alice") + "?l=%zz", direct("here.test", "alice"), "keys.here.test/pks/lookup?op=get&search=0x" + strings.Repeat("F", 40),
		"keys.here.test/pks/v2/certs/by-vfingerprint/06" + strings.Repeat("0", 64), "here.test/pks/v2/index/%F0%9F%92%A9@here.test",
		"here.test/vks/v1/by-email/%22a b%22%40here.test", "here.test/pks/lookup?op=index&search=%3C%3E", "mail.here.test/pks/lookup?;;;&op&search=%3Dalice@here.test",
	} {
		host, rest, _ := strings.Cut(s, "/")
		path, query, _ := strings.Cut(rest, "?")
		f.Add("GET", host, "/"+path, query, "Basic YTpi")
	}
	f.Fuzz(func(t *testing.T, method, host, path, query, authorization string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Method, r.Host, r.URL = method, host, &url.URL{Path: path, RawQuery: query}
		r.RequestURI = path + "?" + query
		r.TLS = &tls.ConnectionState{}
		r.Header.Set("Authorization", authorization)
		r.Header.Set("If-None-Match", authorization)
		w := httptest.NewRecorder()
		d.publisher.ServeHTTP(w, r)
		got := w.Result()
		b, _ := io.ReadAll(got.Body)
		if n := got.Header.Get("Content-Length"); got.StatusCode != 304 && method != http.MethodHead && n != fmt.Sprint(len(b)) {
			t.Errorf("Content-Length %s of %d octets", n, len(b))
		}
		if strings.Contains(got.Header.Get("Content-Type"), "html") || got.StatusCode == http.StatusInternalServerError || got.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%d %v", got.StatusCode, got.Header)
		}
		if got.StatusCode == http.StatusNotFound && (len(got.Header) != 5 || method != http.MethodHead && string(b) != "not found\n") {
			t.Errorf("another 404: %v %q", got.Header, b)
		}
	})
}
