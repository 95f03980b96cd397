package msgauth

import (
	"context"
	"net"
	"time"
)

// A flight is one question on its way, with everybody who waits for it.
type flight struct {
	done  chan struct{}
	probe bool
	entry entry // set before done is closed
}

// query answers q from memory or by asking.
func (r *CachingResolver) query(ctx context.Context, q question) (*answer, error) {
	r.mu.Lock()
	e, ok := r.known(q)
	if ok {
		r.mu.Unlock()
		return result(e)
	}
	f, err := r.join(q)
	tripped := r.tripped
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if f.probe {
		tripped = nil // it went out although the breaker is open
	}
	select {
	case <-f.done:
		return result(f.entry)
	case <-tripped:
		return nil, r.blockedErr
	case <-ctx.Done():
		return nil, &net.DNSError{Err: ctx.Err().Error(), Name: q.name, IsTimeout: true, IsTemporary: true}
	}
}

// recall answers q from memory alone: the cache, remembered failures, or the
// certainty that nobody would be asked. ok is false if somebody has to be asked.
func (r *CachingResolver) recall(q question) (a *answer, err error, ok bool) {
	r.mu.Lock()
	e, ok := r.known(q)
	r.mu.Unlock()
	if !ok {
		return nil, nil, false
	}
	a, err = result(e)
	return a, err, true
}

// prefetch lets q be on its way without waiting for it.
func (r *CachingResolver) prefetch(q question) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.known(q); !ok {
		_, _ = r.join(q) // whoever asks next gets the error again
	}
}

// known is called with the lock held.
func (r *CachingResolver) known(q question) (entry, bool) {
	now := r.now()
	if e, ok := r.cache.get(q, now); ok {
		return e, true
	}
	if r.breaker.blocked(now) {
		return entry{err: r.blockedErr}, true
	}
	return entry{}, false
}

// join returns the flight of q, a new one if there is none. It is called with
// the lock held.
func (r *CachingResolver) join(q question) (*flight, error) {
	if f := r.flights[q]; f != nil {
		return f, nil
	}
	if r.closed || len(r.flights) >= maxOutstanding {
		return nil, r.busyErr
	}
	f := &flight{done: make(chan struct{}), probe: r.breaker.begin()}
	r.flights[q] = f
	prefer := r.prefer
	r.flying.Go(func() { r.fly(q, f, prefer) })
	return f, nil
}

// fly asks and records. It does not end with the context of whoever asked
// first: others may wait for the same answer, and a failure is to be remembered
// even if nobody waited for it.
func (r *CachingResolver) fly(q question, f *flight, prefer int) {
	o := r.ask(q, prefer)
	r.mu.Lock()
	defer r.mu.Unlock()
	defer close(f.done)
	delete(r.flights, q)
	now := r.now()
	f.entry = o.entry(q, now)
	switch {
	case o.failure == answered:
		if r.breaker.open {
			r.tripped = make(chan struct{})
		}
		r.breaker.success()
		r.prefer = o.server
	case r.ctx.Err() != nil:
		return // cut short by Close: nothing was learnt
	default:
		r.prefer = (o.server + 1) % len(r.servers)
		if r.breaker.failure(q.name, o.failure == silent, f.probe, now) {
			close(r.tripped)
		}
	}
	r.cache.put(q, f.entry, now)
}

// entry says what is remembered of an outcome.
func (o outcome) entry(q question, now time.Time) entry {
	switch {
	case o.failure != answered:
		return entry{
			err:     &net.DNSError{Err: o.text, Name: q.name, IsTemporary: true},
			expires: now.Add(failureTTL),
		}
	case o.answer == nil:
		return entry{
			err:     &net.DNSError{Err: "no such record", Name: q.name, IsNotFound: true},
			expires: now.Add(clamp(o.ttl, minNegative, maxNegative)),
		}
	default:
		return entry{answer: o.answer, expires: now.Add(clamp(o.ttl, minPositive, maxPositive))}
	}
}

// result keeps a nil *net.DNSError from becoming an error that is not nil.
func result(e entry) (*answer, error) {
	if e.err != nil {
		return nil, e.err
	}
	return e.answer, nil
}
