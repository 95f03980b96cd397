package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Results of postern_keydir_published_total.
const (
	PublishedFound     = "found"
	PublishedUnchanged = "unchanged" // the client has it already
	PublishedAbsent    = "absent"
	PublishedUnknown   = "unknown" // it could not be found out
	PublishedLimited   = "limited" // too many questions
	PublishedDenied    = "denied"  // a wrong password
)

// Protocols by which certificates are given out.
func publishProtocols() []string { return []string{"wkd", "hkp", "vks"} }

func publishResults() []string {
	return []string{PublishedFound, PublishedUnchanged, PublishedAbsent, PublishedUnknown, PublishedLimited, PublishedDenied}
}

func (r maker) published() map[string]counters {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_keydir_published_total", Help: "Questions for certificates that were answered, by protocol and answer.",
	}, []string{"protocol", "result"})
	r.registry.MustRegister(v)
	all := make(map[string]counters)
	for _, protocol := range append(publishProtocols(), other) {
		all[protocol] = make(counters)
		for _, result := range append(publishResults(), other) {
			all[protocol][result] = v.WithLabelValues(protocol, result)
		}
	}
	return all
}

// KeydirPublished counts an answer to a question for certificates by its protocol and
// one of the Published constants.
func (m *Metrics) KeydirPublished(protocol, result string) {
	if m == nil {
		return
	}
	if _, ok := m.published[protocol]; !ok {
		protocol = other
	}
	m.published[protocol].inc(result)
}
