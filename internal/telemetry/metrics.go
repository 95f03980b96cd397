package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics counts what the gateway does. Every counter is resolved when it is made,
// so that counting costs an atomic addition. A nil *Metrics is of use: its methods
// do nothing. All methods are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	smtpConnections prometheus.Gauge
	smtpMessages    counters
	smtpRejections  counters

	bridgeMessages counters
	bridgeOutgoing counters
	bridgeSeal     prometheus.Histogram
	bridgeHeld     prometheus.Gauge

	msgauthResults map[string]counters // by method
	resolverDown   prometheus.Gauge

	keydir    keydirMetrics
	published map[string]counters // by protocol

	deliverResults counters
	deliverTLS     counters

	queue queueMetrics

	imapConnections prometheus.Gauge
	imapCommands    counters

	authAttempts counters

	storeCommit prometheus.Histogram
	storeGroup  prometheus.Histogram

	blobBytes  prometheus.Counter
	blobCommit prometheus.Histogram
	blobGroup  prometheus.Histogram
	blobErrors counters

	clusterErrors counters
	clusterUp     prometheus.Gauge
}

// NewMetrics returns metrics with a registry of their own, which also tells of the
// Go runtime and the process.
func NewMetrics() *Metrics {
	r := maker{prometheus.NewRegistry()}
	r.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Metrics{
		registry: r.registry,

		smtpConnections: r.gauge("postern_smtpd_connections", "SMTP connections that are open."),
		smtpMessages:    r.counters("postern_smtpd_messages_total", "Messages by the outcome told to the client.", "result", smtpResults()),
		smtpRejections:  r.counters("postern_smtpd_rejections_total", "Commands, recipients and messages refused.", "reason", smtpReasons()),

		bridgeMessages: r.counters("postern_bridge_messages_total", "Copies committed, by class.", "class", bridgeClasses()),
		bridgeOutgoing: r.counters("postern_bridge_outgoing_total", "Recipients elsewhere of submitted mail, by the protection of their copy.", "level", outgoingLevels()),
		bridgeSeal:     r.seconds("postern_bridge_seal_seconds", "Time to encrypt one copy and write its blob."),
		bridgeHeld:     r.gauge("postern_bridge_held", "Copies that wait for their owner's certificate."),

		msgauthResults: r.results(),
		resolverDown:   r.gauge("postern_msgauth_resolver_down", "1 while no DNS look-up is tried because the resolver failed."),

		keydir:    r.keydir(),
		published: r.published(),

		deliverResults: r.counters("postern_deliver_recipients_total", "Recipients tried at next hops, by what became of them.", "result", deliverResults()),
		deliverTLS:     r.counters("postern_deliver_tls_total", "Recipients delivered to next hops, by the TLS of the connection.", "tls", deliverTLS()),

		queue: r.queue(),

		imapConnections: r.gauge("postern_imapd_connections", "IMAP connections that are open."),
		imapCommands:    r.counters("postern_imapd_commands_total", "IMAP commands.", "command", imapCommands()),

		authAttempts: r.counters("postern_auth_attempts_total", "Attempts to log in.", "result", authResults()),

		storeCommit: r.seconds("postern_store_commit_seconds", "Time from asking for a commit to its being durable."),
		storeGroup:  r.sizes("postern_store_group_size", "Commits that shared one durable transaction."),

		blobBytes:  r.counter("postern_blob_bytes_total", "Octets of committed blobs."),
		blobCommit: r.seconds("postern_blob_commit_seconds", "Time from asking for a blob's commit to its being durable."),
		blobGroup:  r.sizes("postern_blob_group_size", "Blobs that shared one synchronisation of the disk."),
		blobErrors: r.counters("postern_blob_errors_total", "Blobs that could not be written.", "reason", blobReasons()),

		clusterErrors: r.counters("postern_cluster_errors_total", "Operations on what the nodes share that failed.", "op", clusterOps()),
		clusterUp:     r.gauge("postern_cluster_up", "1 while what the nodes share can be used; 0 while each node is on its own."),
	}
}

// Gatherer returns the registry for whoever serves it; nil of a nil *Metrics.
func (m *Metrics) Gatherer() prometheus.Gatherer {
	if m == nil {
		return nil
	}
	return m.registry
}

