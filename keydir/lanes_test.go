package keydir

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// TestLanes: while one domain's lane is full another's is free, and nothing is left of
// those that are empty.
func TestLanes(t *testing.T) {
	t.Parallel()
	var l lanes
	block, in := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	running, most := 0, 0
	var mu sync.Mutex
	for range 100 {
		all.Go(func() {
			err := l.do(context.Background(), "bob@slow.test", func() error {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				select {
				case in <- struct{}{}:
				case <-block:
				}
				<-block
				mu.Lock()
				running--
				mu.Unlock()
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range laneWidth {
		<-in
	}
	failed := errors.New("failed")
	if err := l.do(t.Context(), "bob@quick.test", func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("another domain: %v", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := l.do(ended, "bob@slow.test", func() error { t.Error("called"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("the full one: %v", err)
	}
	close(block)
	all.Wait()
	if most != laneWidth || len(l.byDomain) != 0 {
		t.Errorf("%d at once, %d lanes are left", most, len(l.byDomain))
	}
}
