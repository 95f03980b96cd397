package testkit

import "fmt"

// calendarMessages are invitations and what becomes of them (RFC 5546, RFC 6047).
func calendarMessages() []Message {
	var all []Message
	for i, method := range []string{"REQUEST", "REPLY", "CANCEL", "COUNTER", "PUBLISH"} {
		event := fmt.Sprintf("BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//Example//EN\nMETHOD:%s\nBEGIN:VEVENT\nUID:event-%d@example.net\nDTSTAMP:20260302T110000Z\nDTSTART:20260310T090000Z\nDTEND:20260310T100000Z\nSUMMARY:Besprechung über die Tür\\, kurz\nDESCRIPTION:A line that is longer than seventy-five octets and so has to be\n  folded as RFC 5545 says\nORGANIZER;CN=Bob:mailto:bob@example.net\nATTENDEE;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:mailto:alice@example.org\nEND:VEVENT\nEND:VCALENDAR\n", method, i)
		inline := part("Content-Type: text/calendar; charset=utf-8; method="+method+"\nContent-Transfer-Encoding: 8bit", event)
		attached := part("Content-Type: application/ics; name=invite.ics\nContent-Disposition: attachment; filename=invite.ics\nContent-Transfer-Encoding: base64", base64Lines([]byte(event)))
		body := multipart("cal", part("Content-Type: multipart/alternative; boundary=alt", multipart("alt", part("Content-Type: text/plain", "You are invited.\n"), inline)), attached)
		all = append(all, newDraft("calendar", i).content("multipart/mixed; boundary=cal", "", body).message())
	}
	return all
}

// reportMessages are DSNs (RFC 3464), disposition notifications (RFC 8098), abuse
// reports (RFC 5965), DMARC reports (RFC 9990) and automatic answers.
func reportMessages() []Message {
	returned := "Received: from a by b; Mon, 2 Mar 2026 10:00:00 +0000\nFrom: alice@example.org\nTo: nobody@example.net\nSubject: lost\nMessage-ID: <lost@example.org>\n"
	tests := []struct{ report, machine, last string }{
		{"delivery-status", "Reporting-MTA: dns; mx.example.net\nArrival-Date: Mon, 2 Mar 2026 10:00:00 +0000\n\nFinal-Recipient: rfc822; nobody@example.net\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 no such\n user\n", "text/rfc822-headers"},
		{"delivery-status", "Reporting-MTA: dns; mx.example.net\n\nFinal-Recipient: rfc822; slow@example.net\nAction: delayed\nStatus: 4.4.1\nWill-Retry-Until: Sat, 7 Mar 2026 10:00:00 +0000\n", "message/rfc822"},
		{"delivery-status", "Reporting-MTA: dns; mx.example.net\n\nOriginal-Recipient: rfc822;a@example.net\nFinal-Recipient: rfc822; b@example.net\nAction: relayed\nStatus: 2.0.0\n\nFinal-Recipient: rfc822; c@example.net\nAction: expanded\nStatus: 2.0.0\n", ""},
		{"disposition-notification", "Reporting-UA: mua.example.net; Mail 1.0\nFinal-Recipient: rfc822;bob@example.net\nOriginal-Message-ID: <lost@example.org>\nDisposition: manual-action/MDN-sent-manually; displayed\n", ""},
		{"feedback-report", "Feedback-Type: abuse\nUser-Agent: Example/1\nVersion: 1\nSource-IP: 192.0.2.1\n", "message/rfc822"},
	}
	var all []Message
	for i, tt := range tests {
		parts := []string{part("Content-Type: text/plain", "This is what became of your message.\n"), part("Content-Type: message/"+tt.report, tt.machine)}
		if tt.last != "" {
			parts = append(parts, part("Content-Type: "+tt.last, returned))
		}
		d := newDraft("report", i).content(fmt.Sprintf("multipart/report; report-type=%s; boundary=rep", tt.report), "", multipart("rep", parts...))
		d.field("From", "Mail Delivery System <MAILER-DAEMON@mx.example.net>").more("Auto-Submitted", "auto-replied").more("Return-Path", "<>")
		all = append(all, d.message())
	}
	dmarc := newDraft("report", len(tests)).content("application/gzip; name=\"example.net!example.org!1!2.xml.gz\"", "base64", base64Lines(noise(4, 700)))
	away := newDraft("report", len(tests)+1).content("text/plain", "7bit", "I am away.\n")
	away.more("Auto-Submitted", "auto-replied").more("Precedence", "bulk").more("X-Auto-Response-Suppress", "All")
	return append(all, dmarc.message(), away.message())
}

// listMessages came through mailing lists (RFC 2369, RFC 2919, RFC 8058).
func listMessages() []Message {
	var all []Message
	for i := range 6 {
		d := newDraft("list", i).content("text/plain; charset=us-ascii", "7bit", prose(i, 12)+"_______________\nlist mailing list\nhttps://lists.example.net/\n")
		d.field("Subject", fmt.Sprintf("[list] Re: Re: topic %d", i)).field("To", "list@lists.example.net")
		d.more("List-Id", "\"A list\" <list.lists.example.net>").more("List-Post", "<mailto:list@lists.example.net>")
		d.more("List-Unsubscribe", "<https://lists.example.net/u?x=1>,\n <mailto:list-leave@lists.example.net>").more("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
		d.more("Sender", "list-bounces@lists.example.net").more("Precedence", "list").more("Errors-To", "list-bounces@lists.example.net")
		d.more("In-Reply-To", "<before@example.net>").more("References", "<first@example.net>\n <second@example.net> <before@example.net>")
		d.more("Archived-At", "<https://lists.example.net/a/1>").more("ARC-Seal", "i=1; a=rsa-sha256; cv=none; d=lists.example.net; s=a; b=AAAA")
		for j := range i {
			d.more("Received", fmt.Sprintf("from hop%d.example.net by hop%d.example.net; Mon, 2 Mar 2026 11:00:00 +0000", j, j+1))
		}
		if i%2 == 1 {
			d.content("multipart/mixed; boundary=l", "", multipart("l", part("Content-Type: text/plain", prose(i, 5)), part("Content-Type: text/plain\nMIME-Version: 1.0\nContent-Disposition: inline", "footer\n")))
		}
		all = append(all, d.message())
	}
	return all
}
