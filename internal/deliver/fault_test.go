package deliver

import (
	"context"
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	"postern/internal/testkit"
)

// fault is a way in which a server goes wrong.
type fault struct {
	name string
	// stage steps in as testkit.MTA has it.
	stage func(c *testkit.MTAConn, stage, line string) bool
	// want is the result of a copy that needs verified TLS, which the server has; where
	// an opportunistic copy fares otherwise, open is that.
	want, open string
	// content is the copy, if something is wrong with that.
	content func(context.Context) (io.ReadCloser, error)
}

// at lets a server do something at one stage.
func at(stage string, do func(c *testkit.MTAConn)) func(*testkit.MTAConn, string, string) bool {
	return func(c *testkit.MTAConn, now, _ string) bool {
		if now != stage {
			return false
		}
		do(c)
		return true
	}
}

func hang(c *testkit.MTAConn)   { c.Hang() }
func hangUp(c *testkit.MTAConn) { c.Close() }

// say answers with something else.
func say(text string) func(c *testkit.MTAConn) {
	return func(c *testkit.MTAConn) { c.Say("%s", text) }
}

// flood sends a line again and again, up to 100 MB.
func flood(text string) func(c *testkit.MTAConn) {
	block := []byte(strings.Repeat(text, 64<<10/len(text)))
	return func(c *testkit.MTAConn) {
		for range 100 << 20 / len(block) {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	}
}

// stages are those at which any server can hang, close, or talk rubbish.
func stages() []string {
	return []string{"connect", "EHLO", "MAIL", "RCPT", "DATA", "content", "end"}
}

func faults() []fault {
	const proven, clear = " TLS1.3 mta-sts", " TLS1.3"
	var all []fault
	for _, s := range stages() {
		label, plain := proven, clear
		if s == "connect" || s == "EHLO" {
			label, plain = " none", " none"
		}
		// What goes wrong before STARTTLS was met in clear, with nothing said yet.
		both := func(name string, do func(c *testkit.MTAConn), code string) {
			all = append(all, fault{name: name + " at " + s, stage: at(s, do), want: "retry 451 " + code + label, open: "retry 451 " + code + plain})
		}
		both("hangs", hang, "4.4.2")
		both("closes", hangUp, "4.4.2")
		if s != "content" {
			both("rubbish", say("HTTP/1.1 400 Bad Request\r\n\r\n"), "4.5.0")
			both("endless line", flood("2"), "4.5.0")
			both("endless reply", flood("250-x\r\n"), "4.5.0")
			both("reply of two codes", say("250-x\r\n550 y\r\n"), "4.5.0")
			all = append(all,
				fault{name: "trickles at " + s, stage: at(s, trickle), want: "retry 451 4.4.2" + label, open: "retry 451 4.4.2" + plain},
				fault{name: "busy at " + s, stage: at(s, say("421 4.3.2 busy\r\n")), want: "retry 421 4.3.2" + label, open: "retry 421 4.3.2" + plain},
			)
		}
	}
	refused := func(stage, want string) {
		all = append(all, fault{name: "refuses at " + stage, stage: at(stage, say("550 5.7.1 go away\r\n")), want: want + proven, open: want + clear})
	}
	for _, s := range []string{"MAIL", "RCPT", "DATA", "end"} {
		refused(s, "failed 550 5.7.1")
	}
	return append(all,
		fault{name: "refuses at connect", stage: at("connect", say("554 5.7.1 go away\r\n")), want: "retry 554 5.7.1 none", open: "retry 554 5.7.1 none"},
		fault{name: "defers the content", stage: at("end", say("451 4.7.1 grey\r\n")), want: "retry 451 4.7.1" + proven, open: "retry 451 4.7.1" + clear},
		fault{name: "STARTTLS is stripped", stage: strip, want: "retry 451 4.7.5 none", open: "delivered 250 2.0.0 none"},
		fault{name: "STARTTLS is refused", stage: at("STARTTLS", say("454 4.7.0 not now\r\n")), want: "retry 451 4.7.5 none", open: "delivered 250 2.0.0 none"},
		fault{name: "STARTTLS is answered by rubbish", stage: at("STARTTLS", say("rubbish\r\n")), want: "retry 451 4.5.0 none", open: "delivered 250 2.0.0 none"},
		fault{name: "clear text behind STARTTLS", stage: inject, want: "retry 451 4.7.5 none", open: "retry 451 4.7.5 none"},
		fault{name: "clear text in place of TLS", stage: at("STARTTLS", late), want: "retry 451 4.7.5 none", open: "delivered 250 2.0.0 none"},
		fault{name: "closes within the handshake", stage: at("STARTTLS", func(c *testkit.MTAConn) { c.Say("220 go\r\n"); c.Close() }), want: "retry 451 4.7.5 none", open: "delivered 250 2.0.0 none"},
		fault{name: "hangs within the handshake", stage: at("STARTTLS", func(c *testkit.MTAConn) { c.Say("220 go\r\n"); c.Hang() }), want: "retry 451 4.7.5 none", open: "delivered 250 2.0.0 none"},
		fault{name: "stops reading", stage: at("content", func(c *testkit.MTAConn) { time.Sleep(800 * time.Millisecond) }), content: endless, want: "retry 451 4.4.2" + proven, open: "retry 451 4.4.2" + clear},
		fault{name: "the copy cannot be read", content: cut, want: "retry 451 4.3.0" + proven, open: "retry 451 4.3.0" + clear},
		fault{name: "the copy cannot be opened", content: func(context.Context) (io.ReadCloser, error) { return nil, io.ErrClosedPipe }, want: "retry 451 4.3.0" + proven, open: "retry 451 4.3.0" + clear},
		fault{name: "bare LF in the copy", content: opener(body + "a\nb\r\n"), want: "failed 550 5.6.0" + proven, open: "failed 550 5.6.0" + clear},
		fault{name: "bare CR in the copy", content: opener(body + "a\rb\r\n"), want: "failed 550 5.6.0" + proven, open: "failed 550 5.6.0" + clear},
		fault{name: "CR at the end of the copy", content: opener(body + "a\r"), want: "failed 550 5.6.0" + proven, open: "failed 550 5.6.0" + clear},
		fault{name: "NUL in the copy", content: opener(body + "a\x00b\r\n"), want: "failed 550 5.6.0" + proven, open: "failed 550 5.6.0" + clear},
	)
}

// strip is somebody on the way who takes STARTTLS out, which a good server offers.
func strip(c *testkit.MTAConn, stage, _ string) bool {
	if stage != "EHLO" || c.Secure {
		return false
	}
	c.Say("250 mx.example.net\r\n")
	return true
}

// inject is an answer to a command that was not given yet (RFC 3207 6).
func inject(c *testkit.MTAConn, stage, _ string) bool {
	if stage != "STARTTLS" {
		return false
	}
	c.Say("220 go\r\n250-mx.example.net\r\n250 PIPELINING\r\n")
	c.StartTLS()
	return true
}

// late says the same, but when TLS has begun.
func late(c *testkit.MTAConn) {
	c.Say("220 go\r\n")
	_, _ = c.Read(make([]byte, 1)) // of the ClientHello
	c.Say("250 mx.example.net\r\n")
	c.Hang()
}

// trickle says one octet after the other, and never an end.
func trickle(c *testkit.MTAConn) {
	for range 1000 {
		if _, err := c.Write([]byte("2")); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// endless is more than any buffer holds.
func endless(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader(body), strings.NewReader(strings.Repeat(strings.Repeat("x", 70)+"\r\n", 500_000)))), nil
}

// cut is a copy that breaks off, as a spool that was damaged does.
func cut(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader(body), broken{})), nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// slow says that a fault is met by waiting.
func (f fault) slow() bool {
	return strings.HasPrefix(f.name, "hangs") || strings.HasPrefix(f.name, "trickles") || f.name == "stops reading"
}

