package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/deliver"
	"postern/internal/mail"
	"postern/internal/store"
)

// domains is how many there are.
const domains = 12

// chaos is some nodes on one store, to which everything happens that can.
type chaos struct {
	*bed
	nodes  []*chaosNode
	faults atomic.Int32 // of so many statements in 8 the disk fails
	dying  atomic.Int32 // nodes that are being killed: nothing is recorded
	calm   atomic.Bool  // nothing goes wrong any more

	mu sync.Mutex // who ends a node, or lets the disk fail: what a node cannot record at its end is done again

	fates sync.Map     // *fate by address
	acked sync.Map     // ids of recipients by address
	names atomic.Int64 // that were given out
}

// fate is what became of a recipient.
type fate struct {
	acked, removed atomic.Bool
	delivered      atomic.Int32
}

// chaosNode is a node that is ended and started again.
type chaosNode struct {
	owner string

	queue atomic.Pointer[Queue]
	stop  func()
}

func newChaos(t *testing.T, nodes int) *chaos {
	c := &chaos{bed: newBed(t)}
	var err error
	c.store, err = store.Open(t.Context(), store.Options{Path: filepath.Join(t.TempDir(), "postern.db"), Now: c.clock.Now, Fault: func() error {
		if c.dying.Load() > 0 || rand.Int32N(8) < c.faults.Load() {
			return errors.New("the disk has failed")
		}
		return nil
	}})
	noError(t, err)
	t.Cleanup(func() { noError(t, c.store.Close()) })
	for i := range nodes {
		c.nodes = append(c.nodes, &chaosNode{owner: fmt.Sprint("node", i)})
	}
	c.account, err = c.store.CreateAccount(t.Context(), c.account.Address, 0, nil)
	noError(t, err)
	c.answer = c.carry
	c.refuse = func(mail.Source, mail.Address) error {
		if !c.calm.Load() && rand.IntN(4) == 0 {
			return mail.ErrStorageFull
		}
		return nil
	}
	for _, n := range c.nodes {
		c.start(n)
	}
	return c
}

func (c *chaos) start(n *chaosNode) {
	o := c.options(c.store)
	o.Owner, o.Workers, o.PerDomain, o.Grace = n.owner, 100, 20, 20*time.Millisecond
	if rand.IntN(3) == 0 {
		o.Workers, o.PerDomain = 6, 2
	}
	o.Reconsider = func(ctx context.Context, held *store.Outgoing, r store.OutgoingRcpt) error {
		return c.reconsider(ctx, n, held, r)
	}
	q := New(o)
	q.slowAfter = 5 * time.Millisecond
	n.queue.Store(q)
	n.stop = c.run(q)
	c.until("running", func() bool { q.mu.Lock(); defer q.mu.Unlock(); return q.work != nil })
}

