package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/internal/testkit"
)

// The server is killed again and again while people submit mail and it is carried to
// others: whatever got a 250 comes to each of its recipients, at worst twice; no copy
// leaves weaker than its floor; and at no moment a clear text lies on the disk.
func TestP4_OutboundKillNine(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	// A server without TLS that puts off one message in five, so that mail waits at every
	// moment, and one that proves itself.
	open := o.join(&hop{domain: "open.test", wrong: func(_ *hop, c *testkit.MTAConn, stage string) bool {
		if stage != "end" || rand.IntN(5) > 0 {
			return false
		}
		c.Say("451 4.7.1 grey\r\n")
		return true
	}})
	proven := o.join(&hop{domain: "proven.test", proof: "dane"})
	g := o.gateway(options{})
	l := &mailers{g: g, accepted: map[string][]string{}, refused: map[string]int{}}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range 6 {
		running.Go(func() { l.send(stop) })
	}
	// Fifty searches: for the forms in which it would lie there, and not for all there are.
	needles := slices.DeleteFunc(canaryNeedles(faultCanary), func(n needle) bool {
		return n.what != "as it is" && !strings.HasPrefix(n.what, "in base64")
	})
	early, searched := 0, int64(0)
	for i := range kills {
		if i%7 == 3 { // before it is ready, maybe
			g.kill()
			g.launch()
			time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond) // the moment is the point
			early++
		} else {
			g.waitReady()
			enough := l.acknowledged() + rand.IntN(60)
			eventually(t, "messages are acknowledged", func() bool { return l.acknowledged() >= enough })
			time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
		}
		g.kill()
		f := searchTree(t, needles, g.dir, g.tmp)
		f.none(t, fmt.Sprint("after kill ", i))
		searched += f.octets
		g.launch()
	}
	g.waitReady()
	close(stop)
	running.Wait()
	waiting := len(g.queueList(t))
	open.heal()
	g.drain(t, "servers that are well", nil)

	t.Logf("%d kills, %d of them soon after the start; searched %d MiB of files", kills+early, early, searched>>20)
	t.Logf("sent %d, acknowledged %d, refused %v; %d recipients waited at the end", l.sent.Load(), len(l.accepted), l.refused, waiting)
	if len(l.accepted) < 5*kills || waiting == 0 {
		t.Error("there was no load")
	}
	l.verify(t, o.hops)
	o.keepsItsFloors(t)
	l.open(t, o)
	for _, m := range slices.Concat(open.Messages(), proven.Messages()) {
		marked := strings.Contains(m.Content, "\r\nPostern-Delivery: insecure; reason=")
		if to := strings.Join(m.Rcpts, ""); marked != strings.Contains(to, "TO:<clear") || strings.Contains(to, "TO:<tls") && !m.TLS {
			t.Errorf("to %s, marked %v, TLS %v", to, marked, m.TLS)
		}
	}
	if n := g.count(t, "INBOX"); n != 0 {
		t.Errorf("%d reports of mail that was delivered", n)
	}
	g.stop()
	g.check()
}

// mailers are people who submit mail and know what they were told.
type mailers struct {
	g    *gateway
	sent atomic.Int64

	mu       sync.Mutex
	accepted map[string][]string // recipients by Message-ID
	refused  map[string]int      // replies that were no 250
}

// kinds are what they send: sealed, marked, both, over verified TLS alone.
func kinds() [][]string {
	return [][]string{
		{"sealed@open.test"}, {"sealed@open.test", "sealed@proven.test"},
		{"clear@open.test"}, {"clear@open.test", "clear@proven.test"},
		{"sealed@open.test", "clear@proven.test"}, {"sealed@proven.test", "clear@open.test"},
		{"tls@proven.test"}, {"tls@proven.test", "sealed@open.test"},
	}
}

// message is the one with an id, always the same octets to the same recipients. It says
// the weakest of their floors.
func (l *mailers) message(id string) (text string, to []string) {
	n, _ := strconv.ParseInt(strings.Split(id, ".")[0], 10, 64)
	r := rand.New(rand.NewPCG(uint64(n), 2))
	all := kinds()
	to = all[r.IntN(len(all))]
	floor := "sealed"
	for _, address := range to {
		if local, _, _ := strings.Cut(address, "@"); local != "sealed" {
			floor = local
		}
	}
	size := 100 + r.IntN(4000)
	if r.IntN(100) == 0 {
		size = 2_500_000 // more than is spooled in memory
	}
	line := "this is message " + id + ", and nothing else\r\n"
	return fmt.Sprintf("From: %s\r\nTo: %s\r\nMessage-ID: <%s@load.example>\r\nSubject: %s-%s\r\n\r\n%s-%s\r\n%s", owner, strings.Join(to, ", "), id,
		faultCanary, floor, faultCanary, floor, strings.Repeat(line, size/len(line)+1)), to
}

