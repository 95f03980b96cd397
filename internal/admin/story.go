package admin

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// storyRows is how much is told of one message.
const storyRows = 10_000

// Event is something that was decided on a message, or done with it.
type Event struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"` // "send": what a copy is, and why; "relay": what became of it
	Detail string    `json:"detail"`
}

// Story is what is recorded of one message, in order.
type Story []Event

// ExplainMessage tells what was decided and done with a message that an account
// submitted, by the id under which it was accepted.
func (a *Admin) ExplainMessage(ctx context.Context, id string) (Story, error) {
	if id == "" || strings.Contains(id, "@") {
		return nil, usage("%q is no id: it stands in the reply to the message, and in its Received field", id)
	}
	rows, err := a.g.Store.AuditRows(ctx, id, storyRows)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("nothing is recorded of a message %s", id)
	}
	story := make(Story, 0, len(rows))
	for _, row := range slices.Backward(rows) {
		story = append(story, Event{row.Time, row.Kind, row.Detail})
	}
	return story, nil
}

// WriteText implements the human form.
func (s Story) WriteText(w io.Writer) error {
	return table(w, "TIME\tWHAT\tDETAIL", func(line func(string, ...any)) {
		for _, e := range s {
			line("%s\t%s\t%s", e.Time.UTC().Format(time.DateTime), e.Kind, e.Detail)
		}
	})
}
