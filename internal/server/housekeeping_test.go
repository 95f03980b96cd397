package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"postern/internal/mail"
	"postern/internal/store"
	"postern/internal/testkit"
)

// A certificate that the command line imports beside the running server releases what
// was held for it, and sessions see the mail.
func TestWatchReleasesHeldMail(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	g, r, log := serve(t, c)
	for range 3 {
		if err := send(r, "bob@there.test", owner, hello); err != nil {
			t.Fatal(err)
		}
	}
	if n := held(t, g); n != 3 {
		t.Fatalf("%d held", n)
	}
	idle, err := login(r, owner, password)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if _, err := idle.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}

	addCertificate(t, newGateway(t, c)) // another process, but for its memory
	eventually(t, "held mail is released", func() bool { return held(t, g) == 0 })
	log.wait(t, "released held mail")
	if n := inboxCount(t, r); n != 4 {
		t.Errorf("%d messages, want three and the notice", n)
	}
	if err := idle.Noop().Wait(); err != nil {
		t.Fatal(err)
	}
	if n := idle.Mailbox().NumMessages; n != 4 {
		t.Errorf("the session that was there sees %d messages", n)
	}
}

// What was held when the server was stopped is released when it starts.
func TestWatchReleasesAtStart(t *testing.T) {
	t.Parallel()
	c := newConfig(t)
	_, r, _ := serve(t, c)
	if err := send(r, "bob@there.test", owner, hello); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	addCertificate(t, newGateway(t, c))
	g, _, _ := serve(t, c)
	eventually(t, "held mail is released", func() bool { return held(t, g) == 0 })
}

// What could not be released is said, and remembered to be tried again.
func TestReleaseFails(t *testing.T) {
	t.Parallel()
	g := newGateway(t, newConfig(t))
	if !g.release(t.Context()) {
		t.Error("with nothing to release")
	}
	log := new(logBuffer)
	g.Log = slog.New(slog.NewTextHandler(log, nil))
	if err := g.Store.Close(); err != nil {
		t.Fatal(err)
	}
	if g.release(t.Context()) || !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("with the store closed:\n%s", log.String())
	}
	// At the end that is no error.
	*log = logBuffer{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g.release(ctx)
	g.deleteDead(ctx)
	g.sweepOrphans(ctx)
	if log.String() != "" {
		t.Errorf("at the end:\n%s", log.String())
	}
}

