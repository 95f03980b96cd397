package queue

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"postern/internal/deliver"
	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// Topic is the name under which new work is announced.
const Topic = "queue"

const (
	// leaseTime is how long a claim lasts that is not renewed: for so long nobody takes
	// over what a node had in hand that is no more.
	leaseTime  = 2 * time.Minute
	renewEvery = 30 * time.Second
	// lookEvery is how often is looked for what is late, and how long after an error of
	// the store it is asked again.
	lookEvery    = time.Minute
	askAgain     = 5 * time.Second
	countEvery   = 15 * time.Second
	overdueLimit = 200 // recipients at once
	// lookAgain is how soon it is looked again for what is late, however often there is
	// something new.
	lookAgain = 200 * time.Millisecond
	reporters = 8 // reports at once
	// recordTime is how long what is done is recorded at the end.
	recordTime = 2 * time.Second
)

// Store is what is needed of the store. *store.Store is one.
type Store interface {
	ClaimOutgoing(ctx context.Context, c store.Claim) (store.Claimed, error)
	ClaimOverdue(ctx context.Context, o store.Overdue) ([]store.Group, error)
	RenewOutgoing(ctx context.Context, groups []store.Group, until time.Time) (lost []store.ID, err error)
	FinishOutgoing(ctx context.Context, f store.Finish) (lost int, err error)
	TakeBackOutgoing(ctx context.Context, owner string, now time.Time) (int, error)
	CountOutgoing(ctx context.Context) (store.OutgoingCounts, error)
	Account(ctx context.Context, id store.ID) (store.Account, error)
}

// Carrier carries a copy to its next hop. *deliver.Carrier is one.
type Carrier interface {
	Deliver(ctx context.Context, r deliver.Request) []deliver.Result
}

// Watcher tells of new work. A cluster.Cluster is one.
type Watcher interface {
	Watch(topic string) (<-chan struct{}, func())
}

// Options are the parts of a Queue; all are required but where it says otherwise.
type Options struct {
	Store   Store
	Carrier Carrier
	// Open gives the octets of a copy as they leave.
	Open func(context.Context, *store.Outgoing) (io.ReadCloser, error)
	// Size is how many octets of a copy leave, 0 if that is not known.
	Size func(*store.Outgoing) int64
	// Reconsider decides a Held copy of one recipient anew: it replaces the recipient,
	// or returns why it still waits, or by a *mail.Error of 5xx why it will never leave.
	Reconsider func(context.Context, *store.Outgoing, store.OutgoingRcpt) error
	// Acceptor takes reports, as mail.KindDSN.
	Acceptor mail.Acceptor
	Wakes    Watcher
	Hostname string // names this server in reports
	// Owner is this node's name, the same after a restart; what it had in hand before is
	// due at once.
	Owner string
	// Workers bounds the groups in hand, but for slow ones, PerDomain those for one domain.
	// Zero is 100 and 20.
	Workers, PerDomain int
	Schedule           Schedule
	// Grace is how long what is in hand may take at the end; zero is 7 s.
	Grace   time.Duration
	Now     func() time.Time   // nil is time.Now
	Log     *slog.Logger       // nil discards
	Metrics *telemetry.Metrics // may be nil
	NewID   func() string      // names reports
}

// Queue is the queue of one node.
type Queue struct {
	Options
	freed chan struct{} // capacity 1: a worker has room again

	slowAfter time.Duration // the constant, but in tests

	mu      sync.Mutex
	hand    map[store.ID]store.Group // by claim
	busy    map[store.Lane]int
	total   int       // of busy
	slow    int       // of busy: those without a place among the Workers
	failed  error     // why the last claim failed; nil: it did not
	renewed time.Time // when the leases of what is in hand were last known to last
	// short says that something may be due for which there was no room: whoever makes
	// room has to see that it is claimed. behind are the lanes in which it is, and crowded
	// says that it may be in any: nothing that comes later gets ahead of it.
	short   bool
	behind  map[store.Lane]bool
	crowded bool
	// work is that of what Express takes in hand; nil: it may take nothing.
	work context.Context

	workers sync.WaitGroup
}

