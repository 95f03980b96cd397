package keydir

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
)

func TestHKPLookup(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	alice, six := newCertificate(t, "alice@here.test"), fileCertificate(t, "version6.asc")
	d.shelf.put(t, "alice@here.test", false, alice, six)
	d.read()
	fpr := alice.Fingerprint()
	for _, search := range []string{
		"alice@here.test", "Alice%40HERE.test", "%3Calice@here.test%3E", "=alice@here.test", "=%3Calice@here.test%3E",
		"Alice+%3Calice@here.test%3E", "+alice@here.test+", "0x" + fpr, "0X" + strings.ToLower(fpr), "0x" + fpr[24:],
	} {
		for _, host := range []string{"keys.here.test", "keys.there.test", "here.test", "openpgpkey.here.test", "mail.here.test", "keys.here.test:443"} {
			r := d.get(host + "/pks/lookup?op=get&options=mr&fingerprint=on&exact=on&search=" + search)
			if got := d.certificates(r, armoredType); !slices.Equal(got, []string{fpr}) {
				t.Errorf("%s %s: %v", host, search, got)
			}
		}
	}
	// Who asks for version 6 by its fingerprint knows of it.
	if got := d.certificates(d.get("here.test/pks/lookup?op=get&search=0x"+six.Fingerprint()), armoredType); !slices.Equal(got, []string{six.Fingerprint()}) {
		t.Errorf("version 6: %v", got)
	}
	for target, want := range map[string]int{
		"?op=stats": 501, "": 501, "?search=alice@here.test": 501, "?op=get": 400, "?op=get&search=+": 400, "?op=hget&search=x": 501, "?op=get&search=%": 400,
	} {
		d.body(d.get("keys.here.test/pks/lookup"+target), want, textType)
	}
	for _, target := range []string{"add", "v2/certs", "v2/sendtoken", "v2/prefixlog/2026-11-23", "v2/certs/by-fingerprint/" + fpr} {
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodOptions} {
			d.body(d.do(method, "keys.here.test/pks/"+target, nil), http.StatusNotImplemented, textType)
		}
	}
	d.body(d.do(http.MethodPost, "keys.here.test/pks/lookup?op=get&search=alice@here.test", nil), http.StatusMethodNotAllowed, textType)
	d.body(d.do(http.MethodPut, "keys.here.test/pks/v2/canonical/alice@here.test", nil), http.StatusMethodNotAllowed, textType)
}

// Without TLS there is HKP and nothing else, and nobody logs in.
func TestHKPInClear(t *testing.T) {
	t.Parallel()
	crowd := &people{answers: map[string]Answer{"bob@elsewhere.test": found(newCertificate(t, "bob@elsewhere.test"))}}
	d := newDesk(t, func(o *PublishOptions) { o.Users, o.Finder = crowd, crowd })
	alice := newCertificate(t, "alice@here.test")
	d.shelf.put(t, "alice@here.test", false, alice)
	d.read()
	ask := func(target string) *http.Response {
		return d.do(http.MethodGet, target, func(r *http.Request) {
			r.TLS = nil
			r.SetBasicAuth("alice@here.test", "app-password")
		})
	}
	if got := d.certificates(ask("keys.here.test:11371/pks/lookup?op=get&search=alice@here.test"), armoredType); !slices.Equal(got, []string{alice.Fingerprint()}) {
		t.Error(got)
	}
	for _, target := range []string{advanced("here.test", "alice"), direct("here.test", "alice"), "keys.here.test/vks/v1/by-email/alice@here.test",
		"keys.here.test/pks/lookup?op=get&search=bob@elsewhere.test", "here.test/.well-known/openpgpkey/policy"} {
		d.body(ask(target), http.StatusNotFound, textType)
	}
	if crowd.logins > 0 {
		t.Error("a password in clear was looked at")
	}
}

