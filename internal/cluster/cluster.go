// Package cluster holds what may be lost: wake-ups and rate counters. On one node
// it lies in memory; the nodes of a cluster share it.
//
// Nothing here is ever the truth. Every user must stay correct when a wake-up does
// not come or a counter starts again from nothing: it is then slower, or more
// generous for one window, never wrong. It never holds addresses longer than a
// window lasts, and never a message.
package cluster

import "time"

// Cluster is what the parts of the gateway share about the present moment. Its
// methods never block and are safe for concurrent use.
type Cluster interface {
	// Wake tells every watcher of topic that something changed. Wake-ups
	// coalesce: a watcher that has not yet looked sees one, however many came.
	Wake(topic string)
	// WakeAll tells every watcher of every topic, as when it is not known what
	// changed.
	WakeAll()
	// Watch returns a channel of capacity one that receives a value after each
	// Wake of topic, and a function that ends the watch. Ending it twice does
	// nothing. The channel is never closed.
	Watch(topic string) (<-chan struct{}, func())
	// Take counts one use of key and reports whether it is within limit uses per
	// window. A refused use is not counted. A limit or window of zero or less
	// refuses nothing: it means that none is set.
	Take(key string, limit int, window time.Duration) bool
}
