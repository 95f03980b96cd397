// Package dnstest is a name server on loopback for tests: it answers by UDP and TCP
// from records in zone file form, or in whatever manner a test wants, and counts
// what it is asked.
package dnstest

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// Manner is how a server behaves: it answers m, which came by network ("udp" or
// "tcp"), or does not.
type Manner func(w dns.ResponseWriter, m *dns.Msg, network string)

// Server is a real name server whose manner can be changed. It is safe for
// concurrent use.
type Server struct {
	// Addr is "127.0.0.1:port".
	Addr string

	mu      sync.Mutex
	behave  Manner
	secure  bool
	records []dns.RR
	counts  map[string]int // by network and by "TYPE name"
}

// Start starts a server that answers from records, which are in zone file form. It
// ends with the test.
func Start(t testing.TB, records ...string) *Server {
	t.Helper()
	s := &Server{counts: make(map[string]int)}
	s.behave = s.Answer
	s.Add(t, records...)
	udp, tcp := listenBoth(t)
	s.Addr = udp.LocalAddr().String()
	for _, d := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
		network := "udp"
		if d.Listener != nil {
			network = "tcp"
		}
		started := make(chan struct{})
		d.NotifyStartedFunc = func() { close(started) }
		d.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) { s.serve(w, m, network) })
		go func() { _ = d.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = d.Shutdown() })
	}
	return s
}

// listenBoth finds a port that is free for both.
func listenBoth(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err == nil {
			return udp, tcp
		}
		_ = udp.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

func (s *Server) serve(w dns.ResponseWriter, m *dns.Msg, network string) {
	q := m.Question[0]
	s.mu.Lock()
	s.counts[network]++
	s.counts[dns.TypeToString[q.Qtype]+" "+strings.TrimSuffix(strings.ToLower(q.Name), ".")]++
	behave := s.behave
	s.mu.Unlock()
	behave(w, m, network)
}

// Add adds records in zone file form.
func (s *Server) Add(t testing.TB, records ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		s.records = append(s.records, rr)
	}
}

// Secure lets the server claim, or not, that it has validated what it answers.
func (s *Server) Secure(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secure = on
}

// Set changes the server's manner.
func (s *Server) Set(behave Manner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behave = behave
}

// Count is the number of questions by "udp", "tcp" or "TYPE name".
func (s *Server) Count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[what]
}

// Total is the number of all questions.
func (s *Server) Total() int { return s.Count("udp") + s.Count("tcp") }

// Below is the number of questions for a domain and the names below it.
func (s *Server) Below(domain string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for what, count := range s.counts {
		_, name, ok := strings.Cut(what, " ")
		if ok && (name == domain || strings.HasSuffix(name, "."+domain)) {
			n += count
		}
	}
	return n
}

// Answer is the manner of a healthy server.
func (s *Server) Answer(w dns.ResponseWriter, m *dns.Msg, network string) {
	reply := new(dns.Msg)
	reply.SetReply(m)
	s.Fill(reply, m.Question[0].Name, m.Question[0].Qtype)
	if edns := m.IsEdns0(); network == "udp" && edns != nil {
		reply.Truncate(int(edns.UDPSize()))
	} else if network == "udp" {
		reply.Truncate(dns.MinMsgSize)
	}
	_ = w.WriteMsg(reply)
}

// Fill puts into reply what the records say.
func (s *Server) Fill(reply *dns.Msg, name string, qtype uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply.AuthenticatedData = s.secure
	s.fill(reply, name, qtype)
}

func (s *Server) fill(reply *dns.Msg, name string, qtype uint16) {
	exists := false
	for _, rr := range s.records {
		if !strings.EqualFold(rr.Header().Name, name) {
			continue
		}
		exists = true
		if alias, ok := rr.(*dns.CNAME); ok {
			reply.Answer = append(reply.Answer, rr)
			s.fill(reply, alias.Target, qtype)
		} else if rr.Header().Rrtype == qtype {
			reply.Answer = append(reply.Answer, rr)
		}
	}
	if !exists {
		reply.Rcode = dns.RcodeNameError
	}
	if len(reply.Answer) == 0 {
		soa, _ := dns.NewRR(". 3600 IN SOA ns. admin. 1 2 3 4 60")
		reply.Ns = []dns.RR{soa}
	}
}

// Rcode is the manner of a server that answers everything with an error.
func Rcode(code int) Manner {
	return func(w dns.ResponseWriter, m *dns.Msg, _ string) {
		reply := new(dns.Msg)
		reply.SetRcode(m, code)
		_ = w.WriteMsg(reply)
	}
}

// Silence is the manner of a server that is not there.
func Silence(dns.ResponseWriter, *dns.Msg, string) {}

// Garbage is the manner of something that is no name server.
func Garbage(w dns.ResponseWriter, m *dns.Msg, _ string) {
	_, _ = w.Write([]byte{byte(m.Id >> 8), byte(m.Id), 0x80, 0, 0, 9, 0xff, 0xff, 0xff})
}

// ServeSystem answers from records where the system's resolver asks if its name server is
// 127.0.0.1: in a network namespace of one's own.
func ServeSystem(t testing.TB, records ...string) {
	t.Helper()
	names := Start(t, records...)
	for _, network := range []string{"udp", "tcp"} {
		started, failed := make(chan struct{}), make(chan error, 1)
		s := &dns.Server{Addr: "127.0.0.1:53", Net: network, NotifyStartedFunc: func() { close(started) }}
		s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) { names.Answer(w, m, network) })
		go func() { failed <- s.ListenAndServe() }()
		select {
		case <-started:
		case err := <-failed:
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Shutdown() })
	}
}
