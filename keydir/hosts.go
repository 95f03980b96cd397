package keydir

import (
	"container/list"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// Defaults of HostsOptions.
const (
	DefaultParallel = 256
	DefaultPerHost  = 4
	DefaultWaiting  = 1024
)

// How hosts are judged, and how long one that failed is left alone.
const (
	quickAnswer  = 500 * time.Millisecond // a host that takes longer is slow
	firstBackoff = 2 * time.Second
	maxBackoff   = 5 * time.Minute
	maxAsked     = 10 * time.Minute // of what a host may ask for by Retry-After
	maxHosts     = 10_000           // that are remembered
	evictSample  = 8
)

// HostsOptions configure Hosts. The zero value is usable.
type HostsOptions struct {
	// Parallel is how many questions may be on their way at once, to all hosts
	// together. A quarter of the places is kept for hosts that have been quick
	// lately, so that slow ones can never take them all. Zero means DefaultParallel.
	Parallel int
	// PerHost is the same for one host. Zero means DefaultPerHost.
	PerHost int
	// Waiting is how many may wait for one host; more are refused at once. Zero
	// means DefaultWaiting.
	Waiting int
	// Now is the clock for back-off and for how long answers take; nil means time.Now.
	Now func() time.Time
	// Jitter returns a number from 0 to 1; nil means a random one.
	Jitter func() float64
}

// Hosts sees to it that those who are asked for certificates are asked politely,
// and that no slow one of them delays the others. It is safe for concurrent use.
//
// Each host has a few places, and all hosts together have more; who finds none
// waits, and hosts take turns. A host that failed is left alone, first for about
// 2 s, then for twice as long each time, up to 5 min; whoever would ask it in the
// meantime is refused at once. Then one question goes out alone.
type Hosts struct {
	o HostsOptions

	mu       sync.Mutex
	hosts    map[string]*host
	quick    *list.List // of *host: those that could be asked, in turn
	unproven *list.List // the same, of hosts that are slow or unknown
	running  int
	slowly   int // of running: for hosts that were unproven when they were asked
}

// host is one that is asked. It stands in one of the lists while somebody waits for
// it who need not wait for another answer of it.
type host struct {
	name     string
	waiting  *list.List // of *turn
	running  int
	quick    bool // its last answer came quickly
	failures int  // in a row
	until    time.Time
	probing  bool // after a failure: one question is on its way

	elem *list.Element
	in   *list.List
}

// turn is somebody who wants to ask a host.
type turn struct {
	host   *host
	ready  chan error    // one value: go, or why not
	elem   *list.Element // in host.waiting; nil once it was served
	slowly bool
}

// NewHosts returns Hosts that have asked nobody yet.
func NewHosts(o HostsOptions) *Hosts {
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	if o.PerHost <= 0 {
		o.PerHost = DefaultPerHost
	}
	if o.Waiting <= 0 {
		o.Waiting = DefaultWaiting
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	return &Hosts{o: o, hosts: make(map[string]*host), quick: list.New(), unproven: list.New()}
}

// Do calls ask when it is the turn of the host, and returns what it returns. What
// it returns decides about the host: a *SourceError that is the host's fault starts
// or prolongs its back-off, one that is nobody's fault changes nothing, and
// everything else, nil or not, is an answer. Do itself returns a *SourceError,
// without having called ask, while the host is left alone, if too many wait for it,
// or if ctx ends first.
func (h *Hosts) Do(ctx context.Context, name string, ask func(context.Context) error) error {
	t, err := h.enter(name)
	if err != nil {
		return err
	}
	select {
	case err := <-t.ready:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		if h.withdraw(t) {
			return waitedInVain(ctx)
		}
		if err := <-t.ready; err != nil { // it was served at the same moment
			return err
		}
	}
	start := h.o.Now()
	var result error = abandoned() // if ask panics
	defer func() { h.leave(t, start, result) }()
	if ctx.Err() != nil {
		result = waitedInVain(ctx)
		return result
	}
	result = ask(ctx)
	return result
}

func abandoned() error { return &SourceError{Cause: CauseCancelled, Detail: "given up"} }

func waitedInVain(ctx context.Context) *SourceError {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &SourceError{Cause: CauseBusy, Detail: "no answer in time: too many look-ups at once", Err: ctx.Err()}
	}
	return &SourceError{Cause: CauseCancelled, Detail: "given up", Err: ctx.Err()}
}

// enter lets the host's next question wait for its turn, which may have come.
func (h *Hosts) enter(name string) (*turn, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.host(name)
	if err := h.refusal(x); err != nil {
		return nil, err
	}
	x.probing = x.failures > 0
	t := &turn{host: x, ready: make(chan error, 1)}
	t.elem = x.waiting.PushBack(t)
	h.place(x)
	h.serve()
	return t, nil
}

// Refuses returns the error that Do would return at once for any of these hosts, or
// nil: for who would have to do some work before Do.
func (h *Hosts) Refuses(names ...string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range names {
		if x, ok := h.hosts[name]; ok {
			if err := h.refusal(x); err != nil {
				return err
			}
		}
	}
	return nil
}

// refusal says why the host is not asked now.
func (h *Hosts) refusal(x *host) error {
	if x.failures > 0 && (x.probing || h.o.Now().Before(x.until)) {
		return leftAlone()
	}
	if x.waiting.Len() >= h.o.Waiting {
		return &SourceError{Cause: CauseBusy, Detail: "too many look-ups wait for this host"}
	}
	return nil
}

func leftAlone() error {
	return &SourceError{Cause: CauseBackoff, Detail: "failed a short while ago, not asked again yet"}
}

// withdraw takes a turn back. It reports false if it was served already.
func (h *Hosts) withdraw(t *turn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.elem == nil {
		return false
	}
	t.host.waiting.Remove(t.elem)
	t.elem = nil
	t.host.probing = false // if this was to be the probe, the next one is
	h.place(t.host)
	return true
}

// leave gives the place back and learns from the result.
func (h *Hosts) leave(t *turn, start time.Time, result error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x, now := t.host, h.o.Now()
	x.running--
	h.running--
	if t.slowly {
		h.slowly--
	}
	switch fault, retryAfter := hostFault(result); fault {
	case faultOfHost:
		h.failed(x, now, retryAfter)
	case faultOfNobody:
		x.probing = false
	default:
		x.quick = now.Sub(start) <= quickAnswer
		x.failures, x.probing = 0, false
	}
	h.place(x)
	h.serve()
}

// failed starts the host's back-off, or prolongs it, and sends away who waits.
func (h *Hosts) failed(x *host, now time.Time, retryAfter time.Duration) {
	x.quick, x.probing = false, false
	if now.Before(x.until) && x.failures > 0 {
		return // one of several that were on their way together
	}
	delay := min(firstBackoff<<min(x.failures, 20), maxBackoff)
	delay = time.Duration(float64(delay) * (0.75 + 0.5*h.o.Jitter()))
	x.failures++
	x.until = now.Add(max(delay, min(retryAfter, maxAsked)))
	for e := x.waiting.Front(); e != nil; e = x.waiting.Front() {
		t := x.waiting.Remove(e).(*turn)
		t.elem = nil
		t.ready <- leftAlone()
	}
}

// place puts the host into the list where it belongs now, or into none.
func (h *Hosts) place(x *host) {
	want := (*list.List)(nil)
	if x.waiting.Len() > 0 && x.running < h.o.PerHost {
		want = h.unproven
		if x.quick {
			want = h.quick
		}
	}
	if want == x.in {
		return
	}
	if x.in != nil {
		x.in.Remove(x.elem)
	}
	if x.in = want; want != nil {
		x.elem = want.PushBack(x)
	}
}

// serve gives out the places that are free.
func (h *Hosts) serve() {
	for h.running < h.o.Parallel {
		x, slowly := h.next()
		if x == nil {
			return
		}
		t := x.waiting.Remove(x.waiting.Front()).(*turn)
		t.elem, t.slowly = nil, slowly
		x.running++
		h.running++
		if slowly {
			h.slowly++
		}
		// To the end of the list, if it stays in it at all.
		x.in.Remove(x.elem)
		x.in = nil
		h.place(x)
		t.ready <- nil
	}
}

// next is the host whose turn it is, or nil.
func (h *Hosts) next() (x *host, slowly bool) {
	if e := h.quick.Front(); e != nil {
		return e.Value.(*host), false
	}
	if e := h.unproven.Front(); e != nil && h.slowly < h.o.Parallel-h.o.Parallel/4 {
		return e.Value.(*host), true
	}
	return nil, false
}

// host returns what is known of a host.
func (h *Hosts) host(name string) *host {
	if x, ok := h.hosts[name]; ok {
		return x
	}
	if len(h.hosts) >= maxHosts {
		h.forget()
	}
	x := &host{name: name, waiting: list.New()}
	h.hosts[name] = x
	return x
}

// forget drops one of a few hosts in the map's random order that nobody asks now:
// one that is not left alone if there is one. Forgetting costs a question too many.
func (h *Hosts) forget() {
	var victim *host
	n := 0
	for _, x := range h.hosts {
		if x.running == 0 && x.waiting.Len() == 0 {
			if victim == nil || victim.failures > 0 && x.failures == 0 {
				victim = x
			}
		}
		if n++; n == evictSample && victim != nil {
			break
		}
	}
	if victim != nil {
		delete(h.hosts, victim.name)
	}
}
