package message

import (
	"bytes"
	"strings"
	"testing"
)

func header(t testing.TB, s string) Header {
	t.Helper()
	h, _, err := ParseHeader([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSubmitted(t *testing.T) {
	t.Parallel()
	h := header(t, "From: a@b\r\nBCC: x@y,\r\n z@y\r\nResent-bcc: q@y\r\nAutocrypt-Draft-State: _v=1\r\nReturn-Path: <a@b>\r\n"+
		"postern-Delivery: sealed\r\nno field\r\nAuthentication-Results: mail.b; spf=pass\r\nX-Other: kept")
	got := Submitted(h, "mail.b")
	if s := string(got.Bytes()) + string(got.End); s != "From: a@b\r\nX-Other: kept\r\n\r\n" {
		t.Errorf("%q", s)
	}
}

func TestWithoutTag(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"From: alice+require@here.test\r\n":                                "From: alice@here.test\r\n",
		"From: \"Alice+require@Here.test\" <ALICE+Require@here.TEST>\r\n":  "From: \"Alice@Here.test\" <ALICE@here.TEST>\r\n",
		"From: malice+require@here.test\r\n":                               "From: malice+require@here.test\r\n",
		"From: m.alice+require@here.test, <alice+require@here.test>\r\n":   "From: m.alice+require@here.test, <alice@here.test>\r\n",
		"From: alice+required@here.test\r\n":                               "From: alice+required@here.test\r\n",
		"From: Alice\r\n <alice+require@here.test>\r\n":                    "From: Alice\r\n <alice@here.test>\r\n",
		"From: alice+require@here.test.example, alice+clear@here.test\r\n": "From: alice@here.test.example, alice+clear@here.test\r\n",
	} {
		f := header(t, in).Fields[0]
		raw := bytes.Clone(f.Raw)
		if got := WithoutTag(f, "alice", "require", "here.test"); string(got.Raw) != want {
			t.Errorf("%q: %q", in, got.Raw)
		}
		if !bytes.Equal(raw, f.Raw) {
			t.Error("the field itself was changed")
		}
	}
}

func TestPrefixSubject(t *testing.T) {
	t.Parallel()
	got := PrefixSubject(header(t, "Subject:  hello\r\n there\r\n"), "[insecure]")
	if s := string(got.Bytes()); s != "Subject: [insecure] hello\r\n there\r\n" {
		t.Errorf("%q", s)
	}
	if s := string(PrefixSubject(header(t, "From: a@b\r\n"), "[x]").Bytes()); s != "Subject: [x]\r\nFrom: a@b\r\n" {
		t.Errorf("%q", s)
	}
}

// TestNewAutocryptField: what is written can be read.
func TestNewAutocryptField(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte{1, 2, 3, 250}, 200)
	f := NewAutocryptField("Autocrypt", "a@b.test", true, data)
	a, err := ParseAutocrypt(f)
	if err != nil || a.Addr != "a@b.test" || !a.Mutual || !bytes.Equal(a.KeyData, data) {
		t.Errorf("%+v, %v", a, err)
	}
	if h := header(t, string(f.Raw)+"X: y\r\n"); len(h.Fields) != 2 {
		t.Error("not one field")
	}
}

// TestAddFooter: the text is there, the body's octets too, and the structure is what it
// should be.
func TestAddFooter(t *testing.T) {
	t.Parallel()
	const boundary = "postern_1"
	for name, test := range map[string]struct {
		header, body, footer string
		parts                int // of the result; 0: one text
	}{
		"no Content-Type":      {"", "hello\r\n", "sent in clear", 0},
		"no newline at end":    {"", "hello", "sent in clear", 0},
		"latin-1 and ASCII":    {"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n", "h\xE4\r\n", "two\nlines", 0},
		"latin-1 and more":     {"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n", "h\xE4\r\n", "grün", 2},
		"UTF-8":                {"Content-Type: text/plain; charset=\"UTF-8\"\r\nContent-Transfer-Encoding: 8bit\r\n", "hä\r\n", "grün", 0},
		"UTF-8 in 7bit":        {"Content-Type: text/plain; charset=utf-8\r\n", "ha\r\n", "grün", 2},
		"quoted-printable":     {"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n", "h=C3=A4\r\n", "x", 2},
		"base64":               {"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n", "aGVsbG8=\r\n", "x", 2},
		"attached":             {"Content-Type: text/plain\r\nContent-Disposition: Attachment; filename=a.csv\r\n", "1,2\r\n", "x", 2},
		"HTML":                 {"Content-Type: text/html\r\nMIME-Version: 1.0\r\n", "<b>\r\n", "x", 2},
		"multipart":            {"MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary=z\r\n", "--z\r\n\r\na\r\n--z\r\n\r\nb\r\n--z--\r\n", "x", 2},
		"multipart not closed": {"Content-Type: multipart/alternative;\r\n boundary=z\r\n", "--z\r\n\r\na", "x", 2},
	} {
		h := header(t, "From: a@b\r\n"+test.header+"\r\n")
		f := AddFooter(h, test.footer, boundary)
		whole := string(f.Header.Bytes()) + "\r\n" + string(f.Before) + test.body + string(f.After)
		if !strings.Contains(whole, test.body) || !strings.Contains(whole, strings.ReplaceAll(test.footer, "\n", "\r\n")+"\r\n") {
			t.Errorf("%s:\n%s", name, whole)
		}
		top := ScanBytes([]byte(whole), Limits{})
		if len(top.Children) != test.parts {
			t.Errorf("%s: %d parts:\n%s", name, len(top.Children), whole)
		}
		if test.parts == 0 {
			if got := whole[top.BodyStart:top.BodyEnd]; got != test.body+"\r\n"+strings.ReplaceAll(test.footer, "\n", "\r\n")+"\r\n" {
				t.Errorf("%s: body %q", name, got)
			}
			continue
		}
		first := top.Children[0]
		if got := whole[first.BodyStart:first.BodyEnd]; got != test.body && got+"\r\n" != test.body {
			t.Errorf("%s: first part %q", name, got)
		}
		if before := ScanBytes([]byte("From: a@b\r\n"+test.header+"\r\n"+test.body), Limits{}); first.Type != before.Type || len(first.Children) != len(before.Children) || first.Encoding != before.Encoding {
			t.Errorf("%s: the structure of the first part changed", name)
		}
		if strings.Count(whole, "MIME-Version") != 1 {
			t.Errorf("%s: MIME-Version", name)
		}
	}
}

func TestIsSigned(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"":                             false,
		"Content-Type: text/plain\r\n": false,
		"Content-Type: Multipart/Signed; boundary=x\r\n":                           true,
		"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n":         true,
		"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n":      false,
		"Content-Type: multipart/mixed; boundary=x; note=\"multipart/signed\"\r\n": false,
	} {
		if got := IsSigned(header(t, in+"\r\n")); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestEightBit(t *testing.T) {
	t.Parallel()
	b := bytes.Repeat([]byte("a"), 37)
	if EightBit(b) || EightBit(nil) {
		t.Error("ASCII is 8-bit")
	}
	for i := range b {
		b[i] = 0x80
		if !EightBit(b) {
			t.Errorf("octet %d was not seen", i)
		}
		b[i] = 'a'
	}
}

// FuzzSubmitted: whatever a client sends, what nobody must see is gone, the rest keeps its
// octets, and a text behind it leaves the body as it was.
func FuzzSubmitted(f *testing.F) {
	f.Add([]byte("From: alice+require@here.test\r\nBcc: x\r\nSubject: [clear]\r\n\r\nbody"), "text")
	f.Add([]byte("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x"), "ü")
	f.Add([]byte("no field\nBcc: y\n continued"), "")
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		h, at, err := ParseHeader(data)
		if err != nil {
			return
		}
		out := Submitted(h, "mail.here.test")
		again, end, err := ParseHeader(append(out.Bytes(), out.End...))
		if err != nil || end != len(out.Bytes())+2 || len(again.Fields) != len(out.Fields) || again.Has("Bcc") || again.Has("Resent-Bcc") {
			t.Fatalf("%q became %q", data, out.Bytes())
		}
		for _, field := range out.Fields {
			if got := WithoutTag(field, "alice", "require", "here.test"); len(got.Raw) > len(field.Raw) || !got.Is(field.Name) {
				t.Errorf("%q became %q", field.Raw, got.Raw)
			}
		}
		footed := AddFooter(PrefixSubject(out, "[x]"), text, "postern_1")
		whole := append(append(footed.Header.Bytes(), footed.Header.End...), footed.Before...)
		whole = append(append(whole, data[at:]...), footed.After...)
		h, at2, err := ParseHeader(whole)
		if err != nil || !bytes.HasPrefix(whole[at2:], append(footed.Before, data[at:]...)) {
			t.Errorf("the body of %q moved", whole)
		}
		if !h.Has("Subject") {
			t.Error("no subject")
		}
	})
}