// New returns a Queue that does nothing until Run.
func New(o Options) *Queue {
	if o.Workers <= 0 {
		o.Workers = 100
	}
	if o.PerDomain <= 0 {
		o.PerDomain = 20
	}
	if o.Grace <= 0 {
		o.Grace = 7 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = telemetry.Discard()
	}
	o.Schedule = o.Schedule.withDefaults()
	return &Queue{Options: o, freed: make(chan struct{}, 1), slowAfter: slowAfter, hand: map[store.ID]store.Group{}, busy: map[store.Lane]int{}, behind: map[store.Lane]bool{}}
}

// Ready returns why the queue cannot work now, or nil.
func (q *Queue) Ready(context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failed
}

// Run works until ctx ends; then it lets what is in hand finish for as long as Grace,
// gives back the rest, and returns.
func (q *Queue) Run(ctx context.Context) error {
	wakes, end := q.Wakes.Watch(Topic)
	defer end()
	// Work in hand goes on when ctx ends, up to cancel.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var helpers sync.WaitGroup
	helping, stopHelping := context.WithCancel(work)
	helpers.Go(func() { every(helping, renewEvery, q.renew) })
	helpers.Go(func() { every(helping, countEvery, q.count) })
	defer helpers.Wait()
	defer stopHelping()
	if n, err := q.Store.TakeBackOutgoing(ctx, q.Owner, q.Now()); err != nil && ctx.Err() == nil {
		q.Log.Error("take back claims", telemetry.KeyPart, "queue", telemetry.KeyError, err)
	} else if n > 0 {
		q.Log.Info("took back claims", telemetry.KeyPart, "queue", telemetry.KeyCount, n)
	}
	q.count(ctx)
	var late sync.WaitGroup
	late.Go(func() { q.watchLate(ctx, work) })
	q.open(work)
	q.dispatch(ctx, work, wakes)
	q.shut()
	late.Wait()
	q.drain(cancel)
	return nil
}

// open lets Express take something in hand. Before, what a process that is no more had in
// hand has to be taken back.
func (q *Queue) open(work context.Context) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.work = work
}

// shut lets Express take nothing in hand any more.
func (q *Queue) shut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.work = nil
}

// every calls f from time to time until ctx ends.
func every(ctx context.Context, d time.Duration, f func(context.Context)) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f(ctx)
		}
	}
}

// dispatch claims what is due and starts workers, until ctx ends. It sleeps while there
// is nothing to claim or nobody to work.
func (q *Queue) dispatch(ctx, work context.Context, wakes <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(q.take(ctx, work))
		select {
		case <-ctx.Done():
		case <-wakes:
		case <-q.freed:
		case <-timer.C:
		}
	}
}

// watchLate looks for those whose senders are to hear something, until ctx ends: from
// time to time, and when it is woken, as the operator may have taken something back.
func (q *Queue) watchLate(ctx, work context.Context) {
	wakes, end := q.Wakes.Watch(Topic)
	defer end()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	slots := make(chan struct{}, reporters)
	for {
		for q.takeLate(ctx, work, slots) {
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookAgain):
		}
		select {
		case <-ctx.Done():
			return
		case <-wakes:
		case <-tick.C:
		}
	}
}

// take claims what is due and starts a worker for each group. It returns for how long
// there is nothing more to take, but if a worker gets room.
func (q *Queue) take(ctx, work context.Context) time.Duration {
	room, busy := q.room()
	if room == 0 {
		return lookEvery
	}
	now := q.Now()
	until := now.Add(leaseTime)
	err := q.renewLate(ctx, now)
	var got store.Claimed
	if err == nil {
		got, err = q.Store.ClaimOutgoing(ctx, store.Claim{
			Owner: q.Owner, Now: now, Until: until, Limit: room, PerLane: q.PerDomain, Busy: busy,
		})
	}
	q.note(ctx, err)
	if err != nil {
		return askAgain
	}
	for _, g := range got.Groups {
		q.start(work, g, until, q.attempt)
	}
	if q.full(got.Groups, room, busy) || got.Next.IsZero() {
		return lookEvery
	}
	// Never less than a moment, whatever clocks say.
	return min(max(got.Next.Sub(now), 10*time.Millisecond), lookEvery)
}

