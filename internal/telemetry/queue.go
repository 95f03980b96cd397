package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of postern_queue_recipients_total.
const (
	QueueDelivered = "delivered"
	QueueDeferred  = "deferred" // to be tried again
	QueueFailed    = "failed"   // refused by the next hop
	QueueExpired   = "expired"
	QueueCancelled = "cancelled" // by the operator
	QueueDecided   = "decided"   // a held copy is held no more
)

func queueResults() []string {
	return []string{QueueDelivered, QueueDeferred, QueueFailed, QueueExpired, QueueCancelled, QueueDecided}
}

// Reports of postern_queue_reports_total: by their event, "error" for one that could not
// be handed in, "nobody" where there is no one to tell.
func queueReports() []string {
	return []string{"failed", "expired", "cancelled", "delayed", "relayed", "error", "nobody"}
}

// queueMetrics are those of the queue; no domain is ever in a label.
type queueMetrics struct {
	waiting             map[string]prometheus.Gauge // by state
	oldest, unreached   prometheus.Gauge
	recipients, reports counters
	lost                prometheus.Counter
}

func (r maker) queue() queueMetrics {
	waiting := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "postern_queue_waiting", Help: "Recipients in the queue, by state; in_hand counts groups of them that this node is at.",
	}, []string{"state"})
	r.registry.MustRegister(waiting)
	q := queueMetrics{
		waiting:    map[string]prometheus.Gauge{},
		oldest:     r.gauge("postern_queue_oldest_seconds", "Age of the oldest message in the queue."),
		unreached:  r.gauge("postern_queue_unreached_domains", "Domains that could not be reached the last time."),
		recipients: r.counters("postern_queue_recipients_total", "Recipients by what became of them in one attempt, or in the end.", "result", queueResults()),
		reports:    r.counters("postern_queue_reports_total", "Reports to senders (RFC 3464).", "event", queueReports()),
		lost:       r.counter("postern_queue_lost_total", "Outcomes that could not be recorded by who had the lease: what was delivered may be delivered twice."),
	}
	for _, state := range []string{"waiting", "held", "on_hold", "in_hand"} {
		q.waiting[state] = waiting.WithLabelValues(state)
	}
	return q
}

// QueueWaiting sets what is in the queue.
func (m *Metrics) QueueWaiting(waiting, held, onHold, inHand, unreached int, oldest time.Duration) {
	if m == nil {
		return
	}
	for state, n := range map[string]int{"waiting": waiting, "held": held, "on_hold": onHold, "in_hand": inHand} {
		m.queue.waiting[state].Set(float64(n))
	}
	m.queue.unreached.Set(float64(unreached))
	m.queue.oldest.Set(oldest.Seconds())
}

// QueueRecipient counts a recipient by one of the Queue constants.
func (m *Metrics) QueueRecipient(result string) {
	if m != nil {
		m.queue.recipients.inc(result)
	}
}

// QueueReport counts a report by its event, or as "error" or "nobody".
func (m *Metrics) QueueReport(event string) {
	if m != nil {
		m.queue.reports.inc(event)
	}
}

// QueueLost counts outcomes that were not recorded.
func (m *Metrics) QueueLost(n int) {
	if m != nil {
		m.queue.lost.Add(float64(n))
	}
}
