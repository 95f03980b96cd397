package keydir

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/testkit"
)

// answer is a question that is answered at once.
func answer(context.Context) error { return nil }

// fails is a question that fails and is the host's fault.
func fails(context.Context) error { return unknown(CauseTimeout, nil, "no answer") }

func causeOf(err error) Cause {
	var e *SourceError
	if errors.As(err, &e) {
		return e.Cause
	}
	return ""
}

// blocker is questions that are answered when the test says so.
type blocker struct {
	release chan struct{}
	running chan struct{} // one for each that has begun
	now     atomic.Int32  // how many are at it
	most    atomic.Int32
}

func newBlocker() *blocker {
	return &blocker{release: make(chan struct{}), running: make(chan struct{}, 100_000)}
}

func (b *blocker) ask(context.Context) error {
	n := b.now.Add(1)
	for m := b.most.Load(); n > m && !b.most.CompareAndSwap(m, n); m = b.most.Load() {
	}
	b.running <- struct{}{}
	<-b.release
	b.now.Add(-1)
	return nil
}

// TestHostsSlowDomain: ten thousand questions to one host that does not answer take
// four places, and nobody else waits for them.
func TestHostsSlowDomain(t *testing.T) {
	t.Parallel()
	const questions = 10_000
	h := NewHosts(HostsOptions{})
	slow := newBlocker()
	var refused, answered atomic.Int32
	var all, turnedAway sync.WaitGroup
	turnedAway.Add(questions - DefaultPerHost - DefaultWaiting)
	for range questions {
		all.Go(func() {
			switch err := h.Do(t.Context(), "slow.example", slow.ask); causeOf(err) {
			case "":
				answered.Add(1)
			case CauseBusy:
				refused.Add(1)
				turnedAway.Done()
			default:
				t.Error(err)
			}
		})
	}
	for range DefaultPerHost {
		<-slow.running
	}
	turnedAway.Wait() // at once, without any answer
	// Not one of the slow answers has come: whoever waited for one would wait for ever.
	for i := range 2000 {
		if err := h.Do(t.Context(), fmt.Sprintf("h%d.example", i%500), answer); err != nil {
			t.Fatal(err)
		}
	}
	close(slow.release)
	all.Wait()
	if n := slow.most.Load(); n != DefaultPerHost {
		t.Errorf("%d at once", n)
	}
	if answered.Load() != DefaultPerHost+DefaultWaiting || refused.Load() != questions-answered.Load() {
		t.Errorf("%d answered, %d refused", answered.Load(), refused.Load())
	}
}

