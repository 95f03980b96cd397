package store

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"
)

func testSTSPolicies(t *testing.T, s *Store) {
	ctx, now := t.Context(), time.Now().UTC().Truncate(time.Microsecond)
	if _, err := s.STSPolicy(ctx, "a.test"); !errors.Is(err, ErrNotFound) {
		t.Errorf("none: %v", err)
	}
	at := func(hours int) time.Time { return now.Add(time.Duration(hours) * time.Hour) }
	for domain, p := range map[string]STSPolicy{
		"a.test":       {ID: "1", Text: []byte("old"), Fetched: at(-3), Expires: at(-1), Refresh: at(-2), Used: at(-3)},
		"late.test":    {ID: "2", Text: []byte("x"), Fetched: at(-9), Expires: at(9), Refresh: at(-5), Used: at(-9)},
		"unused.test":  {ID: "3", Text: []byte("x"), Fetched: at(-9), Expires: at(9), Refresh: at(-5), Used: at(-99)},
		"expired.test": {ID: "4", Text: []byte("x"), Fetched: at(-9), Expires: at(-8), Refresh: at(-9), Used: at(-9)},
	} {
		noError(t, s.PutSTSPolicy(ctx, domain, p))
		if got, err := s.STSPolicy(ctx, domain); err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%s: %+v, %v", domain, got, err)
		}
	}
	fresh := STSPolicy{ID: "5", Text: []byte("new"), Fetched: now, Expires: at(5), Refresh: now, Used: now}
	noError(t, s.PutSTSPolicy(ctx, "a.test", fresh))
	if got, err := s.STSPolicy(ctx, "a.test"); err != nil || !reflect.DeepEqual(got, fresh) {
		t.Errorf("replaced: %+v, %v", got, err)
	}
	for limit, want := range map[int][]string{9: {"late.test", "a.test"}, 1: {"late.test"}} {
		if got, err := s.DueSTSPolicies(ctx, now, at(-24), limit); err != nil || !slices.Equal(got, want) {
			t.Errorf("due: %v, %v", got, err)
		}
	}
	if n, err := s.PurgeSTSPolicies(ctx, now); n != 1 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	if _, err := s.STSPolicy(ctx, "expired.test"); !errors.Is(err, ErrNotFound) {
		t.Errorf("expired: %v", err)
	}
}
