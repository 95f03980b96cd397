package imapd

import (
	"slices"

	"github.com/emersion/go-imap/v2"

	"postern/internal/store"
)

// span is a run of messages by their index in a view, hi not included.
type span struct{ lo, hi int }

// spans finds the messages that a set means, growing and without overlap. saved is
// the result that "$" stands for (RFC 5182). A sequence number that does not exist is
// an error (RFC 9051 9, seq-number); a UID that does not exist is passed over.
func (v *view) spans(set imap.NumSet, saved []store.Range) ([]span, error) {
	var list []span
	switch set := set.(type) {
	case imap.SeqSet:
		for _, r := range set {
			s, err := v.seqSpan(r)
			if err != nil {
				return nil, err
			}
			list = append(list, s)
		}
	case imap.UIDSet:
		if imap.IsSearchRes(set) {
			for _, r := range saved {
				list = append(list, v.uidSpan(r.Lo, r.Hi))
			}
			break
		}
		for _, r := range set {
			list = append(list, v.uidRange(r))
		}
	}
	return mergeSpans(list), nil
}

// seqSpan resolves a range of sequence numbers, in which 0 stands for "*".
func (v *view) seqSpan(r imap.SeqRange) (span, error) {
	n := uint32(len(v.entries))
	lo, hi := r.Start, r.Stop
	if n == 0 && hi == 0 {
		return span{}, nil // "*" of an empty mailbox: nothing, though it could be refused
	}
	if lo == 0 {
		lo = n
	}
	if hi == 0 {
		hi = n
	}
	if lo > n && r.Stop == 0 {
		lo = n // "7:*" with three messages is "3:7" (RFC 9051 9)
		return span{int(lo) - 1, int(n)}, nil
	}
	if lo > hi {
		lo, hi = hi, lo
	}
	if hi > n {
		return span{}, errNoSuchNumber
	}
	return span{int(lo) - 1, int(hi)}, nil
}

// uidRange resolves a range of UIDs, in which 0 stands for "*": the last message.
func (v *view) uidRange(r imap.UIDRange) span {
	n := len(v.entries)
	if n == 0 {
		return span{}
	}
	last := v.entries[n-1].UID
	lo, hi := uint32(r.Start), uint32(r.Stop)
	if lo == 0 {
		lo = last
	}
	if hi == 0 {
		hi = last
	}
	if lo > hi {
		lo, hi = hi, lo
	}
	return v.uidSpan(lo, hi)
}

func (v *view) uidSpan(lo, hi uint32) span {
	from, _ := v.find(lo)
	to, found := v.find(hi)
	if found {
		to++
	}
	return span{from, max(from, to)}
}

// mergeSpans sorts spans and joins those that touch; empty ones vanish.
func mergeSpans(list []span) []span {
	list = slices.DeleteFunc(list, func(s span) bool { return s.lo >= s.hi })
	slices.SortFunc(list, func(a, b span) int { return a.lo - b.lo })
	out := list[:0]
	for _, s := range list {
		if n := len(out); n > 0 && s.lo <= out[n-1].hi {
			out[n-1].hi = max(out[n-1].hi, s.hi)
			continue
		}
		out = append(out, s)
	}
	return out
}

// ranges turns spans into what the store understands. No UID can come to lie inside
// a range later, because UIDs grow.
func (v *view) ranges(spans []span) []store.Range {
	list := make([]store.Range, len(spans))
	for i, s := range spans {
		list[i] = store.Range{Lo: v.entries[s.lo].UID, Hi: v.entries[s.hi-1].UID}
	}
	return list
}

// uidSet makes a UIDSet of growing UIDs.
func uidSet(uids []uint32) imap.UIDSet {
	var set imap.UIDSet
	for _, u := range uids {
		if n := len(set); n > 0 && uint32(set[n-1].Stop)+1 == u {
			set[n-1].Stop = imap.UID(u)
			continue
		}
		set = append(set, imap.UIDRange{Start: imap.UID(u), Stop: imap.UID(u)})
	}
	return set
}

// seqSet makes a SeqSet of growing indexes.
func seqSet(indexes []int) imap.SeqSet {
	var set imap.SeqSet
	for _, i := range indexes {
		seq := uint32(i) + 1
		if n := len(set); n > 0 && set[n-1].Stop+1 == seq {
			set[n-1].Stop = seq
			continue
		}
		set = append(set, imap.SeqRange{Start: seq, Stop: seq})
	}
	return set
}

// uidRanges makes ranges of growing UIDs.
func uidRanges(uids []uint32) []store.Range {
	var list []store.Range
	for _, u := range uids {
		if n := len(list); n > 0 && list[n-1].Hi+1 == u {
			list[n-1].Hi = u
			continue
		}
		list = append(list, store.Range{Lo: u, Hi: u})
	}
	return list
}
