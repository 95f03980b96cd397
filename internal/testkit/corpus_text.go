package testkit

import (
	"fmt"
	"strings"
)

// textMessages are single bodies: sizes, transfer encodings, lines that need care.
func textMessages() []Message {
	bodies := []struct{ encoding, body string }{
		{"7bit", ""},
		{"7bit", "\n\n\n"},
		{"7bit", "one line without end of line"},
		{"7bit", ".\n..\n.leading dots\n...\n"},
		{"7bit", "From the start of a line\n>From quoted\n"},
		{"7bit", "-- \nsignature with its trailing space \n\t\n"},
		{"7bit", strings.Repeat("x", 998) + "\n"},
		{"7bit", strings.Repeat("y", 5000) + "\n"},
		{"8bit", "Grüße, žluťoučký kůň, 日本語, 🙂\n"},
		{"8bit", "not UTF-8: \xff\xfe \xc3\x28 \x80\n"},
		{"quoted-printable", "Gr=C3=BC=C3=9Fe=20=\n and a soft break=\n.\n=\n.\n"},
		{"quoted-printable", "broken =XY =\t =C3 and a lone =\n"},
		{"QUOTED-PRINTABLE", "upper=3D=case\n"},
		{"base64", base64Lines([]byte(prose(1, 40)))},
		{"base64", "bm90IHBhZGRlZA\n!!ignored!!\nYW5kIG1vcmU=\n"},
		{"x-uuencode", "begin 644 a.txt\n#0V%T\n`\nend\n"},
		{"binary", "binary is not for SMTP, yet it is said\n"},
		{"unknown-encoding", "nobody knows\n"},
		{"7bit", prose(2, 400)},
		{"7bit", prose(3, 5000)},
		{"7bit", "-----BEGIN PGP MESSAGE-----\n\nhQEMAwAAAAAAAAAA\n=AAAA\n-----END PGP MESSAGE-----\n"},
		{"7bit", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n- -- dashes\n-----BEGIN PGP SIGNATURE-----\n\niQ==\n=AAAA\n-----END PGP SIGNATURE-----\n"},
	}
	var all []Message
	for i, b := range bodies {
		all = append(all, newDraft("text", i).content("text/plain; charset=utf-8", b.encoding, b.body).message())
	}
	return all
}

// charsetMessages say the same in many charsets, in body and encoded-words.
func charsetMessages() []Message {
	tests := []struct{ charset, word, body string }{
		{"us-ascii", "=?us-ascii?Q?plain?=", "plain\n"},
		{"iso-8859-1", "=?iso-8859-1?Q?Gr=FC=DFe?=", "Gr\xfc\xdfe\n"},
		{"iso-8859-15", "=?iso-8859-15?Q?=A4?=", "\xa4 100\n"},
		{"windows-1252", "=?windows-1252?Q?=93quoted=94?=", "\x93quoted\x94\n"},
		{"koi8-r", "=?koi8-r?B?8NLJ18XU?=", "\xf0\xd2\xc9\xd7\xc5\xd4\n"},
		{"windows-1251", "=?windows-1251?B?z/Do4uXy?=", "\xcf\xf0\xe8\xe2\xe5\xf2\n"},
		{"iso-2022-jp", "=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "\x1b$BF|K\\\x1b(B\n"},
		{"shift_jis", "=?shift_jis?B?k/qWew==?=", "\x93\xfa\x96{\n"},
		{"euc-kr", "=?euc-kr?B?x9GxuQ==?=", "\xc7\xd1\xb1\xb9\n"},
		{"gb18030", "=?gb18030?B?1tDOxA==?=", "\xd6\xd0\xce\xc4\n"},
		{"big5", "=?big5?B?pKSk5Q==?=", "\xa4\xa4\xa4\xe5\n"},
		{"utf-7", "=?utf-7?Q?+AOQ-?=", "+AOQ-\n"},
		{"utf-8", "=?utf-8?B?8J+Zgg==?= =?utf-8?Q?_and_?=\n =?utf-8?Q?more?=", "\xf0\x9f\x99\x82\n"},
		{"x-nobody-knows", "=?x-nobody-knows?Q?=80?=", "\x80\n"},
		{"utf-8", "=?utf-8?B?broken=?= =?utf-8?X?y?= =?utf-8?Q?open", "\xc3\n"},
	}
	var all []Message
	for i, tt := range tests {
		d := newDraft("charset", i).content("text/plain; charset="+tt.charset, "8bit", tt.body)
		d.field("Subject", tt.word)
		d.field("From", tt.word+" <bob@example.net>")
		all = append(all, d.message())
	}
	return all
}

// parameterMessages have parameters as in RFC 2231, and as people write them.
func parameterMessages() []Message {
	dispositions := []string{
		`attachment; filename=plain.txt`,
		`attachment; filename="with \"quotes\" and \\.txt"`,
		`attachment; filename*=utf-8''na%C3%AFve.txt`,
		`attachment; filename*=iso-8859-1'en'%A3%20rates.txt`,
		"attachment;\n filename*0=\"a long name that \";\n filename*1=\"is cut in two.txt\"",
		"attachment;\n filename*0*=utf-8''caf%C3%A9%20;\n filename*1*=%F0%9F%99%82;\n filename*2=\".txt\"",
		"attachment; filename*1=second; filename*0=first",
		`attachment; filename*=utf-8''%ZZ%C3`,
		`attachment; filename==?utf-8?Q?caf=C3=A9.txt?=`,
		`attachment; filename="=?utf-8?B?Y2Fmw6kudHh0?="`,
		`attachment; filename=two words.txt`,
		`attachment; filename=a.txt; filename=b.txt`,
		`attachment; filename="unclosed.txt`,
		`inline (a comment); filename (another) = c.txt; size=12;`,
		"attachment; filename=\"../../etc/passwd\"",
		"attachment; filename=\"r\xc3\xa4w 8-bit.txt\"",
	}
	var all []Message
	for i, value := range dispositions {
		boundary := fmt.Sprintf("=_params_%d", i)
		body := multipart(boundary,
			part("Content-Type: text/plain; charset=utf-8", "see the file\n"),
			part("Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\nContent-Disposition: "+value, base64Lines(noise(i, 200))))
		all = append(all, newDraft("parameters", i).content(fmt.Sprintf(`multipart/mixed; boundary=%q`, boundary), "", body).message())
	}
	return all
}
