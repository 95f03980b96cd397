package bridge

import (
	"slices"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/keydir"
)

// recipient is one mailbox that the message goes to, with all that is known when
// its copy is planned.
type recipient struct {
	rcpt    mail.Rcpt
	account store.Account
	mailbox store.ID // zero: the INBOX
	order   mail.Order
	answer  keydir.Answer
	// certificates are the usable ones; empty unless the answer is mail.Found.
	certificates []*pgp.Certificate
}

// mailCopy is one form of the message with the recipients that share it. They share
// the encrypted data, never the list of who else can open it: each mailbox has the
// session key wrapped for its own certificates alone, since key ids would reveal a
// Bcc recipient.
type mailCopy struct {
	protection mail.Protection
	// certificates are those of all its recipients together; empty unless sealed.
	certificates []*pgp.Certificate
	// recipients are indexes into the plan's input, growing.
	recipients []int
}

// form tells copies apart: what the octets look like.
type form struct {
	level mail.Level
	v6    bool // every certificate of the mailbox is v6: SEIPDv2
}

// plan groups recipients into copies. It is pure: every recipient is in exactly one
// copy, no copy is weaker than its order's floor, and which copy a recipient gets
// does not depend on the others.
func plan(content mail.Content, rs []recipient) []mailCopy {
	var copies []mailCopy
	byForm := make(map[form]int)
	for i, r := range rs {
		p := mail.Protect(r.order, content, r.answer.Kind)
		f := form{level: p.Level()}
		if f.level == mail.Sealed {
			f.v6 = allV6(r.certificates)
		}
		at, ok := byForm[f]
		if !ok {
			at = len(copies)
			byForm[f] = at
			copies = append(copies, mailCopy{protection: p})
		}
		c := &copies[at]
		c.recipients = append(c.recipients, i)
		if f.level == mail.Sealed {
			c.certificates = append(c.certificates, r.certificates...)
		}
	}
	return copies
}

// allV6 says whether the mailbox can be sealed to in SEIPDv2: only if none of its
// certificates needs the older form.
func allV6(certs []*pgp.Certificate) bool {
	return !slices.ContainsFunc(certs, func(c *pgp.Certificate) bool { return c.Version() < 6 })
}
