package deliver

import (
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/internal/testkit"
)

// TestUnreached: what the queue may take for the state of a domain, and what is about
// one message alone.
func TestUnreached(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		mta      *testkit.MTA // nil: nobody listens
		prepare  func(w *world)
		ordinary bool // a copy that asks for nothing is not reached
		strict   bool // the same with VerifiedTLS
	}{
		{name: "nobody listens", prepare: func(w *world) { w.l.Close() }, ordinary: true},
		{name: "no answer of the DNS", mta: &testkit.MTA{}, prepare: func(w *world) { w.dns.Set(failing(w.dns, miekg.TypeMX)) }, ordinary: true, strict: true},
		{name: "no greeting", mta: &testkit.MTA{Stage: at("connect", hang)}, ordinary: true},
		{name: "hangs up", mta: &testkit.MTA{Stage: at("connect", hangUp)}, ordinary: true},
		{name: "unwelcome", mta: &testkit.MTA{Stage: at("connect", say("554 5.7.1 go away\r\n"))}, ordinary: true},
		{name: "EHLO refused", mta: &testkit.MTA{Stage: at("EHLO", say("451 4.3.2 not now\r\n"))}, ordinary: true},
		{name: "MAIL refused", mta: &testkit.MTA{Stage: at("MAIL", say("451 4.3.2 not now\r\n"))}},
		{name: "RCPT refused", mta: &testkit.MTA{Stage: at("RCPT", say("450 4.2.0 greylisted\r\n"))}},
		{name: "hangs up at the end", mta: &testkit.MTA{Stage: at("end", hangUp)}},
		{name: "no TLS under enforce", mta: &testkit.MTA{}, prepare: func(w *world) { w.policy(enforce) }, ordinary: true},
		{name: "another host under enforce", mta: &testkit.MTA{}, prepare: func(w *world) {
			w.policy("version: STSv1\nmode: enforce\nmx: other.example.test\nmax_age: 100\n")
		}, ordinary: true},
		{name: "our own memory fails", mta: &testkit.MTA{}, prepare: func(w *world) { w.o.Policies = brokenCache{} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.o.Timeouts.Greeting = 300 * time.Millisecond
			if c.mta != nil {
				w.mta(1, c.mta)
			}
			if c.prepare != nil {
				c.prepare(w)
			}
			carrier := w.carrier()
			for strict, wanted := range map[bool]bool{false: c.ordinary, true: c.strict} {
				r := request(alice)
				r.VerifiedTLS = strict
				got := carrier.Deliver(t.Context(), r)[0]
				if got.Status == Delivered || got.Unreached != wanted || got.Unreached && got.Status != Retry {
					t.Errorf("verified %t: %+v", strict, got)
				}
			}
		})
	}
}

// TestLoopInClear: that the other side is us is believed of whoever has proven to be the
// host; else whoever is on the way could have mail given back for good.
func TestLoopInClear(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mta(1, &testkit.MTA{Name: "us.sender.test"})
	want(t, "nothing published", deliver(t, w.carrier()), "failed 550 5.4.6 none")
	w.policy(enforce)
	w.dns.Add(t, "other.test. 300 IN MX 1 mx.example.test.")
	want(t, "enforce", deliver(t, w.carrier()), "retry 451 4.4.6 none")
}
