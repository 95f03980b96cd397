package deliver

import (
	"errors"
	"fmt"
	"net"
)

// transaction carries the copy to some recipients. It settles all of them and returns
// nil; or the failure of those it did not settle, to whom nothing of the content was
// sent. Recipients that were too many for the server stay pending if others were not.
func (s *session) transaction(d *delivery, batch []int) *failure {
	s.used++
	mailLine, f := s.mailLine(d)
	if f != nil {
		return f
	}
	t := &transaction{session: s, d: d}
	if s.ext.pipelining {
		if f := t.group(mailLine, batch); f != nil {
			return f
		}
	}
	r, err := t.step(mailLine)
	if err != nil {
		return s.lost("answer MAIL", err)
	}
	if !r.good() {
		s.broken = s.ext.pipelining // there are more replies on their way
		f := &failure{Result: r.result()}
		f.final = f.Status == Failed
		return f
	}
	if f := t.recipients(batch); f != nil {
		return f
	}
	if len(t.accepted) == 0 {
		t.nobody()
		return nil
	}
	return t.content()
}

// transaction is one of them.
type transaction struct {
	*session
	d        *delivery
	accepted []int
	crowded  []crowded
}

// crowded is a recipient that was one too many for the transaction.
type crowded struct {
	recipient int
	Result
}

// group sends all commands that may go together (RFC 2920 3.1).
func (t *transaction) group(mailLine string, batch []int) *failure {
	t.within(t.c.Timeouts.Command)
	t.write(mailLine)
	for _, i := range batch {
		t.write(t.rcptLine(t.d, i))
	}
	if !t.ext.chunking {
		t.write("DATA")
	}
	if err := t.bw.Flush(); err != nil {
		return t.lost("take the next message", err)
	}
	return nil
}

// step does one command, or reads the reply to it if it went with the group.
func (t *transaction) step(line string) (reply, error) {
	if !t.ext.pipelining {
		return t.command(line)
	}
	t.within(t.c.Timeouts.Command)
	return readReply(t.br)
}

// recipients does RCPT for each.
func (t *transaction) recipients(batch []int) *failure {
	for _, i := range batch {
		r, err := t.step(t.rcptLine(t.d, i))
		if err != nil {
			return t.lost("answer RCPT", err)
		}
		switch {
		case r.good():
			t.accepted = append(t.accepted, i)
		case r.code == 421: // RFC 5321 3.8: it closes the connection
			t.broken = true
			return &failure{Result: r.result()}
		case tooMany(r):
			late := r.result()
			late.Status = Retry
			t.crowded = append(t.crowded, crowded{i, t.mark(late)})
		default:
			t.d.settle(i, t.mark(r.result()))
		}
	}
	if len(t.accepted) == 0 {
		for _, c := range t.crowded {
			t.d.settle(c.recipient, c.Result)
		}
	}
	return nil
}

// tooMany says that a recipient was one too many for this transaction (RFC 5321
// 4.5.3.1.10), for which old servers say 552.
func tooMany(r reply) bool {
	switch r.code {
	case 452:
		return r.enhanced == "4.5.3" || r.enhanced == "4.0.0"
	case 552:
		return r.enhanced == "5.5.3" || r.enhanced == "5.0.0"
	}
	return false
}

// mark names the connection in a result, and the host if it is the host's word.
func (s *session) mark(r Result) Result {
	if r.TLS = s.label; r.said {
		r.Host = s.host
	}
	return r
}

// all gives those who were accepted the same result.
func (t *transaction) all(r Result) {
	for _, i := range t.accepted {
		t.d.settle(i, t.mark(r))
	}
}

// nobody ends a transaction in which no recipient was accepted. If DATA was sent with
// the group and is answered all the same, the message is empty (RFC 2920 3.1).
func (t *transaction) nobody() {
	t.spent = true
	if !t.ext.pipelining || t.ext.chunking {
		return
	}
	r, err := t.step("DATA")
	if err == nil && r.code == 354 {
		_, err = t.command(".")
	}
	t.broken = err != nil
}

// content sends the message. From its first octet on nobody else may get it in this
// attempt: who was accepted is settled.
func (t *transaction) content() *failure {
	if !t.ext.chunking {
		r, err := t.step("DATA")
		switch {
		case err != nil:
			return t.lost("answer DATA", err)
		case r.code == 421:
			t.broken = true
			return &failure{Result: r.result()}
		case r.code != 354:
			t.spent = true
			t.all(r.result())
			return nil
		}
	}
	if t.br.Buffered() > 0 {
		// Whatever it is, it would be taken for the reply to the content.
		t.spent, t.broken = true, true
		return later("4.5.0", "mail server %s answers out of step", t.host).because(errReply)
	}
	if r, err := t.send(); err != nil {
		t.unsent(r, err)
		return nil
	}
	t.within(t.c.Timeouts.Final)
	r, err := readReply(t.br)
	if err != nil {
		f := t.lost("acknowledge the message", err)
		f.Text += "; it may have taken it all the same"
		t.all(f.Result)
		return nil
	}
	result := r.result()
	if r.good() {
		result = Result{Status: Delivered, Code: r.code, Enhanced: r.enhanced, Text: r.text(), DSN: t.ext.dsn, said: true}
	}
	t.spent = t.spent || r.code == 421
	t.all(result)
	return nil
}

// send opens the copy and sends it.
func (t *transaction) send() (reply, error) {
	content, err := t.d.Open(t.d.ctx)
	if err != nil {
		return reply{}, readError{fmt.Errorf("open the copy: %w", err)}
	}
	defer content.Close()
	if t.ext.chunking {
		return t.sendChunks(content)
	}
	return reply{}, t.sendData(content)
}

// unsent settles those who were accepted when the content did not get through. The
// server must not take what it has for the message: the connection is closed as it is.
func (t *transaction) unsent(refusal reply, err error) {
	var (
		reading readError
		timeout net.Error
	)
	switch {
	case errors.Is(err, errRefused):
		t.all(refusal.result())
	case errors.Is(err, errContent):
		t.all(never("5.6.0", "the message has a bare CR, a bare LF or NUL, which must not be sent (RFC 5321 2.3.8)").Result)
	case errors.As(err, &reading):
		t.all(later("4.3.0", "the message cannot be read here").Result)
	case errors.As(err, &timeout) && timeout.Timeout():
		t.all(t.lost("take the content", err).Result)
	default:
		t.all(t.lastWords(err))
	}
	t.spent, t.broken = true, true
}

// lastWords is what a server said before it stopped reading, if it did.
func (t *transaction) lastWords(err error) Result {
	t.within(t.c.Timeouts.Quit)
	if r, failed := readReply(t.br); failed == nil && r.code >= 400 {
		return r.result()
	}
	return t.lost("take the content", err).Result
}
