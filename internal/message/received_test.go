package message

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestReceivedField(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 3, 10, 4, 5, 0, time.FixedZone("", -90*60))
	full := Received{Helo: "mail.example.org", IP: netip.MustParseAddr("::ffff:192.0.2.7"), By: "mx.example.net", With: "ESMTPS",
		TLS: "TLS1.3 TLS_AES_128_GCM_SHA256", ID: "01j0z9", For: "bob@example.net", Time: at}
	plain := Received{By: "mx.example.net", With: "ESMTP", ID: "1", Time: at}
	v6 := Received{Helo: "[IPv6:2001:db8::1]", IP: netip.MustParseAddr("2001:db8::1%eth0"), By: "mx", With: "ESMTP", ID: "1", Time: at}
	for _, tc := range []struct {
		r    Received
		want string
	}{
		{full, `Received: from mail.example.org ([192.0.2.7])
	by mx.example.net with ESMTPS
	(TLS1.3 TLS_AES_128_GCM_SHA256)
	id 01j0z9
	for <bob@example.net>;
	Tue, 03 Nov 2026 10:04:05 -0130
`},
		{plain, "Received: by mx.example.net with ESMTP\n\tid 1;\n\tTue, 03 Nov 2026 10:04:05 -0130\n"},
		{v6, "Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\n\tby mx with ESMTP\n\tid 1;\n\tTue, 03 Nov 2026 10:04:05 -0130\n"},
	} {
		if got := ReceivedField(tc.r); !bytes.Equal(got, crlf(tc.want)) {
			t.Errorf("got\n%s", got)
		}
	}
}

func TestReceivedFieldInjection(t *testing.T) {
	t.Parallel()
	evil := "x\r\nSubject: y\r\n\r\n)(\\\"<>;\x00\xff\u0085\u2028 z"
	got := ReceivedField(Received{Helo: evil, By: evil, With: evil, TLS: evil, ID: evil, For: evil, Time: time.Unix(0, 0)})
	h, n, err := ParseHeader(append(got, "\r\n"...))
	if err != nil || len(h.Fields) != 1 || n != len(got)+2 || h.Fields[0].Name != "Received" {
		t.Fatalf("more than one field: %q", got)
	}
	value := h.Get("Received")
	if !strings.Contains(value, "by x??Subject:?y??") {
		t.Errorf("spaces: %q", value)
	}
	if strings.Contains(value, "for") {
		t.Errorf("a quote in for: %q", value)
	}
	if strings.Count(value, "(") != 1 || strings.Count(value, ")") != 1 || strings.ContainsAny(value, `<>"\`) {
		t.Errorf("a comment was closed: %q", value)
	}
	if strings.ContainsAny(value, "\x00\r\n") || !utf8.ValidString(value) {
		t.Errorf("controls: %q", value)
	}
}

func TestDates(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 3, 10, 4, 5, 0, time.UTC)
	if got, err := ParseDate(FormatDate(at)); err != nil || !got.Equal(at) {
		t.Errorf("%v %v", got, err)
	}
	for _, s := range []string{"3 Nov 26 10:04:05 GMT", "Tue, 3 Nov 2026 10:04:05 +0000 (a comment)"} {
		if got, err := ParseDate(s); err != nil || !got.Equal(at) {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
	for _, s := range []string{"", "yesterday", strings.Repeat("9", 1000)} {
		if _, err := ParseDate(s); err == nil || strings.Contains(err.Error(), "yesterday") {
			t.Errorf("%.20q: %v", s, err)
		}
	}
}

func TestMessageIDs(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]string{
		"": nil, "none": nil, "<a@b>": {"a@b"}, "<a@b> (c)<d@e>,\t<f>": {"a@b", "d@e", "f"}, "<open <a@b>": {"a@b"}, "<a": nil, "<> < x >": {"x"},
	} {
		if got := MessageIDs(in); !slices.Equal(got, want) {
			t.Errorf("%q: %q", in, got)
		}
	}
	if n := len(MessageIDs(strings.Repeat("<a>", 5000))); n != 1000 {
		t.Errorf("%d ids", n)
	}
}

func TestCountReceived(t *testing.T) {
	t.Parallel()
	h, _, _ := ParseHeader([]byte(strings.Repeat("received: x\r\n y\r\nX-Received: z\r\n", 51) + "\r\nReceived: body"))
	if n := CountReceived(h); n != 51 {
		t.Errorf("%d", n)
	}
}