func TestHKPIndex(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	d.shelf.put(t, "alice@here.test", false, fileCertificate(t, "expired.asc"), fileCertificate(t, "revoked.asc"), fileCertificate(t, "version6.asc"))
	d.shelf.put(t, "ab%c@here.test", false, newCertificate(t, "ab%c@here.test"))
	d.read()
	want := `info:1:2
pub:CE38D45CB962AE8B8A9A14627A398ADD6628B59A:22:256:1577836800:1609372800:e:4
uid:Alice%20Example%20%3Calice@here.test%3E:::
pub:9F9F6DEC05F638F479938FF330691A130D1E9D1F:1:2048:1704067200::r:4
uid:Alice%20Example%20%3Calice@here.test%3E:::
`
	for _, op := range []string{"index", "vindex"} {
		got := d.body(d.get("here.test/pks/lookup?options=mr&op="+op+"&search=alice@here.test"), http.StatusOK, textType)
		if string(got) != want {
			t.Errorf("%s:\n%s\nwant\n%s", op, got, want)
		}
	}
	if got := index([]*pgp.Certificate{newCertificate(t, `"a:b"@here.test`)}, time.Now()); !strings.HasSuffix(string(got), "\nuid:%3C%22a%3Ab%22@here.test%3E:::\n") {
		t.Errorf("a colon: %q", got)
	}
	got := d.body(d.get("here.test/pks/lookup?op=index&search=0x"+fileCertificate(t, "version6.asc").Fingerprint()), http.StatusOK, textType)
	if !strings.HasPrefix(string(got), "info:1:1\npub:372D8CAC7213B68E574E9F4D1C3EA14838E47C2B581D503AC59F8A6250EC2D84:27:256:1740787200:::6\n") {
		t.Errorf("version 6: %q", got)
	}
	got = d.body(d.get("here.test/pks/lookup?op=index&search=ab%25c@here.test"), http.StatusOK, textType)
	if !strings.HasSuffix(string(got), "\nuid:%3Cab%25c@here.test%3E:::\n") {
		t.Errorf("index: %q", got)
	}
}

// Version 2 of the protocol (draft-ietf-openpgp-hkp-01, sections 5.1 and 7.1).
func TestHKPVersion2(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	alice, six := fileCertificate(t, "expired.asc"), fileCertificate(t, "version6.asc")
	d.shelf.put(t, "alice@here.test", false, alice, six)
	d.read()
	fpr, fpr6 := alice.Fingerprint(), six.Fingerprint()
	both := []string{fpr6, fpr}
	for target, want := range map[string][]string{
		"certs/by-vfingerprint/04" + fpr: {fpr}, "certs/by-vfingerprint/06" + strings.ToLower(fpr6): {fpr6},
		"certs/by-keyid/" + fpr[24:]: {fpr}, "certs/by-identity/ALICE@here.test": both, "canonical/alice%40here.test": both,
	} {
		if got := d.certificates(d.get("here.test/pks/v2/"+target), binaryType); !slices.Equal(got, want) {
			t.Errorf("%s: %v", target, got)
		}
	}
	// No version 6 by key ID; the version belongs to the fingerprint; no 0x.
	for _, target := range []string{
		"certs/by-keyid/" + fpr6[:16], "certs/by-keyid/" + fpr6[48:], "certs/by-keyid/" + fpr, "certs/by-keyid/0x" + fpr[24:],
		"certs/by-vfingerprint/" + fpr, "certs/by-vfingerprint/06" + fpr, "certs/by-vfingerprint/0x04" + fpr, "certs/by-vfingerprint/4", "certs/by-identity/alice", "index/here.test",
	} {
		d.body(d.get("here.test/pks/v2/"+target), http.StatusNotFound, textType)
	}
	for _, category := range []string{"certs/by-vfingerprint", "certs/by-keyid/", "certs/by-identity", "canonical", "index/"} {
		d.body(d.get("here.test/pks/v2/"+category), http.StatusForbidden, textType)
		r := d.do(http.MethodOptions, "here.test/pks/v2/"+category, nil)
		if r.StatusCode != http.StatusOK || !strings.Contains(r.Header.Get("Allow"), "GET") {
			t.Errorf("OPTIONS %s: %d %v", category, r.StatusCode, r.Header)
		}
	}
	var got []map[string]any
	if err := json.Unmarshal(d.body(d.get("here.test/pks/v2/index/alice@here.test"), http.StatusOK, jsonType), &got); err != nil || len(got) != 2 {
		t.Fatalf("index: %v %v", got, err)
	}
	want := map[string]any{
		"version": 4.0, "fingerprint": strings.ToLower(fpr), "creation": "2020-01-01T00:00:00Z", "expiration": "2020-12-31T00:00:00Z", "isRevoked": false,
		"algorithm": map[string]any{"code": 22.0, "name": "Ed25519", "bitLength": 256.0}, "userIDs": []any{map[string]any{"uidString": "Alice Example <alice@here.test>"}},
	}
	if fmt.Sprint(got[1]) != fmt.Sprint(want) {
		t.Errorf("index:\ngot  %v\nwant %v", got[1], want)
	}
}

