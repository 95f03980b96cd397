package queue

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"postern/internal/deliver"
	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/telemetry"
	"postern/internal/testkit"
)

// TestLog: one line says what became of each recipient at each attempt, why, and under
// which id; who the recipient is it says only where that is asked for.
func TestLog(t *testing.T) {
	t.Parallel()
	for _, addresses := range []bool{false, true} {
		text := logOf(t, addresses)
		byResult := map[string][]map[string]any{}
		for line := range strings.Lines(text) {
			var l map[string]any
			noError(t, json.Unmarshal([]byte(line), &l))
			if l["msg"] == "delivery" {
				result, _ := l["result"].(string)
				byResult[result] = append(byResult[result], l)
			}
		}
		for result, want := range map[string]map[string]any{
			"delivered": {"id": "t1", "level": "INFO", "domain": "there.test", "protection": "sealed", "code": "250 2.0.0",
				"host": "mx.there.test", "tls": "TLS1.3", "reply": "queued as 4711"},
			"deferred": {"id": "t1", "level": "INFO", "domain": "grey.test", "code": "451 4.7.1", "host": "mx.there.test", "reply": "come again"},
			"failed":   {"id": "t1", "level": "INFO", "domain": "gone.test", "protection": "clear", "code": "550 5.1.1"},
			"decided":  {"id": "t1", "level": "INFO", "domain": "held.test", "protection": "held", "code": nil},
			"expired":  {"id": "t1", "level": "INFO", "domain": "late.test", "code": nil},
		} {
			if len(byResult[result]) != 1 {
				t.Errorf("%s: %d lines:\n%s", result, len(byResult[result]), text)
				continue
			}
			got := byResult[result][0]
			for key, value := range want {
				if got[key] != value {
					t.Errorf("%s: %s is %v, want %v", result, key, got[key], value)
				}
			}
			if id, _ := got["queued"].(string); id == "" {
				t.Errorf("%s: without the id of the queue: %v", result, got)
			}
		}
		for _, who := range []string{"abelard", "heloise", "fulbert", "astrolabe", "bernard", "alice", "canary"} {
			if shown := strings.Contains(strings.ToLower(text), who); shown && (!addresses || who == "canary") {
				t.Errorf("%s is in the log:\n%s", who, text)
			} else if addresses && !shown && who != "alice" && who != "canary" {
				t.Errorf("%s is not in the log:\n%s", who, text)
			}
		}
	}
}

// logOf has something become of recipients in every way there is, each once.
func logOf(t *testing.T, addresses bool) string {
	b, log := newBed(t), new(testkit.Log)
	b.queue.Log = telemetry.NewLogger(log, "json", slog.LevelInfo, addresses)
	b.setAnswer(func(_ context.Context, r deliver.Request) []deliver.Result {
		switch r.Domain {
		case "gone.test":
			return []deliver.Result{refusal(550, "5.1.1", "<Fulbert@gone.test>: no mailbox FULBERT here; mail of <alice@here.test> is not taken")}
		case "grey.test":
			return []deliver.Result{refusal(451, "4.7.1", "come again")}
		}
		return []deliver.Result{{Status: deliver.Delivered, Code: 250, Enhanced: "2.0.0", Text: "queued as 4711", Host: "mx.there.test", TLS: "TLS1.3"}}
	})
	b.decide = func(ctx context.Context, _ *store.Outgoing, r store.OutgoingRcpt) error {
		_, err := b.store.Commit(ctx, store.Batch{Replaced: []store.ID{r.ID}})
		return err
	}
	b.put(mail.Sealed, func(o *store.Outgoing) { o.Created = b.clock.Now().Add(-6 * 24 * time.Hour) }, "bernard@late.test")
	b.queue.takeLate(t.Context(), t.Context(), make(chan struct{}, 1))
	b.queue.workers.Wait()
	b.put(mail.Sealed, nil, "abelard@there.test")
	b.put(mail.Clear, nil, "fulbert@gone.test")
	b.put(mail.Sealed, nil, "heloise@grey.test")
	b.put(mail.Held, nil, "astrolabe@held.test")
	b.run(b.queue)
	b.until("all but one are done", func() bool { return len(b.rows()) == 1 })
	b.idle()
	return log.String()
}
