package server

import (
	"context"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"postern/internal/deliver"
	"postern/internal/mail"
	"postern/internal/queue"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// asStored opens copies as they lie in the store.
type asStored struct{ g *Gateway }

func (o asStored) OpenOutgoing(ctx context.Context, c *store.Outgoing) (io.ReadCloser, error) {
	return c.Open(ctx, o.g.Blobs)
}

func (asStored) Reconsider(context.Context, *store.Outgoing, store.OutgoingRcpt) error {
	return mail.ErrNoSuchUser
}

// sink is another mail server.
type sink struct{ got chan string }

func (s sink) NewSession(*smtp.Conn) (smtp.Session, error) { return sinkSession(s), nil }

type sinkSession sink

func (sinkSession) Reset()                               {}
func (sinkSession) Logout() error                        { return nil }
func (sinkSession) Mail(string, *smtp.MailOptions) error { return nil }
func (sinkSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (s sinkSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.got <- string(text)
	return err
}

// TestQueue: what is committed is carried by the running gateway, also what another
// process has put there, and the gateway stops while something waits.
func TestQueue(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := sink{make(chan string, 9)}
	s := smtp.NewServer(other)
	s.Domain = "mx.there.test"
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })

	c := newConfig(t)
	c.Delivery.Routes = []string{"there.test=" + l.Addr().String()}
	g, err := Open(t.Context(), c, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.openQueue(asStored{g}); err != nil {
		t.Fatal(err)
	}
	put := func(by *Gateway, rcpt string) {
		t.Helper()
		a, err := by.Store.AccountByAddress(t.Context(), owner)
		if err != nil {
			t.Fatal(err)
		}
		_, domain, _ := strings.Cut(rcpt, "@")
		o := store.Outgoing{
			ID: by.Store.NewID(), Account: a.ID, From: owner, Level: mail.Sealed, Head: []byte(hello), Size: int64(len(hello)),
			Protection: mail.Protect(mail.Order{Floor: mail.Sealed}, mail.ContentClear, mail.Found),
			Rcpts:      []store.OutgoingRcpt{{ID: by.Store.NewID(), Address: rcpt, Domain: domain}},
		}
		if _, err := by.Store.Commit(t.Context(), store.Batch{Outgoing: []store.Outgoing{o}}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := g.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	arrived := func() {
		t.Helper()
		select {
		case text := <-other.got:
			if text != hello {
				t.Errorf("it arrived as %q", text)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing arrived")
		}
	}
	put(g, "bob@there.test")
	g.Cluster.Wake(queue.Topic)
	arrived()
	beside, err := Open(t.Context(), c, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	put(beside, "carol@there.test")
	put(beside, "dave@elsewhere.test") // nobody answers
	if err := beside.Close(); err != nil {
		t.Fatal(err)
	}
	arrived()
	if err := g.queueWorks(t.Context()); err != nil {
		t.Error(err)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	again, err := Open(t.Context(), c, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	n, err := again.Store.CountOutgoing(t.Context())
	if err != nil || n.Waiting != 1 {
		t.Errorf("%+v, %v", n, err)
	}
}

// TestPoliciesLast: an MTA-STS policy holds after a restart, and is forgotten when it
// holds no more.
func TestPoliciesLast(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	now := time.Now().UTC().Truncate(time.Microsecond)
	policy := deliver.Policy{ID: "1", Text: []byte("version: STSv1"), Fetched: now, Expires: now.Add(time.Hour), Refresh: now, Used: now}
	g, err := Open(t.Context(), c, telemetry.Discard())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Carrier.Policies.Save(t.Context(), "there.test", policy); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if g, err = Open(t.Context(), c, telemetry.Discard()); err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if got, ok, err := g.Carrier.Policies.Load(t.Context(), "there.test"); !ok || err != nil || !reflect.DeepEqual(got, policy) {
		t.Errorf("%+v %t %v", got, ok, err)
	}
	if got, err := g.Carrier.Policies.Due(t.Context(), now, now, 9); len(got) != 1 || err != nil {
		t.Errorf("%v %v", got, err)
	}
	g.now = func() time.Time { return now.Add(2 * time.Hour) }
	g.forgetPolicies(t.Context())
	if _, ok, err := g.Carrier.Policies.Load(t.Context(), "there.test"); ok || err != nil {
		t.Errorf("it is still there: %v", err)
	}
}
