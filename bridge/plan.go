package bridge

import (
	"slices"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/pgp"
)

// mailCopy is one form of the message with the recipients that share it. Mailboxes here
// share the encrypted data, never the list of who else can open it: each has the session
// key wrapped for its own certificates alone, since key ids would reveal a Bcc recipient.
// Recipients elsewhere share everything, and only those that the message names do.
type mailCopy struct {
	form
	protection mail.Protection
	// certificates are those of all its recipients together; empty unless sealed.
	certificates []*pgp.Certificate
	// recipients are indexes into the plan's input, growing.
	recipients []int
}

// form tells copies apart: what the octets look like.
type form struct {
	level     mail.Level
	v6        bool // every certificate of the mailbox is v6: SEIPDv2
	elsewhere bool // it leaves
	// All that follows is zero unless it leaves.

	utf8  bool // the recipient's own address needs SMTPUTF8
	alone int  // 1 more than the index of a recipient that shares with nobody; 0
	// order is what of the recipient's order shows in the copy; of a held one, all.
	order  mail.Order
	reason string // why it is not more, of what is in clear
	wish   string // of a held one
}

// plan groups recipients into copies. It is pure: every recipient is in exactly one
// copy, no copy is weaker than its order's floor, copies for here and for elsewhere are
// apart, a recipient elsewhere whom the message does not name shares no ciphertext with
// anybody, and which copy a recipient gets does not depend on their order.
func plan(content mail.Content, rs []recipient) []mailCopy {
	protections := make([]mail.Protection, len(rs))
	for i := range rs {
		protections[i] = mail.Protect(rs[i].order, content, rs[i].answer.Kind)
	}
	mix(rs, protections)
	var copies []mailCopy
	byForm := make(map[form]int)
	for i := range rs {
		r := &rs[i]
		f := r.form(i, protections[i].Level())
		at, ok := byForm[f]
		if !ok {
			at = len(copies)
			byForm[f] = at
			copies = append(copies, mailCopy{form: f, protection: protections[i]})
		}
		c := &copies[at]
		c.recipients = append(c.recipients, i)
		if f.level == mail.Sealed {
			c.certificates = append(c.certificates, r.certificates...)
		}
	}
	return copies
}

// form is what the copy of the recipient with index i looks like.
func (r *recipient) form(i int, level mail.Level) form {
	f := form{level: level, elsewhere: r.elsewhere}
	if level == mail.Sealed {
		f.v6 = allV6(r.certificates)
	}
	if !r.elsewhere {
		return f
	}
	f.utf8 = message.EightBit([]byte(r.rcpt.Address.Local))
	switch level {
	case mail.Sealed:
		f.order.HideSubject = r.order.HideSubject
		if !r.visible {
			f.alone = i + 1
		}
	case mail.Clear:
		f.order.Prefix, f.order.Footer = r.order.Prefix, r.order.Footer
		f.reason = r.insecure()
	case mail.Held:
		f.order, f.wish = r.order, r.wish
	}
	return f
}

// insecure is the word of Postern-Delivery for why a copy goes in clear.
func (r *recipient) insecure() string {
	switch {
	case wantsCertificate(r.order):
		return "no-certificate"
	case r.wish == "clear":
		return "requested"
	}
	return "policy"
}

// mix applies the orders that refuse a message of which some recipients would get less
// than others: then nobody gets it. While it is not known whether it is one, it is
// deferred.
func mix(rs []recipient, protections []mail.Protection) {
	refuse, strong, weak, open := false, false, false, false
	for i := range rs {
		refuse = refuse || rs[i].order.Mixed == mail.MixedRefuse
		switch level := protections[i].Level(); {
		case level == mail.Clear, level == mail.TLSOnly:
			weak = true
		case level >= mail.Sealed, level == mail.Held && !rs[i].elsewhere:
			strong = true
		case rs[i].answer.Kind == mail.Unknown:
			open = true
		}
	}
	var all mail.Protection
	switch {
	case !refuse:
		return
	case strong && weak: // the zero value refuses
	case open && (strong || weak || len(rs) > 1):
		all = mail.Protect(mail.Order{Floor: mail.Clear, NotKnown: mail.Deferred}, mail.ContentClear, mail.Unknown)
	default:
		return
	}
	for i := range protections {
		protections[i] = all
	}
}

// allV6 says whether the mailbox can be sealed to in SEIPDv2: only if none of its
// certificates needs the older form.
func allV6(certs []*pgp.Certificate) bool {
	return !slices.ContainsFunc(certs, func(c *pgp.Certificate) bool { return c.Version() < 6 })
}
