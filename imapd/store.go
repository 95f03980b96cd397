package imapd

import (
	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postern/internal/store"
)

// Store implements imapserver.Session. The client hears of the flags of every message
// it named, or of none with .SILENT, unless they are not what it must expect.
func (s *session) Store(w *imapserver.FetchWriter, set imap.NumSet, flags *imap.StoreFlags, _ *imap.StoreOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	change, err := s.change(set, flags)
	if err != nil {
		return s.response("STORE", err)
	}
	_, byUID := set.(imap.UIDSet)
	return s.report(w, change, byUID)
}

// flagChange is a STORE that has been done.
type flagChange struct {
	spans    []span
	op       store.FlagOp
	flags    store.Flags
	keywords []string
	silent   bool
	now      *store.View
}

// change alters the flags in the store.
func (s *session) change(set imap.NumSet, flags *imap.StoreFlags) (*flagChange, error) {
	if err := s.writable(); err != nil {
		return nil, err
	}
	spans, err := s.pick(set)
	if err != nil {
		return nil, err
	}
	c := &flagChange{spans: spans, silent: flags.Silent}
	if c.flags, c.keywords, err = splitFlags(flags.Flags); err != nil {
		return nil, err
	}
	switch flags.Op {
	case imap.StoreFlagsAdd:
		c.op = store.FlagsAdd
	case imap.StoreFlagsDel:
		c.op = store.FlagsRemove
	default:
		c.op = store.FlagsReplace
	}
	st := s.server.o.Store
	if len(spans) > 0 {
		if _, err := st.SetFlags(s.ctx, s.mailbox, s.view.ranges(spans), c.op, c.flags, c.keywords, 0); err != nil {
			return nil, err
		}
		s.changed(s.mailbox)
	}
	c.now, err = st.View(s.ctx, s.mailbox)
	return c, err
}

// report writes the new flags and notes what the client knows now.
func (s *session) report(w *imapserver.FetchWriter, c *flagChange, byUID bool) error {
	entries := c.now.Entries
	for _, sp := range c.spans {
		j, _ := (&view{entries: entries}).find(s.view.entries[sp.lo].UID)
		for i := sp.lo; i < sp.hi; i++ {
			uid := s.view.entries[i].UID
			for j < len(entries) && entries[j].UID < uid {
				j++
			}
			if j == len(entries) || entries[j].UID != uid {
				continue // gone: its EXPUNGE comes when it may
			}
			e := &entries[j]
			had, words := s.view.flags(i)
			expected, expectedWords := applied(c.op, had, words, c.flags, c.keywords)
			s.view.tell(uid, e.Flags, e.Keywords)
			if c.silent && e.Flags == expected && e.Keywords == expectedWords {
				continue
			}
			if err := writeFlags(w, i, e, byUID); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeFlags(w *imapserver.FetchWriter, i int, e *store.Entry, byUID bool) error {
	m := w.CreateMessage(uint32(i) + 1)
	if byUID {
		m.WriteUID(imap.UID(e.UID))
	}
	m.WriteFlags(flagList(e.Flags, e.Keywords))
	return m.Close()
}