// TestHostsManySlowDomains: hosts that have been quick keep places of their own, and
// the unknown ones take turns.
func TestHostsManySlowDomains(t *testing.T) {
	t.Parallel()
	h := NewHosts(HostsOptions{Parallel: 16, PerHost: 4})
	if err := h.Do(t.Context(), "known.example", answer); err != nil {
		t.Fatal(err)
	}
	slow := newBlocker()
	var all sync.WaitGroup
	for i := range 100 {
		for range 4 {
			all.Go(func() {
				if err := h.Do(t.Context(), fmt.Sprintf("slow%d.example", i), slow.ask); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for { // until each of them has a place or waits for one
		total := 0
		for i := range 100 {
			total += h.waitingFor(fmt.Sprintf("slow%d.example", i))
		}
		if n := int(slow.now.Load()); n+total == 400 {
			if n != 12 {
				t.Fatalf("%d slow ones at once, want 12 of 16", n)
			}
			break
		}
		time.Sleep(time.Millisecond)
	}
	for range 100 {
		if err := h.Do(t.Context(), "known.example", answer); err != nil {
			t.Fatal(err)
		}
	}
	close(slow.release)
	all.Wait()
	if slow.most.Load() != 12 {
		t.Errorf("%d slow ones at once", slow.most.Load())
	}
}

// TestHostsTakeTurns: who has a thousand questions waits as long for its second as
// who has two.
func TestHostsTakeTurns(t *testing.T) {
	t.Parallel()
	h := NewHosts(HostsOptions{Parallel: 4, PerHost: 4})
	first := newBlocker()
	var all sync.WaitGroup
	for range 3 { // the places for unknown hosts
		all.Go(func() { _ = h.Do(t.Context(), "first.example", first.ask) })
		<-first.running
	}
	var mu sync.Mutex
	var order []string
	queue := func(host string) {
		entered := h.waitingFor(host)
		all.Go(func() {
			_ = h.Do(t.Context(), host, func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, host)
				return unknown(CauseCancelled, nil, "neither quick nor slow")
			})
		})
		for h.waitingFor(host) == entered {
			time.Sleep(time.Millisecond)
		}
	}
	for range 6 {
		queue("many.example")
	}
	queue("few.example")
	queue("few.example")
	queue("one.example")
	first.release <- struct{}{} // one place, from now on used by one after the other
	for {
		mu.Lock()
		n := len(order)
		mu.Unlock()
		if n == 9 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	close(first.release)
	all.Wait()
	want := []string{"many", "few", "one", "many", "few", "many", "many", "many", "many"}
	for i, host := range order {
		if host != want[i]+".example" {
			t.Fatalf("order %v", order)
		}
	}
}

// waitingFor is how many wait for a host.
func (h *Hosts) waitingFor(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.hosts[name]; x != nil {
		return x.waiting.Len()
	}
	return 0
}

// TestHostsBackoff: a host that fails is left alone for longer and longer, then asked
// by one alone, and is well again after one answer.
func TestHostsBackoff(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	jitter := 0.5
	h := NewHosts(HostsOptions{Now: clock.Now, Jitter: func() float64 { return jitter }})
	do := func(ask func(context.Context) error) Cause { return causeOf(h.Do(t.Context(), "h.example", ask)) }
	for i, want := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 300, 300} {
		want *= time.Second
		if got := do(fails); got != CauseTimeout {
			t.Fatalf("failure %d: %q", i, got)
		}
		clock.Advance(want - time.Millisecond)
		if got := do(answer); got != CauseBackoff {
			t.Errorf("failure %d: asked before %v: %q", i, want, got)
		}
		clock.Advance(time.Millisecond)
	}
	if got := causeOf(h.Do(t.Context(), "other.example", answer)); got != "" {
		t.Errorf("another host: %q", got)
	}
	// One alone, and the others do not wait for it.
	probe := newBlocker()
	var all sync.WaitGroup
	all.Go(func() {
		if got := do(probe.ask); got != "" {
			t.Errorf("the probe: %q", got)
		}
	})
	<-probe.running
	if got := do(answer); got != CauseBackoff {
		t.Errorf("beside the probe: %q", got)
	}
	close(probe.release)
	all.Wait()
	if got := do(answer); got != "" {
		t.Errorf("after the probe: %q", got)
	}
	// From the beginning.
	for _, jitter = range []float64{0, 1} {
		want := time.Duration(1500+1000*jitter) * time.Millisecond
		if got := do(fails); got != CauseTimeout {
			t.Errorf("again: %q", got)
		}
		clock.Advance(want - time.Millisecond)
		if got := do(answer); got != CauseBackoff {
			t.Errorf("with jitter %v: %q", jitter, got)
		}
		clock.Advance(time.Millisecond)
		if got := do(answer); got != "" {
			t.Errorf("with jitter %v, later: %q", jitter, got)
		}
	}
}

// TestHostsFaults: what counts as the host's fault, and what it asks for.
func TestHostsFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		err   error
		alone time.Duration
	}{
		{"an answer", nil, 0},
		{"another error", errors.New("x"), 0},
		{"404 and such", answered(CauseStatus, "x"), 0},
		{"no certificate", unknown(CauseContent, nil, "x"), 0},
		{"a redirect", answered(CauseRedirect, "x"), 0},
		{"cancelled", unknown(CauseCancelled, nil, "x"), 0},
		{"DNS", unknown(CauseDNS, nil, "x"), 0},
		{"internal", unknown(CauseAddress, nil, "x"), 0},
		{"timeout", unknown(CauseTimeout, nil, "x"), 2 * time.Second},
		{"wrapped", fmt.Errorf("x: %w", unknown(CauseTimeout, nil, "x")), 2 * time.Second},
		{"connect", unknown(CauseConnect, nil, "x"), 2 * time.Second},
		{"TLS", unknown(CauseTLS, nil, "x"), 2 * time.Second},
		{"1 GB", unknown(CauseTooLarge, nil, "x"), 2 * time.Second},
		{"503", unknown(CauseStatus, nil, "x"), 2 * time.Second},
		{"429", &SourceError{Cause: CauseStatus, RetryAfter: time.Minute}, time.Minute},
		{"a year", &SourceError{Cause: CauseStatus, RetryAfter: 365 * 24 * time.Hour}, maxAsked},
	} {
		clock := testkit.NewClock()
		h := NewHosts(HostsOptions{Now: clock.Now, Jitter: func() float64 { return 0.5 }})
		if err := h.Do(t.Context(), "h", func(context.Context) error { return c.err }); err != c.err {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.alone > 0 {
			clock.Advance(c.alone - time.Millisecond)
			if got := causeOf(h.Do(t.Context(), "h", answer)); got != CauseBackoff {
				t.Errorf("%s: %q before %v", c.name, got, c.alone)
			}
			clock.Advance(time.Millisecond)
		}
		if got := causeOf(h.Do(t.Context(), "h", answer)); got != "" {
			t.Errorf("%s: %q after %v", c.name, got, c.alone)
		}
	}
}

// TestHostsFailureSendsAway: who waits for a host that has just failed waits no
// longer, and of several that fail together only one counts.
func TestHostsFailureSendsAway(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	h := NewHosts(HostsOptions{Now: clock.Now, Jitter: func() float64 { return 0.5 }, PerHost: 2})
	slow := newBlocker()
	var all sync.WaitGroup
	failing := func(ctx context.Context) error { _ = slow.ask(ctx); return fails(ctx) }
	for range 2 {
		all.Go(func() {
			if got := causeOf(h.Do(t.Context(), "h", failing)); got != CauseTimeout {
				t.Errorf("asked: %q", got)
			}
		})
		<-slow.running
	}
	for range 50 {
		all.Go(func() {
			if got := causeOf(h.Do(t.Context(), "h", answer)); got != CauseBackoff {
				t.Errorf("waiting: %q", got)
			}
		})
	}
	for h.waitingFor("h") < 50 {
		time.Sleep(time.Millisecond)
	}
	close(slow.release)
	all.Wait()
	clock.Advance(firstBackoff)
	if got := causeOf(h.Do(t.Context(), "h", answer)); got != "" {
		t.Errorf("after one back-off: %q", got)
	}
}

// TestHostsGivingUp: who gives up while waiting leaves nothing behind, and a probe
// that is given up does not block the next one.
func TestHostsGivingUp(t *testing.T) {
	t.Parallel()
	clock := testkit.NewClock()
	h := NewHosts(HostsOptions{PerHost: 1, Parallel: 4, Now: clock.Now})
	slow := newBlocker()
	var all sync.WaitGroup
	all.Go(func() { _ = h.Do(t.Context(), "h", slow.ask) })
	<-slow.running
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if got := causeOf(h.Do(cancelled, "h", answer)); got != CauseCancelled {
		t.Errorf("cancelled: %q", got)
	}
	late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if got := causeOf(h.Do(late, "h", answer)); got != CauseBusy {
		t.Errorf("too late: %q", got)
	}
	if n := h.waitingFor("h"); n != 0 {
		t.Errorf("%d still wait", n)
	}
	close(slow.release)
	all.Wait()
	_ = h.Do(t.Context(), "h", fails)
	clock.Advance(maxBackoff)
	if got := causeOf(h.Do(cancelled, "h", answer)); got != CauseCancelled {
		t.Errorf("a probe that is cancelled: %q", got)
	}
	if got := causeOf(h.Do(t.Context(), "h", answer)); got != "" {
		t.Errorf("the next probe: %q", got)
	}
	func() {
		defer func() { _ = recover() }()
		_ = h.Do(t.Context(), "h", func(context.Context) error { panic("x") })
	}()
	h.wantIdle(t)
}

// wantIdle holds that nothing is on its way and nobody waits.
func (h *Hosts) wantIdle(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.running != 0 || h.slowly != 0 || h.quick.Len() != 0 || h.unproven.Len() != 0 {
		t.Errorf("%d running, %d slowly, %d and %d in the lists", h.running, h.slowly, h.quick.Len(), h.unproven.Len())
	}
	for name, x := range h.hosts {
		if x.running != 0 || x.waiting.Len() != 0 || x.in != nil || x.probing {
			t.Errorf("%s: %+v", name, x)
		}
	}
}

// TestHostsAnything does everything at once, and looks at the limits all the time.
func TestHostsAnything(t *testing.T) {
	t.Parallel()
	h := NewHosts(HostsOptions{Parallel: 8, PerHost: 3, Waiting: 20})
	var all sync.WaitGroup
	var running atomic.Int32
	perHost := make([]atomic.Int32, 10)
	for i := range 3000 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 3))
			host := random.IntN(10)
			ctx := t.Context()
			if random.IntN(3) == 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(3000))*time.Microsecond)
				defer cancel()
			}
			_ = h.Do(ctx, fmt.Sprint(host), func(context.Context) error {
				if running.Add(1) > 8 || perHost[host].Add(1) > 3 {
					t.Error("too many at once")
				}
				time.Sleep(time.Duration(random.IntN(300)) * time.Microsecond)
				running.Add(-1)
				perHost[host].Add(-1)
				if host == 0 && random.IntN(10) == 0 {
					return unknown(CauseTLS, nil, "x")
				}
				return nil
			})
		})
	}
	all.Wait()
	h.wantIdle(t)
}

