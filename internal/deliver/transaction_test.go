package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"postern/internal/mail"
	"postern/internal/testkit"
)

// everything is what a modern server offers, in whatever case.
var everything = []string{"pipelining", "8BitMIME", "SMTPUTF8", "DSN", "SIZE 1000", "Chunking"}

// TestCommands: what is said to a server by what it offers and what the copy is.
func TestCommands(t *testing.T) {
	t.Parallel()
	eight := func(r *Request) { r.Body = "8BITMIME" }
	reports := func(r *Request) {
		r.EnvID, r.Return = "id+1=x y", "HDRS"
		r.Rcpts[0].Notify, r.Rcpts[0].Original = mail.NotifySuccess|mail.NotifyDelay, "rfc822;Alice+x@example.test"
	}
	for _, c := range []struct {
		name   string
		offer  []string
		change func(*Request)
		want   string // the result, or MAIL and RCPT
	}{
		{"nothing", nil, nil, "MAIL FROM:<bob@sender.test>|RCPT TO:<alice@example.test>"},
		{"everything", everything, nil, fmt.Sprintf("MAIL FROM:<bob@sender.test> SIZE=%d|RCPT TO:<alice@example.test>", len(body))},
		{"null reverse-path", nil, func(r *Request) { r.From = "" }, "MAIL FROM:<>|RCPT TO:<alice@example.test>"},
		{"8bit", everything, eight, fmt.Sprintf("MAIL FROM:<bob@sender.test> SIZE=%d BODY=8BITMIME|RCPT TO:<alice@example.test>", len(body))},
		{"8bit, not offered", nil, eight, "failed 550 5.6.3 none"},
		{"reports", []string{"DSN"}, reports, "MAIL FROM:<bob@sender.test> RET=HDRS ENVID=id+2B1+3Dx+20y|RCPT TO:<alice@example.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Alice+2Bx@example.test"},
		{"report on a UTF-8 address", []string{"DSN"}, func(r *Request) { r.Rcpts[0].Original = "utf-8;älice+x\\@example.test" },
			`MAIL FROM:<bob@sender.test>|RCPT TO:<alice@example.test> ORCPT=utf-8;\x{E4}lice\x{2B}x\x{5C}@example.test`},
		{"report on a UTF-8 address by UTF-8", []string{"DSN", "SMTPUTF8", "8BITMIME"}, func(r *Request) { r.UTF8, r.Rcpts[0].Original = true, "utf-8;älice=x\u2028@example.test" },
			`MAIL FROM:<bob@sender.test> SMTPUTF8|RCPT TO:<alice@example.test> ORCPT=utf-8;älice\x{3D}x\x{2028}@example.test`},
		{"report on an address that is neither", []string{"DSN"}, func(r *Request) { r.Rcpts[0].Original = "rfc822;älice@example.test" },
			"MAIL FROM:<bob@sender.test>|RCPT TO:<alice@example.test>"},
		{"reports, not offered", nil, reports, "MAIL FROM:<bob@sender.test>|RCPT TO:<alice@example.test>"},
		{"no reports", []string{"DSN"}, func(r *Request) { r.Rcpts[0].Notify = mail.NotifyNever }, "MAIL FROM:<bob@sender.test>|RCPT TO:<alice@example.test> NOTIFY=NEVER"},
		{"reports that break out", []string{"DSN"}, func(r *Request) {
			r.EnvID, r.Return, r.Rcpts[0].Original = "x\r\nRSET", "HDRS\r\nRSET", "rfc822 x;\r\nRSET"
		}, "MAIL FROM:<bob@sender.test> ENVID=x+0D+0ARSET|RCPT TO:<alice@example.test>"},
		{"UTF-8", []string{"SMTPUTF8", "8BITMIME"}, func(r *Request) { r.UTF8 = true }, "MAIL FROM:<bob@sender.test> SMTPUTF8|RCPT TO:<alice@example.test>"},
		{"UTF-8 address", []string{"SMTPUTF8", "8BITMIME"}, func(r *Request) { r.Rcpts[0].Address = "älice@example.test" }, "MAIL FROM:<bob@sender.test> SMTPUTF8|RCPT TO:<älice@example.test>"},
		{"UTF-8, not offered", []string{"8BITMIME"}, func(r *Request) { r.UTF8 = true }, "failed 550 5.6.7 none"},
		{"UTF-8 address, not offered", nil, func(r *Request) { r.From = "bób@sender.test" }, "failed 550 5.6.7 none"},
		{"too large", []string{"SIZE 1000"}, func(r *Request) { r.Size = 1001 }, "failed 552 5.3.4 none"},
		{"as large as may be", []string{"SIZE 1000"}, func(r *Request) { r.Size = 1000 }, "MAIL FROM:<bob@sender.test> SIZE=1000|RCPT TO:<alice@example.test>"},
		{"no limit", []string{"SIZE 0"}, func(r *Request) { r.Size = 1 << 40 }, "MAIL FROM:<bob@sender.test> SIZE=1099511627776|RCPT TO:<alice@example.test>"},
		{"quoted", nil, func(r *Request) { r.Rcpts[0].Address = `"a b>"@example.test` }, `MAIL FROM:<bob@sender.test>|RCPT TO:<"a b>"@example.test>`},
		{"recipient that breaks out", nil, func(r *Request) { r.Rcpts[0].Address = "x>\r\nRSET\r\n<y@example.test" }, "failed 550 5.1.3"},
		{"sender that breaks out", nil, func(r *Request) { r.From = "x@y.test> SIZE=1" }, "failed 550 5.1.7"},
	} {
		for _, more := range [][]string{nil, {"PIPELINING"}, {"PIPELINING", "CHUNKING"}} {
			t.Run(c.name+strings.Join(more, " "), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				m := w.mta(1, &testkit.MTA{Offer: append(append([]string(nil), c.offer...), more...)})
				change := c.change
				if change == nil {
					change = func(*Request) {}
				}
				r := request(alice)
				change(&r)
				result := w.carrier().Deliver(t.Context(), r)[0]
				got := brief(result)
				if all := m.Messages(); len(all) == 1 {
					got = all[0].Mail + "|" + strings.Join(all[0].Rcpts, "|")
					if all[0].Content != body {
						t.Errorf("content %q", all[0].Content)
					}
					if result.DSN != strings.Contains(strings.ToUpper(strings.Join(c.offer, " ")), "DSN") || result.Host != "mx.example.test" {
						t.Errorf("%+v", result)
					}
				}
				want(t, "got", got, c.want)
				if strings.HasPrefix(c.want, "failed") && strings.Contains(m.Clear(), "MAIL") {
					t.Error("MAIL was said")
				}
			})
		}
	}
}

