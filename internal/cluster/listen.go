package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"postern/internal/telemetry"
)

// errSilent is why a subscription is made anew on which this node does not hear what
// it says itself: it may lead to a Redis that is no longer the one to which it speaks.
var errSilent = errors.New("the subscription is silent")

// listen hears notices until ctx ends. subscribed is called each time that begins.
func (r *Redis) listen(ctx context.Context, subscribed func()) {
	pause := r.limits.again
	for ctx.Err() == nil {
		start := time.Now()
		err := r.hear(ctx, subscribed)
		r.subscribed.Store(false)
		if ctx.Err() != nil {
			return
		}
		r.o.Metrics.ClusterError(telemetry.ClusterListen)
		r.o.Log.Debug("subscription ended", telemetry.KeyPart, "cluster", telemetry.KeyError, err.Error())
		if time.Since(start) > r.limits.silent {
			pause = r.limits.again
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, r.limits.rarely)
	}
}

// hear subscribes and hears until something goes wrong.
func (r *Redis) hear(ctx context.Context, subscribed func()) error {
	// Connecting is within its own time, not within that of all hearing.
	s := r.client.Subscribe(ctx, r.names.channel())
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Close() })() // reading does not end with ctx
	message, err := receive(ctx, s, r.limits.dial)
	if err != nil {
		return err
	}
	if _, ok := message.(*redis.Subscription); !ok {
		return errReply
	}
	r.lastBeat.Store(time.Now().UnixNano())
	r.heardAgain()
	subscribed()
	for {
		message, err := receive(ctx, s, r.limits.silent)
		if err != nil {
			return err
		}
		if m, ok := message.(*redis.Message); ok {
			r.heard(m.Payload)
		}
		if time.Since(time.Unix(0, r.lastBeat.Load())) > r.limits.silent {
			return errSilent
		}
	}
}

// receive waits for a message.
//
// QUIRK: the library asserts the shape of what comes on a subscription, and panics if
// it is another.
func receive(ctx context.Context, s *redis.PubSub, wait time.Duration) (message any, err error) {
	defer func() {
		if p := recover(); p != nil {
			message, err = nil, fmt.Errorf("%w: %v", errReply, p)
		}
	}()
	return s.ReceiveTimeout(ctx, wait)
}

// heardAgain makes up for the notices that were missed: anything may have happened.
func (r *Redis) heardAgain() {
	if !r.starting.Load() {
		// First, so that nobody sets what he read before an invalidation that was
		// missed.
		r.held.addAll()
		r.listeners.tell("")
		r.local.WakeAll()
		r.waits.wakeAll()
	}
	r.subscribed.Store(true)
}

// heard does what a notice says.
func (r *Redis) heard(payload string) {
	n, err := parseNotice(payload)
	if err != nil {
		return // somebody else uses the channel
	}
	if n.from == r.node {
		r.lastBeat.Store(time.Now().UnixNano())
	}
	switch n.kind {
	case noticeReleased:
		for _, name := range n.names {
			r.waits.wake(name)
		}
		return
	}
	if n.from == r.node {
		return // the rest was done when it was said
	}
	switch n.kind {
	case noticeWake:
		for _, topic := range n.names {
			r.local.Wake(topic)
		}
	case noticeWakeAll:
		r.local.WakeAll()
	case noticeForget:
		for _, key := range n.names {
			r.held.add(key)
			r.listeners.tell(key)
		}
	case noticeForgetAll:
		r.held.addAll()
		r.listeners.tell("")
	}
}
