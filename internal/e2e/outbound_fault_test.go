package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/internal/testkit"
)

// memoryLimit is how much memory all of hostile's servers together may cost the gateway,
// in octets; each of two of them sends more than that.
const memoryLimit = 64 << 20

// A row of servers that go wrong in every way there is, and the look-ups of three domains
// that do: whatever they do, no copy that may not go in clear is ever seen outside of a
// ciphertext or of TLS that proved whose it is, and each in clear is marked. Others' mail
// is not late, the operator sees why each copy waits and has a say, and when all are
// well nothing is lost.
func TestP3_OutboundFaults(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	row := hostile()
	for _, h := range row {
		o.join(h)
	}
	good := o.join(&hop{domain: "good.test", proof: "dane"})
	g := o.gateway(options{})
	before := peakMemory(t, g.pid())

	s := g.submitter(t)
	sent := map[string]int{} // copies, by domain
	for _, h := range append(slices.Clone(row), good) {
		for _, local := range h.locals() {
			if reply, err := s.submit(faultMail(local, h.domain), local+"@"+h.domain); err != nil {
				t.Fatalf("submit for %s@%s: %v %s", local, h.domain, err, reply)
			}
			sent[h.domain]++
		}
	}
	start := time.Now()
	eventually(t, "the good server's mail has come", func() bool { return len(good.Messages()) == 3 })
	t.Logf("the good server has its mail %v after the last submission", time.Since(start).Round(time.Millisecond))

	// Why each waits.
	var list []queued
	explained(t, "the queue says why each copy waits", func() bool {
		list = g.queueList(t)
		return !slices.ContainsFunc(row, func(h *hop) bool { return !h.explained(list, sent[h.domain]) })
	}, func() {
		o.keepsItsFloors(t)
		for _, q := range list {
			if !o.hop(q.Domain).explained(list, sent[q.Domain]) {
				t.Logf("%s: %s: %s", q.Recipient, q.State, q.Reason)
			}
		}
	})
	if n := peakMemory(t, g.pid()) - before; n > memoryLimit {
		t.Errorf("the gateway took %d MiB more memory", n>>20)
	} else {
		t.Logf("the gateway took %d MiB more memory", n>>20)
	}
	commandsMeanwhile(t, g, list, o.hop("defer.test"), o.hop("closes-mail.test"), o.hop("rubbish-mail.test"))
	o.keepsItsFloors(t)
	g.restart() // ends in time, whoever hangs, and goes on where it was
	hung := o.hop("hangs-end.test")
	eventually(t, "it is tried again after the restart", func() bool {
		list = g.queueList(t)
		return hung.explained(list, sent[hung.domain])
	})

	// They get well, the look-ups with a restart: a failure is remembered for a while.
	for _, h := range row {
		h.heal()
	}
	g.drain(t, "servers that are well", func(q queued) bool { return strings.HasPrefix(q.Domain, "dns-") || q.State == "on-hold" })
	g.restart()
	g.drain(t, "look-ups that are well", func(q queued) bool { return q.State == "on-hold" })
	if n := len(o.hop("closes-mail.test").Messages()); n != 0 {
		t.Errorf("%d messages went although they are on hold", n)
	}
	g.postern("queue", "release", "--all")
	g.drain(t, "all that is released", nil)

	for _, h := range append(slices.Clone(row), good) {
		h.complete(t, sent[h.domain])
	}
	o.keepsItsFloors(t)
	// The final dot was sent, and the reply is lost: only to send it again loses nothing.
	if n := strings.Count(o.hop("closes-end.test").Clear(), "\r\n.\r\n"); n <= sent["closes-end.test"] {
		t.Errorf("%d contents were sent where the reply was lost: none of them twice", n)
	}
	if n := g.count(t, "INBOX"); n != sent["rubbish-mail.test"] {
		t.Errorf("%d reports, want one for each message that was removed", n)
	}
	searchTree(t, canaryNeedles(faultCanary), g.dir, g.tmp).none(t, "the gateway")
}

