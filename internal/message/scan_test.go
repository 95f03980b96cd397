package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	gomessage "github.com/emersion/go-message"
)

// dump writes a structure one part to a line: offsets of header, body and end.
func dump(p *Part) string {
	var b strings.Builder
	var walk func(*Part, string)
	walk = func(p *Part, indent string) {
		params := func(ps Params) string {
			var s []string
			for _, x := range ps {
				s = append(s, x.Name+"="+x.Value)
			}
			return "[" + strings.Join(s, " ") + "]"
		}
		fmt.Fprintf(&b, "%s%s/%s %s", indent, p.Type, p.Subtype, params(p.Params))
		if p.Description != "" {
			fmt.Fprintf(&b, " %q", p.Description)
		}
		if p.Encoding != "" {
			fmt.Fprintf(&b, " %s", p.Encoding)
		}
		if p.Disposition != "" {
			fmt.Fprintf(&b, " %s%s", p.Disposition, params(p.DispositionParams))
		}
		fmt.Fprintf(&b, " %d %d %d %d lines\n", p.HeaderStart, p.BodyStart, p.BodyEnd, p.Lines)
		for _, c := range p.Children {
			walk(c, indent+"  ")
		}
		if p.Message != nil {
			fmt.Fprintf(&b, "%s  %q\n", indent, p.Envelope.Subject)
			walk(p.Message, indent+"  ")
		}
	}
	walk(p, "")
	if b.Len() > 5000 {
		return b.String()[:5000] + "..."
	}
	return b.String()
}

// shape is the media types alone, and the octets of the leaves.
func shape(p *Part, m []byte) string {
	switch {
	case p.IsMultipart():
		var s []string
		for _, c := range p.Children {
			s = append(s, shape(c, m))
		}
		return p.Subtype + "(" + strings.Join(s, " ") + ")"
	case p.Message != nil:
		return p.Subtype + "{" + shape(p.Message, m) + "}"
	}
	return fmt.Sprintf("%s/%s%q", p.Type, p.Subtype, m[p.BodyStart:p.BodyEnd])
}

