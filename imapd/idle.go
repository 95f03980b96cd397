package imapd

import (
	"time"

	"github.com/emersion/go-imap/v2/imapserver"
)

const (
	// idlePause is the least time between two looks at a mailbox, so that a flood
	// of deliveries costs each watcher a bounded share of a core.
	idlePause = 20 * time.Millisecond
	// idleCheck is how often a mailbox is looked at although nobody said that it
	// changed: wake-ups may be lost (package cluster).
	idleCheck = time.Minute
)

// Idle implements imapserver.Session (RFC 9051 6.3.13).
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		select {
		case <-stop:
		case <-s.ctx.Done():
		}
		return nil
	}
	return s.watch(w, stop)
}

// watch reports changes until stop. The watch begins before the first look: what
// happens between the two is seen by the second, and what happened since the last
// command by the first.
func (s *session) watch(w updates, stop <-chan struct{}) error {
	woken, end := s.server.o.Cluster.Watch(s.mailbox.Topic())
	defer end()
	check := time.NewTicker(idleCheck)
	defer check.Stop()
	for {
		s.guard.cork()
		err := s.update(w, true)
		s.guard.uncork()
		if err != nil {
			return s.response("IDLE", err)
		}
		select {
		case <-stop:
			return nil
		case <-s.ctx.Done():
			return nil
		case <-time.After(idlePause):
		}
		select {
		case <-stop:
			return nil
		case <-s.ctx.Done():
			return nil
		case <-woken:
		case <-check.C:
		}
	}
}