// TestRecipients: each gets the answer that was given to it, in the order of the
// request; and those whom one transaction does not hold get another.
func TestRecipients(t *testing.T) {
	t.Parallel()
	for _, offer := range [][]string{nil, {"PIPELINING"}, {"PIPELINING", "CHUNKING"}} {
		w := newWorld(t)
		m := w.mta(1, &testkit.MTA{Offer: offer, Stage: func(c *testkit.MTAConn, stage, line string) bool {
			switch {
			case stage == "RCPT" && strings.Contains(line, "nobody"):
				c.Say("550-5.1.1 no such\r\n550 5.1.1 user\r\n")
			case stage == "RCPT" && strings.Contains(line, "full"):
				c.Say("452 4.2.2 full\r\n")
			case stage == "RCPT" && strings.Contains(line, "grey"):
				c.Say("450 later\r\n")
			default:
				return false
			}
			return true
		}})
		c := w.carrier()
		var got []string
		for _, r := range c.Deliver(t.Context(), request("nobody@example.test", alice, "full@example.test", "grey@example.test", "bad address@example.test", "zoe@example.test")) {
			got = append(got, brief(r)+" "+r.Text)
		}
		want(t, fmt.Sprint(offer), strings.Join(got, "|"), "failed 550 5.1.1 none no such user|delivered 250 2.0.0 none taken|retry 452 4.2.2 none full|retry 450 4.0.0 none later|failed 550 5.1.3 the recipient's address cannot be read|delivered 250 2.0.0 none taken")
		all := m.Messages()
		if len(all) != 1 || len(all[0].Rcpts) != 2 {
			t.Errorf("%v: %+v", offer, all)
		}
		r := c.Deliver(t.Context(), request("nobody@example.test", "full@example.test"))
		want(t, "nobody at all", brief(r[0])+"|"+brief(r[1]), "failed 550 5.1.1 none|retry 452 4.2.2 none")
	}
}

