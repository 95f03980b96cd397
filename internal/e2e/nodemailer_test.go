package e2e

import (
	"bytes"
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// sentBy is what nodemailer says of a mail.
type sentBy struct {
	Response, Error, MessageID string
	Accepted, Rejected         []string
}

// nodemailer composes and submits a mail through a tap; it returns what was submitted.
func (o *outpost) nodemailer(t *testing.T, mail map[string]any) (sentBy, []byte) {
	t.Helper()
	p := o.tap(t, 465)
	mail["from"] = "Alice <" + owner + ">"
	server := map[string]any{
		"host": "127.0.0.1", "port": p.port(), "secure": true, "auth": map[string]string{"user": owner, "pass": o.password},
		"tls": map[string]any{"ca": string(readFile(t, o.tlsCert())), "servername": hostname},
	}
	var said sentBy
	node(t, "nodemailer.mjs", map[string]any{"server": server, "mail": mail}, &said)
	all := p.submitted()
	if len(all) > 1 || len(all) == 0 && said.Error == "" {
		t.Fatalf("nodemailer submitted %d messages: %+v", len(all), said)
	}
	if len(all) == 0 {
		return said, nil
	}
	return said, all[0]
}

// nodemailer composes what programs send today: each of it leaves as it was submitted,
// sealed to carol and marked for dave.
func TestNodemailer(t *testing.T) {
	t.Parallel()
	nodeProgram(t)
	o := newOutpost(t, options{})
	device := newGnuPG(t)
	o.pin(t, "carol@example.net", device.makeKey("carol@example.net", "future-default", "default", "never"))
	const carol, dave = "carol@example.net", "dave@example.net"
	noise := make([]byte, 4<<20)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	n := 0
	// both sends to carol and dave, and returns what left for them.
	both := func(t *testing.T, mail map[string]any) (submitted []byte, sealed, marked string, rcpts []string) {
		t.Helper()
		mail["to"] = []string{"Carol <" + carol + ">", dave}
		said, submitted := o.nodemailer(t, mail)
		if !strings.HasSuffix(said.Response, ": 1 sealed, 1 insecure (dave@example.net)") || said.Error != "" {
			t.Fatalf("it is told %+v", said)
		}
		c, d := o.left(t, carol, n), o.left(t, dave, n)
		n++
		leftSealed(t, c.Content, device.open([]byte(c.Content))[0], submitted)
		leftMarked(t, d.Content, submitted)
		return submitted, c.Content, d.Content, append(append([]string{c.Mail}, c.Rcpts...), d.Rcpts...)
	}

	t.Run("text, HTML and attachments", func(t *testing.T) {
		submitted, _, _, _ := both(t, map[string]any{
			"subject": "Grüße 日本語 " + strings.Repeat("long ", 30), "text": "Schöne Grüße", "html": `<b>Schöne Grüße</b><img src="cid:x">`,
			"attachments": []map[string]any{
				{"filename": "Übersicht.txt", "content": strings.Repeat("line\n", 1000)},
				{"filename": "b.png", "content": base64.StdEncoding.EncodeToString(noise[:5000]), "encoding": "base64", "cid": "x"},
			},
		})
		if !bytes.Contains(submitted, []byte("multipart/related")) || !bytes.Contains(submitted, []byte("filename*")) {
			t.Errorf("it did not send what the test is about:\n%.3000s", submitted)
		}
	})
	t.Run("8 bits, and Bcc left in", func(t *testing.T) {
		submitted, sealed, marked, _ := both(t, map[string]any{
			"raw": "From: Alice <" + owner + ">\r\nTo: Carol <" + carol + ">, " + dave + "\r\nBcc: Eve <eve@example.net>\r\nSubject: Grüße\r\n" +
				"Date: Mon, 2 Mar 2026 11:00:00 +0000\r\nMessage-ID: <raw@example.org>\r\nMIME-Version: 1.0\r\n" +
				"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n.\r\nSchöne Grüße \r\n",
			"envelope": map[string]any{"from": owner, "to": []string{carol, dave}},
		})
		if !bytes.Contains(submitted, []byte("\r\nBcc: Eve")) {
			t.Errorf("it left no Bcc in:\n%s", submitted)
		}
		if strings.Contains(sealed+marked, "eve@") {
			t.Error("Bcc has left")
		}
	})
	t.Run("wishes for reports", func(t *testing.T) {
		_, _, _, commands := both(t, map[string]any{"subject": "reports", "text": "wanted", "dsn": map[string]any{
			"id": "the-envelope", "return": "headers", "notify": []string{"failure", "delay"}, "recipient": owner,
		}})
		all := strings.Join(commands, "\n")
		for _, want := range []string{"RET=HDRS", "ENVID=the-envelope", "NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;"} {
			if !strings.Contains(all, want) {
				t.Errorf("%s was not handed on:\n%s", want, all)
			}
		}
	})
	t.Run("list fields", func(t *testing.T) {
		_, sealed, _, _ := both(t, map[string]any{"subject": "to the list", "text": "hello", "list": map[string]any{
			"id": map[string]string{"url": "friends.example.org", "comment": "Friends"}, "unsubscribe": "https://example.org/unsubscribe",
		}})
		for _, field := range []string{"\r\nList-ID: ", "\r\nList-Unsubscribe: <https://example.org/unsubscribe>"} {
			if outer, _, _ := cutHeader([]byte(sealed)); !containsFold(outer, field) {
				t.Errorf("%q is not outside:\n%s", field, outer)
			}
		}
	})
	t.Run("an invitation", func(t *testing.T) {
		submitted, _, marked, _ := both(t, map[string]any{"subject": "meeting", "text": "come", "icalEvent": map[string]string{
			"method": "REQUEST", "filename": "invite.ics", "content": "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1\r\n" +
				"DTSTAMP:20260302T110000Z\r\nDTSTART:20260303T110000Z\r\nSUMMARY:Kür\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
		}})
		if !bytes.Contains(submitted, []byte("text/calendar")) || !strings.Contains(marked, "text/calendar") {
			t.Errorf("no invitation in\n%s", marked)
		}
	})
	t.Run("megabytes", func(t *testing.T) {
		both(t, map[string]any{"subject": "big", "text": "see attachment", "attachments": []map[string]any{
			{"filename": "noise", "content": base64.StdEncoding.EncodeToString(noise), "encoding": "base64"},
		}})
	})
	t.Run("an address in UTF-8", func(t *testing.T) {
		said, submitted := o.nodemailer(t, map[string]any{"to": "grün@example.net", "subject": "SMTPUTF8", "text": "hello"})
		if !strings.Contains(said.Response, ": 1 insecure (gr") { // it does not read replies as UTF-8
			t.Errorf("it is told %+v", said)
		}
		m := o.left(t, "grün@example.net", 0)
		leftMarked(t, m.Content, submitted)
		if !strings.Contains(m.Mail, " SMTPUTF8") {
			t.Errorf("%s", m.Mail)
		}
	})
	t.Run("one who is not here", func(t *testing.T) {
		said, submitted := o.nodemailer(t, map[string]any{"to": []string{"nobody@example.org", dave}, "subject": "hello", "text": "hello"})
		if !strings.HasSuffix(said.Response, ": 1 insecure (dave@example.net)") || !slices.Equal(said.Rejected, []string{"nobody@example.org"}) {
			t.Errorf("it is told %+v", said)
		}
		leftMarked(t, o.left(t, dave, n).Content, submitted)
	})
	t.Run("a near miss", func(t *testing.T) {
		said, _ := o.nodemailer(t, map[string]any{"to": dave, "subject": "[secrue] plans", "text": "hello"})
		if !strings.HasPrefix(said.Response, "550 5.7.5 ") || !strings.Contains(said.Response, "[secure]") {
			t.Errorf("it is told %+v", said)
		}
	})
	t.Run("wants it encrypted", func(t *testing.T) {
		said, _ := o.nodemailer(t, map[string]any{"to": dave, "subject": "[secure] plans", "text": "hello"})
		if !strings.HasPrefix(said.Response, "550 5.7.5 ") || !strings.Contains(said.Response, dave) {
			t.Errorf("it is told %+v", said)
		}
	})
	if left := len(o.sink.Messages()); left != 2*n+2 {
		t.Errorf("%d messages left, not %d", left, 2*n+2)
	}
}

func containsFold(b []byte, s string) bool {
	return bytes.Contains(bytes.ToLower(b), []byte(strings.ToLower(s)))
}
