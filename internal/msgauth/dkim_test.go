package msgauth

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"postern/internal/mail"
	"postern/internal/testkit"
)

// verdicts prints the results of all signatures.
func verdicts(r Results) string {
	var all []string
	for _, s := range r.DKIM {
		v := string(s.Result)
		if s.Reason != "" {
			v += ": " + s.Reason
		}
		all = append(all, v)
	}
	return strings.Join(all, "; ")
}

func verifyJoe(t *testing.T, z *zone, req Request) Results {
	t.Helper()
	return NewVerifier(Options{Resolver: z, Now: testkit.NewClock().Now}).Verify(t.Context(), req)
}

func TestDKIMVectors(t *testing.T) {
	t.Parallel()
	one := verifyJoe(t, joesZone(), joe(rfc6376Signature+rfc6376Received))
	if got := verdicts(one); got != "pass" {
		t.Errorf("RFC 6376: %s", got)
	}
	want := DKIMResult{Result: Pass, Domain: "example.com", Selector: "brisbane", Algorithm: "rsa-sha256", Start: "AuUoFEfD"}
	if one.DKIM[0] != want || one.Signatures != 1 {
		t.Errorf("got %+v", one.DKIM[0])
	}
	two := verifyJoe(t, joesZone(), joe(rfc8463Signatures))
	if got := verdicts(two); got != "pass; pass" {
		t.Errorf("RFC 8463: %s", got)
	}
	if _, sum, _ := two.Summary(); sum != "pass" {
		t.Errorf("summary %q", sum)
	}
}

func TestDKIMChanged(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]struct {
		change func(*Request)
		want   string
	}{
		"body":   {func(r *Request) { r.Body = func() io.Reader { return strings.NewReader("Ho.\r\n") } }, "fail: body was changed"},
		"header": {func(r *Request) { r.Header = bytes.Replace(r.Header, []byte("dinner"), []byte("supper"), 1) }, "fail: signature is wrong"},
		"a second Subject on top": {func(r *Request) {
			r.Header = append([]byte("Subject: buy\r\n"), r.Header...)
		}, "pass"}, // RFC 6376 5.4.2: it signs the last one, and only that
		"no empty line": {func(r *Request) { r.Header = bytes.TrimSuffix(r.Header, []byte("\r\n")) }, "pass"},
		"unreadable body": {func(r *Request) {
			r.Body = func() io.Reader { return iotest.ErrReader(errors.New("disk")) }
		}, "temperror: message could not be read"},
		"no body": {func(r *Request) { r.Body = nil }, "fail: body was changed"},
	} {
		req := joe(rfc6376Signature + rfc6376Received)
		change.change(&req)
		if got := verdicts(verifyJoe(t, joesZone(), req)); got != change.want {
			t.Errorf("%s: %s, want %s", name, got, change.want)
		}
	}
}

