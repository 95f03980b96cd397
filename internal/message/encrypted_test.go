package message

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// der is a value with a definite length.
func der(tag byte, content ...[]byte) []byte {
	c := slices.Concat(content...)
	n := len(c)
	switch {
	case n < 0x80:
		return slices.Concat([]byte{tag, byte(n)}, c)
	case n < 0x100:
		return slices.Concat([]byte{tag, 0x81, byte(n)}, c)
	}
	return slices.Concat([]byte{tag, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}, c)
}

// ber is a constructed value with an indefinite length.
func ber(tag byte, content ...[]byte) []byte {
	return slices.Concat([]byte{tag, 0x80}, slices.Concat(content...), []byte{0, 0})
}

func oid(last ...byte) []byte {
	return der(tagOID, append([]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01}, last...))
}

// cmsObject is an EnvelopedData whose parts can be replaced.
type cmsObject struct {
	wrap              func(byte, ...[]byte) []byte
	kind              []byte
	before            [][]byte // version, originatorInfo
	recipients, inner []byte
	after             []byte
}

func enveloped(wrap func(byte, ...[]byte) []byte) cmsObject {
	alg := der(tagSequence, oid(1, 1, 1))
	return cmsObject{
		wrap: wrap, kind: oid(7, 3), before: [][]byte{der(tagInteger, []byte{0})},
		recipients: wrap(tagSet, wrap(tagSequence, der(tagInteger, []byte{0}), alg, der(4, make([]byte, 300)))),
		inner:      wrap(tagSequence, oid(7, 1), alg, wrap(tagContext0, der(4, make([]byte, 70000)), der(4, make([]byte, 9)))),
	}
}

func (o cmsObject) bytes() []byte {
	data := slices.Concat(slices.Concat(o.before...), o.recipients, o.inner, o.after)
	return o.wrap(tagSequence, o.kind, o.wrap(tagContext0, o.wrap(tagSequence, data)))
}

// nest is an originatorInfo of values within values.
func nest(depth int) []byte {
	var v []byte
	for range depth {
		v = ber(tagSequence, v)
	}
	return ber(tagContext0, v)
}