func TestVKSServer(t *testing.T) {
	t.Parallel()
	d := newDesk(t, nil)
	alice, slash := newCertificate(t, "alice@here.test"), newCertificate(t, "a/b+c@here.test")
	d.shelf.put(t, "alice@here.test", false, alice)
	d.shelf.put(t, "a/b+c@here.test", false, slash)
	d.read()
	fpr := alice.Fingerprint()
	for target, want := range map[string]string{
		"by-email/alice%40here.test": fpr, "by-email/Alice@Here.Test": fpr, "by-fingerprint/" + fpr: fpr, "by-keyid/" + fpr[24:]: fpr,
		"by-email/a%2Fb%2Bc%40here.test": slash.Fingerprint(), "by-email/a/b+c@here.test": slash.Fingerprint(),
	} {
		if got := d.certificates(d.get("keys.here.test/vks/v1/"+target), armoredType); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %v", target, got)
		}
	}
	for _, target := range []string{"upload", "request-verify"} {
		var answer map[string]string
		if err := json.Unmarshal(d.body(d.do(http.MethodPost, "keys.here.test/vks/v1/"+target, nil), http.StatusNotImplemented, jsonType), &answer); err != nil || answer["error"] == "" {
			t.Errorf("%s: %v %v", target, answer, err)
		}
	}
	d.body(d.do(http.MethodDelete, "keys.here.test/vks/v1/by-keyid/"+fpr[24:], nil), http.StatusMethodNotAllowed, textType)
}

// A certificate of several accounts is found by its fingerprint with the address of
// each that publishes it.
func TestSharedCertificate(t *testing.T) {
	t.Parallel()
	d := newDesk(t, func(o *PublishOptions) {
		o.Hosted = func(domain string) bool { return domain == "here.test" || domain == "elsewhere.test" }
	})
	c := fileCertificate(t, "two-addresses.asc")
	names := func() (found []string) {
		for _, c := range d.parse(d.body(d.get("keys.here.test/vks/v1/by-keyid/"+c.KeyID()), http.StatusOK, armoredType)) {
			found = append(found, c.UserIDs()...)
		}
		slices.Sort(found)
		return found
	}
	d.shelf.put(t, "alice@here.test", false, c)
	d.shelf.put(t, "private@elsewhere.test", false, c)
	d.read()
	if got := fmt.Sprint(names()); got != "[Alice Example <alice@here.test> Secret Life <private@elsewhere.test>]" {
		t.Error(got)
	}
	// A domain that was taken out of the configuration is nobody's here.
	d.publisher.Hosted = func(domain string) bool { return domain == "here.test" }
	if got := fmt.Sprint(names()); got != "[Alice Example <alice@here.test>]" {
		t.Error(got)
	}
	d.publisher.Hosted = func(string) bool { return true }
	d.shelf.put(t, "private@elsewhere.test", true, c)
	d.read()
	if got := fmt.Sprint(names()); got != "[Alice Example <alice@here.test>]" {
		t.Error(got)
	}
}

