package imapd

import (
	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"

	"postern/internal/store"
	"postern/internal/telemetry"
)

// Search implements imapserver.Session.
func (s *session) Search(kind imapserver.NumKind, c *imap.SearchCriteria, o *imap.SearchOptions) (*imap.SearchData, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, err := s.search(c)
	if err != nil {
		if o.ReturnSave {
			s.saved = nil // RFC 5182 2.1
		}
		return nil, s.response("SEARCH", err)
	}
	if o.ReturnSave {
		s.saved = uidRanges(s.uids(savedPart(found, o)))
	}
	return s.searchData(kind, found), nil
}

// savedPart is what "$" keeps: with MIN or MAX alone, only those (RFC 5182 2.4).
func savedPart(found []int, o *imap.SearchOptions) []int {
	n := len(found)
	if n == 0 || o.ReturnAll || o.ReturnCount || !o.ReturnMin && !o.ReturnMax {
		return found
	}
	var kept []int
	if o.ReturnMin {
		kept = append(kept, found[0])
	}
	if o.ReturnMax && (!o.ReturnMin || n > 1) {
		kept = append(kept, found[n-1])
	}
	return kept
}

func (s *session) uids(indexes []int) []uint32 {
	list := make([]uint32, len(indexes))
	for i, x := range indexes {
		list[i] = s.view.entries[x].UID
	}
	return list
}

func (s *session) searchData(kind imapserver.NumKind, found []int) *imap.SearchData {
	data := &imap.SearchData{Count: uint32(len(found))}
	if kind == imapserver.NumKindUID {
		uids := s.uids(found)
		data.All = uidSet(uids)
		if len(uids) > 0 {
			data.Min, data.Max = uids[0], uids[len(uids)-1]
		}
		return data
	}
	data.All = seqSet(found)
	if len(found) > 0 {
		data.Min, data.Max = uint32(found[0])+1, uint32(found[len(found)-1])+1
	}
	return data
}

// loadGap is how many messages that are not in doubt are loaded along, rather than
// asking the store for two ranges.
const loadGap = 64

// search returns the indexes of the messages that match. Only those that the mailbox's
// own entries leave in doubt are loaded.
func (s *session) search(c *imap.SearchCriteria) ([]int, error) {
	q, err := s.view.compile(c, s.saved)
	if err != nil {
		return nil, err
	}
	var found []int
	var doubt []span
	for i := range s.view.entries {
		switch s.view.judge(q, i, nil) {
		case always:
			found = append(found, i)
		case unknown:
			if n := len(doubt); n > 0 && i-doubt[n-1].hi < loadGap {
				doubt[n-1].hi = i + 1
			} else {
				doubt = append(doubt, span{i, i + 1})
			}
		}
	}
	if len(doubt) == 0 {
		return found, nil
	}
	more, err := s.look(q, doubt)
	return mergeIndexes(found, more), err
}

// look loads the messages in doubt.
func (s *session) look(q *query, doubt []span) ([]int, error) {
	var found []int
	words := newWordDecoder()
	i := 0
	err := s.server.o.Store.Messages(s.ctx, s.mailbox, s.view.ranges(doubt), q.columns,
		func(uid uint32, m *store.Message) error {
			for i < len(s.view.entries) && s.view.entries[i].UID < uid {
				i++
			}
			if i == len(s.view.entries) || s.view.entries[i].UID != uid || s.view.judge(q, i, nil) != unknown {
				return nil
			}
			in, err := newSearched(m, q.columns, words)
			if err != nil {
				s.log.Error("imap message unreadable", telemetry.KeyMessage, int64(m.ID), telemetry.KeyError, err)
				return nil
			}
			if s.view.judge(q, i, in) == always {
				found = append(found, i)
			}
			return nil
		})
	return found, err
}

// mergeIndexes merges two growing lists.
func mergeIndexes(a, b []int) []int {
	if len(a) == 0 {
		return b
	}
	out := make([]int, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] < b[0] {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}
