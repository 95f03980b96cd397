package queue

import (
	"strconv"
	"strings"

	"postern/internal/store"
	"postern/internal/telemetry"
)

// became counts what became of a recipient, in an attempt or in the end, by one of the Queue
// constants of telemetry, and writes the line about it. What was said last of them is in
// r.Reply; tls is that of the connection, if there was one.
func (q *Queue) became(g store.Group, r store.QueuedRcpt, result, tls string) {
	q.Metrics.QueueRecipient(result)
	line := []any{
		telemetry.KeyPart, "queue", telemetry.KeyID, g.Copy.Source, telemetry.KeyQueued, r.ID.String(),
		telemetry.KeyRcpt, r.Address, telemetry.KeyDomain, r.Domain, telemetry.KeyLevel, g.Copy.Level.String(),
		telemetry.KeyResult, result,
	}
	code := r.Reply.Enhanced
	if r.Reply.Code != 0 {
		code = strings.TrimSpace(strconv.Itoa(r.Reply.Code) + " " + code)
	}
	for _, known := range []struct{ key, value string }{
		{telemetry.KeyCode, code}, {telemetry.KeyHost, r.Reply.Host}, {telemetry.KeyTLS, plain(tls)},
	} {
		if known.value != "" {
			line = append(line, known.key, known.value)
		}
	}
	if r.Reply.Text != "" {
		line = append(line, telemetry.KeyReply, telemetry.Said{Text: r.Reply.Text, About: r.Address})
	}
	q.Log.Info("delivery", line...)
}
