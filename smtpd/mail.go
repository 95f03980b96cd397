package smtpd

import (
	"errors"

	"postern/internal/mail"
)

var (
	errMailRate    = mail.Refuse(450, "4.7.1", "too many messages from your address, try again later")
	errNoAcceptor  = errors.New("no acceptor is set")
	errNilAcceptor = errors.New("acceptor returned no transaction")
)

// mail does MAIL: it begins a transaction (RFC 5321 4.1.1.2).
func (c *conn) mail(arg string) {
	if !c.ordered(c.helo != "", "EHLO") {
		return
	}
	if c.tx.Transaction != nil {
		c.fault(503, "5.5.1", "a transaction is open")
		return
	}
	if over(c.messages+1, c.Limits.MessagesPerConnection) {
		c.tooMany("messages on one connection")
		return
	}
	if !c.mayMail() {
		return
	}
	from, opts, e := c.parseMail(arg)
	c.rejected = true
	if e != nil {
		c.faultErr(e)
		return
	}
	if opts.Size > c.MaxSize {
		c.refuse(mail.ErrTooBig)
		return
	}
	if !c.take("mail", c.gateKey(c.ip), c.Limits.MessageRate) {
		c.refuse(errMailRate)
		return
	}
	if err := c.takeMessage(); err != nil {
		c.refuse(err)
		return
	}
	c.messages++
	c.begin(mail.Source{
		Kind:       c.front.kind,
		ID:         c.NewID(),
		From:       from,
		RemoteIP:   c.ip,
		Helo:       c.helo,
		Protocol:   c.protocol(opts.UTF8),
		TLS:        c.tls,
		Size:       opts.Size,
		UTF8:       opts.UTF8,
		Account:    c.account(),
		RequireTLS: opts.RequireTLS,
		EnvID:      opts.EnvelopeID,
		Return:     string(opts.Return),
		Time:       c.Now(),
	})
}

// begin asks the acceptor.
func (c *conn) begin(src mail.Source) {
	c.tx.id = src.ID // so that a refusal is logged under it
	var tx mail.Transaction
	err := errNoAcceptor
	if c.Acceptor != nil {
		if tx, err = c.Acceptor.Begin(c.txContext(), src); err == nil && tx == nil {
			err = errNilAcceptor
		}
	}
	if err != nil {
		c.refuse(err)
		c.tx = transaction{}
		return
	}
	c.tx = transaction{Transaction: tx, id: src.ID, utf8: src.UTF8}
	c.rejected = false
	c.reply(250, "2.1.0", "OK")
}
