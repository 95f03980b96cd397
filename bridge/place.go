package bridge

import (
	"slices"
	"strings"
	"time"

	"postern/internal/store"
)

// place is where a copy goes in an account, and with which properties.
type place struct {
	mailbox  store.ID // zero: the INBOX
	flags    store.Flags
	keywords []string
	date     time.Time
}

// placeOf reads what APPEND or import asked for; mail by SMTP goes to the INBOX, now.
func placeOf(r recipient, now time.Time) place {
	p := place{mailbox: r.mailbox, date: now}
	if r.keyword != "" {
		p.keywords = append(p.keywords, r.keyword)
	}
	if r.rcpt.Into == nil {
		return p
	}
	if d := r.rcpt.Into.InternalDate; !d.IsZero() {
		p.date = d
	}
	for _, name := range r.rcpt.Into.Flags {
		if f, ok := systemFlag(name); ok {
			p.flags |= f
		} else if !strings.HasPrefix(name, `\`) && !slices.Contains(p.keywords, name) {
			p.keywords = append(p.keywords, name)
		}
	}
	return p
}

// systemFlag returns the system flag of that name, RFC 9051 2.3.2.
func systemFlag(name string) (store.Flags, bool) {
	switch strings.ToLower(name) {
	case `\seen`:
		return store.Seen, true
	case `\answered`:
		return store.Answered, true
	case `\flagged`:
		return store.Flagged, true
	case `\deleted`:
		return store.Deleted, true
	case `\draft`:
		return store.Draft, true
	}
	return 0, false
}