func TestScan(t *testing.T) {
	t.Parallel()
	const mp = "Content-Type: multipart/mixed; boundary=b\n\n"
	for _, tc := range []struct{ name, in, want string }{
		{"empty", "", `text/plain""`},
		{"no header", "\nbody\n", `text/plain"body\r\n"`},
		{"header only", "A: b\n", `text/plain""`},
		{"bad type", "Content-Type: nonsense\n\nx", `text/plain"x"`},
		{"no subtype", "Content-Type: multipart/; boundary=b\n\n--b\n\nx\n--b--\n", `text/plain"--b\r\n\r\nx\r\n--b--\r\n"`},
		{"type in capitals", "CONTENT-TYPE: IMAGE/GIF\n\nx", `image/gif"x"`},
		{"second type ignored", "Content-Type: a/b\nContent-Type: c/d\n\nx", `a/b"x"`},
		{"two parts", mp + "pre\n--b\n\none\n--b\nContent-Type: a/b\n\ntwo\n\n--b--\npost\n", `mixed(text/plain"one" a/b"two\r\n")`},
		{"no closing", mp + "--b\n\none\n--b\n\ntwo\n", `mixed(text/plain"one" text/plain"two\r\n")`},
		{"white space behind", mp + "--b \t\n\none\n--b-- \n", `mixed(text/plain"one")`},
		{"not alone on the line", mp + "--b\n\none\n--bb\n x--b\n--b x\n--b--", `mixed(text/plain"one\r\n--bb\r\n x--b\r\n--b x")`},
		{"part without blank line", mp + "--b\nContent-Type: a/b\n--b\n--b\n\n--b--", `mixed(a/b"" text/plain"" text/plain"")`},
		{"body is an empty line", mp + "--b\n\n\n--b--", `mixed(text/plain"")`},
		{"childless", mp + "text\n", `text/plain"text\r\n"`},
		{"childless closed", mp + "--b--\n", `text/plain"--b--\r\n"`},
		{"no boundary", "Content-Type: multipart/mixed\n\n--b\n\nx", `text/plain"--b\r\n\r\nx"`},
		{"empty boundary", "Content-Type: multipart/mixed; boundary=\"\"\n\n--\n\nx", `text/plain"--\r\n\r\nx"`},
		{"nothing behind the type", "Content-Type: multipart/mixed; boundary=b", `text/plain""`},
		{"quoted boundary", "Content-Type: multipart/mixed; boundary=\"a \\\"b \"\n\n--a \"b\n\nx\n--a \"b--\n", `mixed(text/plain"x")`},
		{"nested", mp + "--b\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\none\n--c\n\ntwo\n--c--\n\n--b\n\nthree\n--b--",
			`mixed(alternative(text/plain"one" text/plain"two") text/plain"three")`},
		{"outer ends inner", mp + "--b\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\none\n--b\n\nthree\n--c\n--b--",
			`mixed(alternative(text/plain"one") text/plain"three\r\n--c")`},
		{"outer ends inner's header", mp + "--b\nContent-Type: multipart/alternative; boundary=c\n--c\n--b\n\nthree\n--b--",
			`mixed(text/plain"" text/plain"three")`},
		{"same boundary", mp + "--b\nContent-Type: multipart/alternative; boundary=b\n\n--b\n\none\n--b--\n--b\n\ntwo\n--b--",
			`mixed(alternative(text/plain"one") text/plain"two")`},
		{"after the end", mp + "--b\n\none\n--b--\n--b\n\ntwo\n", `mixed(text/plain"one")`},
		{"one boundary ends in dashes", mp + "--b\nContent-Type: multipart/related; boundary=\"b--\"\n\n--b--\n\none\n--b----\n--b--",
			`mixed(related(text/plain"one"))`},
		{"message", "Content-Type: message/rfc822\n\nSubject: s\n\nbody\n", `rfc822{text/plain"body\r\n"}`},
		{"message of parts", mp + "--b\nContent-Type: message/rfc822\n\n" + "Content-Type: multipart/mixed; boundary=c\n\n--c\n\none\n--c--\n--b\n\ntwo\n--b--",
			`mixed(rfc822{mixed(text/plain"one")} text/plain"two")`},
		{"message cut off", mp + "--b\nContent-Type: message/rfc822\n--b--", `mixed(rfc822{text/plain""})`},
		{"message in message", "Content-Type: message/rfc822\n\nContent-Type: message/global\n\n\nx", `rfc822{global{text/plain"x"}}`},
		{"encoded message", "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nQUJD\n", `application/octet-stream"QUJD\r\n"`},
		{"7bit message", "Content-Type: message/rfc822\nContent-Transfer-Encoding: 7BIT (c)\n\n\nx", `rfc822{text/plain"x"}`},
		{"partial", "Content-Type: message/partial\n\n\nx", `message/partial"\r\nx"`},
		{"digest", "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: s\n\nx\n--b\nContent-Type: a/b\n\ny\n--b--",
			`digest(rfc822{text/plain"x"} a/b"y")`},
		{"boundary in the header that names it", "Content-Type: multipart/mixed; boundary=b\n--b\n\nx\n--b--", `text/plain"x\r\n--b--"`},
		{"mbox line", "From x\n" + mp + "--b\n\nx\n--b--", `mixed(text/plain"x")`},
	} {
		for _, eol := range []string{"\r\n", "\n"} {
			in := []byte(strings.ReplaceAll(tc.in, "\n", eol))
			want := strings.ReplaceAll(tc.want, `\r\n`, strings.Trim(fmt.Sprintf("%q", eol), `"`))
			p := ScanBytes(in, Limits{})
			if got := shape(p, in); got != want {
				t.Errorf("%s %q:\n got %s\nwant %s", tc.name, eol, got, want)
			}
			checkPart(t, p, in)
		}
	}
}