// full notes, after a claim, whether something may be due that it did not give out, for
// want of room, and in which lanes; it returns whether that may be in any.
func (q *Queue) full(got []store.Group, room int, busy map[store.Lane]int) bool {
	behind := map[store.Lane]bool{}
	for _, g := range got {
		busy[g.Lane]++
		if g.Failures > 0 { // it is one to try
			behind[g.Lane] = true
		}
	}
	for l, n := range busy {
		if n >= q.PerDomain {
			behind[l] = true
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.behind, q.crowded = behind, len(got) == room
	q.short = q.crowded || len(behind) > 0
	return q.crowded
}

// takeLate claims some of them and starts a worker for each copy. It returns whether
// there may be more.
func (q *Queue) takeLate(ctx, work context.Context, slots chan struct{}) bool {
	if ctx.Err() != nil {
		return false
	}
	now := q.Now()
	until := now.Add(leaseTime)
	err := q.renewLate(ctx, now)
	var groups []store.Group
	if err == nil {
		groups, err = q.Store.ClaimOverdue(ctx, store.Overdue{
			Owner: q.Owner, Now: now, Until: until, Limit: overdueLimit, Age: q.Schedule.overdue(),
		})
	}
	q.note(ctx, err)
	if err != nil {
		return false
	}
	for _, g := range groups {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done(): // the others' leases are not worth a wait
			q.finish(work, store.Finish{Outcomes: giveBack(g, now)})
			continue
		}
		if !q.start(work, g, until, func(ctx context.Context, g store.Group) store.Finish {
			defer func() { <-slots }()
			return q.overdue(ctx, g)
		}) {
			<-slots
		}
	}
	return len(groups) > 0
}

// note remembers whether the store answers, for Ready, and logs when that changes.
func (q *Queue) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	q.mu.Lock()
	was := q.failed
	q.failed = err
	q.mu.Unlock()
	if err != nil && was == nil {
		q.Log.Error("claim", telemetry.KeyPart, "queue", telemetry.KeyError, err)
	}
}

// room is how many more groups may be in hand, and how many are of each lane. Until the
// claim that it is for has ended, whatever becomes free may be wanted.
func (q *Queue) room() (int, map[store.Lane]int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.short = true
	return q.places(), maps.Clone(q.busy)
}

// hold counts groups of a lane that are in hand. It is called with the lock held.
func (q *Queue) hold(l store.Lane, n int) {
	if l.Domain == "" { // overdue ones are of no lane
		return
	}
	q.total += n
	if q.busy[l] += n; q.busy[l] == 0 {
		delete(q.busy, l)
	}
}

// start has a worker do what is to be done with a group whose lease was given until then,
// and record it. It returns false if that is too late: the machine slept, or the disk
// hung, and the group may be somebody else's by now, or will be soon. Whatever is in hand
// has a lease that lasts until it is renewed.
func (q *Queue) start(ctx context.Context, g store.Group, until time.Time, do func(context.Context, store.Group) store.Finish) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.Now().Before(until.Add(-leaseTime / 2)) {
		return false
	}
	q.hand[g.ID] = g
	q.hold(g.Lane, 1)
	q.workers.Go(func() {
		end := q.giveWay(g.Lane)
		f := q.perform(ctx, g, do)
		q.mu.Lock()
		delete(q.hand, g.ID)
		q.hold(g.Lane, -1)
		end()
		wanted := q.short || later(f)
		q.mu.Unlock()
		if wanted {
			q.free()
		}
	})
	return true
}

// free has it looked for more work.
func (q *Queue) free() {
	select {
	case q.freed <- struct{}{}:
	default:
	}
}

// later says whether something is due at another time than it was.
func later(f store.Finish) bool {
	return len(f.Lanes) > 0 || slices.ContainsFunc(f.Outcomes, func(o store.Outcome) bool { return !o.Done })
}

