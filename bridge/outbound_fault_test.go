package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/cluster"
	"postern/internal/deliver"
	"postern/internal/dns"
	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/queue"
	"postern/internal/store"
	"postern/internal/testkit"
	"postern/keydir"
)

// trouble fails some statements of the store in a row.
type trouble struct {
	first, last int64 // counted from 1
	calls       atomic.Int64
}

var errDisk = errors.New("the disk has failed")

func (t *trouble) call() error {
	if n := t.calls.Add(1); n >= t.first && n <= t.last {
		return errDisk
	}
	return nil
}

// way is the whole way out of a message: bridge, queue and carrier over a real store whose
// disk fails, and the next hop, which defers some recipients once and refuses others.
type way struct {
	*fixture
	source *elsewhere
	clock  *testkit.Clock
	wakes  *cluster.Memory
	mta    *testkit.MTA
	enrol  *keydir.Enrolment
	queue  *queue.Queue
}

func newWay(t *testing.T) *way {
	t.Helper()
	w := &way{
		clock: testkit.NewClock(), wakes: cluster.NewMemory(nil),
		source: &elsewhere{certs: map[string][]*pgp.Certificate{}, unknown: map[string]bool{}, trust: mail.Published},
	}
	w.clock.Set(time.Now())
	w.fixture = newFixture(t, withPolicy(t, "[[rule]]\nname = \"strict\"\nwhen = 'recipient startsWith \"strict\"'\nfloor = \"sealed\"\n"),
		func(o *Options) {
			o.Now, o.Wake = w.clock.Now, w.wakes.Wake
			o.Directory = keydir.New(keydir.Options{
				Store: o.Store, Hosted: func(domain string) bool { return domain == "here.test" }, Sources: []keydir.Source{w.source}, Now: o.Now,
			})
			t.Cleanup(o.Directory.Close)
			w.enrol = keydir.NewEnrolment(keydir.EnrolOptions{
				Store: o.Store, Now: o.Now,
				Changed: func(ctx context.Context, a mail.Address) error {
					w.Directory.Drop(a.Key())
					_, err := w.Release(ctx)
					return err
				},
				Tell: func(ctx context.Context, e keydir.Enrolled) error {
					return w.Notify(ctx, e.Account, "a certificate", []string{"told of " + e.Certificate.Fingerprint()})
				},
			})
			o.LearnOwn = w.enrol.Learn
			o.Express = func(lanes []store.Lane, commit func(store.Express) ([]store.Group, error)) error {
				return w.queue.Express(lanes, commit)
			}
		})
	var deferred sync.Map
	w.mta = testkit.StartMTA(t, "127.0.0.1:0", &testkit.MTA{Stage: func(c *testkit.MTAConn, stage, line string) bool {
		switch {
		case stage == "RCPT" && strings.Contains(line, "TO:<refused"):
			c.Say("550 5.1.1 nobody\r\n")
			return true
		case stage == "RCPT":
			if _, again := deferred.LoadOrStore(line, true); !again {
				c.Say("451 4.7.1 grey\r\n")
				return true
			}
		}
		return false
	}})
	w.run(t)
	return w
}