func TestHostsAreForgotten(t *testing.T) {
	t.Parallel()
	h := NewHosts(HostsOptions{})
	_ = h.Do(t.Context(), "failed.example", fails)
	for i := range 2 * maxHosts {
		if err := h.Do(t.Context(), fmt.Sprint(i), answer); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(h.hosts); n != maxHosts {
		t.Errorf("%d hosts are remembered", n)
	}
}

func BenchmarkHostsDo(b *testing.B) {
	h := NewHosts(HostsOptions{})
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Do(b.Context(), "h.example", answer); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSlowDomain looks up addresses of 200 domains over real TLS connections,
// ten at once, while 10,000 addresses of one domain whose server takes 2 s for each
// answer are looked up too, and without that. It reports how long one of the others
// takes.
func BenchmarkSlowDomain(b *testing.B) {
	for _, slow := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("%d slow", slow), func(b *testing.B) { slowDomain(b, slow) })
	}
}

func slowDomain(b *testing.B, slow int) {
	const domains = 200
	n := newInternet(b, "slow.example. 3600 IN A 11.0.0.2", "openpgpkey.slow.example. 3600 IN A 11.0.0.2")
	names := []string{"openpgpkey.slow.example"}
	for i := range domains {
		n.dns.Add(b, fmt.Sprintf("openpgpkey.d%d.example. 3600 IN A 11.0.0.1", i))
		names = append(names, fmt.Sprintf("openpgpkey.d%d.example", i))
	}
	cert := n.ca.issue(b, time.Now().Add(time.Hour), names...)
	n.serve(b, "11.0.0.1", cert, http.NotFoundHandler())
	n.serve(b, "11.0.0.2", cert, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(2 * time.Second):
		case <-r.Context().Done():
		}
		w.WriteHeader(404)
	}))
	w := n.wkd(3 * time.Second) // so that a slow answer is one
	ctx, cancel := context.WithCancel(b.Context())
	var all, others sync.WaitGroup
	for i := range domains { // handshakes are another matter
		wantOutcome(b, "before", outcome(b, w, fmt.Sprintf("bob@d%d.example", i)), "none")
	}
	for i := range slow {
		a := testAddress(b, fmt.Sprintf("u%d@slow.example", i))
		all.Go(func() { _, _ = w.Lookup(ctx, a) })
	}
	var mu sync.Mutex
	var took []time.Duration
	for b.Loop() {
		for k := range 10 {
			others.Go(func() {
				for i := k; i < domains; i += 10 {
					a := testAddress(b, fmt.Sprintf("bob@d%d.example", i))
					start := time.Now()
					f, err := w.Lookup(ctx, a)
					d := time.Since(start)
					if err != nil || !strings.HasSuffix(f.Detail, "404") {
						b.Error(f, err)
					}
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				}
			})
		}
		others.Wait()
	}
	cancel()
	all.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms/median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "ms/p99")
	b.ReportMetric(float64(took[len(took)-1].Microseconds())/1000, "ms/max")
}
