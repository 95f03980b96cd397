package bridge

import (
	"strings"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/msgauth"
	"postern/keydir"
)

// learn passes on what a message says of its author's certificate (Autocrypt Level 1).
// The message is durable by now, and nothing here can wait or fail.
func (t *transaction) learn(m *arrival) {
	if t.source.Kind == mail.KindSubmission {
		t.learnOwn(m)
		return
	}
	if t.Learn == nil || len(m.from) != 1 || !vouched(m) || message.SaysNothingOfAuthor(m.header) {
		return
	}
	author := m.from[0]
	s := keydir.Sighting{From: author, Received: t.source.Time}
	if dates := m.header.Values("Date"); len(dates) == 1 {
		if at, err := message.ParseDate(dates[0]); err == nil {
			s.Date = at
		}
	}
	a := autocryptOf(m.header, author)
	s.KeyData, s.Mutual = a.KeyData, a.Mutual
	t.Learn(s)
}

// learnOwn passes on what a message that an account submitted says of the account's own
// certificate.
func (t *transaction) learnOwn(m *arrival) {
	if t.LearnOwn == nil || message.SaysNothingOfAuthor(m.header) {
		return
	}
	if a := autocryptOf(m.header, t.source.Account); len(a.KeyData) > 0 {
		t.LearnOwn(t.source.Account, a.KeyData)
	}
}

// autocryptOf returns the only Autocrypt field for an address; of several none counts.
func autocryptOf(h message.Header, address mail.Address) (only message.Autocrypt) {
	valid := 0
	for _, a := range message.AutocryptFields(h) {
		if addr, err := mail.ParseAddress(a.Addr); err == nil && addr.Key() == address.Key() {
			valid++
			only = a
		}
	}
	if valid != 1 {
		return message.Autocrypt{}
	}
	return only
}

// vouched reports whether the domain in the From field vouches for what Autocrypt is
// about. If an aligned server delivered the message, it does. A DKIM signature however
// vouches only for the fields that it names: whoever has a signed message can add an
// Autocrypt field and deliver it, or send it again with a new Date.
func vouched(m *arrival) bool {
	if !m.verdict.Aligned {
		return false
	}
	if m.verdict.Published.SPFAligned {
		return true
	}
	signatures := m.header.Values("DKIM-Signature")
	if len(signatures) != m.verdict.Signatures {
		return false // m.verdict.DKIM[i] would not be about signatures[i]
	}
	for i, s := range m.verdict.DKIM {
		if s.Result == msgauth.Pass && s.Aligned && covers(signatures[i], m.header) {
			return true
		}
	}
	return false
}

// covers reports whether a DKIM signature is about the only Date field and about every
// Autocrypt field. Of several fields of a name it signs as many as it names, from the
// last one on (RFC 6376 5.4.2).
func covers(signature string, h message.Header) bool {
	date, autocrypt := 0, 0
	for _, f := range h.Fields {
		switch {
		case f.Is("Date"):
			date++
		case f.Is("Autocrypt"):
			autocrypt++
		}
	}
	if date != 1 {
		return false
	}
	for tag := range strings.SplitSeq(signature, ";") {
		name, value, _ := strings.Cut(tag, "=")
		if strings.TrimSpace(name) != "h" {
			continue
		}
		for field := range strings.SplitSeq(value, ":") {
			switch field = strings.TrimSpace(field); {
			case strings.EqualFold(field, "Date"):
				date--
			case strings.EqualFold(field, "Autocrypt"):
				autocrypt--
			}
		}
	}
	return date <= 0 && autocrypt <= 0
}
