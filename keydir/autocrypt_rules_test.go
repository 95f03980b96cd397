package keydir

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"postern/internal/store"
)

// day is a date of November or later; 0 is no date.
func day(n int) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Date(2026, 11, n, 10, 0, 0, 0, time.UTC)
}

// TestAutocryptUpdate is the section "Updating Autocrypt Peer State", rule by rule.
func TestAutocryptUpdate(t *testing.T) {
	t.Parallel()
	old := store.Peer{Address: "bob@there.test", LastSeen: day(10), KeySeen: day(5), Mutual: true, KeyData: []byte("old")}
	with := func(change func(*store.Peer)) store.Peer {
		p := old
		change(&p)
		return p
	}
	for name, test := range map[string]struct {
		before store.Peer
		s      Sighting
		want   store.Peer
	}{
		"(1) older than the certificate": {old, Sighting{Date: day(4), KeyData: []byte("new")}, old},
		"(1) a second older":             {old, Sighting{Date: day(5).Add(-time.Second), KeyData: []byte("new")}, old},
		"(1) as old as the certificate": {old, Sighting{Date: day(5), KeyData: []byte("new")},
			with(func(p *store.Peer) { p.KeyData, p.Mutual = []byte("new"), false })},
		"(2) newer than anything": {old, Sighting{Date: day(11)}, with(func(p *store.Peer) { p.LastSeen = day(11) })},
		"(2) between the two":     {old, Sighting{Date: day(7)}, old},
		"(3) no field, as new":    {old, Sighting{Date: day(10)}, old},
		"(3) no field keeps the preference": {old, Sighting{Date: day(12), Mutual: false},
			with(func(p *store.Peer) { p.LastSeen = day(12) })},
		"(4)-(6) newer than the certificate, older than the rest": {old, Sighting{Date: day(7), KeyData: []byte("new")},
			with(func(p *store.Peer) { p.KeySeen, p.KeyData, p.Mutual = day(7), []byte("new"), false })},
		"(2)-(6) newest": {old, Sighting{Date: day(11), KeyData: []byte("new"), Mutual: true},
			with(func(p *store.Peer) { p.LastSeen, p.KeySeen, p.KeyData = day(11), day(11), []byte("new") })},
		"the same certificate again": {old, Sighting{Date: day(11), KeyData: []byte("old"), Mutual: true},
			with(func(p *store.Peer) { p.LastSeen, p.KeySeen = day(11), day(11) })},
		"first, with a field": {store.Peer{}, Sighting{Date: day(1), KeyData: []byte("new"), Mutual: true},
			store.Peer{LastSeen: day(1), KeySeen: day(1), KeyData: []byte("new"), Mutual: true}},
		"first, without": {store.Peer{}, Sighting{Date: day(1)}, store.Peer{LastSeen: day(1)}},
		"date in the future": {old, Sighting{Date: day(25), KeyData: []byte("new")},
			with(func(p *store.Peer) {
				p.LastSeen, p.KeySeen, p.KeyData, p.Mutual = day(20), day(20), []byte("new"), false
			})},
		"no date": {old, Sighting{}, with(func(p *store.Peer) { p.LastSeen = day(20) })},
		"another time zone": {old, Sighting{Date: day(11).In(time.FixedZone("", -8*3600))},
			with(func(p *store.Peer) { p.LastSeen = day(11) })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.s.Received = day(20)
			if got := update(test.before, test.s); !samePeer(got, test.want) {
				t.Errorf("%+v\nwant %+v", got, test.want)
			}
		})
	}
}

func samePeer(a, b store.Peer) bool {
	return a.Address == b.Address && a.LastSeen.Equal(b.LastSeen) && a.KeySeen.Equal(b.KeySeen) && a.Mutual == b.Mutual && bytes.Equal(a.KeyData, b.KeyData)
}

