package msgauth

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"postern/internal/testkit"
)

// nameServer is a real name server on loopback whose manner can be changed.
type nameServer struct {
	addr string

	mu      sync.Mutex
	behave  func(w dns.ResponseWriter, m *dns.Msg, network string)
	records []dns.RR
	counts  map[string]int // by network and by "TYPE name"
}

// newNameServer starts a server that answers from records, which are in zone
// file form, by UDP and TCP.
func newNameServer(t testing.TB, records ...string) *nameServer {
	t.Helper()
	s := &nameServer{counts: make(map[string]int)}
	s.behave = s.answer
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		s.records = append(s.records, rr)
	}
	udp, tcp := listenBoth(t)
	s.addr = udp.LocalAddr().String()
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

func (s *nameServer) serve(w dns.ResponseWriter, m *dns.Msg, network string) {
	q := m.Question[0]
	s.mu.Lock()
	s.counts[network]++
	s.counts[dns.TypeToString[q.Qtype]+" "+strings.TrimSuffix(strings.ToLower(q.Name), ".")]++
	behave := s.behave
	s.mu.Unlock()
	behave(w, m, network)
}

// set changes the server's manner.
func (s *nameServer) set(behave func(w dns.ResponseWriter, m *dns.Msg, network string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behave = behave
}

// count is the number of questions by "udp", "tcp" or "TYPE name".
func (s *nameServer) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[what]
}

func (s *nameServer) total() int { return s.count("udp") + s.count("tcp") }

// answer is the manner of a healthy server.
func (s *nameServer) answer(w dns.ResponseWriter, m *dns.Msg, network string) {
	reply := new(dns.Msg)
	reply.SetReply(m)
	s.fill(reply, m.Question[0].Name, m.Question[0].Qtype)
	if edns := m.IsEdns0(); network == "udp" && edns != nil {
		reply.Truncate(int(edns.UDPSize()))
	} else if network == "udp" {
		reply.Truncate(dns.MinMsgSize)
	}
	_ = w.WriteMsg(reply)
}

func (s *nameServer) fill(reply *dns.Msg, name string, qtype uint16) {
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

// rcode is the manner of a server that answers everything with an error.
func rcode(code int) func(dns.ResponseWriter, *dns.Msg, string) {
	return func(w dns.ResponseWriter, m *dns.Msg, _ string) {
		reply := new(dns.Msg)
		reply.SetRcode(m, code)
		_ = w.WriteMsg(reply)
	}
}

// silence is the manner of a server that is not there.
func silence(dns.ResponseWriter, *dns.Msg, string) {}

// garbage is the manner of something that is no name server.
func garbage(w dns.ResponseWriter, m *dns.Msg, _ string) {
	_, _ = w.Write([]byte{byte(m.Id >> 8), byte(m.Id), 0x80, 0, 0, 9, 0xff, 0xff, 0xff})
}

// newTestResolver asks the given servers; its clock stands.
func newTestResolver(t testing.TB, try time.Duration, servers ...*nameServer) (*CachingResolver, *testkit.Clock) {
	t.Helper()
	clock := testkit.NewClock()
	o := ResolverOptions{Timeout: try, Now: clock.Now}
	for _, s := range servers {
		o.Servers = append(o.Servers, s.addr)
	}
	r, err := NewResolver(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, clock
}
