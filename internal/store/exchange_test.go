package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"postern/internal/mail"
)

func TestExchanges(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := openTemp(t)
	a, b := newAccount(t, s, "a@example.org"), newAccount(t, s, "b@example.org")
	exchange := func(e ...Exchange) {
		t.Helper()
		_, err := s.Commit(ctx, Batch{Exchanges: e})
		noError(t, err)
	}
	exchange(Exchange{Account: a.ID, MessageID: "1@x", Level: mail.Sealed}, Exchange{Account: a.ID, MessageID: "2@x", Level: mail.Clear})
	exchange(Exchange{Account: b.ID, MessageID: "2@x", Received: true, Level: mail.EndToEnd})
	// Sent again, weaker, and then stronger: the weakest stays.
	exchange(Exchange{Account: a.ID, MessageID: "3@x", Level: mail.EndToEnd})
	exchange(Exchange{Account: a.ID, MessageID: "3@x", Level: mail.TLSOnly})
	exchange(Exchange{Account: a.ID, MessageID: "3@x", Level: mail.Sealed})
	for id, want := range map[string]mail.Level{"1@x": mail.Sealed, "2@x": mail.Clear, "3@x": mail.TLSOnly, "4@x": 0} {
		got, err := s.SentLevel(ctx, a.ID, id)
		if got != want || (want == 0) != errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v, %v", id, got, err)
		}
	}
	if _, err := s.SentLevel(ctx, b.ID, "2@x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("what was received counts as sent: %v", err)
	}
	for _, test := range []struct {
		account Account
		ids     []string
		want    bool
	}{
		{a, []string{"1@x"}, true}, {a, []string{"2@x", "3@x"}, false}, {a, []string{"2@x", "1@x"}, true},
		{b, []string{"2@x"}, true}, {b, []string{"1@x"}, false}, {a, nil, false},
	} {
		if got, err := s.WasProtected(ctx, test.account.ID, mail.Sealed, test.ids...); got != test.want || err != nil {
			t.Errorf("%v %v: %v, %v", test.account.Address, test.ids, got, err)
		}
	}
	noError(t, s.RemoveAccount(ctx, a.ID))
	if got, err := s.WasProtected(ctx, a.ID, mail.Sealed, "1@x"); got || err != nil {
		t.Errorf("a removed account's exchanges are there: %v", err)
	}
}

func TestPurgeExchanges(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := openTemp(t)
	a := newAccount(t, s, "a@example.org")
	for i := range 5 {
		_, err := s.Commit(ctx, Batch{Exchanges: []Exchange{{Account: a.ID, MessageID: fmt.Sprint(i), Level: mail.Sealed}}})
		noError(t, err)
	}
	if n, err := s.PurgeExchanges(ctx, time.Now().Add(-time.Hour), 10); n != 0 || err != nil {
		t.Errorf("%d new ones were purged, %v", n, err)
	}
	total := 0
	for range 5 {
		n, err := s.PurgeExchanges(ctx, time.Now().Add(time.Hour), 2)
		noError(t, err)
		total += n
	}
	if total != 5 {
		t.Errorf("%d purged", total)
	}
	if got, err := s.WasProtected(ctx, a.ID, mail.Sealed, "0", "4"); got || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// TestPurgeSent: what is recorded of messages is forgotten, and what of certificates is not.
func TestPurgeSent(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := openTemp(t)
	for i := range 4 {
		_, err := s.Commit(ctx, Batch{Audit: []Audit{{Kind: []string{"send", "relay", "certificate", "release"}[i], Subject: "x"}}})
		noError(t, err)
	}
	if n, err := s.PurgeSent(ctx, time.Now().Add(-time.Hour), 10); n != 0 || err != nil {
		t.Errorf("%d new ones were purged, %v", n, err)
	}
	for _, want := range []int{1, 1, 0} {
		if n, err := s.PurgeSent(ctx, time.Now().Add(time.Hour), 1); n != want || err != nil {
			t.Errorf("%d purged, %v; want %d", n, err, want)
		}
	}
	rows, err := s.AuditRows(ctx, "x", 10)
	noError(t, err)
	if len(rows) != 2 || rows[0].Kind != "release" || rows[1].Kind != "certificate" {
		t.Errorf("left %+v", rows)
	}
}
