package deliver

import (
	"sync"
	"time"
)

// poolKey says which connections are as good as each other: to the same host, proven
// in the same way.
type poolKey struct {
	host  string
	port  uint16
	need  need
	proof string // of needDANE
}

// Bounds of the idle connections.
const (
	maxIdle    = 200
	maxIdleKey = 10
)

// pool keeps connections that are idle. It is safe for concurrent use.
type pool struct {
	idle time.Duration

	mu     sync.Mutex
	all    map[poolKey][]*session
	count  int
	closed bool
}

func newPool(idle time.Duration) *pool { return &pool{idle: idle, all: map[poolKey][]*session{}} }

// take returns the connection that was used last, or nil.
func (p *pool) take(key poolKey) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.all[key]
	if len(list) == 0 {
		return nil
	}
	s := list[len(list)-1]
	p.remove(s)
	s.expire.Stop() // if it is too late for that, it finds nothing to remove
	return s
}

// put keeps a connection for a while. It says whether it does.
func (p *pool) put(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.count >= maxIdle || len(p.all[s.key]) >= maxIdleKey {
		return false
	}
	p.all[s.key] = append(p.all[s.key], s)
	p.count++
	s.expire = time.AfterFunc(p.idle, func() { p.expired(s) })
	return true
}

// expired ends a connection that nobody took.
func (p *pool) expired(s *session) {
	p.mu.Lock()
	mine := p.remove(s)
	p.mu.Unlock()
	if mine {
		s.end()
	}
}

// remove says whether s was there: whoever removes a connection owns it. It is called
// with the lock held.
func (p *pool) remove(s *session) bool {
	list := p.all[s.key]
	for i, other := range list {
		if other != s {
			continue
		}
		if list = append(list[:i:i], list[i+1:]...); len(list) == 0 {
			delete(p.all, s.key)
		} else {
			p.all[s.key] = list
		}
		p.count--
		return true
	}
	return false
}

// close ends all that are idle, and lets no more be.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var all []*session
	for _, list := range p.all {
		all = append(all, list...)
	}
	p.all, p.count = map[poolKey][]*session{}, 0
	p.mu.Unlock()
	var ending sync.WaitGroup
	for _, s := range all {
		s.expire.Stop()
		ending.Go(s.end)
	}
	ending.Wait()
}
