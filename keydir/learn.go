package keydir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
)

// learn turns what the sources said into what is remembered, and says it to the store,
// to the other nodes and, where the table of changes wants it, to a person.
func (d *Directory) learn(ctx context.Context, key string, out together) (Answer, error) {
	before, err := d.recall(ctx, key)
	if err != nil {
		return Answer{}, err
	}
	now := d.Now()
	after := before.clone()
	after.row.Address, after.row.Checked, after.row.Asked = key, now, now
	var change *Change
	switch {
	case len(out.offers) > 0:
		change = after.offered(best(out.offers, now), out.source.Name(), out.source.Trust(), now)
		after.row.Vanished = time.Time{}
		after.row.FreshUntil = after.freshUntil(out.lifetime, now)
	case out.unknown != nil:
		after.unknown(out.unknown, now)
		if notAsked(out.unknown) {
			return d.inMemory(ctx, after.row)
		}
	default:
		change = after.gone(now)
	}
	return d.commit(ctx, before, after, change)
}

// notAsked says whether nobody was asked, because too many wait or a host failed a short
// while ago. Then there is nothing to write down, and with thousands of such addresses
// at once the others would wait for the disk.
func notAsked(err error) bool {
	var e *SourceError
	return errors.As(err, &e) && (e.Cause == CauseBusy || e.Cause == CauseBackoff || e.Cause == CauseCancelled)
}

// inMemory remembers an answer on this node, until it starts again.
func (d *Directory) inMemory(ctx context.Context, row store.Known) (Answer, error) {
	epoch := d.currentEpoch()
	a, err := d.answerOf(ctx, row)
	if err == nil {
		d.remember(row.Address, a, epoch)
	}
	return a, err
}

// memory is what the store remembers of one address, its certificates parsed.
type memory struct {
	row   store.Known
	was   time.Time // Checked of the row as it was read
	rows  []store.Certificate
	certs []*pgp.Certificate // those of row.Fingerprint
}

func (m memory) clone() memory {
	m.rows = slices.Clone(m.rows)
	m.certs = slices.Clone(m.certs)
	return m
}

// recall reads what the store remembers; nothing is no error.
func (d *Directory) recall(ctx context.Context, key string) (memory, error) {
	var m memory
	row, err := d.Store.Known(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return memory{}, fmt.Errorf("read directory: %w", err)
	}
	m.row, m.was = row, row.Checked
	if m.rows, err = d.Store.Certificates(ctx, key); err != nil {
		return memory{}, fmt.Errorf("read certificates: %w", err)
	}
	for _, r := range m.rows {
		if r.Fingerprint != row.Fingerprint {
			continue
		}
		certs, err := pgp.ParseCertificates(r.Data)
		if err != nil {
			return memory{}, fmt.Errorf("read certificate %s: %w", r.Fingerprint, err)
		}
		m.certs = append(m.certs, certs...)
	}
	return m, nil
}

// offered applies the table of changes to a certificate that a source has.
func (m *memory) offered(c *pgp.Certificate, source string, trust Trust, now time.Time) *Change {
	if m.row.Rejected == c.Fingerprint() {
		// A person has seen this one and said no. What is known goes on, if it can.
		m.keep(now)
		return nil
	}
	if why := c.UsableFor(pgp.Communication, now); m.row.Fingerprint == "" && neverAgain(why) {
		// Mail to this address was never encrypted, so nothing is lost.
		m.row.Kind, m.row.Reason = uint8(mail.None), why.Error()
		return nil
	}
	was := mail.Answer(m.row.Kind)
	v := judge(knownState{certificates: m.certs, trust: Trust(m.row.Trust)}, offer{c, trust}, now)
	change := &Change{Address: m.row.Address, Time: now, Rule: v.Rule, Source: source, Old: m.row.Fingerprint, New: c.Fingerprint()}
	switch v.Action {
	case UseOffered:
		m.use(c, source, trust)
	case MergeForms:
		merged, err := pgp.Merge(m.certs[0], c)
		if err != nil {
			// Two forms that cannot be one: the one just published is the owner's word.
			merged = c
		}
		m.use(merged, m.row.Source, max(Trust(m.row.Trust), trust))
	case HoldChange:
		if m.row.Candidate == c.Fingerprint() {
			return nil // it waits already, and was said
		}
		m.put(c, source)
		m.row.Candidate, m.row.CandidateSource = c.Fingerprint(), source
		change.Held = true
	case KeepKnown:
		if v.Rule == RuleSame {
			change = nil
		}
	}
	m.keep(now)
	silent := change == nil || v.Rule == RuleSamePrimary
	if silent && was != mail.None && mail.Answer(m.row.Kind) == mail.None {
		// The known one has expired, or this form of it is revoked.
		return &Change{Address: m.row.Address, Time: now, Rule: RuleLost, Source: source, Old: m.row.Fingerprint}
	}
	return change
}

// neverAgain says whether a certificate cannot be used for a reason that waiting does not
// take away, as it does one that is dated in the future.
func neverAgain(why error) bool {
	return errors.Is(why, pgp.ErrExpired) || errors.Is(why, pgp.ErrRevoked) || errors.Is(why, pgp.ErrNoEncryptionSubkey)
}

// freshUntil is how long what a source offered is as good as new: not past the end of
// the certificate, so that its renewal is asked for before, and not long without one
// that can be used.
func (m *memory) freshUntil(lifetime time.Duration, now time.Time) time.Time {
	if mail.Answer(m.row.Kind) != mail.Found {
		return now.Add(shorter(noneFor, lifetime))
	}
	until := now.Add(shorter(foundFor, lifetime))
	if end := m.row.UsableUntil; !end.IsZero() && end.Before(until) {
		return end
	}
	return until
}

