package msgauth

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

// outcome is what became of a question. answer is nil if there is no record.
type outcome struct {
	failure failure
	text    string // of a failure: our words
	answer  *answer
	ttl     time.Duration
	server  int
}

// tries is how often a question is asked.
const tries = 2

// ask puts q to the preferred server, and once more, to the next if there is
// another, if that fails.
func (r *CachingResolver) ask(q question, prefer int) outcome {
	var o outcome
	edns := true
	for try := range tries {
		server := (prefer + try) % len(r.servers)
		reply, err := r.exchange(q, r.servers[server], edns)
		if err != nil {
			o = outcome{failure: silent, text: "name server does not answer"}
		} else {
			o = read(q, reply)
			// RFC 6891 7: a server that does not know EDNS says so.
			edns = reply.Rcode != dns.RcodeFormatError && reply.Rcode != dns.RcodeNotImplemented
		}
		o.server = server
		if o.failure == answered || r.ctx.Err() != nil {
			break
		}
		if o.failure == servfail && len(r.servers) == 1 {
			break // it has tried; once more would only double its load
		}
	}
	return o
}

// exchange asks one server, by UDP and, if the answer is truncated, by TCP.
func (r *CachingResolver) exchange(q question, server string, edns bool) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.timeout)
	defer cancel()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(q.name), q.qtype) // random id
	if edns {
		m.SetEdns0(udpSize, false)
	}
	reply, err := roundTrip(ctx, "udp", server, m)
	if err == nil && reply.Truncated {
		reply, err = roundTrip(ctx, "tcp", server, m)
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

// read takes the records out of a reply.
func read(q question, reply *dns.Msg) outcome {
	switch reply.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
	case dns.RcodeServerFailure:
		return outcome{failure: servfail, text: "SERVFAIL"}
	default:
		return outcome{failure: silent, text: "name server refuses"}
	}
	if reply.Truncated { // even by TCP
		return outcome{failure: servfail, text: "answer is truncated"}
	}
	a, ttl := records(q, reply.Answer)
	if a == nil || reply.Rcode == dns.RcodeNameError {
		return outcome{ttl: negativeTTL(reply.Ns)}
	}
	if a.size > maxAnswerSize {
		return outcome{failure: servfail, text: "answer is too large"}
	}
	return outcome{answer: a, ttl: ttl}
}

// records collects the records of q, along the aliases that lead to them. The
// lifetime is the shortest on the way. It returns nil if there are none.
func records(q question, rrs []dns.RR) (*answer, time.Duration) {
	name, a, found := dns.Fqdn(q.name), new(answer), 0
	ttl := uint32(maxPositive / time.Second)
	for _, rr := range rrs { // servers send aliases in their order (RFC 1034 4.3.2)
		h := rr.Header()
		if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, name) || found == maxRecords {
			continue
		}
		if alias, ok := rr.(*dns.CNAME); ok {
			name = alias.Target
		} else if h.Rrtype != q.qtype {
			continue
		} else {
			a.add(rr)
			found++
		}
		ttl = min(ttl, h.Ttl)
	}
	if found == 0 {
		return nil, 0
	}
	return a, time.Duration(ttl) * time.Second
}

func (a *answer) add(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.TXT:
		a.txt = append(a.txt, unescape(strings.Join(rr.Txt, "")))
		a.size += len(a.txt[len(a.txt)-1])
	case *dns.MX:
		a.mx = append(a.mx, &net.MX{Host: rr.Mx, Pref: rr.Preference})
		a.size += len(rr.Mx)
	case *dns.A: // may be empty on the wire
		if len(rr.A) > 0 {
			a.ips = append(a.ips, net.IPAddr{IP: rr.A})
		}
	case *dns.AAAA:
		if len(rr.AAAA) > 0 {
			a.ips = append(a.ips, net.IPAddr{IP: rr.AAAA})
		}
	case *dns.PTR:
		a.ptr = append(a.ptr, rr.Ptr)
		a.size += len(rr.Ptr)
	}
	a.size += 64
}

// unescape undoes the presentation form (RFC 1035 5.1) in which the library
// keeps the strings of TXT records.
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		i++
		if i+2 < len(s) && isDigit(s[i]) && isDigit(s[i+1]) && isDigit(s[i+2]) {
			b = append(b, (s[i]-'0')*100+(s[i+1]-'0')*10+(s[i+2]-'0'))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

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