// commandsMeanwhile uses what the operator has while servers go wrong: one domain is
// tried again, one is put on hold, and one given back to the sender.
func commandsMeanwhile(t *testing.T, g *gateway, list []queued, again, hold, remove *hop) {
	t.Helper()
	at := slices.IndexFunc(list, func(q queued) bool { return q.Domain == again.domain })
	if show := string(g.postern("queue", "show", list[at].ID)); !strings.Contains(show, list[at].Recipient) || !strings.Contains(show, "451 4.7.1 grey") {
		t.Errorf("queue show prints\n%s", show)
	}
	g.postern("queue", "retry", "--domain", again.domain)
	g.postern("queue", "hold", "--domain", hold.domain)
	g.postern("queue", "remove", "--domain", remove.domain)
	eventually(t, "the commands have taken effect", func() bool {
		for _, q := range g.queueList(t) {
			switch q.Domain {
			case again.domain:
				if q.Attempts < 2 || q.State != "waiting" {
					return false
				}
			case hold.domain:
				if q.State != "on-hold" || q.Next != nil {
					return false
				}
			case remove.domain:
				return false
			}
		}
		return true
	})
	remove.removed = true
}

// hostile are servers that go wrong.
func hostile() (row []*hop) {
	add := func(h *hop) { row = append(row, h) }
	for _, stage := range []string{"connect", "EHLO", "MAIL", "RCPT", "DATA", "content", "end"} {
		lower := strings.ToLower(stage)
		add(&hop{domain: "hangs-" + lower + ".test", wrong: at(stage, hang), state: "in-hand", reason: "with "})
		add(&hop{domain: "closes-" + lower + ".test", wrong: at(stage, hangUp), reason: "closed the connection"})
		if stage != "content" {
			add(&hop{domain: "rubbish-" + lower + ".test", wrong: at(stage, say("HTTP/1.1 400 Bad Request\r\n\r\n")), reason: "by a reply of SMTP"})
		}
	}
	const noTLS = "does not offer TLS, but has to"
	add(&hop{domain: "greeting.test", wrong: at("connect", flood("220-welcome\r\n")), reason: "by a reply of SMTP"})
	add(&hop{domain: "endless-line.test", wrong: at("end", flood("2")), reason: "by a reply of SMTP"})
	add(&hop{domain: "defer.test", wrong: at("end", say("451 4.7.1 grey\r\n")), reason: "says: 451 4.7.1 grey"})
	add(&hop{domain: "busy.test", wrong: at("connect", say("421 4.3.2 busy\r\n")), reason: "busy"})
	for _, proof := range []string{"mta-sts", "dane"} {
		add(&hop{domain: "strips-" + proof + ".test", proof: proof, wrong: strip, reason: noTLS})
		add(&hop{domain: "injects-" + proof + ".test", proof: proof, wrong: inject, reason: "mixes clear text into the start of TLS"})
		add(&hop{domain: "refuses-tls-" + proof + ".test", proof: proof, wrong: at("STARTTLS", say("454 4.7.0 no\r\n")), reason: "offers TLS but does not start it"})
	}
	add(&hop{domain: "name-mta-sts.test", proof: "mta-sts", wrong: otherName, reason: "its certificate is for another name"})
	add(&hop{domain: "name-dane.test", proof: "dane", wrong: otherName, reason: "not the one that its TLSA records name"})
	for _, manner := range []string{"silent", "garbage", "servfail"} {
		add(&hop{domain: "dns-" + manner + ".test", reason: "the DNS has no answer"})
	}
	return row
}

// queued is what queue list --json prints of a recipient.
type queued struct {
	ID, Recipient, Domain, State, Reason, Protection string
	Attempts                                         int
	Next                                             *time.Time
}

func (g *gateway) queueList(t testing.TB) (list []queued) {
	t.Helper()
	out := g.postern("queue", "list", "--json")
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("queue list --json: %v\n%s", err, out)
	}
	return list
}

// drain has all that waits tried, until nothing is left but what rest says.
func (g *gateway) drain(t testing.TB, what string, rest func(queued) bool) {
	t.Helper()
	var list []queued
	explained(t, "mail goes to "+what, func() bool {
		g.postern("queue", "retry", "--all")
		list = slices.DeleteFunc(g.queueList(t), func(q queued) bool { return rest != nil && rest(q) })
		return len(list) == 0
	}, func() {
		for _, q := range list {
			t.Logf("%s: %s: %s", q.Recipient, q.State, q.Reason)
		}
	})
}

// explained is eventually, with what to say if it never happens.
func explained(t testing.TB, what string, ok func() bool, explain func()) {
	t.Helper()
	if !soon(patience, ok) {
		explain()
		t.Fatalf("not within %v: %s", patience, what)
	}
}

// peakMemory is the most memory that a process has had, in octets.
func peakMemory(t testing.TB, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		testkit.Missing(t, "the memory of another process: "+err.Error())
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal("VmHWM: ", err)
	}
	return n << 10
}
