package deliver

import (
	"fmt"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/internal/dns"
	"postern/internal/dns/dnstest"
	"postern/internal/testkit"
)

// TestRoute: which server gets the mail for what is in the DNS. Servers 2, 3 and 4 are
// at 127.0.0.2 and so on.
func TestRoute(t *testing.T) {
	t.Parallel()
	var (
		ok      = "delivered 250 2.0.0 none"
		a2, a3  = "two.test. 300 IN A 127.0.0.2", "three.test. 300 IN A 127.0.0.3"
		a4      = "four.test. 300 IN A 127.0.0.4"
		records = func(r ...string) []string { return r }
	)
	for _, c := range []struct {
		name    string
		rcpt    string
		records []string
		change  func(*Options)
		want    string
		server  int // that gets it; 0 is none
	}{
		{"preference", "x@d.test", records(a2, a3, "d.test. 300 IN MX 20 two.test.", "d.test. 300 IN MX 5 three.test."), nil, ok, 3},
		{"next one if the first is down", "x@d.test", records(a2, "down.test. 300 IN A 127.0.0.9", "d.test. 300 IN MX 20 two.test.", "d.test. 300 IN MX 5 down.test."), nil, ok, 2},
		{"next one if the first has no address", "x@d.test", records(a2, "d.test. 300 IN MX 20 two.test.", "d.test. 300 IN MX 5 nowhere.test."), nil, ok, 2},
		{"second address", "x@d.test", records("two.test. 300 IN A 127.0.0.9", a2, "d.test. 300 IN MX 5 two.test."), nil, ok, 2},
		{"IPv6 is down, IPv4 works", "x@d.test", records(a2, "two.test. 300 IN AAAA ::1", "d.test. 300 IN MX 5 two.test."), nil, ok, 2},
		{"implicit MX", "x@two.test", records(a2), nil, ok, 2},
		{"null MX", "x@d.test", records(a2, "d.test. 300 IN MX 0 .", "d.test. 300 IN A 127.0.0.2"), nil, "failed 550 5.1.10", 0},
		{"a null MX among others is none", "x@d.test", records(a2, "d.test. 300 IN MX 0 .", "d.test. 300 IN MX 1 two.test."), nil, ok, 2},
		{"no such domain", "x@nowhere.test", nil, nil, "failed 550 5.1.2", 0},
		{"neither MX nor address", "x@d.test", records("d.test. 300 IN TXT x"), nil, "failed 550 5.4.4", 0},
		{"only MX without address", "x@d.test", records("d.test. 300 IN MX 5 nowhere.test."), nil, "failed 550 5.4.4", 0},
		{"alias", "x@d.test", records(a2, "d.test. 300 IN CNAME e.test.", "e.test. 300 IN MX 5 two.test."), nil, ok, 2},
		{"address literal", "x@[127.0.0.2]", nil, nil, ok, 2},
		{"bad literal", "x@[nonsense]", nil, nil, "failed 550 5.1.2", 0},
		{"literal, IPv6, nobody there", "x@[IPv6:::1]", nil, nil, "retry 451 4.4.1", 0},
		{"we are the best", "x@d.test", records(a2, "d.test. 300 IN MX 5 us.sender.test.", "d.test. 300 IN MX 20 two.test."), nil, "failed 550 5.4.6", 0},
		{"we are one of the best", "x@d.test", records(a2, "d.test. 300 IN MX 5 US.sender.test.", "d.test. 300 IN MX 5 two.test."), nil, "failed 550 5.4.6", 0},
		{"we are the backup", "x@d.test", records(a2, a3, "d.test. 300 IN MX 20 alias.test.", "d.test. 300 IN MX 20 two.test.", "d.test. 300 IN MX 5 three.test."),
			func(o *Options) { o.Names = []string{"alias.test"} }, ok, 3},
		{"a server that calls itself as we do", "x@four.test", records(a4), func(o *Options) { o.Hostname = "mx.four.test" }, "failed 550 5.4.6 none", 0},
		{"private addresses", "x@two.test", records(a2, "two.test. 300 IN AAAA fd00::1"), func(o *Options) { o.AllowPrivate = false }, "failed 550 5.4.4", 0},
		{"private literal", "x@[127.0.0.2]", nil, func(o *Options) { o.AllowPrivate = false }, "failed 550 5.4.4", 0},
		{"route", "x@d.test", records(a2, a3, "d.test. 300 IN MX 5 two.test."), func(o *Options) {
			o.AllowPrivate = false
			o.Routes = []Route{{Domain: "*", Host: "two.test"}, {Domain: "D.test", Host: "three.test"}}
		}, ok, 3},
		{"route of all", "x@d.test", records(a2), func(o *Options) { o.Routes = []Route{{Domain: "*", Host: "127.0.0.2"}} }, ok, 2},
		{"no answer from DNS", "x@servfail.test", nil, nil, "retry 451 4.4.3", 0},
		{"no answer for the host", "x@d.test", records("d.test. 300 IN MX 5 servfail.test."), nil, "retry 451 4.4.3", 0},
		{"no answer for one family", "x@d.test", records("noaaaa.test. 300 IN A 127.0.0.2", "d.test. 300 IN MX 5 noaaaa.test."), nil, ok, 2},
		{"one unknown, one without address", "x@d.test", records("d.test. 300 IN MX 9 nowhere.test.", "d.test. 300 IN MX 5 servfail.test."), nil, "retry 451 4.4.3", 0},
		{"too many addresses", "x@d.test", records("d.test. 300 IN MX 5 two.test.", "two.test. 300 IN A 127.0.0.9", "two.test. 300 IN A 127.0.0.10",
			"two.test. 300 IN A 127.0.0.11", "two.test. 300 IN A 127.0.0.12", a2), nil, "retry 451 4.4.1", 0},
		{"too many hosts", "x@d.test", append(many(12), "d.test. 300 IN MX 90 two.test.", a2), nil, "failed 550 5.4.4", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, c.records...)
			w.dns.Set(func(rw miekg.ResponseWriter, m *miekg.Msg, network string) {
				q := m.Question[0]
				if q.Name == "servfail.test." || q.Name == "noaaaa.test." && q.Qtype == miekg.TypeAAAA {
					dnstest.Rcode(miekg.RcodeServerFailure)(rw, m, network)
					return
				}
				w.dns.Answer(rw, m, network)
			})
			servers := map[int]*testkit.MTA{}
			for n := 2; n <= 4; n++ {
				servers[n] = w.mta(n, &testkit.MTA{Name: map[bool]string{true: "MX.four.test", false: "mx.other.test"}[n == 4]})
			}
			if c.change != nil {
				c.change(&w.o)
			}
			r := w.carrier().Deliver(t.Context(), request(c.rcpt))[0]
			want(t, "result", brief(r), c.want)
			for n, s := range servers {
				if got := len(s.Messages()); got != 0 && n != c.server || got != 1 && n == c.server {
					t.Errorf("server %d got %d messages (%s)", n, got, r.Text)
				}
				if c.want == "failed 550 5.4.4" && s.Connections() > 0 {
					t.Errorf("server %d was connected to", n)
				}
			}
		})
	}
}

