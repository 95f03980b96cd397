package telemetry

import "strings"

// Results of postern_deliver_recipients_total.
func deliverResults() []string { return []string{"delivered", "retry", "failed"} }

// Values of postern_deliver_tls_total: "unproven" is TLS with whomever.
func deliverTLS() []string { return []string{"none", "unproven", "dane", "mta-sts"} }

// Delivery counts what became of one recipient in one attempt: "delivered", "retry" or
// "failed"; and the TLS of the connection that it was delivered over, as results have
// it ("none", "TLS1.3", "TLS1.3 dane"), or "".
func (m *Metrics) Delivery(result, tls string) {
	if m == nil {
		return
	}
	m.deliverResults.inc(result)
	switch _, proof, proven := strings.Cut(tls, " "); {
	case tls == "":
	case tls == "none":
		m.deliverTLS.inc("none")
	case proven:
		m.deliverTLS.inc(proof)
	default:
		m.deliverTLS.inc("unproven")
	}
}
