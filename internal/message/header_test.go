package message

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// crlf writes a message with readable line ends.
func crlf(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

func names(h Header) []string {
	var n []string
	for _, f := range h.Fields {
		n = append(n, f.Name)
	}
	return n
}

func TestParseHeader(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, in  string
		names     []string
		end       string
		bodyStart int
	}{
		{"ordinary", "A: 1\r\nB: 2\r\n\r\nbody", []string{"A", "B"}, "\r\n", 14},
		{"folded", "A: 1\r\n 2\r\n\t3\r\nB: 2\r\n\r\n", []string{"A", "B"}, "\r\n", 22},
		{"lf only", "A: 1\nB: 2\n\nbody", []string{"A", "B"}, "\n", 11},
		{"cr cr lf", "A: 1\r\r\nB: 2\r\r\n\r\r\nbody", []string{"A", "B"}, "\r\r\n", 17},
		{"empty", "", nil, "", 0},
		{"empty section", "\r\nbody", nil, "\r\n", 2},
		{"header only", "A: 1\r\nB: 2\r\n", []string{"A", "B"}, "", 12},
		{"cut off", "A: 1\r\nB: 2", []string{"A", "B"}, "", 10},
		{"cut off in name", "A: 1\r\nB", []string{"A", ""}, "", 7},
		{"cut off at cr", "A: 1\r\n\r", []string{"A"}, "\r", 7},
		{"mbox line", "From x@y Mon Jan  1 00:00:00 2024\r\nA: 1\r\n\r\n", []string{"", "A"}, "\r\n", 43},
		{"no colon", "A: 1\r\nnonsense\r\nB: 2\r\n\r\n", []string{"A", "", "B"}, "\r\n", 24},
		{"leading space", " A: 1\r\nB: 2\r\n\r\n", []string{"", "B"}, "\r\n", 15},
		{"space before colon", "A : 1\r\n\r\n", []string{"A"}, "\r\n", 9},
		{"space in name", "A B: 1\r\n\r\n", []string{""}, "\r\n", 10},
		{"no name", ": 1\r\n\r\n", []string{""}, "\r\n", 7},
		{"8-bit name", "\xc3\xa4: 1\r\n\r\n", []string{""}, "\r\n", 9},
		{"blank continuation", "A: 1\r\n \r\nB: 2\r\n\r\n", []string{"A", "B"}, "\r\n", 17},
		{"nul", "A\x00: 1\r\n\r\n", []string{""}, "\r\n", 9},
	} {
		h, n, err := ParseHeader([]byte(tc.in))
		if err != nil || !slices.Equal(names(h), tc.names) || string(h.End) != tc.end || n != tc.bodyStart {
			t.Errorf("%s: names %q end %q body at %d, %v", tc.name, names(h), h.End, n, err)
		}
		if got := string(h.Bytes()) + string(h.End) + tc.in[n:]; got != tc.in {
			t.Errorf("%s: octets changed: %q", tc.name, got)
		}
	}
}