// many are hosts without an address.
func many(n int) (records []string) {
	for i := range n {
		records = append(records, fmt.Sprintf("d.test. 300 IN MX 5 nowhere-%d.test.", i))
	}
	return records
}

// TestRouteShuffle: hosts of equal preference share the load.
func TestRouteShuffle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "d.test. 300 IN MX 5 a.test.", "d.test. 300 IN MX 5 b.test.", "d.test. 300 IN MX 9 c.test.")
	c := w.carrier()
	first := map[string]int{}
	for range 200 {
		d := &delivery{Carrier: c, Request: Request{Domain: "d.test"}, ctx: t.Context()}
		hops, f := d.route()
		if f != nil || len(hops) != 3 || hops[2].host != "c.test" {
			t.Fatalf("%v, %v", hops, f)
		}
		first[hops[0].host]++
	}
	if len(first) != 2 {
		t.Errorf("always first: %v", first)
	}
}

// TestDeadResolver: without an answer nothing is known, so nothing fails for good. The
// answers of a server that does not validate are worth nothing where one should.
func TestDeadResolver(t *testing.T) {
	t.Parallel()
	strict, loose := dnstest.Start(t), dnstest.Start(t, "example.test. 300 IN A 127.0.0.1")
	strict.Set(dnstest.Silence)
	for name, o := range map[string]dns.Options{
		"silence":            {Servers: []string{strict.Addr}},
		"only the other one": {Servers: []string{strict.Addr, loose.Addr}, Validating: []string{strict.Addr}},
	} {
		w := newWorld(t)
		o.Timeout = 50 * time.Millisecond
		r, err := dns.New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		w.o.Resolver = r
		want(t, name, deliver(t, w.carrier()), "retry 451 4.4.3")
	}
}
