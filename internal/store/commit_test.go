package store

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"postern/internal/mail"
)

func testCommit(t *testing.T, s *Store) {
	ctx := context.Background()
	a, b := newAccount(t, s, "alice@example.org"), newAccount(t, s, "bob@example.org")
	sent := create(t, s, a, "Sent")
	one, two := message(s, a), message(s, b)
	two.Blob = one.Blob // shared, as by the recipients of one message
	at := time.Date(2020, 1, 2, 3, 4, 5, 6000, time.UTC)
	placed, err := s.Commit(ctx, Batch{Deliveries: []Delivery{
		{Message: one, Protection: sealed(), Mailbox: sent.ID, Flags: Seen | Draft,
			Keywords: []string{"$Sealed", "b", "A", "a"}, InternalDate: at},
		{Message: two, Protection: sealed()},
	}})
	noError(t, err)
	inbox := mailbox(t, s, b, "INBOX")
	want := []Placed{{sent.ID, "Sent", sent.UIDValidity, 1}, {inbox.ID, "INBOX", inbox.UIDValidity, 1}}
	if !reflect.DeepEqual(placed, want) {
		t.Errorf("placed %+v, want %+v", placed, want)
	}
	v := view(t, s, sent.ID)
	e := Entry{UID: 1, Flags: Seen | Draft, ModSeq: 2, Message: one.ID, Size: one.Size,
		InternalDate: at.UnixMicro(), Keywords: "$Sealed A b"}
	if len(v.Entries) != 1 || v.Entries[0] != e {
		t.Errorf("entries %+v, want %+v", v.Entries, e)
	}
	if m := v.Mailbox; m.Messages != 1 || m.Unseen != 0 || m.Size != one.Size || m.UIDNext != 2 || m.ModSeq != 2 {
		t.Errorf("mailbox %+v", m)
	}
	if inbox.Unseen != 1 || used(t, s, b) != two.Size {
		t.Errorf("inbox %+v, uses %d", inbox, used(t, s, b))
	}
	got, err := s.Message(ctx, two.ID)
	noError(t, err)
	if !reflect.DeepEqual(got, two) {
		t.Errorf("message %+v, want %+v", got, two)
	}
	_, err = s.Message(ctx, two.ID+1)
	wantError(t, err, ErrNotFound)
	blobs := 0
	noError(t, s.Blobs(ctx, func(got Blob) error {
		blobs++
		if got != one.Blob {
			t.Errorf("blob %+v", got)
		}
		return nil
	}))
	if blobs != 1 {
		t.Errorf("%d blobs", blobs)
	}
	// One without a blob, and with everything else empty.
	small := &Message{ID: s.NewID(), Account: a.ID, Class: ClassNotice, Head: []byte("x"), Size: 1}
	notice := mail.Protect(mail.Inbound(), mail.ContentNotice, mail.None)
	_, err = s.Commit(ctx, Batch{Deliveries: []Delivery{{Message: small, Protection: notice}}})
	noError(t, err)
	got, err = s.Message(ctx, small.ID)
	noError(t, err)
	if !bytes.Equal(got.Head, small.Head) || got.Blob != (Blob{}) || len(got.Tail) != 0 {
		t.Errorf("small message %+v", got)
	}
	_, err = s.Commit(ctx, Batch{})
	noError(t, err)
}

// testGate is P3 and P5 at the store's door.
func testGate(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	contents := []mail.Content{mail.ContentClear, mail.ContentEncrypted, mail.ContentNotice}
	answers := []mail.Answer{mail.Unknown, mail.None, mail.Found}
	orders := []mail.Order{{}, mail.Inbound(), {Floor: mail.Sealed}, {Floor: mail.Clear, NoCertificate: mail.Clear}}
	protections := []mail.Protection{{}}
	for _, o := range orders {
		for _, c := range contents {
			for _, n := range answers {
				protections = append(protections, mail.Protect(o, c, n))
			}
		}
	}
	claims := map[Class]mail.Level{ClassSealed: mail.Sealed, ClassEncrypted: mail.EndToEnd, ClassNotice: mail.Notice}
	accepted, refused := 0, 0
	try := func(b Batch, p mail.Protection, want bool) {
		t.Helper()
		_, err := s.Commit(ctx, b)
		if want {
			accepted++
			noError(t, err)
			return
		}
		refused++
		if !errors.Is(err, ErrUnprotected) {
			t.Errorf("level %v: %v", p.Level(), err)
		}
	}
	for _, p := range protections {
		for _, class := range []Class{ClassSealed, ClassEncrypted, ClassNotice, "", "other"} {
			d := delivery(s, a)
			d.Protection, d.Message.Class = p, class
			level, known := claims[class]
			try(Batch{Deliveries: []Delivery{d}}, p, known && level == p.Level())
		}
		h := Held{ID: s.NewID(), Account: a.ID, Message: message(s, a), Protection: p}
		try(Batch{Hold: []Held{h}}, p, p.Level() == mail.Held)
		// One bad copy keeps the good one out as well.
		if p.Level() != mail.Sealed {
			bad := delivery(s, a)
			bad.Protection = p
			try(Batch{Deliveries: []Delivery{delivery(s, a), bad}}, p, false)
		}
	}
	if accepted < 10 || refused < 100 {
		t.Errorf("%d accepted, %d refused", accepted, refused)
	}
	_, err := s.Commit(ctx, Batch{Deliveries: []Delivery{{Protection: sealed()}}})
	wantError(t, err, ErrUnprotected)
}

