package keydir

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/internal/mail"
	"postern/internal/pgp"
	"postern/internal/store"
	"postern/internal/telemetry"
)

// Asked is what one source said, for explain.
type Asked struct {
	Source       string        `json:"source"`
	Trust        string        `json:"trust"`
	Result       string        `json:"result"` // "found", "none" or "unknown"
	Detail       string        `json:"detail,omitempty"`
	Fingerprints []string      `json:"fingerprints,omitempty"`
	Took         time.Duration `json:"took_ns"`
}

// together is what all sources said.
type together struct {
	// offers are the certificates of the first source that had any.
	offers   []*pgp.Certificate
	source   Source
	lifetime time.Duration
	// unknown is the first reason why a source could not say; it matters only when
	// none had a certificate.
	unknown error
}

// ask brings an address up to date: from another node's answer if there is one, else
// from the sources. Whatever fails, the answer is never better than what is known.
func (d *Directory) ask(ctx context.Context, address mail.Address, key string) Answer {
	if d.Shared != nil {
		if a, found := d.fromNodes(ctx, key); found {
			return a
		}
		release, ok := d.lease(ctx, key)
		if ok {
			defer release()
		}
		// Another node may have asked while this one waited for its turn.
		if a, found := d.fromNodes(ctx, key); found {
			return a
		}
	}
	a, err := d.learn(ctx, key, d.askSources(ctx, address))
	if errors.Is(err, store.ErrExists) {
		// Another node was faster. Its answer stands.
		if k, err := d.Store.Known(ctx, key); err == nil {
			if a, err := d.answerOf(ctx, k); err == nil {
				return a
			}
		}
	}
	if err != nil {
		if d.ctx.Err() == nil {
			d.Log.Error("remember certificate", telemetry.KeyError, err)
		}
		return Answer{Kind: mail.Unknown, Reason: "what was found could not be remembered", Checked: d.Now()}
	}
	return a
}

// askSources asks the sources in order until one has a certificate.
func (d *Directory) askSources(ctx context.Context, address mail.Address) together {
	var out together
	for _, s := range d.Sources {
		r := d.askOne(ctx, s, address)
		switch {
		case r.err != nil && out.unknown == nil:
			out.unknown = fmt.Errorf("%s: %w", s.Name(), r.err)
		case len(r.found.Certificates) > 0:
			out.offers, out.source, out.lifetime = r.found.Certificates, s, r.found.Lifetime
			return out
		}
	}
	return out
}

// said is what one source said, and how it is shown.
type said struct {
	found Finding
	err   error
	asked Asked
}

func (d *Directory) askOne(ctx context.Context, s Source, address mail.Address) said {
	start := d.Now()
	f, err := s.Lookup(ctx, address)
	r := said{found: f, err: err, asked: Asked{Source: s.Name(), Trust: s.Trust().String(), Result: "none", Detail: f.Detail, Took: d.Now().Sub(start)}}
	switch {
	case err != nil:
		r.asked.Result, r.asked.Detail = "unknown", err.Error()
	case len(f.Certificates) > 0:
		r.asked.Result = "found"
		for _, c := range f.Certificates {
			r.asked.Fingerprints = append(r.asked.Fingerprints, c.Fingerprint())
		}
	}
	d.Metrics.KeydirLookup(s.Name(), r.asked.Result, r.asked.Took)
	return r
}