// tidyFixture is a gateway whose clock a test moves.
func tidyFixture(t *testing.T) (*Gateway, *testkit.Clock) {
	t.Helper()
	clock := testkit.NewClock()
	clock.Set(time.Now())
	g, err := open(t.Context(), newConfig(t), slog.New(slog.DiscardHandler), clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g, clock
}

// newBlob commits a blob that no row names.
func newBlob(t *testing.T, g *Gateway, size int) store.Blob {
	t.Helper()
	w, err := g.Blobs.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := io.WriteString(w, strings.Repeat("x", size)); err != nil {
		t.Fatal(err)
	}
	b, err := w.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b.Digest != sha256.Sum256([]byte(strings.Repeat("x", size))) {
		t.Fatal("digest")
	}
	return store.Blob(b)
}

// deliver stores a message that needs the blob, and returns its mailbox.
func deliverTo(t *testing.T, g *Gateway, b store.Blob) store.ID {
	t.Helper()
	account, err := g.Store.AccountByAddress(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	placed, err := g.Store.Commit(t.Context(), store.Batch{Deliveries: []store.Delivery{{
		Message:    &store.Message{ID: g.Store.NewID(), Account: account.ID, Class: store.ClassEncrypted, Blob: b, Size: b.Size},
		Protection: mail.Protect(mail.Inbound(), mail.ContentEncrypted, mail.None),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return placed[0].Mailbox
}

func expunge(t *testing.T, g *Gateway, mailbox store.ID) {
	t.Helper()
	all := []store.Range{{Lo: 1, Hi: 1 << 31}}
	if _, err := g.Store.SetFlags(t.Context(), mailbox, all, store.FlagsAdd, store.Deleted, nil, 0); err != nil {
		t.Fatal(err)
	}
	if gone, err := g.Store.Expunge(t.Context(), mailbox, nil); err != nil || len(gone) == 0 {
		t.Fatalf("%v, %v", gone, err)
	}
}

func exists(t *testing.T, g *Gateway, b store.Blob) bool {
	t.Helper()
	return g.Blobs.Verify(t.Context(), b.Ref, b.Size, b.Digest) == nil
}

func TestSweepOrphans(t *testing.T) {
	t.Parallel()
	g, clock := tidyFixture(t)
	small, large := newBlob(t, g, 100), newBlob(t, g, 3<<20)
	kept, keptLarge := newBlob(t, g, 200), newBlob(t, g, 4<<20)
	dying := newBlob(t, g, 300)
	expunge(t, g, deliverTo(t, g, dying))
	deliverTo(t, g, kept)
	deliverTo(t, g, keptLarge)

	g.sweepOrphans(t.Context())
	for _, b := range []store.Blob{small, large, kept, keptLarge, dying} {
		if !exists(t, g, b) {
			t.Errorf("a blob of %d octets was swept while it may be on its way", b.Size)
		}
	}
	clock.Advance(orphanAge + time.Minute)
	young := newBlob(t, g, 400)
	g.sweepOrphans(t.Context())
	for _, b := range []store.Blob{small, large} {
		if exists(t, g, b) {
			t.Errorf("an orphan of %d octets is still there", b.Size)
		}
	}
	for _, b := range []store.Blob{kept, keptLarge, dying, young} {
		if !exists(t, g, b) {
			t.Errorf("a blob of %d octets was swept", b.Size)
		}
	}
}

// A dead blob stays for those who had just looked its message up, and then goes.
func TestDeleteDead(t *testing.T) {
	t.Parallel()
	g, clock := tidyFixture(t)
	const n = deadBatch + 10
	var mailbox store.ID
	var blobs []store.Blob
	for range n {
		b := newBlob(t, g, 100)
		blobs = append(blobs, b)
		mailbox = deliverTo(t, g, b)
	}
	kept := newBlob(t, g, 500)
	expunge(t, g, mailbox)
	deliverTo(t, g, kept)
	g.deleteDead(t.Context())
	for _, b := range blobs {
		if !exists(t, g, b) {
			t.Fatal("a blob went with its message")
		}
	}
	clock.Advance(deadAge + time.Second)
	g.deleteDead(t.Context())
	for _, b := range blobs {
		if exists(t, g, b) {
			t.Fatal("a dead blob is still there")
		}
	}
	if !exists(t, g, kept) {
		t.Error("a blob that is needed is gone")
	}
	if left, err := g.Store.DeadBlobs(t.Context(), n); err != nil || len(left) != 0 {
		t.Errorf("%d are not forgotten, %v", len(left), err)
	}
}

func TestForgetPeers(t *testing.T) {
	t.Parallel()
	g, clock := tidyFixture(t)
	now := clock.Now()
	peer := func(address string, seen time.Time) store.Peer {
		return store.Peer{Address: address, LastSeen: seen, KeySeen: seen, KeyData: []byte("x")}
	}
	if err := g.Store.SavePeers(t.Context(), []store.Peer{peer("gone@there.test", now.Add(-peerAge-time.Hour)), peer("bob@there.test", now.Add(-peerAge+time.Hour))}); err != nil {
		t.Fatal(err)
	}
	g.forgetPeers(t.Context())
	if _, err := g.Store.Peer(t.Context(), "gone@there.test"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("still there: %v", err)
	}
	if _, err := g.Store.Peer(t.Context(), "bob@there.test"); err != nil {
		t.Error(err)
	}
}