func TestHeaderLimits(t *testing.T) {
	t.Parallel()
	fits := append(bytes.Repeat([]byte("A: "+strings.Repeat("x", 1019)+"\r\n"), 1023), "\r\n"...)
	if _, n, err := ParseHeader(fits); err != nil || n != len(fits) {
		t.Errorf("within the limit: %v", err)
	}
	for name, b := range map[string][]byte{
		"fields":    bytes.Repeat([]byte("A: "+strings.Repeat("x", 1019)+"\r\n"), 1025),
		"ten MB":    bytes.Repeat([]byte("A: "+strings.Repeat("x", 1019)+"\r\n"), 10240),
		"one field": bytes.Repeat([]byte("A:"), 1<<20),
		"folds":     append([]byte("A: x\r\n"), bytes.Repeat([]byte(" x\r\n"), 1<<19)...),
		"number":    bytes.Repeat([]byte("A:\n"), MaxFields+1),
	} {
		if _, _, err := ParseHeader(b); !errors.Is(err, ErrHeaderTooLarge) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, _, err := ParseHeaderLimit([]byte("A: 1\r\n\r\n"), 7); !errors.Is(err, ErrHeaderTooLarge) {
		t.Error("blank line over the limit was accepted")
	}
}

func TestHeaderGet(t *testing.T) {
	t.Parallel()
	h, _, err := ParseHeader(crlf("Subject:  one\n two\n\tthree  \nX: a\nsubject: second\nx : b\nEmpty:\n\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := h.Get("SUBJECT"); got != "one two\tthree" {
		t.Errorf("Get: %q", got)
	}
	if got := h.Values("X"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("Values: %q", got)
	}
	if !h.Has("empty") || h.Get("Empty") != "" || h.Has("nothing") || h.Get("nothing") != "" {
		t.Error("empty and absent fields")
	}
	w := h.Without(func(f Field) bool { return f.Is("Subject") })
	if got := names(w); !slices.Equal(got, []string{"X", "x", "Empty"}) || string(w.End) != "\r\n" {
		t.Errorf("Without: %q", got)
	}
	if len(h.Fields) != 5 {
		t.Error("Without changed its receiver")
	}
	// What a value holds must not end a line elsewhere.
	bad, _, _ := ParseHeader([]byte("A: x\ry\r\r\n z\r\n\r\n"))
	if got := bad.Get("A"); got != "xy z" {
		t.Errorf("bare CR: %q", got)
	}
	if (Header{Fields: []Field{{Raw: []byte("no: name")}}}).Get("") != "" {
		t.Error("a nameless field has a value")
	}
}

func TestHeaderEnd(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "\r\n", "\n", "\r", "A: 1\r\n\r\nbody\r\n\r\n", "A: 1\n\nbody", "A: 1\r\r\n\r\r\nb",
		"A: 1\r\n \r\n\r\nbody", "A: 1", "A: 1\r\n\r", "\r\r\r\r\nx"} {
		h, want, err := ParseHeader([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		for size := 1; size <= len(in)+1; size++ {
			var e HeaderEnd
			got := 0
			for rest := []byte(in); len(rest) > 0; {
				chunk := rest[:min(size, len(rest))]
				rest = rest[len(chunk):]
				n, found := e.Feed(chunk)
				if got += n; found != e.Found() {
					t.Fatal("Feed and Found differ")
				}
			}
			if got != want || e.Len() != int64(want) {
				t.Errorf("%q by %d: header of %d octets, want %d", in, size, got, want)
			}
			if e.Found() != bytes.HasSuffix(h.End, []byte("\n")) {
				t.Errorf("%q by %d: found %v", in, size, e.Found())
			}
		}
	}
}

func TestFilterFields(t *testing.T) {
	t.Parallel()
	hdr := crlf("From x\nFrom: a\n b\nSubject: s\nTo: t\nfrom: c\n\nbody: no\n")
	for _, tc := range []struct {
		names []string
		not   bool
		want  string
	}{
		{[]string{"FROM"}, false, "From: a\n b\nfrom: c\n\n"},
		{[]string{"to", "Subject"}, false, "Subject: s\nTo: t\n\n"},
		{[]string{"Date", ""}, false, "\n"},
		{[]string{"from", "TO"}, true, "From x\nSubject: s\n\n"},
	} {
		if got := FilterFields(hdr, tc.names, tc.not); !bytes.Equal(got, crlf(tc.want)) {
			t.Errorf("%v %v: %q", tc.names, tc.not, got)
		}
	}
	if got := FilterFields([]byte("To: t"), []string{"to"}, false); string(got) != "To: t\r\n\r\n" {
		t.Errorf("cut off: %q", got)
	}
}

func FuzzParseHeader(f *testing.F) {
	for _, s := range []string{"A: 1\r\n b\r\n\r\nbody", "From x\n\n", " \r\n:\r\n", "A : 1\r", "Subject: [sealed]\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := ParseHeader(b)
		if err != nil {
			return
		}
		if got := slices.Concat(h.Bytes(), h.End, b[n:]); !bytes.Equal(got, b) {
			t.Fatalf("octets changed: %q", got)
		}
		var e HeaderEnd
		if m, found := e.Feed(b); m != n && (found || len(h.End) == 0) {
			t.Fatalf("HeaderEnd says %d, ParseHeader %d", m, n)
		}
		for _, f := range h.Fields {
			if strings.ContainsAny(f.Value(), "\r\n") {
				t.Fatal("a value holds a line end")
			}
		}
		_ = EnvelopeOf(h)
		if s := StripMarks(Strip(h, "mx")); !Strip(s, "mx").sameAs(s) || !StripMarks(s).sameAs(s) {
			t.Fatalf("stripping twice differs: %q", s.Bytes())
		}
	})
}

func (h Header) sameAs(o Header) bool { return bytes.Equal(h.Bytes(), o.Bytes()) }

func BenchmarkParseHeader(b *testing.B) {
	m := ordinary(2 << 10)
	b.ReportAllocs()
	b.SetBytes(int64(len(m)))
	for b.Loop() {
		if _, _, err := ParseHeader(m); err != nil {
			b.Fatal(err)
		}
	}
}

// ordinary is a message as a mail provider sends it, of about size octets.
func ordinary(size int) []byte {
	var b bytes.Buffer
	b.Write(crlf(`Return-Path: <alice@example.org>
Received: from mail.example.org (mail.example.org [192.0.2.7])
	by mx.example.net with ESMTPS id 0123456789
	for <bob@example.net>; Mon, 23 Nov 2026 10:04:05 +0000
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org;
	s=s1; h=from:to:subject:date:message-id; bh=` + strings.Repeat("A", 44) + `;
	b=` + strings.Repeat("B", 172) + `
From: Alice Example <alice@example.org>
To: "Bob, the builder" <bob@example.net>, carol@example.net (Carol)
Cc: team: dave@example.com, Eve <eve@example.com>;
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= and a subject of ordinary length
Date: Mon, 23 Nov 2026 10:04:00 +0000
Message-ID: <0123456789abcdef@example.org>
In-Reply-To: <fedcba9876543210@example.net>
References: <1@example.net> <fedcba9876543210@example.net>
User-Agent: Example/1.0
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="=_outer"

This is a message in MIME format.
--=_outer
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Hello Bob

--=_outer
Content-Type: application/pdf; name="a file.pdf"
Content-Disposition: attachment; filename="a file.pdf"
Content-Transfer-Encoding: base64

`))
	for line := strings.Repeat("QUJD", 19) + "\r\n"; b.Len() < size-20; {
		b.WriteString(line)
	}
	fmt.Fprintf(&b, "\r\n--=_outer--\r\n")
	return b.Bytes()
}