// hasty are time-outs that a server which is slow in this way reaches soon.
func hasty(name string) Timeouts {
	const short = 300 * time.Millisecond
	t := Timeouts{Greeting: short, Command: short, Block: short, Final: short, Quit: 50 * time.Millisecond}
	if strings.HasSuffix(name, "handshake") {
		t.TLS = short
	}
	return t
}

// skipped are combinations that there are not, or that show nothing new.
func skipped(f fault, offer, floor string) bool {
	switch {
	case offer == "chunking" && (strings.HasSuffix(f.name, "at DATA") || strings.HasSuffix(f.name, "at content") || f.name == "stops reading"):
		return true
	case f.slow() || strings.HasPrefix(f.name, "endless"):
		return offer != "pipelining" || floor != "opportunistic" && floor != "enforce"
	}
	return false
}

// TestFaults: what becomes of a copy at a hostile server, with and without pipelining
// and chunks; and that nothing of one that needs verified TLS is ever seen outside of
// it, by whatever its need is.
func TestFaults(t *testing.T) {
	t.Parallel()
	offers := map[string][]string{
		"plain":      nil,
		"pipelining": {"PIPELINING", "8BITMIME"},
		"chunking":   {"PIPELINING", "CHUNKING"},
	}
	floors := []struct {
		name   string
		proof  string // how the server proves itself
		change func(*Request)
	}{
		{"opportunistic", "", func(*Request) {}},
		{"enforce", "mta-sts", func(*Request) {}},
		{"verified", "mta-sts", verified},
		{"DANE", "dane", func(*Request) {}},
		{"required", "dane", requireTLS},
	}
	for _, f := range faults() {
		for offer, keywords := range offers {
			for _, floor := range floors {
				if skipped(f, offer, floor.name) {
					continue
				}
				t.Run(f.name+", "+offer+", "+floor.name, func(t *testing.T) {
					t.Parallel()
					w := newWorld(t)
					cert := w.ca.issue(t, time.Now().Add(time.Hour), "mx.example.test")
					m := w.mta(1, &testkit.MTA{Offer: keywords, OfferTLS: append([]string{"REQUIRETLS"}, keywords...), Stage: f.stage, TLS: config(cert)})
					wanted := strings.Replace(f.want, "mta-sts", floor.proof, 1)
					switch floor.proof {
					case "":
						wanted = f.open
					case "mta-sts":
						w.policy(enforce)
					case "dane":
						w.dns.Secure(true)
						tlsaEE(selectSPKI, matchSHA256)(w, cert)
					}
					if f.slow() {
						w.o.Timeouts = hasty(f.name)
					}
					got := deliver(t, w.carrier(), floor.change, func(r *Request) {
						if f.content != nil {
							r.Open = f.content
						}
					})
					want(t, "result", got, wanted)
					if floor.proof != "" && (strings.Contains(m.Clear(), canary) || strings.Contains(m.Clear(), "MAIL")) {
						t.Errorf("content or envelope were seen in clear: %q", m.Clear())
					}
					if messages := m.Messages(); (len(messages) > 0) != strings.HasPrefix(wanted, "delivered") {
						t.Errorf("%d messages were taken: %+v", len(messages), messages)
					}
				})
			}
		}
	}
}

