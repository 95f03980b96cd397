package imapd

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"postern/internal/store"
)

// view is what one client has been told of its selected mailbox: the messages by
// sequence number, with the flags it last heard of. Sequence numbers change only when
// the client is told so (RFC 9051 7.5.1), so a view lags behind the store on purpose.
type view struct {
	base *store.View
	// entries are base.Entries, or a copy with messages that are gone from the
	// store but whose EXPUNGE could not be said yet.
	entries []store.Entry
	ghosts  bool
	// told are flags the client has heard of since base was made: the answers to
	// its own STORE, and \Seen set by its own FETCH. By UID.
	told []told
	// keywords are those that occurred so far, sorted; unsaid means that some of
	// them were not in a FLAGS response yet.
	keywords []string
	unsaid   bool
}

type told struct {
	uid      uint32
	flags    store.Flags
	keywords string
}

// updates takes the untagged responses that bring a client up to date.
type updates interface {
	WriteExpunge(seq uint32) error
	WriteNumMessages(n uint32) error
	WriteMailboxFlags(flags []imap.Flag) error
	WriteMessageFlags(seq uint32, uid imap.UID, flags []imap.Flag) error
}

func newView(v *store.View) *view {
	w := &view{base: v, entries: v.Entries}
	for i := range v.Entries {
		w.learn(v.Entries[i].Keywords)
	}
	return w
}

// learn adds keywords to the known ones and says whether one was new.
func (v *view) learn(keywords string) bool {
	added := false
	for word := range strings.FieldsSeq(keywords) {
		if i, ok := slices.BinarySearch(v.keywords, word); !ok {
			v.keywords = slices.Insert(v.keywords, i, word)
			added = true
		}
	}
	return added
}

// find returns the index of a UID.
func (v *view) find(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(v.entries, uid, func(e store.Entry, uid uint32) int {
		return cmpUID(e.UID, uid)
	})
}

func cmpUID(a, b uint32) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// flags returns what the client knows of the i-th message's flags.
func (v *view) flags(i int) (store.Flags, string) {
	e := &v.entries[i]
	if j, ok := v.findTold(e.UID); ok {
		return v.told[j].flags, v.told[j].keywords
	}
	return e.Flags, e.Keywords
}

func (v *view) findTold(uid uint32) (int, bool) {
	return slices.BinarySearchFunc(v.told, uid, func(t told, uid uint32) int {
		return cmpUID(t.uid, uid)
	})
}

// tell notes what the client has just heard. Calls with growing UIDs are cheap.
func (v *view) tell(uid uint32, flags store.Flags, keywords string) {
	v.unsaid = v.learn(keywords) || v.unsaid
	t := told{uid, flags, keywords}
	if n := len(v.told); n == 0 || v.told[n-1].uid < uid {
		v.told = append(v.told, t)
		return
	}
	i, ok := v.findTold(uid)
	if ok {
		v.told[i] = t
		return
	}
	v.told = slices.Insert(v.told, i, t)
}

// delta is the difference between a view and the store.
type delta struct {
	gone    []int // indexes into the old entries, growing
	changed []int // indexes into the new entries
	fresh   int   // messages that are new, at the end
	next    []store.Entry
	ghosts  bool
}

// advance writes what the client has to hear of now, and makes that its view.
// Without expunge, messages that are gone keep their sequence numbers.
func (v *view) advance(now *store.View, expunge bool, w updates) error {
	if v.current(now) {
		return nil
	}
	d := v.diff(now, expunge)
	v.base, v.entries, v.ghosts, v.told = now, d.next, d.ghosts, nil
	for i := len(d.gone) - 1; i >= 0; i-- {
		if err := w.WriteExpunge(uint32(d.gone[i]) + 1); err != nil {
			return err
		}
	}
	if d.fresh > 0 {
		if err := w.WriteNumMessages(uint32(len(d.next))); err != nil {
			return err
		}
	}
	return v.writeFlags(d, w)
}

