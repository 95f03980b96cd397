package deliver

import (
	"strings"
	"testing"

	"postern/internal/testkit"
)

// TestOutOfStep: a reply too many is never taken for that to the content, and another
// host gets the message.
func TestOutOfStep(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		offer []string
		stage string
		says  string
	}{
		"twice to RCPT, chunks": {[]string{"PIPELINING", "CHUNKING"}, "RCPT", "250 2.1.5 ok\r\n250 2.1.5 ok\r\n"},
		"twice to DATA":         {nil, "DATA", "354 go on\r\n250 2.0.0 taken\r\n"},
		"twice to DATA, in one": {[]string{"PIPELINING"}, "DATA", "354 go on\r\n250 2.0.0 taken\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "example.test. 300 IN MX 20 good.example.test.", "good.example.test. 300 IN A 127.0.0.2")
			bad := w.mta(1, &testkit.MTA{Offer: c.offer, Stage: at(c.stage, say(c.says))})
			good := w.mta(2, &testkit.MTA{})
			want(t, "result", deliver(t, w.carrier()), inClear)
			if len(good.Messages()) != 1 || strings.Contains(bad.Clear(), canary) {
				t.Errorf("%d messages; the other got %q", len(good.Messages()), bad.Clear())
			}
		})
	}
}
