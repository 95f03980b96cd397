package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"postern/internal/admin"
	"postern/internal/device"
	"postern/internal/message"
)

// Those whom alice writes to: bob, whose certificate she has, and two without one.
const (
	keyless = "carol@elsewhere.test"
	partner = "dave@partner.test"
)

// rules are the demo's policy.toml.
const rules = `# Mail to partners is encrypted or does not go.
[[rule]]
name = "partners"
when = 'recipient_domain == "partner.test"'
floor = "sealed"
refuse = "mail to partners goes encrypted or not at all, and there is no certificate"

[[example]]
name = "a partner without a certificate"
facts = { recipient = "dave@partner.test" }
expect = { level = "refused" }
`

const (
	// subject is that of the mail that alice sends.
	subject = "Where the owls meet tonight"
	// patience is how long a delivery on loopback may take.
	patience = 30 * time.Second
)

// manage does what the command line does, beside the running server as it would.
func (d *demo) manage(ctx context.Context, do func(*admin.Admin) error) error {
	a, err := admin.Open(ctx, d.setup.Config)
	if err != nil {
		return err
	}
	return errors.Join(do(a), a.Close())
}

// explain pins bob's certificate and asks what would become of mail to each.
func (d *demo) explain(ctx context.Context) error {
	d.title(7, "Alice wants to write. Bob gave her his certificate: the server pins it, and says what would become of her mail.")
	var err error
	if d.bob, err = device.NewKey(sender, time.Now()); err != nil {
		return err
	}
	d.printf("   The demo has no DNS: nobody is asked but what was pinned and what mail taught (Autocrypt), so that it is certain\n" +
		"   who has no certificate. While a source does not answer nobody knows, and mail waits.\n")
	d.printf("   $ postern cert pin %s bob.asc\n   $ postern explain --from %s %s %s %s\n", sender, owner, sender, keyless, partner)
	var list admin.Explanations
	err = d.manage(ctx, func(a *admin.Admin) (err error) {
		if _, err = a.PinCertificate(ctx, sender, d.bob.Certificate); err == nil {
			list, err = a.Explain(ctx, owner, []string{sender, keyless, partner})
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := d.show(list); err != nil {
		return err
	}
	for i, want := range []string{"sealed", "clear", "refused"} {
		d.check(list[i].Decision.Level == want, "%s: %s", list[i].Address, list[i].Decision.Level)
	}
	return nil
}

// submit sends one mail to bob and carol, and one to dave, by the submission port.
func (d *demo) submit(context.Context) error {
	d.title(8, "Alice's mail program submits: STARTTLS, her password, one mail to bob and carol, and one to dave.")
	trust, err := d.trust()
	if err != nil {
		return err
	}
	c, err := smtp.DialStartTLS(d.running.Addrs.Submission.String(), trust)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", owner, d.setup.Password)); err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	said := submitted(c, sender, keyless)
	d.check(strings.Contains(said, "1 sealed, 1 insecure ("+keyless+")"), "to bob and carol: %s", said)
	said = submitted(c, partner)
	d.check(strings.HasPrefix(said, "550 5.7.5 "), "to dave: %s", said)
	return c.Quit()
}

// submitted sends one mail of alice's and returns what the server says to it.
func submitted(c *smtp.Client, to ...string) string {
	text := lines("From: Alice <"+owner+">", "To: "+strings.Join(to, ", "), "Subject: "+subject,
		"MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "", "At the old bridge, where "+canary+".")
	err := c.Mail(owner, nil)
	for _, rcpt := range to {
		if err == nil {
			err = c.Rcpt(rcpt, nil)
		}
	}
	if err != nil {
		return reply(err)
	}
	w, err := c.Data()
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err != nil {
		return reply(err)
	}
	r, err := w.CloseWithResponse()
	if err != nil {
		return reply(err)
	}
	return "250 " + r.StatusText
}

// reply is a refusal as the server wrote it.
func reply(err error) string {
	var said *smtp.SMTPError
	if !errors.As(err, &said) {
		return err.Error()
	}
	e := said.EnhancedCode
	return fmt.Sprintf("%d %d.%d.%d %s", said.Code, e[0], e[1], e[2], said.Message)
}

// wait looks at the queue while the world says "not now".
func (d *demo) wait(ctx context.Context) error {
	d.title(9, "The other server says \"not now\", as many do at first: the mail waits.")
	var queue admin.Queue
	err := d.until(ctx, "everything in the queue was tried", func(a *admin.Admin) (tried bool, err error) {
		queue, err = a.Queue(ctx, admin.QueueSelection{All: true})
		tried = len(queue) > 0
		for _, r := range queue {
			tried = tried && r.State == "waiting" && r.Attempts > 0
		}
		return tried, err
	})
	if err != nil {
		return err
	}
	d.printf("   $ postern queue list\n")
	if err := d.show(queue); err != nil {
		return err
	}
	d.check(len(queue) == 2, "bob's copy and carol's wait, and nothing else")
	return d.search("what is to go in clear waits encrypted")
}

// search looks for the words and the subject in all that the server has.
func (d *demo) search(so string) error {
	f, err := d.scan(canary, subject)
	if err != nil {
		return err
	}
	d.check(f.words == 0, "the words and the subject are in none of the server's %d files: %s", f.files, so)
	return nil
}

// deliver lets the world take mail, and the queue try again.
func (d *demo) deliver(ctx context.Context) error {
	d.title(10, "Now it takes mail, and the queue tries again.")
	d.world.admit()
	d.printf("   $ postern queue retry --all\n")
	err := d.manage(ctx, func(a *admin.Admin) error {
		_, err := a.RetryQueue(ctx, admin.QueueSelection{All: true})
		return err
	})
	if err != nil {
		return err
	}
	err = d.until(ctx, "the queue is empty", func(a *admin.Admin) (bool, error) {
		left, err := a.Queue(ctx, admin.QueueSelection{All: true})
		return len(left) == 0, err
	})
	if err != nil {
		return err
	}
	d.check(true, "the queue is empty")
	return d.search("afterwards too")
}

// arrived looks at what the world got for each.
func (d *demo) arrived(context.Context) error {
	d.title(11, "What has come to the other server.")
	sealed, marked := d.world.mailTo(sender), d.world.mailTo(keyless)
	outside, _, err := message.ParseHeader(sealed)
	d.check(err == nil && message.MediaType(outside) == "multipart/encrypted" && !containsAny(sealed, needles(canary, subject)),
		"for bob: %s, subject %q, nothing in clear", message.MediaType(outside), outside.Get("Subject"))
	if o, err := device.Open(bytes.NewReader(sealed), d.bob.Secret, nil, nil); err != nil {
		d.check(false, "bob's device: %v", err)
	} else {
		inside, _, err := message.ParseHeader(o.Original)
		d.check(err == nil && inside.Get("Subject") == subject && bytes.Contains(o.Original, []byte(canary)),
			"bob's device opens it: subject %q, and the words", inside.Get("Subject"))
	}
	h, _, err := message.ParseHeader(marked)
	d.check(err == nil && strings.HasPrefix(h.Get("Postern-Delivery"), "insecure; ") && bytes.Contains(marked, []byte(canary)),
		"for carol: in clear, and marked: Postern-Delivery: %s", h.Get("Postern-Delivery"))
	d.check(d.world.mailTo(partner) == nil, "for dave: nothing")
	return nil
}

// until looks again and again whether something is true, which the running server takes
// a moment for.
func (d *demo) until(ctx context.Context, what string, is func(*admin.Admin) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return d.manage(ctx, func(a *admin.Admin) error {
		for {
			if yes, err := is(a); yes || err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("it did not come true that %s: %w", what, ctx.Err())
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
}

// show prints what a command of the command line prints, indented.
func (d *demo) show(result interface{ WriteText(io.Writer) error }) error {
	var b strings.Builder
	err := result.WriteText(&b)
	for line := range strings.Lines(b.String()) {
		d.printf("%s\n", strings.TrimRight("   "+line, " \n"))
	}
	return err
}
