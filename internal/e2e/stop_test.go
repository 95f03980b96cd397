package e2e

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SIGTERM lets what is in hand finish, within limits: a message that still comes in ends
// with 250 or 421, the program with 0 in time, and what got 250 is there.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{})
	message := largeCanaryMail(1, 3<<20)
	half := len(message) / 2
	body := stuffed(message)

	finishing, never, waiting := g.smtp(t), g.smtp(t), g.smtp(t)
	for _, c := range []*smtpConn{finishing, never} {
		c.begin()
		c.put(body[:half])
	}
	idle := g.idler(t)
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	asked := time.Now()

	// Who waits for a command is told to go; nobody new is let in.
	if got := waiting.reply(); !strings.HasPrefix(got, "421 ") {
		t.Errorf("a connection that waits: %s", got)
	}
	eventually(t, "no new connections", func() bool {
		conn, err := net.Dial("tcp", g.mx())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	done := make(chan error, 1)
	go func() { done <- idle.idle.Wait() }()
	// Slowly, but in time.
	const pieces = 20
	rest := body[half:]
	for i := range pieces {
		finishing.put(rest[i*len(rest)/pieces : (i+1)*len(rest)/pieces])
		time.Sleep(50 * time.Millisecond) // a slow line
	}
	finishing.put([]byte(".\r\n"))
	got := finishing.reply()
	if !strings.HasPrefix(got, "250 ") && !strings.HasPrefix(got, "421 ") {
		t.Errorf("the message that ended: %q", got)
	}
	t.Logf("the message that ended after SIGTERM: %s", got)
	if last, err := never.tryReply(); !strings.HasPrefix(last, "421 ") {
		t.Errorf("the message that never ends: %q, %v", last, err)
	}
	g.waitStopped(asked)
	t.Logf("stopped after %v", time.Since(asked).Round(time.Millisecond))
	receive(t, "end of IDLE", done)

	g.start()
	all := g.mailbox(t, "INBOX")
	if stored := len(all) == 1; stored != strings.HasPrefix(got, "250 ") {
		t.Fatalf("the reply was %q, and %d messages are stored", got, len(all))
	}
	if len(all) == 1 {
		same(t, "message", g.ownerGnuPG(t).restored(all[0].raw)[0], message)
	}
}

// A stop under load loses nothing that was acknowledged, and nobody gets another answer
// than 250 or 421.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	g := newGateway(t, options{})
	type told struct {
		accepted []string
		last     string
	}
	results := make(chan told)
	const peers = 8
	for i := range peers {
		c := g.smtp(t)
		go func() {
			var r told
			for n := 0; ; n++ {
				id := fmt.Sprintf("%d.%d", i*1_000_000+n, i)
				var err error
				for _, step := range []string{"MAIL FROM:<" + sender + ">\r\n", "RCPT TO:<" + owner + ">\r\n", "DATA\r\n", string(loadMessage(id)) + ".\r\n"} {
					if _, err = c.Write([]byte(step)); err == nil {
						r.last, err = c.tryReply()
					}
					if err != nil || strings.HasPrefix(r.last, "4") || strings.HasPrefix(r.last, "5") {
						results <- r
						return
					}
				}
				r.accepted = append(r.accepted, id)
			}
		}()
	}
	time.Sleep(500 * time.Millisecond) // of load
	g.stop()
	accepted := map[string]bool{}
	for range peers {
		r := receive(t, "the end of a peer", results)
		// The connection may also end between two messages without a word that was read.
		if r.last != "" && !strings.HasPrefix(r.last, "421") && !strings.HasPrefix(r.last, "250") && !strings.HasPrefix(r.last, "354") {
			t.Errorf("the last reply was %q", r.last)
		}
		for _, id := range r.accepted {
			accepted[id] = true
		}
	}
	g.start()
	stored := map[string]bool{}
	for _, m := range g.mailbox(t, "INBOX") {
		if id := messageID.FindSubmatch(m.raw); id != nil {
			stored[string(id[1])] = true
		}
	}
	for id := range accepted {
		if !stored[id] {
			t.Errorf("%s was acknowledged, and is lost", id)
		}
	}
	t.Logf("%d acknowledged, %d stored", len(accepted), len(stored))
	if len(accepted) < peers {
		t.Error("there was no load")
	}
	if bytes.Contains([]byte(g.log.String()), []byte("level=WARN")) {
		t.Logf("warnings:\n%s", g.log.tail())
	}
}
