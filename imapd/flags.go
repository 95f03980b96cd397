package imapd

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"postern/internal/store"
)

// maxKeywords is how many keywords one command may name.
const maxKeywords = 64

// systemFlags are the flags of RFC 9051 2.3.2 in the order of their bits.
func systemFlags() []imap.Flag {
	return []imap.Flag{imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft}
}

// systemFlag returns the bit of a system flag, or 0.
func systemFlag(f imap.Flag) store.Flags {
	if len(f) == 0 || f[0] != '\\' {
		return 0
	}
	for i, name := range systemFlags() {
		if strings.EqualFold(string(f), string(name)) {
			return 1 << i
		}
	}
	return 0
}

// flagList writes out a message's flags.
func flagList(flags store.Flags, keywords string) []imap.Flag {
	return appendFlags(nil, flags, keywords)
}

func appendFlags(list []imap.Flag, flags store.Flags, keywords string) []imap.Flag {
	if flags&store.Seen != 0 {
		list = append(list, imap.FlagSeen)
	}
	if flags&store.Answered != 0 {
		list = append(list, imap.FlagAnswered)
	}
	if flags&store.Flagged != 0 {
		list = append(list, imap.FlagFlagged)
	}
	if flags&store.Deleted != 0 {
		list = append(list, imap.FlagDeleted)
	}
	if flags&store.Draft != 0 {
		list = append(list, imap.FlagDraft)
	}
	if keywords != "" {
		for word := range strings.FieldsSeq(keywords) {
			list = append(list, imap.Flag(word))
		}
	}
	return list
}

// splitFlags takes a client's list apart into system flags and keywords. \Recent is
// the server's own and is passed over; other unknown backslash flags are refused.
func splitFlags(list []imap.Flag) (store.Flags, []string, error) {
	var flags store.Flags
	var keywords []string
	for _, f := range list {
		bit := systemFlag(f)
		switch {
		case bit != 0:
			flags |= bit
		case strings.EqualFold(string(f), `\Recent`):
		case strings.HasPrefix(string(f), `\`):
			return 0, nil, errBadFlag
		case !slices.Contains(keywords, string(f)):
			keywords = append(keywords, string(f))
		}
	}
	if len(keywords) > maxKeywords {
		return 0, nil, errTooManyKeywords
	}
	return flags, keywords, nil
}

// mailboxFlags is the list of the FLAGS response: system flags and known keywords.
func (v *view) mailboxFlags() []imap.Flag {
	list := systemFlags()
	for _, word := range v.keywords {
		list = append(list, imap.Flag(word))
	}
	return list
}

// applied returns what flags become by one STORE: what a silent client expects, in the
// form in which the store keeps keywords.
func applied(op store.FlagOp, flags store.Flags, keywords string, by store.Flags, words []string) (store.Flags, string) {
	has := func(list []string) func(string) bool {
		return func(w string) bool {
			return slices.ContainsFunc(list, func(x string) bool { return strings.EqualFold(w, x) })
		}
	}
	old := strings.Fields(keywords)
	switch op {
	case store.FlagsAdd:
		return flags | by, joinKeywords(append(old, slices.DeleteFunc(slices.Clone(words), has(old))...))
	case store.FlagsRemove:
		return flags &^ by, joinKeywords(slices.DeleteFunc(old, has(words)))
	}
	return by, joinKeywords(words)
}

func joinKeywords(words []string) string {
	if len(words) == 0 {
		return ""
	}
	words = slices.Clone(words)
	slices.SortFunc(words, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return strings.Join(slices.Compact(words), " ")
}
