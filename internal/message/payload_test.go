package message

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

const inserted = `; protected-headers="v1"`

func TestPayloadHeader(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, in string
		how      ContentTypeChange
		want     string // of the header section
	}{
		{"param", "A: 1\r\nContent-Type: text/html; charset=x\r\nB: 2\r\n\r\nbody", "param",
			"A: 1\r\nContent-Type: text/html; charset=x" + inserted + "\r\nB: 2\r\n\r\n"},
		{"folded", "content-type : multipart/mixed;\r\n\tboundary=x\r\n\r\n", "param",
			"content-type : multipart/mixed;\r\n\tboundary=x" + inserted + "\r\n\r\n"},
		{"first of two", "Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n", "param",
			"Content-Type: a/b" + inserted + "\r\nContent-Type: c/d\r\n\r\n"},
		{"semicolon", "Content-Type: a/b;\r\n\r\n", "semi", "Content-Type: a/b;protected-headers=\"v1\"\r\n\r\n"},
		{"semicolon and blank", "Content-Type: a/b; \r\n\r\n", "semi", "Content-Type: a/b; protected-headers=\"v1\"\r\n\r\n"},
		{"there already", "Content-Type: a/b; Protected-Headers=v1; x=y\r\n\r\n", "kept",
			"Content-Type: a/b; Protected-Headers=v1; x=y\r\n\r\n"},
		{"open quote", "Content-Type: a/b; x=\"y\r\n\r\n", "kept", "Content-Type: a/b; x=\"y\r\n\r\n"},
		{"open comment", "Content-Type: a/b (c\r\n\r\n", "kept", "Content-Type: a/b (c\r\n\r\n"},
		{"none", "A: 1\r\n\r\nbody", "field", "A: 1\r\nContent-Type: text/plain" + inserted + "\r\n\r\n"},
		{"empty section", "\r\nbody", "field", "Content-Type: text/plain" + inserted + "\r\n\r\n"},
		{"nothing", "", "field+end", "Content-Type: text/plain" + inserted + "\r\n\r\n"},
		{"header only", "A: 1\r\n", "field+end", "A: 1\r\nContent-Type: text/plain" + inserted + "\r\n\r\n"},
		{"cut off", "A: 1", "field+crlf+end", "A: 1\r\nContent-Type: text/plain" + inserted + "\r\n\r\n"},
		{"type cut off", "Content-Type: a/b", "param+crlf+end", "Content-Type: a/b" + inserted + "\r\n\r\n"},
		{"cut off at cr", "Content-Type: a/b\r", "param+crlf+end", "Content-Type: a/b" + inserted + "\r\r\n\r\n"},
		{"lf", "Content-Type: a/b\nA: 1\n\nbody", "param", "Content-Type: a/b" + inserted + "\nA: 1\n\n"},
		{"mbox", "From x\r\nContent-Type: a/b\r\n\r\n", "param+line",
			"Postern-Line: From x\r\nContent-Type: a/b" + inserted + "\r\n\r\n"},
		{"leading space", " x\r\nA: 1\r\n\r\n", "field+line",
			"Postern-Line:  x\r\nA: 1\r\nContent-Type: text/plain" + inserted + "\r\n\r\n"},
	} {
		h, bodyStart, err := ParseHeader([]byte(tc.in))
		if err != nil {
			t.Fatal(err)
		}
		hdr, how := PayloadHeader(h)
		if how != tc.how {
			t.Errorf("%s: how %q, want %q", tc.name, how, tc.how)
		}
		if string(hdr) != tc.want {
			t.Errorf("%s: %q", tc.name, hdr)
		}
		back, err := originalHeader(hdr, how)
		if err != nil || string(back) != tc.in[:bodyStart] {
			t.Errorf("%s: restored %q, %v", tc.name, back, err)
		}
		// A client must see the blank line where the body begins.
		p, n, err := ParseHeader(hdr)
		if err != nil || n != len(hdr) || len(p.End) == 0 {
			t.Errorf("%s: client sees a header of %d of %d octets", tc.name, n, len(hdr))
		}
	}
}

func TestOriginalHeaderRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		hdr string
		how ContentTypeChange
	}{
		{"A: 1\r\n\r\n", "param"}, {"A: 1\r\n\r\n", "semi"}, {"A: 1\r\n\r\n", "field"},
		{"Content-Type: a/b\r\n\r\n", "param"}, {"A: 1\r\n\r\n", "kept+line"}, {"A: 1\r\n", "kept"},
		{"A: 1\r\n\r\n", ""}, {"A: 1\r\n\r\n", "other"}, {"A: 1\r\n\r\n", "kept+"}, {"A: 1\r\n\r\n", "kept+end+line"},
		{"A: 1\r\n\r\n", "kept+end+end"}, {"A: 1\n\n", "kept+crlf"},
	} {
		if _, err := originalHeader([]byte(tc.hdr), tc.how); !errors.Is(err, errChange) {
			t.Errorf("%q as %q: %v", tc.hdr, tc.how, err)
		}
	}
}

// seal writes a payload the way the gateway does.
func seal(t testing.TB, original []byte, key ed25519.PrivateKey) []byte {
	t.Helper()
	h, bodyStart, err := ParseHeader(original)
	if err != nil {
		t.Fatal(err)
	}
	hdr, how := PayloadHeader(h)
	p := sample()
	p.ContentType, p.Head, p.Body = how, sha256.Sum256(hdr), sha256.Sum256(original[bodyStart:])
	field := p.Field(func(b []byte) []byte { return ed25519.Sign(key, b) })
	return slices.Concat(field, hdr, original[bodyStart:])
}

func sample() Provenance {
	return Provenance{ID: "01j0z9", Recipient: "bob@example.net", Time: time.Date(2026, 11, 23, 10, 4, 5, 0, time.UTC),
		TLS: "TLS1.3", SPF: "pass", DKIM: "fail", DMARC: "none", Class: "clear", ContentType: "kept", Key: "k1"}
}

func testKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