// checkPart checks what every structure promises.
func checkPart(t testing.TB, root *Part, m []byte) {
	t.Helper()
	if root.HeaderStart != 0 || root.BodyEnd != int64(len(m)) {
		t.Errorf("the root covers %d to %d of %d", root.HeaderStart, root.BodyEnd, len(m))
	}
	root.Walk(func(p *Part) {
		if p.HeaderStart > p.BodyStart || p.BodyStart > p.BodyEnd || p.BodyEnd > int64(len(m)) {
			t.Fatalf("offsets out of order: %s", dump(root))
		}
		if n := bytes.Count(m[p.BodyStart:p.BodyEnd], []byte("\n")); int64(n) != p.Lines {
			t.Fatalf("%d lines, recorded %d: %s", n, p.Lines, dump(root))
		}
		inside := p.Children
		if p.Message != nil {
			inside = []*Part{p.Message}
			if p.Message.HeaderStart != p.BodyStart || p.Message.BodyEnd != p.BodyEnd {
				t.Fatalf("embedded message does not fill its part: %s", dump(root))
			}
		}
		last := p.BodyStart
		for _, c := range inside {
			if c.HeaderStart < last || c.BodyEnd > p.BodyEnd {
				t.Fatalf("part outside its parent: %s", dump(root))
			}
			last = c.BodyEnd
		}
		isMessage := p.is("message", "rfc822") || p.is("message", "global")
		if (p.Type == "multipart") != p.IsMultipart() || isMessage != (p.Message != nil) || isMessage != (p.Envelope != nil) {
			t.Fatalf("not fit for BODYSTRUCTURE: %s", dump(root))
		}
		if p.Type == "" || p.Subtype == "" {
			t.Fatal("part without a media type")
		}
	})
}

func TestScanFields(t *testing.T) {
	t.Parallel()
	p := ScanBytes(crlf(`Content-Type: Text/HTML (c); charset="utf-8"; name*0*=utf-8''%41;
	x="a\"b;c"; flag; y=a b ; z = (c) "q" junk; y=again
Content-ID: <i@d>
Content-Description: some text
Content-Transfer-Encoding: Quoted-Printable
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==
Content-Disposition: Attachment; filename=a file.pdf; size=3
Content-Language: de, en-GB,
Content-Location: http://example.org/x

one
two
`), Limits{})
	want := &Part{BodyStart: p.BodyStart, BodyEnd: p.BodyEnd, Lines: 2, Type: "text", Subtype: "html",
		Params: Params{{"charset", "utf-8"}, {"name*0*", "utf-8''%41"}, {"x", `a"b;c`}, {"y", "a b"}, {"z", "q"}, {"y", "again"}},
		ID:     "<i@d>", Description: "some text", Encoding: "quoted-printable", MD5: "Q2hlY2sgSW50ZWdyaXR5IQ==",
		Disposition: "attachment", DispositionParams: Params{{"filename", "a file.pdf"}, {"size", "3"}},
		Language: []string{"de", "en-GB"}, Location: "http://example.org/x"}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
}

func TestScanLimits(t *testing.T) {
	t.Parallel()
	depth := func(n int) []byte {
		var b bytes.Buffer
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		return b.Bytes()
	}
	m := depth(200)
	p := ScanBytes(m, Limits{})
	checkPart(t, p, m)
	levels, last := 0, p
	for ; last != nil; levels++ {
		if len(last.Children) == 0 {
			break
		}
		last = last.Children[0]
	}
	if levels != 99 || !last.is("application", "octet-stream") || !bytes.Contains(m[last.BodyStart:last.BodyEnd], []byte("--b199")) {
		t.Errorf("%d levels, the last %s/%s", levels, last.Type, last.Subtype)
	}

	m = bytes.Repeat([]byte("Content-Type: message/rfc822\r\n\r\n"), 200)
	p = ScanBytes(m, Limits{})
	checkPart(t, p, m)
	levels = 0
	for last = p; last.Message != nil; last = last.Message {
		levels++
	}
	if levels != 99 || !last.is("application", "octet-stream") {
		t.Errorf("%d messages, the last %s/%s", levels, last.Type, last.Subtype)
	}

	m = []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\nContent-Type: a/b\r\n\r\nx\r\n", 20) + "--b--\r\n")
	p = ScanBytes(m, Limits{Parts: 5})
	checkPart(t, p, m)
	if n := len(p.Children); n != 4 || !p.Children[3].is("application", "octet-stream") || p.Children[3].BodyEnd != int64(len(m)) {
		t.Errorf("%d children: %s", n, dump(p))
	}

	m = []byte("A: " + strings.Repeat("x", 300) + "\r\nContent-Type: a/b\r\n\r\nbody")
	if p = ScanBytes(m, Limits{Header: 100}); !p.is("text", "plain") || string(m[p.BodyStart:]) != "body" {
		t.Errorf("header limit: %s", dump(p))
	}

	m = []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n" +
		strings.Repeat("--b\r\nContent-Type: a/b; x="+strings.Repeat("y", 100)+"\r\n\r\n", 20) + "--b--\r\n")
	p = ScanBytes(m, Limits{Text: 1000})
	kept := 0
	for _, c := range p.Children {
		kept += len(c.Params)
		if !c.is("a", "b") {
			t.Error("media type lost with the text")
		}
	}
	if kept != 9 || len(p.Children) != 20 {
		t.Errorf("%d parameters kept of %d parts", kept, len(p.Children))
	}
}

