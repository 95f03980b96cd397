package smtpd

import "postern/internal/mail"

var errTooManyRcpts = mail.Refuse(452, "4.5.3", "too many recipients, send the rest in another transaction")

// rcpt does RCPT (RFC 5321 4.1.1.3).
func (c *conn) rcpt(arg string) {
	if c.inData { // between two BDAT
		c.fault(503, "5.5.1", "the message has begun")
		return
	}
	if !c.ordered(c.tx.Transaction != nil, "MAIL") {
		return
	}
	r, e := c.parseRcpt(arg)
	if e != nil {
		c.faultErr(e)
		return
	}
	if c.tx.accepted >= c.Limits.Recipients {
		c.refuse(errTooManyRcpts) // RFC 5321 4.5.3.1.10
		return
	}
	if err := c.takeRecipient(); err != nil {
		c.refuse(err)
		return
	}
	if err := c.tx.Rcpt(c.txContext(), r); err != nil {
		if c.refuse(err) < 500 {
			return
		}
		if c.refused++; over(c.refused, c.Limits.RefusedRecipients) {
			c.tooMany("unknown recipients")
		}
		return
	}
	c.tx.accepted++
	c.reply(250, "2.1.5", "OK")
}