// TestBatches: more recipients than a transaction holds, by our bound, the server's
// word, or its refusals.
func TestBatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		offer  []string
		refuse string
		want   string // recipients in each
	}{
		{"ours", nil, "", "[100 100 50]"},
		{"LIMITS", []string{"PIPELINING", "LIMITS MAILMAX=1000 RCPTMAX=90"}, "", "[90 90 70]"},
		{"452", []string{"PIPELINING"}, "452 4.5.3 too many\r\n", "[40 40 40 40 40 40 10]"},
		{"552", nil, "552 too many\r\n", "[40 40 40 40 40 40 10]"},
		{"chunks", []string{"PIPELINING", "CHUNKING"}, "452 4.5.3 too many\r\n", "[40 40 40 40 40 40 10]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			n := 0
			m := w.mta(1, &testkit.MTA{Offer: c.offer, Stage: func(conn *testkit.MTAConn, stage, _ string) bool {
				switch stage {
				case "MAIL":
					n = 0
				case "RCPT":
					if n++; n > 40 && c.refuse != "" {
						conn.Say("%s", c.refuse)
						return true
					}
				}
				return false
			}})
			var all []string
			for i := range 250 {
				all = append(all, fmt.Sprintf("r%d@example.test", i))
			}
			for i, r := range w.carrier().Deliver(t.Context(), request(all...)) {
				if r.Status != Delivered {
					t.Errorf("%d: %+v", i, r)
				}
			}
			var sizes []int
			got := map[string]bool{}
			for _, msg := range m.Messages() {
				sizes = append(sizes, len(msg.Rcpts))
				for _, r := range msg.Rcpts {
					got[r] = true
				}
			}
			want(t, "batches", fmt.Sprint(sizes), c.want)
			if len(got) != 250 || m.Connections() != 1 {
				t.Errorf("%d recipients over %d connections", len(got), m.Connections())
			}
		})
	}
}

// TestEveryoneRefused: DATA that goes with the group is answered by 354 although nobody
// was accepted (RFC 2920 3.1): no content follows.
func TestEveryoneRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mta(1, &testkit.MTA{Offer: []string{"PIPELINING"}, Stage: func(c *testkit.MTAConn, stage, line string) bool {
		if stage == "RCPT" {
			c.Say("550 5.1.1 no\r\n354 go\r\n")
		}
		return stage == "RCPT"
	}})
	want(t, "result", deliver(t, w.carrier()), "failed 550 5.1.1 none")
	if strings.Contains(m.Clear(), canary) || !strings.Contains(m.Clear(), "DATA\r\n.\r\n") {
		t.Errorf("%q", m.Clear())
	}
}