// run runs the queue and the enrolment until the test ends.
func (w *way) run(t *testing.T) {
	t.Helper()
	resolver, err := dns.New(dns.Options{Servers: []string{"127.0.0.1:1"}, Validating: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	carrier := deliver.New(deliver.Options{
		Hostname: "mail.here.test", Resolver: resolver,
		Routes: []deliver.Route{{Domain: "*", Host: "127.0.0.1", Port: uint16(w.mta.Addr().Port)}},
	})
	ids := atomic.Int64{}
	w.queue = queue.New(queue.Options{
		Store: w.Store, Carrier: carrier, Open: w.OpenOutgoing, Size: func(*store.Outgoing) int64 { return 0 }, Reconsider: w.Reconsider, Acceptor: w.Bridge, Wakes: w.wakes,
		Hostname: "mail.here.test", Owner: "node", NewID: func() string { return fmt.Sprint("report", ids.Add(1)) },
		Schedule: queue.Schedule{First: 5 * time.Millisecond, Held: 5 * time.Millisecond}, Grace: time.Second,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 2)
	go func() { w.enrol.Run(ctx); ended <- struct{}{} }()
	go func() {
		if err := w.queue.Run(ctx); err != nil {
			t.Error(err)
		}
		ended <- struct{}{}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		<-ended
		carrier.Close()
		resolver.Close()
	})
}

// round sends one message to everybody there is while the disk has trouble, as a client
// does that tries again what was put off, until the way is empty. It returns how many
// statements there were.
func (w *way) round(t *testing.T, name string, bad *trouble) int64 {
	t.Helper()
	account := parse(t, "alice-"+name+"@here.test")
	w.account(account.String(), false)
	own, err := pgp.GenerateKey(account.String(), time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	address := func(local string) string { return local + "-" + name + "@there.test" }
	for _, local := range []string{"bob", "late"} {
		k, err := pgp.GenerateKey(address(local), time.Now().Add(-time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		w.keys[address(local)] = k
	}
	w.source.set(address("bob"), false, w.keys[address("bob")].Certificate())
	w.source.set(address("late"), true)
	w.source.set(address("never"), true)
	to := []string{address("bob"), address("open"), address("late"), address("never"), address("refused")}
	src := submissionSource()
	src.From, src.Account, src.ID = account, account, "sub-"+name
	text := "From: " + account.String() + "\r\nTo: " + strings.Join(to, ", ") + "\r\nSubject: a secret subject\r\nMessage-ID: <" + name + "@here.test>\r\n" +
		autocrypt(account.String(), own.Certificate().Data()) + "\r\nthe canary sings\r\n"

	f := bad.call
	w.fault.Store(&f)
	w.attempts(t, src, text, 550, address("strict"))
	w.attempts(t, src, text, 0, to...)
	// Now the sources know: late has a certificate, and never has none.
	w.source.set(address("late"), false, w.keys[address("late")].Certificate())
	w.source.set(address("never"), false)
	w.clock.Advance(2 * time.Minute)
	w.empty(t, name)
	w.fault.Store(nil)
	calls := bad.calls.Load()
	w.verify(t, name, address)

	// The certificate that the account handed in may have been missed, but comes again.
	w.keys[account.String()] = own
	w.attempts(t, src, text, 0, account.String())
	var inbox string
	w.soon(t, name+": the owner is told of the certificate, and of who was refused", func() bool {
		if w.Directory.Own(t.Context(), account).Fingerprint == "" {
			return false
		}
		_, err := w.Release(t.Context())
		inbox = w.inbox(t, account.String())
		return err == nil && strings.Contains(inbox, "told of "+own.Certificate().Fingerprint()) && strings.Contains(inbox, "Final-Recipient: rfc822; "+address("refused"))
	})
	history, err := w.Directory.History(t.Context(), account)
	if err != nil || len(history) != 1 || history[0].Rule != keydir.RuleEnrolled {
		t.Errorf("%s: history of the account's certificate: %+v, %v", name, history, err)
	}
	return calls
}

// inbox is all that lies in an account's INBOX, opened.
func (w *way) inbox(t *testing.T, account string) string {
	t.Helper()
	var all strings.Builder
	for _, m := range w.stored(account, "INBOX") {
		if m.Class == store.ClassSealed {
			all.WriteString(string(w.open(account, m.raw).original))
		} else {
			all.Write(m.raw)
		}
	}
	return all.String()
}

// attempts submits a message until the answer is the one that is wanted; 0 is that it was
// accepted. What comes before may only be that it is put off.
func (w *way) attempts(t *testing.T, src mail.Source, text string, code int, to ...string) {
	t.Helper()
	for range 100 {
		_, err := w.send(src, text, to...)
		if codeOf(err) == code {
			return
		}
		if c := codeOf(err); err == nil || c != -1 && c/100 != 4 {
			t.Fatalf("%s: %v, want %d", src.ID, err, code)
		}
	}
	t.Fatalf("%s: never the answer %d", src.ID, code)
}

// empty waits until nothing waits in the queue.
func (w *way) empty(t *testing.T, name string) {
	t.Helper()
	w.soon(t, name+": the queue is empty", func() bool {
		n, err := w.Store.CountOutgoing(t.Context())
		return err == nil && n.Waiting+n.Held+n.OnHold == 0
	})
}

func (w *way) soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(4 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("not within 20 s: %s", what)
			_ = w.Store.ListOutgoing(t.Context(), store.Selection{All: true}, func(q store.Queued) error {
				t.Logf("%+v", q)
				return nil
			})
			t.FailNow()
		}
		w.wakes.Wake(QueueTopic)
	}
}

// verify requires that a round's message came to each, no copy weaker than it may be.
func (w *way) verify(t *testing.T, name string, address func(string) string) {
	t.Helper()
	times := map[string]int{}
	for _, m := range w.mta.Messages() {
		for _, r := range m.Rcpts {
			to, _, _ := strings.Cut(strings.TrimPrefix(r, "RCPT TO:<"), ">")
			if !strings.HasSuffix(to, "-"+name+"@there.test") {
				continue
			}
			times[to]++
			if _, keyed := w.keys[to]; keyed {
				if strings.Contains(m.Content, "canary") || !strings.HasSuffix(w.decrypt(to, []byte(m.Content)), "the canary sings\r\n") {
					t.Errorf("%s: %s, who has a certificate, got\n%s", name, to, m.Content)
				}
			} else if !strings.Contains(m.Content, "\r\nPostern-Delivery: insecure; reason=no-certificate\r\n") {
				t.Errorf("%s: %s, who has none, got what is not marked:\n%s", name, to, m.Content)
			}
		}
	}
	for _, local := range []string{"bob", "open", "late", "never"} {
		if n := times[address(local)]; n == 0 || n > 2 {
			t.Errorf("%s: %d messages came to %s", name, n, local)
		}
	}
	if len(times) != 4 {
		t.Errorf("%s: mail came to %q", name, slices.Sorted(maps.Keys(times)))
	}
}

// TestP3_StoreErrorsOutbound fails every statement of the store once, from a submission to
// the last report, and many in a row: nothing that was acknowledged is lost, nobody who
// has a certificate gets clear text, what is clear is marked, what was refused stays so,
// and nothing is on the disk in clear.
func TestP3_StoreErrorsOutbound(t *testing.T) {
	t.Parallel()
	const ways = 4 // beside each other
	for i := range int64(ways) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			w := newWay(t)
			calls := w.round(t, "well", &trouble{})
			for n := 1 + i; n <= calls; n += ways {
				w.round(t, fmt.Sprint("one", n), &trouble{first: n, last: n})
			}
			for n := 1 + 10*i; n <= calls; n += 10 * ways {
				w.round(t, fmt.Sprint("many", n), &trouble{first: n, last: n + 30})
			}
			w.noCanary()
			t.Logf("%d statements", calls)
		})
	}
}
