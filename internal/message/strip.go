package message

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// fieldPrefix begins the names of all fields that are the gateway's to write.
const fieldPrefix = "Postern-"

// Strip removes what a sender could have forged (P5): every Postern-* field, and
// every Authentication-Results field whose authserv-id is ours (RFC 8601 5), in
// whatever case and with whatever comments.
func Strip(h Header, authserv string) Header {
	authserv = strings.TrimSuffix(authserv, ".")
	forged := func(f Field) bool {
		if hasPrefixFold(f.Name, fieldPrefix) {
			return true
		}
		return f.Is("Authentication-Results") &&
			equalFold(strings.TrimSuffix(authservID(f.Value()), "."), authserv)
	}
	for _, f := range h.Fields {
		if forged(f) {
			return h.Without(forged)
		}
	}
	return h
}

// authservID returns the authserv-id of an Authentication-Results value: a token
// or a quoted-string behind optional comments (RFC 8601 2.2).
func authservID(v string) string {
	i := skipCFWS(v, 0)
	if i < len(v) && v[i] == '"' {
		id, _ := paramValue(v, i)
		return strings.TrimSpace(id)
	}
	from := i
	for i < len(v) && isTokenChar(v[i]) {
		i++
	}
	return v[from:i]
}

// isMark says whether a word in brackets means something in a subject here: what the
// gateway marks messages with, and what senders wish with.
func isMark(word string) bool {
	switch word {
	case "sealed", "insecure", "end-to-end":
		return true
	}
	return wishOf(word) != ""
}

// StripMarks removes the bracket words that mean something here, [sealed], [insecure],
// [end-to-end] and those of SenderWords, from the start and the end of the Subject,
// with the white space beside them, in any case, look-alike brackets included and also
// behind "Re:": a reply repeats the subject, and must not wish what a correspondent
// wrote. Everything else keeps its octets; a mark that hides in encoded-words (RFC
// 2047) is removed too, and then, and only then, what is left of them is written anew.
func StripMarks(h Header) Header {
	for i := range h.Fields {
		if !h.Fields[i].Is("Subject") || !mayHaveBracket(h.Fields[i].Raw) {
			continue
		}
		cleaned, changed := editSubject(h.Fields[i], func(text string) []span {
			return edges(text, func(b bracket) bool { return isMark(b.word) })
		})
		if changed {
			h.Fields = append([]Field(nil), h.Fields...)
			h.Fields[i] = cleaned
		}
	}
	return h
}

// mayHaveBracket rules out most subjects without decoding them.
func mayHaveBracket(raw []byte) bool {
	if bytes.IndexByte(raw, '[') >= 0 || bytes.Contains(raw, []byte("=?")) {
		return true
	}
	return bytes.IndexFunc(raw, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0
}