// TestContent: what is sent arrives as it was, dots and all, in blocks of any size.
func TestContent(t *testing.T) {
	t.Parallel()
	lines := []string{".", "..", "", "x", ".x", "From x", strings.Repeat("y", 2000), "\xff\xfe", "a.", " ."}
	for _, offer := range []string{"PIPELINING", "CHUNKING"} {
		t.Run(offer, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			m := w.mta(1, &testkit.MTA{Offer: []string{"PIPELINING", offer}})
			c := w.carrier()
			rng := rand.New(rand.NewPCG(1, 2))
			for i := range 100 {
				var b strings.Builder
				for range rng.IntN(200) {
					b.WriteString(lines[rng.IntN(len(lines))])
					b.WriteString("\r\n")
				}
				content := strings.Repeat(b.String(), 1+rng.IntN(3))
				if i%10 == 0 { // dots and line ends at the very end of blocks
					content = strings.Repeat(content+"\r\n.\r\n", 1+200_000/(1+len(content)))
				}
				r := request(alice)
				r.Open = func(context.Context) (io.ReadCloser, error) {
					if i%2 == 0 {
						return io.NopCloser(iotest.HalfReader(strings.NewReader(content))), nil
					}
					return io.NopCloser(iotest.DataErrReader(strings.NewReader(content))), nil
				}
				if got := c.Deliver(t.Context(), r)[0]; got.Status != Delivered {
					t.Fatalf("%d: %+v", i, got)
				}
				all := m.Messages()
				if got := all[len(all)-1].Content; got != content {
					t.Fatalf("%d: %d octets arrived of %d", i, len(got), len(content))
				}
			}
			if m.Connections() != 1 {
				t.Errorf("%d connections", m.Connections())
			}
			r := request(alice)
			r.Open = opener("no end")
			c.Deliver(t.Context(), r)
			all := m.Messages()
			want(t, "line without an end", all[len(all)-1].Content, "no end\r\n")
		})
	}
}

// TestChunkRefused: a server that does not want one of the chunks says why.
func TestChunkRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mta(1, &testkit.MTA{Offer: []string{"CHUNKING", "PIPELINING"}, Stage: at("BDAT", say("552 5.3.4 too large\r\n"))})
	want(t, "result", deliver(t, w.carrier(), func(r *Request) { r.Open = opener(strings.Repeat(body, 10_000)) }), "failed 552 5.3.4 none")
	if len(m.Messages()) != 0 {
		t.Error("taken")
	}
}

// TestOldServer: EHLO is not known, and everything goes step by step.
func TestOldServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mta(1, &testkit.MTA{Stage: at("EHLO", say("502 what\r\n"))})
	want(t, "result", deliver(t, w.carrier()), inClear)
	if !strings.Contains(m.Clear(), "HELO us.sender.test\r\n") {
		t.Error(m.Clear())
	}
}

// TestReuse: connections are used again for the same host and the same needs, up to a
// number of messages, and a fresh one is taken if one has grown old.
func TestReuse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var old atomic.Bool
	m := w.mta(1, &testkit.MTA{Stage: func(c *testkit.MTAConn, stage, _ string) bool {
		if stage == "MAIL" && old.CompareAndSwap(true, false) {
			c.Close()
			return true
		}
		return false
	}})
	w.o.MaxMessages = 5
	c := w.carrier()
	for range 10 {
		want(t, "result", deliver(t, c), inClear)
	}
	if m.Connections() != 2 {
		t.Errorf("%d connections for 10 messages", m.Connections())
	}
	deliver(t, c)
	old.Store(true)
	want(t, "grown old", deliver(t, c), inClear)
	if m.Connections() != 4 || len(m.Messages()) != 12 {
		t.Errorf("%d connections, %d messages", m.Connections(), len(m.Messages()))
	}
	c.Close()
	if c.pool.count != 0 || len(c.pool.all) != 0 {
		t.Error("connections are left")
	}
	want(t, "after Close", deliver(t, c), inClear)
	if c.pool.count != 0 {
		t.Error("a connection was kept after Close")
	}
}

// TestReuseAfterContent: if a connection that is used again breaks when content was
// sent, nobody knows, and it is not sent again at once.
func TestReuseAfterContent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var broken atomic.Bool
	m := w.mta(1, &testkit.MTA{Stage: func(c *testkit.MTAConn, stage, _ string) bool {
		if stage == "end" && broken.Load() {
			c.Close()
			return true
		}
		return false
	}})
	c := w.carrier()
	deliver(t, c)
	broken.Store(true)
	want(t, "result", deliver(t, c), "retry 451 4.4.2 none")
	if m.Connections() != 1 {
		t.Errorf("%d connections", m.Connections())
	}
}