func TestRestore(t *testing.T) {
	t.Parallel()
	key := testKey()
	for _, in := range [][]byte{nil, []byte("\r\n"), []byte("body\r\n"), []byte("\r\n\r\nbody"), []byte(" x: y\n\nb"),
		ordinary(300), ordinary(100 << 10), bytes.Repeat([]byte("A:\n"), MaxFields),
		append(bytes.Repeat([]byte("A: "+strings.Repeat("x", 1019)+"\r\n"), 1023), "\r\nbody"...), []byte("Postern-Line: x\r\n\r\n"), []byte("Postern-Arrival: v=1\r\n\r\n")} {
		payload := seal(t, in, key)
		for _, r := range []io.Reader{bytes.NewReader(payload), iotest.OneByteReader(bytes.NewReader(payload)),
			iotest.DataErrReader(bytes.NewReader(payload))} {
			o, err := Restore(r)
			if err != nil {
				t.Fatalf("%.40q: %v", in, err)
			}
			if err := o.Intact(); !errors.Is(err, ErrDigest) {
				t.Error("intact before it was read")
			}
			got, err := io.ReadAll(o.Reader())
			if err != nil || !bytes.Equal(got, in) {
				t.Fatalf("%.40q: restored %.80q, %v", in, got, err)
			}
			if err := o.Intact(); err != nil {
				t.Errorf("%.40q: %v", in, err)
			}
			if !ed25519.Verify(key.Public().(ed25519.PublicKey), o.Signed, o.Signature) {
				t.Error("signature does not verify")
			}
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	payload := seal(t, ordinary(2<<10), testKey())
	for name, tc := range map[string]struct {
		in   io.Reader
		want error
	}{
		"empty":         {strings.NewReader(""), ErrProvenance},
		"no provenance": {bytes.NewReader(ordinary(300)), ErrProvenance},
		"not first":     {strings.NewReader("A: 1\r\n" + string(payload)), ErrProvenance},
		"too large":     {strings.NewReader(strings.Repeat("A: 1\r\n", 1<<18)), ErrHeaderTooLarge},
		"cut off":       {iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(payload))), iotest.ErrTimeout},
		"truncated":     {io.MultiReader(bytes.NewReader(payload[:300]), iotest.ErrReader(io.ErrUnexpectedEOF)), io.ErrUnexpectedEOF},
	} {
		if _, err := Restore(tc.in); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	for _, change := range []string{"From: ", "QUJD"} {
		o, err := Restore(bytes.NewReader(bytes.Replace(payload, []byte(change), []byte("xxxx: ")[:len(change)], 1)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, o.Body); err != nil || !errors.Is(o.Intact(), ErrDigest) {
			t.Errorf("changed %q: %v", change, o.Intact())
		}
	}
}

// TestProvenanceGolden pins the octets: stored mail carries them for ever.
func TestProvenanceGolden(t *testing.T) {
	t.Parallel()
	got := string(sample().Field(func(b []byte) []byte {
		if !bytes.HasPrefix(b, []byte("Postern-Arrival v1\x00v=1; id=01j0z9; ")) {
			t.Errorf("signed: %q", b)
		}
		return make([]byte, 64)
	}))
	zero := strings.Repeat("A", 43) + "="
	want := "Postern-Arrival: v=1; id=01j0z9; rcpt=bob@example.net; t=2026-11-23T10:04:05Z;\r\n" +
		" tls=TLS1.3; spf=pass; dkim=fail; dmarc=none; class=clear; ct=kept;\r\n" +
		" head=" + zero + ";\r\n body=" + zero + "; key=k1;\r\n" +
		" sig=" + strings.Repeat("A", 66) + "\r\n " + strings.Repeat("A", 20) + "==\r\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestProvenanceRoundTrip(t *testing.T) {
	t.Parallel()
	shared := sample()
	shared.Recipient, shared.TLS, shared.SPF = "", "", ""
	odd := sample()
	odd.Recipient = "\"a b;%\"@exämple.org\r\nX: y"
	odd.Extra = []Attribute{{"new", "a=b; c"}, {"X-2", "\x00"}}
	long := sample()
	long.Recipient = strings.Repeat("x", 2000)
	for _, p := range []Provenance{sample(), shared, odd, long} {
		field := p.Field(func([]byte) []byte { return []byte("signature") })
		h, n, err := ParseHeader(append(bytes.Clone(field), "\r\n"...))
		if err != nil || len(h.Fields) != 1 || n != len(field)+2 {
			t.Fatalf("not one field: %q", field)
		}
		got, signed, sig, err := ParseProvenance(field)
		if err != nil || string(sig) != "signature" || !bytes.HasPrefix(signed, []byte(provenanceLabel)) {
			t.Fatalf("%v: %q", err, field)
		}
		if !reflect.DeepEqual(got, p) {
			t.Errorf("got  %+v\nwant %+v", got, p)
		}
		for _, line := range strings.Split(string(field), "\r\n") {
			if len(line) > 78 && len(p.Recipient) < 100 {
				t.Errorf("line of %d: %q", len(line), line)
			}
		}
	}
}

func TestProvenanceEscapes(t *testing.T) {
	t.Parallel()
	p := sample()
	p.Recipient = "a b;%ä\r\n"
	if got := string(p.Field(func([]byte) []byte { return nil })); !strings.Contains(got, "; rcpt=a%20b%3B%25%C3%A4%0D%0A;") {
		t.Errorf("%s", got)
	}
}

func TestParseProvenanceRefuses(t *testing.T) {
	t.Parallel()
	good := string(sample().Field(func([]byte) []byte { return []byte("sig") }))
	if _, _, _, err := ParseProvenance([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]string{
		{"Postern-Arrival", "Postern-Departure"}, {"v=1", "v=2"}, {"v=1; ", ""}, {"v=1; ", "x=1; v=1; "},
		{"id=01j0z9", "id=01j0z9; id=2"}, {"id=01j0z9;", ""}, {"id=", "id=%30"}, {"id=", "id=%3"}, {"id=", "id=%zz"},
		{"id=01j0z9; rcpt=bob@example.net", "rcpt=bob@example.net; id=01j0z9"}, {"rcpt=bob@example.net", "rcpt="},
		{"rcpt=bob", "rcpt=b\xc3\xb6b"}, {"05Z", "05+00:00"}, {"05Z", "05.5Z"}, {"T10", "T25"}, {"head=A", "head=B="},
		{"body=A", "body="}, {"ct=kept", "ct=field+end+crlf"}, {"key=k1", "key=k1; sig=AAAA"}, {"sig=", "sig="},
		{"class=clear; ", ""}, {"key=k1", "v=1; key=k1"}, {"; dkim", ";  dkim"}, {"\r\n sig=", "\r\nsig="},
		{"key=k1;", "key=k1; é=x;"}, {"c2ln", "c2lo="}, {"c2ln", ""},
	} {
		bad := strings.Replace(good, r[0], r[1], 1)
		if r[0] == "sig=" {
			bad = good[:strings.Index(good, "sig=")]
		}
		if bad == good {
			t.Fatalf("%q is not there", r[0])
		}
		if _, _, _, err := ParseProvenance([]byte(bad)); !errors.Is(err, ErrProvenance) {
			t.Errorf("%q for %q: %v", r[1], r[0], err)
		}
	}
	if _, _, _, err := ParseProvenance([]byte(good + strings.Repeat(" ", maxProvenance))); !errors.Is(err, ErrProvenance) {
		t.Error("too long was accepted")
	}
}

func FuzzParseProvenance(f *testing.F) {
	f.Add(sample().Field(func([]byte) []byte { return []byte("sig") }))
	f.Add([]byte("Postern-Arrival: v=1; id=%3B; sig=AAAA\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, signed, sig, err := ParseProvenance(b)
		if err != nil {
			return
		}
		// What is accepted is what Field writes.
		again := p.Field(func(s []byte) []byte {
			if !bytes.Equal(s, signed) {
				t.Fatalf("signed %q, then %q", signed, s)
			}
			return sig
		})
		if _, s2, sig2, err := ParseProvenance(again); err != nil || !bytes.Equal(s2, signed) || !bytes.Equal(sig2, sig) {
			t.Fatalf("written again: %q, %v", again, err)
		}
	})
}

// FuzzRestore is promise P6: what was put in comes out, whatever it was.
func FuzzRestore(f *testing.F) {
	for _, s := range []string{"", "\r", "\r\n", "Content-Type: a/b;\r\n\r\nx", "Content-Type: a\n", " a\r\n\r\r\n", "From x\nContent-Type",
		"Postern-Line: \r\nContent-Type: text/plain; protected-headers=\"v1\"\r\n\r\n", "Content-Type:\"", "A:\r\rB:\r\n\r"} {
		f.Add([]byte(s))
	}
	f.Add(ordinary(500))
	key := testKey()
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := ParseHeader(b); err != nil {
			return
		}
		o, err := Restore(bytes.NewReader(seal(t, b, key)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(o.Reader())
		if err != nil || !bytes.Equal(got, b) || o.Intact() != nil {
			t.Fatalf("restored %q, %v, %v", got, err, o.Intact())
		}
	})
}

func BenchmarkPayloadHeader(b *testing.B) {
	h, _, err := ParseHeader(ordinary(2 << 10))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		PayloadHeader(h)
	}
}

func BenchmarkProvenance(b *testing.B) {
	p, sig := sample(), make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		p.Field(func([]byte) []byte { return sig })
	}
}
