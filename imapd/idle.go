package imapd

import (
	"time"

	"github.com/emersion/go-imap/v2/imapserver"
)

// idlePause is the least time between two looks at a mailbox, so that a flood
// of deliveries costs each watcher a bounded share of a core.
const idlePause = 20 * time.Millisecond

// Idle implements imapserver.Session (RFC 9051 6.3.13).
func (s *session) Idle(w *imapserver.UpdateWriter, stop <-chan struct{}) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view == nil {
		s.await(stop)
		return nil
	}
	return s.watch(w, stop)
}

// await is watch where no mailbox is selected.
func (s *session) await(stop <-chan struct{}) {
	check := time.NewTicker(s.server.o.IdleCheck)
	defer check.Stop()
	for {
		s.checkAccount()
		select {
		case <-stop:
			return
		case <-s.ctx.Done():
			return
		case <-check.C:
		}
	}
}

// watch reports changes until stop. The watch begins before the first look: what
// happens between the two is seen by the second, and what happened since the last
// command by the first.
func (s *session) watch(w updates, stop <-chan struct{}) error {
	woken, end := s.server.o.Cluster.Watch(s.mailbox.Topic())
	defer end()
	check := time.NewTicker(s.server.o.IdleCheck)
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
