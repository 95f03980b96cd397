package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// udpSize is what we tell servers to send at most in a datagram: what passes
// everywhere without fragments (RFC 9715).
const udpSize = 1232

// maxRecords bounds what is taken of one answer.
const maxRecords = 100

// failure is how a look-up failed.
type failure uint8

const (
	answered failure = iota // there are records, or there certainly are none
	servfail                // the server is there but has no answer
	silent                  // nothing, or nothing that is an answer to us
)

// outcome is what became of a question. answer is nil if it failed.
type outcome struct {
	failure failure
	text    string // of a failure: our words
	answer  *Answer
	ttl     time.Duration
	server  int
}

// tries is how often a question is asked.
const tries = 2

// ask puts q to the preferred server, and once more, to another if there is one,
// if that fails. A failure that a validating server reports may be a forgery that
// it found, so the word of one that does not validate is not taken instead.
func (r *Resolver) ask(q question, prefer int) outcome {
	var o outcome
	edns, server := true, prefer
	for range tries {
		reply, err := r.exchange(q, r.servers[server], edns)
		if err != nil {
			o = outcome{failure: silent, text: "name server does not answer"}
		} else {
			o = read(q, reply, r.servers[server].validates)
			// RFC 6891 7: a server that does not know EDNS says so.
			edns = reply.Rcode != dns.RcodeFormatError && reply.Rcode != dns.RcodeNotImplemented
		}
		o.server = server
		if o.failure == answered || r.ctx.Err() != nil {
			break
		}
		next := r.peer(server)
		if next == server && server < r.validating && r.validating < len(r.servers) && o.failure == silent {
			next = r.validating
		}
		if o.failure == servfail && next == server {
			break // it has tried; once more would only double its load
		}
		server = next
	}
	return o
}

// peer is the server after this one among those that validate, or those that do
// not; the same one if there is no other.
func (r *Resolver) peer(server int) int {
	if server < r.validating {
		return (server + 1) % r.validating
	}
	return r.validating + (server-r.validating+1)%(len(r.servers)-r.validating)
}

// afterFailure is the server that is preferred after the last try at this one was
// in vain. It validates, if any does.
func (r *Resolver) afterFailure(server int) int {
	if r.validating > 0 && server >= r.validating {
		server = r.prefer
	}
	return r.peer(server)
}

// exchange asks one server, by UDP and, if the answer is truncated, by TCP.
func (r *Resolver) exchange(q question, s server, edns bool) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(q.name), q.qtype) // random id
	// Signatures make answers long, and are of use only where somebody checks them.
	m.AuthenticatedData = s.validates // RFC 6840 5.7: we understand AD
	if edns {
		m.SetEdns0(udpSize, s.validates)
	}
	reply, err := roundTrip(ctx, "udp", s.addr, m)
	if err == nil && reply.Truncated {
		reply, err = roundTrip(ctx, "tcp", s.addr, m)
	}
	return reply, err
}

var errNotAnAnswer = errors.New("reply does not answer the question")

// roundTrip sends m on a socket of its own, which has a random port.
func roundTrip(ctx context.Context, network, server string, m *dns.Msg) (*dns.Msg, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, server)
	if err != nil {
		return nil, fmt.Errorf("connect to name server: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := &dns.Conn{Conn: conn, UDPSize: udpSize}
	if err := c.WriteMsg(m); err != nil {
		return nil, fmt.Errorf("send question: %w", err)
	}
	for {
		reply, err := c.ReadMsg()
		if err != nil {
			return nil, fmt.Errorf("read reply: %w", err)
		}
		if reply.Id != m.Id && network == "udp" {
			continue // perhaps somebody guesses; the real one may still come
		}
		if !answers(reply, m) {
			return nil, errNotAnAnswer
		}
		return reply, nil
	}
}

// answers reports whether reply is one to m. A server may leave the question out
// when it reports an error (RFC 6891 7).
func answers(reply, m *dns.Msg) bool {
	if reply.Id != m.Id || !reply.Response || reply.Opcode != dns.OpcodeQuery {
		return false
	}
	if len(reply.Question) == 0 {
		return reply.Rcode == dns.RcodeFormatError || reply.Rcode == dns.RcodeNotImplemented ||
			reply.Rcode == dns.RcodeRefused || reply.Rcode == dns.RcodeServerFailure
	}
	got, want := reply.Question[0], m.Question[0]
	return len(reply.Question) == 1 && got.Qtype == want.Qtype && got.Qclass == want.Qclass &&
		strings.EqualFold(got.Name, want.Name)
}

// read takes the records out of a reply. Its AD bit counts only if the server is
// trusted to validate.
func read(q question, reply *dns.Msg, validates bool) outcome {
	switch reply.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	case dns.RcodeServerFailure:
		return outcome{failure: servfail, text: servfailText(reply)}
	default:
		return outcome{failure: silent, text: "name server refuses"}
	}
	if reply.Truncated { // even by TCP
		return outcome{failure: servfail, text: "answer is truncated"}
	}
	a, ttl := records(q, reply.Answer)
	a.Validated = validates
	a.Secure = validates && reply.AuthenticatedData
	if reply.Rcode == dns.RcodeNameError {
		a.NXDomain, a.Records = true, nil
		a.forms = new(forms)
	}
	if a.size() > q.limit() {
		return outcome{failure: servfail, text: "answer is too large"}
	}
	if len(a.Records) == 0 {
		a.forms.none = notFound(q.name)
		ttl = min(ttl, negativeTTL(reply.Ns)) // no longer than the aliases
	}
	return outcome{answer: a, ttl: ttl}
}

// servfailText tells a forgery or an expired signature from a broken server, where
// the server says which it is (RFC 8914).
func servfailText(reply *dns.Msg) string {
	if edns := reply.IsEdns0(); edns != nil {
		for _, o := range edns.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok && e.InfoCode >= dns.ExtendedErrorCodeDNSSECIndeterminate &&
				e.InfoCode <= dns.ExtendedErrorCodeNSECMissing {
				return "SERVFAIL: DNSSEC validation failed"
			}
		}
	}
	return "SERVFAIL"
}

// records collects the records of q, along the aliases that lead to them. The
// lifetime is the shortest on the way.
func records(q question, rrs []dns.RR) (*Answer, time.Duration) {
	name, a := dns.Fqdn(q.name), &Answer{forms: new(forms)}
	ttl := uint32(maxPositive / time.Second)
	for _, rr := range rrs { // servers send aliases in their order (RFC 1034 4.3.2)
		h := rr.Header()
		if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, name) || len(a.Records) == maxRecords {
			continue
		}
		if alias, ok := rr.(*dns.CNAME); ok && q.qtype != dns.TypeCNAME {
			name = alias.Target
		} else if h.Rrtype != q.qtype {
			continue
		} else {
			a.add(rr)
		}
		ttl = min(ttl, h.Ttl)
	}
	a.Name = strings.ToLower(strings.TrimSuffix(name, "."))
	return a, time.Duration(ttl) * time.Second
}

// negativeTTL is how long "there is none" holds (RFC 2308 5): not at all without
// a SOA record, for which the lower bound is taken.
func negativeTTL(authority []dns.RR) time.Duration {
	for _, rr := range authority {
		if soa, ok := rr.(*dns.SOA); ok {
			return time.Duration(min(soa.Minttl, soa.Hdr.Ttl)) * time.Second
		}
	}
	return 0
}
