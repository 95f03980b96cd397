package message

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func envelopeOf(t testing.TB, m []byte) Envelope {
	t.Helper()
	h, _, err := ParseHeader(m)
	if err != nil {
		t.Fatal(err)
	}
	return EnvelopeOf(h)
}

func TestEnvelopeOf(t *testing.T) {
	t.Parallel()
	alice := []Address{{Name: "Alice Example", Local: "alice", Domain: "example.org"}}
	want := Envelope{
		Date: "Mon, 23 Nov 2026 10:04:00 +0000", Subject: "=?utf-8?q?Gr=C3=BC=C3=9Fe?= and a subject of ordinary length",
		InReplyTo: "<fedcba9876543210@example.net>", MessageID: "<0123456789abcdef@example.org>",
		From: alice, Sender: alice, ReplyTo: alice,
		To: []Address{{Name: "Bob, the builder", Local: "bob", Domain: "example.net"}, {Name: "Carol", Local: "carol", Domain: "example.net"}},
		Cc: []Address{{Kind: GroupStart, Local: "team"}, {Local: "dave", Domain: "example.com"},
			{Name: "Eve", Local: "eve", Domain: "example.com"}, {Kind: GroupEnd}},
	}
	if got := envelopeOf(t, ordinary(2<<10)); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	got := envelopeOf(t, crlf("From: a@b\nSender:\nReply-To: r@s\nTo: x@y\nTO: z@y\nBcc: q@r\nSubject: one\nSubject: two\nFrom: c@d\n\n"))
	if len(got.To) != 2 || got.Sender[0].Addr() != "a@b" || got.ReplyTo[0].Addr() != "r@s" || got.Bcc[0].Addr() != "q@r" ||
		got.Subject != "one" || len(got.From) != 1 {
		t.Errorf("got %+v", got)
	}
	if got := envelopeOf(t, nil); !reflect.DeepEqual(got, Envelope{}) {
		t.Errorf("empty: %+v", got)
	}
}

func TestEnvelopeCodec(t *testing.T) {
	t.Parallel()
	many := "To: " + strings.Repeat("a@b, ", 5000) + "\r\n"
	for _, m := range [][]byte{nil, ordinary(500), crlf("Sender: s@t\n\n"), crlf("From: a@b\nSender: a@b\nReply-To: c@d, e:;\n\n"),
		crlf("From: <@x,@y:a@b>\nSubject: \xff\x00\n\n"), []byte(many + many)} {
		e := envelopeOf(t, m)
		b := e.Append([]byte("prefix"))
		got, err := ParseEnvelope(b[len("prefix"):])
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%.40q: %v\n got %+v\nwant %+v", m, err, got, e)
		}
		for i := range min(len(b), 600) - len("prefix") {
			if _, err := ParseEnvelope(b[len("prefix") : len("prefix")+i]); !errors.Is(err, ErrEncoding) {
				t.Fatalf("%.40q cut at %d: %v", m, i, err)
			}
		}
		if _, err := ParseEnvelope(append(bytes.Clone(b[len("prefix"):]), 0)); !errors.Is(err, ErrEncoding) {
			t.Error("trailing octet accepted")
		}
	}
	for total, want := range map[string]error{"\x00": ErrEncoding, "\x01": nil, "\x02": ErrEncoding} { // of one address
		b := "\x01\x03\x00\x00\x00\x00" + total + "\x01\x00\x00\x00\x03abc\x03def\x00\x00\x00"
		if _, err := ParseEnvelope([]byte(b)); !errors.Is(err, want) {
			t.Errorf("total %q: %v", total, err)
		}
	}
	e := envelopeOf(t, ordinary(500))
	if n := len(e.Append(nil)); n > 330 {
		t.Errorf("an ordinary envelope takes %d octets", n)
	}
}

func TestStructureCodec(t *testing.T) {
	t.Parallel()
	for _, m := range [][]byte{nil, ordinary(3000), []byte(sectioned),
		crlf("Content-Language: de, en\nContent-MD5: x\nContent-Location: y\nContent-ID: z\nContent-Disposition: inline; a=b\n\n")} {
		p := ScanBytes(m, Limits{})
		b := p.Append(nil)
		got, err := ParseStructure(b)
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%v\n got %s\nwant %s", err, dump(got), dump(p))
		}
		for i := range b {
			if _, err := ParseStructure(b[:i]); !errors.Is(err, ErrEncoding) {
				t.Fatalf("cut at %d: %v", i, err)
			}
		}
	}
	// Nesting that no scan makes does not take the stack.
	for depth, want := range map[int]error{900: nil, 1500: ErrEncoding} {
		p := &Part{}
		for range depth {
			p = &Part{Children: []*Part{p}}
		}
		if _, err := ParseStructure(p.Append(nil)); !errors.Is(err, want) {
			t.Errorf("%d deep: %v", depth, err)
		}
	}
}

// TestStoredFormGolden pins version 1: what is stored outlives the program.
func TestStoredFormGolden(t *testing.T) {
	t.Parallel()
	e := Envelope{Date: "d", Subject: "s", From: []Address{{Name: "n", Local: "l", Domain: "h"}}, To: []Address{{Kind: GroupEnd}}}
	e.Sender = e.From
	if got := string(e.Append(nil)); got != "\x01\x01\x01d\x01s\x00\x00\x02\x01\x00\x01n\x00\x01l\x01h\x00\x01\x02\x00\x00\x00\x00\x00\x00" {
		t.Errorf("envelope %q", got)
	}
	p := ScanBytes([]byte("Content-Type: a/b; c=d\n\nx\n"), Limits{})
	if got := string(p.Append(nil)); got != "\x01\x01\x00\x18\x02\x01\x01a\x01b\x01\x01c\x01d" {
		t.Errorf("structure %q", got)
	}
}

func FuzzParseEnvelope(f *testing.F) {
	e := envelopeOf(f, ordinary(500))
	f.Add(e.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEnvelope(b)
		if err != nil {
			return
		}
		if again, err := ParseEnvelope(e.Append(nil)); err != nil || !reflect.DeepEqual(again, e) {
			t.Fatalf("%v: %+v, %+v", err, e, again)
		}
	})
}

func FuzzParseStructure(f *testing.F) {
	f.Add(ScanBytes([]byte(sectioned), Limits{}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseStructure(b)
		if err != nil {
			return
		}
		if again, err := ParseStructure(p.Append(nil)); err != nil || dump(again) != dump(p) {
			t.Fatalf("%v", err)
		}
		_, _, _ = p.Section([]int{1, 1, 1}, SectionHeader)
	})
}

func BenchmarkEnvelopeOf(b *testing.B) {
	h, _, _ := ParseHeader(ordinary(2 << 10))
	b.ReportAllocs()
	for b.Loop() {
		EnvelopeOf(h)
	}
}

func BenchmarkParseEnvelope(b *testing.B) {
	e := envelopeOf(b, ordinary(2<<10))
	stored := e.Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseEnvelope(stored); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseStructure(b *testing.B) {
	stored := ScanBytes(ordinary(2<<10), Limits{}).Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseStructure(stored); err != nil {
			b.Fatal(err)
		}
	}
}