// sign signs joe's message with an Ed25519 key of sel._domainkey.<domain>,
// which is put into z.
func sign(t *testing.T, z *zone, req Request, domain, sel string) Request {
	t.Helper()
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	z.txt[sel+"._domainkey."+domain] = []string{"k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)}
	var signed bytes.Buffer
	whole := io.MultiReader(bytes.NewReader(req.Header), req.Body())
	if err := dkim.Sign(&signed, whole, &dkim.SignOptions{Domain: domain, Selector: sel, Signer: secret, Hash: crypto.SHA256}); err != nil {
		t.Fatal(err)
	}
	header, _, _ := bytes.Cut(signed.Bytes(), []byte("\r\n\r\n"))
	req.Header = append(bytes.Clone(header), "\r\n\r\n"...)
	return req
}

// TestDKIMRefusedBeforeReading: none of these may cost a look-up or a look at
// the body.
func TestDKIMRefusedBeforeReading(t *testing.T) {
	t.Parallel()
	base := map[string]string{"v": "1", "a": "rsa-sha256", "b": "AAAA", "bh": "AAAA", "d": "football.example.com", "s": "test", "h": "from:to"}
	for _, c := range []struct{ name, tag, value, want string }{
		{"length", "l", "0", "policy: body length tag is not accepted"},
		{"empty length", "l", "", "permerror: malformed signature"},
		{"sha1", "a", "rsa-sha1", "policy: rsa-sha1 is not accepted"},
		{"unknown algorithm", "a", "rsa-sha512", "permerror: unknown algorithm"},
		{"From not signed", "h", "to:subject:fromm", "permerror: From is not signed"},
		{"no bh", "bh", "-", "permerror: required tag missing"},
		{"no b", "b", "-", "permerror: required tag missing"},
		{"no h", "h", "-", "permerror: From is not signed"},
		{"no d", "d", "-", "permerror: malformed domain"},
		{"no s", "s", "-", "permerror: malformed selector"},
		{"version", "v", "2", "permerror: required tag missing"},
		{"top level domain", "d", "com", "permerror: malformed domain"},
		{"domain with CRLF", "d", "exa\r\n mple.com\x00", "permerror: malformed domain"},
		{"selector", "s", "a b\\c", "permerror: malformed selector"},
		{"long selector", "s", strings.Repeat("s", 64), "permerror: malformed selector"},
		{"expired", "x", "1000", "permerror: signature has expired"},
		{"malformed expiry", "x", "soon", "permerror: signature has expired"},
		{"101 names", "h", "from" + strings.Repeat(":to", 100), "policy: too many signed header fields"},
		{"1 MB of h=", "h", strings.Repeat("from:", 200_000), "policy: header section too large"},
		{"10 KB of h=", "h", "from:" + strings.Repeat("x", 10_000), "policy: signature field too large"},
		{"twice", "z; d", "a.example", "permerror: malformed signature"},
		{"no list", "z; rubbish;x", "1", "permerror: malformed signature"},
	} {
		var field strings.Builder
		field.WriteString("DKIM-Signature: ")
		for name, value := range base {
			if name == c.tag {
				value = c.value
			}
			if value != "-" {
				fmt.Fprintf(&field, "%s=%s;\r\n ", name, value)
			}
		}
		if _, ok := base[c.tag]; !ok {
			fmt.Fprintf(&field, "%s=%s", c.tag, c.value)
		}
		req := joe("")
		req.Header = append([]byte(strings.TrimSpace(field.String())+"\r\n"), req.Header...)
		req.Body = func() io.Reader { t.Errorf("%s: the body was read", c.name); return nil }
		req.HeaderFrom = nil // no DMARC, so no look-up at all
		z := joesZone()
		if got := verdicts(verifyJoe(t, z, req)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		z.wantAsked(t)
	}
}

func TestDKIMKeys(t *testing.T) {
	t.Parallel()
	const name = "test._domainkey.football.example.com"
	rsaRecord := func(bits int) []string {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits))
		n.Sub(n, big.NewInt(1))
		der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: 65537})
		if err != nil {
			t.Fatal(err)
		}
		return []string{"v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)}
	}
	for _, c := range []struct {
		name string
		key  []string
		want string
	}{
		{"none", nil, "permerror: no key"},
		{"two", []string{rfc8463RSAKey, rfc8463RSAKey}, "permerror: more than one key"},
		{"revoked", []string{"v=DKIM1; p="}, "permerror: unusable key"},
		{"garbage", []string{"v=spf1 -all"}, "permerror: unusable key"},
		{"other algorithm", []string{rfc8463Key}, "permerror: unusable key"},
		{"other key", rsaRecord(2048), "fail: signature is wrong"},
		{"8192 bits", rsaRecord(8192), "fail: signature is wrong"},
		{"16384 bits", rsaRecord(16384), "policy: key too large"},
		{"512 bits", rsaRecord(512), "policy: key too small"},
		{"not for subdomains, and not used so", []string{rfc8463RSAKey + "; t=y:s"}, "pass"},
	} {
		z := joesZone()
		delete(z.txt, name)
		if c.key != nil {
			z.txt[name] = c.key
		}
		_, second, _ := strings.Cut(rfc8463Signatures, "DKIM-Signature:")
		_, second, _ = strings.Cut(second, "DKIM-Signature:")
		if got := verdicts(verifyJoe(t, z, joe("DKIM-Signature:"+second))); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	z := joesZone()
	z.txt["brisbane._domainkey.example.com"] = []string{rfc6376Key + "; t=s"} // i=joe@football.example.com
	if got := verdicts(verifyJoe(t, z, joe(rfc6376Signature+rfc6376Received))); got != "permerror: key is not for subdomains" {
		t.Errorf("t=s: %s", got)
	}
	z = joesZone()
	z.fails = map[string]bool{name: true}
	r := verifyJoe(t, z, joe(rfc8463Signatures))
	if got := verdicts(r); got != "pass; temperror: key not available" {
		t.Errorf("one key not available: %s", got)
	}
}

