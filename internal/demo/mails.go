package demo

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"postern/internal/pgp"
)

// canary is in the text of every mail of the demo and must be nowhere on the server.
const canary = "the canary sings at midnight"

// mail is one mail that is sent.
type mail struct {
	what   string
	data   []byte
	sealed bool // by the gateway; else its sender encrypted it
}

// mails are what bob sends: plain text, HTML with an attachment, and one that bob's own
// software encrypted.
func mails(cert []byte, now time.Time) ([]mail, error) {
	encrypted, err := encryptedMail(cert, now)
	if err != nil {
		return nil, err
	}
	return []mail{
		{what: "plain text", data: plainMail(now), sealed: true},
		{what: "HTML with an attachment", data: htmlMail(now), sealed: true},
		{what: "already PGP/MIME-encrypted by bob", data: encrypted},
	}, nil
}

func header(subject string, n int, now time.Time) string {
	return lines(
		"From: Bob <"+sender+">",
		"To: Alice <"+owner+">",
		"Subject: "+subject,
		"Date: "+now.Format("Mon, 2 Jan 2006 15:04:05 -0700"),
		fmt.Sprintf("Message-ID: <%d.%d@elsewhere.test>", now.Unix(), n),
		"MIME-Version: 1.0",
	)
}

func lines(l ...string) string { return strings.Join(l, "\r\n") + "\r\n" }

func plainMail(now time.Time) []byte {
	return []byte(header("Tonight", 1, now) + lines(
		"Content-Type: text/plain; charset=utf-8", "",
		"Dear Alice,", "", canary+".", "", "Bob"))
}

func htmlMail(now time.Time) []byte {
	attachment := base64.StdEncoding.EncodeToString([]byte("attached: " + canary))
	return []byte(header("With a picture of the moon", 2, now) + lines(
		`Content-Type: multipart/mixed; boundary="moon"`, "",
		"--moon", "Content-Type: text/html; charset=utf-8", "",
		"<p>Dear Alice, <b>"+canary+"</b>.</p>", "",
		"--moon", `Content-Type: application/octet-stream; name="moon.dat"`,
		"Content-Transfer-Encoding: base64", `Content-Disposition: attachment; filename="moon.dat"`, "",
		attachment, "--moon--"))
}

// encryptedMail is what bob's mail program would make with alice's certificate.
func encryptedMail(cert []byte, now time.Time) ([]byte, error) {
	certs, err := pgp.ParseCertificates(cert)
	if err != nil {
		return nil, err
	}
	inner := []byte(lines("Content-Type: text/plain; charset=utf-8", "", "Only for you: "+canary+"."))
	armor, err := pgp.Seal(inner, certs, now)
	if err != nil {
		return nil, err
	}
	return []byte(header("...", 3, now) + lines(
		`Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="bob"`, "",
		"--bob", "Content-Type: application/pgp-encrypted", "", "Version: 1", "",
		"--bob", `Content-Type: application/octet-stream; name="encrypted.asc"`, "") + string(armor) + lines("", "--bob--")), nil
}
