package queue

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"postern/internal/mail"
)

// maxText bounds what a next hop says, in octets.
const maxText = 500

// clean makes one line of printable text of whatever a next hop said: it goes into
// reports, logs and terminals.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxText {
		s = s[:maxText]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return s
}

// plain is clean in ASCII, as replies have to be (RFC 5321 4.2).
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= utf8.RuneSelf {
			return '?'
		}
		return r
	}, clean(s))
}

// subject of a report.
func (e event) subject() string {
	switch e {
	case eventDelayed:
		return "Your message is late"
	case eventRelayed:
		return "Your message was handed over"
	case eventDelivered:
		return "Your message was delivered"
	}
	return "Your message was not delivered"
}

// opening is the first paragraph of a report.
func (d *dsn) opening() []string {
	switch d.Event {
	case eventDelayed:
		return []string{"Your message has not reached the recipients below yet. You need not do",
			"anything: it is tried again until " + d.Copy.Created.Add(d.GiveUp).UTC().Format("Monday, 2 January 2006, 15:04 MST") + ".",
			"If it cannot be delivered by then, you get another message like this."}
	case eventRelayed:
		return []string{"Your message was handed over to the mail servers of the recipients below.",
			"They do not confirm delivery, so you will hear of it only if it fails."}
	case eventDelivered:
		return []string{"Your message is in the mailboxes of the recipients below."}
	case eventCancelled:
		return []string{"Whoever runs this mail server took your message out of the queue. It was not",
			"delivered to the recipients below."}
	}
	return []string{"Your message was not delivered to the recipients below, and is not tried again."}
}

// why says what happened to a recipient.
func (d *dsn) why(r reported) string {
	said := r.reply.Text
	if r.reply.Code != 0 {
		said = strings.Join(strings.Fields(strconv.Itoa(r.reply.Code)+" "+r.reply.Enhanced+" "+said), " ")
	}
	switch {
	case d.Event == eventRelayed:
		return "handed over to " + orText(r.reply.Host, "its mail server")
	case d.Event == eventDelivered:
		return "delivered"
	case d.Event == eventCancelled && said == "":
		return "taken out of the queue"
	case said == "" && d.Copy.Level == mail.Held:
		return "there is no certificate to encrypt it with"
	case said == "":
		return "it could not be tried"
	case r.reply.Host != "":
		return "mail server " + r.reply.Host + " says: " + said
	}
	return said
}

// advice says what a person can do about it.
func (d *dsn) advice(r reported) string {
	switch d.Event {
	case eventRelayed, eventDelivered, eventDelayed:
		return ""
	case eventCancelled:
		return "Ask whoever runs this mail server."
	}
	status := r.reply.Enhanced
	switch {
	case d.Copy.Level == mail.Held:
		return "Ask the recipient to publish an OpenPGP certificate, or send it in clear if the rules here allow that."
	case within(status, "1.1", "1.2", "1.3", "1.6", "1.10"):
		return "Check the address for mistakes, and ask the recipient for the right one."
	case within(status, "2.2"):
		return "The mailbox is full: tell the recipient some other way, and send it again later."
	case within(status, "3.4", "2.3"):
		return "The message is too large: send it in parts or without its attachments."
	case within(status, "6.7"):
		return "The recipient's server takes only addresses in ASCII: ask the recipient for one."
	case within(status, "7.10", "7.30"):
		return "The recipient's server cannot receive it as well protected as it has to be."
	case d.Event == eventExpired:
		return "Tried for " + days(d.GiveUp) + ". Reach the recipient some other way, or send it again later."
	}
	return "If that does not say what to do, ask postmaster@" + r.rcpt.Domain + " with this message."
}

// within says whether a status of RFC 3463 has one of the subjects and details.
func within(status string, details ...string) bool {
	_, detail, _ := strings.Cut(status, ".")
	for _, d := range details {
		if d == detail {
			return true
		}
	}
	return false
}

func days(d time.Duration) string {
	if n := int(d / (24 * time.Hour)); n > 1 && d%(24*time.Hour) == 0 {
		return strconv.Itoa(n) + " days"
	}
	return d.Round(time.Second).String()
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
