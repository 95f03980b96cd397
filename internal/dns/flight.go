package dns

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

// Query answers a question from memory or by asking. The error is a
// *net.DNSError, not wrapped, and means that nobody knows: no server answers, or
// it has no answer, which is also how a server that validates says that the zone's
// signatures are wrong. That there are no records is no error. A name that cannot
// be one does not exist. It returns when ctx ends; what is on its way goes on.
func (r *Resolver) Query(ctx context.Context, name string, qtype uint16) (Answer, error) {
	canonical, ok := CanonicalName(name)
	if !ok {
		return Answer{Name: name, NXDomain: true}, nil
	}
	q := question{canonical, qtype}
	r.mu.Lock()
	now := r.now()
	e, ok := r.known(q, now)
	if ok {
		r.mu.Unlock()
		return e.result(now)
	}
	f, err := r.join(q)
	tripped := r.tripped
	r.mu.Unlock()
	if err != nil {
		return Answer{}, err
	}
	if f.probe {
		tripped = nil // it went out although the breaker is open
	}
	select {
	case <-f.done:
		return f.entry.result(r.now())
	case <-tripped:
		return Answer{}, r.blockedErr
	case <-ctx.Done():
		return Answer{}, &net.DNSError{Err: ctx.Err().Error(), Name: q.name, IsTimeout: true, IsTemporary: true}
	}
}

// Recall is Query from memory alone: the cache, remembered failures, or the
// certainty that nobody would be asked. ok is false if somebody has to be asked.
func (r *Resolver) Recall(name string, qtype uint16) (a Answer, ok bool, err error) {
	canonical, ok := CanonicalName(name)
	if !ok {
		return Answer{Name: name, NXDomain: true}, true, nil
	}
	r.mu.Lock()
	now := r.now()
	e, ok := r.known(question{canonical, qtype}, now)
	r.mu.Unlock()
	if !ok {
		return Answer{}, false, nil
	}
	a, err = e.result(now)
	return a, true, err
}

// Prefetch lets a question be on its way without waiting for it.
func (r *Resolver) Prefetch(name string, qtype uint16) {
	canonical, ok := CanonicalName(name)
	if !ok {
		return
	}
	q := question{canonical, qtype}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.known(q, r.now()); !ok {
		_, _ = r.join(q) // whoever asks next gets the error again
	}
}

// known is called with the lock held.
func (r *Resolver) known(q question, now time.Time) (entry, bool) {
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
func (r *Resolver) join(q question) (*flight, error) {
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
func (r *Resolver) fly(q question, f *flight, prefer int) {
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
		if o.server < r.validating || r.validating == 0 {
			r.prefer = o.server // else the next question tries those that validate again
		}
	case r.ctx.Err() != nil:
		return // cut short by Close: nothing was learnt
	default:
		r.prefer = r.afterFailure(o.server)
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
	case len(o.answer.Records) == 0:
		return entry{answer: o.answer, expires: now.Add(clamp(o.ttl, minNegative, maxNegative))}
	default:
		return entry{answer: o.answer, expires: now.Add(clamp(o.ttl, minPositive, maxPositive))}
	}
}

// result keeps a nil *net.DNSError from becoming an error that is not nil.
func (e entry) result(now time.Time) (Answer, error) {
	if e.err != nil {
		return Answer{}, e.err
	}
	a := *e.answer
	a.TTL = max(0, e.expires.Sub(now))
	return a, nil
}
