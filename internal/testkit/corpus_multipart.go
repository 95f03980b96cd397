package testkit

import (
	"fmt"
	"strings"
)

// multipartMessages are the structures that mail programs make.
func multipartMessages() []Message {
	html := part("Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable",
		"<html><body><p style=3D\"x\">Hello <img src=3D\"cid:logo@example\"></p></body></html>\n")
	plain := part("Content-Type: text/plain; charset=utf-8; format=flowed; delsp=yes", "Hello \nworld\n")
	image := part("Content-Type: image/png; name=logo.png\nContent-ID: <logo@example>\nContent-Disposition: inline\nContent-Transfer-Encoding: base64", base64Lines(noise(1, 3000)))
	pdf := part("Content-Type: application/pdf; name=\"a b.pdf\"\nContent-Description: a paper\nContent-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\nContent-Language: en, de\nContent-Location: http://example.net/a.pdf\nContent-Disposition: attachment; filename=\"a b.pdf\"\nContent-Transfer-Encoding: base64", base64Lines(noise(2, 90_000)))
	forwarded := part("Content-Type: message/rfc822\nContent-Disposition: inline", string(newDraft("inner", 1).content("text/plain", "7bit", "the inner one\n").message().Bytes))
	wrap := func(kind, boundary string, parts ...string) string {
		return part(fmt.Sprintf("Content-Type: multipart/%s; boundary=%q", kind, boundary), multipart(boundary, parts...))
	}
	tests := []struct {
		kind  string
		parts []string
	}{
		{"alternative", []string{plain, html}},
		{"mixed", []string{plain, pdf}},
		{"mixed", []string{wrap("alternative", "alt", plain, html), pdf, image}},
		{"related", []string{html, image}},
		{"related; type=\"text/html\"; start=\"<root@example>\"", []string{html, image}},
		{"mixed", []string{wrap("related", "rel", wrap("alternative", "alt", plain, html), image), pdf}},
		{"mixed", []string{plain, forwarded}},
		{"mixed", []string{forwarded, forwarded, forwarded}},
		{"digest", []string{"\n" + string(newDraft("digested", 1).message().Bytes), "\n" + string(newDraft("digested", 2).message().Bytes)}},
		{"parallel", []string{image, image}},
		{"form-data", []string{part("Content-Disposition: form-data; name=\"field\"", "value\n")}},
		{"mixed", []string{plain, part("Content-Type: message/external-body; access-type=URL;\n URL=\"http://example.net/x\"", "Content-Type: text/plain\n\nphantom\n")}},
		{"mixed", []string{plain, part("Content-Type: message/partial; id=\"p@example\"; number=1; total=2", "Subject: first half\n\nhalf\n")}},
		{"mixed", []string{plain, part("Content-Type: text/vcard; charset=utf-8", "BEGIN:VCARD\nVERSION:4.0\nFN:Bob\nEND:VCARD\n")}},
		{"mixed", []string{plain, part("Content-Type: application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64", base64Lines(append([]byte{0x78, 0x9f, 0x3e, 0x22}, noise(3, 500)...)))}},
		{"x-of-tomorrow", []string{plain, html}},
	}
	var all []Message
	for i, tt := range tests {
		boundary := fmt.Sprintf("=_bound'ary:%d?", i)
		kind, rest, _ := strings.Cut(tt.kind, ";")
		if rest != "" {
			rest = ";" + rest
		}
		d := newDraft("multipart", i)
		d.content(fmt.Sprintf("multipart/%s; boundary=%q%s", kind, boundary, rest), "",
			"This is the preamble.\n"+multipart(boundary, tt.parts...)+"This is the epilogue.\n")
		all = append(all, d.message())
	}
	return all
}

// nestedMessages are deep or wide, but not beyond what is reasonable.
func nestedMessages() []Message {
	deep := func(levels int) string {
		inner := part("Content-Type: text/plain", "at the bottom\n")
		for i := range levels {
			b := fmt.Sprintf("level-%d", i)
			inner = part("Content-Type: multipart/mixed; boundary="+b, multipart(b, inner))
		}
		return inner
	}
	russian := func(levels int) string {
		inner := "Subject: innermost\n\nend\n"
		for i := range levels {
			inner = fmt.Sprintf("Subject: doll %d\nContent-Type: message/rfc822\n\n%s", i, inner)
		}
		return inner
	}
	wide := make([]string, 100)
	for i := range wide {
		wide[i] = part(fmt.Sprintf("Content-Type: text/plain; name=%d.txt", i), fmt.Sprintln("part", i))
	}
	return []Message{
		newDraft("nested", 0).content(`multipart/mixed; boundary="top"`, "", multipart("top", deep(3))).message(),
		newDraft("nested", 1).content(`multipart/mixed; boundary="top"`, "", multipart("top", deep(20))).message(),
		newDraft("nested", 2).content("message/rfc822", "7bit", russian(5)).message(),
		newDraft("nested", 3).content(`multipart/mixed; boundary="top"`, "", multipart("top", wide...)).message(),
		// A boundary that is the beginning of the one around it, and the reverse.
		newDraft("nested", 4).content("multipart/mixed; boundary=ab", "", multipart("ab", part("Content-Type: multipart/mixed; boundary=abc", multipart("abc", part("", "x\n"))))).message(),
		newDraft("nested", 5).content("multipart/mixed; boundary=abc", "", multipart("abc", part("Content-Type: multipart/mixed; boundary=ab", multipart("ab", part("", "x\n"))))).message(),
		newDraft("nested", 6).content("multipart/mixed; boundary=same", "", multipart("same", part("Content-Type: multipart/mixed; boundary=same", multipart("same", part("", "x\n"))))).message(),
	}
}