// finish records what became of a group. The store may be in trouble for a while: then
// what was delivered would be delivered again, so it is asked a few times.
func (q *Queue) finish(ctx context.Context, f store.Finish) {
	if len(f.Outcomes)+len(f.Lanes)+len(f.Audit) == 0 {
		return
	}
	for wait := 50 * time.Millisecond; ; wait *= 4 {
		record, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(wait, recordTime))
		lost, err := q.Store.FinishOutgoing(record, f)
		cancel()
		if err == nil {
			q.Metrics.QueueLost(lost)
			return
		}
		if wait > leaseTime || ctx.Err() != nil {
			q.Log.Error("record outcomes: some may be delivered twice", telemetry.KeyPart, "queue",
				telemetry.KeyCount, len(f.Outcomes), telemetry.KeyError, err)
			q.Metrics.QueueLost(len(f.Outcomes))
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// inHand returns the groups that workers have.
func (q *Queue) inHand() []store.Group {
	q.mu.Lock()
	defer q.mu.Unlock()
	groups := make([]store.Group, 0, len(q.hand))
	for _, g := range q.hand {
		groups = append(groups, g)
	}
	return groups
}

// renew keeps what is in hand. What was lost to another node may be delivered twice:
// nobody can tell whether this one's delivery, once begun, comes through.
func (q *Queue) renew(ctx context.Context) {
	if err := q.renewAll(ctx); err != nil && ctx.Err() == nil {
		q.Log.Error("renew claims", telemetry.KeyPart, "queue", telemetry.KeyError, err)
	}
}

func (q *Queue) renewAll(ctx context.Context) error {
	now := q.Now()
	if groups := q.inHand(); len(groups) > 0 {
		if _, err := q.Store.RenewOutgoing(ctx, groups, now.Add(leaseTime)); err != nil {
			return err
		}
	}
	q.mu.Lock()
	q.renewed = now
	q.mu.Unlock()
	return nil
}

// renewLate renews what is in hand if that could not be done for long, because the store
// was in trouble or the machine slept: else this node would claim it once more.
func (q *Queue) renewLate(ctx context.Context, now time.Time) error {
	q.mu.Lock()
	late := now.Sub(q.renewed) > leaseTime/2
	q.mu.Unlock()
	if !late {
		return nil
	}
	return q.renewAll(ctx)
}

// count sets the gauges.
func (q *Queue) count(ctx context.Context) {
	n, err := q.Store.CountOutgoing(ctx)
	if err != nil {
		return // the next claim says so
	}
	age := time.Duration(0)
	if !n.Oldest.IsZero() {
		age = q.Now().Sub(n.Oldest)
	}
	q.Metrics.QueueWaiting(n.Waiting, n.Held, n.OnHold, len(q.inHand()), n.Unreached, age)
}

// drain waits for the workers, then has them break off, and at last gives back what
// those have that do not.
func (q *Queue) drain(cancel context.CancelFunc) {
	ended := make(chan struct{})
	go func() {
		q.workers.Wait()
		close(ended)
	}()
	for _, wait := range []time.Duration{q.Grace, recordTime} {
		select {
		case <-ended:
			return
		case <-time.After(wait):
			cancel()
		}
	}
	var f store.Finish
	for _, g := range q.inHand() {
		f.Outcomes = append(f.Outcomes, giveBack(g, q.Now())...)
	}
	ctx, stop := context.WithTimeout(context.Background(), recordTime)
	defer stop()
	if _, err := q.Store.FinishOutgoing(ctx, f); err != nil {
		q.Log.Error("give back claims", telemetry.KeyPart, "queue", telemetry.KeyError, err)
	}
}

// giveBack makes recipients due as they were, as if they had never been claimed.
func giveBack(g store.Group, now time.Time) []store.Outcome {
	all := make([]store.Outcome, len(g.Rcpts))
	for i, r := range g.Rcpts {
		all[i] = store.Outcome{Rcpt: r.ID, Claim: g.ID, Due: now}
	}
	return all
}
