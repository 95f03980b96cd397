package message

import (
	"bytes"
	"mime"
	"strings"
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

// marks are the bracket words that mean something in a subject here.
func marks() [5]string {
	return [...]string{"[sealed]", "[insecure]", "[secure]", "[clear]", "[end-to-end]"}
}

// StripMarks removes the gateway's bracket words from the start and the end of
// the Subject: [sealed], [insecure], [secure], [clear], [end-to-end], with the
// white space beside them, in any case and repeated. Everything else keeps its
// octets; a subject without marks keeps all of them. A mark that hides in
// encoded-words (RFC 2047) is removed too, and then, and only then, the subject
// is written anew as UTF-8 encoded-words.
func StripMarks(h Header) Header {
	for i := range h.Fields {
		if !h.Fields[i].Is("Subject") {
			continue
		}
		raw, changed := stripSubject(h.Fields[i])
		if !changed {
			continue
		}
		fields := append([]Field(nil), h.Fields...)
		fields[i].Raw = raw
		h.Fields = fields
	}
	return h
}

func stripSubject(f Field) (raw []byte, changed bool) {
	colon := bytes.IndexByte(f.Raw, ':')
	if bytes.IndexByte(f.Raw, '[') < 0 && !bytes.Contains(f.Raw, []byte("=?")) {
		return nil, false
	}
	body := strings.TrimRight(string(f.Raw[colon+1:]), "\r\n")
	ending := f.Raw[colon+1+len(body):]
	lead := body[:len(body)-len(strings.TrimLeft(body, " \t"))]
	if from, to := withoutMarks(body); to-from < len(body) {
		body, changed = lead+body[from:to], true
	}
	if strings.Contains(body, "=?") {
		decoded := decodeWords(unfold([]byte(body)))
		if from, to := withoutMarks(decoded); to-from < len(decoded) {
			// mime folds nothing; its words are separated by a space, where
			// a line may be folded.
			words := mime.QEncoding.Encode("utf-8", decoded[from:to])
			body, changed = lead+strings.ReplaceAll(words, "?= =?", "?=\r\n =?"), true
		}
	}
	if !changed {
		return nil, false
	}
	raw = append(append([]byte(nil), f.Raw[:colon+1]...), body...)
	return append(raw, ending...), true
}

// withoutMarks returns the range of s between the marks at its two ends. If there
// are none the range is all of s, white space included.
func withoutMarks(s string) (from, to int) {
	from, to = 0, len(s)
	for again := true; again; {
		again = false
		inner := strings.TrimLeft(s[from:to], " \t\r\n")
		start := to - len(inner)
		inner = strings.TrimRight(inner, " \t\r\n")
		end := start + len(inner)
		for _, m := range marks() {
			if hasPrefixFold(inner, m) {
				from, to, again = start+len(m), end, true
				break
			}
			if len(inner) >= len(m) && equalFold(inner[len(inner)-len(m):], m) {
				from, to, again = start, end-len(m), true
				break
			}
		}
	}
	if from == 0 && to == len(s) {
		return 0, len(s)
	}
	inner := strings.TrimLeft(s[from:to], " \t\r\n")
	from = to - len(inner)
	return from, from + len(strings.TrimRight(inner, " \t\r\n"))
}

// decodeWords decodes encoded-words. A charset that is not known is read as
// Latin-1: a mark is ASCII and shows itself in any charset that one meets.
func decodeWords(s string) string {
	d := mime.WordDecoder{CharsetReader: latin1}
	out, err := d.DecodeHeader(s)
	if err != nil {
		return s
	}
	return out
}