// TestNoReuseAcrossNeeds: a connection in clear, or to whomever, is never used for mail
// that needs more.
func TestNoReuseAcrossNeeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "lax.test. 300 IN MX 5 mx.example.test.")
	cert := w.ca.issue(t, timeIn(1), "mx.example.test")
	m := w.mta(1, &testkit.MTA{TLS: config(cert)})
	w.policy(enforce)
	c := w.carrier()
	for i := range 6 {
		rcpt, wanted := "x@lax.test", unproven
		if i%2 == 1 {
			rcpt, wanted = alice, bySTS
		}
		want(t, rcpt, brief(c.Deliver(t.Context(), request(rcpt))[0]), wanted)
	}
	if m.Connections() != 2 || c.pool.count != 2 {
		t.Errorf("%d connections, %d kept", m.Connections(), c.pool.count)
	}
}

// TestIdle: a connection that nobody uses is ended.
func TestIdle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	quit := make(chan struct{})
	w.mta(1, &testkit.MTA{Stage: func(_ *testkit.MTAConn, stage, _ string) bool {
		if stage == "QUIT" {
			close(quit)
		}
		return false
	}})
	w.o.Idle = 1 // ns
	c := w.carrier()
	deliver(t, c)
	<-quit
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if c.pool.count != 0 {
		t.Errorf("%d are kept", c.pool.count)
	}
}

// TestParallel: one Carrier serves many at once.
func TestParallel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.mta(1, &testkit.MTA{Offer: []string{"PIPELINING"}})
	c := w.carrier()
	done := make(chan error)
	for range 20 {
		go func() {
			for range 10 {
				if r := c.Deliver(context.Background(), request(alice))[0]; r.Status != Delivered {
					done <- errors.New(r.Text)
					return
				}
			}
			done <- nil
		}()
	}
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if len(m.Messages()) != 200 {
		t.Errorf("%d messages", len(m.Messages()))
	}
}

// TestWhoseWords: Host is who gave the reply, and is nobody if the words are ours. A
// report would otherwise quote the host with what it never said.
func TestWhoseWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, stage, reply string
		change             func(*Request)
		want, host         string
	}{
		{"refused", "RCPT", "550 5.1.1 no such user\r\n", nil, "failed 550 5.1.1 none", "mx.example.test"},
		{"refused for all", "MAIL", "550 5.7.1 not you\r\n", nil, "failed 550 5.7.1 none", "mx.example.test"},
		{"not welcome", "connect", "554 5.7.1 go away\r\n", nil, "retry 554 5.7.1 none", "mx.example.test"},
		{"refused in the end", "end", "554 5.6.0 not that\r\n", nil, "failed 554 5.6.0 none", "mx.example.test"},
		{"what it lacks", "", "", func(r *Request) { r.UTF8 = true }, "failed 550 5.6.7 none", ""},
		{"what must not be sent", "", "", func(r *Request) { r.Open = opener("a\nb") }, "failed 550 5.6.0 none", ""},
		{"closed", "MAIL", "", nil, "retry 451 4.4.2 none", ""},
		{"closed at the end", "end", "", nil, "retry 451 4.4.2 none", ""},
		{"no proof", "", "", verified, noProofs, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.mta(1, &testkit.MTA{Stage: func(conn *testkit.MTAConn, stage, _ string) bool {
				if stage == c.stage && c.reply == "" {
					_ = conn.Close()
				} else if stage == c.stage {
					conn.Say("%s", c.reply)
				}
				return stage == c.stage
			}})
			r := request(alice)
			if c.change != nil {
				c.change(&r)
			}
			got := w.carrier().Deliver(t.Context(), r)[0]
			want(t, "result", brief(got), c.want)
			if got.Host != c.host {
				t.Errorf("%+v", got)
			}
		})
	}
}
