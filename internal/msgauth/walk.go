package msgauth

import (
	"context"
	"strings"
)

// A walk is the DNS Tree Walk of RFC 9989 4.10, from a domain to the root. It
// goes no further than it is asked to: most mail is decided by its first step.
type walk struct {
	start string
	next  string // the next domain to ask for; empty if the walk has ended
	found []located
	// err is set if a step could not be made: then the walk does not go on, and
	// nothing above this point is known.
	err error
}

// located is a record and where it was found.
type located struct {
	domain string
	record record
}

// walkLabels is how many labels remain after the first step of a long name, so
// that a name with a hundred labels costs no more than eight questions.
const walkLabels = 7

func newWalk(domain string) walk {
	return walk{start: domain, next: domain}
}

// step makes one step of the walk.
func (w *walk) step(ctx context.Context, resolver Resolver) {
	domain := w.next
	w.next = ""
	r, ok, err := policyRecord(ctx, resolver, domain)
	if err != nil {
		w.err = err
		return
	}
	if ok {
		w.found = append(w.found, located{domain, r})
		if r.psd != 'u' {
			return
		}
	}
	if domain == w.start && strings.Count(domain, ".") >= walkLabels {
		w.next = lastLabels(domain, walkLabels)
	} else if _, parent, ok := strings.Cut(domain, "."); ok {
		w.next = parent
	}
}

// finish makes all steps that are left.
func (w *walk) finish(ctx context.Context, resolver Resolver) {
	for w.next != "" {
		w.step(ctx, resolver)
	}
}

// discover makes the steps that find the policy: one if the domain has a record
// of its own, else all (RFC 9989 4.10.1).
func (w *walk) discover(ctx context.Context, resolver Resolver) {
	w.step(ctx, resolver)
	if len(w.found) == 0 {
		w.finish(ctx, resolver)
	}
}

// organization returns the Organizational Domain of the start (RFC 9989
// 4.10.2). The walk must be finished.
func (w *walk) organization() string {
	for _, l := range w.found { // from the longest name to the shortest
		if l.record.psd == 'n' {
			return l.domain
		}
		if l.record.psd == 'y' && l.domain != w.start {
			return lastLabels(w.start, strings.Count(l.domain, ".")+2)
		}
	}
	if n := len(w.found); n > 0 {
		return w.found[n-1].domain
	}
	return w.start
}

// policy returns the record that applies to the start: its own, or its
// Organizational Domain's, or its Public Suffix Domain's. Unless the start has
// its own, the walk must be finished.
func (w *walk) policy() (located, bool) {
	if len(w.found) == 0 {
		return located{}, false
	}
	if w.found[0].domain == w.start {
		return w.found[0], true
	}
	organization := w.organization()
	for _, l := range w.found {
		if l.domain == organization {
			return l, true
		}
	}
	// Only psd=y puts the Organizational Domain where no record is, and it is
	// the last one found.
	return w.found[len(w.found)-1], true
}

// lastLabels returns the last n labels of a domain name.
func lastLabels(name string, n int) string {
	at := len(name)
	for ; n > 0 && at >= 0; n-- {
		at = strings.LastIndexByte(name[:at], '.')
	}
	return name[at+1:]
}

// policyRecord fetches the DMARC Policy Record of one domain. Several are as
// good as none (RFC 9989 4.10, step 2).
func policyRecord(ctx context.Context, resolver Resolver, domain string) (r record, ok bool, err error) {
	texts, err := resolver.LookupTXT(ctx, "_dmarc."+domain)
	if err != nil {
		if isNotFound(err) {
			err = nil
		}
		return record{}, false, err
	}
	n := 0
	for _, txt := range texts {
		if parsed, ok := parseRecord(txt); ok {
			r = parsed
			n++
		}
	}
	if n != 1 {
		return record{}, false, nil
	}
	return r, true, nil
}
