package deliver

import (
	"context"
	"fmt"

	"postern/internal/mail"
)

// failure is why something did not work, in the words of a Result.
type failure struct {
	Result
	// final says that no other host would do better.
	final bool
	cause error
}

func (f *failure) Error() string {
	return fmt.Sprintf("%d %s %s", f.Code, f.Enhanced, f.Text)
}

func (f *failure) Unwrap() error { return f.cause }

// orNil keeps a nil failure from becoming an error that is not nil.
func (f *failure) orNil() error {
	if f == nil {
		return nil
	}
	return f
}

// later is a failure that may pass.
func later(enhanced, format string, args ...any) *failure {
	return &failure{Result: Result{Status: Retry, Code: 451, Enhanced: enhanced, Text: clean(fmt.Sprintf(format, args...))}}
}

// never is one that does not. It still gives other hosts their turn.
func never(enhanced, format string, args ...any) *failure {
	return &failure{Result: Result{Status: Failed, Code: 550, Enhanced: enhanced, Text: clean(fmt.Sprintf(format, args...))}}
}

// last makes a failure one that no other host would do better.
func (f *failure) last() *failure {
	f.final = true
	return f
}

func (f *failure) because(err error) *failure {
	f.cause = err
	return f
}

// at names the connection that a failure was met on.
func (f *failure) at(s *session) *failure {
	f.Result = s.mark(f.Result)
	return f
}

// delivery is one Deliver.
type delivery struct {
	*Carrier
	Request
	ctx     context.Context
	results []Result

	from     string   // as it is written into MAIL
	rcpts    []string // as they are written into RCPT
	utf8     bool
	pending  []int // recipients that have no result yet
	noted    *failure
	tried    int
	reached  bool          // a host was ready for a transaction
	own      bool          // what went wrong may be due to this copy's own wishes, or to us
	policy   *domainPolicy // of the domain, once it was asked for
	mismatch bool          // a host did not keep the policy
}

// verified says that the copy must not go over anything weaker than verified TLS.
func (d *delivery) verified() bool { return d.VerifiedTLS || d.RequireTLS }

func (d *delivery) run() {
	d.readEnvelope()
	if len(d.pending) == 0 {
		return
	}
	hops, f := d.route()
	if f != nil {
		d.rest(f)
		return
	}
	d.overHops(hops)
	if len(d.pending) > 0 && d.mismatch && d.renewPolicy() {
		d.noted = nil
		d.overHops(hops)
	}
	if d.noted == nil {
		d.noted = later("4.4.1", "no mail server of the domain could be tried")
	}
	d.rest(d.noted)
}

// readEnvelope checks the addresses: what is no address could be more commands.
func (d *delivery) readEnvelope() {
	d.utf8 = d.UTF8
	d.rcpts = make([]string, len(d.Rcpts))
	if d.From != "" {
		a, err := mail.ParseAddress(d.From)
		if err != nil {
			d.pending = everyone(len(d.Rcpts))
			d.rest(never("5.1.7", "the sender's address cannot be read"))
			return
		}
		d.from = a.String()
		d.utf8 = d.utf8 || !ascii(d.from)
	}
	for i, r := range d.Rcpts {
		a, err := mail.ParseAddress(r.Address)
		if err != nil || a.IsNull() {
			d.results[i] = never("5.1.3", "the recipient's address cannot be read").Result
			continue
		}
		d.rcpts[i] = a.String()
		d.utf8 = d.utf8 || !ascii(d.rcpts[i])
		d.pending = append(d.pending, i)
	}
}

func everyone(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// settle gives one recipient its result.
func (d *delivery) settle(i int, r Result) {
	d.results[i] = r
	for at, p := range d.pending {
		if p == i {
			d.pending = append(d.pending[:at:at], d.pending[at+1:]...)
			return
		}
	}
}

// rest gives all that are pending the same result.
func (d *delivery) rest(f *failure) {
	for _, i := range d.pending {
		d.results[i] = f.Result
	}
	d.pending = nil
}

// note remembers why a host was in vain. What may pass is the better news.
func (d *delivery) note(f *failure) {
	if f.final {
		d.rest(f)
		return
	}
	if d.noted == nil || d.noted.Status == Failed || f.Status == Retry {
		d.noted = f
	}
}

// overHops tries one host after the other until nobody is pending.
func (d *delivery) overHops(hops []hop) {
	for _, h := range hops {
		if len(d.pending) == 0 {
			return
		}
		if d.ctx.Err() != nil {
			d.note(later("4.4.7", "the time for this attempt is over"))
			return
		}
		d.overHost(h)
	}
}

// overHost tries a connection that is there, and then one address after the other.
func (d *delivery) overHost(h hop) {
	found, f := d.addresses(h)
	if f != nil {
		d.note(f)
		return
	}
	p, f := d.plan(h, found)
	if f != nil {
		d.own = d.own || d.verified()
		d.note(f)
		return
	}
	if s := d.pool.take(p.key); s != nil {
		if f := d.over(s); f == nil || f.final {
			if d.reached = true; f != nil {
				d.rest(f)
			}
			return
		} // it may only have grown old: a fresh one decides
	}
	for _, a := range found.list {
		if d.tried >= maxTried || d.ctx.Err() != nil {
			return
		}
		d.tried++
		s, f := d.connect(h, a, p)
		if f == nil {
			d.reached = true
			f = d.over(s)
		}
		if f == nil {
			return
		}
		if d.note(f); len(d.pending) == 0 {
			return
		}
	}
}

// over carries the copy to all who are pending over one connection, in batches. A
// failure is for those who are still pending then, none of whom was sent content.
func (d *delivery) over(s *session) *failure {
	if !s.bind(d.ctx) {
		s.drop()
		return later("4.4.7", "the time for this attempt is over")
	}
	for len(d.pending) > 0 {
		n := min(len(d.pending), s.ext.rcptMax)
		batch := append([]int(nil), d.pending[:n]...)
		if f := s.transaction(d, batch); f != nil {
			s.end()
			return f.at(s)
		}
		if s.spent || s.used >= d.MaxMessages {
			s.end()
			if len(d.pending) == 0 {
				return nil
			}
			return later("4.4.2", "the connection ended between two transactions").at(s)
		}
	}
	d.keep(s)
	return nil
}
