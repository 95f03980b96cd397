package store

import (
	"bytes"
	"context"
	"testing"
	"time"
)

// testPeers: what is saved comes back, and whoever saves last does not undo what is
// newer.
func testPeers(t *testing.T, s *Store) {
	ctx := context.Background()
	day := func(n int) time.Time { return time.Date(2026, 11, n, 10, 0, 0, 0, time.UTC) }
	save := func(last, key int, mutual bool, data string) {
		t.Helper()
		noError(t, s.SavePeers(ctx, []Peer{{Address: "bob@there.test", LastSeen: day(last), KeySeen: day(key), Mutual: mutual, KeyData: []byte(data)}}))
	}
	want := func(last, key int, mutual bool, data string) {
		t.Helper()
		p, err := s.Peer(ctx, "bob@there.test")
		noError(t, err)
		if !p.LastSeen.Equal(day(last)) || !p.KeySeen.Equal(day(key)) || p.Mutual != mutual || !bytes.Equal(p.KeyData, []byte(data)) || p.Address != "bob@there.test" {
			t.Errorf("%+v, want %d %d %v %s", p, last, key, mutual, data)
		}
	}
	_, err := s.Peer(ctx, "bob@there.test")
	wantError(t, err, ErrNotFound)

	save(5, 5, true, "first")
	want(5, 5, true, "first")
	save(9, 5, true, "first")
	want(9, 5, true, "first")
	// From another node, which knew less of both times.
	save(7, 7, false, "second")
	want(9, 7, false, "second")
	save(6, 6, true, "late")
	want(9, 7, false, "second")
	// Of two at one time the last is taken.
	save(7, 7, true, "third")
	want(9, 7, true, "third")

	wantError(t, s.SavePeers(ctx, []Peer{{Address: "eve@there.test", LastSeen: day(1), KeySeen: day(1), KeyData: []byte("x")}, {Address: "nobody@there.test", LastSeen: day(1)}}), ErrInvalid)
	_, err = s.Peer(ctx, "eve@there.test")
	wantError(t, err, ErrNotFound)

	// Who has not written for long is forgotten.
	save(9, 7, true, "third")
	for _, c := range []struct {
		before int
		want   int64
	}{{9, 0}, {10, 1}, {10, 0}} {
		if n, err := s.ForgetPeers(ctx, day(c.before)); n != c.want || err != nil {
			t.Errorf("before %d: forgot %d, %v", c.before, n, err)
		}
	}
	_, err = s.Peer(ctx, "bob@there.test")
	wantError(t, err, ErrNotFound)
}
