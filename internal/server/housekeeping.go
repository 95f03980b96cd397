package server

import (
	"context"
	"hash/maphash"
	"math"
	"time"

	"postern/internal/store"
	"postern/internal/telemetry"
)

const (
	watchEvery = 250 * time.Millisecond // how soon another process's changes are seen
	retryEvery = time.Minute            // copies that could not be released
	// releaseEvery is for what no change announces: a certificate that becomes valid.
	releaseEvery = time.Hour
	deleteEvery  = time.Minute // dead blobs
	sweepEvery   = 24 * time.Hour
	// deadAge is for how long a session that had just looked a message up can still
	// read it.
	deadAge   = 5 * time.Minute
	deadBatch = 500
	// orphanAge is how old a blob without a row must be before it is an orphan and
	// not a message on its way.
	orphanAge = time.Hour
	// peerAge is for how long what Autocrypt knows of somebody who does not write any
	// more is kept. A certificate that is in use is remembered apart from it.
	peerAge = 2 * 365 * 24 * time.Hour
	// exchangeAge is for how long a reply to a message is known as one; hardly anybody
	// replies later.
	exchangeAge = 2 * 365 * 24 * time.Hour
	// sentAge is for how long it can be explained what became of a message: it says who
	// wrote to whom.
	sentAge     = 365 * 24 * time.Hour
	forgetBatch = 1000
)

// Nothing in this file is needed for a message to be safe: what fails is logged and
// tried again.

// watch acts on what other processes change, until ctx ends.
func (g *Gateway) watch(ctx context.Context) {
	look := time.NewTicker(watchEvery)
	defer look.Stop()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	again := time.NewTicker(releaseEvery)
	defer again.Stop()
	blind := false
	released := g.release(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			changed, err := g.Store.Changed(ctx)
			if err != nil && !blind && ctx.Err() == nil {
				g.Log.Warn("cannot see what other processes change", telemetry.KeyError, err)
			}
			blind = err != nil
			if changed {
				released = g.takeChanges(ctx)
			}
		case <-retry.C:
			if !released {
				released = g.release(ctx)
			}
		case <-again.C:
			released = g.release(ctx)
		}
	}
}

// takeChanges is for what the command line did: certificates are read again, held
// mail is sealed, and sessions look again.
func (g *Gateway) takeChanges(ctx context.Context) (released bool) {
	g.Log.Debug("another process changed the data")
	g.Directory.Forget()
	g.Publication.Forget()
	released = g.release(ctx)
	g.Cluster.WakeAll()
	return released
}

// release seals the held copies that can be, and reports whether all went well.
func (g *Gateway) release(ctx context.Context) bool {
	n, err := g.Bridge.Release(ctx)
	if err != nil && ctx.Err() == nil {
		g.Log.Error("release held mail", telemetry.KeyError, err)
	}
	if n > 0 {
		g.Log.Info("released held mail", telemetry.KeyCount, n)
	}
	return err == nil
}

// tidy deletes what nobody needs any more, until ctx ends.
func (g *Gateway) tidy(ctx context.Context) {
	remove := time.NewTicker(deleteEvery)
	defer remove.Stop()
	sweep := time.NewTimer(orphanAge)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-remove.C:
			g.deleteDead(ctx)
		case <-sweep.C:
			g.sweepOrphans(ctx)
			g.forgetPeers(ctx)
			g.forgetPolicies(ctx)
			g.forget(ctx, "exchanges", exchangeAge, g.Store.PurgeExchanges)
			g.forget(ctx, "messages that were sent", sentAge, g.Store.PurgeSent)
			sweep.Reset(sweepEvery)
		}
	}
}

// forget forgets what is older than an age, a batch at a time.
func (g *Gateway) forget(ctx context.Context, what string, age time.Duration, purge func(context.Context, time.Time, int) (int, error)) {
	for ctx.Err() == nil {
		n, err := purge(ctx, g.now().Add(-age), forgetBatch)
		if err != nil && ctx.Err() == nil {
			g.Log.Error("forget "+what, telemetry.KeyError, err)
		}
		if err != nil || n < forgetBatch {
			return
		}
	}
}

// forgetPolicies forgets MTA-STS policies that hold no more.
func (g *Gateway) forgetPolicies(ctx context.Context) {
	if _, err := g.Store.PurgeSTSPolicies(ctx, g.now()); err != nil && ctx.Err() == nil {
		g.Log.Error("forget policies", telemetry.KeyError, err)
	}
}

// deleteDead deletes the blobs that no row has needed for a while.
func (g *Gateway) deleteDead(ctx context.Context) {
	for ctx.Err() == nil {
		refs, err := g.Store.DeadBlobsBefore(ctx, g.now().Add(-deadAge), deadBatch)
		if err == nil && len(refs) > 0 {
			err = g.Blobs.Delete(ctx, refs)
		}
		if err == nil && len(refs) > 0 {
			err = g.Store.ForgetBlobs(ctx, refs)
		}
		if err != nil && ctx.Err() == nil {
			g.Log.Error("delete dead blobs", telemetry.KeyError, err)
		}
		if err != nil || len(refs) < deadBatch {
			return
		}
	}
}

// sweepOrphans deletes blobs that a crash left without a row.
func (g *Gateway) sweepOrphans(ctx context.Context) {
	known, err := g.knownBlobs(ctx)
	n := 0
	if err == nil {
		n, err = g.Blobs.Sweep(ctx, orphanAge, known)
	}
	if err != nil && ctx.Err() == nil {
		g.Log.Error("sweep orphans", telemetry.KeyError, err)
	}
	if n > 0 {
		g.Log.Info("swept orphans", telemetry.KeyCount, n)
	}
}

// forgetPeers deletes what Autocrypt knows of people who have not written for long.
func (g *Gateway) forgetPeers(ctx context.Context) {
	n, err := g.Store.ForgetPeers(ctx, g.now().Add(-peerAge))
	if err != nil && ctx.Err() == nil {
		g.Log.Error("forget peers", telemetry.KeyError, err)
	}
	if n > 0 {
		g.Log.Info("forgot peers", telemetry.KeyCount, n)
	}
}

// knownBlobs returns what tells whether a blob has a row, be it a dead one.
func (g *Gateway) knownBlobs(ctx context.Context) (func(ref string) bool, error) {
	// Hashes, not refs: two that collide only let an orphan live until the next time.
	seed := maphash.MakeSeed()
	hashes := make(map[uint64]struct{})
	err := g.Store.Blobs(ctx, func(b store.Blob) error {
		hashes[maphash.String(seed, b.Ref)] = struct{}{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// The dead after the living: what dies meanwhile is in one of the two.
	dead, err := g.Store.DeadBlobs(ctx, math.MaxInt32)
	for _, ref := range dead {
		hashes[maphash.String(seed, ref)] = struct{}{}
	}
	return func(ref string) bool {
		_, ok := hashes[maphash.String(seed, ref)]
		return ok
	}, err
}