func TestInspectCMS(t *testing.T) {
	t.Parallel()
	version := der(tagInteger, []byte{2})
	for _, wrap := range []func(byte, ...[]byte) []byte{der, ber} {
		with := func(f func(*cmsObject)) []byte {
			o := enveloped(wrap)
			f(&o)
			return o.bytes()
		}
		alg := der(tagSequence, oid(1, 1, 1))
		for name, tc := range map[string]struct {
			in        []byte
			encrypted bool
			err       error
		}{
			"enveloped":         {with(func(*cmsObject) {}), true, nil},
			"trailing newline":  {append(with(func(*cmsObject) {}), "\r\n\x00"...), true, nil},
			"auth enveloped":    {with(func(o *cmsObject) { o.kind, o.after = oid(9, 16, 1, 23), der(4, make([]byte, 16)) }), true, nil},
			"originator info":   {with(func(o *cmsObject) { o.before = append(o.before, wrap(tagContext0, alg)) }), true, nil},
			"key agreement":     {with(func(o *cmsObject) { o.recipients = wrap(tagSet, wrap(0xa1, version), wrap(0xa3, version)) }), true, nil},
			"primitive content": {with(func(o *cmsObject) { o.inner = wrap(tagSequence, oid(7, 1), alg, der(0x80, []byte("xx"))) }), true, nil},
			"signed":            {with(func(o *cmsObject) { o.kind = oid(7, 2) }), false, nil},
			"encrypted data":    {with(func(o *cmsObject) { o.kind = oid(7, 6) }), false, nil},
			"compressed":        {with(func(o *cmsObject) { o.kind = oid(9, 16, 1, 9) }), false, nil},
			"no recipients":     {with(func(o *cmsObject) { o.recipients = wrap(tagSet) }), false, ErrCMS},
			"recipients absent": {with(func(o *cmsObject) { o.recipients = nil }), false, ErrCMS},
			"recipient is text": {with(func(o *cmsObject) { o.recipients = wrap(tagSet, der(4, []byte("hello"))) }), false, ErrCMS},
			"no content":        {with(func(o *cmsObject) { o.inner = nil }), false, ErrCMS},
			"detached content":  {with(func(o *cmsObject) { o.inner = wrap(tagSequence, oid(7, 1), alg) }), false, ErrCMS},
			"overrun":           {with(func(o *cmsObject) { o.recipients = []byte{tagSet, 2, tagSequence, 3, 0, 0, 0} }), false, ErrCMS},
			"nested":            {with(func(o *cmsObject) { o.before = append(o.before, nest(20)) }), true, nil},
			"nested deep":       {with(func(o *cmsObject) { o.before = append(o.before, nest(40)) }), false, ErrCMS},
			"empty content":     {with(func(o *cmsObject) { o.inner = wrap(tagSequence, oid(7, 1), alg, der(0x80)) }), false, ErrCMS},
			"no version":        {with(func(o *cmsObject) { o.before = nil }), false, ErrCMS},
			"clear text behind": {append(with(func(*cmsObject) {}), "Hello Bob"...), false, ErrCMS},
		} {
			got, err := InspectCMS(iotest.OneByteReader(bytes.NewReader(tc.in)))
			if got != tc.encrypted || !errors.Is(err, tc.err) {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
		whole := with(func(*cmsObject) {})
		for n := range len(whole) {
			if n > 500 && n%997 != 0 {
				continue
			}
			if got, err := InspectCMS(bytes.NewReader(whole[:n])); got || !errors.Is(err, ErrCMS) {
				t.Fatalf("cut at %d: %v %v", n, got, err)
			}
		}
	}
	if _, err := InspectCMS(iotest.ErrReader(iotest.ErrTimeout)); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("failing reader: %v", err)
	}
}

func FuzzInspectCMS(f *testing.F) {
	small := enveloped(der)
	small.inner = der(tagSequence, oid(7, 1), der(tagSequence), der(0x80, []byte("xx")))
	f.Add(small.bytes())
	f.Add(enveloped(ber).bytes()[:600])
	f.Fuzz(func(t *testing.T, b []byte) {
		if ok, err := InspectCMS(bytes.NewReader(b)); ok && err != nil {
			t.Fatal("encrypted, and an error")
		}
	})
}

const pgpMIME = `Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b

preamble
--b
Content-Type: application/pgp-encrypted

Version: 1

--b
Content-Type: application/octet-stream; name=encrypted.asc
Content-Transfer-Encoding: 7bit

-----BEGIN PGP MESSAGE-----
--b--
`

func TestFindEncrypted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		old, new string
		ok       bool
	}{
		"as it should be":  {"", "", true},
		"case":             {"application/pgp-encrypted\"", "Application/PGP-Encrypted\"", true},
		"version in case":  {"Version: 1", "version:1", true},
		"no protocol":      {`protocol="application/pgp-encrypted"; `, "", false},
		"other protocol":   {`protocol="application/pgp-e`, `protocol="application/pgp-s`, false},
		"mixed":            {"multipart/encrypted", "multipart/mixed", false},
		"no version":       {"Version: 1", "Hello Bob", false},
		"version 2":        {"Version: 1", "Version: 2", false},
		"wrong first":      {"Type: application/pgp-encrypted", "Type: text/plain", false},
		"wrong second":     {"application/octet-stream", "text/plain", false},
		"three parts":      {"--b--", "--b\n\nthree\n--b--", false},
		"one part":         {"Content-Type: application/octet-stream; name=encrypted.asc\nContent-Transfer-Encoding: 7bit\n\n-----BEGIN PGP MESSAGE-----\n", "", true},
		"text in preamble": {"preamble", strings.Repeat("clear text\n", 300), false},
		"text in control":  {"Version: 1", "Version: 1\n" + strings.Repeat("clear text\n", 300), false},
		"text in epilogue": {"--b--\n", "--b--\n" + strings.Repeat("clear text\n", 300), false},
		"text in fields":   {"; name=encrypted.asc", "\nX: " + strings.Repeat("clear text ", 300), false},
	} {
		m := crlf(strings.Replace(pgpMIME, tc.old, tc.new, 1))
		if name == "one part" { // a second part that says nothing is not octets
			tc.ok = false
		}
		c, ok, err := FindEncrypted(ScanBytes(m, Limits{}), bytes.NewReader(m))
		if ok != tc.ok || err != nil {
			t.Errorf("%s: %+v %v %v", name, c, ok, err)
		}
		if !ok {
			continue
		}
		body, err := io.ReadAll(c.Reader(bytes.NewReader(m)))
		if err != nil || string(body) != "-----BEGIN PGP MESSAGE-----" || c.Kind != PGPMIME || c.TransferEncoding != "7bit" {
			t.Errorf("%s: %+v %q %v", name, c, body, err)
		}
	}
	m := crlf(pgpMIME)
	if _, _, err := FindEncrypted(ScanBytes(m, Limits{}), failingReaderAt{}); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("failing reader: %v", err)
	}
}

