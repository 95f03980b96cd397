package keydir

import (
	"context"
	"time"

	"postern/internal/mail"
	"postern/internal/telemetry"
)

const (
	refreshEvery = time.Minute
	// refreshAhead is how long before its end an answer is asked for again.
	refreshAhead = time.Hour
	// refreshWanted is how long ago somebody must have wanted an address for it to be
	// kept fresh; the others are asked for when they are wanted.
	refreshWanted = 14 * 24 * time.Hour
	refreshBatch  = 200
)

// Run keeps the answers that are in use fresh, until ctx ends.
func (d *Directory) Run(ctx context.Context) {
	t := time.NewTicker(refreshEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			d.refresh(ctx)
		}
	}
}

// refresh asks again for what will soon be stale, one after the other: the sources
// bound what goes on at once, and nobody waits for this.
func (d *Directory) refresh(ctx context.Context) {
	now := d.Now()
	rows, err := d.Store.StaleKnown(ctx, now.Add(refreshAhead), now.Add(-refreshWanted), refreshBatch)
	if err != nil {
		d.Log.Warn("list stale answers", telemetry.KeyError, err)
		return
	}
	for _, k := range rows {
		if mail.Answer(k.Kind) != mail.Found || ctx.Err() != nil {
			continue
		}
		address, err := mail.ParseAddress(k.Address)
		if err != nil {
			continue
		}
		f := d.join(address, k.Address, d.ask)
		select {
		case <-f.done:
		case <-ctx.Done():
		}
	}
}
