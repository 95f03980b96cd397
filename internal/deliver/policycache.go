package deliver

import (
	"context"
	"slices"
	"sync"
	"time"

	"postern/internal/telemetry"
)

// Policy is an MTA-STS policy as it is remembered.
type Policy struct {
	// ID is that of the domain's TXT record when the policy was fetched.
	ID string
	// Text is the policy as the domain publishes it.
	Text []byte
	// Fetched is when; until Expires the policy holds, whatever happens to it.
	Fetched, Expires time.Time
	// Refresh is when it is to be fetched again although nobody says that it changed.
	Refresh time.Time
	// Used is when mail went by it last, to the day.
	Used time.Time
}

// Cache remembers policies. One that is lost at a restart lets whoever controls the
// network then send mail where it likes, once: a lasting one is better.
type Cache interface {
	// Load returns what is remembered of a domain; ok is false if nothing is.
	Load(ctx context.Context, domain string) (p Policy, ok bool, err error)
	// Save replaces what is remembered of a domain.
	Save(ctx context.Context, domain string, p Policy) error
	// Due returns at most limit domains with policies whose Refresh has passed, which
	// have not expired, and were used since a time; those that wait longest first.
	Due(ctx context.Context, now, since time.Time, limit int) ([]string, error)
}

// Memory is a Cache in memory. It is safe for concurrent use.
type Memory struct {
	mu  sync.Mutex
	max int
	all map[string]Policy
}

// NewMemory returns a Cache that remembers so many policies; 0 is 10,000.
func NewMemory(most int) *Memory {
	if most <= 0 {
		most = 10_000
	}
	return &Memory{max: most, all: map[string]Policy{}}
}

// Load implements Cache.
func (m *Memory) Load(_ context.Context, domain string) (Policy, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.all[domain]
	return p, ok, nil
}

// Save implements Cache. If there are too many, any other one is forgotten.
func (m *Memory) Save(_ context.Context, domain string, p Policy) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range m.all {
		if len(m.all) < m.max {
			break
		}
		delete(m.all, other)
	}
	m.all[domain] = p
	return nil
}

// Due implements Cache.
func (m *Memory) Due(_ context.Context, now, since time.Time, limit int) (domains []string, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d, p := range m.all {
		if !now.Before(p.Refresh) && now.Before(p.Expires) && !p.Used.Before(since) {
			domains = append(domains, d)
		}
	}
	slices.SortFunc(domains, func(a, b string) int { return m.all[a].Refresh.Compare(m.all[b].Refresh) })
	return domains[:min(len(domains), limit)], nil
}

const (
	// refreshAfter is when a policy is fetched again although its id is the same, so
	// that it does not expire (RFC 8461 3.3); sooner if it is short-lived.
	refreshAfter = 24 * time.Hour
	// refreshEvery is how often is looked for those that nobody writes to now, and
	// refreshFor how long after the last mail they are still kept alive.
	refreshEvery = 15 * time.Minute
	refreshFor   = 90 * 24 * time.Hour
	refreshLimit = 500 // in one go
	refreshers   = 8   // at once
	// usedEvery is how exact Policy.Used is.
	usedEvery = 24 * time.Hour
	// recallFor is how long the cache is not asked again about a domain. Other nodes
	// may have fetched a newer policy meanwhile, which the TXT record tells of.
	recallFor = time.Minute
	maxRecent = 10_000
)

// recalled is what the cache said of a domain a short while ago.
type recalled struct {
	kept          Policy
	*domainPolicy // nil: there is none, or one that cannot be read
	until         time.Time
}

// recall asks the cache, or remembers what it said.
func (p *policies) recall(ctx context.Context, domain string) (recalled, error) {
	now := p.c.Now()
	p.mu.Lock()
	r, ok := p.recent[domain]
	p.mu.Unlock()
	if ok && now.Before(r.until) {
		return r, nil
	}
	kept, ok, err := p.c.Policies.Load(ctx, domain)
	if err != nil {
		return recalled{}, err
	}
	r = recalled{kept: kept}
	if ok {
		if parsed, err := parsePolicy(kept.Text); err == nil {
			r.domainPolicy = &domainPolicy{policy: parsed, text: string(kept.Text)}
		}
	}
	p.remember(domain, r)
	return r, nil
}

func (p *policies) remember(domain string, r recalled) {
	r.until = p.c.Now().Add(recallFor)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.recent) >= maxRecent {
		clear(p.recent)
	}
	p.recent[domain] = r
}

// save writes a policy down. That it cannot be does not make it wrong: it is fetched
// again.
func (p *policies) save(ctx context.Context, domain string, kept Policy, parsed *domainPolicy) {
	if err := p.c.Policies.Save(ctx, domain, kept); err != nil && ctx.Err() == nil {
		p.c.Log.Warn("remember an MTA-STS policy", telemetry.KeyDomain, domain, telemetry.KeyError, err)
	}
	p.remember(domain, recalled{kept: kept, domainPolicy: parsed})
}

// RefreshPolicies fetches the MTA-STS policies of domains that mail goes to now and then
// before they expire, until ctx ends: who can keep us from a domain's web server must do
// so for as long as its policy lasts, and not only at the moment when mail goes there.
func (c *Carrier) RefreshPolicies(ctx context.Context) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		c.policies.refresh(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// refresh fetches what is due.
func (p *policies) refresh(ctx context.Context) {
	now := p.c.Now()
	domains, err := p.c.Policies.Due(ctx, now, now.Add(-refreshFor), refreshLimit)
	if err != nil && ctx.Err() == nil {
		p.c.Log.Error("look for MTA-STS policies to be refreshed", telemetry.KeyError, err)
	}
	slots := make(chan struct{}, refreshers)
	var working sync.WaitGroup
	defer working.Wait()
	for _, domain := range domains {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		working.Go(func() {
			defer func() { <-slots }()
			p.refreshOne(ctx, domain)
		})
	}
}

// refreshOne fetches the policy of a domain. If that fails it is tried again, ever more
// often as the end of the policy comes near.
func (p *policies) refreshOne(ctx context.Context, domain string) {
	kept, ok, err := p.c.Policies.Load(ctx, domain)
	if err != nil || !ok {
		return
	}
	id, published, f := p.published(ctx, domain)
	if err = f.orNil(); err == nil && published {
		_, err = p.fetch(ctx, domain, id, kept.Used)
	}
	if err == nil && published || ctx.Err() != nil {
		return
	}
	if err != nil { // else the domain takes it back, and it ends by itself
		p.c.Log.Warn("refresh an MTA-STS policy", telemetry.KeyDomain, domain, telemetry.KeyError, err)
	}
	now := p.c.Now()
	kept.Refresh = now.Add(max(refreshEvery, min(refreshAfter, kept.Expires.Sub(now))/4))
	if parsed, err := parsePolicy(kept.Text); err == nil {
		p.save(ctx, domain, kept, &domainPolicy{policy: parsed, text: string(kept.Text)})
	}
}