// SMTPConnection counts an open SMTP connection by +1 and its end by -1.
func (m *Metrics) SMTPConnection(delta int) {
	if m != nil {
		m.smtpConnections.Add(float64(delta))
	}
}

// SMTPMessage counts a message by one of the SMTP results, such as Accepted.
func (m *Metrics) SMTPMessage(result string) {
	if m != nil {
		m.smtpMessages.inc(result)
	}
}

// SMTPRejection counts a refusal by one of the Reason constants.
func (m *Metrics) SMTPRejection(reason string) {
	if m != nil {
		m.smtpRejections.inc(reason)
	}
}

// BridgeMessage counts a committed copy by its class: one of the Class constants.
func (m *Metrics) BridgeMessage(class string) {
	if m != nil {
		m.bridgeMessages.inc(class)
	}
}

// BridgeOutgoing counts n recipients of submitted mail elsewhere by the level of what they
// get, as mail.Level names it.
func (m *Metrics) BridgeOutgoing(level string, n int) {
	if m != nil {
		if c, ok := m.bridgeOutgoing[level]; ok {
			c.Add(float64(n))
		}
	}
}

// BridgeSeal records how long it took to seal one copy.
func (m *Metrics) BridgeSeal(d time.Duration) {
	if m != nil {
		m.bridgeSeal.Observe(d.Seconds())
	}
}

// BridgeHeld sets the number of held copies.
func (m *Metrics) BridgeHeld(n int) {
	if m != nil {
		m.bridgeHeld.Set(float64(n))
	}
}

// MsgauthResult counts a result of RFC 8601, "pass" for instance, of a method: "spf",
// "dkim" or "dmarc".
func (m *Metrics) MsgauthResult(method, result string) {
	if m != nil {
		m.msgauthResults[method].inc(result)
	}
}

// ResolverDown tells whether look-ups are not tried at present.
func (m *Metrics) ResolverDown(down bool) {
	if m == nil {
		return
	}
	if down {
		m.resolverDown.Set(1)
	} else {
		m.resolverDown.Set(0)
	}
}

// IMAPConnection counts an open IMAP connection by +1 and its end by -1.
func (m *Metrics) IMAPConnection(delta int) {
	if m != nil {
		m.imapConnections.Add(float64(delta))
	}
}

// IMAPCommand counts a command by its name in lower case, without "uid".
func (m *Metrics) IMAPCommand(name string) {
	if m != nil {
		m.imapCommands.inc(name)
	}
}

// AuthAttempt counts an attempt to log in by one of the Auth constants.
func (m *Metrics) AuthAttempt(result string) {
	if m != nil {
		m.authAttempts.inc(result)
	}
}

// StoreCommit records how long one commit took.
func (m *Metrics) StoreCommit(d time.Duration) {
	if m != nil {
		m.storeCommit.Observe(d.Seconds())
	}
}

// StoreGroup records how many commits shared a transaction.
func (m *Metrics) StoreGroup(n int) {
	if m != nil {
		m.storeGroup.Observe(float64(n))
	}
}

// BlobCommit records a durable blob: its octets and how long its commit took.
func (m *Metrics) BlobCommit(size int64, d time.Duration) {
	if m != nil {
		m.blobBytes.Add(float64(size))
		m.blobCommit.Observe(d.Seconds())
	}
}

// BlobGroup records how many blobs shared a synchronisation of the disk.
func (m *Metrics) BlobGroup(n int) {
	if m != nil {
		m.blobGroup.Observe(float64(n))
	}
}

// BlobError counts a blob that could not be written, by one of the Blob constants.
func (m *Metrics) BlobError(reason string) {
	if m != nil {
		m.blobErrors.inc(reason)
	}
}

// ClusterError counts an operation on what the nodes share that failed, by one of the
// Cluster constants.
func (m *Metrics) ClusterError(op string) {
	if m != nil {
		m.clusterErrors.inc(op)
	}
}

// ClusterUp tells whether what the nodes share can be used at present.
func (m *Metrics) ClusterUp(up bool) {
	if m == nil {
		return
	}
	if up {
		m.clusterUp.Set(1)
	} else {
		m.clusterUp.Set(0)
	}
}