// send submits one message after the other; one that got no answer it submits again, as a
// mail program does.
func (l *mailers) send(stop <-chan struct{}) {
	var s *submitter
	id := ""
	defer func() {
		if s != nil {
			s.Close()
		}
	}()
	for !stopped(stop, time.Duration(rand.IntN(20))*time.Millisecond) {
		if s == nil {
			var err error
			if s, err = l.g.trySubmitter(); err != nil {
				continue
			}
		}
		if id == "" {
			id = fmt.Sprintf("%d.%d", l.sent.Add(1), rand.Uint32())
		}
		text, to := l.message(id)
		if _, err := s.submit(text, to...); err == nil {
			l.told(func() { l.accepted[id] = to })
			id = ""
		} else {
			if reply := (*smtp.SMTPError)(nil); errors.As(err, &reply) {
				l.told(func() { l.refused[reply.Error()]++ })
			}
			s.Close()
			s = nil
		}
	}
}

func (l *mailers) told(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *mailers) acknowledged() (n int) {
	l.told(func() { n = len(l.accepted) })
	return n
}

// open opens the last sealed messages that came, and requires that they say what was
// submitted.
func (l *mailers) open(t *testing.T, o *outside) {
	t.Helper()
	for _, h := range o.hops {
		n, all := 0, h.Messages()
		for i := len(all) - 1; i >= 0 && n < 20; i-- {
			if !strings.Contains(all[i].Rcpts[0], "TO:<sealed") {
				continue
			}
			n++
			id := loadID.FindStringSubmatch(all[i].Content)[1]
			text, _ := l.message(id)
			_, body, _ := strings.Cut(text, "\r\n\r\n")
			if payload := opened(t, o.keys["sealed@"+h.domain], all[i].Content); !strings.HasSuffix(payload, "\r\n\r\n"+body) {
				t.Errorf("%s: message %s does not say what was submitted", h.domain, id)
			}
		}
		if n == 0 {
			t.Errorf("%s: no sealed message came", h.domain)
		}
	}
}

var (
	loadID        = regexp.MustCompile(`\r\nMessage-ID: <([^@]*)@load\.example>\r\n`)
	transactionID = regexp.MustCompile(`(?s)Received: .*?\sid\s(\S+?)[;\s]`)
)

// verify requires that every acknowledged message came to each of its recipients, and
// counts what came more than once: because it was submitted again, the server having been
// killed before the reply, or carried again, having been killed before it was recorded.
func (l *mailers) verify(t *testing.T, hops []*hop) {
	t.Helper()
	came := map[string]map[string]int{} // by id and recipient, and transaction
	for _, h := range hops {
		for _, m := range h.Messages() {
			id, transaction := loadID.FindStringSubmatch(m.Content), transactionID.FindStringSubmatch(m.Content)
			if id == nil || transaction == nil {
				t.Fatalf("a message of nobody's:\n%.1000s", m.Content)
			}
			for _, r := range m.Rcpts {
				to, _, _ := strings.Cut(strings.TrimPrefix(r, "RCPT TO:<"), ">")
				key := id[1] + " " + to
				if came[key] == nil {
					came[key] = map[string]int{}
				}
				came[key][transaction[1]]++
			}
		}
	}
	total, submitted, carried, lost := 0, 0, 0, 0
	for _, transactions := range came {
		submitted += len(transactions) - 1
		for _, n := range transactions {
			total += n
			carried += n - 1
		}
	}
	for id, to := range l.accepted {
		for _, address := range to {
			if len(came[id+" "+address]) == 0 {
				if lost++; lost < 5 {
					t.Errorf("message %s was acknowledged, and never came to %s", id, address)
				}
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d copies of acknowledged messages are lost", lost)
	}
	for reply := range l.refused {
		t.Errorf("a message was refused: %s", reply)
	}
	t.Logf("%d deliveries; duplicates: %d submitted again (killed before the reply), %d carried again (killed before it was recorded)", total, submitted, carried)
}
