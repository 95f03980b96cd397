package bridge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/message"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/keydir"
	"postern/policy"
)

// elsewhere is a source of the directory that answers at once.
type elsewhere struct {
	mu      sync.Mutex
	certs   map[string][]*pgp.Certificate
	unknown map[string]bool
	trust   mail.Trust
}

func (*elsewhere) Name() string { return "wkd" }

func (e *elsewhere) Trust() keydir.Trust { return e.trust }

func (e *elsewhere) Lookup(_ context.Context, a mail.Address) (keydir.Finding, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.unknown[a.Key()] {
		return keydir.Finding{}, errors.New("it does not answer")
	}
	return keydir.Finding{Certificates: e.certs[a.Key()]}, nil
}

// set changes what the source answers, and makes the directory ask anew.
func (e *elsewhere) set(address string, unknown bool, certs ...*pgp.Certificate) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unknown[address], e.certs[address] = unknown, certs
}

// outbound is a fixture whose directory asks a source for addresses elsewhere, with the
// account alice@here.test, who has a key.
type outbound struct {
	*fixture
	source *elsewhere
	now    time.Time
	claims int
}

func newOutbound(t testing.TB, change ...func(*Options)) *outbound {
	t.Helper()
	o := &outbound{source: &elsewhere{certs: map[string][]*pgp.Certificate{}, unknown: map[string]bool{}, trust: mail.Published}, now: time.Now()}
	directory := func(opts *Options) {
		opts.Now = func() time.Time { return o.now }
		opts.Directory = keydir.New(keydir.Options{
			Store: opts.Store, Hosted: func(domain string) bool { return domain == "here.test" },
			Sources: []keydir.Source{o.source}, Now: opts.Now,
		})
	}
	o.fixture = newFixture(t, append([]func(*Options){directory}, change...)...)
	o.account("alice@here.test", true)
	return o
}

// withPolicy gives the bridge a policy of these rules.
func withPolicy(t testing.TB, rules string) func(*Options) {
	t.Helper()
	p, err := policy.Parse("policy.toml", []byte(rules))
	if err != nil {
		t.Fatal(err)
	}
	return func(o *Options) { o.Policy = func() *policy.Policy { return p } }
}

// correspondent gives an address elsewhere a key, which the source knows.
func (o *outbound) correspondent(address string) *pgp.SecretKey {
	o.t.Helper()
	k, err := pgp.GenerateKey(address, time.Now().Add(-time.Minute))
	if err != nil {
		o.t.Fatal(err)
	}
	o.keys[address] = k
	o.source.set(address, false, k.Certificate())
	return k
}

// submission is alice's client.
func submissionSource() mail.Source {
	alice := mail.Address{Local: "alice", Domain: "here.test"}
	return mail.Source{
		Kind: mail.KindSubmission, ID: "sub1", From: alice, Account: alice,
		RemoteIP: netip.MustParseAddr("192.0.2.99"), Helo: "alices-laptop", Protocol: "ESMTPSA",
		TLS: &mail.TLS{Version: "TLS1.3", Cipher: "TLS_AES_128_GCM_SHA256"}, Time: time.Now(),
	}
}

// letter is what alice writes.
func letter(extra string, to ...string) string {
	return extra + "From: Alice <alice@here.test>\r\nTo: " + strings.Join(to, ", ") + "\r\nSubject: a secret subject\r\n" +
		"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@here.test>\r\n\r\nthe canary sings\r\n"
}

func (o *outbound) submit(data string, to ...string) (mail.Receipt, error) {
	o.t.Helper()
	return o.send(submissionSource(), data, to...)
}

func (o *outbound) mustSubmit(data string, to ...string) mail.Receipt {
	o.t.Helper()
	r, err := o.submit(data, to...)
	if err != nil {
		o.t.Fatalf("submit: %v", err)
	}
	return r
}

// waiting is a copy in the queue.
type waiting struct {
	*store.Outgoing
	to  []store.OutgoingRcpt
	raw []byte // as it leaves
}

func (w waiting) addresses() string {
	var all []string
	for _, r := range w.to {
		all = append(all, r.Address)
	}
	return strings.Join(all, " ")
}

// queued claims all that waits, and opens it.
func (o *outbound) queued() []waiting {
	o.t.Helper()
	// The leases are over when it is asked again.
	o.claims++
	now := time.Now().Add(time.Duration(o.claims) * time.Hour)
	claimed, err := o.Store.ClaimOutgoing(o.t.Context(), store.Claim{Owner: "test", Now: now, Until: now.Add(time.Minute), Limit: 10000, PerLane: 10000})
	if err != nil {
		o.t.Fatal(err)
	}
	var all []waiting
	at := map[store.ID]int{}
	for _, g := range claimed.Groups {
		i, known := at[g.Copy.ID]
		if !known {
			r, err := o.OpenOutgoing(o.t.Context(), g.Copy)
			if err != nil {
				o.t.Fatal(err)
			}
			raw, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil {
				o.t.Fatal(err)
			}
			i = len(all)
			at[g.Copy.ID] = i
			all = append(all, waiting{Outgoing: g.Copy, raw: raw})
		}
		for _, q := range g.Rcpts {
			all[i].to = append(all[i].to, q.OutgoingRcpt)
		}
	}
	return all
}

// one is the only copy in the queue.
func (o *outbound) one() waiting {
	o.t.Helper()
	all := o.queued()
	if len(all) != 1 {
		o.t.Fatalf("%d copies in the queue", len(all))
	}
	return all[0]
}

// copyFor is the copy for an address.
func (o *outbound) copyFor(address string) waiting {
	o.t.Helper()
	for _, w := range o.queued() {
		for _, r := range w.to {
			if r.Address == address {
				return w
			}
		}
	}
	o.t.Fatalf("nothing waits for %s", address)
	return waiting{}
}

// decrypt opens a sealed copy with a correspondent's key, and returns the payload.
func (o *fixture) decrypt(address string, raw []byte) string {
	o.t.Helper()
	at := bytes.NewReader(raw)
	c, ok, err := message.FindEncrypted(message.ScanBytes(raw, message.Limits{}), at)
	if err != nil || !ok {
		o.t.Fatalf("not PGP/MIME, %v:\n%s", err, raw)
	}
	plain, err := o.keys[address].Decrypt(c.Reader(at))
	if err != nil {
		o.t.Fatalf("decrypt for %s: %v", address, err)
	}
	payload, err := io.ReadAll(plain)
	if err != nil {
		o.t.Fatalf("decrypt for %s: %v", address, err)
	}
	return string(payload)
}

// recipientsOf are the key IDs that a sealed copy tells.
func recipientsOf(t testing.TB, raw []byte) pgp.Inspection {
	t.Helper()
	at := bytes.NewReader(raw)
	c, ok, err := message.FindEncrypted(message.ScanBytes(raw, message.Limits{}), at)
	if err != nil || !ok {
		t.Fatalf("not PGP/MIME: %v", err)
	}
	found, err := pgp.Inspect(c.Reader(at))
	if err != nil || !found.Encrypted {
		t.Fatalf("%+v, %v", found, err)
	}
	return found
}

// headerOf is the outer header section.
func headerOf(t testing.TB, raw []byte) message.Header {
	t.Helper()
	h, _, err := message.ParseHeader(raw)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
