package msgauth

import (
	"context"
	"strings"

	"postern/internal/mail"
)

// authorDomain returns the one domain of the From field (RFC 9989 5.3.1). If
// there is none or more than one it says with which result DMARC ends: it is
// not possible then. Several From fields are as bad as several domains: the
// reader and a signature may each take another one.
func authorDomain(from []mail.Address, fields int) (domain string, end Result) {
	for i, a := range from {
		if i > 0 && a.Domain != domain {
			return "", PermError
		}
		domain = a.Domain
	}
	switch {
	case fields > 1:
		return "", PermError
	case !isDomain(domain):
		return "", None
	}
	return domain, ""
}

// alignment says whether a domain is aligned with the Author Domain.
type alignment uint8

const (
	notAligned alignment = iota
	aligned
	maybeAligned // a look-up failed
)

// evaluation is the DMARC evaluation of one message (RFC 9989 5.3), after SPF
// and DKIM and after the discovery of the policy.
type evaluation struct {
	resolver Resolver
	author   *walk
	// identifiers holds the finished walks of identifiers, so that no domain is
	// walked twice.
	identifiers map[string]alignment
}

// evaluate fills in the results of DMARC.
func (e *evaluation) evaluate(ctx context.Context, r *Results) {
	if len(e.author.found) == 0 {
		r.DMARC = None
		if e.author.err != nil {
			r.DMARC = TempError
		}
		return
	}
	own := e.author.found[0].domain == e.author.start
	if !own && e.author.err != nil { // the record that applies may be higher up
		r.DMARC = TempError
		return
	}
	policy, _ := e.author.policy()
	rec, ok := policy.record.usable()
	if !ok {
		r.DMARC = PermError
		return
	}
	r.Published = DMARCPolicy{Domain: policy.domain, Testing: rec.testing}
	r.DMARC = e.compare(ctx, r, rec)
	request, known := e.request(ctx, r.DMARC, rec, policy.domain)
	r.Published.Request = request
	if r.DMARC == Fail && !known {
		r.DMARC = TempError
	}
	r.Aligned = r.DMARC == Pass
}

// compare decides between pass, fail and temperror (RFC 9989 5.3.4 to 5.3.6).
func (e *evaluation) compare(ctx context.Context, r *Results, rec record) Result {
	unknown := false
	switch a := e.align(ctx, r.SPF, r.Sender.Domain, rec.strictSPF); {
	case a == aligned && r.SPF == Pass:
		r.Published.SPFAligned = true
	case a != notAligned:
		unknown = true
	}
	for i := range r.DKIM {
		s := &r.DKIM[i]
		a := e.align(ctx, s.Result, s.Domain, rec.strictKey)
		s.Aligned = a == aligned
		if s.Aligned && s.Result == Pass {
			r.Published.DKIMAligned = true
		} else if a != notAligned {
			unknown = true
		}
	}
	switch {
	case r.Published.SPFAligned || r.Published.DKIMAligned:
		return Pass
	case unknown:
		return TempError
	}
	return Fail
}

// align compares an identifier with the Author Domain if its result makes it
// worth it: one that passed, or that may have.
func (e *evaluation) align(ctx context.Context, result Result, domain string, strict bool) alignment {
	if domain == "" || result != Pass && result != TempError {
		return notAligned
	}
	if domain == e.author.start {
		return aligned
	}
	if strict {
		return notAligned
	}
	if a, ok := e.identifiers[domain]; ok {
		return a
	}
	a := e.relaxed(ctx, domain)
	if e.identifiers == nil {
		e.identifiers = make(map[string]alignment)
	}
	e.identifiers[domain] = a
	return a
}

// relaxed compares Organizational Domains.
func (e *evaluation) relaxed(ctx context.Context, domain string) alignment {
	if lastLabels(domain, 1) != lastLabels(e.author.start, 1) {
		return notAligned // nothing in common, whatever the DNS says
	}
	e.author.finish(ctx, e.resolver)
	if e.author.err != nil {
		return maybeAligned
	}
	organization := e.author.organization()
	if domain == organization {
		return aligned
	}
	if !strings.HasSuffix(domain, "."+organization) {
		return notAligned // its own is itself or above it, so never this one
	}
	w := newWalk(domain)
	w.finish(ctx, e.resolver)
	switch {
	case w.err != nil:
		return maybeAligned
	case w.organization() == organization:
		return aligned
	}
	return notAligned
}

// request picks the tag that applies to the Author Domain (RFC 9989 4.10.1).
// known is false if it is not known whether the Author Domain exists and it
// matters.
func (e *evaluation) request(ctx context.Context, result Result, rec record, domain string) (request string, known bool) {
	if domain == e.author.start {
		return rec.p, true
	}
	request = rec.p
	if rec.sp != "" {
		request = rec.sp
	}
	if rec.np == "" || rec.np == request || result == Pass {
		return request, true // not worth a look-up
	}
	exists, known := e.exists(ctx)
	if known && !exists {
		request = rec.np
	}
	return request, known
}

// exists says whether the Author Domain has any of A, AAAA and MX (RFC 9989
// 3.2.13).
func (e *evaluation) exists(ctx context.Context) (exists, known bool) {
	if _, err := e.resolver.LookupMX(ctx, e.author.start); !isNotFound(err) {
		return err == nil, err == nil
	}
	_, err := e.resolver.LookupIPAddr(ctx, e.author.start)
	return err == nil, err == nil || isNotFound(err)
}
