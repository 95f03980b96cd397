package store

import (
	"fmt"
	"slices"
	"strings"
	"unique"
)

// Limits of keywords.
const (
	maxKeywords = 64  // of one message
	maxKeyword  = 128 // octets
)

// checkKeywords refuses what is no flag-keyword of RFC 9051 9: an atom, hence
// without the backslash of a system flag.
func checkKeywords(keywords []string) error {
	if len(keywords) > maxKeywords {
		return fmt.Errorf("%w: more than %d", ErrKeyword, maxKeywords)
	}
	for _, k := range keywords {
		if k == "" || len(k) > maxKeyword {
			return fmt.Errorf("%w: empty or over %d octets", ErrKeyword, maxKeyword)
		}
		for i := 0; i < len(k); i++ {
			if c := k[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
				return fmt.Errorf("%w: not an atom", ErrKeyword)
			}
		}
	}
	return nil
}

// joinKeywords returns keywords in the form in which they are stored: sorted and
// each once, whatever its case.
func joinKeywords(keywords []string) string {
	return changeKeywords("", FlagsAdd, keywords)
}

// changeKeywords applies a STORE to stored keywords. Keywords are compared
// without regard to case; the one that was there first keeps its own.
func changeKeywords(stored string, op FlagOp, keywords []string) string {
	if len(keywords) == 0 {
		if op == FlagsReplace {
			return ""
		}
		return stored
	}
	old := strings.Fields(stored)
	var result []string
	switch op {
	case FlagsAdd:
		result = old
		for _, k := range keywords {
			if keywordIndex(result, k) < 0 {
				result = append(result, k)
			}
		}
	case FlagsRemove:
		for _, k := range old {
			if keywordIndex(keywords, k) < 0 {
				result = append(result, k)
			}
		}
	default:
		for _, k := range keywords {
			if i := keywordIndex(old, k); i >= 0 {
				k = old[i]
			}
			if keywordIndex(result, k) < 0 {
				result = append(result, k)
			}
		}
	}
	slices.SortFunc(result, compareFold)
	return strings.Join(result, " ")
}

func keywordIndex(list []string, k string) int {
	return slices.IndexFunc(list, func(o string) bool { return strings.EqualFold(o, k) })
}

// compareFold orders ASCII strings without regard to case.
func compareFold(a, b string) int {
	return strings.Compare(strings.ToLower(a), strings.ToLower(b))
}

// intern returns one string for all equal ones, so that the keywords of 100,000
// entries are few strings.
func intern(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}
