package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
)

// thunderbird is a mail as Thunderbird composes it, with the fields that it leaves in its
// copy for Sent and takes out of what it submits.
func thunderbird(id, to, body string) (submitted, copied []byte) {
	head := "Message-ID: <" + id + "@example.org>\r\nDate: Mon, 2 Mar 2026 12:00:00 +0100\r\nMIME-Version: 1.0\r\n" +
		"User-Agent: Mozilla Thunderbird\r\nContent-Language: de-DE, en-US\r\nTo: " + to + "\r\n"
	tail := "From: Alice <alice@example.org>\r\nSubject: =?UTF-8?Q?Gr=C3=BC=C3=9Fe?=\r\nContent-Type: multipart/alternative;\r\n" +
		" boundary=\"------------kX2qT0\"\r\n\r\nThis is a multi-part message in MIME format.\r\n--------------kX2qT0\r\n" +
		"Content-Type: text/plain; charset=UTF-8; format=flowed\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + body + "\r\n \r\n-- \r\nAlice\r\n\r\n" +
		"--------------kX2qT0\r\nContent-Type: text/html; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
		"<!DOCTYPE html>\r\n<html><body><p>" + body + "</p></body></html>\r\n\r\n--------------kX2qT0--\r\n"
	copied = []byte(head + "Bcc: Eve <eve@example.net>\r\n" + strings.Replace(tail, "Subject:",
		"X-Identity-Key: id1\r\nX-Account-Key: account1\r\nFcc: imap://alice%40example.org@mail.example.org/Sent\r\n"+
			"X-Mozilla-Draft-Info: internal/draft; vcard=0; receipt=0; DSN=0; uuencode=0;\r\n attachmentreminder=0; deliveryformat=1\r\nSubject:", 1))
	return []byte(head + tail), copied
}

// Thunderbird submits a mail without Bcc, and then appends its own copy, with Bcc and
// more, to Sent: it is sealed octet for octet, and says how well the mail was protected.
func TestThunderbirdSends(t *testing.T) {
	t.Parallel()
	o := newOutpost(t, options{})
	mine, theirs := o.ownerGnuPG(t), newGnuPG(t)
	for _, name := range []string{"carol", "eve"} {
		address := name + "@example.net"
		o.pin(t, address, theirs.makeKey(address, "future-default", "default", "never"))
	}
	c := o.imap(t)
	before := map[string]int{} // messages that left for an address
	for i, row := range []struct {
		to, bcc  []string
		response string
		keyword  imap.Flag
	}{
		{[]string{"carol@example.net"}, nil, ": 1 sealed", "$Sealed"},
		{[]string{"carol@example.net"}, []string{"eve@example.net"}, ": 2 sealed", "$Sealed"},
		{[]string{"carol@example.net", "dave@example.net"}, nil, ": 1 sealed, 1 insecure (dave@example.net)", "$Insecure"},
		{[]string{"dave@example.net"}, []string{"eve@example.net"}, ": 1 sealed, 1 insecure (dave@example.net)", "$Insecure"},
		{[]string{owner}, nil, ": 1 delivered here", "$Sealed"},
	} {
		submitted, copied := thunderbird(fmt.Sprint("tb-", i), strings.Join(row.to, ", "), "Schöne Grüße aus dem "+fmt.Sprint(i)+". Brief")
		if reply := o.hand(t, submitted, append(row.to, row.bcc...)...); !strings.HasSuffix(reply, row.response) {
			t.Errorf("%q: it is told %q", row.to, reply)
		}
		appending := c.Append("Sent", int64(len(copied)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen}, Time: time.Now()})
		if _, err := appending.Write(copied); err != nil {
			t.Fatal(err)
		}
		if err := appending.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := appending.Wait(); err != nil {
			t.Fatal("APPEND: ", err)
		}
		all := fetchAll(t, c, "Sent")
		if len(all) != i+1 {
			t.Fatalf("%d messages in Sent", len(all))
		}
		wantSent(t, mine, all[i], row.keyword, "Schöne Grüße")
		same(t, "the copy in Sent", mine.restored(all[i].raw)[0], copied)

		for _, r := range append(row.to, row.bcc...) {
			if r == owner {
				inbox := fetchAll(t, c, "INBOX")
				same(t, "in the INBOX", without(mine.restored(inbox[len(inbox)-1].raw)[0], "Autocrypt"), submitted)
				continue
			}
			left := o.left(t, r, before[r])
			before[r]++
			if strings.HasPrefix(r, "dave@") {
				leftMarked(t, left.Content, submitted)
				continue
			}
			leftSealed(t, left.Content, theirs.open([]byte(left.Content))[0], submitted)
			if len(left.Rcpts) != 1 {
				t.Errorf("%s shares a copy: %q", r, left.Rcpts)
			}
		}
	}
}