func testCommitRefuses(t *testing.T, s *Store) {
	ctx := context.Background()
	a, b := newAccount(t, s, "alice@example.org"), newAccount(t, s, "bob@example.org")
	known := delivery(s, a)
	_, err := s.Commit(ctx, Batch{Deliveries: []Delivery{known}})
	noError(t, err)
	for name, c := range map[string]struct {
		change func(d *Delivery)
		want   error
	}{
		"size":               {func(d *Delivery) { d.Message.Size++ }, ErrInvalid},
		"no id":              {func(d *Delivery) { d.Message.ID = 0 }, ErrInvalid},
		"known id":           {func(d *Delivery) { d.Message.ID = known.Message.ID }, ErrExists},
		"mailbox of another": {func(d *Delivery) { d.Mailbox = mailbox(t, s, b, "INBOX").ID }, ErrNotFound},
		"no mailbox":         {func(d *Delivery) { d.Mailbox = 1 }, ErrNotFound},
		"no account":         {func(d *Delivery) { d.Message.Account = 1 }, ErrNotFound},
		"keyword":            {func(d *Delivery) { d.Keywords = []string{"a b"} }, ErrKeyword},
		"blob that differs": {func(d *Delivery) {
			d.Message.Blob = known.Message.Blob
			d.Message.Blob.Digest[0]++
		}, ErrInvalid},
		"blob without ref": {func(d *Delivery) { d.Message.Blob.Ref = "" }, ErrInvalid},
	} {
		bad, good := delivery(s, a), delivery(s, a)
		c.change(&bad)
		_, err := s.Commit(ctx, Batch{Deliveries: []Delivery{good, bad}})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: error is %v, want %v", name, err, c.want)
		}
	}
	wantError(t, second(s.Commit(ctx, Batch{Release: []ID{1}})), ErrNotFound)
	if m := mailbox(t, s, a, "INBOX"); m.Messages != 1 || m.UIDNext != 2 {
		t.Errorf("mailbox %+v", m)
	}
}

func second[T any](_ T, err error) error { return err }

func testQuota(t *testing.T, s *Store) {
	ctx := context.Background()
	a, b := newAccount(t, s, "alice@example.org"), newAccount(t, s, "bob@example.org")
	size := message(s, a).Size
	noError(t, s.SetQuota(ctx, a.ID, 2*size+10))
	place, _ := deliver(t, s, a)
	deliver(t, s, a)
	_, err := s.Commit(ctx, Batch{Deliveries: []Delivery{delivery(s, b), delivery(s, a)}})
	var whose *AccountError
	if !errors.Is(err, ErrOverQuota) || !errors.As(err, &whose) || whose.Account != a.ID {
		t.Fatalf("error is %v", err)
	}
	if mailbox(t, s, b, "INBOX").Messages != 0 {
		t.Error("a part of the batch was committed")
	}
	// Overshoot is for one batch: it needs some room, and leaves none.
	c := newAccount(t, s, "carol@example.org")
	noError(t, s.SetQuota(ctx, c.ID, 1))
	noError(t, second(s.Commit(ctx, Batch{Deliveries: []Delivery{delivery(s, c)}, Overshoot: true})))
	wantError(t, second(s.Commit(ctx, Batch{Deliveries: []Delivery{delivery(s, c)}, Overshoot: true})), ErrOverQuota)
	// A copy shares the row: it costs nothing, and the octets are free only when
	// the last one goes.
	copied, err := s.Copy(ctx, place.Mailbox, []Range{{1, 1}}, place.Mailbox)
	noError(t, err)
	if used(t, s, a) != 2*size {
		t.Errorf("uses %d", used(t, s, a))
	}
	for i, uid := range []uint32{1, copied.Dst[0]} {
		_, err = s.SetFlags(ctx, place.Mailbox, []Range{{uid, uid}}, FlagsAdd, Deleted, nil, 0)
		noError(t, err)
		_, err = s.Expunge(ctx, place.Mailbox, nil)
		noError(t, err)
		if want := int64(2-i) * size; used(t, s, a) != want {
			t.Errorf("uses %d, want %d", used(t, s, a), want)
		}
	}
	deliver(t, s, a)
}