// TestAutocryptOrder: whatever order messages come in, the newest date of all and the
// certificate of the newest that has one are what remains. Nor does it matter after
// which of them two nodes have saved, see testPeers of package store.
func TestAutocryptOrder(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var all []Sighting
		var want store.Peer
		for i := range 1 + rnd.IntN(12) {
			// No two of one date: of those the last counts.
			s := Sighting{Date: day(1).Add(time.Duration(rnd.IntN(100)*12+i) * time.Hour), Received: day(80)}
			if rnd.IntN(2) == 0 {
				s.KeyData, s.Mutual = []byte{byte(1 + rnd.IntN(3))}, rnd.IntN(2) == 0
			}
			if s.Date.After(want.LastSeen) {
				want.LastSeen = s.Date
			}
			if s.KeyData != nil && s.Date.After(want.KeySeen) {
				want.KeySeen, want.KeyData, want.Mutual = s.Date, s.KeyData, s.Mutual
			}
			all = append(all, s)
		}
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		var got store.Peer
		for _, s := range all {
			got = update(got, s)
		}
		if !samePeer(got, want) {
			t.Fatalf("%+v\ngive %+v\nwant %+v", all, got, want)
		}
		// Each of them once more, as when mail is delivered twice.
		for _, s := range all {
			got = update(got, s)
		}
		if !samePeer(got, want) {
			t.Fatalf("%+v\ntwice give %+v\nwant %+v", all, got, want)
		}
	}
}

// TestRecommend is the section "Provide a recommendation for message encryption".
func TestRecommend(t *testing.T) {
	t.Parallel()
	fresh := PeerState{Usable: true, LastSeen: day(1).Add(staleAfter), KeySeen: day(1)}
	stale := PeerState{Usable: true, LastSeen: fresh.LastSeen.Add(time.Second), KeySeen: day(1)}
	mutual := func(p PeerState) PeerState { p.Mutual = true; return p }
	unusable := func(p PeerState) PeerState { p.Usable = false; return p }
	for name, test := range map[string]struct {
		peer          PeerState
		mutual, reply bool
		want          Recommendation
	}{
		"unknown":                          {PeerState{}, true, true, Disable},
		"certificate expired":              {unusable(mutual(fresh)), true, true, Disable},
		"available":                        {fresh, false, false, Available},
		"exactly 35 days is available":     {mutual(fresh), false, false, Available},
		"over 35 days":                     {stale, false, false, Discourage},
		"only we want it":                  {fresh, true, false, Available},
		"only they want it":                {mutual(fresh), false, false, Available},
		"both want it":                     {mutual(fresh), true, false, Encrypt},
		"both want it, but over 35 days":   {mutual(stale), true, false, Discourage},
		"reply to an encrypted one":        {fresh, false, true, Encrypt},
		"reply to one, and over 35 days":   {stale, false, true, Encrypt},
		"reply, but there is nothing":      {unusable(fresh), false, true, Disable},
		"a certificate that came back, 0s": {PeerState{Usable: true, LastSeen: day(9), KeySeen: day(9)}, false, false, Available},
	} {
		if got := Recommend(test.peer, test.mutual, test.reply); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestRecommendAll(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		each []Recommendation
		want Recommendation
	}{
		{nil, Disable},
		{[]Recommendation{Encrypt}, Encrypt},
		{[]Recommendation{Discourage}, Discourage},
		{[]Recommendation{Encrypt, Encrypt}, Encrypt},
		{[]Recommendation{Encrypt, Available}, Available},
		{[]Recommendation{Encrypt, Discourage}, Discourage},
		{[]Recommendation{Available, Discourage, Encrypt}, Discourage},
		{[]Recommendation{Encrypt, Discourage, Disable}, Disable},
		{[]Recommendation{Encrypt, 77}, Disable},
	} {
		if got := RecommendAll(test.each); got != test.want {
			t.Errorf("%v: %v, want %v", test.each, got, test.want)
		}
	}
	if s := Encrypt.String() + Disable.String() + Recommendation(77).String(); s != "encryptdisableinvalid" {
		t.Error(s)
	}
}
