package bridge

import (
	"errors"
	"slices"
	"testing"
	"time"

	"postern/internal/store"
)

// TestExpress: of what leaves the queue is offered a group for each copy and domain, but
// not of what is held, and it is woken only for what it did not take.
func TestExpress(t *testing.T) {
	t.Parallel()
	var offered []store.Lane
	room, taken := 0, 0
	broken := errors.New("broken")
	var fail error
	o := newOutbound(t, func(o *Options) {
		o.Express = func(lanes []store.Lane, commit func(store.Express) ([]store.Group, error)) error {
			offered = lanes
			if fail != nil {
				return fail
			}
			groups, err := commit(store.Express{Owner: "n", Until: time.Now().Add(time.Hour), Lanes: lanes[:min(room, len(lanes))]})
			taken = len(groups)
			return err
		}
	})
	o.correspondent("bob@there.test")
	o.source.set("eve@held.test", true)
	to := []string{"bob@there.test", "dave@there.test", "dora@there.test", "dan@else.test", "eve@held.test"}
	for _, test := range []struct {
		room int
		to   []string
		woke bool
	}{{9, to, true}, {9, to[:4], false}, {2, to[:4], true}, {0, to[:1], true}} {
		offered, o.woke, room = nil, nil, test.room
		o.mustSubmit(letter("", test.to...), test.to...)
		want := []store.Lane{{Domain: "there.test"}, {Domain: "there.test"}, {Domain: "else.test"}}
		want = want[:min(len(want), len(test.to))]
		if !slices.Equal(offered, want) || taken != min(test.room, len(want)) {
			t.Errorf("room for %d: offered %v, taken %d", test.room, offered, taken)
		}
		if woke := slices.Contains(o.woke, QueueTopic); woke != test.woke {
			t.Errorf("room for %d: woken for %v", test.room, o.woke)
		}
	}
	before := len(o.queued())
	fail, o.woke = broken, nil
	if _, err := o.submit(letter("", to[0]), to[0]); !errors.Is(err, broken) || len(o.woke) > 0 || len(o.queued()) != before {
		t.Errorf("%v, woken for %v", err, o.woke)
	}
}
