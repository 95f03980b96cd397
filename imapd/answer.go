package imapd

import (
	"strconv"
	"strings"
)

// known says which commands the engine understands. Of the others it would answer one
// and hang up, if it comes before login.
func known(name string) bool {
	switch name {
	case "CAPABILITY", "NOOP", "CHECK", "LOGOUT", "STARTTLS", "AUTHENTICATE", "LOGIN",
		"ENABLE", "CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE", "STATUS", "LIST",
		"LSUB", "NAMESPACE", "IDLE", "SELECT", "EXAMINE", "CLOSE", "UNSELECT", "APPEND",
		"FETCH", "UID FETCH", "EXPUNGE", "UID EXPUNGE", "STORE", "UID STORE", "COPY",
		"UID COPY", "MOVE", "UID MOVE", "SEARCH", "UID SEARCH":
		return true
	}
	return false
}

// answerHere answers what does not concern the engine, and mends what it would get
// wrong. It says whether the command is done with.
func (g *guard) answerHere(cmd *command) bool {
	switch {
	case cmd.name == "ID":
		// Many clients send it without looking (RFC 2971). Who we are is nobody's
		// business before login, and of no use after it.
		g.say("* ID NIL\r\n" + cmd.tag + " OK ID completed\r\n")
		return true
	case !known(cmd.name):
		g.bad++
		g.say(cmd.tag + " BAD Unknown command\r\n")
		if !g.authed.Load() && !plainWord(cmd.name) {
			_ = g.bye("This is IMAP") // some other protocol, perhaps a browser's
		}
		return true
	case cmd.message == 0:
		// RFC 3502 6.3.11: a message of no octets is how a client takes APPEND back.
		cmd.message = -1
		g.say(cmd.tag + " NO [CANNOT] A message cannot be empty\r\n")
		if !cmd.sync {
			_ = g.skipTail()
		}
		return true
	case strings.HasSuffix(cmd.name, "SEARCH"):
		if !rewriteSmaller(cmd) {
			g.bad++
			g.say(cmd.tag + " BAD [TOOBIG] " + errLineTooLong.Error() + "\r\n")
			return true
		}
	}
	return false
}

// plainWord says whether a name could be a command of some IMAP extension.
func plainWord(name string) bool {
	return strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" && name != "HTTP"
}

// rewriteSmaller turns SMALLER n into NOT LARGER n-1, which means the same: the engine
// forgets a SMALLER when another size or date follows it. It says whether the command
// is still short enough.
func rewriteSmaller(cmd *command) bool {
	var r smallerRewriter
	size := 0
	for i := range cmd.pieces {
		p := &cmd.pieces[i]
		if p.literal {
			r.saw(`"`)
		} else {
			p.octets = r.line(p.octets)
		}
		size += len(p.octets)
	}
	return size <= maxCommand
}

// smallerRewriter walks over the words of a SEARCH.
type smallerRewriter struct {
	last, before string // the two words before, in capitals; strings are `"`
}

func (r *smallerRewriter) line(line []byte) []byte {
	s := string(line)
	if !strings.Contains(strings.ToUpper(s), "SMALLER ") {
		r.skim(s)
		return line
	}
	var out strings.Builder
	for len(s) > 0 {
		word, rest := nextWord(s)
		if strings.EqualFold(word, "SMALLER") && !r.argument() && strings.HasPrefix(rest, " ") {
			number, after := nextWord(rest[1:])
			if n, ok := parseNumber(number); ok {
				if n == 0 {
					out.WriteString("NOT ALL") // no message is smaller than nothing
				} else {
					out.WriteString("NOT LARGER " + strconv.FormatInt(n-1, 10))
				}
				r.saw(number)
				s = after
				continue
			}
		}
		r.saw(word)
		out.WriteString(word)
		s = rest
	}
	return []byte(out.String())
}

// skim keeps track of a line in which nothing is rewritten.
func (r *smallerRewriter) skim(s string) {
	for len(s) > 0 {
		var word string
		word, s = nextWord(s)
		r.saw(word)
	}
}

func (r *smallerRewriter) saw(word string) {
	if strings.Trim(word, " ()\r\n") == "" || word[0] == '{' {
		return // a separator, or the header of a literal
	}
	if word[0] == '"' {
		word = `"`
	}
	r.before, r.last = r.last, strings.ToUpper(word)
}

// argument says whether the next word is the argument of the key before it, and not a
// key itself.
func (r *smallerRewriter) argument() bool {
	switch r.last {
	case "SUBJECT", "FROM", "TO", "CC", "BCC", "BODY", "TEXT", "KEYWORD", "UNKEYWORD", "HEADER":
		return r.before != "HEADER"
	}
	return r.before == "HEADER"
}

// nextWord cuts off a quoted string, a word, or one separator.
func nextWord(s string) (word, rest string) {
	if s[0] == '"' {
		for i := 1; i < len(s); i++ {
			switch s[i] {
			case '\\':
				i++
			case '"':
				return s[:i+1], s[i+1:]
			}
		}
		return s, ""
	}
	i := strings.IndexAny(s, " ()\r\n\"")
	switch {
	case i < 0:
		return s, ""
	case i == 0:
		return s[:1], s[1:]
	}
	return s[:i], s[i:]
}