// TestScanHostile feeds what makes scanners quadratic or large. Each takes a few
// milliseconds; a quadratic one would take minutes.
func TestScanHostile(t *testing.T) {
	if raceEnabled {
		t.Log("time and memory are measured without the race detector only")
	}
	const mb = 1 << 20
	top := "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	nested := func(unit string) string {
		var b strings.Builder
		for i := 0; b.Len() < mb; i++ {
			b.WriteString(strings.ReplaceAll(unit, "#", fmt.Sprint(i)))
		}
		return b.String()
	}
	for name, m := range map[string]string{
		"nested multiparts":      nested("Content-Type: multipart/mixed; boundary=b#\r\n\r\n--b#\r\n"),
		"nested, one boundary":   nested("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"),
		"nested messages":        nested("Content-Type: message/rfc822\r\n\r\n"),
		"nested digests":         nested("Content-Type: multipart/digest; boundary=b#\r\n\r\n--b#\r\n\r\n"),
		"empty parts":            top + strings.Repeat("--b\r\n", mb),
		"almost delimiters":      top + "--b\r\n\r\n" + strings.Repeat("--\r\n", mb/4),
		"almost delimiters, lf":  top + "--b\r\n\r\n" + strings.Repeat("\n--", mb/3),
		"long almost delimiters": top + "--b\r\n\r\n" + strings.Repeat("--"+strings.Repeat("-", 1100)+"\n", mb/1100),
		"one line":               top + "--b\r\n\r\n" + strings.Repeat("x", mb),
		"one line of dashes":     top + "--b\r\n\r\n" + strings.Repeat("-", mb),
		"one header line":        strings.Repeat("x", mb),
		"empty header lines":     strings.Repeat("x\n", mb/2),
		"fields":                 strings.Repeat("Content-Type: a/b\n", mb/18),
		"folds":                  "Content-Type: a/b\n" + strings.Repeat(" ;\n", mb/3),
		"parameters":             "Content-Type: a/b" + strings.Repeat(";a=b", mb/4),
		"comments":               "Content-Type: " + strings.Repeat("(", mb),
		"crs":                    strings.Repeat("\r", mb),
		"open parts with text":   top + strings.Repeat("--b\r\nContent-Type: multipart/mixed; boundary=c; x="+strings.Repeat("y", 1000)+"\r\n\r\n--c\r\n", mb/1000),
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		began := time.Now()
		p, err := Scan(strings.NewReader(m), int64(len(m)), Limits{})
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		checkPart(t, p, []byte(m))
		n := 0
		p.Walk(func(*Part) { n++ })
		if n > 10000 {
			t.Errorf("%s: %d parts", name, n)
		}
		if !raceEnabled && (took > time.Second || after.TotalAlloc-before.TotalAlloc > 64*mb) {
			t.Errorf("%s: %v, %d MB allocated", name, took, (after.TotalAlloc-before.TotalAlloc)/mb)
		}
		enc := p.Append(nil)
		if q, err := ParseStructure(enc); err != nil || len(enc) > 2*mb || q.BodyEnd != p.BodyEnd {
			t.Errorf("%s: stored form of %d octets, %v", name, len(enc), err)
		}
	}
}

// TestScanWindow moves what matters over the edge of the window.
func TestScanWindow(t *testing.T) {
	t.Parallel()
	for shift := range 40 {
		m := []byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" +
			strings.Repeat("x", windowSize-70+shift) + "\r\n--b\r\nContent-Type: a/b\r\n\r\ntwo\r\n--b--\r\n")
		p, err := Scan(iotestReaderAt{m}, int64(len(m)), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if want := ScanBytes(m, Limits{}); !reflect.DeepEqual(p, want) || len(p.Children) != 2 {
			t.Fatalf("shift %d: %s", shift, dump(p))
		}
	}
}

