package smtpd

import (
	"strconv"
	"strings"

	"postern/internal/mail"
)

// maxNames is how many octets of a reply may be addresses.
const maxNames = 300

// accepted is the text of 250 to a message: under which name it is known and, on
// submission, what becomes of whose copy.
func (c *conn) accepted(r mail.Receipt) string {
	if c.front.submission == nil {
		return "stored as " + c.tx.id
	}
	text := "queued as " + c.tx.id
	if words := describe(r); words != "" {
		text += ": " + words
	}
	return text
}

// share is the recipients with one outcome.
type share struct {
	word  string
	named bool // the sender should know who they are
	rcpts []mail.Address
}

// describe says how many recipients get what, the strongest first. Those whose copy is
// weaker than sealed, or waits, are named as far as there is room, the weakest first.
func describe(r mail.Receipt) string {
	shares := []share{
		{word: mail.EndToEnd.Called()},
		{word: mail.Sealed.Called()},
		{word: "delivered here"}, // what rests with us is always encrypted
		{word: mail.Held.Called(), named: true},
		{word: mail.TLSOnly.Called(), named: true},
		{word: mail.Clear.Called(), named: true},
	}
	here := len(r.Placed) == len(r.Outcomes)
	for i, o := range r.Outcomes {
		word := o.Level.Called()
		if here && r.Placed[i].UID != 0 {
			word = "delivered here"
		}
		for n := range shares {
			if shares[n].word == word {
				shares[n].rcpts = append(shares[n].rcpts, o.Recipient)
			}
		}
	}
	room := maxNames
	names := make([]string, len(shares))
	for n := len(shares) - 1; n >= 0; n-- {
		names[n] = shares[n].names(&room)
	}
	var words []string
	for n, s := range shares {
		if len(s.rcpts) > 0 {
			words = append(words, strconv.Itoa(len(s.rcpts))+" "+s.word+names[n])
		}
	}
	return strings.Join(words, ", ")
}

// names lists the recipients in brackets, as many as room has octets for.
func (s *share) names(room *int) string {
	if !s.named || len(s.rcpts) == 0 {
		return ""
	}
	var list []string
	for _, a := range s.rcpts {
		name := a.String()
		if len(name)+2 > *room {
			break
		}
		*room -= len(name) + 2
		list = append(list, name)
	}
	switch more := len(s.rcpts) - len(list); {
	case len(list) == 0:
		return ""
	case more > 0:
		list = append(list, strconv.Itoa(more)+" more")
	}
	return " (" + strings.Join(list, ", ") + ")"
}