// TestFaultWithinTLS: the second EHLO goes wrong.
func TestFaultWithinTLS(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(*testkit.MTAConn)
		want string
	}{
		"hangs":    {hang, "retry 451 4.4.2 TLS1.3 mta-sts"},
		"closes":   {hangUp, "retry 451 4.4.2 TLS1.3 mta-sts"},
		"rubbish":  {say("rubbish\r\n"), "retry 451 4.5.0 TLS1.3 mta-sts"},
		"floods":   {flood("250-x\r\n"), "retry 451 4.5.0 TLS1.3 mta-sts"},
		"refuses":  {say("550 5.0.0 no\r\n"), "retry 550 5.0.0 TLS1.3 mta-sts"},
		"is fine":  {say("250 mx\r\n"), "delivered 250 2.0.0 TLS1.3 mta-sts"},
		"is us":    {say("250 us.sender.test\r\n"), "failed 550 5.4.6 TLS1.3 mta-sts"},
		"no reply": {say(""), "retry 451 4.4.2 TLS1.3 mta-sts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.policy(enforce)
			if name == "hangs" || name == "no reply" {
				w.o.Timeouts = hasty(name)
			}
			m := w.mta(1, &testkit.MTA{
				TLS: config(w.ca.issue(t, time.Now().Add(time.Hour), "mx.example.test")),
				Stage: func(conn *testkit.MTAConn, stage, _ string) bool {
					if stage == "EHLO" && conn.Secure {
						c.do(conn)
						return true
					}
					return false
				},
			})
			want(t, "result", deliver(t, w.carrier(), verified), c.want)
			if strings.Contains(m.Clear(), canary) {
				t.Error("seen in clear")
			}
		})
	}
}

// TestLostReply: if the reply to the content is lost the copy is sent again, so that it
// is there at least once.
func TestLostReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := true
	m := w.mta(1, &testkit.MTA{Stage: func(c *testkit.MTAConn, stage, _ string) bool {
		if stage == "end" && first {
			first = false
			c.Close()
			return true
		}
		return false
	}})
	c := w.carrier()
	want(t, "lost", deliver(t, c), "retry 451 4.4.2 none")
	want(t, "again", deliver(t, c), "delivered 250 2.0.0 none")
	if len(m.Messages()) != 1 || strings.Count(m.Clear(), canary) != 2 {
		t.Errorf("%d messages, sent %d times", len(m.Messages()), strings.Count(m.Clear(), canary))
	}
}

// TestHostileFirst: a server that goes wrong before it has seen content leaves the mail
// to the next one; one that has seen some does not.
func TestHostileFirst(t *testing.T) {
	t.Parallel()
	for _, stage := range append(stages(), "refused", "421 at MAIL", "421 at RCPT", "421 at DATA") {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "two.test. 300 IN A 127.0.0.2", "example.test. 300 IN MX 20 two.test.")
			step, wanted := at(stage, hangUp), "delivered 250 2.0.0 none"
			switch stage {
			case "refused":
				step = at("connect", say("554 5.7.1 no\r\n"))
			case "421 at MAIL", "421 at RCPT", "421 at DATA":
				step = at(strings.TrimPrefix(stage, "421 at "), say("421 4.3.2 no\r\n"))
			case "content", "end":
				wanted = "retry 451 4.4.2 none"
			}
			w.mta(1, &testkit.MTA{Stage: step})
			w.mta(2, &testkit.MTA{})
			want(t, "result", deliver(t, w.carrier()), wanted)
		})
	}
}

// TestCancel: a delivery ends with its context, at whatever stage it is.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, stage := range append(stages(), "STARTTLS") {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			reached := make(chan struct{})
			w.mta(1, &testkit.MTA{TLS: &tls.Config{}, Stage: at(stage, func(c *testkit.MTAConn) {
				close(reached)
				c.Hang()
			})})
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-reached
				cancel()
			}()
			r := w.carrier().Deliver(ctx, request(alice))[0]
			if r.Status != Retry {
				t.Errorf("%+v", r)
			}
		})
	}
}
