package e2e

import (
	"bytes"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// silentResolver is a DNS server that never answers, and counts who asks.
func silentResolver(t *testing.T) (addr string, queries *atomic.Int64) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	queries = new(atomic.Int64)
	go func() {
		buf := make([]byte, 1500)
		for {
			if _, _, err := conn.ReadFrom(buf); err != nil {
				return
			}
			queries.Add(1)
		}
	}()
	return conn.LocalAddr().String(), queries
}

// A resolver that never answers stops no mail: it is sealed without results, and soon
// nobody asks any more.
func TestDeadResolver(t *testing.T) {
	t.Parallel()
	addr, queries := silentResolver(t)
	g := newGateway(t, options{dns: []string{addr}, config: map[string]string{"dns.timeout": `"200ms"`}})
	c := g.smtp(t)
	send := func(i int) {
		t.Helper()
		c.must("250", fmt.Sprintf("MAIL FROM:<bob@sender-%d.example>\r\n", i))
		c.must("250", "RCPT TO:<"+owner+">\r\n")
		c.must("354", "DATA\r\n")
		m := bytes.ReplaceAll(text(fmt.Sprint("number ", i), "hello"), []byte("example.net"), fmt.Appendf(nil, "sender-%d.example", i))
		c.must("250", string(m)+".\r\n")
	}
	// Each message comes from a domain that was never asked for: no cache helps.
	warm := 0
	for ; warm < 20; warm++ {
		send(warm)
	}
	asked := queries.Load()
	if asked == 0 {
		t.Fatal("the resolver was never asked: this test tests nothing")
	}
	const more = 200
	for i := range more {
		send(warm + i)
	}
	later := queries.Load() - asked
	t.Logf("%d queries for the first %d messages, %d for the %d behind them", asked, warm, later, more)
	// One probe now and then is how the resolver's return is noticed: not one per message.
	if later > more/10 {
		t.Errorf("%d queries for %d messages: the dead resolver is asked again and again", later, more)
	}
	all := g.mailbox(t, "INBOX")
	if len(all) != warm+more {
		t.Fatalf("%d messages", len(all))
	}
	results := regexp.MustCompile(`(?s)\r\nAuthentication-Results: ` + hostname + `;.*?\r\n[^ \t]`)
	for i, m := range all {
		field := results.Find(m.raw)
		if !bytes.Contains(field, []byte("spf=temperror")) || bytes.Contains(field, []byte("=pass")) {
			t.Fatalf("message %d: %q", i, field)
		}
	}
	p := g.ownerGnuPG(t)
	payload := p.open(all[len(all)-1].raw)[0]
	if arrival, _, _ := strings.Cut(string(payload), "\r\nFrom:"); !strings.Contains(arrival, "spf=temperror") {
		t.Errorf("provenance: %s", arrival)
	}
}