// iotestReaderAt returns io.EOF together with the last octets.
type iotestReaderAt struct{ b []byte }

func (r iotestReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n := copy(p, r.b[off:])
	if int(off)+n == len(r.b) {
		return n, io.EOF
	}
	return n, nil
}

func TestScanReaderErrors(t *testing.T) {
	t.Parallel()
	m := ordinary(1000)
	if _, err := Scan(bytes.NewReader(m), int64(len(m))+1, Limits{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too short: %v", err)
	}
	if _, err := Scan(failingReaderAt{}, 10, Limits{}); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("failing: %v", err)
	}
}

type failingReaderAt struct{}

func (failingReaderAt) ReadAt([]byte, int64) (int, error) { return 0, iotest.ErrTimeout }

// TestScanAgainstGoMessage compares with another reader on ordinary mail.
func TestScanAgainstGoMessage(t *testing.T) {
	t.Parallel()
	for _, m := range [][]byte{ordinary(2 << 10), ordinary(100 << 10),
		crlf("Content-Type: text/html; charset=us-ascii\n\n<p>\n"),
		crlf("Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: multipart/alternative; boundary=\"y z\"\n\n" +
			"--y z\nContent-Type: text/plain\n\na\n--y z\nContent-Type: text/html\n\nb\n--y z--\n\n--x\nContent-Type: image/gif\n\nc\n--x--\n"),
	} {
		got := leaves(m)
		want := gomessageLeaves(t, m)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got\n%q\nwant\n%q", got, want)
		}
	}
}

func leaves(m []byte) []string {
	var out []string
	ScanBytes(m, Limits{}).Walk(func(p *Part) {
		if !p.IsMultipart() && p.Message == nil {
			body, _ := io.ReadAll(Decode(p.Encoding, bytes.NewReader(m[p.BodyStart:p.BodyEnd])))
			out = append(out, p.Type+"/"+p.Subtype+" "+string(body))
		}
	})
	return out
}

func gomessageLeaves(t *testing.T, m []byte) []string {
	t.Helper()
	e, err := gomessage.Read(bytes.NewReader(m))
	if err != nil && !gomessage.IsUnknownCharset(err) {
		t.Fatal(err)
	}
	var out []string
	if err := e.Walk(func(_ []int, e *gomessage.Entity, err error) error {
		if err != nil && !gomessage.IsUnknownCharset(err) {
			return err
		}
		typ, _, _ := e.Header.ContentType()
		if !strings.HasPrefix(typ, "multipart/") {
			body, err := io.ReadAll(e.Body)
			if err != nil {
				return err
			}
			out = append(out, typ+" "+string(body))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func FuzzScan(f *testing.F) {
	f.Add(ordinary(600))
	f.Add(crlf(pgpMIME))
	for _, s := range []string{"Content-Type: message/rfc822\n\nContent-Type: multipart/x; boundary=b\n\n--b\n--b--",
		"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n\r\n--b--\r\n", "Content-Type: multipart/a;boundary=\"-\"\n\n---\n-----"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, m []byte) {
		p := ScanBytes(m, Limits{Depth: 8, Parts: 20, Text: 400})
		checkPart(t, p, m)
		q, err := ParseStructure(p.Append(nil))
		if err != nil || dump(q) != dump(p) {
			t.Fatalf("stored form: %v\n%s\n%s", err, dump(p), dump(q))
		}
		if h, n, err := ParseHeader(m); err == nil && int64(n) != p.BodyStart {
			t.Fatalf("body at %d, ParseHeader says %d of %d fields", p.BodyStart, n, len(h.Fields))
		}
		if c, ok, err := FindEncrypted(p, bytes.NewReader(m)); err != nil || ok && c.Kind == PGPMIME {
			checkAround(t, p, c, m)
		}
	})
}

func benchmarkScan(b *testing.B, size int) {
	m := ordinary(size)
	b.ReportAllocs()
	b.SetBytes(int64(len(m)))
	r := bytes.NewReader(m)
	for b.Loop() {
		if _, err := Scan(r, int64(len(m)), Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkScan30KB(b *testing.B) { benchmarkScan(b, 30<<10) }
func BenchmarkScan1MB(b *testing.B)  { benchmarkScan(b, 1<<20) }
