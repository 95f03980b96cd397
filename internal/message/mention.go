package message

import "strings"

// Mentions returns all that some program may take for an address in an unfolded From
// value: every word with an "@" that is neither in a comment nor in a display name's
// quotes. ok is false if programs read different addresses in it: if a quote, a comment
// or an angle bracket is not closed, if something stands where nothing may, or if there
// is a group or a route, which no program writes there.
func Mentions(value string) (words []string, ok bool) {
	m := mentions{value: value}
	for m.i < len(value) {
		if !m.step() {
			return nil, false
		}
	}
	m.endWord()
	return m.words, !m.angle && !(m.quotes && m.brackets)
}

// mentions is how far Mentions is.
type mentions struct {
	value string
	i     int
	words []string
	word  []byte // of what is neither quoted nor a comment

	angle            bool // inside of "<" and ">"
	over             bool // behind ">", up to the next comma
	quotes, brackets bool // there were any
}

// step reads the next character, comment or quoted-string; false if it may not be there.
func (m *mentions) step() bool {
	switch c := m.value[m.i]; c {
	case '(':
		end, closed := skipComment(m.value, m.i)
		m.endWord()
		m.i = end
		return closed
	case '"':
		return !m.over && m.quoted()
	case '\\', ':', ';', ')':
		return false
	case ' ', '\t':
		m.endWord()
	case ',':
		m.endWord()
		m.over = false
		if m.angle {
			return false
		}
	case '<':
		m.endWord()
		if m.angle || m.over {
			return false
		}
		m.angle = true
	case '>':
		m.endWord()
		if !m.angle {
			return false
		}
		m.angle, m.over = false, true
	default:
		m.brackets = m.brackets || c == '[' || c == ']'
		m.word = append(m.word, c)
		if m.over {
			return false
		}
	}
	m.i++
	return true
}

// quoted reads a quoted-string, which is a local-part if an "@" follows.
func (m *mentions) quoted() bool {
	end := m.i + 1
	for ; end < len(m.value) && m.value[end] != '"'; end++ {
		if m.value[end] == '\\' {
			end++
		}
	}
	if end >= len(m.value) || len(m.word) > 0 {
		return false
	}
	if strings.HasPrefix(m.value[end+1:], "@") {
		m.word = append(m.word, unquote(m.value[m.i+1:end])...)
	} else {
		m.quotes = true
		if end+1 < len(m.value) && !strings.ContainsRune(" \t,<(", rune(m.value[end+1])) {
			return false
		}
	}
	m.i = end + 1
	return true
}

func (m *mentions) endWord() {
	word := string(m.word)
	if strings.Contains(word, "@") {
		m.words = append(m.words, word)
	}
	m.quotes = m.quotes || strings.Contains(word, "=?") // an encoded-word is a name
	m.word = m.word[:0]
}
