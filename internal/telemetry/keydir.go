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
		Name: "postern_keydir_lookups_total", Help: "Questions to a source of certificates, by its answer.",
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
		k.seconds[source] = seconds.WithLabelValues(source)
	}
	return k
}

// KeydirLookup counts an answer of a source, "found", "none" or "unknown".
func (m *Metrics) KeydirLookup(source, result string, took time.Duration) {
	if m == nil {
		return
	}
	if _, ok := m.keydir.lookups[source]; !ok {
		source = other
	}
	m.keydir.lookups[source].inc(result)
	m.keydir.seconds[source].Observe(took.Seconds())
}

// KeydirChange counts a change by the short name of the rule that decided.
func (m *Metrics) KeydirChange(rule string) {
	if m != nil {
		m.keydir.changes.inc(rule)
	}
}
