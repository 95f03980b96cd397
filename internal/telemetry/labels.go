package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Results of postern_smtpd_messages_total.
const (
	Accepted = "accepted" // 250 after DATA
	Deferred = "deferred" // 4xx after DATA
	Refused  = "refused"  // 5xx after DATA
	Aborted  = "aborted"  // the connection ended first
)

func smtpResults() []string { return []string{Accepted, Deferred, Refused, Aborted} }

// Reasons of postern_smtpd_rejections_total.
const (
	ReasonUnknownRecipient = "unknown_recipient"
	ReasonRelay            = "relay"
	ReasonQuota            = "quota"
	ReasonSize             = "size"
	ReasonRecipients       = "recipients" // too many
	ReasonConnections      = "connections"
	ReasonRate             = "rate"
	ReasonSyntax           = "syntax"
	ReasonBareNewline      = "bare_newline" // RFC 5321 2.3.8, smuggling
	ReasonLineLength       = "line_length"
	ReasonAuth             = "auth"
	ReasonTLS              = "tls"
	ReasonTimeout          = "timeout"
	ReasonLoop             = "loop"
	ReasonMessage          = "message" // its structure is over a limit
	ReasonInternal         = "internal"
)

func smtpReasons() []string {
	return []string{ReasonUnknownRecipient, ReasonRelay, ReasonQuota, ReasonSize, ReasonRecipients,
		ReasonConnections, ReasonRate, ReasonSyntax, ReasonBareNewline, ReasonLineLength, ReasonAuth,
		ReasonTLS, ReasonTimeout, ReasonLoop, ReasonMessage, ReasonInternal}
}

// Classes of postern_bridge_messages_total.
const (
	ClassSealed    = "sealed"
	ClassEncrypted = "encrypted"
	ClassHeld      = "held"
	ClassNotice    = "notice"
)

func bridgeClasses() []string { return []string{ClassSealed, ClassEncrypted, ClassHeld, ClassNotice} }

// outgoingLevels are the levels of postern_bridge_outgoing_total, as mail.Level names
// them. Refused and deferred are those recipients because of whom a message was not taken.
func outgoingLevels() []string {
	return []string{"refused", "deferred", "clear", "tls", "held", "sealed", "end-to-end"}
}

// Results of postern_auth_attempts_total.
const (
	AuthOK        = "ok"
	AuthRejected  = "rejected"
	AuthThrottled = "throttled"
	AuthError     = "error"
)

func authResults() []string { return []string{AuthOK, AuthRejected, AuthThrottled, AuthError} }

// Reasons of postern_blob_errors_total.
const (
	BlobFull  = "full"  // no space
	BlobWrite = "write" // any other error of a write
	BlobSync  = "sync"  // the disk did not say that it is durable
)

func blobReasons() []string { return []string{BlobFull, BlobWrite, BlobSync} }

// Operations of postern_cluster_errors_total.
const (
	ClusterGet        = "get"
	ClusterSet        = "set"
	ClusterInvalidate = "invalidate"
	ClusterLease      = "lease" // taken or given back
	ClusterWait       = "wait"
	ClusterTake       = "take"
	ClusterWake       = "wake"
	ClusterListen     = "listen" // the subscription ended
	ClusterCheck      = "check"  // of whether Redis is up
)

func clusterOps() []string {
	return []string{ClusterGet, ClusterSet, ClusterInvalidate, ClusterLease, ClusterWait, ClusterTake,
		ClusterWake, ClusterListen, ClusterCheck}
}

func authMethods() []string { return []string{"spf", "dkim", "dmarc"} }

// authenticationResults are the words of RFC 8601 2.7.
func authenticationResults() []string {
	return []string{"none", "pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror"}
}

func imapCommands() []string {
	return []string{"append", "authenticate", "capability", "check", "close", "copy", "create", "delete",
		"enable", "examine", "expunge", "fetch", "id", "idle", "list", "login", "logout", "lsub", "move",
		"namespace", "noop", "rename", "search", "select", "starttls", "status", "store", "subscribe",
		"unselect", "unsubscribe"}
}

// other stands for every label value that has no counter of its own, so that no
// peer can make the number of series grow.
const other = "other"

// counters are the counters of one metric by the value of its label. The map is
// complete when it is made and only read after.
type counters map[string]prometheus.Counter

func (c counters) inc(value string) {
	k, ok := c[value]
	if !ok {
		k, ok = c[other]
	}
	if ok {
		k.Inc()
	}
}

// maker makes and registers metrics.
type maker struct{ registry *prometheus.Registry }

func (r maker) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	r.registry.MustRegister(c)
	return c
}

func (r maker) counters(name, help, label string, values []string) counters {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	r.registry.MustRegister(v)
	c := make(counters, len(values)+1)
	for _, value := range append(values, other) {
		c[value] = v.WithLabelValues(value)
	}
	return c
}

func (r maker) results() map[string]counters {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "postern_msgauth_results_total",
		Help: "Results of verifying who sent a message (RFC 8601).",
	}, []string{"method", "result"})
	r.registry.MustRegister(v)
	all := make(map[string]counters)
	for _, method := range authMethods() {
		all[method] = make(counters)
		for _, result := range append(authenticationResults(), other) {
			all[method][result] = v.WithLabelValues(method, result)
		}
	}
	return all
}

func (r maker) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	r.registry.MustRegister(g)
	return g
}

// seconds has buckets from 0.1 ms to about 26 s, a factor of four apart.
func (r maker) seconds(name, help string) prometheus.Histogram {
	return r.histogram(name, help, prometheus.ExponentialBuckets(100*time.Microsecond.Seconds(), 4, 10))
}

// sizes has buckets for groups of 1 to 256.
func (r maker) sizes(name, help string) prometheus.Histogram {
	return r.histogram(name, help, prometheus.ExponentialBuckets(1, 2, 9))
}

func (r maker) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	r.registry.MustRegister(h)
	return h
}