// use makes c the certificate of the address.
func (m *memory) use(c *pgp.Certificate, source string, trust Trust) {
	m.put(c, source)
	m.certs = []*pgp.Certificate{c}
	m.row.Fingerprint, m.row.Source, m.row.Trust = c.Fingerprint(), source, uint8(trust)
	m.row.Candidate, m.row.CandidateSource = "", ""
}

// put keeps the octets of a certificate; what is neither in use, nor the one before,
// nor waiting is dropped.
func (m *memory) put(c *pgp.Certificate, source string) {
	m.rows = slices.DeleteFunc(m.rows, func(r store.Certificate) bool {
		return r.Fingerprint == c.Fingerprint() || r.Fingerprint != m.row.Fingerprint && r.Fingerprint != m.row.Candidate
	})
	m.rows = append(m.rows, store.Certificate{Address: m.row.Address, Fingerprint: c.Fingerprint(), Data: c.Data(), Source: source})
}

// keep sets the kind by whether the certificate in use can be used.
func (m *memory) keep(now time.Time) {
	usable, why := usableNow(m.certs, pgp.Communication, now)
	if len(usable) > 0 {
		m.row.Kind, m.row.Reason = uint8(mail.Found), ""
		m.row.UsableUntil = time.Time{}
		if at, ok := usable[0].SubkeyExpiresFor(pgp.Communication, now); ok {
			m.row.UsableUntil = at
		}
		return
	}
	m.row.Kind, m.row.Reason = uint8(mail.None), "no certificate"
	if why != nil {
		m.row.Reason = why.Error()
	}
}

// unknown is for sources that could not say: what is known and usable goes on.
func (m *memory) unknown(why error, now time.Time) {
	m.keep(now)
	m.row.FreshUntil = now.Add(unknownFor)
	if mail.Answer(m.row.Kind) != mail.Found {
		m.row.Kind, m.row.Reason = uint8(mail.Unknown), why.Error()
	}
}

// gone is for sources that have nothing, for certain. A certificate that is known is
// used on for a while: a directory that lost its data must not undo encryption.
func (m *memory) gone(now time.Time) *Change {
	m.row.FreshUntil = now.Add(noneFor)
	if m.row.Fingerprint == "" {
		m.row.Kind, m.row.Reason = uint8(mail.None), "no source has a certificate"
		return nil
	}
	was := mail.Answer(m.row.Kind)
	first := m.row.Vanished.IsZero()
	if first && Trust(m.row.Trust) != Pinned {
		m.row.Vanished = now
	}
	m.keep(now)
	change := &Change{Address: m.row.Address, Time: now, Source: m.row.Source, Old: m.row.Fingerprint}
	switch {
	case mail.Answer(m.row.Kind) == mail.Found && Trust(m.row.Trust) == Pinned:
		return nil
	case mail.Answer(m.row.Kind) == mail.Found && now.Sub(m.row.Vanished) > keepVanished:
		m.row.Kind, m.row.Reason = uint8(mail.None), "no source has had its certificate for 30 days"
		if was == mail.None {
			return nil
		}
		change.Rule = RuleLost
	case mail.Answer(m.row.Kind) == mail.Found && first:
		change.Rule = RuleVanished
	case mail.Answer(m.row.Kind) == mail.None && was != mail.None:
		change.Rule = RuleLost
	default:
		return nil
	}
	return change
}

// best returns the certificate that a source means: of several, one that can be used
// now, and of those the newest.
func best(certs []*pgp.Certificate, now time.Time) *pgp.Certificate {
	return slices.MaxFunc(certs, func(a, b *pgp.Certificate) int {
		if ua, ub := a.UsableFor(pgp.Communication, now) == nil, b.UsableFor(pgp.Communication, now) == nil; ua != ub {
			if ua {
				return 1
			}
			return -1
		}
		return a.Created().Compare(b.Created())
	})
}

func shorter(a, b time.Duration) time.Duration {
	if b > 0 && b < a {
		return max(b, unknownFor)
	}
	return a
}

// commit writes what was learned, tells the other nodes, and makes the answer.
func (d *Directory) commit(ctx context.Context, before, after memory, change *Change) (Answer, error) {
	l := store.Learned{Known: after.row, Was: before.was}
	if !slices.EqualFunc(before.rows, after.rows, sameRow) {
		l.Certificates = after.rows
	}
	if change != nil {
		detail, err := json.Marshal(change)
		if err != nil {
			return Answer{}, fmt.Errorf("write history: %w", err)
		}
		l.Audit = []store.Audit{{Time: change.Time, Kind: "certificate", Subject: after.row.Address, Detail: string(detail)}}
	}
	epoch := d.currentEpoch()
	if err := d.Store.Learn(ctx, l); err != nil {
		return Answer{}, err
	}
	if change != nil {
		d.Metrics.KeydirChange(change.Rule.short())
		if d.Notify != nil && change.told() {
			d.Notify(*change)
		}
	}
	a, err := d.answerOf(ctx, after.row)
	if err != nil {
		return Answer{}, err
	}
	d.remember(after.row.Address, a, epoch)
	d.publish(ctx, before, after, change != nil)
	return a, nil
}

// told says whether a person is told of a change, or only the history.
func (c Change) told() bool {
	switch c.Rule {
	case RuleFirst, RuleSame, RuleSamePrimary, RuleVanished:
		return false
	case RuleWeaker:
		return c.Held
	}
	return true
}

func sameRow(a, b store.Certificate) bool {
	return a.Fingerprint == b.Fingerprint && a.Source == b.Source && slices.Equal(a.Data, b.Data)
}
