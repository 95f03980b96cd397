package deliver

import (
	"fmt"
	"strings"
	"testing"
	"time"

	miekg "github.com/miekg/dns"

	"postern/internal/dns"
	"postern/internal/dns/dnstest"
	"postern/internal/testkit"
)

// bogus is what a validating server says of an answer that somebody has forged (RFC 4035
// 5.5, RFC 8914).
func bogus(w miekg.ResponseWriter, m *miekg.Msg, _ string) {
	reply := new(miekg.Msg)
	reply.SetRcode(m, miekg.RcodeServerFailure)
	reply.SetEdns0(1232, true)
	e := reply.IsEdns0()
	e.Option = append(e.Option, &miekg.EDNS0_EDE{InfoCode: miekg.ExtendedErrorCodeDNSBogus})
	_ = w.WriteMsg(reply)
}

// another answers another question.
func another(w miekg.ResponseWriter, m *miekg.Msg, _ string) {
	reply := new(miekg.Msg)
	reply.SetReply(m)
	reply.Question[0].Name = "evil.test."
	rr, _ := miekg.NewRR("evil.test. 300 IN A 127.0.0.9")
	reply.Answer = []miekg.RR{rr}
	_ = w.WriteMsg(reply)
}

// TestDNSFaults: a question that has no answer, one that is not for us or one that was
// forged never lets a copy go that an answer might have stopped; and none is given back to
// its sender for that.
func TestDNSFaults(t *testing.T) {
	t.Parallel()
	const noAnswer = "retry 451 4.4.3"
	// What becomes of a copy that may go anyhow, and of one that needs verified TLS, if the
	// host has DANE, if its domain has MTA-STS, and if there is neither.
	type fates struct{ dane, daneStrict, sts, stsStrict, none, noneStrict string }
	all := func(s string) fates { return fates{s, s, s, s, s, s} }
	for qtype, wanted := range map[uint16]fates{
		miekg.TypeMX: all(noAnswer),
		miekg.TypeA:  all(noAnswer),
		// The other family will do.
		miekg.TypeAAAA: {byDANE, byDANE, bySTS, bySTS, unproven, noProofs},
		miekg.TypeTLSA: all(notTried),
		// It is not remembered that the domain has MTA-STS.
		miekg.TypeTXT: {byDANE, byDANE, unproven, notTried, unproven, notTried},
	} {
		for name, manner := range map[string]dnstest.Manner{
			"silence": dnstest.Silence, "garbage": dnstest.Garbage, "bogus": bogus, "another question": another,
			"refused": dnstest.Rcode(miekg.RcodeRefused), "not implemented": dnstest.Rcode(miekg.RcodeNotImplemented),
		} {
			for i, proof := range []string{"dane", "mta-sts", "none"} {
				for j, strict := range []bool{false, true} {
					fate := []string{wanted.dane, wanted.daneStrict, wanted.sts, wanted.stsStrict, wanted.none, wanted.noneStrict}[2*i+j]
					t.Run(fmt.Sprintf("%s to %s, %s, verified %t", name, miekg.TypeToString[qtype], proof, strict), func(t *testing.T) {
						t.Parallel()
						w := newWorld(t)
						w.dns.Secure(true)
						cert := w.ca.issue(t, time.Now().Add(time.Hour), "mx.example.test")
						m := w.mta(1, &testkit.MTA{TLS: config(cert)})
						switch proof {
						case "dane":
							tlsaEE(selectSPKI, matchSHA256)(w, cert)
						case "mta-sts":
							w.policy(enforce)
						}
						w.dns.Set(func(rw miekg.ResponseWriter, q *miekg.Msg, network string) {
							if q.Question[0].Qtype == qtype {
								manner(rw, q, network)
								return
							}
							w.dns.Answer(rw, q, network)
						})
						r, err := dns.New(dns.Options{Servers: []string{w.dns.Addr}, Timeout: 150 * time.Millisecond})
						if err != nil {
							t.Fatal(err)
						}
						t.Cleanup(r.Close)
						w.o.Resolver = r
						want(t, "result", deliver(t, w.carrier(), func(r *Request) { r.VerifiedTLS = strict }), fate)
						if strings.Contains(m.Clear(), canary) || strings.Contains(m.Clear(), "MAIL FROM") {
							t.Error("seen in clear")
						}
						if sent := strings.Contains(m.Secret(), canary); sent != strings.HasPrefix(fate, "delivered") {
							t.Errorf("sent: %v", sent)
						}
					})
				}
			}
		}
	}
}
