package testkit

import (
	"fmt"
	"strings"
)

// headerMessages have header sections that are allowed, but seldom seen.
func headerMessages() []Message {
	change := []func(*draft){
		func(d *draft) {
			d.field("From", "a@example.net, \"B, C\" <b@example.net>").more("Sender", "a@example.net")
		},
		func(d *draft) { d.field("To", "Friends: a@example.org, B <b@example.org>;, undisclosed-recipients:;") },
		func(d *draft) { d.field("To", "\"hidden-recipients\": ;") },
		func(d *draft) { d.field("From", "bob(comment (nested) \\) )@(x)example.net (Bob)") },
		func(d *draft) { d.field("From", "\"quoted local\"@example.net") },
		func(d *draft) { d.field("From", "用户@例子.example") },
		func(d *draft) { d.field("Subject", "folded\n in\n\tmany\n lines") },
		func(d *draft) { d.field("Subject", "ends with a line of white space\n \n after it") },
		func(d *draft) { d.field("Subject", "") },
		func(d *draft) { d.field("Subject", "raw 8-bit: Gr\xc3\xbc\xc3\x9fe") },
		func(d *draft) { d.field("Subject", "raw latin: Gr\xfc\xdfe") },
		func(d *draft) { d.field("Subject", strings.Repeat("very long subject ", 150)) },
		func(d *draft) { d.field("Date", "Mon, 2 Mar 26 11:00 EST (a comment)") },
		func(d *draft) { d.field("Date", "some time last week") },
		func(d *draft) { d.without("Date").without("Message-ID").without("Subject") },
		func(d *draft) { d.without("From") },
		func(d *draft) { d.without("MIME-Version").without("Content-Type") },
		func(d *draft) { d.more("Subject", "a second one").more("From", "Eve <eve@example.com>") },
		func(d *draft) { d.more("subject", "in lower case").more("X-Empty", "").more("X_Odd!Name", "odd") },
		func(d *draft) { d.more("Postern-Delivery", "end-to-end").more("Postern-Arrival", "v=1; forged=yes") },
		func(d *draft) { d.more("Authentication-Results", "mx.example.org; dkim=pass header.d=forged.example") },
		func(d *draft) {
			d.more("Autocrypt", "addr=bob@example.net; prefer-encrypt=mutual; keydata=\n "+strings.ReplaceAll(strings.TrimSpace(base64Lines(noise(5, 600))), "\n", "\n "))
		},
		func(d *draft) {
			for i := range 400 {
				d.more(fmt.Sprint("X-Many-", i), "value")
			}
		},
		func(d *draft) { d.more("X-Long", strings.Repeat("z", 900)) },
		func(d *draft) {
			d.more("Bcc", "secret@example.org").more("Resent-From", "c@example.net").more("Resent-To", "d@example.net")
		},
	}
	var all []Message
	for i, f := range change {
		d := newDraft("header", i).content("text/plain; charset=utf-8", "8bit", "body\n")
		f(d)
		all = append(all, d.message())
	}
	return all
}

// brokenMessages are not what the standards allow, but come all the same.
func brokenMessages() []Message {
	typed := []struct{ contentType, body string }{
		{"multipart/mixed", "no boundary was named\n"},
		{"multipart/mixed; boundary=x", "the boundary never comes\n"},
		{"multipart/mixed; boundary=x", "--x\nContent-Type: text/plain\n\nnever closed\n"},
		{"multipart/mixed; boundary=x", "--x--\nclosed before it began\n"},
		{"multipart/mixed; boundary=x", "--x\n--x\n--x--\n"},
		{"multipart/mixed; boundary=x", "--x\nno header section and no empty line\n--x--\n"},
		{"multipart/mixed; boundary=x", "--x  \t\n\nwhite space behind the boundary\n--x--  \n"},
		{"multipart/mixed; boundary=\"x", "--x\n\nquote not closed\n--x--\n"},
		{"multipart/mixed; boundary=\"\"", "--\n\nempty boundary\n----\n"},
		{"multipart/mixed; boundary=" + strings.Repeat("b", 200), "--" + strings.Repeat("b", 200) + "\n\nlong\n"},
		{"multipart/mixed; boundary=x; boundary=y", "--x\n\none\n--y\n\ntwo\n--x--\n"},
		{"multipart/", "--\n"},
		{"/plain", "no type\n"},
		{"text", "no subtype\n"},
		{"", "empty type\n"},
		{"text/plain; charset", "a parameter without value\n"},
		{"text/plain;;;=;a=;=b", "parameters of nothing\n"},
		{"text/plain charset=utf-8", "no semicolon\n"},
		{"TEXT / PLAIN ; CHARSET = \"utf-8\"", "spaces everywhere\n"},
		{"multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=x", "--x\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--x\nContent-Type: application/octet-stream\n\nnot encrypted at all\n--x--\n"},
		{"multipart/signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha256; boundary=x", "--x\n\nsigned\n--x\nContent-Type: application/pgp-signature\n\nnot a signature\n--x--\n"},
		{"application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", "this is no CMS\n"},
		{"message/rfc822", ""},
		{"message/rfc822", "not a header section\n"},
	}
	var all []Message
	for i, b := range typed {
		all = append(all, newDraft("broken", i).content(b.contentType, "7bit", b.body).message())
	}
	for i, raw := range []string{
		"no header section at all\n",
		"\nonly a body\n",
		"Subject: only a header section\n",
		"Subject: x\nthis line is no field\nTo: a@example.org\n\nbody\n",
		" continuation first\nSubject: x\n\nbody\n",
		"From bob@example.net Mon Mar  2 11:00:00 2026\nFrom: bob@example.net\n\nmbox line first\n",
		": no name\nSubject : space before the colon\n\nbody\n",
		"Subject: x\n \n\nfolded into nothing\n",
	} {
		all = append(all, Message{Name: fmt.Sprintf("raw-%02d", i), Bytes: []byte(raw)})
	}
	return all
}
