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
			"attributes": {with(func(o *cmsObject) {
				o.kind, o.after = oid(9, 16, 1, 23), slices.Concat(wrap(0xa1, alg), der(4, make([]byte, 16)), wrap(0xa2, alg))
			}), true, nil},
			"long attributes":    {with(func(o *cmsObject) { o.after = wrap(0xa1, der(4, make([]byte, maxAttributes))) }), false, ErrCMS},
			"many attributes":    {with(func(o *cmsObject) { o.after = bytes.Repeat(wrap(0xa1, der(4, make([]byte, 500))), 5) }), false, ErrCMS},
			"text for attribute": {with(func(o *cmsObject) { o.after = der(12, []byte("clear text")) }), false, ErrCMS},
			"text behind content": {with(func(o *cmsObject) {
				o.inner = wrap(tagSequence, oid(7, 1), alg, der(0x80, []byte("xx")), der(12, []byte("clear text")))
			}), false, ErrCMS},
			"text behind data": {wrap(tagSequence, oid(7, 3), wrap(tagContext0, wrap(tagSequence, version, enveloped(wrap).recipients, enveloped(wrap).inner), der(12, []byte("clear text")))), false, ErrCMS},
			"text behind all":  {wrap(tagSequence, oid(7, 3), wrap(tagContext0, wrap(tagSequence, version, enveloped(wrap).recipients, enveloped(wrap).inner)), der(12, []byte("clear text"))), false, ErrCMS},
			"long version":     {with(func(o *cmsObject) { o.before[0] = der(tagInteger, make([]byte, maxSmall+1)) }), false, ErrCMS},
			"long recipient":   {with(func(o *cmsObject) { o.recipients = wrap(tagSet, wrap(tagSequence, der(4, make([]byte, maxRecipient)))) }), false, ErrCMS},
			"long originator": {with(func(o *cmsObject) {
				o.before = append(o.before, wrap(tagContext0, der(4, make([]byte, maxOriginator))))
			}), false, ErrCMS},
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

const preamble = "This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\n"

const pgpMIME = `Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b

This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)
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
		"no preamble":      {preamble, "", true},
		"MIME preamble":    {preamble, "\n \nThis is a multi-part message in MIME format.\n\n", true},
		"no blank line":    {"boundary=b\n\n" + preamble, "boundary=b\n\n", true},
		"no end":           {"\n--b--\n", "", true},
		"blanks behind":    {"--b--\n", "--b-- \n \n\n", true},
		"blanks":           {"Version: 1", "\nVersion: 1 \n\n", true},
		"MIME-Version":     {"Content-Transfer", "MIME-Version: 1.0\nContent-Transfer", true},
		"fields":           {"; name=encrypted.asc", "\ncontent-description: OpenPGP encrypted message\nContent-Disposition: inline;\n filename=\"encrypted.asc\"\nContent-ID: <1@example.org>", true},
		"preamble":         {preamble, "Hello Bob\n", false},
		"two lines":        {preamble, preamble + "Hello Bob\n", false},
		"two lines, blank": {preamble, preamble + "\nHello Bob\n", false},
		"long line":        {preamble, "This is a " + strings.Repeat("clear text", 20) + "\n", false},
		"epilogue":         {"--b--\n", "--b--\nHello Bob\n", false},
		"epilogue, no LF":  {"--b--\n", "--b--\n\n.", false},
		"two versions":     {"Version: 1", "Version: 1\nVersion: 1", false},
		"control text":     {"Version: 1", "Version: 1\nHello Bob", false},
		"control text 2":   {"Version: 1", "Hello Bob\nVersion: 1", false},
		"control text 3":   {"Version: 1", "Version: 1 Hello", false},
		"control field":    {"pgp-encrypted\n\nV", "pgp-encrypted\nSubject: Hello\n\nV", false},
		"data field":       {"; name=encrypted.asc", "\nX: Hello", false},
		"no field":         {"; name=encrypted.asc", "\nHello Bob", false},
		"MIME-Version 2":   {"Content-Transfer", "MIME-Version: Hello\nContent-Transfer", false},
		"long name":        {"encrypted.asc", strings.Repeat("clear text", 50), false},
		"long description": {"pgp-encrypted\n\nV", "pgp-encrypted\nContent-Description: " + strings.Repeat("clear text\n ", 50) + "\n\nV", false},
		"many blanks":      {"--b--\n", "--b--" + strings.Repeat("\n", 2000), false},
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
		if err != nil || strings.TrimSpace(string(body)) != "-----BEGIN PGP MESSAGE-----" || c.Kind != PGPMIME || c.TransferEncoding != "7bit" {
			t.Errorf("%s: %+v %q %v", name, c, body, err)
		}
	}
	m := crlf(pgpMIME)
	if _, _, err := FindEncrypted(ScanBytes(m, Limits{}), failingReaderAt{}); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("failing reader: %v", err)
	}
}

// TestFindEncryptedInsertion puts a line of clear text behind every line of the body: it
// is found unless it becomes part of the octets, which must then prove what they are.
func TestFindEncryptedInsertion(t *testing.T) {
	t.Parallel()
	m := crlf(pgpMIME)
	body := bytes.Index(m, []byte("\r\n\r\n")) + 4
	for at := body; at <= len(m); at++ {
		if at > body && m[at-1] != '\n' {
			continue
		}
		const clear = "clear text\r\n"
		with := slices.Concat(m[:at], []byte(clear), m[at:])
		r := bytes.NewReader(with)
		c, ok, err := FindEncrypted(ScanBytes(with, Limits{}), r)
		if err != nil {
			t.Fatal(err)
		}
		if inside := int64(at) >= c.Offset && int64(at) <= c.Offset+c.Length; ok && !inside {
			t.Errorf("passes for ciphertext:\n%s", with)
		}
	}
}

// checkAround makes sure, in another way, that what lies around the octets of a candidate
// says nothing.
func checkAround(t *testing.T, top *Part, c Candidate, m []byte) {
	t.Helper()
	around := string(m[top.BodyStart:c.Offset]) + string(m[c.Offset+c.Length:top.BodyEnd])
	said := 0
	for line := range strings.Lines(around) {
		switch line = strings.TrimRight(line, "\r\n"); {
		case strings.TrimSpace(line) == "", strings.HasPrefix(line, "--"), isWSP(line[0]):
		case hasPrefixFold(line, "Content-"), hasPrefixFold(line, "MIME-Version"):
		case equalFold("version:1", strings.Join(strings.Fields(line), "")):
		default:
			said++
		}
	}
	if said > 1 || len(around) > maxAround {
		t.Fatalf("%d lines in clear beside the ciphertext:\n%s", said, around)
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
