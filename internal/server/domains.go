package server

import (
	"slices"
	"sync/atomic"
)

// domains are those that are hosted now. The zero value hosts none.
type domains struct {
	current atomic.Pointer[[]string]
}

func (d *domains) set(names []string) {
	names = slices.Clone(names)
	slices.Sort(names)
	d.current.Store(&names)
}

// has says whether a domain, in lower case with A-labels, is hosted.
func (d *domains) has(name string) bool {
	names := d.current.Load()
	if names == nil {
		return false
	}
	_, ok := slices.BinarySearch(*names, name)
	return ok
}