// Users ask about other people's addresses; nobody else learns anything of them.
func TestUsersAsk(t *testing.T) {
	t.Parallel()
	bob := newCertificate(t, "bob@elsewhere.test")
	crowd := &people{answers: map[string]Answer{
		"bob@elsewhere.test":   found(bob),
		"carol@elsewhere.test": {Kind: mail.Unknown, Reason: "a timeout"},
	}}
	d := newDesk(t, func(o *PublishOptions) { o.Users, o.Finder = crowd, crowd })
	d.shelf.put(t, "alice@here.test", false, newCertificate(t, "alice@here.test"))
	d.read()
	as := func(password string) func(*http.Request) {
		return func(r *http.Request) {
			r.SetBasicAuth("alice@here.test", password)
			r.RemoteAddr = "[2001:db8::7]:1234"
		}
	}
	ask := func(target, password string) *http.Response {
		return d.do(http.MethodGet, "keys.here.test/"+target, as(password))
	}
	for target, mediaType := range map[string]string{
		"pks/lookup?op=get&search=bob@elsewhere.test": armoredType, "vks/v1/by-email/bob%40elsewhere.test": armoredType, "pks/v2/certs/by-identity/bob@elsewhere.test": binaryType,
	} {
		r := ask(target, "app-password")
		if got := d.certificates(r, mediaType); !slices.Equal(got, []string{bob.Fingerprint()}) || r.Header.Get("Cache-Control") != "private, no-store" {
			t.Errorf("%s: %v %s", target, got, r.Header.Get("Cache-Control"))
		}
		d.body(d.get("keys.here.test/"+target), http.StatusNotFound, textType)
		r = ask(target, "guess")
		if d.body(r, http.StatusUnauthorized, textType); !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s: %v", target, r.Header)
		}
		d.body(d.do(http.MethodGet, "keys.here.test/"+target, func(r *http.Request) { as("app-password")(r); r.TLS = nil }), http.StatusNotFound, textType)
	}
	if crowd.loginIP != netip.MustParseAddr("2001:db8::7") {
		t.Errorf("the login came from %v", crowd.loginIP)
	}
	b := d.body(ask("pks/lookup?op=index&search=bob@elsewhere.test", "app-password"), http.StatusOK, textType)
	if !strings.HasPrefix(string(b), "info:1:1\npub:"+bob.Fingerprint()) {
		t.Errorf("index: %q", b)
	}
	r := ask("pks/lookup?op=get&search=nobody@elsewhere.test", "app-password")
	if d.body(r, http.StatusNotFound, textType); r.Header.Get("Cache-Control") != "private, no-store" {
		t.Errorf("None: %v", r.Header)
	}
	r = ask("vks/v1/by-email/carol%40elsewhere.test", "app-password")
	if d.body(r, http.StatusServiceUnavailable, textType); r.Header.Get("Retry-After") == "" {
		t.Errorf("Unknown: %v", r.Header)
	}
	// What is ours needs no login, and what is only its own server's to say is not asked.
	before := crowd.logins
	d.certificates(ask("vks/v1/by-email/alice@here.test", "guess"), armoredType)
	d.body(ask("pks/v2/canonical/bob@elsewhere.test", "app-password"), http.StatusNotFound, textType)
	d.body(d.do(http.MethodGet, advanced("elsewhere.test", "bob"), as("app-password")), http.StatusNotFound, textType)
	if crowd.logins != before {
		t.Errorf("%d logins too many", crowd.logins-before)
	}
	crowd.err = &ErrLoginWait{Wait: 1500 * time.Millisecond}
	r = ask("vks/v1/by-email/bob@elsewhere.test", "app-password")
	if d.body(r, http.StatusTooManyRequests, textType); r.Header.Get("Retry-After") != "2" {
		t.Errorf("throttled: %v", r.Header)
	}
	crowd.err = errBroken
	if b := d.body(ask("vks/v1/by-email/bob@elsewhere.test", "app-password"), http.StatusServiceUnavailable, textType); strings.Contains(string(b), "disk") {
		t.Errorf("the client is told %q", b)
	}
}

// The directory's look-up ends with the request.
func TestUserGoesAway(t *testing.T) {
	t.Parallel()
	crowd := &people{waits: true}
	d := newDesk(t, func(o *PublishOptions) { o.Users, o.Finder = crowd, crowd })
	d.read()
	r := d.do(http.MethodGet, "keys.here.test/vks/v1/by-email/bob@elsewhere.test", func(r *http.Request) {
		r.SetBasicAuth("alice@here.test", "app-password")
		*r = *r.WithContext(gone(t))
	})
	if b, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%d %q", r.StatusCode, b)
	}
}
