package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Sources of the key directory's metrics.
func keydirSources() []string {
	return []string{"wkd", "dane", "vks", "hkp", "autocrypt", "memory", "store"}
}

// Results of a look-up.
func keydirResults() []string { return []string{"found", "none", "unknown"} }

// Rules of postern_keydir_changes_total, in short.
func keydirRules() []string {
	return []string{"first", "same_primary", "pinned", "weaker", "succeeds", "dead", "replaced", "vanished", "lost", "accepted", "rejected"}
}

// keydirMetrics are those of the key directory; no address is ever in a label.
type keydirMetrics struct {
	lookups map[string]counters // by source
	seconds map[string]prometheus.Observer
	changes counters
}

func (r maker) keydir() keydirMetrics {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_keydir_lookups_total", Help: "Look-ups by who answered, a source of certificates or what is remembered in memory or in the store, and by the answer.",
	}, []string{"source", "result"})
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "postern_keydir_lookup_seconds", Help: "Time that a source of certificates took to answer.",
		Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2, 5},
	}, []string{"source"})
	r.registry.MustRegister(lookups, seconds)
	k := keydirMetrics{
		lookups: make(map[string]counters), seconds: make(map[string]prometheus.Observer),
		changes: r.counters("postern_keydir_changes_total", "Changes of what is known of an address, by the rule that decided.", "rule", keydirRules()),
	}
	for _, source := range append(keydirSources(), other) {
		k.lookups[source] = make(counters)
		for _, result := range append(keydirResults(), other) {
			k.lookups[source][result] = lookups.WithLabelValues(source, result)
		}
		if source != "memory" && source != "store" { // nobody waits for those
			k.seconds[source] = seconds.WithLabelValues(source)
		}
	}
	return k
}

// KeydirLookup counts an answer of a source, "found", "none" or "unknown".
func (m *Metrics) KeydirLookup(source, result string, took time.Duration) {
	if m == nil {
		return
	}
	if _, ok := m.keydir.seconds[source]; !ok {
		source = other
	}
	m.keydir.lookups[source].inc(result)
	m.keydir.seconds[source].Observe(took.Seconds())
}

// KeydirKnown counts a look-up that was answered from "memory" or from the "store",
// where nobody had to be waited for.
func (m *Metrics) KeydirKnown(from, result string) {
	if m != nil {
		m.keydir.lookups[from].inc(result)
	}
}

// KeydirChange counts a change by the short name of the rule that decided.
func (m *Metrics) KeydirChange(rule string) {
	if m != nil {
		m.keydir.changes.inc(rule)
	}
}