// carry is the next hops.
func (c *chaos) carry(ctx context.Context, r deliver.Request) []deliver.Result {
	if !c.calm.Load() {
		switch rand.IntN(30) {
		case 0:
			return all(downtime(r.Domain))(ctx, r)
		case 1:
			panic("nothing is as it should be")
		case 2:
			return nil
		case 3, 4: // it hangs
			select {
			case <-ctx.Done():
				return all(refusal(451, "4.4.7", "ended"))(ctx, r)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	var results []deliver.Result
	for _, to := range r.Rcpts {
		switch n := rand.IntN(8); {
		case n == 0 && !c.calm.Load():
			results = append(results, refusal(450, "4.2.1", "later"))
		case n == 1 && !c.calm.Load():
			results = append(results, refusal(550, "5.1.1", "no such user"))
		default:
			c.fate(to.Address).delivered.Add(1)
			results = append(results, deliver.Result{Status: deliver.Delivered, Code: 250, TLS: "TLS1.3"})
		}
	}
	return results
}

func (c *chaos) fate(address string) *fate {
	f, _ := c.fates.LoadOrStore(address, new(fate))
	return f.(*fate)
}

// enter commits as the bridge does.
func (c *chaos) enter(ctx context.Context, n *chaosNode, b store.Batch) error {
	var lanes []store.Lane
	waiting := 0
	for _, o := range b.Outgoing {
		for _, r := range o.Rcpts {
			lanes = append(lanes, store.Lane{Domain: r.Domain})
			waiting++
		}
	}
	err := n.queue.Load().Express(lanes, func(x store.Express) ([]store.Group, error) {
		_, groups, err := c.store.CommitExpress(ctx, b, x)
		for _, g := range groups {
			waiting -= len(g.Rcpts)
		}
		if len(groups) > 0 && rand.IntN(8) == 0 { // it took long, and others had time to look
			c.pass()
			c.wakes.Wake(Topic)
			time.Sleep(5 * time.Millisecond)
		}
		return groups, err
	})
	if err == nil && waiting > 0 {
		c.wakes.Wake(Topic)
	}
	return err
}

// pass lets more time pass than a lease lasts, if there is no other node that would take
// over then.
func (c *chaos) pass() {
	if len(c.nodes) == 1 {
		c.clock.Advance(leaseTime + time.Second)
	}
}

// submit hands in one message.
func (c *chaos) submit(n *chaosNode) {
	ctx := context.Background()
	if rand.IntN(5) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(2000))*time.Microsecond)
		defer cancel()
	}
	var b store.Batch
	for range 1 + rand.IntN(2) {
		var to []string
		for range 1 + rand.IntN(4) {
			to = append(to, fmt.Sprintf("r%d@d%d.test", c.names.Add(1), rand.IntN(domains)))
		}
		level := mail.Sealed
		if rand.IntN(6) == 0 {
			level = mail.Held
		}
		b.Outgoing = append(b.Outgoing, c.copyFor(level, nil, to...))
	}
	if c.enter(ctx, n, b) != nil {
		return
	}
	for _, o := range b.Outgoing {
		for _, r := range o.Rcpts {
			c.fate(r.Address).acked.Store(true)
			c.acked.Store(r.Address, r.ID)
		}
	}
}

// reconsider puts a sealed copy in the place of a Held one, or does not.
func (c *chaos) reconsider(ctx context.Context, n *chaosNode, held *store.Outgoing, r store.OutgoingRcpt) error {
	if !c.calm.Load() {
		switch rand.IntN(8) {
		case 0, 1:
			return mail.Refuse(450, "4.7.5", "it is still not known")
		case 2:
			return mail.Refuse(550, "5.7.5", "not sent")
		}
	}
	o := c.copyFor(mail.Sealed, func(o *store.Outgoing) { o.Created = held.Created }, r.Address)
	return c.enter(ctx, n, store.Batch{Outgoing: []store.Outgoing{o}, Replaced: []store.ID{r.ID}})
}

// command is what the operator does. That it fails when the disk does is right.
func (c *chaos) command(n *chaosNode) {
	ctx := context.Background()
	sel := store.Selection{Domain: fmt.Sprintf("d%d.test", rand.IntN(domains))}
	if rand.IntN(3) == 0 {
		sel = store.Selection{All: true}
	}
	switch rand.IntN(8) {
	case 0:
		_, _ = c.store.HoldOutgoing(ctx, sel)
	case 1, 2:
		_, _ = c.store.ReleaseOutgoing(ctx, sel)
	case 3, 4, 5:
		_, _ = c.store.RetryOutgoing(ctx, sel)
	default:
		if address, id, ok := c.anyone(); !ok {
		} else if rand.IntN(2) == 0 {
			_, _ = c.store.CancelOutgoing(ctx, store.Selection{ID: id})
		} else {
			c.fate(address).removed.Store(true)
			_, _ = c.store.RemoveOutgoing(ctx, store.Selection{ID: id})
		}
	}
	c.wakes.Wake(Topic)
}

// anyone is some recipient that was accepted.
func (c *chaos) anyone() (address string, id store.ID, ok bool) {
	skip := rand.Int64N(c.names.Load() + 1)
	c.acked.Range(func(k, v any) bool {
		address, id, ok = k.(string), v.(store.ID), true
		skip--
		return skip > 0
	})
	return address, id, ok
}

