package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"unsafe"
)

// viewOctets bounds the memory of the views that the store keeps; those that
// are in use beyond that are their users' own.
const viewOctets = 64 << 20

// views keeps the newest view of each mailbox that was asked for lately.
type views struct {
	limit int64

	mu     sync.Mutex
	slots  map[ID]*viewSlot
	octets int64
	clock  int64
}

// viewSlot holds the newest view of one mailbox. lock has capacity 1 and is held
// by whoever brings the view up to date, so that many who ask for a large mailbox
// at once read it once. Only its holder may append behind the entries, of which
// older views keep the front: their length never covers what comes later.
type viewSlot struct {
	lock    chan struct{}
	mailbox Mailbox
	entries []Entry

	// Guarded by views.mu.
	octets, used int64
}

func newViews(limit int64) *views {
	return &views{limit: limit, slots: map[ID]*viewSlot{}}
}

// slot returns the slot of a mailbox, made if there is none.
func (v *views) slot(mailbox ID) *viewSlot {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.slots[mailbox]
	if s == nil {
		s = &viewSlot{lock: make(chan struct{}, 1)}
		v.slots[mailbox] = s
	}
	v.clock++
	s.used = v.clock
	return s
}

// weigh records the size of a slot, and drops those that were not used for the
// longest time until the rest is within the limit. A slot that alone is larger
// is dropped too.
func (v *views) weigh(mailbox ID, s *viewSlot) {
	const slotOctets = 512 // the slot itself and its place in the map
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.slots[mailbox] != s {
		return // dropped meanwhile
	}
	v.octets -= s.octets
	s.octets = slotOctets + int64(cap(s.entries))*int64(unsafe.Sizeof(Entry{}))
	v.octets += s.octets
	for v.octets > v.limit {
		var oldest ID
		for id, o := range v.slots {
			if old := v.slots[oldest]; old == nil || o.used < old.used {
				oldest = id
			}
		}
		v.remove(oldest)
	}
}

func (v *views) remove(mailbox ID) {
	if s := v.slots[mailbox]; s != nil {
		v.octets -= s.octets
		delete(v.slots, mailbox)
	}
}

// drop forgets the view of a mailbox.
func (v *views) drop(mailbox ID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.remove(mailbox)
}

// DropViews forgets all views that the store keeps in memory, for when memory is
// short; those in use stay with their users.
func (s *Store) DropViews() {
	s.views.mu.Lock()
	defer s.views.mu.Unlock()
	clear(s.views.slots)
	s.views.octets = 0
}

// View returns a mailbox as it is now: all that was committed before the call,
// by any process, is in it. It is shared, so it must not be changed. If nothing
// has changed since the last call it costs one look at the mailbox's row;
// otherwise what changed is read by MODSEQ, never the whole. ErrNotFound.
func (s *Store) View(ctx context.Context, mailbox ID) (*View, error) {
	slot := s.views.slot(mailbox)
	select {
	case slot.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-slot.lock }()
	err := s.read(ctx, func(c *session) error { return s.refresh(ctx, c, mailbox, slot) })
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			s.views.drop(mailbox)
		}
		return nil, fmt.Errorf("view mailbox %v: %w", mailbox, err)
	}
	n := len(slot.entries)
	return &View{Mailbox: slot.mailbox, Entries: slot.entries[:n:n]}, nil
}

const selectMailbox = `SELECT ` + boxColumns + ` FROM mailboxes m ` + whereMailbox

// refresh brings the slot up to date, all of it or nothing.
func (s *Store) refresh(ctx context.Context, c *session, mailbox ID, slot *viewSlot) error {
	var m Mailbox
	if err := c.get(m.fields(), selectMailbox, mailbox); err != nil {
		return err
	}
	if m.ModSeq == slot.mailbox.ModSeq {
		slot.mailbox = m // its name or subscription may have changed
		return nil
	}
	if _, err := c.exec(s.dialect.beginRead); err != nil {
		return err
	}
	err := slot.catchUp(ctx, c, mailbox)
	if _, e := c.exec("ROLLBACK"); err == nil {
		err = e
	}
	if err == nil {
		s.views.weigh(mailbox, slot)
	}
	return err
}