// TestDKIMHundredSignatures: the first five are looked at, and no more.
func TestDKIMHundredSignatures(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range 100 {
		many.WriteString(strings.Replace(rfc6376Signature, "s=brisbane", fmt.Sprintf("s=s%d", i), 1))
	}
	z := joesZone()
	req := joe(many.String() + rfc6376Received)
	req.HeaderFrom = nil
	r := verifyJoe(t, z, req)
	if len(r.DKIM) != MaxSignatures || r.Signatures != 100 {
		t.Errorf("%d looked at, %d counted", len(r.DKIM), r.Signatures)
	}
	if n := len(z.names()); n != MaxSignatures {
		t.Errorf("%d look-ups", n)
	}
	if len(r.Field("mx.example")) > 5000 {
		t.Error("the field grows with the signatures")
	}

	z.txt["s3._domainkey.example.com"] = []string{rfc6376Key} // one good among bad ones
	none := "permerror: no key; "
	if got := verdicts(verifyJoe(t, z, req)); got != none+none+none+"fail: signature is wrong; "+strings.TrimSuffix(none, "; ") {
		t.Errorf("%s", got)
	}
}

// TestDKIMHostileHeader bounds the work for a header section that is made to be
// slow, and sees that odd names do not shift verdicts from one signature to
// another.
func TestDKIMHostileHeader(t *testing.T) {
	t.Parallel()
	good := rfc6376Signature + rfc6376Received
	for _, c := range []struct{ name, fields, want string }{
		{"many fields", good + strings.Repeat("a:\n", maxHeaderFields), "policy: too many header fields"},
		{"many lines", good + "X: a\n" + strings.Repeat(" a\n", maxHeaderLines), "policy: too many header fields"},
		{"large", good + "X: " + strings.Repeat("a", MaxHeader) + "\n", "policy: header section too large"},
		{"Kelvin sign", "D\u212aIM-Signature: v=1\n" + good, "permerror: malformed domain; pass"},
		{"space before the colon", "DKIM-Signature \t: v=1\n" + good, "permerror: malformed domain; pass"},
		{"colon on the next line", "DKIM-Signature\n : v=1\n" + good, "permerror: malformed domain; pass"},
		{"odd space in front", "\u00a0DKIM-Signature: v=1\n" + good, "permerror: malformed domain; pass"},
		{"no colon", "DKIM-Signature\n" + good, "permerror: malformed domain; pass"},
		{"continuation first", " DKIM-Signature: v=1\n" + good, "permerror: malformed domain; pass"},
		{"almost the name", "DKIM-Signatur: v=1\nXDKIM-Signature: v=1\n" + good, "pass"},
	} {
		if got := verdicts(verifyJoe(t, joesZone(), joe(c.fields))); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestDKIMUnreadableLeavesNothingBehind: the library would leave goroutines.
func TestDKIMUnreadableLeavesNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 20 {
		req := joe(rfc8463Signatures)
		req.Body = func() io.Reader {
			return io.MultiReader(strings.NewReader("Hi.\r\n"), iotest.ErrReader(errors.New("disk")))
		}
		if got := verdicts(verifyJoe(t, joesZone(), req)); !strings.HasPrefix(got, "temperror") {
			t.Fatal(got)
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before+5 {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestDKIMLargeBody streams 32 MiB and must not hold them.
func TestDKIMLargeBody(t *testing.T) {
	line := bytes.Repeat([]byte("0123456789abcdef"), 4)
	line = append(line, "\r\n"...)
	const lines = (32 << 20) / 66
	sum := sha256.New()
	for range lines {
		sum.Write(line)
	}
	field := strings.Replace(rfc6376Signature, "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=",
		base64.StdEncoding.EncodeToString(sum.Sum(nil)), 1)
	req := joe(field + rfc6376Received)
	req.Body = func() io.Reader { return &repeat{line: line, left: lines} }
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := verdicts(verifyJoe(t, joesZone(), req))
	runtime.ReadMemStats(&after)
	if got != "fail: signature is wrong" { // so the body hash was right
		t.Errorf("%s", got)
	}
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 16<<20 {
		t.Errorf("the heap grew by %d octets", grown)
	}
}

// repeat reads as a line repeated.
type repeat struct {
	line []byte
	at   int
	left int
}

func (r *repeat) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if r.left == 0 {
			return n, io.EOF
		}
		c := copy(p[n:], r.line[r.at:])
		n += c
		if r.at += c; r.at == len(r.line) {
			r.at = 0
			r.left--
		}
	}
	return n, nil
}

func FuzzSignature(f *testing.F) {
	f.Add([]byte(wire(rfc6376Signature)))
	f.Add([]byte(wire(rfc8463Signatures)))
	f.Add([]byte("DKIM-Signature: v=1;;=;d=;s=..;h=from\r\n"))
	f.Add([]byte("DKIM-Signature:v=1;d=a.b;s=c;h=from;a=rsa-sha256;b=x;bh=y;z=1;z=2\r\n"))
	f.Add([]byte("D\u212aIM-Signature\r\n :a=b\r\n\r\nDKIM-Signature:"))
	now := testkit.NewClock().Now()
	f.Fuzz(func(t *testing.T, header []byte) {
		if bytes.Contains(bytes.ReplaceAll(header, []byte(crlf), nil), []byte("\n")) {
			return // refused at the door
		}
		// Whatever the header section, the library sees the same signatures.
		scan := scanHeader(header)
		if scan.tooLarge(header) != "" {
			return
		}
		fresh, _ := dkim.VerifyWithOptions(io.MultiReader(bytes.NewReader(header), endOfHeader(header)),
			&dkim.VerifyOptions{
				MaxVerifications: MaxSignatures,
				LookupTXT:        func(string) ([]string, error) { return nil, &net.DNSError{IsNotFound: true} },
			})
		if len(fresh) != len(scan.signatures) {
			t.Fatalf("we see %d signatures, the library %d", len(scan.signatures), len(fresh))
		}
		for i, value := range scan.signatures {
			s := parseSignature(value, now)
			if s.Result == "" && fresh[i].Domain != s.rawDomain && (fresh[i].Domain != "" || fresh[i].Err == nil) {
				t.Errorf("signature %d is of %q here and of %q there", i, s.rawDomain, fresh[i].Domain)
			}
			if s.Domain != "" {
				if d, err := mail.ParseDomain(s.Domain); err != nil || d != s.Domain {
					t.Errorf("domain %q", s.Domain)
				}
			}
		}
	})
}

func BenchmarkDKIMPass(b *testing.B) {
	v := NewVerifier(Options{Resolver: joesZone()})
	req := joe(rfc6376Signature + rfc6376Received)
	b.ReportAllocs()
	for b.Loop() {
		if r := v.Verify(b.Context(), req); r.DKIM[0].Result != Pass {
			b.Fatal(verdicts(r))
		}
	}
}
