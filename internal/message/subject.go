package message

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"
)

// span is a part of a text, in octets.
type span struct{ from, to int }

// bracket is a word in brackets at an edge of a subject.
type bracket struct {
	word    string // without white space, in lower case
	ascii   bool   // the brackets are [ and ]
	replied bool   // it stands behind "Re:" or the like
}

// maxBracket bounds the octets of a word with its brackets.
const maxBracket = 96

// edges goes through the bracket words at the two ends of a decoded subject, the first
// behind what a program puts there for a reply. It asks take of each, and goes on to
// the next inside while take says that it goes. It returns what goes, with the blanks
// beside it.
func edges(s string, take func(bracket) bool) (cuts []span) {
	pos, replied := 0, false
	for {
		start := len(s) - len(strings.TrimLeftFunc(s[pos:], isBlankRune))
		if n := replyPrefix(s[start:]); n > 0 {
			pos, replied = start+n, true
			continue
		}
		b, n := leadingBracket(s[start:])
		b.replied = replied
		if n == 0 || !take(b) {
			break
		}
		end := start + n
		if start > pos || pos == 0 || len(cuts) > 0 && cuts[len(cuts)-1].to == pos {
			end = len(s) - len(strings.TrimLeftFunc(s[end:], isBlankRune))
		}
		// What shows nothing goes too; the blank behind the colon stays.
		cuts = append(cuts, span{len(s) - len(strings.TrimLeft(s[pos:], " \t\r\n")), end})
		pos = end
	}
	for end := len(s); ; {
		inner := strings.TrimRightFunc(s[pos:end], isBlankRune)
		b, n := trailingBracket(inner)
		b.replied = replied
		if n == 0 || !take(b) {
			return cuts
		}
		start := pos + len(strings.TrimRightFunc(inner[:len(inner)-n], isBlankRune))
		cuts = append(cuts, span{start, end})
		end = start
	}
}

// isBlankRune is white space, and what shows nothing.
func isBlankRune(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) }

// brackets are the opening and the closing ones, ASCII first.
func brackets() (opening, closing string) { return "[［【〔", "]］】〕" }

// leadingBracket reads a bracket word at the start of s; n is its length, 0 if there
// is none.
func leadingBracket(s string) (b bracket, n int) {
	opening, closing := brackets()
	_, size := utf8.DecodeRuneInString(s)
	if s == "" || !strings.Contains(opening, s[:size]) {
		return b, 0
	}
	end := strings.IndexAny(s[:min(len(s), maxBracket)], closing)
	if end < 0 {
		return b, 0
	}
	_, last := utf8.DecodeRuneInString(s[end:])
	return bracket{word: bareWord(s[size:end]), ascii: s[0] == '[' && s[end] == ']'}, end + last
}

// trailingBracket is leadingBracket for the end of s.
func trailingBracket(s string) (b bracket, n int) {
	opening, closing := brackets()
	_, size := utf8.DecodeLastRuneInString(s)
	if s == "" || !strings.Contains(closing, s[len(s)-size:]) {
		return b, 0
	}
	from := max(0, len(s)-maxBracket)
	start := strings.LastIndexAny(s[from:], opening)
	if start < 0 {
		return b, 0
	}
	start += from
	b, n = leadingBracket(s[start:])
	if start+n != len(s) {
		return b, 0
	}
	return b, n
}

// bareWord is s without blanks, in lower case.
func bareWord(s string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if isBlankRune(r) {
			return -1
		}
		return r
	}, s))
}

// replyPrefix returns the length of "Re:", "Fwd:", "AW[2]:" and the like at the start
// of s, as mail programs of several languages write them; 0 if there is none.
func replyPrefix(s string) int {
	s = s[:min(len(s), 24)]
	end := strings.IndexAny(s, ":：")
	if end < 0 {
		return 0
	}
	word := strings.ToLower(strings.TrimSpace(s[:end]))
	word = strings.TrimRight(word, "[]()^0123456789")
	switch word {
	case "re", "fw", "fwd", "aw", "wg", "antw", "antwort", "betr", "doorst", "sv", "vs", "vl", "vb", "tr", "réf", "ref",
		"rv", "res", "enc", "rif", "i", "r", "odp", "pd", "ynt", "ilt", "на", "отв", "回复", "答复", "转发", "回覆", "轉寄", "返信", "転送":
		_, size := utf8.DecodeRuneInString(s[end:])
		return end + size
	}
	return 0
}

// piece is a part of a field's value: an encoded-word (RFC 2047), what is between two
// of them and stands for nothing, or text as it is.
type piece struct {
	raw, text string
	encoded   bool
}

