package keydir

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// shared is what a node tells the others of an address through the shared cache: its
// row, and the octets of the certificate that it uses.
type shared struct {
	Known        store.Known
	Certificates [][]byte
}

// lease takes the right to ask for an address. While another node has it, it waits for
// that node's answer; if none comes, this node asks all the same.
func (d *Directory) lease(ctx context.Context, key string) (release func(), ok bool) {
	for range 3 {
		if release, ok := d.Shared.Lease(ctx, "ask:"+key, lookupDeadline); ok {
			return release, true
		}
		if !d.Shared.Wait(ctx, "ask:"+key) {
			break
		}
		if _, ok := d.Shared.Get(ctx, "answer:"+key); ok {
			break
		}
	}
	return nil, false
}

// fromNodes takes a fresh answer of another node. Where the nodes have one store, that
// is the row there. Where each has its own, the shared cache says what the other found,
// and this node's own row and the table of changes decide what becomes of it, as if the
// source had said it. That there is nothing is not taken from others: they have not
// seen this node's mail, and do not know what was known here.
func (d *Directory) fromNodes(ctx context.Context, key string) (Answer, bool) {
	now := d.Now()
	own, err := d.Store.Known(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return Answer{}, false
	}
	if err == nil && now.Before(own.FreshUntil) {
		a, err := d.answerOf(ctx, own)
		return a, err == nil
	}
	b, ok := d.Shared.Get(ctx, "answer:"+key)
	var s shared
	if !ok || json.Unmarshal(b, &s) != nil || s.Known.Address != key || !now.Before(s.Known.FreshUntil) ||
		mail.Answer(s.Known.Kind) != mail.Found || s.Known.Candidate != "" {
		return Answer{}, false
	}
	if own.Fingerprint == s.Known.Fingerprint && own.Candidate == "" {
		own.Kind, own.Reason, own.Checked, own.FreshUntil = s.Known.Kind, "", s.Known.Checked, s.Known.FreshUntil
		if a, err := d.answerOf(ctx, own); err == nil && a.parsed.holds(s.Certificates) {
			return a, true // the other node has found out that these octets are usable
		}
	}
	out, ok := d.foundBy(s)
	if !ok {
		return Answer{}, false
	}
	out.lifetime = s.Known.FreshUntil.Sub(now)
	a, err := d.learn(ctx, key, out)
	return a, err == nil
}

// holds says whether the octets of p's certificates are these. It is asked before
// anything is read.
func (p *parsed) holds(octets [][]byte) bool {
	return slices.EqualFunc(p.rows, octets, func(r store.Certificate, b []byte) bool { return bytes.Equal(r.Data, b) })
}

// foundBy is what a source said to another node. What a person decided there is not
// among it.
func (d *Directory) foundBy(s shared) (together, bool) {
	i := slices.IndexFunc(d.Sources, func(x Source) bool { return x.Name() == s.Known.Source && x.Trust() == Trust(s.Known.Trust) })
	if i < 0 {
		return together{}, false
	}
	out := together{source: d.Sources[i]}
	for _, data := range s.Certificates {
		certs, err := pgp.ParseFor(data, s.Known.Address, pgp.AllowNoUserID)
		if err != nil {
			return together{}, false
		}
		out.offers = append(out.offers, certs...)
	}
	return out, len(out.offers) > 0
}

// publish puts the answer where the other nodes look, and makes them drop an older one.
func (d *Directory) publish(ctx context.Context, before, after memory, changed bool) {
	if d.Shared == nil {
		return
	}
	if changed && !before.was.IsZero() {
		d.Shared.Invalidate(ctx, "answer:"+after.row.Address)
	}
	s := shared{Known: after.row}
	for _, r := range after.rows {
		if r.Fingerprint == after.row.Fingerprint {
			s.Certificates = append(s.Certificates, r.Data)
		}
	}
	b, err := json.Marshal(s)
	if err != nil {
		d.Log.Warn("tell the other nodes", telemetry.KeyError, err)
		return
	}
	d.Shared.Set(ctx, "answer:"+after.row.Address, b, after.row.FreshUntil.Sub(d.Now()))
}
