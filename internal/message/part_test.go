package message

import (
	"fmt"
	"testing"
)

const sectioned = `Subject: outer
Content-Type: multipart/mixed; boundary=b

preamble
--b
Content-Type: text/plain

one
--b
Content-Type: message/rfc822
Content-Description: two

Subject: inner
Content-Type: multipart/alternative; boundary=c

--c
Content-Type: text/plain

two one
--c
Content-Type: multipart/related; boundary=d

--d

two two one
--d--
--c--
--b
Content-Type: message/rfc822

Subject: single

three
--b--
epilogue
`

func TestSection(t *testing.T) {
	t.Parallel()
	m := []byte(sectioned)
	p := ScanBytes(m, Limits{})
	inner := "Subject: inner\nContent-Type: multipart/alternative; boundary=c\n\n"
	related := "--d\n\ntwo two one\n--d--"
	text := "--c\nContent-Type: text/plain\n\ntwo one\n--c\nContent-Type: multipart/related; boundary=d\n\n" + related + "\n--c--"
	for _, tc := range []struct {
		path []int
		kind SectionKind
		want string // "-" for none
	}{
		{nil, SectionAll, sectioned},
		{nil, SectionHeader, "Subject: outer\nContent-Type: multipart/mixed; boundary=b\n\n"},
		{nil, SectionText, sectioned[len("Subject: outer\nContent-Type: multipart/mixed; boundary=b\n\n"):]},
		{nil, SectionMIME, "-"},
		{[]int{1}, SectionAll, "one"},
		{[]int{1}, SectionMIME, "Content-Type: text/plain\n\n"},
		{[]int{1}, SectionHeader, "-"},
		{[]int{1}, SectionText, "-"},
		{[]int{1, 1}, SectionAll, "-"},
		{[]int{2}, SectionAll, inner + text},
		{[]int{2}, SectionMIME, "Content-Type: message/rfc822\nContent-Description: two\n\n"},
		{[]int{2}, SectionHeader, inner},
		{[]int{2}, SectionText, text},
		{[]int{2, 1}, SectionAll, "two one"},
		{[]int{2, 2}, SectionAll, related},
		{[]int{2, 2}, SectionMIME, "Content-Type: multipart/related; boundary=d\n\n"},
		{[]int{2, 2, 1}, SectionAll, "two two one"},
		{[]int{2, 2, 1}, SectionMIME, "\n"},
		{[]int{2, 2, 2}, SectionAll, "-"},
		{[]int{3, 1}, SectionAll, "three"},
		{[]int{3, 1}, SectionMIME, "Subject: single\n\n"},
		{[]int{3, 2}, SectionAll, "-"},
		{[]int{4}, SectionAll, "-"},
		{[]int{0}, SectionAll, "-"},
		{[]int{-1}, SectionAll, "-"},
	} {
		off, n, ok := p.Section(tc.path, tc.kind)
		got := "-"
		if ok {
			got = string(m[off : off+n])
		}
		if got != tc.want {
			t.Errorf("%v %d: %q, want %q", tc.path, tc.kind, got, tc.want)
		}
	}
	// The stored form serves the same sections.
	q, err := ParseStructure(p.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range [][]int{nil, {1}, {2}, {2, 2, 1}, {3, 1}} {
		for kind := SectionAll; kind <= SectionMIME; kind++ {
			if a, b := fmt.Sprint(p.Section(path, kind)), fmt.Sprint(q.Section(path, kind)); a != b {
				t.Errorf("%v %d: %s, stored %s", path, kind, a, b)
			}
		}
	}
	if p.Find([]int{2, 1}).Type != "text" || p.Find(nil) != p || p.Find([]int{9}) != nil {
		t.Error("Find")
	}
}

func TestSectionOfSinglePart(t *testing.T) {
	t.Parallel()
	m := []byte("A: b\n\nbody\n")
	p := ScanBytes(m, Limits{})
	for _, tc := range []struct {
		path []int
		kind SectionKind
		want string
	}{{[]int{1}, SectionAll, "body\n"}, {[]int{1}, SectionMIME, "A: b\n\n"}, {nil, SectionText, "body\n"}} {
		off, n, ok := p.Section(tc.path, tc.kind)
		if !ok || string(m[off:off+n]) != tc.want {
			t.Errorf("%v %d: %q %v", tc.path, tc.kind, m[off:off+n], ok)
		}
	}
	for _, path := range [][]int{{2}, {1, 1}} {
		if _, _, ok := p.Section(path, SectionAll); ok {
			t.Errorf("%v exists", path)
		}
	}
	// A message that is itself a message/rfc822.
	m = []byte("Content-Type: message/rfc822\n\nSubject: s\n\nbody\n")
	p = ScanBytes(m, Limits{})
	if off, n, ok := p.Section([]int{1, 1}, SectionAll); !ok || string(m[off:off+n]) != "body\n" {
		t.Errorf("1.1: %q %v", m[off:off+n], ok)
	}
	if off, n, ok := p.Section([]int{1}, SectionHeader); !ok || string(m[off:off+n]) != "Subject: s\n\n" {
		t.Errorf("1.HEADER: %q %v", m[off:off+n], ok)
	}
}