// pieces splits the value of an unstructured field.
func pieces(value string) (list []piece) {
	d := mime.WordDecoder{CharsetReader: anyCharset}
	for value != "" {
		start, end := encodedWord(value)
		if start < 0 {
			return append(list, piece{raw: value, text: value})
		}
		text, err := d.Decode(value[start:end])
		if err != nil { // it stands as it is
			list = append(list, piece{raw: value[:end], text: value[:end]})
			value = value[end:]
			continue
		}
		if between := value[:start]; between != "" {
			p := piece{raw: between, text: between}
			if len(list) > 0 && list[len(list)-1].encoded && strings.Trim(between, " \t\r\n") == "" {
				p.text = "" // RFC 2047 6.2
			}
			list = append(list, p)
		}
		list = append(list, piece{raw: value[start:end], text: text, encoded: true})
		value = value[end:]
	}
	return list
}

// encodedWord finds the first encoded-word in s; start is -1 if there is none.
func encodedWord(s string) (start, end int) {
	for at := 0; ; {
		n := strings.Index(s[at:], "=?")
		if n < 0 {
			return -1, 0
		}
		start = at + n
		at = start + 2
		for marks := 0; at < len(s) && s[at] > ' '; at++ {
			if s[at] != '?' {
				continue
			}
			if marks++; marks == 3 {
				if at+1 < len(s) && s[at+1] == '=' {
					return start, at + 2
				}
				break
			}
		}
		at = start + 2
	}
}

// anyCharset reads the charsets of the web, and every other as Latin-1: a bracket word
// is ASCII, and shows itself in any charset that one meets.
func anyCharset(charset string, r io.Reader) (io.Reader, error) {
	e, err := htmlindex.Get(charset)
	if err != nil {
		return latin1(charset, r)
	}
	return e.NewDecoder().Reader(r), nil
}

// editSubject returns a field without what find names in its decoded value. Everything
// else keeps its octets, but for an encoded-word that loses only a part: what is left
// of it is encoded anew, in UTF-8.
func editSubject(f Field, find func(text string) []span) (edited Field, changed bool) {
	colon := bytes.IndexByte(f.Raw, ':')
	body := strings.TrimRight(string(f.Raw[colon+1:]), "\r\n")
	list := pieces(body)
	var text strings.Builder
	for _, p := range list {
		text.WriteString(p.text)
	}
	cuts := find(text.String())
	if len(cuts) == 0 {
		return f, false
	}
	var out strings.Builder
	out.Write(f.Raw[:colon+1])
	out.WriteString(without(list, cuts))
	out.Write(f.Raw[colon+1+len(body):])
	return Field{Name: f.Name, Raw: []byte(out.String())}, true
}

// without writes pieces without the parts of their text that are cut.
func without(list []piece, cuts []span) string {
	slices.SortFunc(cuts, func(a, b span) int { return a.from - b.from })
	cut(list, cuts)
	before, behind := neighbours(list)
	var out strings.Builder
	for i, p := range list {
		switch {
		case p.encoded && p.raw == "":
			out.WriteString(encodeWords(p.text, before[i] || behind[i]))
		case p.encoded || p.text != "" || before[i] && behind[i]:
			out.WriteString(p.raw)
		}
	}
	return out.String()
}

// cut takes the spans, in their order, out of the pieces. An encoded-word of which a
// part is left has no raw form any more; one of which nothing is left is none.
func cut(list []piece, cuts []span) {
	at := 0
	for i := range list {
		p := &list[i]
		from, to := at, at+len(p.text)
		var rest strings.Builder
		for at < to {
			for len(cuts) > 0 && cuts[0].to <= at {
				cuts = cuts[1:]
			}
			switch {
			case len(cuts) == 0 || cuts[0].from >= to:
				rest.WriteString(p.text[at-from:])
				at = to
			case cuts[0].from > at:
				rest.WriteString(p.text[at-from : cuts[0].from-from])
				at = cuts[0].from
			default:
				at = min(cuts[0].to, to)
			}
		}
		switch {
		case rest.Len() == len(p.text):
		case !p.encoded || rest.Len() == 0:
			*p = piece{raw: rest.String(), text: rest.String()}
		default:
			p.text, p.raw = rest.String(), ""
		}
	}
}

// neighbours says of each piece whether what comes before and behind it, blanks that
// stand for nothing aside, is an encoded-word.
func neighbours(list []piece) (before, behind []bool) {
	before, behind = make([]bool, len(list)), make([]bool, len(list))
	word := false
	for i, p := range list {
		before[i] = word
		if p.encoded || p.text != "" {
			word = p.encoded
		}
	}
	word = false
	for i, p := range slices.Backward(list) {
		behind[i] = word
		if p.encoded || p.text != "" {
			word = p.encoded
		}
	}
	return before, behind
}

// encodeWords writes text as encoded-words, or as it is if it is ASCII and nothing
// beside it would run together with it.
func encodeWords(text string, besideWord bool) string {
	words := mime.QEncoding.Encode("utf-8", text)
	if words == text && (besideWord || strings.Contains(text, "=?") || strings.TrimSpace(text) != text) {
		return "=?utf-8?b?" + base64.StdEncoding.EncodeToString([]byte(text)) + "?="
	}
	// mime folds nothing; its words are separated by a space, where a line may be folded.
	return strings.ReplaceAll(words, "?= =?", "?=\r\n =?")
}