// again ends a node and starts it anew. While one is killed nothing is recorded.
func (c *chaos) again(n *chaosNode, kill bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kill {
		c.dying.Add(1)
	}
	n.stop()
	if kill {
		c.dying.Add(-1)
	}
	c.start(n)
}

// TestRandom: whatever happens, and in whichever order, each recipient that was accepted
// is delivered or reported once, and none that was not. Only a node that is killed may
// have it done again.
func TestRandom(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		nodes int
		kill  bool
	}{"one node": {1, false}, "two nodes": {2, false}, "killed": {1, true}, "two nodes, killed": {2, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newChaos(t, test.nodes)
			var all sync.WaitGroup
			var kills atomic.Int32
			for range 4 {
				all.Go(func() {
					for range 40 {
						n := c.nodes[rand.IntN(len(c.nodes))]
						switch what := rand.IntN(40); {
						case what < 24:
							c.submit(n)
						case what < 34:
							c.command(n)
						case what < 36:
							c.pass()
							c.wakes.Wake(Topic)
						case what < 38:
							c.mu.Lock()
							c.faults.Store(rand.Int32N(3))
							c.submit(n)
							c.faults.Store(0)
							c.mu.Unlock()
						case what == 38:
							c.again(n, false)
						case test.kill:
							kills.Add(1)
							c.again(n, true)
						}
					}
				})
			}
			all.Wait()
			c.settle()
			c.verify(kills.Load())
		})
	}
}

// settle ends all trouble, and waits until nothing waits any more.
func (c *chaos) settle() {
	c.calm.Store(true)
	ctx := context.Background()
	for _, n := range c.nodes { // a disk that failed at their start kept them from taking back what is theirs
		c.again(n, false)
	}
	if len(c.nodes) == 1 { // for what took too long; with two every lease is somebody's who works
		c.clock.Advance(leaseTime)
	}
	asked := time.Time{}
	c.until("nothing waits", func() bool {
		if time.Since(asked) > 100*time.Millisecond {
			asked = time.Now()
			_, err := c.store.ReleaseOutgoing(ctx, store.Selection{All: true})
			noError(c.t, err)
			_, err = c.store.RetryOutgoing(ctx, store.Selection{All: true})
			noError(c.t, err)
		}
		return len(c.rows()) == 0
	})
	for _, n := range c.nodes {
		n.stop()
		q := n.queue.Load()
		q.mu.Lock()
		if len(q.hand)+len(q.busy)+q.total+q.slow > 0 {
			c.t.Errorf("%s: in hand %v, busy %v, %d, slow %d", n.owner, q.hand, q.busy, q.total, q.slow)
		}
		q.mu.Unlock()
		noError(c.t, c.store.Check(ctx))
	}
}

func (c *chaos) verify(kills int32) {
	reported := map[string]int32{}
	for _, h := range c.handed() {
		for _, part := range strings.Split(h.text, "Final-Recipient: rfc822; ")[1:] {
			if address, rest, _ := strings.Cut(part, "\r\n"); strings.HasPrefix(rest, "Action: failed") {
				reported[address]++
			}
		}
	}
	accepted, done := 0, 0
	c.fates.Range(func(k, v any) bool {
		address, f := k.(string), v.(*fate)
		n := f.delivered.Load() + reported[address]
		switch {
		case !f.acked.Load() && n > 0:
			c.t.Errorf("%s was not accepted; %d times delivered, %d reported", address, f.delivered.Load(), reported[address])
		case f.acked.Load() && (n == 0 && !f.removed.Load() || n > 1+kills):
			c.t.Errorf("%s: %d times delivered, %d reported", address, f.delivered.Load(), reported[address])
		}
		if f.acked.Load() {
			accepted++
		}
		done += int(n)
		return true
	})
	if accepted < 100 || done < 50 {
		c.t.Errorf("%d accepted, %d delivered or reported", accepted, done)
	}
}
