package cluster

import "sync"

// topics is who watches what. Readers of the map do not exclude each other, so
// that many deliveries wake many sessions at once.
type topics struct {
	mu     sync.RWMutex
	byName map[string]map[*watch]struct{}
}

func newTopics() topics { return topics{byName: make(map[string]map[*watch]struct{})} }

type watch struct{ c chan struct{} }

// poke leaves a wake-up, or lets the one that is already there stand for both.
func (w *watch) poke() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}

func (t *topics) wake(topic string) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for w := range t.byName[topic] {
		w.poke()
	}
}

func (t *topics) wakeAll() {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, watches := range t.byName {
		for w := range watches {
			w.poke()
		}
	}
}

func (t *topics) watch(topic string) (<-chan struct{}, func()) {
	w := &watch{c: make(chan struct{}, 1)}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byName[topic] == nil {
		t.byName[topic] = make(map[*watch]struct{})
	}
	t.byName[topic][w] = struct{}{}
	return w.c, func() { t.end(topic, w) }
}

func (t *topics) end(topic string, w *watch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byName[topic], w)
	if len(t.byName[topic]) == 0 {
		delete(t.byName, topic)
	}
}

// listeners are who is told of invalidations.
type listeners struct {
	mu   sync.RWMutex
	next int
	told map[int]func(key string)
}

func (l *listeners) add(told func(key string)) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told == nil {
		l.told = make(map[int]func(string))
	}
	n := l.next
	l.next++
	l.told[n] = told
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.told, n)
	}
}

// tell calls them without a lock, so that they may end themselves.
func (l *listeners) tell(key string) {
	l.mu.RLock()
	all := make([]func(string), 0, len(l.told))
	for _, told := range l.told {
		all = append(all, told)
	}
	l.mu.RUnlock()
	for _, told := range all {
		told(key)
	}
}
