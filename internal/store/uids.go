package store

import (
	"math"
	"slices"
)

const maxUID = math.MaxUint32

// normalRanges returns ranges sorted, without overlaps, and with their ends in
// order: "5:3" means "3:5", RFC 9051 9 (seq-range). The argument is not changed.
func normalRanges(r []Range) []Range {
	sorted := make([]Range, 0, len(r))
	for _, x := range r {
		if x.Lo > x.Hi {
			x.Lo, x.Hi = x.Hi, x.Lo
		}
		x.Lo = max(x.Lo, 1)
		if x.Hi >= x.Lo {
			sorted = append(sorted, x)
		}
	}
	slices.SortFunc(sorted, func(a, b Range) int {
		switch {
		case a.Lo < b.Lo:
			return -1
		case a.Lo > b.Lo:
			return 1
		}
		return 0
	})
	merged := sorted[:0]
	for _, x := range sorted {
		if n := len(merged); n > 0 && uint64(x.Lo) <= uint64(merged[n-1].Hi)+1 {
			merged[n-1].Hi = max(merged[n-1].Hi, x.Hi)
			continue
		}
		merged = append(merged, x)
	}
	return merged
}

// after returns the part of normal ranges that lies above uid.
func after(r []Range, uid uint32) []Range {
	for i, x := range r {
		if x.Hi <= uid {
			continue
		}
		if x.Lo > uid {
			return r[i:]
		}
		rest := slices.Clone(r[i:])
		rest[0].Lo = uid + 1
		return rest
	}
	return nil
}

// runs returns the ranges that cover exactly these ascending UIDs.
func runs(uids []uint32) []Range {
	var r []Range
	for _, u := range uids {
		if n := len(r); n > 0 && r[n-1].Hi+1 == u {
			r[n-1].Hi = u
			continue
		}
		r = append(r, Range{u, u})
	}
	return r
}