// writeFlags reports changed flags, after the keywords that are new in them.
func (v *view) writeFlags(d delta, w updates) error {
	added := v.unsaid
	for _, i := range d.changed {
		added = v.learn(d.next[i].Keywords) || added
	}
	for i := len(d.next) - d.fresh; i < len(d.next); i++ {
		added = v.learn(d.next[i].Keywords) || added
	}
	v.unsaid = false
	if added {
		if err := w.WriteMailboxFlags(v.mailboxFlags()); err != nil {
			return err
		}
	}
	for _, i := range d.changed {
		e := &d.next[i]
		if err := w.WriteMessageFlags(uint32(i)+1, imap.UID(e.UID), flagList(e.Flags, e.Keywords)); err != nil {
			return err
		}
	}
	return nil
}

// current says that there is nothing to tell.
func (v *view) current(now *store.View) bool {
	if v.ghosts || len(v.told) > 0 {
		return false
	}
	return v.base == now || v.base.Mailbox.ModSeq == now.Mailbox.ModSeq && len(v.entries) == len(now.Entries)
}

// diff walks both lists once. New UIDs are always greater than old ones, so what is
// new stands at the end.
func (v *view) diff(now *store.View, expunge bool) delta {
	var d delta
	old, cur, heard := v.entries, now.Entries, v.told
	var kept []store.Entry // ghosts
	i, j := 0, 0
	if !v.ghosts && len(heard) == 0 && sameStart(old, cur) {
		i, j = len(old), len(old) // only new mail: nothing else has to be compared
	}
	for i < len(old) {
		for len(heard) > 0 && heard[0].uid < old[i].UID {
			heard = heard[1:]
		}
		flags, keywords := old[i].Flags, old[i].Keywords
		if len(heard) > 0 && heard[0].uid == old[i].UID {
			flags, keywords = heard[0].flags, heard[0].keywords
		}
		switch {
		case j == len(cur) || old[i].UID < cur[j].UID:
			if expunge {
				d.gone = append(d.gone, i)
			} else {
				ghost := old[i]
				ghost.Flags, ghost.Keywords = flags, keywords
				kept = append(kept, ghost)
			}
			i++
		case old[i].UID == cur[j].UID:
			if flags != cur[j].Flags || keywords != cur[j].Keywords {
				d.changed = append(d.changed, j+len(kept))
			}
			i, j = i+1, j+1
		default: // a UID that came in below one already told: the store never does this
			j++
		}
	}
	d.fresh = len(cur) - j
	d.next, d.ghosts = cur, len(kept) > 0
	if d.ghosts {
		d.next = withGhosts(kept, cur)
	}
	return d
}

// sameStart says that cur is old with more behind it, in the same memory.
func sameStart(old, cur []store.Entry) bool {
	return len(old) > 0 && len(old) <= len(cur) && &old[0] == &cur[0]
}

// withGhosts merges the ghosts into the current entries, by UID.
func withGhosts(ghosts, cur []store.Entry) []store.Entry {
	next := make([]store.Entry, 0, len(cur)+len(ghosts))
	for i := range ghosts {
		for len(cur) > 0 && cur[0].UID < ghosts[i].UID {
			next, cur = append(next, cur[0]), cur[1:]
		}
		next = append(next, ghosts[i])
	}
	return append(next, cur...)
}

// expunge tells only of the messages that are gone, as EXPUNGE and MOVE need it; the
// rest stays for advance.
func (v *view) expunge(now *store.View, write func(seq uint32) error) error {
	var gone []int
	j := 0
	for i := range v.entries {
		for j < len(now.Entries) && now.Entries[j].UID < v.entries[i].UID {
			j++
		}
		if j == len(now.Entries) || now.Entries[j].UID != v.entries[i].UID {
			gone = append(gone, i)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	left := make([]store.Entry, 0, len(v.entries)-len(gone))
	from := 0
	for _, i := range gone {
		left = append(left, v.entries[from:i]...)
		from = i + 1
	}
	// What is left is neither base's list nor one with ghosts; marking it as the
	// latter makes the next advance compare it.
	v.entries, v.ghosts = append(left, v.entries[from:]...), true
	for i := len(gone) - 1; i >= 0; i-- {
		if err := write(uint32(gone[i]) + 1); err != nil {
			return err
		}
	}
	return nil
}

// firstUnseen returns the sequence number of the first message without \Seen, or 0.
func (v *view) firstUnseen() uint32 {
	for i := range v.entries {
		if v.entries[i].Flags&store.Seen == 0 {
			return uint32(i) + 1
		}
	}
	return 0
}
