package queue

import (
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/store"
	"postern/internal/testkit"
)

// python reads a report as another program would and says what it found.
const python = `
import sys, json, email, email.policy
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
def defects(p):
    d = [type(x).__name__ for x in p.defects]
    for h in p.values(): d += [type(x).__name__ for x in getattr(h, "defects", [])]
    for q in (p.iter_parts() if p.is_multipart() else []): d += defects(q)
    return d
text, status, headers = list(m.iter_parts())
blocks = [{k: str(v) for k, v in b.items()} for b in status.get_payload()] if status.is_multipart() else status.get_content().decode() if isinstance(status.get_content(), bytes) else status.get_content()
print(json.dumps({"type": m.get_content_type(), "report": m.get_param("report-type"), "subject": m["subject"], "to": str(m["to"]),
  "auto": m["auto-submitted"], "reply": m["in-reply-to"], "defects": defects(m), "types": [p.get_content_type() for p in m.iter_parts()],
  "text": text.get_content(), "status": blocks, "headers": str(headers.get_payload())}))
`

type parsed struct {
	Type, Report, Subject, To, Auto, Reply, Text, Headers string
	Defects, Types                                        []string
	Status                                                json.RawMessage
}

func parse(t *testing.T, d *dsn) (p parsed, blocks []map[string]string, raw string) {
	t.Helper()
	b, err := io.ReadAll(d.reader())
	noError(t, err)
	cmd := exec.Command(testkit.Parts(t, "python3")["python3"], "-c", python)
	cmd.Stdin = strings.NewReader(string(b))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("python: %v %s\n%s", err, err.(*exec.ExitError).Stderr, b)
	}
	noError(t, json.Unmarshal(out, &p))
	if err := json.Unmarshal(p.Status, &blocks); err != nil {
		blocks = nil
	}
	for line := range strings.SplitSeq(string(b), "\r\n") {
		if strings.ContainsAny(line, "\r\n\x00") || len(line) > 998 {
			t.Errorf("line %q", line)
		}
	}
	return p, blocks, string(b)
}

func testReport(t *testing.T, e event, header string, rcpts ...reported) *dsn {
	t.Helper()
	h, _, err := message.ParseHeader([]byte(header))
	noError(t, err)
	to, err := mail.ParseAddress("alice@here.test")
	noError(t, err)
	at := testkit.NewClock().Now()
	for i := range rcpts {
		rcpts[i].rcpt.Since = at
	}
	return &dsn{Event: e, Hostname: "mail.here.test", ID: "x1", Now: at, GiveUp: 5 * 24 * time.Hour, To: to,
		Copy: &store.Outgoing{Created: at, EnvID: "QQ314159"}, Rcpts: rcpts, Header: h}
}

func rcpt(address, original string, reply store.Reply) reported {
	_, domain, _ := strings.Cut(address, "@")
	return reported{rcpt: store.QueuedRcpt{OutgoingRcpt: store.OutgoingRcpt{Address: address, Domain: domain, Original: original}}, reply: reply}
}

