package imapd

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"postern/internal/store"
)

// maxPatterns is how many patterns one LIST may have.
const maxPatterns = 64

// listed is one line of a LIST: a mailbox, or a level above one that is none itself.
type listed struct {
	name    string
	mailbox *store.Mailbox // nil: \NonExistent
	// below says that a subscribed mailbox lies below one that is not listed for
	// itself (CHILDINFO, RFC 5258 4.1).
	below bool
}

// tree is the mailboxes of an account by name, with the levels above them.
type tree struct {
	names    []string // sorted
	boxes    map[string]*store.Mailbox
	children map[string]bool
}

func newTree(boxes []store.Mailbox) *tree {
	t := &tree{boxes: make(map[string]*store.Mailbox, len(boxes)), children: make(map[string]bool)}
	for i := range boxes {
		b := &boxes[i]
		t.boxes[b.Name] = b
		t.names = append(t.names, b.Name)
	}
	for i := range boxes {
		for up := parent(boxes[i].Name); up != ""; up = parent(up) {
			if _, ok := t.boxes[up]; !ok && !t.children[up] {
				t.names = append(t.names, up)
			}
			t.children[up] = true
		}
	}
	slices.Sort(t.names)
	return t
}

// parent returns the name one level above, or "".
func parent(name string) string {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)]
}

// list selects lines as LIST does (RFC 5258 3.1, RFC 9051 6.3.9).
func (t *tree) list(patterns []string, o *imap.ListOptions) []listed {
	var lines []listed
	below := t.subscribedBelow(o)
	for _, name := range t.names {
		if !slices.ContainsFunc(patterns, func(p string) bool { return matchName(p, name) }) {
			continue
		}
		b := t.boxes[name]
		chosen := b != nil
		if o.SelectSubscribed {
			chosen = chosen && b.Subscribed
		}
		if o.SelectSpecialUse {
			chosen = chosen && b.SpecialUse != ""
		}
		switch {
		case chosen:
			lines = append(lines, listed{name: name, mailbox: b, below: o.SelectRecursiveMatch && below[name]})
		case o.SelectRecursiveMatch && below[name]:
			lines = append(lines, listed{name: name, mailbox: b, below: true})
		case b == nil && !o.SelectSpecialUse && (!o.SelectSubscribed || below[name]):
			lines = append(lines, listed{name: name})
		}
	}
	return lines
}

// subscribedBelow finds the names that have a subscribed mailbox below them.
func (t *tree) subscribedBelow(o *imap.ListOptions) map[string]bool {
	if !o.SelectSubscribed {
		return nil
	}
	above := make(map[string]bool)
	for name, b := range t.boxes {
		if !b.Subscribed {
			continue
		}
		for up := parent(name); up != "" && !above[up]; up = parent(up) {
			above[up] = true
		}
	}
	return above
}

// attributes are those of RFC 9051 7.3.1 for one line.
func (t *tree) attributes(l listed, o *imap.ListOptions) []imap.MailboxAttr {
	var attrs []imap.MailboxAttr
	if l.mailbox == nil {
		attrs = append(attrs, imap.MailboxAttrNonExistent, imap.MailboxAttrNoSelect)
	}
	if t.children[l.name] {
		attrs = append(attrs, imap.MailboxAttrHasChildren)
	} else {
		attrs = append(attrs, imap.MailboxAttrHasNoChildren)
	}
	if l.mailbox == nil {
		return attrs
	}
	if l.mailbox.Subscribed && (o.ReturnSubscribed || o.SelectSubscribed) {
		attrs = append(attrs, imap.MailboxAttrSubscribed)
	}
	if l.mailbox.SpecialUse != "" {
		attrs = append(attrs, imap.MailboxAttr(l.mailbox.SpecialUse))
	}
	return attrs
}

// specialUses are the attributes that a mailbox can be created with (RFC 6154 2). \All
// and \Flagged would be views of other mailboxes, which we have not.
func specialUses() []string {
	return []string{`\Archive`, `\Drafts`, `\Junk`, `\Sent`, `\Trash`}
}

// withReference joins reference and pattern. A pattern that begins with the delimiter
// stands for itself.
func withReference(ref, pattern string) string {
	if rooted, ok := strings.CutPrefix(pattern, "/"); ok {
		return rooted
	}
	return ref + pattern
}

// matchName matches "*" and, within one level, "%". It takes time in proportion to the
// product of the lengths, whatever the pattern.
func matchName(pattern, name string) bool {
	if len(pattern) >= 5 && strings.EqualFold(pattern[:5], "INBOX") && (len(pattern) == 5 || pattern[5] == '/') {
		pattern = "INBOX" + pattern[5:]
	}
	// reach[i] says that the pattern so far matches name[:i].
	reach := make([]bool, len(name)+1)
	reach[0] = true
	for p := 0; p < len(pattern); p++ {
		c := pattern[p]
		if c == '*' || c == '%' {
			for i := range len(name) {
				if reach[i] && (c == '*' || name[i] != '/') {
					reach[i+1] = true
				}
			}
			continue
		}
		for i := len(name); i > 0; i-- {
			reach[i] = reach[i-1] && name[i-1] == c
		}
		reach[0] = false
	}
	return reach[len(name)]
}