// catchUp reads what changed since the slot was filled, within a transaction
// that sees one state.
func (v *viewSlot) catchUp(ctx context.Context, c *session, mailbox ID) error {
	var m Mailbox
	if err := c.get(m.fields(), selectMailbox, mailbox); err != nil {
		return err
	}
	since := v.mailbox.ModSeq
	if since == 0 || m.ModSeq < since {
		entries, err := readEntries(ctx, c, int(m.Messages), entriesByUID, mailbox)
		if err == nil {
			v.mailbox, v.entries = m, entries
		}
		return err
	}
	changed, err := readEntries(ctx, c, 0, entriesSince, mailbox, since)
	if err != nil {
		return err
	}
	gone, err := tombstones(c, mailbox, since)
	if err != nil {
		return err
	}
	slices.SortFunc(changed, func(a, b Entry) int { return int(int64(a.UID) - int64(b.UID)) })
	v.mailbox, v.entries = m, mergeEntries(v.entries, changed, gone)
	return nil
}

const (
	selectEntry  = `SELECT uid, flags, modseq, message, size, internal_date, keywords FROM entries `
	entriesByUID = selectEntry + `WHERE mailbox = $1 ORDER BY uid`
	entriesSince = selectEntry + `WHERE mailbox = $1 AND modseq > $2`
)

// readEntries reads entries, about n of them. Values are taken as the driver
// makes them: for 100,000 rows the conversions of Scan would cost the most.
func readEntries(ctx context.Context, c *session, n int, query string, args ...any) ([]Entry, error) {
	entries := make([]Entry, 0, n)
	var v [7]any
	dest := []any{&v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6]}
	var keywords, interned string // of the last entry, most likely also of this one
	err := c.each(func(r scanner) error {
		if len(entries)%4096 == 4095 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := r.Scan(dest...); err != nil {
			return err
		}
		var i [6]int64
		for k := range i {
			x, ok := v[k].(int64)
			if !ok {
				return fmt.Errorf("%w: entry column %d is %T", ErrInvalid, k, v[k])
			}
			i[k] = x
		}
		if k, ok := v[6].(string); !ok {
			return fmt.Errorf("%w: keywords are %T", ErrInvalid, v[6])
		} else if k != keywords {
			keywords, interned = k, intern(k)
		}
		entries = append(entries, Entry{UID: uint32(i[0]), Flags: Flags(i[1]), ModSeq: uint64(i[2]),
			Message: ID(i[3]), Size: i[4], InternalDate: i[5], Keywords: interned})
		return nil
	}, query, args...)
	return entries, err
}

// mergeEntries applies changes to base: changed, by UID, replaces or adds
// entries, and gone takes them away. base itself is not changed, but if there is
// only new mail it is appended behind it.
func mergeEntries(base, changed []Entry, gone []Range) []Entry {
	if len(gone) == 0 && (len(base) == 0 || len(changed) == 0 || changed[0].UID > base[len(base)-1].UID) {
		return append(base, changed...)
	}
	merged := make([]Entry, 0, len(base)+len(changed))
	for len(base) > 0 || len(changed) > 0 {
		switch {
		case len(changed) == 0 || len(base) > 0 && base[0].UID < changed[0].UID:
			// All entries up to the next change, or the next that is gone.
			n := len(base)
			if len(changed) > 0 {
				n = searchUID(base, changed[0].UID)
			}
			merged, gone = keepEntries(merged, base[:n], gone)
			base = base[n:]
		case len(base) > 0 && base[0].UID == changed[0].UID:
			base = base[1:]
		default:
			merged = append(merged, changed[0])
			changed = changed[1:]
		}
	}
	return merged
}

// keepEntries appends those entries that are not gone, and returns the ranges
// that may concern later ones.
func keepEntries(merged, entries []Entry, gone []Range) ([]Entry, []Range) {
	for len(entries) > 0 && len(gone) > 0 {
		n := searchUID(entries, gone[0].Lo)
		merged, entries = append(merged, entries[:n]...), entries[n:]
		if len(entries) == 0 {
			break
		}
		n = len(entries)
		if gone[0].Hi < maxUID {
			n = searchUID(entries, gone[0].Hi+1)
		}
		entries = entries[n:]
		if len(entries) > 0 {
			gone = gone[1:]
		}
	}
	return append(merged, entries...), gone
}

// searchUID returns how many entries have a UID below uid.
func searchUID(entries []Entry, uid uint32) int {
	n, _ := slices.BinarySearchFunc(entries, uid, func(e Entry, uid uint32) int {
		return int(int64(e.UID) - int64(uid))
	})
	return n
}
