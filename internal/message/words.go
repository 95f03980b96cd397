package message

import (
	"strings"
)

// WordError says that the sender's words in a subject do not say clearly how the
// message is to be protected. Text is one line of ASCII for the sender, which says what
// to write; it holds nothing of the subject.
type WordError struct{ Text string }

func (e *WordError) Error() string { return e.Text }

// The wishes that SenderWords returns besides "".
const (
	wishRequire = "require"
	wishClear   = "clear"
)

// senderWord is a word that a sender may write in brackets.
type senderWord struct {
	word, wish string
	// near is how many letters to add, drop, change or swap make a near miss. It is
	// less for the words that loosen: who misspells one gets more protection and not
	// less, and [plan] and [clean] are words that people use.
	near int
}

func senderWords() [4]senderWord {
	return [...]senderWord{
		{"secure", wishRequire, 2}, {"encrypt", wishRequire, 2},
		{"clear", wishClear, 1}, {"plain", wishClear, 1},
	}
}

// SenderWords finds how the sender wants a message protected: [secure] or [encrypt] is
// the wish "require", [clear] or [plain] the wish "clear". They count at the very start
// and at the end of the decoded subject, whatever their case and the blanks in them;
// the start is also behind "Re:" and the like. cleaned is the subject without them.
// Other words in brackets stay.
//
// The error is a *WordError: for a near miss of such a word, for words that contradict
// each other, and for [clear] anywhere in a reply but at its very start, since there it
// may be the correspondent's word, and not the sender's.
func SenderWords(subject string) (wish, cleaned string, err error) {
	var w wordFinder
	text := without([]piece{{raw: subject, text: subject}}, edges(subject, w.take))
	if err := w.finish(subject); err != nil {
		return "", "", err
	}
	return w.wish, unfold([]byte(text)), nil
}

// SenderWordsField is SenderWords for a Subject field as it came, encoded-words and
// folding included. The field that it returns is octet for octet the same but for the
// words and the blanks beside them; what is left of an encoded-word that held one is
// encoded anew.
func SenderWordsField(f Field) (wish string, cleaned Field, err error) {
	var w wordFinder
	cleaned, _ = editSubject(f, func(text string) []span {
		cuts := edges(text, w.take)
		err = w.finish(text)
		return cuts
	})
	if err != nil {
		return "", Field{}, err
	}
	return w.wish, cleaned, nil
}

// wordFinder takes the sender's words out of the edges of a subject.
type wordFinder struct {
	wish string
	err  error
}

// take implements the question of edges.
func (w *wordFinder) take(b bracket) bool {
	if isMark(b.word) && wishOf(b.word) == "" {
		return false // it says how a message came, and is no misspelt wish
	}
	wish := wishOf(b.word)
	switch {
	case wish != "" && !b.ascii:
		w.near(b.word)
	case wish == "":
		w.near(b.word)
		return false
	case w.wish != "" && w.wish != wish:
		w.fail("the subject asks for encryption and for clear text at once: take one of the words in brackets away")
	case wish == wishClear && b.replied:
		w.fail("the subject of this reply has [" + b.word + "] behind \"Re:\" or at the end, where your correspondent may have put it: put it before everything else to send in clear, or take it away")
	default:
		w.wish = wish
	}
	return true
}

// Misspells says whether a word is not this one in ASCII, but nearly.
func Misspells(word, this string) bool {
	const near = 2
	return word != this && editDistance(word, this, near) <= near
}

// near fails if word is nearly, or exactly but for its brackets, one of the sender's.
func (w *wordFinder) near(word string) {
	for _, s := range senderWords() {
		if editDistance(word, s.word, s.near) <= s.near {
			w.fail("the subject has a word in brackets that is nearly [" + s.word + "]: write [" + s.word + "], or take the brackets away")
			return
		}
	}
}

// finish looks for a word that lacks one of its brackets.
func (w *wordFinder) finish(subject string) error {
	if w.err != nil {
		return w.err
	}
	for _, s := range senderWords() {
		if halfBracket(subject, s.word) {
			w.fail("the subject has a word that is nearly [" + s.word + "]: write [" + s.word + "], or take the bracket away")
			return w.err
		}
	}
	return nil
}

func (w *wordFinder) fail(text string) {
	if w.err == nil {
		w.err = &WordError{Text: text}
	}
}

// wishOf returns what a word in brackets wishes, or "".
func wishOf(word string) string {
	for _, s := range senderWords() {
		if s.word == word {
			return s.wish
		}
	}
	return ""
}

// halfBracket says whether the first or the last word of a subject is this one with a
// bracket at one side only.
func halfBracket(subject, word string) bool {
	subject = strings.TrimFunc(subject, isBlankRune)
	for n := replyPrefix(subject); n > 0; n = replyPrefix(subject) {
		subject = strings.TrimLeftFunc(subject[n:], isBlankRune)
	}
	first, last := subject, subject
	if n := strings.IndexFunc(subject, isBlankRune); n >= 0 {
		first = subject[:n]
	}
	if n := strings.LastIndexFunc(subject, isBlankRune); n >= 0 {
		last = strings.TrimLeftFunc(subject[n:], isBlankRune)
	}
	for _, w := range [...]string{first, last} {
		if equalFold(w, "["+word) || equalFold(w, word+"]") {
			return true
		}
	}
	return false
}

// editDistance is how many letters to add, drop, change or swap with their neighbour
// get from a to b (optimal string alignment), or more than most if it is more. b is
// ASCII.
func editDistance(a, b string, most int) int {
	r := []rune(a)
	if len(r) > len(b)+most || len(r) < len(b)-most {
		return most + 1
	}
	rows := make([][]int, len(r)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(r); i++ {
		for j := 1; j <= len(b); j++ {
			d := rows[i-1][j-1]
			if r[i-1] != rune(b[j-1]) {
				d = 1 + min(d, rows[i-1][j], rows[i][j-1])
			}
			if i > 1 && j > 1 && r[i-1] == rune(b[j-2]) && r[i-2] == rune(b[j-1]) {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(r)][len(b)]
}
