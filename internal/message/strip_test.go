package message

import (
	"bytes"
	"testing"
)

func TestStrip(t *testing.T) {
	t.Parallel()
	in := crlf(`Authentication-Results: mx.example.net; spf=pass
authentication-results : (a (b) c) MX.Example.NET.
	(d) 1; dkim=pass
Authentication-Results: "mx.example.net"; spf=pass
Authentication-Results: mx.example.net
Authentication-Results: other.example.net; spf=pass
Authentication-Results: mx.example.net.evil.org; spf=pass
X-Authentication-Results: mx.example.net; spf=pass
ARC-Authentication-Results: i=1; mx.example.net; spf=pass
Postern-Arrival: v=1
POSTERN-delivery : end-to-end
Postern-: x
Posterns: y
From: a@example.org

`)
	h, _, err := ParseHeader(in)
	if err != nil {
		t.Fatal(err)
	}
	want := crlf(`Authentication-Results: other.example.net; spf=pass
Authentication-Results: mx.example.net.evil.org; spf=pass
X-Authentication-Results: mx.example.net; spf=pass
ARC-Authentication-Results: i=1; mx.example.net; spf=pass
Posterns: y
From: a@example.org
`)
	got := Strip(h, "mx.example.net")
	if !bytes.Equal(got.Bytes(), want) || string(got.End) != "\r\n" {
		t.Errorf("got\n%s", got.Bytes())
	}
}

func TestStripMarks(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"Subject: hello":                                                    "Subject: hello",
		"Subject: [list] hello [1/2]":                                       "Subject: [list] hello [1/2]",
		"Subject: hello [sealed] world":                                     "Subject: hello [sealed] world",
		"Subject: [sealed] hello":                                           "Subject: hello",
		"SUBJECT:[Sealed]hello":                                             "SUBJECT:hello",
		"Subject:  hello [INSECURE]":                                        "Subject:  hello",
		"Subject: [secure][clear] [list] x [sealed]":                        "Subject: [list] x",
		"Subject: [sealed]":                                                 "Subject: ",
		"Subject: [sealed]\n folded\n  twice":                               "Subject: folded\n  twice",
		"Subject: x\n [end-to-end]\n ":                                      "Subject: x",
		"Comments: [sealed] x":                                              "Comments: [sealed] x",
		"Subject: =?utf-8?q?[x]_=C3=A4?=":                                   "Subject: =?utf-8?q?[x]_=C3=A4?=",
		"Subject: =?utf-8?q?[sealed]_=C3=A4?=":                              "Subject: =?utf-8?q?=C3=A4?=",
		"Subject: =?utf-8?b?W3NlYWxlZF0geA==?=":                             "Subject: x",
		"Subject: =?utf-8?q?[sea?= =?utf-8?q?led]?=\n =?iso-2022-jp?q?_x?=": "Subject: x",
		"Subject: =?utf-8?q?[sealed]?= x [clear]":                           "Subject: x",
		"Subject: Re: [clear] hello [ENCRYPT]":                              "Subject: Re: hello",
		"Subject: [ Plain ] hello":                                          "Subject: hello",
		"Subject: ［secure］【clear】hello":                                     "Subject: hello",
		"Subject: [secrue] hello":                                           "Subject: [secrue] hello",
		"Subject: =?broken?":                                                "Subject: =?broken?",
	} {
		h, _, err := ParseHeader(crlf(in + "\n\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := StripMarks(h).Bytes(); !bytes.Equal(got, crlf(want+"\n")) {
			t.Errorf("%q:\n got %q\nwant %q", in, got, want)
		}
		if !bytes.Equal(h.Bytes(), crlf(in+"\n")) {
			t.Errorf("%q: the header itself was changed", in)
		}
	}
}
