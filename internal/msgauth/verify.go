package msgauth

import (
	"context"
	"io"
	"net/netip"
	"sync"
	"time"

	"postern/internal/dns"
	"postern/internal/mail"
)

// DefaultDeadline is for all look-ups of one message together.
const DefaultDeadline = 2 * time.Second

// Options configure a Verifier.
type Options struct {
	// Resolver is required. With a *dns.Resolver, what it remembers is used
	// without starting a goroutine.
	Resolver Resolver
	// Deadline is for all look-ups of one message together; what is not known
	// by then is temperror. Zero means DefaultDeadline.
	Deadline time.Duration
	// Now is the clock for the expiry of signatures; nil means time.Now.
	Now func() time.Time
}

// Verifier checks messages. It is safe for concurrent use.
type Verifier struct {
	resolver Resolver
	caching  *dns.Resolver // nil if resolver is another one
	deadline time.Duration
	now      func() time.Time
}

// Request is what is known of a message when it is checked: all of it before
// anything was added, removed or changed.
type Request struct {
	// IP is the peer. If it is not valid, as for IMAP APPEND, SPF is none.
	IP netip.Addr
	// Helo is what the peer called itself.
	Helo string
	// From is the reverse-path; the zero value is the null reverse-path.
	From mail.Address
	// HeaderFrom holds every address of every From field; one that cannot be
	// read is the zero Address, not left out: a reader may show that one.
	HeaderFrom []mail.Address
	// Header is the header section as it came, with CRLF line endings, with or
	// without the empty line that ends it. It is only read.
	Header []byte
	// Body returns a reader of what follows the empty line, CRLF line endings.
	// It is called at most once, and only if a signature needs it. Nil is an
	// empty body. If the reader fails, DKIM is temperror.
	Body func() io.Reader
}

// NewVerifier returns a Verifier.
func NewVerifier(o Options) *Verifier {
	if o.Deadline <= 0 {
		o.Deadline = DefaultDeadline
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	caching, _ := o.Resolver.(*dns.Resolver)
	return &Verifier{resolver: o.Resolver, caching: caching, deadline: o.Deadline, now: o.Now}
}

// Verify checks SPF, DKIM and DMARC. It returns within the deadline plus the
// time it takes to hash the body; it never fails. All look-ups that do not depend
// on each other run at the same time. If the resolver has every answer in
// memory, or knows that nobody will answer, no goroutine is started for them.
func (v *Verifier) Verify(ctx context.Context, req Request) Results {
	c := v.prepare(&req)
	lookups, cancel := c.lookUp(ctx)
	defer cancel()
	verifySignatures(ctx, &req, c.signatures)
	for i := range c.signatures {
		c.results.DKIM = append(c.results.DKIM, c.signatures[i].DKIMResult)
	}
	if c.results.DMARC == "" {
		c.evaluateDMARC(lookups)
	}
	return c.results
}

// A check is one message on its way through Verify.
type check struct {
	*Verifier
	req        *Request
	results    Results
	signatures []signature
	author     walk
}

// prepare does what needs no look-up.
func (v *Verifier) prepare(req *Request) *check {
	c := &check{Verifier: v, req: req}
	scan := scanHeader(req.Header)
	c.results.Signatures = scan.count
	if n := len(scan.signatures); n > 0 {
		c.signatures = make([]signature, 0, n)
		c.results.DKIM = make([]DKIMResult, 0, n)
	}
	now, large := v.now(), scan.tooLarge(req.Header)
	for _, value := range scan.signatures {
		s := parseSignature(value, now)
		if large != "" {
			s = s.is(Policy, large)
		}
		c.signatures = append(c.signatures, s)
	}
	c.results.Sender = spfIdentity(req)
	if c.results.Sender.Domain == "" {
		c.results.SPF = None
	}
	c.results.Author, c.results.DMARC = authorDomain(req.HeaderFrom, scan.from)
	return c
}

// lookUp runs SPF, discovers the policy and fetches the keys: from memory what
// can be, and the rest at the same time. The context it returns ends at the
// deadline.
func (c *check) lookUp(ctx context.Context) (context.Context, context.CancelFunc) {
	todo := c.tasks()
	if c.caching != nil {
		if todo = c.recall(ctx, todo); len(todo) == 0 {
			return ctx, func() {} // a deadline costs a timer; evaluateDMARC makes one if it must ask
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.deadline)
	resolver := c.view()
	var running sync.WaitGroup
	for _, t := range todo {
		running.Go(func() { c.run(ctx, resolver, t) })
	}
	running.Wait()
	return ctx, cancel
}

// A task is one independent part of the look-ups: the key of the signature with
// this index, or one of the constants.
type task int

const (
	taskSPF   task = -1
	taskDMARC task = -2
)

func (c *check) tasks() []task {
	todo := make([]task, 0, 2+MaxSignatures)
	if c.results.SPF == "" {
		todo = append(todo, taskSPF)
	}
	if c.results.DMARC == "" {
		todo = append(todo, taskDMARC)
	}
	for i := range c.signatures {
		if c.signatures[i].Result == "" {
			todo = append(todo, task(i))
		}
	}
	return todo
}

// run does a task. If that was in vain, undo makes it as if it had not been done.
func (c *check) run(ctx context.Context, resolver Resolver, t task) {
	switch t {
	case taskSPF:
		c.results.SPF = checkSPF(ctx, resolver, c.req, c.results.Sender)
	case taskDMARC:
		c.author = newWalk(c.results.Author)
		c.author.discover(ctx, resolver)
	default:
		c.signatures[t].lookUpKey(ctx, resolver)
	}
}

func (c *check) undo(t task) {
	if t >= 0 {
		c.signatures[t].Result, c.signatures[t].Reason = "", ""
	}
}

// recall does the tasks with what the resolver remembers, and returns those for
// which that was not enough.
func (c *check) recall(ctx context.Context, todo []task) []task {
	m := &memory{resolver: c.caching}
	var known Resolver = dns.Lookups{Source: m, OnlyIPv4: c.only4()}
	left := todo[:0]
	for _, t := range todo {
		m.missed = false
		if c.run(ctx, known, t); m.missed {
			c.undo(t)
			left = append(left, t)
		}
	}
	return left
}

// evaluateDMARC compares identifiers, which may take look-ups of its own.
func (c *check) evaluateDMARC(ctx context.Context) {
	if c.caching != nil && len(c.author.found) > 0 { // else there is nothing to compare
		m := &memory{resolver: c.caching}
		results := c.results
		results.DKIM = append([]DKIMResult(nil), results.DKIM...)
		author := c.author
		e := evaluation{resolver: dns.Lookups{Source: m}, author: &author}
		if e.evaluate(ctx, &results); !m.missed {
			c.results = results
			return
		}
	}
	if len(c.author.found) > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.deadline)
		defer cancel()
	}
	e := evaluation{resolver: c.resolver, author: &c.author}
	e.evaluate(ctx, &c.results)
}
