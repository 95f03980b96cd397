package message

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestOuterHeader(t *testing.T) {
	t.Parallel()
	h, _, err := ParseHeader(crlf("From x\nReceived: r\nFROM: a\n\tb\nSubject: secret\nX-Secret: s\nTo: t\xe4\nsubject: two\nList-Id: l\n" +
		"List: no\nContent-Type: text/plain\nDate: d\nComments: c\nBcc: b\nMessage-ID: m\nReferences: r"))
	if err != nil {
		t.Fatal(err)
	}
	o := Outer{Prepend: crlf("Return-Path: <>\n"), Boundary: "=_b"}
	mime := `MIME-Version: 1.0
Content-Type: multipart/encrypted; protocol="application/pgp-encrypted";
	boundary="=_b"

This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)
--=_b
Content-Type: application/pgp-encrypted
Content-Description: PGP/MIME version identification

Version: 1

--=_b
Content-Type: application/octet-stream; name="encrypted.asc"
Content-Description: OpenPGP encrypted message
Content-Disposition: inline; filename="encrypted.asc"

`
	kept := "Return-Path: <>\nFROM: a\n\tb\n%sTo: t\xe4\n%sList-Id: l\nDate: d\nMessage-ID: m\nReferences: r\n%s"
	if got, want := OuterHeader(h, o), crlf(fmt.Sprintf(kept, "Subject: [...]\n", "", mime)); !bytes.Equal(got, want) {
		t.Errorf("hidden subject: got\n%s", got)
	}
	o.KeepSubject = true
	if got, want := OuterHeader(h, o), crlf(fmt.Sprintf(kept, "Subject: secret\n", "subject: two\n", mime)); !bytes.Equal(got, want) {
		t.Errorf("kept subject: got\n%s", got)
	}
	if got, want := OuterHeader(Header{}, Outer{Boundary: "=_b"}), crlf("Subject: [...]\n"+mime); !bytes.Equal(got, want) {
		t.Errorf("no fields at all: got\n%s", got)
	}
	if got := OuterHeader(Header{}, Outer{Boundary: "=_b", KeepSubject: true}); !bytes.Equal(got, crlf(mime)) {
		t.Errorf("no fields, subject kept: got\n%s", got)
	}
}

func TestOuterHeaderBounds(t *testing.T) {
	t.Parallel()
	big := func(name string, n int) string { return name + ": " + strings.Repeat("x", n) + "\r\n" }
	h, _, err := ParseHeader([]byte(big("References", 64<<10) + strings.Repeat(big("List-X", 1000), 100) + big("Cc", 60000) +
		strings.Repeat(big("To", 50000), 10) + "From: a\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := ParseHeader(OuterHeader(h, Outer{Boundary: "b"}))
	if err != nil {
		t.Fatal(err)
	}
	if got.Has("References") || !got.Has("Cc") || got.Get("From") != "a" {
		t.Error("the wrong fields were left out")
	}
	if n := len(got.Values("List-X")); n != (32<<10)/1010 {
		t.Errorf("%d List-X", n)
	}
	if n := len(got.Bytes()); n > maxOuterFields+1024 {
		t.Errorf("outer header of %d octets", n)
	}
}

// TestSealedStructureBareTail has nothing but the boundary behind the blob.
func TestSealedStructureBareTail(t *testing.T) {
	t.Parallel()
	head, blob, _ := sealedPieces(5, false)
	tail := []byte("\r\n--=_postern.0123456789--\r\n")
	want := ScanBytes(bytes.Join([][]byte{head, blob, tail}, nil), Limits{})
	if got := SealedStructure(head, int64(len(blob)), 5, tail); !reflect.DeepEqual(got, want) {
		t.Errorf("got %s\nwant %s", dump(got), dump(want))
	}
}

// sealedPieces is a sealed message in its three pieces.
func sealedPieces(lines int, v1 bool) (head, blob, tail []byte) {
	h, _, _ := ParseHeader(ordinary(2 << 10))
	o := Outer{Boundary: "=_postern.0123456789"}
	head = append(OuterHeader(h, o), "-----BEGIN PGP MESSAGE-----\r\n\r\n"+strings.Repeat("wcDM", 16)+"\r\nAAAA\r\n"...)
	blob = []byte(strings.Repeat(strings.Repeat("0sBx", 16)+"\r\n", lines))
	if v1 {
		tail = []byte("=abcd\r\n")
	}
	tail = append(tail, "-----END PGP MESSAGE-----\r\n"...)
	return head, blob, append(tail, ClosingBoundary(o)...)
}

func TestSealedStructure(t *testing.T) {
	t.Parallel()
	for _, lines := range []int{0, 1, 2, 1000, 20000} {
		for _, v1 := range []bool{true, false} {
			head, blob, tail := sealedPieces(lines, v1)
			whole := bytes.Join([][]byte{head, blob, tail}, nil)
			want, err := Scan(bytes.NewReader(whole), int64(len(whole)), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			got := SealedStructure(head, int64(len(blob)), int64(lines), tail)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%d lines:\n got %s\nwant %s", lines, dump(got), dump(want))
			}
			off, n, ok := got.Section([]int{2}, SectionAll)
			body := string(whole[off : off+n])
			if !ok || !strings.HasPrefix(body, "-----BEGIN") || !strings.HasSuffix(body, "-----END PGP MESSAGE-----\r\n") {
				t.Errorf("part 2 is %.40q", body)
			}
			c, ok, err := FindEncrypted(got, bytes.NewReader(whole))
			if !ok || err != nil || c != (Candidate{PGPMIME, off, n, ""}) {
				t.Errorf("candidate %+v %v %v", c, ok, err)
			}
		}
	}
}

// TestSealedGolden pins what clients are told of a sealed message.
func TestSealedGolden(t *testing.T) {
	t.Parallel()
	head, blob, tail := sealedPieces(3, true)
	got := dump(SealedStructure(head, int64(len(blob)), 3, tail))
	want := `multipart/encrypted [protocol=application/pgp-encrypted boundary==_postern.0123456789] 0 495 1247 23 lines
  application/pgp-encrypted [] "PGP/MIME version identification" 582 679 691 1 lines
  application/octet-stream [name=encrypted.asc] "OpenPGP encrypted message" inline[filename=encrypted.asc] 717 884 1219 9 lines
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
}

func BenchmarkSealedStructure(b *testing.B) {
	head, blob, tail := sealedPieces(100, true)
	b.ReportAllocs()
	for b.Loop() {
		SealedStructure(head, int64(len(blob)), 100, tail)
	}
}

func BenchmarkOuterHeader(b *testing.B) {
	h, _, _ := ParseHeader(ordinary(2 << 10))
	b.ReportAllocs()
	for b.Loop() {
		OuterHeader(h, Outer{Boundary: "=_postern.0123456789"})
	}
}