// TestForm is RFC 3464 as another program reads it.
func TestForm(t *testing.T) {
	t.Parallel()
	refused := store.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user", Host: "mx.there.test"}
	for _, c := range []struct {
		name                     string
		event                    event
		reply                    store.Reply
		action, status, diagnose string
		says                     string
	}{
		{"refused", eventFailed, refused, "failed", "5.1.1", "smtp; 550 5.1.1 no such user", "Check the address"},
		{"no status", eventFailed, store.Reply{Code: 554, Text: "no", Host: "mx"}, "failed", "5.0.0", "smtp; 554 no", "postmaster@there.test"},
		{"status of another class", eventFailed, store.Reply{Code: 554, Enhanced: "2.0.0", Text: "no", Host: "mx"}, "failed", "5.0.0", "smtp; 554 2.0.0 no", "mx says"},
		{"own words", eventFailed, store.Reply{Code: 550, Enhanced: "5.1.10", Text: "accepts no mail"}, "failed", "5.1.10", "x-postern; accepts no mail", "550 5.1.10 accepts"},
		{"ASCII only", eventFailed, store.Reply{Code: 550, Enhanced: "5.6.7", Text: "ASCII only", Host: "mx"}, "failed", "5.6.7", "smtp; 550 5.6.7 ASCII only", "only addresses in ASCII"},
		{"expired", eventExpired, store.Reply{Code: 451, Enhanced: "4.7.1", Text: "greylisted", Host: "mx"}, "failed", "4.4.7", "smtp; 451 4.7.1 greylisted", "5 days"},
		{"never tried", eventExpired, store.Reply{}, "failed", "4.4.7", "", "could not be tried"},
		{"late", eventDelayed, store.Reply{Code: 451, Enhanced: "4.7.1", Text: "greylisted", Host: "mx"}, "delayed", "4.7.1", "smtp; 451 4.7.1 greylisted", "7 March 2026"},
		{"relayed", eventRelayed, store.Reply{Code: 250, Enhanced: "2.1.5", Text: "ok", Host: "mx"}, "relayed", "2.1.5", "smtp; 250 2.1.5 ok", "handed over to mx"},
		{"delivered", eventDelivered, store.Reply{}, "delivered", "2.0.0", "", "in the mailboxes"},
		{"cancelled", eventCancelled, store.Reply{}, "failed", "5.7.0", "", "Whoever runs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := testReport(t, c.event, original, rcpt("bob@there.test", "rfc822;Bob@there.test", c.reply), rcpt("eve@there.test", "", c.reply))
			p, blocks, raw := parse(t, d)
			if p.Type != "multipart/report" || p.Report != "delivery-status" || p.Auto != "auto-replied" || p.Reply != "<one@here.test>" ||
				p.To != "alice@here.test" || len(p.Defects) > 0 || strings.Join(p.Types, " ") != "text/plain message/delivery-status text/rfc822-headers" {
				t.Errorf("report %+v\n%s", p, raw)
			}
			if len(blocks) != 3 {
				t.Fatalf("status %v", blocks)
			}
			if m := blocks[0]; m["Reporting-MTA"] != "dns; mail.here.test" || m["Original-Envelope-Id"] != "QQ314159" || m["Arrival-Date"] == "" {
				t.Errorf("message fields %v", m)
			}
			if r := blocks[1]; r["Final-Recipient"] != "rfc822; bob@there.test" || r["Original-Recipient"] != "rfc822; Bob@there.test" ||
				r["Action"] != c.action || r["Status"] != c.status || r["Diagnostic-Code"] != c.diagnose || (r["Will-Retry-Until"] != "") != (c.event == eventDelayed) {
				t.Errorf("recipient fields %v", r)
			}
			if _, ok := blocks[2]["Original-Recipient"]; ok || blocks[2]["Final-Recipient"] != "rfc822; eve@there.test" {
				t.Errorf("recipient fields %v", blocks[2])
			}
			if !strings.Contains(p.Text, c.says) || !strings.Contains(p.Text, "bob@there.test") || !strings.Contains(p.Headers, "Message-ID: <one@here.test>") ||
				strings.Contains(raw, "canary") {
				t.Errorf("text %s\nheaders %s", p.Text, p.Headers)
			}
		})
	}
}

func TestMTAName(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"mx.there.test": "mx.there.test", "192.0.2.1": "[192.0.2.1]", "2001:db8::1": "[IPv6:2001:db8::1]",
	} {
		if got := mtaName(host); got != want {
			t.Errorf("%s: %s", host, got)
		}
	}
}

// TestInjection: nothing that a peer or a sender wrote ends a line.
func TestInjection(t *testing.T) {
	t.Parallel()
	evil := "x\r\nInjected: yes\r\n\r\n--=_postern\x00\x1b[2J" + strings.Repeat("y", 5000)
	d := testReport(t, eventFailed, "Message-ID: <a b>\r\nno field\r\nX: y\nZ: z\r\n", rcpt("bob@there.test", "rfc822;"+evil,
		reply(refusal(550, "5.1.1"+evil, evil))))
	d.Copy.EnvID = evil
	p, blocks, raw := parse(t, d)
	if strings.Contains(raw, "\nInjected") || len(p.Defects) > 0 || len(blocks) != 2 || p.Reply != "" || strings.Contains(p.Headers, "no field") {
		t.Errorf("%+v\n%s", p, raw)
	}
}

// TestUTF8 is RFC 6533.
func TestUTF8(t *testing.T) {
	t.Parallel()
	d := testReport(t, eventFailed, original, rcpt("bøb@there.test", "", store.Reply{}))
	p, _, raw := parse(t, d)
	if !d.utf8() || p.Types[1] != "message/global-delivery-status" || p.Types[2] != "message/global-headers" || !strings.Contains(raw, "Final-Recipient: utf-8; bøb@there.test") {
		t.Errorf("%+v\n%s", p, raw)
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	s := Schedule{}.withDefaults()
	for attempts, want := range map[int]time.Duration{
		0: 5 * time.Minute, 1: 5 * time.Minute, 2: 10 * time.Minute, 3: 20 * time.Minute, 6: 160 * time.Minute, 7: 4 * time.Hour, 1000000: 4 * time.Hour,
	} {
		if got := s.after(attempts); got != want {
			t.Errorf("after %d: %v, want %v", attempts, got, want)
		}
	}
	for range 1000 {
		if d := jitter(time.Hour); d < 48*time.Minute || d > 72*time.Minute {
			t.Fatalf("jitter %v", d)
		}
	}
	if (Schedule{Warn: -1}).withDefaults().overdue() != 5*24*time.Hour || s.overdue() != 4*time.Hour {
		t.Error("overdue")
	}
}

func FuzzClean(f *testing.F) {
	f.Add("250 ok\r\nX: y")
	f.Add("\xff\xfe\u202e\u2028\x1b[2J")
	f.Fuzz(func(t *testing.T, s string) {
		c := clean(s)
		if len(c) > maxText || strings.ContainsFunc(c, func(r rune) bool {
			return !unicode.IsPrint(r) || r == unicode.ReplacementChar && !strings.ContainsRune(s, r)
		}) {
			t.Errorf("%q", c)
		}
	})
}
