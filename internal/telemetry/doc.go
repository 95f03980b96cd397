// Package telemetry is what the gateway says about itself: the logger, the names of
// everything in a log line, and the metrics.
//
// It never lets an address, a subject or a key into a log unless the operator asked
// for addresses, and then only addresses. It has no global registry and no global
// logger; both are made once and handed down. It serves nothing: whoever has an
// HTTP server gathers the metrics from here.
package telemetry