func testSharedMessage(t *testing.T, s *Store) {
	ctx := context.Background()
	a := newAccount(t, s, "alice@example.org")
	other := create(t, s, a, "other")
	one := delivery(s, a)
	two := one
	two.Mailbox = other.ID
	_, err := s.Commit(ctx, Batch{Deliveries: []Delivery{one, two}})
	noError(t, err)
	if used(t, s, a) != one.Message.Size {
		t.Errorf("uses %d", used(t, s, a))
	}
	noError(t, s.DeleteMailbox(ctx, a.ID, "other"))
	if _, err := s.Message(ctx, one.Message.ID); err != nil {
		t.Error(err)
	}
}

func testHeld(t *testing.T, s *Store) {
	ctx := context.Background()
	a, b := newAccount(t, s, "alice@example.org"), newAccount(t, s, "bob@example.org")
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	h := Held{ID: s.NewID(), Account: a.ID, Message: message(s, a), Reason: "no certificate", Facts: []byte{1, 2},
		Protection: held(), Flags: Seen, Keywords: []string{"x"}, InternalDate: at}
	h.Message.Class = ""
	other := Held{ID: s.NewID(), Account: b.ID, Message: message(s, b), Protection: held()}
	_, err := s.Commit(ctx, Batch{Hold: []Held{h, other}})
	noError(t, err)
	if used(t, s, a) != h.Message.Size {
		t.Errorf("uses %d", used(t, s, a))
	}
	got, err := s.HeldCopies(ctx, a.ID)
	noError(t, err)
	want := h
	want.Protection = mail.Protection{}
	if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("held %+v, want %+v", got, want)
	}
	if everybody, err := s.HeldCopies(ctx, 0); err != nil || len(everybody) != 2 {
		t.Errorf("%d held copies, %v", len(everybody), err)
	}
	// Replacing it is allowed over quota, is done once, and frees its blob.
	noError(t, s.SetQuota(ctx, a.ID, 1))
	release := Batch{Deliveries: []Delivery{delivery(s, a)}, Release: []ID{h.ID}}
	_, err = s.Commit(ctx, release)
	noError(t, err)
	again := Batch{Deliveries: []Delivery{delivery(s, a)}, Release: []ID{h.ID}}
	wantError(t, second(s.Commit(ctx, again)), ErrNotFound)
	if used(t, s, a) != release.Deliveries[0].Message.Size || mailbox(t, s, a, "INBOX").Messages != 1 {
		t.Errorf("uses %d, %+v", used(t, s, a), mailbox(t, s, a, "INBOX"))
	}
	dead, err := s.DeadBlobs(ctx, 10)
	noError(t, err)
	if len(dead) != 1 || dead[0] != h.Message.Blob.Ref {
		t.Errorf("dead blobs %v", dead)
	}
}

func testAudit(t *testing.T, s *Store) {
	ctx := context.Background()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	_, err := s.Commit(ctx, Batch{Audit: []Audit{{at, "hold", "a", "1"}, {at, "deliver", "b", "2"},
		{Kind: "deliver", Subject: "a", Detail: "3"}}})
	noError(t, err)
	got, err := s.AuditRows(ctx, "a", 10)
	noError(t, err)
	if len(got) != 2 || got[0].Detail != "3" || got[0].Time.IsZero() || got[1] != (Audit{at, "hold", "a", "1"}) {
		t.Errorf("audit rows %+v", got)
	}
	if got, err = s.AuditRows(ctx, "", 2); err != nil || len(got) != 2 || got[1].Detail != "2" {
		t.Errorf("audit rows %+v, %v", got, err)
	}
}
