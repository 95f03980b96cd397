// Package cluster holds what the nodes of a gateway share and may lose at any time:
// wake-ups, rate counters, a cache and leases. On one node it lies in memory; the
// nodes of a cluster share it through Redis.
//
//	cluster.go     what is shared, and what may be relied on
//	open.go        chooses the implementation
//	memory.go      the cluster of one process, made of
//	topics.go        who is woken by what
//	counter.go       rate counters
//	values.go        the cache
//	holdoff.go       what was invalidated a moment ago
//	leases.go        who is looking something up
//	redis.go       the cluster of many, made of
//	client.go        the connections, and how long they may take
//	sentinel.go      finds the master that Sentinels name
//	guard.go         keeps replies within bounds
//	breaker.go       what a dead Redis may cost
//	health.go        watches Redis: dead, read-only, started again
//	name.go          names and frames of what lies in Redis
//	script.go        the Lua scripts
//	notice.go        what nodes tell each other
//	listen.go        hears it
//	outbox.go        says it, again and again until it was said
//
// Nothing here is ever the truth. Redis down, slow, wiped, read-only, full or full of
// rubbish means slower, or more generous for one window, and never wrong: every user
// stays correct when a wake-up does not come, a counter starts again from nothing,
// nothing is cached and two nodes hold the same lease. No method waits for a Redis
// that is known to be down, and none for longer than some milliseconds otherwise.
//
// The package never holds addresses longer than a window lasts: keys lie in Redis
// as keyed hashes. Only an invalidation names its key, to those who listen at that
// moment. It never holds a message.
package cluster

import (
	"context"
	"time"
)

const (
	// MaxValue is the most octets a cached value may have.
	MaxValue = 256 << 10
	// MaxTTL is the longest that a value is cached, and so how old an answer of the
	// cache can be if everything that could go wrong with an invalidation does.
	MaxTTL = 24 * time.Hour
	// MaxLease is the longest that a lease lasts.
	MaxLease = 5 * time.Minute
	// HoldOff is how long after its invalidation nothing is cached under a key, so
	// that what somebody read before it cannot come back after it. Nobody may Set
	// what he read longer ago than this.
	HoldOff = 15 * time.Second
)

// Cluster is what the nodes share about the present moment. Its methods are safe for
// concurrent use.
type Cluster interface {
	Wakes
	Rates
	Cache
	Leases
	// Close ends what runs in the background and drops what is only here. Nothing
	// may be called after it.
	Close() error
}

// Wakes tells watchers that something changed. A wake-up may come without reason,
// late, or from another node not at all if Redis is down; watchers look again now and
// then by themselves.
type Wakes interface {
	// Wake tells every watcher of topic on every node that something changed.
	// Wake-ups coalesce: a watcher that has not yet looked sees one, however many
	// came. Watchers on this node are woken before it returns, whatever the state
	// of the cluster; it never blocks.
	Wake(topic string)
	// WakeAll tells every watcher of every topic, as when it is not known what
	// changed.
	WakeAll()
	// Watch returns a channel of capacity one that receives a value after each
	// Wake of topic, and a function that ends the watch. Ending it twice does
	// nothing. The channel is never closed.
	Watch(topic string) (<-chan struct{}, func())
}

// Rates counts uses within a window of time, over all nodes.
type Rates interface {
	// Take counts one use of key and reports whether it is within limit uses per
	// window. A refused use is not counted. A limit or window of zero or less
	// refuses nothing: it means that none is set. The limit holds on each node
	// always, and over all of them together while Redis answers.
	Take(key string, limit int, window time.Duration) bool
}

// Cache remembers values for all nodes. It may forget anything at any time, so that
// callers can always do without. A value is returned only if it is exactly one that
// was Set under that key and not invalidated since; the age of that Set is at most
// its ttl.
type Cache interface {
	// Get returns the value of key, or false if there is none, if it cannot be had
	// now, or if ctx has ended. The value is the caller's own.
	Get(ctx context.Context, key string) ([]byte, bool)
	// Set remembers value under key for ttl, MaxTTL at most; with a ttl of zero or
	// less it does nothing. It may do nothing at other times too, and always does
	// within HoldOff of an invalidation of key. What cannot be written leaves an
	// older value where it was, so Set does not do for Invalidate; a value larger
	// than MaxValue takes the older one away.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
	// Invalidate forgets the value of key: on this node when it returns, on the
	// others within a second. If Redis cannot be reached, or ctx has ended, it
	// returns at once, this node goes on as if nothing were cached under key, and
	// the others are told as soon as that can be done.
	Invalidate(ctx context.Context, key string)
	// OnInvalidate has told called with the key of every invalidation, also with
	// this node's own, so that what a node remembers by itself can be forgotten; an
	// empty key means that anything may have changed, as when a node could not
	// listen for a while. The function told must not block. It is called no more
	// after end has returned, except by what was calling it then.
	OnInvalidate(told func(key string)) (end func())
	// Connected reports whether invalidations by other nodes reach this one now.
	// Whoever remembers answers by himself should not trust them for long while it
	// does not. On a single node it is always true.
	Connected() bool
}

// Leases lets one node do what all would do at the same time. A lease saves work and
// guards nothing: without Redis each node has leases of its own, and one that expires
// is given to the next who asks.
type Leases interface {
	// Lease returns true if nobody holds the lease on key, and a function that
	// gives it back, which wakes those who wait; a second call does nothing. The
	// lease ends by itself after ttl; a ttl of zero or less, or over MaxLease,
	// means MaxLease. If it returns false, release does nothing.
	Lease(ctx context.Context, key string, ttl time.Duration) (release func(), ok bool)
	// Wait waits until the lease on key is given back or expires, and reports
	// whether it was: then the result may be in the cache. It returns false if ctx
	// ends first, or if it cannot be known; then the caller does the work himself.
	// With no lease on key it returns true at once.
	Wait(ctx context.Context, key string) bool
}