func TestFindCMS(t *testing.T) {
	t.Parallel()
	body := base64.StdEncoding.EncodeToString(enveloped(der).bytes())
	for _, typ := range []string{"application/pkcs7-mime; smime-type=signed-data", "Application/X-PKCS7-MIME"} {
		m := crlf("Content-Type: " + typ + "\nContent-Transfer-Encoding: BASE64\n\n" + body + "\n")
		c, ok, err := FindEncrypted(ScanBytes(m, Limits{}), bytes.NewReader(m))
		if !ok || err != nil || c.Kind != CMS {
			t.Fatalf("%+v %v %v", c, ok, err)
		}
		if enc, err := InspectCMS(c.Reader(bytes.NewReader(m))); !enc || err != nil {
			t.Errorf("%v %v", enc, err)
		}
	}
	// Clear text around the ciphertext makes it no ciphertext.
	for _, in := range []string{"Hello, Bob!\n" + body, body + "\nHello, Bob!\n", body[:76] + "\n-- \nHi\n" + body[76:], body + "\nAAAA"} {
		m := crlf("Content-Type: application/pkcs7-mime\nContent-Transfer-Encoding: base64\n\n" + in)
		c, _, _ := FindEncrypted(ScanBytes(m, Limits{}), bytes.NewReader(m))
		if enc, err := InspectCMS(c.Reader(bytes.NewReader(m))); enc {
			t.Errorf("%.20q was taken for ciphertext, %v", in, err)
		}
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("abc", 10000)
	long64 := base64.StdEncoding.EncodeToString([]byte(long))
	blanks := strings.Repeat(" ", 5000)
	for _, tc := range []struct{ encoding, in, want string }{
		{"", "a=3D", "a=3D"},
		{"8BIT", "a=3D", "a=3D"},
		{"base64", "SGVsbG8=", "Hello"},
		{" Base64 ", "SG\r\nVs bG\t8=\r\n", "Hello"},
		{"base64", "SGVsbG8", "Hello"},
		{"base64", "SGVs*!bG8=", "Hello"},
		{"base64", "SGVsbG8=SGVs", "Hello"},
		{"base64", "S", ""},
		{"base64", "", ""},
		{"base64", long64, long},
		{"quoted-printable", "a=3Db=3d\r\nc", "a=b=\r\nc"},
		{"quoted-printable", "soft=\r\nbreak= \t\r\nand=\nagain=", "softbreakandagain"},
		{"quoted-printable", "blanks  \t\r\nat the end  ", "blanks\r\nat the end"},
		{"quoted-printable", "bad =XY = x =3", "bad =XY = x =3"},
		{"quoted-printable", "a" + blanks + "b", "a" + blanks + "b"},
		{"quoted-printable", "ä", "ä"},
		{"quoted-printable", "", ""},
	} {
		for _, r := range []io.Reader{strings.NewReader(tc.in), iotest.OneByteReader(strings.NewReader(tc.in)),
			iotest.DataErrReader(strings.NewReader(tc.in))} {
			got, err := io.ReadAll(Decode(tc.encoding, r))
			if err != nil || string(got) != tc.want {
				t.Errorf("%s %.60q: %.60q, %v", tc.encoding, tc.in, got, err)
			}
		}
	}
	for _, encoding := range []string{"base64", "quoted-printable"} {
		r := io.MultiReader(strings.NewReader("QUJD"), iotest.ErrReader(iotest.ErrTimeout))
		if got, err := io.ReadAll(Decode(encoding, r)); !errors.Is(err, iotest.ErrTimeout) {
			t.Errorf("%s: %q, %v", encoding, got, err)
		}
	}
}

func TestStrictBase64(t *testing.T) {
	t.Parallel()
	for in, ok := range map[string]bool{"QUJD\r\n": true, "QUI=\r\n": true, "QUI": true, "": true, "QUJD!": false, "QUI=QUJD": false,
		"QUJDR": false, "Q=": false, "Hi\r\nQUJD.": false} {
		for _, r := range []io.Reader{strings.NewReader(in), iotest.DataErrReader(strings.NewReader(in)), iotest.OneByteReader(strings.NewReader(in))} {
			got, err := io.ReadAll(&base64Reader{r: r, strict: true})
			if ok != (err == nil) {
				t.Errorf("%q: %q, %v", in, got, err)
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("base64", []byte("SGVsbG8=\r\n"))
	f.Add("quoted-printable", []byte("a= \r\n=3D =\t=x  "))
	f.Fuzz(func(t *testing.T, encoding string, b []byte) {
		one, err := io.ReadAll(Decode(encoding, iotest.OneByteReader(bytes.NewReader(b))))
		all, err2 := io.ReadAll(Decode(encoding, bytes.NewReader(b)))
		if err != nil || err2 != nil || !bytes.Equal(one, all) || len(all) > len(b) {
			t.Fatalf("%q %q %v %v", one, all, err, err2)
		}
	})
}
